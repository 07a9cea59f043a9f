"""What a console has said: a bounded history, addressed by positions in the whole stream. Pure."""

from __future__ import annotations

import re

from rawtap.guest.marks import Marks
from rawtap.guest.patterns import Wanted
from rawtap.untrusted import visible

HISTORY_BYTES = 1 << 20


def printable(raw: bytes) -> str:
    """Console bytes as text: CR LF as LF; what is not printable, and bytes that are no UTF-8, as escapes."""
    text = re.sub(rb"\x07{2,}", b"\x07", re.sub(rb"\r+\n", b"\n", raw)).decode("utf-8", errors="backslashreplace")
    return visible(text, keep="\n\t")


class History:
    """The last `limit` bytes of a stream, addressed by their position in the whole stream. Pure."""

    def __init__(self, limit: int = HISTORY_BYTES) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.start = 0  # position of the oldest byte that is kept
        self.marks = Marks()
        self._veils: list[tuple[int, int, bytes]] = []

    def veil(self, start: int, end: int, instead: bytes = b"") -> None:
        """What this program typed for itself and what came of it, from `start` to `end`, is shown as `instead`."""
        if start < end:
            self._veils.append((start, end, instead))

    def shown(self, start: int, end: int | None = None) -> bytes:
        """What a reader is shown of what came from `start` on; of a veil that began before it, nothing."""
        end = self.end if end is None else end
        parts, at = [], max(start, self.start)
        for begin, stop, instead in self._veils:
            if at < stop and begin < end:
                parts += [self.since(at, max(0, begin - at)), instead if begin >= at else b""]
                at = stop
        return b"".join([*parts, self.since(at, max(0, end - at))])

    @property
    def end(self) -> int:
        """Position after the newest byte."""
        return self.start + len(self._bytes)

    def append(self, data: bytes) -> None:
        """Add what was read, forget what is too old. It may hold up to twice the limit in between."""
        self.marks.note(self.end, self._bytes[-1:], data)
        self._bytes += data
        if len(self._bytes) > 2 * self._limit:
            surplus = len(self._bytes) - self._limit
            del self._bytes[:surplus]
            self.start += surplus
            self.marks.forget(self.start)
            self._veils = [veil for veil in self._veils if veil[1] > self.start]

    def since(self, position: int, limit: int | None = None) -> bytes:
        """What came from `position` on, as far as it is kept, `limit` bytes at most."""
        first = max(0, position - self.start)
        return bytes(self._bytes[first : None if limit is None else first + limit])

    def tail(self, limit: int) -> bytes:
        """The stream's end, `limit` bytes at most."""
        return bytes(self._bytes[-limit:])

    def line_end(self, position: int, stop: int) -> int:
        """Position after the line feed that ends the line at `position`, or `stop` where none comes before it."""
        found = self._bytes.find(b"\n", max(0, position - self.start), max(0, stop - self.start))
        return stop if found < 0 else self.start + found + 1

    def skip(self, pattern: re.Pattern[bytes], position: int) -> int:
        """Position after what matches at `position`."""
        match = pattern.match(self._bytes, max(0, position - self.start))
        return self.start + match.end() if match else position

    def find(self, wanted: Wanted, position: int) -> int | None:
        """Position after the first match at or after `position`, None where there is none."""
        match = wanted.find(self._bytes, max(0, position - self.start))
        return self.start + match[1] if match else None
