# cython: annotation_typing=False, nonecheck=True
"""What is known of a TCP connection: what each end has sent, acknowledged and allowed (RFC 9293)."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rawtap.packets.findings import MILLISECOND, SECOND, Findings

PATIENCE = SECOND  # without progress
COPIED = 2 * MILLISECOND  # the same segment within this is a copy that the capture took at another place
RACE = 10 * MILLISECOND  # the two directions of a connection may be captured in another order than they were sent
MSS = 1460  # bytes; what Ethernet carries, for an end whose own word was not seen
_HALF = 1 << 31
_MOST = 0xFFFFFFFF
_SEGMENTS = 256
_GAPS = 8
_OFFSETS = 4
_NUMBERS = 10

End = bytes  # address, and port in two bytes


def end_of(address: bytes, port: int) -> End:
    return address + port.to_bytes(2, "big")


def distance(later: int, earlier: int) -> int:
    """How far one sequence number is behind another, which may have wrapped (RFC 9293, 3.4)."""
    return ((later - earlier + _HALF) & _MOST) - _HALF


@dataclass
class Sent:
    """A segment that was sent and not acknowledged: its numbers from `begin` to before `end`, its packet and flags, and
    when."""

    begin: int
    end: int
    number: int
    flags: int
    at: int


class Gap(NamedTuple):
    """Numbers from `begin` to before `end` that were passed over; `at` is when that was seen, `number` the packet."""

    begin: int
    end: int
    at: int
    number: int


class Ahead(NamedTuple):
    """What goes further than was seen: up to a sequence number, at a time, in a packet."""

    number: int
    at: int
    packet: int
    then: int = 0  # what would be the next number of who has gone further


@dataclass
class Seen:
    """What tells a segment from others of its sender: a copy of it that was captured at another place is the same."""

    at: int
    identification: int
    sequence: int
    acknowledgment: int
    flags: int
    size: int
    window: int

    def is_copy_of(self, other: Seen) -> bool:
        return (
            self.sequence == other.sequence
            and self.acknowledgment == other.acknowledgment
            and self.flags == other.flags
            and self.size == other.size
            and self.window == other.window
            and self.identification == other.identification
            and self.at - other.at <= COPIED
        )


@dataclass
class Probes:
    """Probes of a window that is closed: when the first and the last came, the first packets, how many."""

    first: int = 0
    last: int = 0
    numbers: tuple[int, ...] = ()
    count: int = 0

    def add(self, at: int, number: int) -> None:
        self.first, self.last = self.first or at, at
        self.count += 1
        if len(self.numbers) < _NUMBERS:
            self.numbers += (number,)


@dataclass(eq=False)
class Side:
    """What one end has sent. Sequence numbers are None where they are not known.

    `next` follows the last byte sent, and is by its own word if `spoke`; `acked` is the last that the other end
    acknowledged, in packet `acked_in`; `edge` is how far this end lets the other send. `waiting` is since when
    something is unacknowledged without progress. Of the other end's acknowledgments of its data, `on_end` counts those
    that fell on a segment's end; `off` are the packets of those that did not, by how far they were off.
    """

    end: End
    name: str
    host: str
    first: int | None = None
    opened_in: int = 0  # the packet of its SYN
    another_first: int | None = None  # of a second SYN+ACK
    another_in: int = 0  # its packet, until the other end has chosen
    next: int | None = None
    spoke: bool = False
    mss: int = MSS
    acked: int | None = None
    acked_in: int = 0
    duplicates: int = 0  # acknowledgments that repeat the last one
    edge: int | None = None
    grown: tuple[int, int, int] = (0, 0, 0)  # the window's edge when it moved last, the window then, the packet
    scale: int | None = None
    window: int | None = None
    fin: int | None = None
    shut: tuple[int, int] | None = None  # when, and the packet in which, the window became zero
    probes: Probes | None = None  # of the other end's window
    waiting: int | None = None
    last: int = 0  # the number of the last packet with data
    beyond: Ahead | None = None  # acknowledged by the other end but not seen
    disowned: tuple[Ahead, Ahead] | None = None  # acknowledged, and this end's word on what is the next to be sent
    over: Ahead | None = None  # sent beyond the other end's window
    sent: deque[Sent] = field(default_factory=lambda: deque(maxlen=_SEGMENTS))
    on_end: int = 0
    off: dict[int, list[int]] = field(default_factory=dict)
    holes: tuple[Gap, ...] = ()
    refused_in: int = 0  # the last packet that the other end has to drop
    skipped_in: int = 0  # the first packet that repeats what is behind a hole, and not what is in it
    unseen: tuple[Gap, ...] = ()  # acknowledged, and not in the capture
    unseen_bytes: int = 0
    recent: tuple[Seen, ...] = ()

    @property
    def awaited(self) -> str:
        """What of this end waits for an acknowledgment."""
        return "the SYN" if self.acked is None else "data"

    def sent_in(self, number: int) -> Sent | None:
        """The segment that a sequence number is of, if it is among those that wait for their acknowledgment."""
        for each in self.sent:
            if distance(number, each.begin) >= 0 > distance(number, each.end):
                return each
        return None

    def was_off(self, by: int, packet: int) -> None:
        if by in self.off or len(self.off) < _OFFSETS:
            numbers = self.off.setdefault(by, [])
            if len(numbers) < _NUMBERS:
                numbers.append(packet)

    def was_unseen(self, gap: Gap) -> None:
        self.unseen_bytes += distance(gap.end, gap.begin)
        if len(self.unseen) < _GAPS:
            self.unseen += (gap,)


@dataclass
class Reset:
    """A reset that its receiver need not heed: whose, in which packet, when, its number, and from where to where it had
    to be. `is_abrupt` if no FIN was before it; `ignored` once its receiver went on."""

    side: Side
    packet: int
    at: int
    number: int
    low: int
    high: int
    is_abrupt: bool
    ignored: bool = False


@dataclass(eq=False)
class Connection:
    one: Side
    two: Side
    sample: bytes
    length: int
    asked: int | None = None  # when the last SYN was seen
    asker: Side | None = None  # and whose it was
    round_trip: int | None = None  # of the handshake, nanoseconds
    last_at: int = 0
    whole: bool | None = None  # whether the filter passes all of it, None while that was not asked
    closed: bool = False
    hidden: bool = False
    in_pieces: bool = False  # a segment came in fragments, which do not tell its size
    reset: Reset | None = None
    broken_by: tuple[str, Hashable] | None = None  # the finding that explains a reset, by its code and parties

    @property
    def sides(self) -> tuple[Side, Side]:
        return (self.one, self.two)

    @property
    def known(self) -> bool:
        """Whether both SYN were seen."""
        return self.one.first is not None and self.two.first is not None

    @property
    def is_over(self) -> bool:
        return self.is_reset or (self.one.fin is not None and self.two.fin is not None)

    @property
    def is_reset(self) -> bool:
        """Whether it is closed, or may well be."""
        return self.closed or (self.reset is not None and not self.reset.ignored)

    @property
    def is_partial(self) -> bool:
        """Whether parts of it are not in the capture: then others that leave no trace may be missing as well."""
        return any(each.unseen or each.beyond for each in self.sides)

    def of(self, end: End) -> Side:
        return self.one if self.one.end == end else self.two

    def other(self, side: Side) -> Side:
        return self.two if side is self.one else self.one


class Say(Protocol):
    """Adds a finding on what a side does; `kind` tells it apart from others of its code, `host` is who is at fault if
    that is not the side, and the rest is as in `Findings.add`."""

    def __call__(
        self, what: str, connection: Connection, side: Side, number: int, text: str, rule: str, evidence: str = "",
        *, kind: str = "", host: str = "", found: object = "", expected: object = "", again: Sequence[int] = (),
        count: int = 1, suspects: Sequence[int] = (), absence: bool = False, dropped: bool = True,
        follows: tuple[str, Hashable] | None = None,
        findings: Findings | None = None,
    ) -> None: ...  # fmt: skip
