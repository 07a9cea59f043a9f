"""What two ends said to each other: TCP's bytes put together again, or UDP's datagrams, in the order of their arrival.

Pure: packets in, pieces out. A piece is given out when everything before it of its direction is there. Bytes that never
come are a gap: told as soon as the other end acknowledges them (it has them, so the capture missed them), or where what
waits behind them grows too large, or at the end. Where a segment repeats bytes that were given out, those stay; whether
it says the same is compared (RFC 9293, 3.4, and 3.10.7.4 for what a receiver keeps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rawtap.packets.headers import Frame
from rawtap.packets.reader import Raw
from rawtap.packets.transport import ACK, FIN, RST, SYN, Tcp, Udp

_COMPARED = 1 << 16  # bytes of each direction that are kept for it
_WAITING = 4 << 20  # bytes that may wait behind a gap
_HALF, _WHOLE = 1 << 31, 1 << 32


class End(NamedTuple):
    """An address and a port."""

    address: bytes
    port: int


class Piece(NamedTuple):
    """Bytes of a side (0: who began, 1: the other) and the packet that brought them; or `gap` bytes not there."""

    side: int
    number: int
    time_ns: int
    data: bytes
    gap: int = 0


class _Segment(NamedTuple):
    number: int
    time_ns: int
    data: bytes
    size: int  # on the wire, from which the snaplen may have cut
    ends: bool


@dataclass
class Oddities:
    """What was not as it should be, with the number of the first packet of each."""

    repeated: int = 0  # segments without a new byte
    late: int = 0  # segments that came after what follows them
    differing: int | None = None  # a segment that repeats bytes and says others
    fragments: int = 0  # of IP, whose data are not followed
    middle: bool = False  # no SYN: the beginning is not in the capture
    reset: int | None = None


@dataclass
class _Way:
    """One direction of TCP: its first byte and the next to give out, on a count that does not wrap, and what waits."""

    first: int | None = None
    expected: int | None = None
    waiting: dict[int, _Segment] = field(default_factory=dict)
    held: int = 0
    recent: bytearray = field(default_factory=bytearray)

    def place(self, number: int) -> int:
        """A sequence number on the count: the nearest one to what is expected."""
        if self.expected is None:
            return number
        ahead = (number - self.expected) % _WHOLE
        return self.expected + (ahead if ahead < _HALF else ahead - _WHOLE)


def ends_of(frame: Frame) -> tuple[int, End, End] | None:
    """Protocol, source and destination, if the frame is of TCP or UDP."""
    ip, carried = frame.ip, frame.transport
    if ip is None or not isinstance(carried, Tcp | Udp):
        return None
    return ip.protocol, End(ip.source, carried.source_port), End(ip.destination, carried.destination_port)


class Succession:
    """Where a conversation between two ends is followed by the next one, as streams are numbered: see _flows."""

    def __init__(self) -> None:
        self._began: int | None = None

    def begins_next(self, frame: Frame) -> bool:
        """Whether this packet, the next one between the two, begins another conversation than that before it."""
        tcp = frame.transport
        if not isinstance(tcp, Tcp) or tcp.flags & (SYN | ACK) != SYN:
            return False
        before, self._began = self._began, tcp.sequence
        return before not in (None, self._began)


class Conversation:
    """Packets of one conversation, put together.

    Attributes:
        client: Who began it, as far as the capture shows.
        oddities: What was not as it should be.
        packets: How many there were.
        ended: Sides that told that they say no more, of which all before that was given out, or its gaps.
    """

    def __init__(self, client: End) -> None:
        self.client = client
        self.oddities = Oddities()
        self.packets = 0
        self.ended: set[int] = set()
        self._ways = (_Way(), _Way())

    def feed(self, raw: Raw, frame: Frame) -> Iterator[Piece]:
        """What can be given out now that this packet of the conversation is there."""
        self.packets += 1
        found = ends_of(frame)
        if found is None or frame.ip is None:
            return
        side = 0 if found[1] == self.client else 1
        if frame.ip.fragment is not None:
            self.oddities.fragments += 1
        carried = frame.transport
        if isinstance(carried, Udp):
            data = frame.data[carried.payload : carried.end]
            yield Piece(side, raw.number, raw.time_ns, data)
            if cut := carried.end - carried.payload - len(data):
                yield Piece(side, raw.number, raw.time_ns, b"", cut)
        elif isinstance(carried, Tcp):
            yield from self._acknowledged(1 - side, raw, carried)
            yield from self._segment(side, raw, frame.data, carried)

    def rest(self) -> Iterator[Piece]:
        """What still waits, behind its gaps."""
        for side in range(2):
            yield from self._emptied(side)

    def _segment(self, side: int, raw: Raw, data: bytes, tcp: Tcp) -> Iterator[Piece]:
        way = self._ways[side]
        if tcp.flags & RST and self.oddities.reset is None:
            self.oddities.reset = raw.number
        if tcp.flags & SYN and way.place(tcp.sequence + 1) != way.first:  # else it is said again, or late
            yield from self._emptied(side)
            way.recent.clear()
            self.ended.discard(side)
            way.first = way.expected = way.place(tcp.sequence + 1)
        elif way.expected is None:
            self.oddities.middle = True
            way.first = way.expected = tcp.sequence
        at = way.place(tcp.sequence + bool(tcp.flags & SYN))
        ends = bool(tcp.flags & FIN) and not tcp.flags & RST
        segment = _Segment(raw.number, raw.time_ns, data[tcp.payload : tcp.end], tcp.size, ends)
        if segment.size or segment.ends:
            yield from self._placed(side, at, segment)

    def _placed(self, side: int, at: int, segment: _Segment) -> Iterator[Piece]:
        way = self._ways[side]
        expected = way.expected or 0
        if at > expected:
            known = way.waiting.get(at)
            if known is None or known.size < segment.size:
                way.waiting[at] = segment
                way.held += len(segment.data) - (len(known.data) if known else 0)
            if way.held > _WAITING:
                yield from self._skip(side, min(way.waiting))
            return
        if way.waiting:
            self.oddities.late += 1
        yield from self._given(side, at, segment)
        while way.waiting and (first := min(way.waiting)) <= (way.expected or 0):
            waited = way.waiting.pop(first)
            way.held -= len(waited.data)
            yield from self._given(side, first, waited)

    def _given(self, side: int, at: int, segment: _Segment) -> Iterator[Piece]:
        """What is new of a segment that begins at or before what is expected."""
        way = self._ways[side]
        expected = way.expected or 0
        known = expected - at
        self._compare(way, known, segment)
        if known > segment.size or (known == segment.size and not segment.ends):
            self.oddities.repeated += 1
            return
        fresh = segment.data[known:]
        if fresh:
            way.recent += fresh
            del way.recent[:-_COMPARED]
            yield Piece(side, segment.number, segment.time_ns, fresh)
        if cut := segment.size - max(known, len(segment.data)):
            way.recent.clear()
            yield Piece(side, segment.number, segment.time_ns, b"", cut)
        way.expected = at + segment.size + segment.ends
        if segment.ends:
            self.ended.add(side)

    def _compare(self, way: _Way, known: int, segment: _Segment) -> None:
        """Whether the bytes that are known already are the same ones; a keep-alive's one byte may be any."""
        if known <= 0 or known == segment.size == 1:
            return
        behind = len(way.recent) - known
        again = segment.data[max(0, -behind) : known]
        before = bytes(way.recent[max(0, behind) :][: len(again)])
        if before[: len(again)] != again[: len(before)] and self.oddities.differing is None:
            self.oddities.differing = segment.number

    def _acknowledged(self, side: int, raw: Raw, tcp: Tcp) -> Iterator[Piece]:
        """What the other end has, and the capture does not, will not come any more."""
        way = self._ways[side]
        if not tcp.flags & ACK or way.expected is None or tcp.flags & RST:
            return
        reached = way.place(tcp.acknowledgment)
        while way.expected < reached and way.waiting and min(way.waiting) <= reached:
            yield from self._skip(side, min(way.waiting))
        if way.expected < reached and not way.waiting:
            yield Piece(side, raw.number, raw.time_ns, b"", reached - way.expected)
            way.recent.clear()
            way.expected = reached

    def _emptied(self, side: int) -> Iterator[Piece]:
        """Give out all that waits."""
        way = self._ways[side]
        while way.waiting:
            yield from self._skip(side, min(way.waiting))

    def _skip(self, side: int, to: int) -> Iterator[Piece]:
        """Give the gap up to the first of what waits, and what follows."""
        way = self._ways[side]
        segment = way.waiting.pop(to)
        way.held -= len(segment.data)
        if to > (way.expected or 0):
            yield Piece(side, segment.number, segment.time_ns, b"", to - (way.expected or 0))
            way.recent.clear()
            way.expected = to
        yield from self._placed(side, to, segment)
