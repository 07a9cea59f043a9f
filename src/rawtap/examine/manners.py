"""What a neighbour on the link does by itself, whatever is asked meanwhile: it says where it is. Pure."""

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
