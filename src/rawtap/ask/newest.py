"""The packets of a capture for a person who looks on: as they come, and where they are too many only their number."""

from __future__ import annotations

from rawtap.blocking import reading
from rawtap.lab.captures import Capture
from rawtap.packets import reader
from rawtap.packets.reader import Line
from rawtap.packets.tail import Start, Tail

_BEHIND = 5000  # packets
_SCANNED = 50_000  # packets; a filter selects among so many, in C, in some hundredths of a second


class Newest:
    """Looks on at one capture, at what passes `expression`. Where more than `most` wait, all are passed over; but
    as long as a filter selects few of them, it is looked for these among many more."""

    def __init__(self, capture: Capture, expression: str = "", most: int = _BEHIND) -> None:
        self._capture, self._expression, self._most = capture, expression, most
        self._few = bool(expression)  # the last look found all that there was to show
        self._tail = self._from(Start(1, None, 0, 0))
        self._passed = self._missed = 0

    def _from(self, start: Start) -> Tail:
        return Tail(self._capture.parts, self._expression, start)

    async def take(self, limit: int) -> list[Line]:
        """Up to `limit` packets more, in the order of the capture.

        Raises:
            BadFilter, CaptureUnreadable, DiskStalled: As `Tail.take`, and `reading`.
        """
        session = self._capture.session
        account = session.source.worker.account
        most = max(self._most, _SCANNED) if self._few else self._most
        if (waiting := account.saved - self._tail.reached) > most:
            self._passed += waiting
            here = Start(account.files[-1].number, account.file_bytes, account.saved, account.saved)
            self._tail, self._missed = self._from(here), 0
        found = await reading(session.path, self._lines, limit)
        self._few = bool(self._expression) and len(found) < limit
        self._passed += self._tail.missed - self._missed
        self._missed = self._tail.missed
        return found

    def _lines(self, limit: int) -> list[Line]:
        """In a thread: a server has more to do in its event loop than to describe packets."""
        return [reader.line_of(raw, self._capture.session.started_ns, "summary") for raw in self._tail.take(limit)]

    def tell_passed(self) -> int:
        """How many were passed over since this was asked last, those included that a ring had removed; of all, not only
        of those that pass."""
        passed, self._passed = self._passed, 0
        return passed

    @property
    def lacking(self) -> tuple[str, ...]:
        """See `Tail.lacking`."""
        return self._tail.lacking
