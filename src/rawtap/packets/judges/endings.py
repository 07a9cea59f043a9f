# cython: annotation_typing=False, nonecheck=True
"""How TCP connections end: by a reset, by their FINs, or stuck (RFC 9293, 3.5.2 and 3.6)."""

from __future__ import annotations

from rawtap.packets import mistakes
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import SECOND, Findings, Packet
from rawtap.packets.judges import acknowledgments, windows
from rawtap.packets.judges.flow import PATIENCE, Connection, Reset, Say, Side, distance
from rawtap.packets.judges.openings import near
from rawtap.packets.transport import ACK, Tcp


def reset(
    say: Say, findings: Findings, requests: Requests, packet: Packet, segment: Tcp, connection: Connection,
    sender: Side, receiver: Side,
) -> None:  # fmt: skip
    """A segment with RST."""
    key = (receiver.end, sender.end)
    if sender.first is None and key in requests.pending:
        _refusal(say, findings, requests, packet, segment, connection, sender, receiver)
        return
    request = requests.answer(key, packet.at)
    if connection.closed:
        return
    if _refuses_acknowledgment(say, packet, segment, connection, sender, receiver):
        connection.closed = True
        return
    is_abrupt = connection.known and sender.fin is None and receiver.fin is None
    # An end that asks for a connection resets one that the other still has from before (3.5.1, figure 9).
    asks = sender.first is not None and receiver.first is None
    if request is None and not asks and not _is_acceptable(segment, sender, receiver):
        low, high = sender.next or 0, receiver.edge or 0
        if connection.reset is None:
            connection.reset = Reset(sender, packet.number, packet.at, segment.sequence, low, high, is_abrupt)
        return
    connection.closed, connection.reset = True, None
    hole = receiver.holes[0] if receiver.holes and connection.known else None
    if hole is not None and hole.begin == receiver.acked and distance(hole.end, hole.begin) == 1 and receiver.fin:
        receiver.skipped_in = packet.number
        _skips(say, packet.at, connection, receiver, findings)
    elif is_abrupt:
        _abrupt(say, connection, sender, packet.number, segment.sequence, None)


def _refuses_acknowledgment(
    say: Say, packet: Packet, segment: Tcp, connection: Connection, sender: Side, receiver: Side
) -> bool:
    """Whether `sender`, which has only sent its SYN, resets the connection for an acknowledgment of something else: the
    reset then bears that number (RFC 9293, 3.10.7.4)."""
    first, expected = sender.first, sender.next
    if segment.flags & ACK or connection.asker is not receiver or first is None or expected != (first + 1) & 0xFFFFFFFF:
        return False
    tried = {sender.acked: sender.acked_in}
    if sender.beyond is not None:
        tried[sender.beyond.number] = sender.beyond.packet
    number = segment.sequence
    if number not in tried or number == expected:
        return False
    text = f"the SYN+ACK is acknowledged by another number than its own{near(number, expected)}"
    say(
        "tcp.handshake_ack", connection, receiver, tried[number], text, "3.10.7.4",
        f"acknowledgment {number}, expected {expected}; the other end resets the connection for it in packet "
        f"{packet.number}", found=number, expected=expected, again=[packet.number],
    )  # fmt: skip
    return True


def _is_acceptable(segment: Tcp, sender: Side, receiver: Side) -> bool:
    """Whether the receiver of a reset heeds it: in its window, once it has what was sent before."""
    low, high = sender.next, receiver.edge
    if low is None or high is None:
        return True
    return distance(segment.sequence, low) >= 0 and (
        distance(segment.sequence, high) <= 0 or segment.sequence == low
    )  # fmt: skip


def _abrupt(
    say: Say, connection: Connection, sender: Side, packet: int, sequence: int, findings: Findings | None
) -> None:
    evidence = f"an RST with sequence number {sequence}, and no FIN before it"
    text = "the connection is reset before either end has closed it"
    say(
        "tcp.reset", connection, sender, packet, text, "3.5.2", evidence, found="RST", expected="FIN",
        follows=connection.broken_by, findings=findings,
    )  # fmt: skip


