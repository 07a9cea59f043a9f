"""Whether what an interface itself dropped can be known."""

from __future__ import annotations

from pathlib import Path

_INTERFACES = Path("/sys/class/net")


def are_known(interface: str, index: int) -> bool:
    """Whether /sys shows that interface. libpcap reads its drops there, and reports 0 if it finds nothing.

    It shows the network namespace that it was mounted in (sysfs(5)), where another one may have the name.
    """
    try:
        return int((_INTERFACES / interface / "ifindex").read_text(encoding="ascii")) == index
    except (OSError, ValueError):
        return False
