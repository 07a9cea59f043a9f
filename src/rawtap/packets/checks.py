# cython: annotation_typing=False, nonecheck=True
"""Internet checksums of a frame, and what is to be said of each (RFC 1071)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rawtap.packets._sums import plain_sum
from rawtap.packets.headers import Frame, Ip
from rawtap.packets.transport import ICMP6, TCP, UDP, Icmp, Igmp, Tcp, Udp

_MODULUS = 0xFFFF
_FRAME = 1514  # bytes; what is longer is more than one packet that the hardware has still to cut
# LISP, GRE and MPLS in UDP, VXLAN, Geneve: tunnels, which may do without a checksum on IPv6 (RFC 6935, 5)
_TUNNELS = {4341, 4754, 4789, 6081, 6635, 8472}


class Verdict(Enum):
    """What is to be said of a checksum.

    LEFT_TO_HARDWARE: the field holds the sum of the pseudo header, not complemented, as Linux leaves it for a network
    card to finish (CHECKSUM_PARTIAL, Documentation/networking/checksum-offloads.rst); seen where a capture stands
    before the card, such as on a bridge or a TAP. NONE: zero, for UDP on IPv4 (RFC 768) and for tunnels. FORBIDDEN:
    zero, for other UDP on IPv6 (RFC 8200, 8.1). UNKNOWN: not all bytes are here that it is made of.
    """

    RIGHT = "right"
    WRONG = "wrong"
    LEFT_TO_HARDWARE = "left to hardware"
    NONE = "none"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"


@dataclass
class Checksum:
    """One checksum: of which header, what the field holds, and what should be there (0 where that is unknown)."""

    name: str
    verdict: Verdict
    found: int
    expected: int


_RIGHT, _WRONG, _UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def total(data: bytes) -> int:
    """The ones' complement sum of 16-bit words, modulo 65535: 0 stands for 0 and for 0xffff."""
    return plain_sum(data, 0, len(data)) % _MODULUS


def checksums(frame: Frame) -> list[Checksum]:
    """Each checksum in the frame, outermost first."""
    ip = frame.ip
    if ip is None:
        return []
    found = []
    if ip.checksum is not None:
        found.append(_judge("IPv4", frame.data, ip.offset, ip.payload, ip.checksum, 0, ip.payload <= len(frame.data)))
    header = frame.transport
    if header is not None:
        whole = ip.fragment is None and ip.stated_end == ip.end <= len(frame.data)
        found.append(_transport(frame, ip, header, whole))
    return found


def _transport(frame: Frame, ip: Ip, header: Tcp | Udp | Icmp | Igmp, whole: bool) -> Checksum:
    if isinstance(header, Tcp):
        return _of_tcp(frame, ip, header, whole)
    if isinstance(header, Udp):
        return _of_udp(frame, ip, header, whole)
    if isinstance(header, Icmp) and header.version == 6:
        return _pseudo("ICMPv6", frame, ip, header.offset, header.end, ICMP6, header.checksum, whole)
    name = "ICMP" if isinstance(header, Icmp) else "IGMP"
    return _judge(name, frame.data, header.offset, header.end, header.checksum, 0, whole)


def _of_tcp(frame: Frame, ip: Ip, header: Tcp, whole: bool) -> Checksum:
    return _pseudo("TCP", frame, ip, header.offset, header.end, TCP, header.checksum, whole)


def _of_udp(frame: Frame, ip: Ip, header: Udp, whole: bool) -> Checksum:
    if header.checksum == 0:
        may = ip.version == 4 or header.destination_port in _TUNNELS
        return Checksum("UDP", Verdict.NONE if may else Verdict.FORBIDDEN, 0, 0)
    whole = whole and 8 <= header.length == ip.end - header.offset
    return _pseudo("UDP", frame, ip, header.offset, header.end, UDP, header.checksum, whole)


def _pseudo(
    name: str, frame: Frame, ip: Ip, begin: int, end: int, protocol: int, checksum: int, whole: bool
) -> Checksum:
    if not whole or ip.ends is None:
        return Checksum(name, _UNKNOWN, checksum, 0)
    # The lengths' and protocol's words of both pseudo headers come to the same sum (RFC 9293, 3.1; RFC 8200, 8.1).
    addresses = total(ip.ends[0]) + total(ip.ends[1]) + protocol
    size = end - begin
    judged = _judge(name, frame.data, begin, end, checksum, addresses + size, whole)
    if judged.verdict is not _WRONG:
        return judged
    if checksum and protocol != ICMP6:
        # Of a segment that is still to be cut, some leave the length out.
        partial = {(addresses + size) % _MODULUS, *([addresses % _MODULUS] if frame.length > _FRAME else [])}
        if checksum % _MODULUS in partial:
            return Checksum(name, Verdict.LEFT_TO_HARDWARE, checksum, judged.expected)
    return judged


def _judge(name: str, data: bytes, begin: int, end: int, checksum: int, pseudo: int, whole: bool) -> Checksum:
    """Of the bytes from `begin` to `end`, and the sum of a pseudo header."""
    if not whole:
        return Checksum(name, _UNKNOWN, checksum, 0)
    remainder = (plain_sum(data, begin, end) + pseudo) % _MODULUS
    if remainder == 0:
        return Checksum(name, _RIGHT, checksum, checksum)
    expected = (checksum - remainder) % _MODULUS
    if name == "UDP" and expected == 0:
        expected = _MODULUS  # RFC 768: a sum of zero is sent as all ones
    return Checksum(name, _WRONG, checksum, expected)
