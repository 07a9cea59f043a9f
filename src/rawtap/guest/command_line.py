"""QEMU's command line for a machine. Pure.

Devices, drives and networks are given as JSON, so that no comma in a value begins another option.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rawtap.guest.profile import Drive, MachineSpec, Profile

NETDEV = "net0"


@dataclass(frozen=True)
class Nic:
    """A network card of the guest's.

    Attributes:
        mac: Its MAC address.
        backend: What carries its frames: the options of -netdev but for the id.
        fd: A descriptor that these name, and that QEMU inherits.
    """

    mac: str
    backend: Mapping[str, str | bool]
    fd: int | None = None


def tap_nic(fd: int, mac: str) -> Nic:
    """A card whose frames go by the TAP of that descriptor."""
    return Nic(mac, {"type": "tap", "fd": str(fd)}, fd)


@dataclass(frozen=True)
class Inherited:
    """What QEMU finds open or made when it starts.

    Attributes:
        console: Descriptor of the console's socket.
        monitor: Descriptor of the one for QMP.
        nic: The network card, None without a network.
        gdb: Descriptor of a listening socket for a debugger, None for none.
        layers: Descriptors of the files that drives are written to, by the drives' numbers.
        kvm: Whether to try KVM; QEMU emulates where that fails.
    """

    console: int
    monitor: int
    nic: Nic | None = None
    gdb: int | None = None
    layers: Mapping[int, int] = field(default_factory=dict)
    kvm: bool = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        nic = self.nic.fd if self.nic else None
        single = (self.console, self.monitor, nic, self.gdb)
        return (*(each for each in single if each is not None), *self.layers.values())


def arguments(spec: MachineSpec, inherited: Inherited) -> list[str]:
    """QEMU's command line: paused at start, console and QMP on inherited sockets, the TAP by descriptor."""
    profile = spec.profile
    out = [spec.qemu, "-nodefaults", "-no-user-config", "-S", "-display", "none"]
    out += ["-machine", profile.machine, "-m", profile.memory, "-smp", str(profile.smp)]
    out += [*(["-accel", "kvm"] if inherited.kvm else []), "-accel", "tcg"]
    if profile.cpu:
        out += ["-cpu", profile.cpu]
    out += ["-action", "reboot=shutdown"] if profile.on_reset == "stop" else []
    out += _software(spec)
    out += ["-chardev", f"socket,id=console,fd={inherited.console}", "-serial", "chardev:console"]
    out += ["-chardev", f"socket,id=monitor,fd={inherited.monitor}", "-mon", "chardev=monitor,mode=control"]
    if inherited.gdb is not None:
        out += ["-chardev", f"socket,id=gdb,fd={inherited.gdb},server=on,wait=off", "-gdb", "chardev:gdb"]
    for number, drive in enumerate(spec.drives):
        out += _drive(profile, number, drive, inherited.layers.get(number))
    if inherited.nic is not None:
        out += ["-netdev", json.dumps({"id": NETDEV, **inherited.nic.backend})]
        # A PCI card would bring an option ROM of another package, and a boot from the network that nobody asked for.
        rom = {"romfile": ""} if profile.bus == "pci" else {}
        out += _device(profile, "net", {"netdev": NETDEV, "mac": inherited.nic.mac} | rom)
    if spec.gpu:
        out += _display(profile)
    # The guest's escape from the emulator ends here: no exec, no new privileges, no resource limits.
    return [*out, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


def _software(spec: MachineSpec) -> list[str]:
    firmware = str(spec.firmware) if spec.firmware else spec.profile.bios
    out = ["-bios", firmware] if firmware else []
    out += ["-kernel", str(spec.kernel)] if spec.kernel else []
    out += ["-initrd", str(spec.initrd)] if spec.initrd else []
    return out + (["-append", spec.profile.bootargs] if spec.profile.bootargs else [])


def drive_node(number: int) -> str:
    """The block node that is the drive of that number to the guest."""
    return f"drive{number}"


def fdset_path(number: int) -> str:
    """What opens a file that QEMU was given open, by the number of its set."""
    return f"/dev/fdset/{number}"


def _drive(profile: Profile, number: int, drive: Drive, layer: int | None) -> Sequence[str]:
    node, out = drive_node(number), list[str]()
    block = _block(drive, node if layer is None else f"image{number}", readonly=drive.readonly or layer is not None)
    if layer is not None:
        out = ["-add-fd", f"fd={layer},set={number}"]
        file = {"driver": "file", "filename": fdset_path(number)}
        block = {"driver": "qcow2", "node-name": node, "read-only": False, "file": file, "backing": block}
    serial = {"serial": drive.serial} if drive.serial else {}
    return [*out, "-blockdev", json.dumps(block), *_device(profile, "blk", {"drive": node} | serial)]


def _display(profile: Profile) -> Sequence[str]:
    """A screen, a keyboard, and a pointer that knows places.

    A PC has its own keyboard, and its firmware and many kernels draw on a VGA only.
    """
    if profile.arch == "x86_64" and profile.bus == "pci":
        return ["-device", json.dumps({"driver": "VGA"}), *_device(profile, "tablet", {})]
    return [word for kind in ("gpu", "keyboard", "tablet") for word in _device(profile, kind, {})]


def _block(drive: Drive, node: str, *, readonly: bool) -> dict[str, Any]:
    # null: whatever the image says by now, no backing file is opened.
    backing = {"backing": None} if drive.format == "qcow2" else {}
    file = {"driver": "file", "filename": drive.path, "read-only": readonly}
    return {"driver": drive.format, "node-name": node, "read-only": readonly, "file": file} | backing


def _device(profile: Profile, kind: str, properties: Mapping[str, str]) -> Sequence[str]:
    suffix = "device" if profile.bus == "mmio" else "pci"
    return ["-device", json.dumps({"driver": f"virtio-{kind}-{suffix}"} | dict(properties))]
