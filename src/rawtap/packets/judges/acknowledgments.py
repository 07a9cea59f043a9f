# cython: annotation_typing=False, nonecheck=True
"""TCP acknowledgments: of what was sent, of what was not captured, and of what falls on no segment's end."""

from __future__ import annotations

from rawtap.packets.findings import Findings, Packet
from rawtap.packets.judges.flow import MSS, PATIENCE, RACE, Ahead, Connection, Gap, Say, Sent, Side, distance
from rawtap.packets.transport import ACK, FIN, SYN, Tcp

_TWICE = 2
_MOST = 0xFFFFFFFF  # the greatest sequence number
_WINDOW = 1 << 30  # bytes; none is larger (RFC 7323, 2.3), and what is further on is of nothing that is seen here


def acknowledged(packet: Packet, segment: Tcp, acker: Side, sender: Side) -> None:
    """`acker` acknowledges what `sender` has sent."""
    number, at = segment.acknowledgment, packet.at
    if sender.next is None:
        sender.next = number
    advance = None if sender.acked is None else distance(number, sender.acked)
    if advance is not None and advance < 0:
        return  # an old one, that was overtaken
    ahead = distance(number, sender.next)
    if 0 < ahead < _WINDOW:
        if sender.beyond is None or distance(number, sender.beyond.number) > 0:
            sender.beyond = Ahead(number, at, packet.number, (segment.sequence + segment.size) & _MOST)
    else:
        _placed(packet, number, acker, sender)
    if advance == 0:
        is_bare = segment.size == 0 and not segment.flags & (SYN | FIN) and segment.window == acker.window
        sender.duplicates += is_bare and sender.next != number
        return
    sender.acked, sender.acked_in, sender.duplicates = number, packet.number, 0
    sender.waiting = at if distance(sender.next, number) > 0 else None
    if sender.holes:
        _passed(packet, number, sender)


def _placed(packet: Packet, number: int, acker: Side, sender: Side) -> None:
    """Where among the segments the number falls; what is acknowledged is forgotten."""
    last: Sent | None = None
    sent = sender.sent
    while sent:
        first = sent[0]
        if distance(first.end, number) > 0:
            break
        last = sent.popleft()
    if last is not None and last.end == number:
        sender.on_end += not last.flags & SYN
    elif sent:
        first = sent[0]
        if distance(number, first.begin) > 0 and _is_odd(number, first, acker):
            sender.was_off(distance(number, first.end), packet.number)


def _is_odd(number: int, segment: Sent, acker: Side) -> bool:
    """Whether there is no reason to acknowledge a part of a segment. A window that takes no more of it is one, and that
    a card has still to cut it; a SYN may be taken without its data, and data without the FIN."""
    size = distance(segment.end, segment.begin)
    by_fin = bool(segment.flags & FIN) and distance(segment.end, number) == 1
    return size <= acker.mss and size <= MSS and not segment.flags & SYN and not by_fin and number != acker.edge


def _passed(packet: Packet, number: int, sender: Side) -> None:
    """What is acknowledged has come some way: what filled a hole was not seen here."""
    left: list[Gap] = []
    for hole in sender.holes:
        if distance(number, hole.begin) <= 0:
            left.append(hole)
            continue
        end = number if distance(hole.end, number) > 0 else hole.end
        sender.was_unseen(Gap(hole.begin, end, packet.at, packet.number))
        if end != hole.end:
            left.append(hole._replace(begin=end))
    sender.holes = tuple(left)


def spoken(packet: Packet, segment: Tcp, sender: Side) -> None:
    """`sender` sends something after the other end acknowledged more than was seen of it: its own sequence number tells
    whether that was sent and not captured. It is to be called before `next` moves on."""
    beyond, next_ = sender.beyond, sender.next
    if beyond is None or next_ is None:
        return
    ahead, size = distance(segment.sequence, next_), segment.size + (segment.flags & FIN > 0)
    if ahead > 0:  # sent and not captured, all of it or up to where this one begins
        end = beyond.number if distance(segment.sequence, beyond.number) > 0 else segment.sequence
        sender.was_unseen(Gap(next_, end, beyond.at, beyond.packet))
        sender.next, sender.beyond = end, None
    elif ahead == 0 and distance(next_ + size, beyond.number) == 0:
        sender.beyond = None  # captured in another order than they were sent
        sender.on_end += 1
    elif ahead == 0 and (packet.at - beyond.at > RACE or _is_later(segment, beyond)):
        sender.beyond = None
        sender.was_off(distance(beyond.number, next_), beyond.packet)
        if size == 0:  # a mere acknowledgment bears the next number (RFC 9293, 3.4)
            sender.disowned = sender.disowned or (beyond, Ahead(next_, packet.at, packet.number))


