"""How much memory captures take: the kernel's rings, and what they may fill while a disk is behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SHARE = 4  # of what is available
_LEAST = 4 << 20
_RING, _GUESTS_RING, _LEAST_RING = 64 << 20, 16 << 20, 4 << 20
_RINGS = 4  # captures that have the largest ring of a guest's; as many get half of it, and so on
_RING_SHARE = 64  # of what is available
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class _Hierarchy:
    """Where a version of cgroups has the memory controller, and what its files are called.

    Version 2: Documentation/admin-guide/cgroup-v2.rst of Linux; version 1: admin-guide/cgroup-v1/memory.rst.
    """

    root: str
    limit: str
    used: str
    cache: str  # the counter of what can be given back at once, in memory.stat


_VERSION_1 = _Hierarchy("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Hierarchy("", "memory.max", "memory.current", "inactive_file")


def ring_bytes(captures: int, *, of_guests: bool = False) -> int:
    """The size of the kernel's ring for one more, where so many captures run.

    It holds what comes while the capture is not given a processor. It is memory that is taken at once and kept: on a
    virtual machine that must ask its host for it, 64 MiB may take 0.1 s. What emulated guests send (`of_guests`) does
    not need it: 16 MiB hold 0.1 s of a gigabit a second.
    """
    if of_guests:
        return max(_LEAST_RING, _GUESTS_RING >> captures // _RINGS)
    room = available() // _RING_SHARE
    return max(_LEAST_RING, min(_RING >> captures, 1 << room.bit_length() >> 1))


def granted() -> int:
    """What captures may fill while a disk is behind, in bytes: a quarter of what is available."""
    return max(_LEAST, available() // _SHARE)


def available() -> int:
    """The memory that is available now to this machine and to the cgroups that this process is in, in bytes."""
    try:
        own = _OWN_CGROUPS.read_text(encoding="utf-8")
    except OSError:
        own = ""
    return min([_machine(), *left_in_cgroups(own, _CGROUPS)])


def left_in_cgroups(own: str, mounted: Path) -> list[int]:
    """What each memory limit around this process leaves, in bytes; empty where there is none.

    `own` is the text of /proc/self/cgroup (cgroups(7)), `mounted` the folder where cgroups are mounted.
    """
    left = []
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        hierarchy = _VERSION_2 if number == "0" else _VERSION_1
        if number == "0" or "memory" in controllers.split(","):
            root = mounted / hierarchy.root
            group = root / path.strip("/")
            # A container may show its own group as the root, and name it by the host's path.
            for each in [group, *group.parents] if group.is_dir() else [root]:
                if each.is_relative_to(root):
                    left += _left_in(each, hierarchy)
    return left


def _machine() -> int:
    """MemAvailable, proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) << 10
    return 0


def _left_in(group: Path, hierarchy: _Hierarchy) -> list[int]:
    """What a group leaves of its limit, in a list; nothing is in it where it has none.

    The page cache that it can give back does not count as used.
    """
    try:
        limit = (group / hierarchy.limit).read_text(encoding="ascii").strip()
        if limit == "max":
            return []
        used = int((group / hierarchy.used).read_text(encoding="ascii"))
        counters = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return []
    return [max(0, int(limit) - used + int(counters.get(hierarchy.cache, 0)))]
