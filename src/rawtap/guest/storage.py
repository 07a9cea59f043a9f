"""Drives on QEMU's command line, on whatever the guest finds them. Pure.

An image is a block node of our own making, and a device has it. What a board solders in (flash, floppy drives, slots
for SD cards) gets it by -drive, which names the same node in the words of that option.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from rawtap.guest import models
from rawtap.guest.hardware import Drive
from rawtap.guest.profile import MachineSpec, Profile

_ON_BOARD = {"floppy", "pflash", "mtd"}
_CD = 2
_USB, _SCSI, _AHCI, _SD = "rawtap-usb", "rawtap-scsi", "rawtap-ahci", "rawtap-sd"


def drive_node(number: int) -> str:
    """The block node that is the drive of that number to the guest."""
    return f"drive{number}"


def fdset_path(number: int) -> str:
    """What opens a file that QEMU was given open, by the number of its set."""
    return f"/dev/fdset/{number}"


def arguments(spec: MachineSpec, layers: Mapping[int, int]) -> list[str]:
    """Controllers that the drives need and nobody named, and the drives.

    `layers` are descriptors by the drives' numbers: of what is laid over an image, or of one that was made of a folder.
    """
    profile, out = spec.profile, _controllers(spec)
    taken: dict[str, set[int]] = {}
    for number, drive in enumerate(spec.drives):
        is_on_board = _is_on_board(profile, drive)
        is_cd = is_on_board and drive.interface == "scsi" and drive.media == "cdrom"
        here = taken.setdefault(drive.interface, set())
        # QEMU's own place for a CD is where firmware looks for one.
        place = next(each for each in count(_CD if is_cd else 0) if each not in here)
        here.add(place)
        layer = layers.get(number)
        if layer is not None:
            out += ["-add-fd", f"fd={layer},set={number}"]
        block = _node(drive, number, layered=layer is not None)
        if is_on_board:
            media = ["media=cdrom"] if is_cd else []
            out += ["-drive", ",".join([f"if={drive.interface}", f"index={place}", *media, *_flat(block)])]
        else:
            out += ["-blockdev", json.dumps(block), *device(_device(profile, drive, number, place), drive.options)]
    return out


def device(properties: Mapping[str, models.Value], named: Mapping[str, models.Value] | None = None) -> list[str]:
    """A device; `named` are properties that a profile names.

    JSON wants numbers for some and texts for others, as only QEMU knows. So with `named`, whose values hold no comma,
    it is written as an option, in which QEMU reads every value as its property wants it.
    """
    if not named:
        return ["-device", json.dumps(properties)]
    rest = {key: value for key, value in (dict(properties) | dict(named)).items() if key != "driver"}
    return ["-device", ",".join([str(properties["driver"]), models.as_option(rest)])]


def _controllers(spec: MachineSpec) -> list[str]:
    profile = spec.profile
    there = {str(each["driver"]) for each in profile.devices}
    wanted = {each.interface for each in spec.drives if "bus" not in each.options}
    out = list[str]()
    if "usb" in wanted | {profile.nic.partition("-")[0]} and not (there & models.USB_CONTROLLERS or has_usb(profile)):
        out += device({"driver": "qemu-xhci", "id": _USB})
    if "scsi" in wanted and not (_has_scsi(profile) or there & models.SCSI):
        out += device({"driver": f"virtio-scsi-{virtio_suffix(profile)}", "id": _SCSI})
    if "ahci" in wanted and not _has_ahci(profile):
        out += device({"driver": "ahci", "id": _AHCI})
    if "sd" in wanted and profile.has_pci and "sdhci-pci" not in there:
        out += device({"driver": "sdhci-pci", "id": _SD})
    return out


def has_usb(profile: Profile) -> bool:
    """Whether the machine was told to have its own controller."""
    return "usb=on" in profile.machine.split(",")


def virtio_suffix(profile: Profile) -> str:
    """What the models of virtio devices end in."""
    return {"mmio": "device"}.get(profile.virtio_bus, profile.virtio_bus)


def _has_ahci(profile: Profile) -> bool:
    return profile.machine.partition(",")[0].startswith(("q35", "pc-q35"))


def _is_on_board(profile: Profile, drive: Drive) -> bool:
    has_own_scsi = _has_scsi(profile) and "bus" not in drive.options
    of_the_board = {"sd": not profile.has_pci, "scsi": has_own_scsi}
    return drive.interface in _ON_BOARD or of_the_board.get(drive.interface, False)


def _has_scsi(profile: Profile) -> bool:
    there = {str(each["driver"]) for each in profile.devices}
    return models.has_scsi(profile.arch, profile.machine.partition(",")[0]) and not there & models.SCSI


def _device(profile: Profile, drive: Drive, number: int, place: int) -> dict[str, models.Value]:
    kind = "cd" if drive.media == "cdrom" else "hd"
    models_of = {
        "virtio": f"virtio-blk-{virtio_suffix(profile)}",
        "virtio-mmio": "virtio-blk-device",
        "virtio-pci": "virtio-blk-pci",
        "ide": f"ide-{kind}",
        "ahci": f"ide-{kind}",
        "scsi": f"scsi-{kind}",
        "nvme": "nvme",
        "usb": "usb-storage",
        "sd": "sd-card",
    }
    found: dict[str, models.Value] = {"driver": models_of[drive.interface], "drive": drive_node(number)}
    if drive.serial or drive.interface == "nvme":
        found["serial"] = drive.serial or f"drive{number}"
    return found if "bus" in drive.options else found | _place(profile, drive, place)


def _place(profile: Profile, drive: Drive, place: int) -> dict[str, models.Value]:
    """Where the drive goes of which there are `place` on that interface before it; {} where QEMU finds it.

    QEMU by itself would put the second IDE disk on the second channel, where no kernel looks that expects a slave.
    """
    if drive.interface == "ahci" and not _has_ahci(profile):
        return {"bus": f"{_AHCI}.{place}"}
    if drive.interface in {"ide", "ahci"} and models.is_pc(profile.arch, profile.machine):
        if _has_ahci(profile):
            return {"bus": f"ide.{place}"}
        return {"bus": f"ide.{place // 2}", "unit": place % 2}
    if drive.interface == "scsi" and not {str(each["driver"]) for each in profile.devices} & models.SCSI:
        return {"bus": f"{_SCSI}.0"}
    return {}


def _node(drive: Drive, number: int, *, layered: bool) -> dict[str, Any]:
    node = drive_node(number)
    if drive.is_cd_of_folder:
        file = {"driver": "file", "filename": fdset_path(number), "read-only": True}
        return {"driver": "raw", "node-name": node, "read-only": True, "file": file}
    if not layered:
        return _block(drive, node, readonly=drive.readonly)
    return {
        "driver": "qcow2",
        "node-name": node,
        "read-only": False,
        # By -drive QEMU would open it for reading first, which a descriptor for both does not allow.
        "file": {"driver": "file", "filename": fdset_path(number), "auto-read-only": False},
        "backing": _block(drive, f"image{number}", readonly=True),
    }


def _block(drive: Drive, node: str, *, readonly: bool) -> dict[str, Any]:
    if drive.format == "folder":
        return {"driver": "vvfat", "node-name": node, "read-only": True, "dir": drive.path, "label": "RAWTAP"}
    # null: whatever the image says by now, no backing file is opened.
    backing = {"backing": None} if drive.format == "qcow2" else {}
    file = {"driver": "file", "filename": drive.path, "read-only": readonly}
    return {"driver": drive.format, "node-name": node, "read-only": readonly, "file": file} | backing


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A node as -drive writes it: "file.filename=PATH", a comma in a value as two (qemu(1), "-drive")."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            said = {True: "on", False: "off", None: ""}[value] if value is None or isinstance(value, bool) else value
            yield f"{prefix}{key}={str(said).replace(',', ',,')}"