def _is_later(segment: Tcp, beyond: Ahead) -> bool:
    """Whether a segment was sent after something came that the other end sent after its acknowledgment."""
    return bool(segment.flags & ACK) and distance(segment.acknowledgment, beyond.then) > 0


def judge_acknowledgments(until: int, connection: Connection, sender: Side, say: Say, findings: Findings) -> None:
    """What the acknowledgments of `sender`'s data come to by the end."""
    acker = connection.other(sender)
    by, numbers = _constant(until, connection, sender)
    if by:
        text = f"acknowledgments never fall on the end of a segment: they are {abs(by)} byte"
        text += ("" if abs(by) == 1 else "s") + (" short" if by < 0 else " too far")
        say(
            "tcp.ack_off", connection, acker, numbers[0], text, "3.10.7.4",
            f"{len(numbers)} acknowledgments are off by {by}, and none of data is right", kind=str(by), found=f"{by:+}",
            expected="0", again=numbers[1:], count=len(numbers), findings=findings,
        )  # fmt: skip
    elif sender.disowned and connection.known:
        beyond, own = sender.disowned
        evidence = f"acknowledgment {beyond.number}, but {own.number} is still its next in packet {own.packet}"
        text = "data is acknowledged that was never sent"
        say(
            "tcp.ack_beyond", connection, acker, beyond.packet, text, "3.10.7.4", evidence, found=beyond.number,
            expected=f"{own.number} at most", again=[own.packet], findings=findings,
        )  # fmt: skip


def _constant(until: int, connection: Connection, sender: Side) -> tuple[int, list[int]]:
    """By how much all acknowledgments are off, with their packets; 0 if they are not."""
    if sender.on_end or len(sender.off) != 1 or not connection.known or sender.unseen:
        return 0, []
    ((by, numbers),) = sender.off.items()
    repeated = len(numbers) >= _TWICE
    stays = by < 0 and sender.waiting is not None and until - sender.waiting >= PATIENCE
    return (by, numbers) if repeated or stays else (0, [])


def unseen_notes(connections: list[Connection]) -> list[str]:
    """What was sent, by what the other end acknowledged, and is not in the capture."""
    told = []
    for connection in connections:
        parts = [(side, *_unseen(side)) for side in connection.sides]
        parts = [each for each in parts if each[1]]
        if parts:
            both = "both directions: " if len(parts) > 1 else ""
            told.append(
                (sum(size for _, size, _ in parts), both + "; ".join(_part(connection, *each) for each in parts))
            )
    told.sort(key=lambda each: -each[0])
    shown = [f"Acknowledged and not in the capture, {text}" for _, text in told[:3]]
    rest = len(told) - len(shown)
    return [*shown, f"Parts of {rest} further TCP connections are not in the capture"] if rest else shown


def _unseen(side: Side) -> tuple[int, list[Gap]]:
    """Bytes that are not in the capture, and the first gaps."""
    gaps, size = list(side.unseen), side.unseen_bytes
    if side.beyond is not None and side.next is not None:
        last = Gap(side.next, side.beyond.number, side.beyond.at, side.beyond.packet)
        return size + distance(last.end, last.begin), [*gaps, last]
    return size, gaps


def _part(connection: Connection, side: Side, size: int, gaps: list[Gap]) -> str:
    where = ", ".join(f"{each.begin} to {each.end} (packet {each.number})" for each in gaps[:2])
    more = " and more" if len(gaps) > 2 else ""  # noqa: PLR2004 - as many as are told
    return f"{size} bytes of {side.name} to {connection.other(side).name}: {where}{more}"
