"""The drives of a QEMU line: -drive, -blockdev, -hda and their like. Pure."""

from __future__ import annotations

import re
from typing import Any

from rawtap.guest import models
from rawtap.guest.line_state import Parts
from rawtap.guest.line_words import is_on, pairs, whole_number

_OURS = {"cache", "aio", "discard", "detect-zeroes", "werror", "rerror", "copy-on-read", "id", "if", "file", "format",
         "index", "media", "readonly", "read-only", "snapshot", "serial", "node-name", "driver", "bus", "unit",
         "file.driver", "file.filename", "auto-read-only", "file.locking", "locking",
         "cache.direct", "cache.no-flush", "file.read-only", "file.aio", "file.discard", "file.cache.direct",
         "file.cache.no-flush", "file.auto-read-only", "file.node-name", "boot"}  # fmt: skip
_ON_A_BUS = {"ide": 2, "floppy": 2, "scsi": 7}  # drives (qemu/blockdev.c, if_max_devs); all others have one bus
DEFAULT = "default"  # the machine's own interface, which is known at the line's end
_OTHER_FORMATS = frozenset({"vmdk", "vdi", "vhd", "vhdx", "vpc", "qed", "dmg", "parallels"})
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+_-]{1,15}:")


def image(path: str, interface: str, index: int | None = None, media: str = "disk") -> dict[str, Any]:
    """A drive in a profile's words, and what is still to be settled under names that begin with "-"."""
    found: dict[str, Any] = {"path": path, "interface": interface, "-index": index}
    if media != "disk":
        found["media"] = media
    if path.endswith((".qcow2", ".qcow")):
        found["format"] = "qcow2"
    return found


def is_read(parts: Parts, path: str) -> bool:
    """Whether an image of that name, of which the line says no more, is of a kind that is read; else it is named.

    QEMU looks into the file for it, and asks to be told where that is raw: a guest can write it.
    """
    ending = path.lower().rpartition(".")[2]
    if ending in _OTHER_FORMATS:
        parts.leave(f"the disk {path}", f"the format {ending} is not read; qemu-img convert makes it qcow2 or raw")
    return ending not in _OTHER_FORMATS


def add_drive(parts: Parts, value: str) -> None:
    """-drive."""
    said = pairs(value)
    path = said.get("file", said.get("file.filename", ""))
    for beyond in ("", "file."):
        if "vvfat" in {said.get(f"{beyond}driver"), said.get("format")} and said.get(f"{beyond}dir"):
            path = f"fat:{'rw:' if is_on(said.get(f'{beyond}rw')) else ''}{said[f'{beyond}dir']}"
    if not path:
        parts.leave(f"-drive {value}", "a drive without a file is none")
        return
    if path.startswith("fat:"):
        _folder(parts, value, path)
        return
    if _ELSEWHERE.match(path):
        parts.leave(f"-drive {value}", "a disk is a file of the project's")
        return
    if "format" not in said and "driver" not in said and not is_read(parts, path):
        return
    interface = said.get("if", DEFAULT).replace("none", "")
    found = image(path, interface, _number_of(said, interface), said.get("media", "disk"))
    if (kind := said.get("format", said.get("driver", found.get("format", "raw")))) in {"raw", "qcow2"}:
        found["format"] = kind
    else:
        parts.leave(f"-drive {value}", f"the format {kind} is not read; qemu-img convert makes it qcow2 or raw")
        return
    found |= {"readonly": True} if is_on(said.get("readonly", said.get("read-only"))) else {}
    found |= {"overlay": True} if is_on(said.get("snapshot")) else {}
    found |= {"serial": said["serial"]} if said.get("serial") else {}
    parts.leave_rest("-drive", said, _OURS)
    found["-id"] = said.get("id", said.get("node-name", ""))
    parts.drives.append(found)


def _number_of(said: dict[str, str], interface: str) -> int | None:
    """A drive's number among those of its interface, be it said as a bus and a place on it; None where nothing is."""
    if "index" in said or not {"bus", "unit"} & set(said):
        return whole_number(said.get("index", ""))
    bus, unit = (whole_number(said.get(key, "0")) for key in ("bus", "unit"))
    return None if bus is None or unit is None else bus * _ON_A_BUS.get(interface, 0) + unit


def _folder(parts: Parts, value: str, path: str) -> None:
    """QEMU's "fat:[rw:][floppy:][32:]FOLDER": a disk made of a folder."""
    said = pairs(value)
    words = path.removeprefix("fat:").split(":")
    found = image(words[-1], said.get("if", DEFAULT).replace("none", ""))
    found["-index"] = whole_number(said.get("index", ""))
    found |= {"format": "folder", "-id": said.get("id", "")}
    if "32" in words[:-1]:
        parts.carry_otherwise(f"-drive file={path}: its FAT has 16 bits")
    if "rw" in words[:-1]:
        parts.carry_otherwise(f"-drive file={path}: what the guest writes does not get into the folder")
    if found["interface"] == "floppy" or "floppy" in words[:-1]:
        parts.leave(value, "a folder is a disk, and no floppy")
        return
    parts.drives.append(found)


