"""Names for the kinds of frames that a capture's unfiltered tells apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# https://www.iana.org/assignments/ieee-802-numbers, and the local experimental ones of IEEE 802
_TYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x86DD: "IPv6",
    0x8100: "802.1Q VLAN",
    0x8863: "PPPoE discovery",
    0x8864: "PPPoE session",
    0x88CC: "LLDP",
}
# https://www.iana.org/assignments/protocol-numbers
_PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    44: "fragment",
    47: "GRE",
    58: "ICMPv6",
    89: "OSPF",
    132: "SCTP",
}
_LARGEST_LENGTH = 1500  # below 0x0600 the field is a length, IEEE 802.3


# Of _unfiltered.pxd.
_NO_TAG = 0x1000
_LATER_FRAGMENT = 0x10000


def named(kinds: Iterable[tuple[int, int, int, int, int]]) -> tuple[tuple[str, int], ...]:
    """Turn (VLAN id, EtherType, IP protocol, lower port, frames) into (name, frames), like ("IPv4 UDP port 53", 3)."""
    return tuple((_name(tag, type_, protocol, port), frames) for tag, type_, protocol, port, frames in kinds)


def _name(tag: int, type_: int, protocol: int, port: int) -> str:
    words = [_TYPES.get(type_, f"EtherType {type_:#06x}") if type_ > _LARGEST_LENGTH else "802.3 LLC"]
    if protocol:
        words.append(_PROTOCOLS.get(protocol, f"protocol {protocol}"))
    if port:
        words.append("later fragment" if port == _LATER_FRAGMENT else f"port {port}")
    if tag != _NO_TAG:
        words.append(f"with tag {tag}")
    return " ".join(words)
