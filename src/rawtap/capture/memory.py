"""How much memory captures take: the kernel's rings, and what they may fill while a disk is behind."""

from __future__ import annotations

from pathlib import Path

_SHARE = 4  # of what is available
_LEAST = 4 << 20
_RING, _LEAST_RING = 16 << 20, 4 << 20
_RINGS = 4  # captures that have the largest ring; as many get half of it, and so on
_CGROUPS = Path("/sys/fs/cgroup")


def ring_bytes(captures: int) -> int:
    """The size of the kernel's ring for one more, where so many captures run.

    It holds what comes while the capture is not given a processor. It is memory that is taken at once and kept, and a
    larger one leaves the processor's caches.
    """
    return max(_LEAST_RING, _RING >> captures // _RINGS)


def granted() -> int:
    """A quarter of the memory that is available now, to this machine and to the cgroups that this process is in."""
    available = [_machine()]
    group = _own_group()
    while group is not None and group != group.parent and group.is_relative_to(_CGROUPS):
        available += _left_in(group)
        group = group.parent
    return max(_LEAST, min(available) // _SHARE)


def _machine() -> int:
    """MemAvailable, proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) << 10
    return 0


def _own_group() -> Path | None:
    """The cgroup (version 2) of this process, cgroups(7); None where there is none that it can see."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    own = [line.removeprefix("0::") for line in lines if line.startswith("0::/")]
    return _CGROUPS / own[0].strip("/") if own else None


def _left_in(group: Path) -> list[int]:
    """What a cgroup leaves of its `memory.max`: nothing is in the list where it has none.

    The page cache that it can give back does not count as used.
    """
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return []
        used = int((group / "memory.current").read_text(encoding="ascii"))
        counters = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return []
    return [max(0, int(limit) - used + int(counters.get("inactive_file", 0)))]
