"""The machine: namespaces and links of our own, CPUs, folders, and what is written at the top of every report."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pyroute2 import IPRoute

from rawtap.capture._native import library_version

SENDER_CPU, CAPTURE_CPU = 0, 1
ALL_CPUS = tuple(os.sched_getaffinity(0))  # as long as nothing was pinned
_NEEDED_BYTES = 3 << 30

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
_WAKING_PROTOCOL = 0x88B6  # IEEE 802 local experimental EtherType 2; the sender's frames are of 1


def isolate() -> None:
    """Move this process into network and mount namespaces of its own, which are gone with it.

    Raises:
        OSError: Not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    made_private = libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    # In a chroot the root is no mount point; that is well where nothing is shared in the first place.
    if not made_private and "shared:" in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
        raise OSError(ctypes.get_errno(), "cannot keep mounts to this process")
    # The interfaces' counters are there; the cgroups, which limit memory, stay in it.
    cgroups = os.open("/sys/fs/cgroup", os.O_PATH)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    # Not by mount(8), which would look at what the descriptor is called today.
    if libc.mount(b"/proc/self/fd/%d" % cgroups, b"/sys/fs/cgroup", None, _MS_BIND | _MS_REC, None) != 0:
        raise OSError(ctypes.get_errno(), "cannot keep the cgroups in sight")
    os.close(cgroups)
    # A link that comes up would otherwise send IPv6 frames of the kernel's own.
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")


@contextmanager
def on_cpu(*cpus: int) -> Iterator[None]:
    """Run the block on these CPUs, and for good what the block starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Wire:
    """A veth pair: what goes into `far` is seen on `near`."""

    near: str
    far: str

    @classmethod
    @contextmanager
    def make(cls, number: int = 0, mtu: int = 1500) -> Iterator[Wire]:
        """Make a pair, up on both ends and quiet."""
        wire = cls(f"near{number}", f"far{number}")
        with IPRoute() as netlink:
            netlink.link("add", ifname=wire.near, kind="veth", peer={"ifname": wire.far})
            indices = [netlink.link_lookup(ifname=name)[0] for name in (wire.near, wire.far)]
            for index in indices:
                netlink.link("set", index=index, mtu=mtu, state="up")
            try:
                yield wire
            finally:
                netlink.link("del", index=indices[0])

    def carried(self) -> int:
        """Frames that the far end has put on the wire so far, by the kernel's count."""
        return int(Path(f"/sys/class/net/{self.far}/statistics/tx_packets").read_text(encoding="ascii"))

    def wake(self) -> None:
        """Send one short frame that is none of the sender's."""
        head = b"\xff" * 6 + b"\x02\0\0\0\0\1" + _WAKING_PROTOCOL.to_bytes(2, "big")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as far:
            far.bind((self.far, 0))
            far.send(head.ljust(60, b"\0"))


@contextmanager
def folders(disk: Path | None) -> Iterator[tuple[Path, Path]]:
    """A new folder on disk and one on tmpfs, which are removed with everything in them.

    Without `disk` the current folder is taken, or /var/tmp where that is on no disk.
    """
    here = Path.cwd()
    parent = disk or (Path("/var/tmp") if file_system(here) == "tmpfs" else here)  # noqa: S108 - a new folder in it
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = [stack.enter_context(_folder(each)) for each in (parent, Path("/dev/shm"))]  # noqa: S108 - as above
        yield made[0], made[1]


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    free = shutil.disk_usage(parent).free
    if free < _NEEDED_BYTES:
        raise OSError(f"{parent} has {free >> 20} MiB of free space, {_NEEDED_BYTES >> 20} are needed")
    with tempfile.TemporaryDirectory(prefix="rawtap-bench-", dir=parent) as made:
        yield Path(made).resolve()


def file_system(folder: Path) -> str:
    """The kind of file system, like "tmpfs" or "ext2/ext3"."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """What was measured, and on what."""
    tcpdump = _output("tcpdump", "--version").splitlines()
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "rawtap": f"{version('rawtap')}, {library_version()}",
        "tcpdump": ", ".join(tcpdump[:2]),
        "dumpcap": _output("dumpcap", "--version").splitlines()[0],
        **{name: version(name) for name in ("python-libpcap", "scapy", "mcp")},
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1]
    return platform.processor() or "unknown"
