"""Blocks of code that a guest ran, counted out of QEMU's log of them (`-d exec,nochain`). Pure, but for the clock.

QEMU runs a guest's code block by block, and tells of each on a line, before it runs (accel/tcg/cpu-exec.c), and then
whether it was not begun after all, or has to be begun anew:

    Trace 0: 0x7f3c50000100 [0000000000000000/0000000080000132/00209003/ff000200] get
    Stopped execution of TB chain before 0x7f3c50000100 [0000000080000132] get
    cpu_io_recompile: rewound execution of TB to 0000000080000138

The second of the four numbers is the address of the block's first instruction, as the guest's processor sees it. Behind
them is a name that QEMU took from the kernel's file, which may say anything. Without "nochain" a block that was run
before goes on to the next by itself, and nothing tells of that one.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

from rawtap.guest.log_part import LogPart

MOST_BLOCKS = 200_000  # different ones between two looks: some 40 MB
MOST_SECONDS = 600.0  # between two looks: it makes a guest slow, and whoever began it may have forgotten it

_LONGEST = 65536  # bytes of a line
_BLOCK = re.compile(rb"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/[0-9a-f]+/[0-9a-f]+\].*\n", re.MULTILINE)
_UNDONE = re.compile(rb"^Stopped execution of TB chain before 0x[0-9a-f]+ \[([0-9a-f]+)\].*\n", re.MULTILINE)
_REWOUND = re.compile(rb"^cpu_io_recompile: rewound execution of TB to [0-9a-f]+\n", re.MULTILINE)


class BlockLog(LogPart):
    """Counts the lines of blocks; none of them is kept. It ends where that is too much, or nobody looks."""

    items = ("exec", "nochain")

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[bytes] = Counter()  # by the digits of the address
        self._since = 0.0

    def begin(self, on_end: Callable[[], None]) -> None:
        """Count from here on."""
        super().begin(on_end)
        self.turn()

    def turn(self) -> tuple[dict[int, int], float]:
        """How often each block ran since the last turn, by its address and in the order of first runs; in how many
        seconds that was."""
        counts, self._counts = self._counts, Counter()
        before, self._since = self._since, time.monotonic()
        return {int(digits, 16): count for digits, count in counts.items() if count > 0}, self._since - before

    def taken(self, data: bytes) -> bytes:
        """What was written, in whole lines and without those of blocks; the rest of it for b"", which is the end."""
        whole, self._rest = self._rest + data, b""
        if not data:
            return whole
        cut = whole.rfind(b"\n") + 1
        if len(whole) - cut <= _LONGEST:
            whole, self._rest = whole[:cut], whole[cut:]
        ran = _BLOCK.findall(whole)
        if self.is_on and ran:
            self._counts.update(ran)
        is_all = ran and len(ran) == whole.count(b"\n")
        others = b"" if is_all else self._others(whole)
        if self.is_on and ran:
            self._require_bounds()
        return others

    def _others(self, whole: bytes) -> bytes:
        """What is in these lines besides blocks; one that was told and then not run is not counted."""
        if self.is_on:
            self._counts.subtract(_UNDONE.findall(whole))
        for each in (_BLOCK, _UNDONE, _REWOUND):
            whole = each.sub(b"", whole)
        return whole

    def _require_bounds(self) -> None:
        if len(self._counts) > MOST_BLOCKS:
            self._end_by_itself(f"more than {MOST_BLOCKS:,} different blocks ran since the last call")
        elif time.monotonic() - self._since > MOST_SECONDS:
            self._end_by_itself(f"nobody asked for {MOST_SECONDS:g} s")
