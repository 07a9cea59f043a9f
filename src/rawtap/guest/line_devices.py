"""The devices of a QEMU line: cards, what has a drive, what loads a file, and the rest of the allowed ones. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rawtap.guest import models
from rawtap.guest.line_consoles import add_port
from rawtap.guest.line_drives import image
from rawtap.guest.line_state import Parts, bus_of
from rawtap.guest.line_words import is_on, pairs, whole_number

_IGNORED = {"iothread", "rng", "audiodev"}  # parts of the host's, of which rawtap has its own


def add_device(parts: Parts, value: str) -> None:
    """-device, as QEMU's option or as JSON."""
    said = pairs(value, "driver")
    model = said.pop("driver", "")
    if model in models.NICS or model.startswith("virtio-net") or model == "e1000-82540em":
        named = {key: each for key, each in said.items() if key not in {"netdev", "mac", "id", "vlan"}}
        parts.card(model, said.get("mac"), named)
    elif (interface := models.interface_of(model)) is not None and "drive" in said:
        parts.disks.append((model, interface, said))
    elif model == "loader":
        _loader(parts, said)
    elif model.startswith("virtio-9p"):
        _share(parts, parts.folders.get(said.get("fsdev", ""), {}), said.get("mount_tag", ""))
        parts.leave_rest(f"-device {model}", said, {"fsdev", "mount_tag", "id"})
        parts.virtio(model)
    elif model in models.SCREENS or model == "virtio-gpu":
        parts.screen = {"virtio-gpu": "virtio-gpu-pci"}.get(model, model)
        parts.leave_rest(f"-device {model}", said, {"id"})
    elif model == "isa-debugcon" or (model in {"isa-serial", "virtconsole"} and not {"iobase", "index"} & set(said)):
        add_port(parts, model, said)
    elif model.startswith("vhost-vsock-") and (cid := whole_number(said.get("guest-cid", ""))) is not None:
        parts.table["vsock"] = cid
        parts.leave_rest(f"-device {model}", said, {"guest-cid", "id"})
        parts.virtio(model)
    elif model == "pc-dimm" and said.get("memdev") in parts.memories and "memory_slots" in parts.table:
        size = parts.memories[said["memdev"]].upper()
        parts.table["memory_slots"]["modules"].append(f"{size}M" if size.isdigit() else size.removesuffix("B"))
    elif model in models.DEVICES:
        _further(parts, model, said)
    else:
        parts.leave(f"-device {model}", models.why_not(model), whole=True)


def join_disks(parts: Parts) -> None:
    """Give each drive what the devices say of it, in whichever order the line names the two."""
    for model, interface, said in parts.disks:
        drive = next((each for each in parts.drives if each.get("-id") == said["drive"]), None)
        if drive is None:
            parts.leave(f"-device {model},drive={said['drive']}", "no drive of the line that is carried has that name")
        else:
            _disk(parts, drive, model, interface, said)


def _disk(parts: Parts, drive: dict[str, Any], model: str, interface: str, said: dict[str, str]) -> None:
    drive["interface"] = interface
    if model.endswith("-cd"):
        drive["media"] = "cdrom"
    if said.get("serial"):
        drive["serial"] = said["serial"]
    if interface == "virtio":
        drive["-bus"] = bus_of(model if "-" in model.removeprefix("virtio-") else "virtio-blk-pci")
    options: dict[str, Any] = {}
    if model.endswith("-non-transitional"):
        options["disable-legacy"] = "on"
    for key, each in said.items():
        if key not in {"drive", "id", "serial"} | _IGNORED:
            parts.checked(f"-device {model},{key}={each}", models.properties, {key: parts.value(each)}, options)
    if options:
        drive["options"] = options


def _loader(parts: Parts, said: dict[str, str]) -> None:
    if "data" in said:
        parts.leave("-device loader,data=", "a value in memory is given by a file")
        return
    entry: dict[str, Any] = {"path": said["file"]} if said.get("file") else {}
    for option, key in (("addr", "address"), ("cpu-num", "cpu")):
        if option in said and (found := whole_number(said[option])) is None:
            parts.leave(f"-device loader,{option}={said[option]}", "it is no number")
        elif option in said:
            entry[key] = found
    entry |= {"raw": True} if is_on(said.get("force-raw")) else {}
    parts.leave_rest("-device loader", said, {"file", "addr", "cpu-num", "force-raw", "id"})
    parts.table.setdefault("loaders", []).append(entry)


def add_fsdev(parts: Parts, value: str) -> None:
    """-fsdev, a folder that a device names."""
    said = pairs(value, "fsdriver")
    parts.folders[said.get("id", "")] = said


def add_virtfs(parts: Parts, value: str) -> None:
    """-virtfs."""
    said = pairs(value, "fsdriver")
    _share(parts, said, said.get("mount_tag", ""))


def _share(parts: Parts, said: Mapping[str, str], tag: str) -> None:
    """A folder, of which -fsdev or -virtfs says more."""
    path = said.get("path", "")
    if not path or not tag:
        parts.leave("a shared folder", "it has no path or no tag")
        return
    if not is_on(said.get("readonly")):
        parts.carry_otherwise(f"the shared folder {path}: the guest reads it, and cannot write to it")
    parts.table.setdefault("shares", []).append({"path": path, "tag": tag})


def _further(parts: Parts, model: str, said: dict[str, str]) -> None:
    entry: dict[str, Any] = {"driver": model}
    for key, each in said.items():
        if key not in _IGNORED:
            parts.checked(f"-device {model},{key}={each}", models.properties, {key: parts.value(each)}, entry)
    parts.devices.append(entry)


def add_usb(parts: Parts, value: str) -> None:
    """-usbdevice."""
    known = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd", "wacom-tablet": "usb-wacom-tablet"}
    parts.machine_option("usb", "on")
    if value in known:
        parts.devices.append({"driver": known[value]})
    elif match := re.fullmatch(r"disk:(?:format=(raw|qcow2):)?([^:]+)", value):
        parts.drives.append(image(match[2], "usb") | ({"format": match[1]} if match[1] else {}))
    else:
        parts.leave(f"-usbdevice {value}", "what is the host's is not lent")


def add_sound(parts: Parts, value: str) -> None:
    """-soundhw."""
    known = {"ac97": "AC97", "es1370": "ES1370", "sb16": "sb16", "adlib": "adlib", "gus": "gus", "cs4231a": "cs4231a"}
    for each in value.split(","):
        if each == "hda":
            parts.devices += [{"driver": "intel-hda"}, {"driver": "hda-duplex"}]
        elif each in known:
            parts.devices.append({"driver": known[each]})
        elif each != "pcspk":
            parts.leave(f"-soundhw {each}", "rawtap has no such sound card")
