# cython: annotation_typing=False, nonecheck=True
"""TCP: connections that are refused or get stuck, and segments that contradict each other (RFC 9293)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.judges import endings, openings
from rawtap.packets.judges.acknowledgments import unseen_notes
from rawtap.packets.judges.flow import PATIENCE, Connection, End, Seen, Side, distance, end_of
from rawtap.packets.judges.segments import Order, Step
from rawtap.packets.lines import endpoints, flags_text, ip_text, parties
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
        self._connections: OrderedDict[bytes, Connection] = OrderedDict()
        self._order = Order()
        self._say = self.say
        self.passed = False

    def see(self, packet: Packet) -> None:
        ip, segment = packet.frame.ip, packet.frame.transport
        if ip is not None and isinstance(segment, Tcp) and ip.stated_end == ip.end:
            self._see(packet, ip, segment)

    def _see(self, packet: Packet, ip: Ip, segment: Tcp) -> None:
        data, at = packet.frame.data, segment.offset
        source, destination = ip.source + data[at : at + 2], ip.destination + data[at + 2 : at + 4]
        if source == destination:
            return
        connection = self._connection(packet, ip, segment, source, destination)
        if connection is None:
            return
        if ip.fragment is not None:  # how much it carries is not known, nor what may be acknowledged from here on
            connection.in_pieces = connection.closed = True
            return
        sender = connection.of(source)
        if not _is_copy(packet.at, ip, segment, sender):
            self._judge(packet, segment, connection, sender, connection.other(sender))
            connection.last_at = packet.at

    def _judge(self, packet: Packet, segment: Tcp, connection: Connection, sender: Side, receiver: Side) -> None:
        if segment.flags & (SYN | RST) and segment.flags & ACK and receiver.first is None:
            if openings.exchanged(packet, segment, self.requests, sender, receiver):
                connection.closed = True
                return
        elif not segment.flags & (SYN | RST | ACK) and connection.known:
            self._no_flag(packet, segment, connection, sender)
            return
        if segment.flags & SYN:
            opening = openings.Opening(
                self.say, self._findings, self.requests, packet, segment, connection, sender, receiver
            )
            if not opening.judge():
                return
        elif receiver.another_first is not None:
            openings.choose(segment, receiver)
        if segment.flags & RST:
            endings.reset(self.say, self._findings, self.requests, packet, segment, connection, sender, receiver)
        elif not connection.closed:
            pending = self.requests.pending
            if pending and ((sender.end, receiver.end) in pending or (receiver.end, sender.end) in pending):
                openings.answered(self._findings, packet, segment, self.requests, sender, receiver)
            Step(self._say, self._order, packet, segment, connection, sender, receiver).judge()

    def _no_flag(self, packet: Packet, segment: Tcp, connection: Connection, sender: Side) -> None:
        """Once a connection is open each segment acknowledges; what does not is dropped (RFC 9293, 3.10.7.4)."""
        if not connection.closed:
            sender.refused_in = packet.number
            text = f"a segment without the ACK flag, with {segment.size} bytes of data"
            self.say(
                "tcp.no_ack_flag", connection, sender, packet.number, text, "3.10.7.4",
                found=flags_text(segment.flags), expected="ACK among the flags",
            )  # fmt: skip

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol == TCP and quoted.source_port is not None and quoted.destination_port is not None:
            source = end_of(quoted.source, quoted.source_port)
            self.requests.refuse((source, end_of(quoted.destination, quoted.destination_port)))

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
        key = source + destination if source < destination else destination + source
        connection = self._connections.get(key)
        broken_by = None
        if connection is not None and _is_new(packet.at, connection, source, segment):
            if segment.flags & (SYN | ACK) == SYN:
                broken_by = openings.changed(self._say, packet, segment, connection, connection.of(source))
            self._finish(packet.at, self._connections.pop(key), self._findings)
            connection = None
        if connection is None:
            if len(self._connections) >= MAX_PENDING and not self._made_room():
                self.passed = True
                return None
            names = self._names(ip, segment)
            one, two = Side(source, names[0], ip_text(ip.source)), Side(destination, names[1], ip_text(ip.destination))
            connection = Connection(one, two, packet.frame.data[:_SAMPLE], packet.frame.length)
            connection.broken_by = broken_by
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
        for side in connection.sides:
            endings.finish(self.say, until, connection, side, findings)


def _is_new(at: int, connection: Connection, source: End, segment: Tcp) -> bool:
    """Whether a segment is of another connection between the same ports."""
    sender = connection.of(source)
    receiver = connection.other(sender)
    if segment.flags & (SYN | ACK) == SYN:
        return _opens_another(connection, sender, segment)
    if segment.flags & RST or not segment.flags & ACK:
        return False
    is_far = _is_far(segment.sequence, sender.next) and _is_far(segment.acknowledgment, receiver.next)
    return is_far and (connection.is_over or at - connection.last_at >= _SILENCE)


def _is_far(number: int, known: int | None) -> bool:
    return known is not None and abs(distance(number, known)) > _FAR


def _opens_another(connection: Connection, sender: Side, segment: Tcp) -> bool:
    """Whether a SYN opens another connection, and does not repeat or meet the other end's."""
    if sender.first is not None:
        return sender.first != segment.sequence
    if sender.next == (segment.sequence + 1) & 0xFFFFFFFF and not connection.closed:
        return False  # its answer was captured before it
    return connection.closed or sender.next is not None


def _is_copy(at: int, ip: Ip, segment: Tcp, sender: Side) -> bool:
    """Whether the capture took the same segment twice, such as on a bridge and on its port."""
    if not segment.size and not segment.flags & (SYN | FIN):
        return False
    identification = 0 if ip.identification is None else ip.identification
    seen = Seen(
        at, identification, segment.sequence, segment.acknowledgment, segment.flags, segment.size, segment.window
    )
    copied, recent = False, sender.recent
    for each in recent:
        copied = copied or seen.is_copy_of(each)
    sender.recent = (*recent[1 - _RECENT :], seen)
    return copied