def _default(parts: Parts) -> str:
    """Where a machine has a drive of which the line says no more (hw/*/, mc->block_default_type)."""
    name = parts.machine_name
    if name.startswith(("versatile", "realview", "pseries")) or models.has_scsi(parts.arch, name):
        return "scsi"
    if models.is_pc(parts.arch, name) or parts.arch.startswith(("mips", "ppc", "sparc64", "alpha", "sh4")):
        return "ide"
    if name.startswith(("virt", "s390", "microvm", "spike")):
        return "virtio"
    return "sd"


def add_blockdev(parts: Parts, value: str) -> None:
    """-blockdev: a node for the file, and one for its format, or both in one."""
    said = pairs(value)
    name = said.get("node-name", "")
    below = parts.nodes.get(said.get("file", ""), {})
    is_read_only = any(map(is_on, (said.get("read-only"), said.get("file.read-only"), below.get("read-only"))))
    found: dict[str, Any] = {"-id": name} | ({"readonly": True} if is_read_only else {})
    if said.get("driver") == "file":
        parts.nodes[name] = said
        parts.leave_rest("-blockdev", said, _OURS | {"filename"})
        parts.drives.append(image(said.get("filename", ""), "") | found | {"format": "raw"})
        return
    path = said.get("file.filename", below.get("filename", ""))
    if not path or said.get("driver") not in {"raw", "qcow2"}:
        parts.leave(f"-blockdev {value}", "a disk is a file of the project's, raw or qcow2")
        return
    parts.leave_rest("-blockdev", said, _OURS)
    parts.drives = [each for each in parts.drives if each.get("-id") != said.get("file")]
    parts.drives.append(image(path, "") | found | {"format": said["driver"]})


def finished(parts: Parts) -> None:
    """Settle where the drives go, put them in order, and the devices behind them."""
    _settle_default(parts)
    for each in parts.drives:
        each["interface"] = each["interface"] or parts.interfaces.get(each.get("-id", ""), "")
        if each.get("media") == "cdrom":
            each.pop("readonly", None)
    orphans = [each for each in parts.drives if not each["interface"]]
    for each in orphans:
        parts.leave(f"the drive {each['path']}", "no device of the line has it")
    used = [each for each in parts.drives if each["interface"]]
    known = {"virtio", "ide", "scsi", "sd", "floppy", "pflash", "mtd", "nvme", "usb", "ahci"}
    for each in used:
        if each["interface"] not in known:
            parts.leave(f"the drive {each['path']}", f"rawtap has no interface {each['interface']!r}")
    used = [each for each in used if each["interface"] in known]
    _number([each for each in used if each["interface"] == "ide"])
    used.sort(key=lambda each: 99 if each["-index"] is None else each["-index"])
    _places(parts, used)
    _buses(parts, used)
    parts.table["drives"] = [{key: said for key, said in each.items() if key[0] != "-"} for each in used]
    parts.table["devices"] = parts.devices


def _number(on_ide: list[dict[str, Any]]) -> None:
    """A drive without a number gets the first that is free, as QEMU does it (blockdev.c, drive_new)."""
    taken = {each["-index"] for each in on_ide}
    if taken == {None}:
        return
    for each in on_ide:
        if each["-index"] is None:
            each["-index"] = next(number for number in range(len(on_ide) + 1) if number not in taken)
            taken.add(each["-index"])


def _settle_default(parts: Parts) -> None:
    """Whatever the line says of the machine is known by now."""
    usual = _default(parts)
    found = [each for each in parts.drives if each["interface"] == DEFAULT]
    for each in found:
        each["interface"] = usual
    has_own = models.has_scsi(parts.arch, parts.machine_name)
    if found and usual == "scsi" and not (has_own or {each["driver"] for each in parts.devices} & models.SCSI):
        parts.devices.append({"driver": "spapr-vscsi" if parts.machine_name == "pseries" else "lsi53c895a"})


def _buses(parts: Parts, drives: list[dict[str, Any]]) -> None:
    """A virtio drive that is elsewhere than the other virtio devices has it said."""
    for each in drives:
        if each["interface"] == "virtio" and (bus := each.get("-bus")) and parts.table.setdefault("bus", bus) != bus:
            each["interface"] = f"virtio-{bus}"


def _places(parts: Parts, drives: list[dict[str, Any]]) -> None:
    """An IDE drive with an index that is not its number among them has its place said."""
    if not models.is_pc(parts.arch, parts.machine_name):
        return
    on_ide = [each for each in drives if each["interface"] == "ide" and "options" not in each]
    for number, each in enumerate(on_ide):
        index = each["-index"]
        if index is None or index == number:
            continue
        q35 = "q35" in parts.machine_name
        each["options"] = {"bus": f"ide.{index}"} if q35 else {"bus": f"ide.{index // 2}", "unit": index % 2}
