"""When a console's lines came: a bounded list of positions in its stream, each with a time.

Theory of operation. A line has the time at which its first byte was read. So a piece of output needs a mark only where
a line begins in it, and one mark is enough: whatever else begins in the same piece came with it. A mark in the middle
of a line begins a new one for the reader of a timeline. There is one where output paused, where something was typed
(a prompt has stood for minutes when a command is typed behind it), and where a reader was given what there was.

A guest that prints single line feeds could make a mark of every byte. Beyond `KEPT` every second mark is dropped, and
what it marked has the time of the one before.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right

KEPT = 1 << 16
_PAUSE_NS = 100_000_000


class Marks:
    """The marks of one stream; of its bytes it sees only what it needs."""

    def __init__(self) -> None:
        self._positions = array("q")
        self._times = array("q")
        self._last_ns = 0
        self._cut = False

    def note(self, position: int, before: bytes | bytearray, data: bytes) -> None:
        """`data` came just now, at `position`, behind the byte `before`; that is b"" at the stream's beginning."""
        now = time.time_ns()
        paused, self._last_ns = now - self._last_ns >= _PAUSE_NS, now
        if paused or self._cut or before in (b"", b"\n"):
            self._add(position, now)
        elif 0 < (start := data.find(b"\n") + 1) < len(data):
            self._add(position + start, now)
        self._cut = False

    def cut(self) -> None:
        """Begin a new line of the timeline with what comes next, even in the middle of a line of the stream."""
        self._cut = True

    def _add(self, position: int, now: int) -> None:
        self._positions.append(position)
        self._times.append(now)
        if len(self._positions) > KEPT:
            del self._positions[1::2]
            del self._times[1::2]

    def forget(self, start: int) -> None:
        """Drop the marks before `start`, except the last of them: it has the time of the bytes at `start`."""
        surplus = max(0, bisect_right(self._positions, start) - 1)
        del self._positions[:surplus]
        del self._times[:surplus]

    def time_at(self, position: int) -> int:
        """When the byte at `position` came, in nanoseconds since 1970; there is such a byte."""
        return self._times[max(0, bisect_right(self._positions, position) - 1)]

    def next_after(self, position: int) -> int | None:
        """The first marked position after `position`."""
        at = bisect_right(self._positions, position)
        return self._positions[at] if at < len(self._positions) else None
