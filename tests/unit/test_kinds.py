"""Names of the kinds of frames that a diagnosis tells of."""

from __future__ import annotations

import pytest

from rawtap.capture import kinds


@pytest.mark.parametrize(
    ("type_", "protocol", "port", "name"),
    [
        (0x0806, 0, 0, "ARP"),
        (0x0800, 17, 53, "IPv4 UDP port 53"),
        (0x86DD, 58, 0, "IPv6 ICMPv6"),
        (0x0800, 6, 0, "IPv4 TCP"),  # a later fragment: no port
        (0x0800, 253, 0, "IPv4 protocol 253"),
        (0x88B5, 0, 0, "EtherType 0x88b5"),
        (0x0026, 0, 0, "802.3 LLC"),
        (1500, 0, 0, "802.3 LLC"),
        (0x0600, 0, 0, "EtherType 0x0600"),
    ],
)
def test_a_kind_has_its_name(type_: int, protocol: int, port: int, name: str) -> None:
    assert kinds.named([(type_, protocol, port, 3)]) == ((name, 3),)


def test_the_order_is_kept() -> None:
    found = kinds.named([(0x0806, 0, 0, 1), (0x0800, 1, 0, 5)])
    assert found == (("ARP", 1), ("IPv4 ICMP", 5))
