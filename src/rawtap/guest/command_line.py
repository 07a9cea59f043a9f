"""QEMU's command line for a machine. Pure.

What has a file's name in it is JSON, or has its commas doubled, so that none begins another option.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from rawtap.guest import devices, models, storage
from rawtap.guest.devices import Nic
from rawtap.guest.profile import MachineSpec, Profile


@dataclass(frozen=True)
class Inherited:
    """What QEMU finds open or made when it starts.

    Attributes:
        console: Descriptor of the console's socket.
        consoles: Those of further ones, by their names.
        monitor: Descriptor of the one for QMP.
        nic: The network card, None without a network.
        further: The other ones.
        gdb: Descriptor of a listening socket for a debugger, None for none.
        layers: Descriptors of the files that drives are written to, by the drives' numbers.
        initrd: Descriptor of an initrd that was made for it.
        shares: Those of connections to the daemons of virtiofs, by the numbers of the shares.
        kvm: Whether to try KVM; QEMU emulates where that fails.
    """

    console: int
    monitor: int
    nic: Nic | None = None
    gdb: int | None = None
    layers: Mapping[int, int] = field(default_factory=dict)
    kvm: bool = False
    further: tuple[Nic, ...] = ()
    consoles: Mapping[str, int] = field(default_factory=dict)
    initrd: int | None = None
    shares: Mapping[int, int] = field(default_factory=dict)

    @property
    def nics(self) -> tuple[Nic, ...]:
        """All cards, the first one first."""
        return (self.nic, *self.further) if self.nic else ()

    @property
    def listens(self) -> tuple[int, ...]:
        """TCP ports that its cards listen on."""
        return tuple(port for nic in self.nics for port in nic.listens)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        single = (self.console, self.monitor, *(nic.fd for nic in self.nics), self.gdb, self.initrd)
        several = (*self.consoles.values(), *self.layers.values(), *self.shares.values())
        return (*(each for each in single if each is not None), *several)


def arguments(spec: MachineSpec, inherited: Inherited) -> list[str]:
    """QEMU's command line: paused at start, console and QMP on inherited sockets, the TAP by descriptor."""
    profile = spec.profile
    out = [spec.qemu, "-nodefaults", "-no-user-config", "-S", "-display", "none"]
    out += devices.board(spec)
    out += [*(["-accel", "kvm"] if inherited.kvm and profile.icount is None else []), "-accel", "tcg"]
    # The first tells a triple fault of an x86's, the second the exceptions.
    told = [*(["cpu_reset"] if spec.is_x86 else []), *(["int"] if spec.traps else [])]
    logged = [*told, *dict.fromkeys(profile.log)]
    out += ["-d", ",".join(logged)] if logged else []
    out += devices.actions(profile)
    out += [*_software(spec, inherited.initrd), *devices.contents(profile, inherited.shares)]
    out += devices.consoles(profile, inherited.console, inherited.consoles)
    out += ["-chardev", f"socket,id=monitor,fd={inherited.monitor}", "-mon", "chardev=monitor,mode=control"]
    if inherited.gdb is not None:
        out += ["-chardev", f"socket,id=gdb,fd={inherited.gdb},server=on,wait=off", "-gdb", "chardev:gdb"]
    nic = [word for number, each in enumerate(inherited.nics) for word in _network(profile, each, number)]
    drives = storage.arguments(spec, inherited.layers)
    # A PC's places are as QEMU itself gives them: the screen, the card, the rest. Kernels count on it.
    first = models.is_pc(profile.arch, profile.machine) and profile.nic != "usb-net"  # which needs its controller
    parts = (nic, devices.further(profile), drives) if first else (devices.further(profile), drives, nic)
    out += [*devices.screen(spec), *(word for part in parts for word in part)]
    out += profile.qemu_args
    # The guest's escape from the emulator ends here: no exec, no new privileges, no resource limits.
    return [*out, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


def _network(profile: Profile, nic: Nic, number: int) -> list[str]:
    return ["-netdev", json.dumps({"id": devices.netdev(number), **nic.backend}), *devices.card(profile, nic, number)]


def _software(spec: MachineSpec, made: int | None) -> list[str]:
    # Only RISC-V's machines read the word "default"; to all others it is a file's name, and theirs goes without saying.
    bios = spec.profile.bios if spec.profile.bios != "default" else None
    firmware = str(spec.firmware) if spec.firmware else bios
    out = ["-bios", firmware] if firmware else []
    out += ["-kernel", str(spec.kernel)] if spec.kernel else []
    initrd = str(spec.initrd) if spec.initrd else f"/proc/self/fd/{made}" if made is not None else ""
    out += ["-initrd", initrd] if initrd else []
    return out + (["-append", spec.profile.bootargs] if spec.profile.bootargs else [])
