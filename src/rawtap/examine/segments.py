"""Segments of TCP in IPv4 as bytes: made for a guest, and read from what it sent. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from rawtap.packets import checks, headers
from rawtap.packets.transport import Tcp

FIN, SYN, RST, PSH, ACK = (1 << bit for bit in range(5))
DEFAULT_SIZE = 536  # bytes of data where no option says another size (RFC 9293, 3.7.1)
_IP, _TCP = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHIIBBHHH")
_ICMP = struct.Struct("!BBHHH")
_IP_SIZE, _TCP_SIZE, _QUOTED = 20, 20, 28
_LINK = 14
_WHOLE = 0x4000  # RFC 791, 3.1: the bit that forbids fragments
_TO_LIVE = 64
_TCP_NUMBER, _ICMP_NUMBER = 6, 1
_UNREACHABLE, _TOO_LARGE = 3, 4  # RFC 792; RFC 1191, 4
_NUMBERS = 1 << 32
_BAD = {checks.Verdict.WRONG, checks.Verdict.FORBIDDEN, checks.Verdict.LEFT_TO_HARDWARE}


@dataclass(frozen=True)
class Ends:
    """The two ends of a connection: link addresses, IPv4 addresses, and ports; ours first."""

    our_mac: bytes
    guest_mac: bytes
    us: bytes
    guest: bytes
    our_port: int
    port: int

    @classmethod
    def of(cls, names: Mapping[str, str | int], number: int) -> Ends:
        """Those of a try's connection with that number: each has a port of its own."""
        return cls(
            _mac(names["us_mac"]),
            _mac(names["guest_mac"]),
            IPv4Address(str(names["us"])).packed,
            IPv4Address(str(names["guest"])).packed,
            int(names["sport"]) + number,
            int(names["port"]),
        )


def _mac(text: str | int) -> bytes:
    return bytes.fromhex(str(text).replace(":", ""))


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        size: Bytes of its IP packet, of one that came.
        is_whole: Its IP packet forbids fragments.
        largest: What its option says to be the largest segment; None where it has none.
    """

    sequence: int
    acknowledgment: int
    flags: int
    window: int
    data: bytes = b""
    largest: int | None = None
    size: int = 0
    is_whole: bool = True


def made(ends: Ends, segment: Segment, number: int, *, is_corrupt: bool = False) -> bytes:
    """The frame of a segment of ours; `number` is its IP identification. A corrupt one has a bit of its data, or of
    its header, that the checksum is not of."""
    options = b"" if segment.largest is None else struct.pack("!BBH", 2, 4, segment.largest)
    head = _TCP.pack(
        ends.our_port,
        ends.port,
        segment.sequence % _NUMBERS,
        segment.acknowledgment % _NUMBERS,
        (_TCP_SIZE + len(options)) // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    body = head + options + segment.data
    pseudo = ends.us + ends.guest + struct.pack("!HH", _TCP_NUMBER, len(body))
    body = body[:16] + _sum(pseudo + body) + body[18:]
    if is_corrupt:
        body = body[:-1] + bytes([body[-1] ^ 0x20])
    return _packet(ends, _TCP_NUMBER, body, number)


def too_large(ends: Ends, frame: bytes, most: int, number: int) -> bytes:
    """The frame of a router's error, that a packet of the guest's is larger than `most` bytes (RFC 1191, 4)."""
    quoted = frame[_LINK : _LINK + _QUOTED]
    message = _ICMP.pack(_UNREACHABLE, _TOO_LARGE, 0, 0, most) + quoted
    return _packet(ends, _ICMP_NUMBER, message[:2] + _sum(message) + message[4:], number)


def _packet(ends: Ends, protocol: int, body: bytes, number: int) -> bytes:
    size = _IP_SIZE + len(body)
    head = _IP.pack(0x45, 0, size, number & 0xFFFF, _WHOLE, _TO_LIVE, protocol, 0, ends.us, ends.guest)
    link = ends.guest_mac + ends.our_mac + b"\x08\0"
    return link + head[:10] + _sum(head) + head[12:] + body


def _sum(data: bytes) -> bytes:
    return (0xFFFF - checks.total(data)).to_bytes(2, "big")


def read(frame: bytes, ends: Ends) -> Segment | None:
    """A segment of this connection's that the guest sent; None for all else, and where a checksum is wrong."""
    if frame[26:34] != ends.guest + ends.us:  # of most frames nothing more has to be looked at
        return None
    parsed = headers.parse(frame, len(frame), headers.ETHERNET)
    ip, tcp = parsed.ip, parsed.transport
    if ip is None or ip.fragment is not None or not isinstance(tcp, Tcp):
        return None
    if (tcp.source_port, tcp.destination_port) != (ends.port, ends.our_port):
        return None
    if any(each.verdict in _BAD for each in checks.checksums(parsed)):
        return None
    return Segment(
        tcp.sequence,
        tcp.acknowledgment,
        tcp.flags,
        tcp.window,
        frame[tcp.payload : tcp.end],
        tcp.mss,
        ip.end - ip.offset,
        bool(frame[ip.offset + 6] & 0x40),
    )
