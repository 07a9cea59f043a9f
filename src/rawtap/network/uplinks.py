"""Where the default route goes, by the kernel's own tables in /proc/net."""

from __future__ import annotations

import socket
from pathlib import Path

_ROUTES4 = Path("/proc/thread-self/net/route")
_ROUTES6 = Path("/proc/thread-self/net/ipv6_route")

_RTF_UP, _RTF_REJECT = 0x1, 0x200  # linux/route.h


def default4() -> str | None:
    """The interface of the IPv4 default route in the main table, None where there is none."""
    found = []
    for line in _read(_ROUTES4).splitlines()[1:]:  # a line of headings
        fields = line.split()
        interface, destination, flags, metric, mask = (fields[n] for n in (0, 1, 3, 6, 7))
        if int(destination, 16) == int(mask, 16) == 0 and int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP:
            found.append((int(metric), interface))
    return min(found)[1] if found else None


def default6() -> str | None:
    """The interface of the IPv6 default route, None where there is none, or no IPv6."""
    found = []
    for line in _read(_ROUTES6).splitlines():
        destination, length, *_, metric, _references, _used, flags, interface = line.split()
        if int(destination, 16) == int(length, 16) == 0 and int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP:
            found.append((int(metric, 16), interface))
    return min(found)[1] if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # a kernel without that family
        return ""


def index_of(interface: str) -> int:
    """An interface's index, 0 where it is gone."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def name_of(index: int) -> str | None:
    """An interface's name, None where it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
