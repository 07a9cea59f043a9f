# cython: annotation_typing=False, nonecheck=True
"""How TCP connections begin: a SYN, and what answers it (RFC 9293, 3.5)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from rawtap.packets import mistakes
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import SECOND, Findings, Packet
from rawtap.packets.judges.flow import Connection, Say, Side, distance
from rawtap.packets.transport import ACK, SYN, Tcp

_RULE = "3.5"
_AGAIN = 4 * SECOND  # no application gives up so soon, and tries again with the same port
_NUMBERS = 0xFFFFFFFF  # the greatest sequence number
_SMALLEST = 28  # bytes of a segment in the smallest packet that every link carries (RFC 791, 3.2: 68 bytes)
_LARGEST = 9200  # of a frame on Ethernet
_USUAL = {536, 1220, 1440, 1460}  # of IPv4 and IPv6 by themselves, and on Ethernet


@dataclass
class Opening:
    """A segment with a SYN."""

    say: Say
    findings: Findings
    requests: Requests
    packet: Packet
    segment: Tcp
    connection: Connection
    sender: Side
    receiver: Side

    def judge(self) -> bool:
        """Note it; whether it is to be judged further, as part of the connection."""
        segment, connection, packet = self.segment, self.connection, self.packet
        sender, receiver = self.sender, self.receiver
        if segment.flags & ACK and sender.first is not None and sender.first != segment.sequence:
            self._another(sender)
            return False
        sender.first, sender.scale, sender.opened_in = segment.sequence, segment.scale, packet.number
        sender.mss = segment.mss or sender.mss
        if segment.mss is not None:
            self._largest(sender, segment.mss)
        if segment.flags & ACK:
            if receiver.first is not None:
                self._accepted(sender, receiver)
            return True
        connection.asked, connection.asker = packet.at, sender
        if receiver.first is not None:  # both open at once (RFC 9293, 3.5, figure 7)
            self.requests.answer((receiver.end, sender.end), packet.at)
            return True
        says = f"{sender.name} asks {receiver.name} for a connection, and no answer comes"
        self.requests.ask((sender.end, receiver.end), (sender.name, receiver.name), packet, says)
        return True

    def _largest(self, sender: Side, mss: int) -> None:
        """A largest segment that none can be."""
        swapped = mistakes.swapped(mss)
        is_swapped = mss > _LARGEST and swapped in _USUAL
        if mss < _SMALLEST or is_swapped:
            name = f": {mistakes.SWAPPED}" if is_swapped else ""
            self.say(
                "tcp.mss", self.connection, sender, self.packet.number, f"names a largest segment of {mss} bytes{name}",
                "3.7.1", found=mss, expected=swapped if is_swapped else f"{_SMALLEST} at least", dropped=not is_swapped,
            )  # fmt: skip

    def _another(self, sender: Side) -> None:
        """A second SYN+ACK begins elsewhere: the other end goes by the one that it takes."""
        sender.another_first, sender.another_in = self.segment.sequence, self.packet.number
        text = "a second SYN+ACK has another initial sequence number"
        self.say(
            "tcp.second_syn_ack", self.connection, sender, self.packet.number, text, "3.10.7.4",
            found=self.segment.sequence, expected=sender.first,
        )  # fmt: skip

    def _accepted(self, sender: Side, receiver: Side) -> None:
        """A SYN is acknowledged, with the data that it carried or without them (RFC 7413, 4.2)."""
        first = receiver.first or 0
        carried = 1 if receiver.next is None else distance(receiver.next, first)
        number = self.segment.acknowledgment
        if 1 <= distance(number, first) <= carried:
            self.requests.heard((receiver.end, sender.end), self.packet, self.findings)
            return
        self.requests.refuse((receiver.end, sender.end))
        self.connection.broken_by = ("tcp.syn_ack_mismatch", (sender.name, receiver.name, ""))
        expected = (first + 1) & 0xFFFFFFFF
        self.say(
            "tcp.syn_ack_mismatch", self.connection, sender, self.packet.number,
            f"the SYN is acknowledged by another number than its own{near(number, expected)}", _RULE,
            f"acknowledgment {number}, expected {expected}", found=number, expected=expected,
        )  # fmt: skip


def exchanged(packet: Packet, segment: Tcp, requests: Requests, sender: Side, receiver: Side) -> bool:
    """Whether a SYN+ACK or an RST bears the ports of the SYN that it answers as they were, not exchanged."""
    pending = (receiver.end[:-2] + sender.end[-2:], sender.end[:-2] + receiver.end[-2:])
    request = requests.pending.get(pending)
    if request is None or segment.acknowledgment == 0:
        return False
    ports = [int.from_bytes(each.end[-2:], "big") for each in (sender, receiver)]
    asker, asked = request.pair
    says = f"{asked} answers {asker} with the ports of the question, not exchanged"
    requests.mistaken(
        pending,
        lambda findings: findings.add(
            "tcp.ports", request.pair, packet.number, says, "RFC 9293, 3.5", host=sender.host,
            found=f"from {ports[0]} to {ports[1]}", expected=f"from {ports[1]} to {ports[0]}",
        ),
    )  # fmt: skip
    return True


def changed(
    say: Say, packet: Packet, segment: Tcp, connection: Connection, sender: Side
) -> tuple[str, Hashable] | None:  # fmt: skip
    """Say that a SYN is sent again with another number, if that is so: what answers the first is none of the second.

    Returns the finding, by its code and parties.
    """
    asked = connection.asked
    if asked is None or connection.asker is not sender or connection.is_over or packet.at - asked > _AGAIN:
        return None
    receiver, first = connection.other(sender), sender.first
    if first is None or sender.next != (first + 1) & _NUMBERS or receiver.acked is not None:
        return None
    connection.closed = True
    text = "asks again with another initial sequence number, before the first SYN had its time"
    say(
        "tcp.syn_changed", connection, sender, packet.number, text, "3.4.1 and 3.8.1",
        f"packet {sender.opened_in} asks with {first}, {(packet.at - asked) / SECOND:.1f} s before",
        found=segment.sequence, expected=first,
    )  # fmt: skip
    return ("tcp.syn_changed", (sender.name, receiver.name, ""))


def near(found: int, expected: int) -> str:
    """The mistake that makes a sequence number of what should be `expected`, as words behind a colon."""
    if distance(found, expected) == -1:
        return ": it is one too low, the SYN counts as one (RFC 9293, 3.4)"
    text = mistakes.number(found, expected, 4)
    return f": {text}" if text else ""


def shook(packet: Packet, segment: Tcp, connection: Connection, sender: Side, receiver: Side) -> None:
    """Take the handshake's time with the segment that ends it."""
    if connection.round_trip is None and connection.asked is not None and receiver.first is not None:
        ends = segment.acknowledgment == (receiver.first + 1) & _NUMBERS
        if ends and sender.first is not None and not segment.flags & SYN:
            connection.round_trip = packet.at - connection.asked


def answered(
    findings: Findings, packet: Packet, segment: Tcp, requests: Requests, mine: Side, theirs: Side
) -> None:  # fmt: skip
    """A SYN was answered where what follows the answer is in the capture, or where its sender has taken the answer."""
    number = segment.acknowledgment
    if not segment.flags & ACK or theirs.first is None or distance(number, theirs.first) < 1:
        return
    if (mine.end, theirs.end) in requests.pending and mine.first is not None:
        requests.answer((mine.end, theirs.end), packet.at)
    elif theirs.next is not None and distance(number, theirs.next) <= 0:
        requests.heard((theirs.end, mine.end), packet, findings)


def choose(segment: Tcp, sender: Side) -> None:
    """Of two initial numbers of `sender` take the second, if that is what the other end acknowledges."""
    another = sender.another_first
    if another is None or not segment.flags & ACK or segment.acknowledgment != (another + 1) & 0xFFFFFFFF:
        return
    sender.another_first, sender.another_in = None, 0
    sender.first, sender.next, sender.acked = another, (another + 1) & 0xFFFFFFFF, None
    sender.holes = ()
    sender.sent.clear()