def _refusal(
    say: Say, findings: Findings, requests: Requests, packet: Packet, segment: Tcp, connection: Connection,
    sender: Side, receiver: Side,
) -> None:  # fmt: skip
    """An RST answers a SYN, if it acknowledges it (RFC 9293, 3.10.7.3)."""
    key = (receiver.end, sender.end)
    first, last = receiver.first or 0, receiver.next if receiver.next is not None else (receiver.first or 0) + 1
    number = segment.acknowledgment if segment.flags & ACK else 0
    if segment.flags & ACK and 1 <= distance(number, first) <= distance(last, first):
        request = requests.answer(key, packet.at)
        if request is not None:
            says = f"{sender.name} refuses connections from {request.pair[0]}"
            evidence = f"a SYN in packet {request.numbers[0]}, an RST in packet {packet.number}"
            findings.add(
                "tcp.refused", (sender.name, request.pair[0]), packet.number, says, "RFC 9293, 3.5.2", evidence,
                host=sender.host, found="RST", expected="SYN+ACK", follows=connection.broken_by,
            )  # fmt: skip
        connection.closed = True
        return
    requests.refuse(key)
    expected = (first + 1) & 0xFFFFFFFF
    text = "an RST does not acknowledge the SYN, which has to ignore it"
    found = f"acknowledgment {number}" if segment.flags & ACK else "no acknowledgment"
    say(
        "tcp.rst_mismatch", connection, sender, packet.number,
        text + (near(number, expected) if segment.flags & ACK else ""), "3.10.7.3",
        f"{found}, expected {expected}", found=found, expected=f"acknowledgment {expected}",
    )  # fmt: skip


def finish(say: Say, until: int, connection: Connection, side: Side, findings: Findings) -> None:
    """What is to be said of one side of a connection at `until`."""
    acknowledgments.judge_acknowledgments(until, connection, side, say, findings)
    reset = connection.reset
    if connection.is_reset:
        if reset is not None and reset.is_abrupt and reset.side is side:
            _abrupt(say, connection, side, reset.packet, reset.number, findings)
        return
    windows.judge_beyond_window(until, connection, side, say, findings)
    windows.judge_window(until, connection, side, say, findings)
    _unacknowledged(say, until, connection, side, findings)


def _unacknowledged(say: Say, until: int, connection: Connection, side: Side, findings: Findings) -> None:
    if side.waiting is None or until - side.waiting < PATIENCE or not connection.known or connection.is_partial:
        return
    other = connection.other(side)
    evidence = f"{(until - side.waiting) / SECOND:.1f} s without progress to the end of the capture"
    if connection.last_at - side.waiting < PATIENCE:
        evidence += ", and neither end sends anything more"
    if _skips(say, until, connection, side, findings):
        return
    suspects = [each.number for each in list(side.sent)[:4]]
    suspects += [each for each in (side.acked_in, side.refused_in, other.refused_in) if each]
    found: object = f"acknowledgment {side.acked}" if side.acked is not None else "none"
    if side.fin is not None and side.acked == (side.fin - 1) & 0xFFFFFFFF:
        evidence = f"acknowledgment {side.acked} in packet {side.acked_in}, expected {side.fin}; {evidence}"
        say(
            "tcp.fin_not_acknowledged", connection, side, side.last, "the FIN is never acknowledged", "3.6", evidence,
            host=other.host, found=found, expected=f"acknowledgment {side.fin}", suspects=suspects, absence=True,
            dropped=False, findings=findings,
        )  # fmt: skip
        return
    expected = f"acknowledgment {side.next}"
    if side.acked == side.first and side.first is not None:  # the SYN itself, and not what follows it
        evidence = f"packet {side.acked_in} acknowledges {side.first}, its own number; {evidence}"
    say(
        "tcp.stalled", connection, side, side.last, f"{side.awaited} is never acknowledged", "3.8.1", evidence,
        host=other.host, found=found, expected=expected, suspects=suspects, absence=True, dropped=False,
        findings=findings,
    )  # fmt: skip


def _skips(say: Say, until: int, connection: Connection, side: Side, findings: Findings) -> bool:
    """Whether an end sends again what is behind a hole in its own numbers, and never what is in the hole."""
    hole = side.holes[0] if side.holes else None
    if hole is None or not side.skipped_in or hole.begin != side.acked:
        return False
    text = "sequence numbers are left out, and what follows them is not taken"
    evidence = (
        f"{hole.begin} to {hole.end} are not in the capture, and {hole.begin} is acknowledged; packet "
        f"{side.skipped_in} repeats or refuses what is behind"
    )
    if side.waiting is not None:
        evidence += f", {(until - side.waiting) / SECOND:.1f} s without progress"
    name = mistakes.number(hole.end, hole.begin, 4)
    say(
        "tcp.sequence_skipped", connection, side, hole.number, mistakes.told(text, name), "3.4", evidence,
        found=hole.end, expected=hole.begin, again=[side.skipped_in], absence=True, findings=findings,
    )  # fmt: skip
    return True
