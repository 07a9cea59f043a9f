"""TCP: connections that are refused or get stuck, and segments that contradict each other (RFC 9293)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.judges import endings, openings
from rawtap.packets.judges.acknowledgments import unseen_notes
from rawtap.packets.judges.flow import COPIED, PATIENCE, Connection, End, Side, distance
from rawtap.packets.judges.segments import Order, Step
from rawtap.packets.lines import endpoints, ip_text, parties
from rawtap.packets.transport import ACK, FIN, RST, SYN, TCP, Quoted, Tcp

_RECENT = 8
_SAMPLE = 120
_TRIES = 8
_SILENCE = 60_000 * MILLISECOND  # after it both numbers may be those of another connection (as Linux's TIME-WAIT)
_FAR = 1 << 20  # bytes


class ConnectionJudge:
    """`requests` are the connections asked for. `passes` tells of a segment whether the capture would hold all others
    of its connection."""

    def __init__(self, findings: Findings, passes: Callable[[bytes, int], bool]) -> None:
        self._findings = findings
        self._passes = passes
        self.requests = Requests("TCP", PATIENCE, "tcp.no_answer", "RFC 9293, 3.5")
        self._connections: OrderedDict[Hashable, Connection] = OrderedDict()
        self._order = Order()
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
        if not _is_copy(packet.at, ip, segment, connection.sides[source]):
            self._judge(packet, segment, connection, source, destination)
            connection.last_at = packet.at

    def _judge(self, packet: Packet, segment: Tcp, connection: Connection, source: End, destination: End) -> None:
        sender, receiver = connection.sides[source], connection.sides[destination]
        if segment.flags & SYN:
            opening = openings.Opening(
                self.say, self._findings, self.requests, packet, segment, connection, source, destination
            )
            if not opening.judge():
                return
        elif receiver.another_first is not None:
            openings.choose(segment, receiver)
        if segment.flags & RST:
            endings.reset(self.say, self._findings, self.requests, packet, segment, connection, source, destination)
        elif not connection.closed:
            pending = self.requests.pending
            if (source, destination) in pending or (destination, source) in pending:
                openings.answered(self._findings, packet, segment, self.requests, connection, source, destination)
            Step(self.say, self._order, packet, segment, connection, sender, receiver).judge()

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol == TCP and quoted.source_port is not None and quoted.destination_port is not None:
            source, destination = (quoted.source, quoted.source_port), (quoted.destination, quoted.destination_port)
            self.requests.refuse((source, destination))

    def say(
        self, what: str, connection: Connection, side: Side, number: int, text: str, rule: str, evidence: str = "",
        *, kind: str = "", host: str = "", found: object = "", expected: object = "", again: Sequence[int] = (),
        count: int = 1, suspects: Sequence[int] = (), absence: bool = False, dropped: bool = True,
        follows: tuple[str, Hashable] | None = None,
        findings: Findings | None = None,
    ) -> None:  # fmt: skip
        """Add a finding on what `side` does, unless the filter hides parts of the connection."""
        if connection.whole is None:
            connection.whole = self._passes(connection.sample, connection.length)
        if not connection.whole:
            connection.hidden = True
            return
        other = connection.other(side).name
        kept = self._findings if findings is None else findings
        kept.add(
            what, (side.name, other, kind), number, f"{side.name} to {other}: {text}", f"RFC 9293, {rule}", evidence,
            host=host or side.host, found=found, expected=expected, again=again, count=max(count, 1 + len(again)),
            suspects=suspects, absence=absence, dropped=dropped, follows=follows,
        )  # fmt: skip

    # ----------------------------------------------------------- connections

    def _connection(self, packet: Packet, ip: Ip, segment: Tcp, source: End, destination: End) -> Connection | None:
        key = (source, destination) if source < destination else (destination, source)
        connection = self._connections.get(key)
        if connection is not None and _is_new(packet.at, connection, source, destination, segment):
            self._finish(packet.at, self._connections.pop(key), self._findings)
            connection = None
        if connection is None:
            if len(self._connections) >= MAX_PENDING and not self._made_room():
                self.passed = True
                return None
            names = self._names(ip, segment)
            sides = {
                source: Side(names[0], ip_text(ip.source)),
                destination: Side(names[1], ip_text(ip.destination)),
            }
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
            if oldest.is_over:
                self._finish(oldest.last_at, oldest, self._findings)
                return True
            self._connections[key] = oldest
        return False

    # ------------------------------------------------------------------- end

    def settle(self, until: int, findings: Findings) -> list[str]:
        for connection in self._connections.values():
            self._finish(until, connection, findings)
        connections = list(self._connections.values())
        hidden = sum(each.hidden for each in connections)
        in_pieces = sum(each.in_pieces for each in connections)
        order = self._order
        notes = {
            f"The filter hides parts of {hidden} TCP connections: their flow is not judged": hidden,
            f"{in_pieces} TCP connections have segments in fragments: their flow is not judged": in_pieces,
            f"{order.count} TCP segments came out of order, and were not sent again: first {order.first}": order.count,
        }
        shown = [each for each in connections if each.whole is not False and not each.in_pieces]
        return [*(text for text, count in notes.items() if count), *unseen_notes(shown)]

    def _finish(self, until: int, connection: Connection, findings: Findings) -> None:
        """What is to be said of a connection in the end."""
        for side in connection.sides.values():
            endings.finish(self.say, until, connection, side, findings)


def _is_new(at: int, connection: Connection, source: End, destination: End, segment: Tcp) -> bool:
    """Whether a segment is of another connection between the same ports."""
    sender, receiver = connection.sides[source], connection.sides[destination]
    if segment.flags & (SYN | ACK) == SYN:
        return _opens_another(connection, sender, segment)
    if segment.flags & RST or not segment.flags & ACK:
        return False
    numbers = ((segment.sequence, sender.next), (segment.acknowledgment, receiver.next))
    is_far = all(known is not None and abs(distance(number, known)) > _FAR for number, known in numbers)
    return is_far and (connection.is_over or at - connection.last_at >= _SILENCE)


def _opens_another(connection: Connection, sender: Side, segment: Tcp) -> bool:
    """Whether a SYN opens another connection, and does not repeat or meet the other end's."""
    if sender.first is not None:
        return sender.first != segment.sequence
    if sender.next == (segment.sequence + 1) & 0xFFFFFFFF and not connection.closed:
        return False  # its answer was captured before it
    return connection.closed or sender.next is not None


def _is_copy(at: int, ip: Ip, segment: Tcp, sender: Side) -> bool:
    """Whether the capture took the same segment twice, such as on a bridge and on its port."""
    sign = (ip.identification, segment.sequence, segment.acknowledgment, segment.flags, segment.size, segment.window)
    copied = any(sign == each and at - when <= COPIED for when, each in sender.recent)
    if segment.size or segment.flags & (SYN | FIN):
        sender.recent.append((at, sign))
        del sender.recent[:-_RECENT]
    return copied and bool(segment.size or segment.flags & (SYN | FIN))
