"""Named checks of what rawtap needs, each with its cure. It reports and repairs nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from anyio.to_thread import run_sync as to_thread

from rawtap.capture import _native, files
from rawtap.debug import gdb
from rawtap.errors import RawtapError
from rawtap.guest.accelerator import why_not_kvm
from rawtap.guest.hardware import QEMU_PACKAGES, Arch
from rawtap.guest.profile import UBOOT_KERNEL
from rawtap.host import br_netfilter, distribution, landlock, pasta, privileges, programs, rootless
from rawtap.host.privileges import Capability
from rawtap.lab import dnsmasq
from rawtap.network import forwarding, taps
from rawtap.settings import Settings

Way = Literal["privileged", "rootless", "user"]

_SEES: dict[Way, str] = {
    "privileged": "bridges and TAPs of this machine, and the interfaces that the operator allows",
    "rootless": "bridges and TAPs in a network namespace of the server's own; the host's interfaces are not seen",
    "user": "each guest's own network inside QEMU, and nothing else",
}


@dataclass(frozen=True)
class Finding:
    """One check: whether it is well, what was found, and what to do where it is not."""

    name: str
    ok: bool
    found: str
    cure: str | None = None


async def examine(settings: Settings) -> list[Finding]:
    """Run every check."""
    return await to_thread(_examine, settings)


def _examine(settings: Settings) -> list[Finding]:
    checks: list[Callable[[], Finding]] = [
        lambda: _network(settings),
        *(partial(way, settings) for way in (_privileged, _rootless, _user)),
        lambda: _capability(Capability.NET_RAW, "capture"),
        lambda: _capability(Capability.NET_ADMIN, "make bridges and TAPs"),
        _tun,
        _landlock,
        _br_netfilter,
        lambda: _program("setpriv", "setpriv", "util-linux"),
        _dnsmasq,
        lambda: _way_out(settings),
        _debugger,
        _qemu,
        _demo_guest,
        lambda: _captures(settings.capture_dir),
        lambda: Finding("libpcap", ok=True, found=_native.library_version()),
        _kvm,
    ]
    return [check() for check in checks]


def way_of(settings: Settings) -> Way:
    """Which way a server takes for network=true; "user" if there is none, so that only network="user" works."""
    return "rootless" if settings.rootless else "privileged" if _is_privileged() else "user"


def _network(settings: Settings) -> Finding:
    """Which way this server goes."""
    way = way_of(settings)
    if way != "user":
        return Finding("network", ok=True, found=f"{way}, as the check way: {way} says")
    cure = privileges.cure_for_lack(Capability.NET_ADMIN)
    if any(_emulators().values()):
        found = f'user: {_SEES["user"]}; network=true has no way to make links, and network="user" needs none'
        return Finding("network", ok=True, found=found, cure=cure)
    return Finding("network", ok=False, found="no way to make links or to capture", cure=cure)


def _is_privileged() -> bool:
    return privileges.current().may(Capability.NET_ADMIN)


def _way(name: Way, reason: str | None, choice: str) -> Finding:
    """One of the ways. That it does not work is no failure; the check "network" fails if none does."""
    found = f"works here: {_SEES[name]}; {choice}" if reason is None else f"not possible here: {reason}"
    return Finding(f"way: {name}", ok=True, found=found)


def _privileged(settings: Settings) -> Finding:
    if settings.rootless:
        return _way("privileged", "this server went the rootless way, and sees nothing of the host", "")
    reason = _why_no_tun() if _is_privileged() else privileges.explain_lack(Capability.NET_ADMIN)
    return _way("privileged", reason, "it is chosen where setcap.sh was run")


def _rootless(settings: Settings) -> Finding:
    reason = None if settings.rootless else rootless.why_not() or _why_no_tun()
    return _way("rootless", reason, "with no administrator; --rootless chooses it")


def _why_no_tun() -> str | None:
    tun = _tun()
    return None if tun.ok else tun.found


def _user(_: Settings) -> Finding:
    """The way that needs only QEMU."""
    reason = None if any(_emulators().values()) else "no QEMU is installed"
    return _way("user", reason, 'with no privilege at all; qemu_boot(network="user") chooses it')


def _capability(capability: Capability, purpose: str) -> Finding:
    name = str(capability).lower()
    if privileges.current().may(capability):
        return Finding(name, ok=True, found=f"permitted: rawtap can {purpose}")
    return Finding(name, ok=False, found=privileges.explain_lack(capability), cure=privileges.cure_for_lack(capability))


def _tun() -> Finding:
    name = "tun device"
    try:
        taps.require_tun()
    except RawtapError as error:
        return Finding(name, ok=False, found=f"{error.problem} ({error.evidence})", cure=error.cure)
    return Finding(name, ok=True, found=f"{taps.TUN_DEVICE} is open to this user")


def _landlock() -> Finding:
    """Not needed: without it only the looks before a start keep QEMU from the user's files."""
    if lack := landlock.lack():
        cure = "Boot a kernel with Landlock switched on (lsm=landlock,... where it is not by default)"
        found = f"{lack}: nothing but rawtap's own checks keeps QEMU and its like from this user's files"
        return Finding("landlock", ok=True, found=found, cure=cure)
    without = f", which leaves out {limits}" if (limits := landlock.limits()) else ""
    found = f"version {landlock.version()}{without}: QEMU and its like reach their own files alone"
    return Finding("landlock", ok=True, found=found)


