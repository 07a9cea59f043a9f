"""One TCP segment on its way, and what it tells of both ends of its connection (RFC 9293)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rawtap.packets.findings import MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.transport import ACK, FIN, SYN, Tcp

PATIENCE = SECOND  # without progress
RACE = 10 * MILLISECOND  # the two directions of a connection may be captured in another order than they were sent
_REORDERED = 3 * MILLISECOND  # a segment this late has been overtaken; one that is later was sent again
_HOLES = 64
_HALF = 1 << 31
_MOST_SCALE = 14  # RFC 7323, 2.3

End = tuple[bytes, int]  # address and port


def distance(later: int, earlier: int) -> int:
    """How far one sequence number is behind another, which may have wrapped (RFC 9293, 3.4)."""
    return ((later - earlier + _HALF) & 0xFFFFFFFF) - _HALF


@dataclass(slots=True)
class Side:
    """What one end has sent. Sequence numbers are None where they are not known.

    `next` follows the last byte sent, `acked` the last that the other end acknowledged; `edge` is how far this end
    lets the other send. `waiting` is since when something is unacknowledged without progress.
    """

    name: str
    first: int | None = None
    next: int | None = None
    acked: int | None = None
    edge: int | None = None
    scale: int | None = None
    window: int | None = None
    fin: int | None = None
    shut: tuple[int, int] | None = None  # when, and the packet in which, the window became zero
    waiting: int | None = None
    last: int = 0  # the number of the last packet with data
    beyond: tuple[int, int, int] | None = None  # acknowledged by the other end but not seen: number, time, packet
    over: tuple[int, int, int] | None = None  # sent beyond the other end's window: its end, time, packet
    holes: list[tuple[int, int, int]] = field(default_factory=list)  # begin, end, when seen
    recent: list[tuple[int, tuple[object, ...]]] = field(default_factory=list)

    @property
    def awaited(self) -> str:
        """What of this end waits for an acknowledgment."""
        return "the SYN" if self.acked is None else "data"


@dataclass(slots=True)
class Connection:
    sides: dict[End, Side]
    sample: bytes
    length: int
    whole: bool | None = None  # whether the filter passes all of it, None while that was not asked
    closed: bool = False
    hidden: bool = False
    in_pieces: bool = False  # a segment came in fragments, which do not tell its size

    @property
    def known(self) -> bool:
        """Whether both SYN were seen."""
        return all(each.first is not None for each in self.sides.values())


class Say(Protocol):
    """Adds a finding on what a side does; `absence` where it rests on something not seen."""

    def __call__(
        self, what: str, connection: Connection, side: Side, number: int, text: str, rule: str, evidence: str,
        *, absence: bool = False, findings: Findings | None = None,
    ) -> None: ...  # fmt: skip


@dataclass(slots=True)
class Step:
    """One segment on its way, and what it tells of both ends."""

    say: Say
    packet: Packet
    segment: Tcp
    connection: Connection
    sender: Side
    receiver: Side

    def judge(self) -> None:
        segment = self.segment
        opens = segment.flags & SYN > 0
        size = segment.size + opens + (segment.flags & FIN > 0)
        self._overdue()
        if size:
            self._data(segment.sequence, size)
        elif self.sender.next is None:
            self.sender.next = segment.sequence
        if segment.flags & ACK:
            self._acknowledges(segment.acknowledgment)
            self._window(segment)

    def _say(
        self, what: str, side: Side, number: int, text: str, rule: str, evidence: str, *, absence: bool = False
    ) -> None:
        self.say(what, self.connection, side, number, text, rule, evidence, absence=absence)

    # ------------------------------------------------------------------ data

    def _data(self, begin: int, size: int) -> None:
        sender, at = self.sender, self.packet.at
        end = (begin + size) & 0xFFFFFFFF
        if sender.next is None:
            sender.next = begin
        ahead = distance(begin, sender.next)
        if ahead < 0:
            self._again(begin, size, ahead)
        elif ahead > 0 and len(sender.holes) < _HOLES:
            sender.holes.append((sender.next, begin, at))
        if distance(end, sender.next) > 0:
            sender.next = end
            acked = sender.acked is not None and distance(end, sender.acked) <= 0
            # A SYN alone is counted with the requests.
            asks = self.segment.flags & (SYN | ACK) == SYN
            if sender.waiting is None and self.receiver.window != 0 and not acked and not asks:
                sender.waiting = at
        sender.last = self.packet.number
        self._after_fin(end)
        self._in_window(end)
        if sender.beyond is not None and distance(sender.beyond[0], sender.next) <= 0:
            sender.beyond = None

    def _again(self, begin: int, size: int, ahead: int) -> None:
        """A segment that starts before what was sent last."""
        sender = self.sender
        idle = sender.acked == sender.next or self.receiver.window == 0
        if size == 1 and ahead == -1 and idle and not self.segment.flags & FIN:
            return  # a keep-alive, or a probe of a window that is closed (RFC 9293, 3.8.4 and 3.8.6.1)
        if self.segment.flags & SYN:
            return  # counted with the requests
        hole = next((each for each in sender.holes if distance(begin, each[0]) >= 0 > distance(begin, each[1])), None)
        if hole is not None:
            self._fill(hole, begin, (begin + size) & 0xFFFFFFFF)
            if self.packet.at - hole[2] <= _REORDERED:
                return
        evidence = f"sequence number {begin}, {size} bytes, but {sender.next} was the next to be sent"
        if hole is not None:
            evidence += ", and what is sent again did not come this far before"
        self._say("tcp.retransmission", sender, self.packet.number, "data is sent again", "3.8.1", evidence)

    def _fill(self, hole: tuple[int, int, int], begin: int, end: int) -> None:
        self.sender.holes.remove(hole)
        if distance(begin, hole[0]) > 0:
            self.sender.holes.append((hole[0], begin, hole[2]))
        if distance(hole[1], end) > 0:
            self.sender.holes.append((end, hole[1], hole[2]))

    def _after_fin(self, end: int) -> None:
        sender = self.sender
        if sender.fin is not None and distance(end, sender.fin) > 0:
            evidence = f"up to sequence number {end}, but the FIN was before {sender.fin}"
            self._say("tcp.data_after_fin", sender, self.packet.number, "data after the FIN", "3.6", evidence)
        elif self.segment.flags & FIN and sender.fin is None:
            sender.fin = end

    def _in_window(self, end: int) -> None:
        edge = self.receiver.edge
        # One byte more may be sent to probe (3.8.6.1), and a FIN takes no room.
        allowed = 1 + (self.segment.flags & FIN > 0)
        if edge is None or not self.connection.known or self.sender.over is not None:
            return
        if distance(end, edge) > allowed:
            self.sender.over = (end, self.packet.at, self.packet.number)

    # ------------------------------------------------------- acknowledgments

    def _acknowledges(self, number: int) -> None:
        other, at = self.receiver, self.packet.at
        if other.next is None:
            other.next = number
        if distance(number, other.next) > 0 and self.connection.known and other.beyond is None:
            other.beyond = (number, at, self.packet.number)
        if other.acked is None or distance(number, other.acked) > 0:
            if other.waiting is not None:
                self._progress(at - other.waiting)
            other.acked = number
            other.waiting = at if distance(other.next, number) > 0 else None
        # What is acknowledged has come some way: what filled the hole was not seen here.
        if other.holes:
            other.holes = [each for each in other.holes if distance(each[1], number) > 0]

    def _progress(self, waited: int) -> None:
        if waited >= PATIENCE and self.connection.known:
            evidence = f"{waited / SECOND:.1f} s without progress before packet {self.packet.number}"
            number = self.receiver.last or self.packet.number
            text = f"{self.receiver.awaited} waits for its acknowledgment"
            self._say("tcp.stalled", self.receiver, number, text, "3.8.1", evidence)

    def _window(self, segment: Tcp) -> None:
        sender, other, at = self.sender, self.receiver, self.packet.at
        sender.window = segment.window
        if segment.window == 0 and not segment.flags & SYN:
            other.waiting = None  # it is not to send
            sender.shut = sender.shut or (at, self.packet.number)
        elif sender.shut is not None:
            closed = at - sender.shut[0]
            if closed >= PATIENCE and other.fin is None:
                evidence = f"{closed / SECOND:.1f} s from packet {sender.shut[1]} to packet {self.packet.number}"
                text = "the window stays closed (zero)"
                self._say("tcp.zero_window", sender, sender.shut[1], text, "3.8.6.1", evidence)
            sender.shut = None
            if other.next is not None and distance(other.next, segment.acknowledgment) > 0:
                other.waiting = at
        scales = (sender.scale, other.scale)
        shift = 0 if segment.flags & SYN or None in scales else min(sender.scale or 0, _MOST_SCALE)
        edge = (segment.acknowledgment + (segment.window << shift)) & 0xFFFFFFFF
        if sender.edge is None or distance(edge, sender.edge) > 0:
            sender.edge = edge
        if other.over is not None and distance(other.over[0], edge) <= 1:
            other.over = None

    def _overdue(self) -> None:
        """What the other direction did not explain in time."""
        at = self.packet.at
        for side, other in ((self.sender, self.receiver), (self.receiver, self.sender)):
            if side.over is not None and at - side.over[1] > RACE:
                end, _, number = side.over
                evidence = f"up to {end}, but the window ends at {other.edge}"
                self._say(
                    "tcp.outside_window", side, number, "data beyond the window", "3.10.7.4", evidence, absence=True
                )
                side.over = None
            if side.beyond is not None and at - side.beyond[1] > RACE:
                acknowledged, _, number = side.beyond
                evidence = f"acknowledgment {acknowledged}, but {side.next} was the next to be sent"
                text = "data is acknowledged that was never sent"
                self._say("tcp.ack_beyond", other, number, text, "3.10.7.4", evidence, absence=True)
                side.beyond = None
