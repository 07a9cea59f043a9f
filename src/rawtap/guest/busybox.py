"""An initrd of this machine's busybox, made on the spot: what a Linux kernel without a root file system starts with.

The archive is in the "newc" format (linux/Documentation/driver-api/early-userspace/buffer-format.rst). It is in memory
alone: QEMU gets an open file that has no name, and the kernel frees it when QEMU has ended.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rawtap.errors import GuestNotFound
from rawtap.guest.hardware import Arch
from rawtap.guest.kernels import arch_of_file

NAME = "busybox"  # as `initrd` in a profile
PROMPT = "linux# "
PROGRAM = Path("/bin/busybox")
_PACKAGE = "busybox-static"

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=vt102 PS1='linux# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ip link set lo up
for each in /sys/class/net/*; do ip link set "${each##*/}" up; done
while :; do setsid cttyhack sh; done
"""
# What busybox's DHCP client does with its answer: `udhcpc` takes it from there.
_DHCP = """#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "${router%% *}"
: >/etc/resolv.conf
for each in $dns; do echo "nameserver $each" >>/etc/resolv.conf; done
"""
_FOLDERS = ("bin", "dev", "etc", "etc/udhcpc", "proc", "sys", "tmp", "usr", "usr/share", "usr/share/udhcpc")
_DHCP_AT = ("usr/share/udhcpc/default.script", "etc/udhcpc/default.script")  # busybox's own place, and Debian's


def lack(arch: Arch) -> str:
    """Why there can be none for that architecture, in words; "" where it can be made."""
    if not PROGRAM.is_file():
        return f"{PROGRAM} is not there"
    if (found := arch_of_file(PROGRAM)) != arch:
        return f"{PROGRAM} is for {found or 'no architecture that is known'}, and the guest is {arch}"
    return ""


def require(arch: Arch) -> None:
    """Refuse where there can be none.

    Raises:
        GuestNotFound: With the reason.
    """
    if reason := lack(arch):
        raise GuestNotFound(
            'the initrd "busybox" cannot be made', evidence=reason, cure=f"apt install {_PACKAGE}, or name an initrd"
        )


@contextmanager
def opened() -> Iterator[int]:
    """The archive as an open file in memory.

    Raises:
        OSError: It cannot be made.
    """
    memory = os.memfd_create("rawtap-initrd")
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(archive(PROGRAM.read_bytes()))
        yield memory
    finally:
        os.close(memory)


def archive(program: bytes) -> bytes:
    """The whole archive. Pure."""
    out = [_entry(folder, stat.S_IFDIR | 0o755) for folder in _FOLDERS]
    out.append(_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))  # which the kernel opens for /init
    files = {"bin/busybox": program, "init": _INIT.encode(), **dict.fromkeys(_DHCP_AT, _DHCP.encode())}
    out += [_entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    return b"".join([*out, _entry("TRAILER!!!", 0)])


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, the device that it is on, the device that it is, name's length, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + "".join(f"{number:08X}" for number in numbers).encode() + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
