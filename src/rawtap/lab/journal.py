"""What the server itself did and saw happen: a bounded, append-only list of notes with their times."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Note:
    """What happened, as a word (`kind`) and in words, when (nanoseconds since 1970), and to whom if it was somebody."""

    number: int
    at_ns: int
    kind: str
    text: str
    guest: str | None
    capture: str | None


@dataclass(eq=False)
class Journal:
    """Notes, numbered from 0. Any thread may write and read: captures end in threads of their own."""

    limit: int = _KEPT
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _notes: deque[Note] = field(default_factory=deque)
    _end: int = 0

    def note(self, kind: str, text: str, *, guest: str | None = None, capture: str | None = None) -> None:
        """Write down what has happened just now."""
        with self._lock:
            self._notes.append(Note(self._end, time.time_ns(), kind, text, guest, capture))
            self._end += 1
            if len(self._notes) > self.limit:
                self._notes.popleft()

    def since(self, number: int) -> tuple[list[Note], int]:
        """The notes from `number` on, and how many of those are kept no more."""
        with self._lock:
            start = self._end - len(self._notes)
            return list(islice(self._notes, max(0, number - start), None)), max(0, start - number)

    @property
    def end(self) -> int:
        """The next note's number."""
        with self._lock:
            return self._end
