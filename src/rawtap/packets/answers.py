"""The frames that would answer a frame, for a capture filter to be asked whether it lets them pass. Pure.

They are right in what filters look at: addresses, ports, types and flags. Checksums are left as they were.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections.abc import Iterator

from rawtap.packets import tftp
from rawtap.packets.dhcp import Dhcp
from rawtap.packets.dns import Dns
from rawtap.packets.headers import Cooked, Ethernet, Frame, parse
from rawtap.packets.transport import ACK, FIN, PSH, RST, SYN, Icmp, Tcp, Udp

_SENT_BY_US = 4
_ANSWERS = {8: 0, 128: 129, 135: 136}  # echo, echo of ICMPv6, neighbour solicitation
_DATA = 1000
_CHOSEN = 49999  # a port that a TFTP server may take for a transfer (RFC 1350, 4)
_UNKNOWN_MAC = bytes.fromhex("020000000001")  # of who would answer a broadcast


def replies(data: bytes, length: int, link_type: int) -> Iterator[bytes]:
    """What may answer a request: an ARP reply, an echo reply, a DNS answer, a SYN+ACK or an RST, TFTP's first block
    from a port of the server's choice; else the way back."""
    frame = parse(data, length, link_type)
    back = _returned(frame)
    header = frame.transport
    if frame.arp is not None:
        at = frame.arp.offset
        back[at + 6 : at + 8] = b"\0\2"
        back[at + 8 : at + 18], back[at + 18 : at + 28] = data[at + 18 : at + 28], data[at + 8 : at + 18]
    elif isinstance(header, Icmp):
        back[header.offset] = _ANSWERS.get(header.type, header.type)
    elif isinstance(header, Tcp):
        back[header.offset + 13] = RST | ACK
        yield bytes(back)
        back[header.offset + 13] = SYN | ACK
    elif isinstance(frame.application, Dns):
        back[frame.application.offset + 2] |= 0x80
    elif isinstance(frame.application, Dhcp):
        back[frame.application.offset] = 2  # BOOTREPLY
    elif isinstance(header, Udp) and header.destination_port == tftp.PORT:
        back[header.offset : header.offset + 2] = _CHOSEN.to_bytes(2, "big")
        back[header.payload : header.payload + 4] = b"\0\3\0\1"
    yield bytes(back)


def segments(data: bytes, length: int, link_type: int) -> Iterator[bytes]:
    """What a TCP connection is made of, in both directions, after a segment of it."""
    frame = parse(data, length, link_type)
    header = frame.transport
    if not isinstance(header, Tcp):
        return
    for way in (bytearray(data), _returned(frame)):
        head = way[: header.offset + 20]
        head[header.offset + 12] = 5 << 4
        for flags, size in ((ACK, 0), (ACK | PSH, _DATA), (FIN | ACK, 0), (RST, 0)):
            head[header.offset + 13] = flags
            yield _sized(frame, head + bytes(size))


def later_fragments(data: bytes, length: int, link_type: int) -> Iterator[bytes]:
    """The first fragment and another of the packet that a fragment is of; of IPv6 only one as it came."""
    frame = parse(data, length, link_type)
    ip = frame.ip
    if ip is None or ip.version == 6:
        yield data
        return
    for bits in (b"\x20\x00", b"\x00\xb9"):
        other = bytearray(data)
        other[ip.offset + 6 : ip.offset + 8] = bits
        yield bytes(other)


def _returned(frame: Frame) -> bytearray:
    """The frame with its parties exchanged."""
    back = bytearray(frame.data)
    link, ip, header = frame.link, frame.ip, frame.transport
    if isinstance(link, Ethernet):
        sender = _UNKNOWN_MAC if link.destination[0] & 1 else link.destination
        back[0:12] = link.source + sender
    elif isinstance(link, Cooked):
        back[link.type_at] = 0 if link.packet_type == _SENT_BY_US else _SENT_BY_US
    if ip is not None:
        size = len(ip.source)
        at = ip.offset + (12 if ip.version == 4 else 8)
        back[at : at + 2 * size] = ip.destination + ip.source
    if isinstance(header, (Tcp, Udp)):
        at = header.offset
        back[at : at + 4] = frame.data[at + 2 : at + 4] + frame.data[at : at + 2]
    return back


def _sized(frame: Frame, data: bytearray) -> bytes:
    """The frame with its IP length set to its real length."""
    ip = frame.ip
    if ip is not None and ip.version == 4:
        data[ip.offset + 2 : ip.offset + 4] = (len(data) - ip.offset).to_bytes(2, "big")
    elif ip is not None:
        data[ip.offset + 4 : ip.offset + 6] = (len(data) - ip.offset - 40).to_bytes(2, "big")
    return bytes(data)
