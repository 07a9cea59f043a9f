"""What a neighbour on the link does by itself, whatever is asked meanwhile: it says where it is, and that it listens
nowhere. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address

from rawtap.packets import checks

_ARP, _REQUEST, _REPLY = b"\x08\x06", b"\0\1", b"\0\2"
_KIND = bytes.fromhex("0001080006 04")
_MESSAGE = 42  # bytes of a frame with ARP


def arp_reply(frame: bytes, stations: Mapping[bytes, bytes]) -> bytes | None:
    """The reply to a request for the address of one of our `stations` (IP address to MAC address); None to all else."""
    if len(frame) < _MESSAGE or frame[12:14] != _ARP or frame[14:20] != _KIND or frame[20:22] != _REQUEST:
        return None
    asker, asked = frame[22:32], frame[38:42]
    if (mac := stations.get(asked)) is None:
        return None
    return asker[:6] + mac + _ARP + _KIND + _REPLY + mac + asked + asker


_IPV6, _ICMPV6 = b"\x86\xdd", 58
_SOLICITATION, _ADVERTISEMENT = 135, 136  # RFC 4861, 4.3 and 4.4
_SOLICITED, _OVERRIDE = 0x40, 0x20
_UNSPECIFIED, _ALL_NODES = bytes(16), IPv6Address("ff02::1").packed
_MAC_OF_ALL_NODES = bytes.fromhex("333300000001")
_ASKED_UNTIL = 78  # bytes of a frame with a solicitation: to the end of its target


def advertisement(frame: bytes, stations: Mapping[bytes, bytes]) -> bytes | None:
    """The answer to a neighbour solicitation for one of our `stations` (RFC 4861, 7.2.4); None to all else."""
    if len(frame) < _ASKED_UNTIL or frame[12:14] != _IPV6 or frame[20] != _ICMPV6 or frame[54] != _SOLICITATION:
        return None
    source, asked = frame[22:38], frame[62:78]
    if (mac := stations.get(asked)) is None:
        return None
    is_probe = source == _UNSPECIFIED
    to, link = (_ALL_NODES, _MAC_OF_ALL_NODES) if is_probe else (source, frame[6:12])
    flags = _OVERRIDE | (0 if is_probe else _SOLICITED)
    said = bytes([flags, 0, 0, 0]) + asked + b"\x02\x01" + mac
    length = (len(said) + 4).to_bytes(4, "big")
    head = bytes([_ADVERTISEMENT, 0])
    total = 0xFFFF - checks.total(asked + to + length + bytes([0, 0, 0, _ICMPV6]) + head + b"\0\0" + said)
    header = b"\x60\0\0\0" + length[2:] + bytes([_ICMPV6, 255]) + asked + to
    return link + mac + _IPV6 + header + head + total.to_bytes(2, "big") + said


_IPV4, _TCP, _NO_OPTIONS = b"\x08\0", 6, 0x45
_SYN, _SYN_ACK = 0x02, 0x12
_SEGMENT_UNTIL = 54  # bytes of a frame with headers of IPv4's and TCP's
_NUMBERS = 1 << 32


def reset(frame: bytes, stations: Mapping[bytes, bytes]) -> bytes | None:
    """The answer of a closed port to a SYN to one of our `stations` (RFC 9293, 3.10.7.1); None to all else.

    Without it a program would wait for minutes.
    """
    if len(frame) < _SEGMENT_UNTIL or frame[12:15] != _IPV4 + bytes([_NO_OPTIONS]) or frame[23] != _TCP:
        return None
    asker, asked = frame[26:30], frame[30:34]
    if frame[47] & _SYN_ACK != _SYN or (mac := stations.get(asked)) is None:
        return None
    acknowledged = (int.from_bytes(frame[38:42], "big") + 1) % _NUMBERS
    head = frame[36:38] + frame[34:36] + bytes(4) + acknowledged.to_bytes(4, "big") + b"\x50\x14\0\0"
    total = 0xFFFF - checks.total(asked + asker + bytes([0, _TCP, 0, len(head) + 4]) + head)
    segment = head + total.to_bytes(2, "big") + b"\0\0"
    begin, end = bytes([_NO_OPTIONS, 0, 0, 20 + len(segment), 0, 0, 0, 0, 64, _TCP]), asked + asker
    header = begin + (0xFFFF - checks.total(begin + end)).to_bytes(2, "big") + end
    return frame[6:12] + mac + _IPV4 + header + segment
