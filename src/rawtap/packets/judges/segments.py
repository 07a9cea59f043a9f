# cython: annotation_typing=False, nonecheck=True
"""One TCP segment on its way, and what it tells of both ends of its connection (RFC 9293)."""

from __future__ import annotations

from dataclasses import dataclass

from rawtap.packets import mistakes
from rawtap.packets.findings import MILLISECOND, SECOND, Packet
from rawtap.packets.judges import acknowledgments, openings, windows
from rawtap.packets.judges.flow import COPIED, MSS, PATIENCE, RACE, Ahead, Connection, Gap, Say, Sent, Side, distance
from rawtap.packets.transport import ACK, FIN, SYN, Tcp

_REORDERED = 3 * MILLISECOND  # a segment this late has been overtaken, where the connection's round trip is not known
_ROUND_TRIP = 200 * MILLISECOND  # where it is not known
_HOLES = 64
_MOST = 0xFFFFFFFF  # the greatest sequence number
_FAR = 1 << 16  # bytes; only what is this far off may be another writing of the right number
_FAST = 3  # duplicate acknowledgments (RFC 5681, 3.2)


@dataclass
class Order:
    """Segments that came out of order, over all connections: how many, and what is known of the first."""

    count: int = 0
    first: str = ""

    def add(self, says: str) -> None:
        self.first = self.first or says
        self.count += 1


