"""TCP: connections that are refused or get stuck, and segments that contradict each other (RFC 9293)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.judges.segments import PATIENCE, RACE, Connection, End, Side, Step, distance
from rawtap.packets.lines import endpoints, ip_text, parties
from rawtap.packets.transport import ACK, FIN, RST, SYN, TCP, Quoted, Tcp

_COPIED = 2 * MILLISECOND  # the same segment within this is a copy that the capture took at another place
_RECENT = 8
_SAMPLE = 120
_TRIES = 8


class ConnectionJudge:
    """`requests` are the connections asked for. `passes` tells of a segment whether the capture would hold all others
    of its connection."""

    def __init__(self, findings: Findings, passes: Callable[[bytes, int], bool]) -> None:
        self._findings = findings
        self._passes = passes
        self.requests = Requests("TCP", PATIENCE, "tcp.no_answer", "RFC 9293, 3.5")
        self._connections: OrderedDict[Hashable, Connection] = OrderedDict()
        self.passed = False

    def see(self, packet: Packet) -> None:
        ip, segment = packet.frame.ip, packet.frame.transport
        if ip is None or not isinstance(segment, Tcp) or ip.stated_end != ip.end:
            return
        source, destination = (ip.source, segment.source_port), (ip.destination, segment.destination_port)
        if source == destination:
            return
        connection = self._connection(packet, ip, segment, source, destination)
        if connection is None:
            return
        if ip.fragment is not None:  # how much it carries is not known, nor what may be acknowledged from here on
            connection.in_pieces = connection.closed = True
            return
        sender, receiver = connection.sides[source], connection.sides[destination]
        if _is_copy(packet.at, ip, segment, sender):
            return
        if segment.flags & SYN:
            self._opening(packet, segment, connection, source, destination)
        if segment.flags & RST:
            self._reset(packet, segment, connection, source, destination)
        elif not connection.closed:
            Step(self.say, packet, segment, connection, sender, receiver).judge()

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol == TCP and quoted.source_port is not None and quoted.destination_port is not None:
            source, destination = (quoted.source, quoted.source_port), (quoted.destination, quoted.destination_port)
            self.requests.refuse((source, destination))

    def say(
        self, what: str, connection: Connection, side: Side, number: int, text: str, rule: str, evidence: str,
        *, absence: bool = False, findings: Findings | None = None,
    ) -> None:  # fmt: skip
        """Add a finding on what `side` does, unless the filter hides parts of the connection."""
        if connection.whole is None:
            connection.whole = self._passes(connection.sample, connection.length)
        if not connection.whole:
            connection.hidden = True
            return
        other = next(each.name for each in connection.sides.values() if each is not side)
        kept = self._findings if findings is None else findings
        says = f"{side.name} to {other}: {text}"
        kept.add(what, (side.name, other), number, says, f"RFC 9293, {rule}", evidence, absence=absence)

    # ------------------------------------------------------------ beginnings

    def _connection(self, packet: Packet, ip: Ip, segment: Tcp, source: End, destination: End) -> Connection | None:
        key = (source, destination) if source < destination else (destination, source)
        connection = self._connections.get(key)
        opens = segment.flags & (SYN | ACK) == SYN
        if connection is not None and opens and _is_new(connection, source, segment):
            del self._connections[key]
            connection = None
        if connection is None:
            if len(self._connections) >= MAX_PENDING and not self._made_room():
                self.passed = True
                return None
            names = self._names(ip, segment)
            sides = {source: Side(names[0]), destination: Side(names[1])}
            connection = Connection(sides, packet.frame.data[:_SAMPLE], packet.frame.length)
            self._connections[key] = connection
        return connection

    @staticmethod
    def _names(ip: Ip, segment: Tcp) -> tuple[str, str]:
        """Both ends, the client without its port."""
        source, destination = endpoints(ip, segment)
        if not segment.flags & SYN:
            return parties(ip, segment)
        if segment.flags & ACK:
            return source, ip_text(ip.destination)
        return ip_text(ip.source), destination

    def _made_room(self) -> bool:
        """Forget one of the oldest connections that is over; those that are not become the youngest."""
        for _ in range(_TRIES):
            key, oldest = self._connections.popitem(last=False)
            if oldest.closed or all(each.fin is not None for each in oldest.sides.values()):
                return True
            self._connections[key] = oldest
        return False

    def _opening(self, packet: Packet, segment: Tcp, connection: Connection, source: End, destination: End) -> None:
        sender, receiver = connection.sides[source], connection.sides[destination]
        sender.first, sender.scale = segment.sequence, segment.scale
        if segment.flags & ACK:
            if receiver.first is not None:
                self._accepted(packet, segment, connection, source, destination)
            return
        if receiver.first is not None:  # both open at once (RFC 9293, 3.5, figure 7)
            self.requests.answer((destination, source), packet.at)
            return
        says = f"{sender.name} asks {receiver.name} for a connection, and no answer comes"
        self.requests.ask((source, destination), (sender.name, receiver.name), packet, says)

    def _accepted(self, packet: Packet, segment: Tcp, connection: Connection, source: End, destination: End) -> None:
        """A SYN is acknowledged, with the data that it carried or without them (RFC 7413, 4.2)."""
        sender, receiver = connection.sides[source], connection.sides[destination]
        first = receiver.first or 0
        carried = 1 if receiver.next is None else distance(receiver.next, first)
        if 1 <= distance(segment.acknowledgment, first) <= carried:
            self.requests.answer((destination, source), packet.at)
            return
        self.requests.refuse((destination, source))
        evidence = f"acknowledgment {segment.acknowledgment}, expected {(first + 1) & 0xFFFFFFFF}"
        text = "the SYN is acknowledged by another number than its own"
        self.say("tcp.syn_ack_mismatch", connection, sender, packet.number, text, "3.5", evidence)

    def _reset(self, packet: Packet, segment: Tcp, connection: Connection, source: End, destination: End) -> None:
        sender, receiver = connection.sides[source], connection.sides[destination]
        request = self.requests.answer((destination, source), packet.at)
        if request is not None:
            says = f"{sender.name} refuses connections from {request.pair[0]}"
            evidence = f"a SYN in packet {request.numbers[0]}, an RST in packet {packet.number}"
            parties = (sender.name, request.pair[0])
            self._findings.add("tcp.refused", parties, packet.number, says, "RFC 9293, 3.5.2", evidence)
        elif connection.known and not connection.closed and sender.fin is None and receiver.fin is None:
            evidence = f"an RST with sequence number {segment.sequence}, and no FIN before it"
            text = "the connection is reset before either end has closed it"
            self.say("tcp.reset", connection, sender, packet.number, text, "3.5.2", evidence)
        connection.closed = True

    # ------------------------------------------------------------------- end

    def settle(self, until: int, findings: Findings) -> list[str]:
        for connection in self._connections.values():
            if not connection.closed:
                for side in connection.sides.values():
                    self._unfinished(until, connection, side, findings)
        hidden = sum(each.hidden for each in self._connections.values())
        in_pieces = sum(each.in_pieces for each in self._connections.values())
        notes = {
            f"The filter hides parts of {hidden} TCP connections: their flow is not judged": hidden,
            f"{in_pieces} TCP connections have segments in fragments: their flow is not judged": in_pieces,
        }
        return [text for text, count in notes.items() if count]

    def _unfinished(self, until: int, connection: Connection, side: Side, findings: Findings) -> None:
        other = next(each for each in connection.sides.values() if each is not side)
        if side.waiting is not None and until - side.waiting >= PATIENCE and connection.known:
            evidence = f"{(until - side.waiting) / SECOND:.1f} s without progress to the end of the capture"
            text = f"{side.awaited} is never acknowledged"
            self.say(
                "tcp.stalled", connection, side, side.last, text, "3.8.1", evidence, absence=True, findings=findings
            )
        if side.shut is not None and until - side.shut[0] >= PATIENCE and other.fin is None:
            evidence = f"{(until - side.shut[0]) / SECOND:.1f} s to the end of the capture"
            text = "the window stays closed (zero)"
            self.say(
                "tcp.zero_window", connection, side, side.shut[1], text, "3.8.6.1", evidence, absence=True,
                findings=findings,
            )  # fmt: skip
        if side.beyond is not None and until - side.beyond[1] > RACE:
            number, _, packet = side.beyond
            evidence = f"acknowledgment {number}, but {side.next} was the next to be sent"
            text = "data is acknowledged that was never sent"
            self.say(
                "tcp.ack_beyond", connection, other, packet, text, "3.10.7.4", evidence, absence=True, findings=findings
            )
        if side.over is not None and until - side.over[1] > RACE:
            number, _, packet = side.over
            self.say(
                "tcp.outside_window", connection, side, packet, "data beyond the window", "3.10.7.4",
                f"up to {number}, but the window ends at {other.edge}", absence=True, findings=findings,
            )  # fmt: skip


def _is_new(connection: Connection, source: End, segment: Tcp) -> bool:
    """Whether a SYN opens another connection between the same ports, and does not repeat or meet the other end's."""
    sender = connection.sides[source]
    if sender.first is not None:
        return sender.first != segment.sequence
    if sender.next == (segment.sequence + 1) & 0xFFFFFFFF and not connection.closed:
        return False  # its answer was captured before it
    return connection.closed or sender.next is not None


def _is_copy(at: int, ip: Ip, segment: Tcp, sender: Side) -> bool:
    """Whether the capture took the same segment twice, such as on a bridge and on its port."""
    sign = (ip.identification, segment.sequence, segment.acknowledgment, segment.flags, segment.size, segment.window)
    copied = any(sign == each and at - when <= _COPIED for when, each in sender.recent)
    if segment.size or segment.flags & (SYN | FIN):
        sender.recent.append((at, sign))
        del sender.recent[:-_RECENT]
    return copied and bool(segment.size or segment.flags & (SYN | FIN))
