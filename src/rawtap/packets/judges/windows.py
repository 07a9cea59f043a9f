# cython: annotation_typing=False, nonecheck=True
"""TCP windows: what an end lets the other send, and what becomes of that (RFC 9293, 3.8.6)."""

from __future__ import annotations

from rawtap.packets.findings import MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.judges.flow import PATIENCE, Ahead, Connection, Probes, Say, Side, distance
from rawtap.packets.transport import FIN, SYN, Tcp

_MOST_SCALE = 14  # RFC 7323, 2.3
_NUMBERS = 0xFFFFFFFF  # the greatest sequence number
_RULE = "3.8.6.1"
_TIME_TO_ANSWER = 200 * MILLISECOND  # at least


def allowed(packet: Packet, segment: Tcp, connection: Connection, side: Side, other: Side, say: Say) -> None:
    """`side` says how much the other end may send."""
    side.window = segment.window
    if segment.window == 0 and not segment.flags & SYN:
        other.waiting = None  # it is not to send
        side.shut = side.shut or (packet.at, packet.number)
    elif side.shut is not None:
        _opened(packet, segment, connection, side, other, say)
    shift = 0
    if not segment.flags & SYN and side.scale is not None and other.scale is not None:
        shift = min(side.scale, _MOST_SCALE)
    size = segment.window << shift
    edge = (segment.acknowledgment + size) & _NUMBERS
    if side.edge is None or distance(edge, side.edge) > 0:
        side.edge, side.grown = edge, (edge, size, packet.number)
    if other.over is not None and distance(other.over.number, edge) <= 1:
        other.over = None  # also where it was taken: then the window was larger than was seen


def _opened(packet: Packet, segment: Tcp, connection: Connection, side: Side, other: Side, say: Say) -> None:
    at, number = side.shut or (packet.at, packet.number)
    closed = packet.at - at
    if closed >= PATIENCE and other.fin is None:
        evidence = f"{closed / SECOND:.1f} s from packet {number} to packet {packet.number}{_probed(other)}"
        say(
            "tcp.zero_window", connection, side, number, "the window stays closed (zero)", _RULE, evidence,
            found="window 0", expected="a window that opens", dropped=False,
        )  # fmt: skip
    side.shut = None
    if other.next is not None and distance(other.next, segment.acknowledgment) > 0:
        other.waiting = packet.at


def judge_window(until: int, connection: Connection, side: Side, say: Say, findings: Findings) -> None:
    """A window that is closed to the end."""
    other = connection.other(side)
    if side.shut is None or until - side.shut[0] < PATIENCE or other.fin is not None:
        return
    at, number = side.shut
    edge, size, since = side.grown
    evidence = f"{(until - at) / SECOND:.1f} s to the end of the capture{_probed(other)}"
    code, text, again = "tcp.zero_window", "the window stays closed (zero)", []
    if size and edge == other.acked:
        code, again = "tcp.window_shrinks", [number]
        text = f"the window shrinks with what is received, from {size} bytes to 0, and never opens again"
        evidence = f"{size} bytes in packet {since}, 0 in packet {number}; {evidence}"
        number = since
    say(
        code, connection, side, number, text, _RULE, evidence, found="window 0", expected="a window that opens",
        again=again, count=1 + len(again), absence=True, dropped=False, findings=findings,
    )  # fmt: skip


def _probed(sender: Side) -> str:
    """How a closed window was probed."""
    probes = sender.probes
    if probes is None:
        return ", without a probe"
    which = ", ".join(map(str, probes.numbers[:4])) + (" and more" if probes.count > 4 else "")  # noqa: PLR2004
    return f", probed {probes.count} times in {(probes.last - probes.first) / SECOND:.1f} s (packets {which})"


def is_probe(packet: Packet, segment: Tcp, sender: Side, receiver: Side) -> bool:
    """Whether a segment asks whether the other end is there, or whether its window is open, and is none to be judged:
    it has a byte or none, and begins before the next one, or, into a closed window, with it (RFC 9293, 3.8.4 and
    3.8.6.1). Probes of a window are counted."""
    if sender.next is None or segment.size > 1 or segment.flags & (SYN | FIN):
        return False
    ahead, is_closed = distance(segment.sequence, sender.next), receiver.window == 0
    if is_closed and (ahead == -1 or (segment.size == 1 and ahead == 0)):
        sender.probes = sender.probes or Probes()
        sender.probes.add(packet.at, packet.number)
    return ahead == -1 and (is_closed or sender.acked == sender.next)


def beyond_window(packet: Packet, segment: Tcp, end: int, connection: Connection, sender: Side) -> None:
    """Note data that goes up to `end`, where the other end's window may not."""
    edge = connection.other(sender).edge
    # One byte more may be sent to probe (3.8.6.1), and a FIN takes no room.
    room = 1 + (segment.flags & FIN > 0)
    if edge is not None and distance(end, edge) > room and connection.known and sender.over is None:
        sender.over = Ahead(end, packet.at, packet.number)


def judge_beyond_window(at: int, connection: Connection, sender: Side, say: Say, findings: Findings | None) -> bool:
    """Say that data went beyond the window, once the other end had time to take it nevertheless, or to say that its
    window is larger than was seen; whether it is time."""
    over = sender.over
    if over is None or at - over.at <= max(2 * (connection.round_trip or 0), _TIME_TO_ANSWER):
        return False
    edge = connection.other(sender).edge
    if not connection.is_partial:  # else a window may have been missed
        say(
            "tcp.outside_window", connection, sender, over.packet, "data beyond the window", "3.10.7.4",
            f"up to {over.number}, but the window ends at {edge}", found=over.number, expected=f"{edge} at most",
            absence=True, findings=findings,
        )  # fmt: skip
    return True
