"""Checksums: right, wrong with what was expected, or nothing to judge; as scapy and Linux make them."""

from __future__ import annotations

from typing import Any

import pytest
from frames import back, out
from hypothesis import given
from hypothesis import strategies as some
from scapy.layers.inet import ICMP, TCP, UDP, IPOption_LSRR
from scapy.layers.inet6 import (
    HAO,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from rawtap.packets.checks import Checksum, Verdict, checksums, total
from rawtap.packets.headers import parse

SIX = Ether() / IPv6(src="fe80::1", dst="fe80::2")


def judged(packet: Any, captured: int | None = None) -> dict[str, Checksum]:
    data = bytes(packet)
    return {each.name: each for each in checksums(parse(data[:captured], len(data), 1))}


@given(some.binary(min_size=1, max_size=300))
def test_the_sum_is_that_of_scapy(data: bytes) -> None:
    assert (0xFFFF - total(data)) % 0xFFFF == scapy_checksum(data) % 0xFFFF


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (out(ICMP() / b"abc"), "ICMP"),
        (out(UDP() / b"odd"), "UDP"),
        (out(UDP() / bytes(1400)), "UDP"),
        (out(TCP() / b"abc"), "TCP"),
        (SIX / UDP() / b"abc", "UDP"),
        (SIX / TCP() / b"abcd", "TCP"),
        (SIX / ICMPv6EchoRequest() / b"abc", "ICMPv6"),
    ],
)
def test_what_scapy_writes_is_right_and_one_bit_makes_it_wrong(packet: Any, name: str) -> None:
    right = judged(packet)
    assert {each.verdict for each in right.values()} == {Verdict.RIGHT}
    data = bytearray(bytes(packet))
    data[-1] ^= 0x10
    wrong = judged(data)[name]
    assert wrong.verdict is Verdict.WRONG
    assert wrong.found == right[name].found
    assert (wrong.found - wrong.expected) % 0xFFFF in {0x10, 0xFFFF - 0x10, 0x1000, 0xFFFF - 0x1000}


@pytest.mark.parametrize("packet", [out(UDP() / b"abc"), out(TCP()), out(ICMP()), SIX / UDP() / b"a"])
def test_what_is_expected_is_what_scapy_would_have_written(packet: Any) -> None:
    right = judged(packet)
    layer = packet.lastlayer() if not packet.haslayer(Raw) else packet.lastlayer().underlayer
    if layer.name == "ICMP":
        layer.chksum = 0x1234
    else:
        packet[layer.__class__].chksum = 0x1234
    for name, each in judged(packet).items():
        assert each.expected == right[name].found


def test_an_ipv4_header_is_judged() -> None:
    assert judged(out(UDP(), chksum=1))["IPv4"].verdict is Verdict.WRONG


def test_a_udp_checksum_of_zero_is_none_in_ipv4_and_forbidden_in_ipv6() -> None:
    assert judged(out(UDP(chksum=0)))["UDP"].verdict is Verdict.NONE
    assert judged(SIX / UDP(chksum=0))["UDP"].verdict is Verdict.FORBIDDEN
    assert judged(SIX / UDP(sport=1, dport=4789, chksum=0))["UDP"].verdict is Verdict.NONE  # VXLAN, RFC 6935


def pseudo(source: bytes, destination: bytes, protocol: int, size: int) -> int:
    return total(source + destination + bytes((0, protocol)) + size.to_bytes(4, "big"))


@pytest.mark.parametrize(("layer", "protocol", "header"), [(UDP, 17, 8), (TCP, 6, 20)])
def test_a_sum_of_the_pseudo_header_alone_is_left_to_the_hardware(layer: Any, protocol: int, header: int) -> None:
    partial = pseudo(bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2)), protocol, header + 100)
    packet = out(layer(chksum=partial) / bytes(range(100)))
    assert [each.verdict for each in judged(packet).values()] == [Verdict.RIGHT, Verdict.LEFT_TO_HARDWARE]
    # Complemented it is no sum that the hardware could finish.
    packet[layer].chksum = 0xFFFF - partial
    assert judged(packet)[layer.__name__].verdict is Verdict.WRONG


@pytest.mark.parametrize(
    "packet",
    [
        out(UDP(chksum=0x1234) / bytes(100)),
        out(TCP(chksum=0x1234) / bytes(100)),
        out(ICMP(chksum=0x1234) / bytes(100)),
    ],
)
def test_what_was_not_captured_in_full_is_not_judged(packet: Any) -> None:
    *_, last = judged(packet, captured=60).values()
    assert last.verdict is Verdict.UNKNOWN


def test_a_fragment_is_not_judged() -> None:
    assert judged(out(UDP(chksum=0x1234) / bytes(800), flags="MF"))["UDP"].verdict is Verdict.UNKNOWN


LAST, HOME = "2001:db8::9", "2001:db8::77"


def by_route(kind: int, *addresses: str, left: int = 1) -> Any:
    header = IPv6ExtHdrRouting(type=kind, addresses=list(addresses), segleft=left)
    return SIX.copy() / header if kind != 4 else SIX.copy() / IPv6ExtHdrSegmentRouting(
        addresses=list(addresses), segleft=left, lastentry=len(addresses) - 1)  # fmt: skip


def summed(packet: Any, source: str = "fe80::1", destination: str = "fe80::2") -> Any:
    """With the UDP checksum that is made with these addresses."""
    plain = Ether() / IPv6(src=source, dst=destination) / UDP(sport=1, dport=2) / b"abc"
    return packet / UDP(sport=1, dport=2, chksum=IPv6(bytes(plain)[14:])[UDP].chksum) / b"abc"


@pytest.mark.parametrize(
    "packet",
    [
        summed(by_route(0, "2001:db8::5", LAST), destination=LAST),
        summed(by_route(2, LAST), destination=LAST),
        summed(by_route(4, LAST, "2001:db8::5"), destination=LAST),
        summed(by_route(0, LAST, left=0)),
        summed(SIX / IPv6ExtHdrDestOpt(options=[HAO(hoa=HOME)]), source=HOME),
        out(UDP(sport=1, dport=2) / b"abc", options=[IPOption_LSRR(routers=["10.0.0.9"])]),
    ],
    ids=["type 0", "type 2", "segments", "a route at its end", "a home address", "a source route"],
)
def test_a_sum_is_made_with_the_ends_of_the_way(packet: Any) -> None:
    assert judged(packet)["UDP"].verdict is Verdict.RIGHT
    packet[UDP].chksum = 0x1234
    assert judged(packet)["UDP"].verdict is Verdict.WRONG


def test_a_route_of_an_unknown_kind_is_not_judged() -> None:
    packet = SIX / IPv6ExtHdrRouting(type=77, addresses=["::9"], segleft=1) / UDP(chksum=0x1234)
    assert judged(packet)["UDP"].verdict is Verdict.UNKNOWN


def test_where_the_lengths_disagree_nothing_is_judged() -> None:
    assert judged(back(UDP(len=99) / b"abc"))["UDP"].verdict is Verdict.UNKNOWN
    assert judged(back(UDP(sport=1) / b"abc", len=900))["UDP"].verdict is Verdict.UNKNOWN