@dataclass
class Step:
    """One segment on its way, and what it tells of both ends."""

    say: Say
    order: Order
    packet: Packet
    segment: Tcp
    connection: Connection
    sender: Side
    receiver: Side

    def judge(self) -> None:
        segment, sender = self.segment, self.sender
        size = segment.size + (segment.flags & SYN > 0) + (segment.flags & FIN > 0)
        for side in (sender, self.receiver):
            if side.over is not None and windows.judge_beyond_window(
                self.packet.at, self.connection, side, self.say, None
            ):
                side.over = None
        self._after_reset(size)
        acknowledgments.spoken(self.packet, segment, sender)
        if size and not windows.is_probe(self.packet, segment, sender, self.receiver):
            self._data(segment.sequence, size)
        elif not size:
            windows.is_probe(self.packet, segment, sender, self.receiver)
            sender.next = segment.sequence if sender.next is None else sender.next
        if segment.flags & ACK:
            openings.shook(self.packet, segment, self.connection, sender, self.receiver)
            self._waited(segment.acknowledgment)
            acknowledgments.acknowledged(self.packet, segment, sender, self.receiver)
            windows.allowed(self.packet, segment, self.connection, sender, self.receiver, self.say)

    # ------------------------------------------------------------------ data

    def _data(self, begin: int, size: int) -> None:
        sender, packet, segment = self.sender, self.packet, self.segment
        end = (begin + size) & _MOST
        if sender.next is None:
            sender.next, sender.spoke = begin, True
        ahead = distance(begin, sender.next)
        if (ahead > _FAR or ahead < -_FAR) and self.connection.known and self._is_misread(begin, sender.next):
            return
        if ahead < 0:
            again = self._without_syn if ahead == -1 and begin == sender.first and size > 1 else self._again
            again(begin, size)
        elif ahead > 0 and len(sender.holes) < _HOLES and sender.spoke:
            sender.holes += (Gap(sender.next, begin, packet.at, packet.number),)
        sender.spoke = True
        if distance(end, sender.next) > 0:
            sender.sent.append(Sent(begin, end, packet.number, segment.flags, packet.at))
            sender.next = end
            acked = sender.acked is not None and distance(end, sender.acked) <= 0
            # A SYN alone is counted with the requests.
            asks = segment.flags & (SYN | ACK) == SYN
            if sender.waiting is None and self.receiver.window != 0 and not acked and not asks:
                sender.waiting = packet.at
        sender.last = packet.number
        self._after_fin(begin, end)
        windows.beyond_window(packet, segment, end, self.connection, sender)

    def _again(self, begin: int, size: int) -> None:
        """A segment that starts before what was sent last."""
        sender, packet = self.sender, self.packet
        if self.segment.flags & SYN:
            return  # counted with the requests
        end = (begin + size) & 0xFFFFFFFF
        original = sender.sent_in(begin)
        if original is not None and self._is_no_repetition(original, begin, end):
            return
        hole = next(
            (each for each in sender.holes if distance(begin, each.begin) >= 0 > distance(begin, each.end)), None
        )
        if self._came_late(hole, begin, end) or self._is_disowned(end):
            return
        if sender.acked is not None and distance(end, sender.acked) <= 0:
            kind, text = "acknowledged", "data is sent again that was acknowledged"
            evidence, host = f"packet {sender.acked_in} acknowledges {sender.acked}", sender.host
        elif hole is not None:
            kind, text, host = "unseen", "data is sent again", sender.host
            evidence = f"what is sent again did not come this far before (a hole since packet {hole.number})"
        else:
            kind, text, host = "", "data is sent again", self.receiver.host
            evidence = f"{sender.next} was the next to be sent, and {sender.acked} is acknowledged"
        if sender.duplicates >= _FAST:
            kind += " fast"
            text += " after duplicate acknowledgments (fast retransmission)"
            evidence += f"; {sender.duplicates} duplicate acknowledgments of {sender.acked} came before (RFC 5681, 3.2)"
        follows = None
        if self._is_behind_a_hole(begin):
            follows = ("tcp.sequence_skipped", (sender.name, self.receiver.name, ""))
        elif self._is_fin:
            follows = ("tcp.fin_not_acknowledged", (sender.name, self.receiver.name, ""))
        if self._is_fin:
            text, kind = text.replace("data is", "a FIN is"), f"{kind} fin"
        self.say(
            "tcp.retransmission", self.connection, sender, packet.number, text, "3.8.1",
            f"sequence number {begin}, {size} bytes: {evidence}", kind=kind, host=host, dropped=False, follows=follows,
            found=f"sequence number {begin}", expected=f"sequence number {sender.next}",
            suspects=self._suspects(original),
        )  # fmt: skip

    @property
    def _is_fin(self) -> bool:
        """Whether it is a FIN alone."""
        return bool(self.segment.flags & FIN) and not self.segment.size

    def _suspects(self, original: Sent | None) -> list[int]:
        """Packets that explain why something is sent again, if something is wrong with them."""
        reset = self.connection.reset
        ignored = reset.packet if reset and reset.ignored else 0
        sender, receiver = self.sender, self.receiver
        found = (
            original.number if original else 0, sender.acked_in, receiver.another_in, ignored, sender.refused_in,
            receiver.refused_in,
        )  # fmt: skip
        return [each for each in found if each]

    def _is_disowned(self, end: int) -> bool:
        """Whether it is sent again though more than all that was sent is acknowledged: that was not believed."""
        sender, beyond = self.sender, self.sender.beyond
        if beyond is None or sender.acked != beyond.number or sender.unseen or not self.connection.known:
            return False
        if sender.next is None or distance(end, sender.next) > 0:
            return False
        own = Ahead(sender.next, self.packet.at, self.packet.number)
        sender.disowned = sender.disowned or (beyond, own)
        return True

    def _is_behind_a_hole(self, begin: int) -> bool:
        """Whether what is sent again is not what the other end waits for, which was not sent yet."""
        sender = self.sender
        hole = sender.holes[0] if sender.holes else None
        if hole is None or hole.begin != sender.acked or distance(begin, hole.end) < 0:
            return False
        sender.skipped_in = sender.skipped_in or self.packet.number
        return True

    def _is_misread(self, begin: int, expected: int) -> bool:
        """Whether a sequence number that is far off is the right one, written in another way."""
        name = mistakes.number(begin, expected, 4)
        if name:
            self.sender.refused_in = self.packet.number
            self.say(
                "tcp.sequence", self.connection, self.sender, self.packet.number,
                f"the sequence number is not the next one: {name}", "3.4", found=begin, expected=expected,
            )  # fmt: skip
        return bool(name)

    def _came_late(self, hole: Gap | None, begin: int, end: int) -> bool:
        """Whether it was sent once, and overtaken on its way or captured behind its acknowledgment."""
        if hole is None:
            return self._fills_unseen(begin, end)
        self._fill(hole, begin, end)
        return self._is_overtaken(hole)

    def _without_syn(self, begin: int, size: int) -> None:
        """Data that begin with the number of the SYN."""
        expected = (begin + 1) & 0xFFFFFFFF
        text = "data begin with the number of the SYN: it is one too low, the SYN counts as one"
        self.say(
            "tcp.data_at_syn", self.connection, self.sender, self.packet.number, text, "3.4",
            f"{size} bytes from sequence number {begin}, expected {expected}", found=begin, expected=expected,
        )  # fmt: skip

    def _is_no_repetition(self, original: Sent, begin: int, end: int) -> bool:
        """Whether it is one of the pieces into which a card has cut what was captured before it did, or goes on with
        the byte that probed a closed window."""
        is_piece = distance(original.end, original.begin) > MSS and distance(end, original.end) <= 0
        is_piece = is_piece and (begin, end) != (original.begin, original.end)
        goes_on = distance(original.end, original.begin) == 1 and distance(end, original.end) > 0
        return (is_piece and self.packet.at - original.at <= COPIED) or (goes_on and self.sender.probes is not None)

    def _is_overtaken(self, hole: Gap) -> bool:
        """Whether what fills a hole was overtaken on its way: what is lost can't be told and sent again in less than
        the connection's round trip."""
        late, round_trip = self.packet.at - hole.at, self.connection.round_trip
        if late > max(round_trip or 0, _REORDERED) or self.sender.duplicates >= _FAST:
            return False
        shook = f", the handshake took {round_trip / MILLISECOND:.1f} ms" if round_trip is not None else ""
        self.order.add(
            f"packet {self.packet.number}, {late / MILLISECOND:.1f} ms after the one that overtook it"
            f" (packet {hole.number}){shook}"
        )
        return True

    def _fills_unseen(self, begin: int, end: int) -> bool:
        """Whether a segment was captured a little later than its acknowledgment."""
        sender = self.sender
        for gap in sender.unseen:
            covers = distance(begin, gap.begin) <= 0 <= distance(end, gap.end)
            if covers and self.packet.at - gap.at <= RACE:
                sender.unseen = tuple(each for each in sender.unseen if each is not gap)
                sender.unseen_bytes -= distance(gap.end, gap.begin)
                return True
        return False

    def _fill(self, hole: Gap, begin: int, end: int) -> None:
        left = [each for each in self.sender.holes if each is not hole]
        if distance(begin, hole.begin) > 0:
            left.append(hole._replace(end=begin))
        if distance(hole.end, end) > 0:
            left.append(hole._replace(begin=end))
        self.sender.holes = tuple(left)

    # --------------------------------------------------------------- endings

    def _after_fin(self, begin: int, end: int) -> None:
        sender = self.sender
        if sender.fin is None:
            if self.segment.flags & FIN:
                sender.fin = end
            return
        if distance(end, sender.fin) <= 0:
            return
        last = (sender.fin - 1) & 0xFFFFFFFF
        is_empty = self.segment.size == 0
        code, text = ("tcp.second_fin", "a second FIN") if is_empty else ("tcp.data_after_fin", "data after the FIN")
        evidence = f"sequence number {begin} to {end}, but the FIN was {last}"
        self.say(
            code, self.connection, sender, self.packet.number, text, "3.6", evidence, found=begin,
            expected=last if is_empty else "no data",
        )  # fmt: skip

    def _after_reset(self, size: int) -> None:
        """Whoever goes on after a reset has not heeded it."""
        reset = self.connection.reset
        if reset is None or reset.ignored or not size or reset.side is self.sender:
            return
        on_its_way = max(self.connection.round_trip or _ROUND_TRIP, RACE)
        if self.packet.at - reset.at <= on_its_way:
            return
        reset.ignored = True
        text = "a reset is outside the window, and the other end goes on"
        evidence = (
            f"sequence number {reset.number}, but from {reset.low} on it was acceptable (RFC 5961, 3.2); "
            f"{self.sender.name} sends on in packet {self.packet.number}"
        )
        self.say(
            "tcp.rst_outside_window", self.connection, reset.side, reset.packet, text, "3.10.7.4", evidence,
            found=reset.number, expected=reset.low, again=[self.packet.number],
        )  # fmt: skip

    def _waited(self, number: int) -> None:
        """Progress that came late."""
        other, packet = self.receiver, self.packet
        if other.waiting is None or (other.acked is not None and distance(number, other.acked) <= 0):
            return
        waited = packet.at - other.waiting
        if waited >= PATIENCE and self.connection.known and not self.connection.is_partial:
            evidence = f"{waited / SECOND:.1f} s without progress before packet {packet.number}"
            text = f"{other.awaited} waits for its acknowledgment"
            self.say(
                "tcp.stalled", self.connection, other, other.last or packet.number, text, "3.8.1", evidence,
                host=self.sender.host, found=f"{waited / SECOND:.1f} s", expected="less than 1 s", dropped=False,
                suspects=[*(each.number for each in list(other.sent)[:4]), self.sender.another_in],
            )  # fmt: skip
