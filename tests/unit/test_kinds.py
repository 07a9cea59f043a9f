"""Names of the kinds of frames that a diagnosis tells of."""

from __future__ import annotations

import pytest

from rawtap.capture import kinds

NO_TAG = 0x1000


@pytest.mark.parametrize(
    ("tag", "type_", "protocol", "port", "name"),
    [
        (NO_TAG, 0x0806, 0, 0, "ARP"),
        (NO_TAG, 0x0800, 17, 53, "IPv4 UDP port 53"),
        (NO_TAG, 0x86DD, 58, 0, "IPv6 ICMPv6"),
        (NO_TAG, 0x0800, 6, 0x10000, "IPv4 TCP later fragment"),
        (NO_TAG, 0x86DD, 44, 0, "IPv6 fragment"),
        (7, 0x0800, 17, 53, "IPv4 UDP port 53 with tag 7"),
        (0, 0x0806, 0, 0, "ARP with tag 0"),
        (NO_TAG, 0x0800, 253, 0, "IPv4 protocol 253"),
        (NO_TAG, 0x88B5, 0, 0, "EtherType 0x88b5"),
        (NO_TAG, 0x0026, 0, 0, "802.3 LLC"),
        (NO_TAG, 1500, 0, 0, "802.3 LLC"),
        (NO_TAG, 0x0600, 0, 0, "EtherType 0x0600"),
    ],
)
def test_a_kind_has_its_name(tag: int, type_: int, protocol: int, port: int, name: str) -> None:
    assert kinds.named([(tag, type_, protocol, port, 3)]) == ((name, 3),)


def test_the_order_is_kept() -> None:
    found = kinds.named([(NO_TAG, 0x0806, 0, 0, 1), (NO_TAG, 0x0800, 1, 0, 5)])
    assert found == (("ARP", 1), ("IPv4 ICMP", 5))
