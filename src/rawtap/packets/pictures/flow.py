"""One direction's view of a TCP conversation over time: round trips, bytes in flight, the window. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_WHOLE, _HALF = 1 << 32, 1 << 31
_WAITING = 4096  # segments without an acknowledgment


class Segment(NamedTuple):
    """A TCP packet, by the columns of these names; `by_first` tells that the one who began sent it."""

    number: int
    time: float
    by_first: bool
    seq: int
    ack: int | None
    win: int
    payload: int
    flags: str


@dataclass
class Side:
    """What one end sent.

    Attributes:
        trips: Seconds, and how long until the other end acknowledged a segment that was sent once (RFC 6298, 3).
        flight: Seconds, and bytes sent that are not acknowledged yet.
        window: Seconds, and bytes that the other end will take, scaled (RFC 7323, 2).
        again: Seconds at which bytes were sent again.
        data: Bytes that were sent, those sent again left out.
    """

    trips: list[tuple[float, float]] = field(default_factory=list)
    flight: list[tuple[float, int]] = field(default_factory=list)
    window: list[tuple[float, int]] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    data: int = 0
    _first: int | None = None
    _sent: int = 0  # the end of what was sent, counted from the first byte
    _acked: int = 0
    _waiting: OrderedDict[int, float | None] = field(default_factory=OrderedDict)  # ends of segments; None: sent twice

    def sends(self, segment: Segment) -> None:
        """It sent that."""
        size = segment.payload + ("SYN" in segment.flags) + ("FIN" in segment.flags)
        begin = self._place(segment.seq)
        if not size or "RST" in segment.flags:
            return
        if begin + size <= self._sent:
            self.again.append(segment.time)
            for end in self._waiting:
                if begin < end <= begin + size:
                    self._waiting[end] = None
            return
        self.data += begin + size - max(self._sent, begin) if segment.payload else 0
        self._sent = begin + size
        self._waiting[self._sent] = segment.time
        if len(self._waiting) > _WAITING:
            self._waiting.popitem(last=False)
        self.flight.append((segment.time, self._sent - self._acked))

    def hears(self, segment: Segment, scale: int) -> None:
        """The other end sent that, whose window is scaled by 2 to the `scale`."""
        if segment.ack is None or self._first is None or "RST" in segment.flags:
            return
        acked = self._place(segment.ack)
        if not 0 <= acked <= self._sent:
            return
        newest = None
        while self._waiting and next(iter(self._waiting)) <= acked:
            _, newest = self._waiting.popitem(last=False)
        if newest is not None:
            self.trips.append((segment.time, segment.time - newest))
        self._acked = max(self._acked, acked)
        self.flight.append((segment.time, self._sent - self._acked))
        self.window.append((segment.time, segment.win << (0 if "SYN" in segment.flags else scale)))

    def _place(self, number: int) -> int:
        """A sequence number counted from the first byte."""
        if self._first is None:
            self._first = number
        ahead = (number - self._first - self._sent) % _WHOLE
        return self._sent + (ahead if ahead < _HALF else ahead - _WHOLE)


def sides(segments: Iterable[Segment], scales: Sequence[int | None]) -> tuple[Side, Side]:
    """Both ends' views. `scales` are those of their SYNs' windows; where one has none, none is applied."""
    found = (Side(), Side())
    both = None not in scales  # each must have offered it (RFC 7323, 2.2)
    for segment in segments:
        own, other = (0, 1) if segment.by_first else (1, 0)
        found[own].sends(segment)
        found[other].hears(segment, (scales[own] or 0) if both else 0)
    return found