def _br_netfilter() -> Finding:
    """Not in the way of anything: a guest's card, which is captured by default, is before the bridge."""
    if not (on := br_netfilter.on()):
        return Finding("br_netfilter", ok=True, found="off: bridges pass frames on as they are")
    found = (
        f"on ({', '.join(on)}): bridges drop frames whose IP length, version or checksum is wrong, and cut off what "
        "follows an IP packet. A guest's card shows them as they were sent"
    )
    cure = "Where nothing else needs it (container engines do): sysctl " + " ".join(
        f"net.bridge.bridge-nf-call-{each}=0" for each in on
    )
    return Finding("br_netfilter", ok=True, found=found, cure=cure)


def _program(name: str, program: str, package: str) -> Finding:
    path = shutil.which(program)
    if path:
        return Finding(name, ok=True, found=path)
    return Finding(name, ok=False, found=f"{program} is not on the PATH", cure=distribution.here().cure(package))


def _dnsmasq() -> Finding:
    """Not needed: without it guests have a network with no DHCP and no DNS."""
    name, path = "dnsmasq", dnsmasq.find_dnsmasq()
    if path is None:
        cure = distribution.here().cure(dnsmasq.PACKAGE)
        return Finding(name, ok=True, found="not installed: no DHCP and DNS", cure=cure)
    if not privileges.current().may(Capability.NET_BIND_SERVICE):
        lack = privileges.explain_lack(Capability.NET_BIND_SERVICE)
        found = f"{path}, which needs {Capability.NET_BIND_SERVICE} for DHCP and DNS: {lack}"
        return Finding(name, ok=True, found=found)
    return Finding(name, ok=True, found=f"{path}: DHCP and DNS can be served")


def _debugger() -> Finding:
    """Not needed: without it qemu_debug attaches to nothing."""
    path = programs.find(gdb.PROGRAM)
    if path is None:
        cure = distribution.here().cure(gdb.PACKAGE)
        return Finding("debugger", ok=True, found=f"{gdb.PROGRAM} is not installed: no qemu_debug", cure=cure)
    if lack := landlock.lack():
        return Finding("debugger", ok=True, found=f"{path} is not started, for it cannot be confined: {lack}")
    return Finding("debugger", ok=True, found=f"{path}: qemu_debug can look into guests")


def _way_out(settings: Settings) -> Finding:
    """Not needed: without it guests reach this machine and each other."""
    needed = {"nft": (programs.find("nft"), forwarding.PACKAGE)}
    if settings.rootless:
        needed["pasta"] = (pasta.find(), pasta.PACKAGE)
    missing = {program: package for program, (path, package) in needed.items() if path is None}
    here = ", ".join(path for path, _ in needed.values() if path)
    if missing:
        found = f"guests cannot have one: not installed are {' and '.join(missing)}"
        return Finding("way out", ok=True, found=found, cure=distribution.here().cure(*missing.values()))
    wished = settings.outside if settings.outside is not None else settings.rootless
    how = (
        "guests with services have one"
        if wished
        else "not allowed: rawtap serve --outside lets guests with services out"
    )
    return Finding("way out", ok=True, found=f"{here}: {how}")


_COMMON: tuple[Arch, ...] = (
    "riscv64",
    "x86_64",
    "aarch64",
    "arm",
)  # told of where not installed, too


def _qemu() -> Finding:
    """One emulator is enough: which one is needed depends on the guests."""
    here, system = _emulators(), distribution.here()
    folders: dict[str, list[str]] = {}
    for arch, path in here.items():
        if path:
            folders.setdefault(str(Path(path).parent), []).append(arch)
    told = [f"{folder}: {' '.join(each)}" for folder, each in folders.items()]
    lacking = [f"{arch} ({' '.join(system.packages([QEMU_PACKAGES[arch]]))})" for arch in _COMMON if here[arch] is None]
    found = "; ".join([*told, *([f"not installed: {', '.join(lacking)}"] if lacking else [])])
    if folders:
        return Finding("qemu", ok=True, found=found)
    return Finding("qemu", ok=False, found=found, cure=system.cure(QEMU_PACKAGES["riscv64"]))


def _emulators() -> dict[Arch, str | None]:
    return {arch: shutil.which(f"qemu-system-{arch}") for arch in QEMU_PACKAGES}


def _demo_guest() -> Finding:
    if Path(UBOOT_KERNEL).is_file():
        return Finding("demo guest", ok=True, found=UBOOT_KERNEL)
    return Finding(
        "demo guest",
        ok=False,
        found=f"{UBOOT_KERNEL} is missing",
        cure=distribution.here().cure("u-boot-qemu"),
    )


def _captures(directory: Path) -> Finding:
    name = "capture folder"
    # os.path.exists: a folder behind one that this user cannot enter is not there for it, and no error.
    nearest = next(folder for folder in (directory, *directory.parents) if os.path.exists(folder))  # noqa: PTH110
    if not os.access(nearest, os.W_OK | os.X_OK):
        cure = "Start the server with --capture-dir FOLDER"
        return Finding(name, ok=False, found=f"{nearest} is not writable for this user", cure=cure)
    fs = os.statvfs(nearest)
    free, floor = fs.f_bavail * fs.f_frsize, files.free_floor(nearest)
    found = f"{directory}: {free >> 20} MiB free, floor {floor >> 20} MiB"
    if free > floor:
        return Finding(name, ok=True, found=found)
    return Finding(name, ok=False, found=found, cure="Free some space, or start with --capture-dir elsewhere")


def _kvm() -> Finding:
    """Not needed: it tells how fast guests of this machine's own architecture could be."""
    why_not = why_not_kvm()
    found = f"not usable, guests are emulated (TCG): {why_not}" if why_not else "usable"
    return Finding("kvm", ok=True, found=found)
