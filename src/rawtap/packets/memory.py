"""What the packets before one tell of it: that it was sent before, and which conversation it belongs to. Pure.

A line is made of one packet alone. Some things cannot be seen in it: that a segment is a retransmission, or the end of
a message that began in another; what a datagram is whose protocol has no port and no mark of its own, as TFTP's data
(RFC 1350, 4) and QUIC's packets behind the handshake (RFC 9000, 17.3); and what was announced elsewhere. So the packets
before a page are looked at as well, some hundreds of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rawtap.packets import says, tftp
from rawtap.packets.announced import Announced
from rawtap.packets.courses import Courses
from rawtap.packets.headers import Frame, Ip, innermost, parse
from rawtap.packets.says import datagrams
from rawtap.packets.transport import ACK, FIN, SYN, Named, Tcp, Udp

MOST = 1000  # packets that are remembered
_FLAGS = SYN | FIN

_End = tuple[bytes, int]
_Way = tuple[int, _End, _End]  # the interface, who sends, who gets
_Segment = tuple[int, int, int]  # the sequence number, bytes, flags


def _is_wireguard(payload: bytes) -> bool:
    return payload.startswith(b"\x04\0\0\0")


def _is_any(_: bytes) -> bool:
    return True


# What goes on in packets without a mark, once there was one with it.
_GO_ON: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    "QUIC": ("protected", _is_any), "GQUIC": ("", _is_any), "WireGuard": ("data", _is_wireguard),
    "RakNet": ("", _is_any),
}  # fmt: skip
_WHOLE = {"VNC", "BitTorrent"}  # connections that are of one protocol from their first messages to their last


class Memory:
    """Knows the packets of one place that it was given, in their order."""

    def __init__(self) -> None:
        self._later: deque[tuple[int, bytes, int, int, int]] = deque(maxlen=MOST)  # not looked at yet
        self._sent: dict[_Way, dict[_Segment, tuple[int, bytes]]] = {}
        self._named: dict[tuple[_End, _End], str] = {}
        self._transfers: set[_End] = set()  # who asked for a file by TFTP
        self._whole: dict[tuple[_End, _End], str] = {}
        self._courses = Courses()
        self._announced = Announced()

    def add(self, number: int, data: bytes, length: int, link_type: int, interface: int) -> None:
        """A packet that is not shown; it is looked at if one that is has something to learn of it."""
        self._later.append((number, data, length, link_type, interface))

    def mark(self, number: int, frame: Frame, interface: int) -> str:
        """Name the datagram in a frame that is shown by its conversation, and say what it repeats."""
        last = innermost(frame)
        ip = last.ip
        if ip is None or ip.fragment is not None or not isinstance(last.transport, (Tcp, Udp)):
            return ""
        while self._later:
            before, data, length, link_type, place = self._later.popleft()
            self._look(before, innermost(parse(data, length, link_type)), place)
        return self._look(number, last, interface)

    def _look(self, number: int, frame: Frame, interface: int) -> str:
        ip, header = frame.ip, frame.transport
        if ip is None or ip.fragment is not None:
            return ""
        if isinstance(header, Tcp):
            mark = self._segment(number, frame.data, ip, header, interface)
            if not mark and (header.size or header.flags & _FLAGS):
                self._course(number, frame, ip, header, interface)
            return mark
        if isinstance(header, Udp) and header.payload < min(header.end, len(frame.data)):
            self._datagram(frame, ip, header)
        return ""

    def _segment(self, number: int, data: bytes, ip: Ip, header: Tcp, interface: int) -> str:
        """Remember a segment that takes room in the sequence, and say of which it is the same."""
        flags = header.flags & _FLAGS
        if header.size < 2 and not flags:  # noqa: PLR2004 - one byte may be a keepalive's (RFC 9293, 3.8.4)
            return ""
        source, destination = (ip.source, header.source_port), (ip.destination, header.destination_port)
        way, segment = (interface, source, destination), (header.sequence, header.size, flags)
        sent = self._sent.setdefault(way, {})
        first, packet = sent.get(segment, (0, b""))
        if not first and header.flags & (SYN | ACK) == SYN:  # a new connection
            sent.clear()
            self._sent.pop((interface, destination, source), None)
        if not first:
            sent[segment] = number, data[ip.offset : ip.end]
            return ""
        is_copy = bool(ip.identification) and packet == data[ip.offset : ip.end]
        return f", the same packet as #{first}" if is_copy else f", retransmission of #{first}"

    def _course(self, number: int, frame: Frame, ip: Ip, header: Tcp, interface: int) -> None:
        """Name a segment by the message that it ends, if it says nothing itself."""
        source, destination = (ip.source, header.source_port), (ip.destination, header.destination_port)
        pair = (source, destination) if source < destination else (destination, source)
        payload, said = frame.data[header.payload : header.end], says.said(frame)
        if said is not None and said[0] == "TCP":  # its port says what it may be, and a conversation knows
            said = None
        named = self._courses.look(number, header, payload, (interface, source, destination), said)
        if header.flags & SYN:
            self._whole.pop(pair, None)
        if said is None and payload:
            whole = self._whole.get(pair)
            named = named or self._announced.named(source, destination, payload)
            named = named or (Named(whole, "") if whole else None)
        elif said is not None:
            self._announced.hear(said[0], payload, ip.source)
            if said[0] in _WHOLE:
                self._whole[pair] = said[0]
            named = Named(*said)
        frame.named = frame.named or named

    def _datagram(self, frame: Frame, ip: Ip, header: Udp) -> None:
        source, destination = (ip.source, header.source_port), (ip.destination, header.destination_port)
        payload = frame.data[header.payload : header.end]
        pair = (source, destination) if source < destination else (destination, source)
        if header.destination_port == tftp.PORT:
            message = tftp.parse(payload, len(payload))
            if message is not None and message.opcode in {tftp.READ, tftp.WRITE}:
                self._transfers.add(source)
            return
        found = says.said(frame)
        if found is not None and found[0] != "UDP":
            self._announced.hear(found[0], payload, ip.source)
            if found[0] in _GO_ON:
                self._named[pair] = found[0]
            return
        if name := self._named.get(pair):
            words, fits = _GO_ON[name]
            frame.named = Named(name, words) if fits(payload) else None
        elif named := self._announced.named(source, destination, payload):
            frame.named = named
        elif source in self._transfers or destination in self._transfers:
            message = tftp.parse(payload, len(payload))
            if message is not None and message.opcode > tftp.WRITE:
                frame.named = Named("TFTP", datagrams.tftp(payload) or "")
