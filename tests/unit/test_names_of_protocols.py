"""The names of what a frame carries, by the numbers that IEEE and IANA gave them."""

from __future__ import annotations

import pytest
from frames import GUEST, HOST, HOST_MAC, out
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from rawtap.packets.headers import parse
from rawtap.packets.lines import describe, parties

ETHER_TYPES = {
    0x8035: "RARP", 0x8808: "pause", 0x88CC: "LLDP",
    0x9000: "loopback test", 0x88B5: "0x88b5",
}  # fmt: skip
IP_PROTOCOLS = {
    51: "AH", 59: "nothing", 89: "OSPF", 112: "VRRP", 200: "IP protocol 200",
}  # fmt: skip
LLC = {0x42: "LLC STP", 0xE0: "LLC IPX", 0xF0: "LLC NetBEUI", 0xFE: "LLC ISO", 0xAA: "LLC SNAP", 0x10: "LLC"}
ICMP_TYPES = {
    4: "source quench", 5: "redirect", 9: "router advertisement", 10: "router solicitation", 12: "parameter problem",
    13: "timestamp", 14: "timestamp reply", 15: "type 15 code 0",
}  # fmt: skip
ICMP6_TYPES = {
    4: "parameter problem", 130: "multicast query", 131: "multicast report", 132: "multicast done",
    133: "router solicitation", 143: "multicast report v2", 144: "type 144 code 0",
}  # fmt: skip


def described(packet: Packet) -> tuple[str, str]:
    data = bytes(packet)
    line = describe(data, len(data), 1)
    return line.protocol, line.info.partition(":")[0].partition(", bad")[0]


@pytest.mark.parametrize(("number", "name"), ETHER_TYPES.items())
def test_by_the_ether_type(number: int, name: str) -> None:
    assert described(Ether(type=number) / Raw(bytes(46))) == (name, "60 bytes")


@pytest.mark.parametrize(("number", "name"), IP_PROTOCOLS.items())
def test_by_the_ip_protocol(number: int, name: str) -> None:
    assert described(out(Raw(bytes(8)), proto=number)) == (name, "8 bytes")


@pytest.mark.parametrize(("number", "name"), LLC.items())
def test_by_the_access_point_that_a_frame_is_for(number: int, name: str) -> None:
    frame = bytes(12) + (46).to_bytes(2, "big") + bytes([number, number ^ 1]) + bytes(44)
    assert described(Raw(frame)) == ("802.3", f"{name}, DSAP 0x{number:02x} SSAP 0x{number ^ 1:02x}, length 46")


@pytest.mark.parametrize(("number", "name"), ICMP_TYPES.items())
def test_by_the_type_of_an_icmp_message(number: int, name: str) -> None:
    assert described(out(Raw(bytes([number]) + bytes(7)), proto=1)) == ("ICMP", name)


@pytest.mark.parametrize(("number", "name"), ICMP6_TYPES.items())
def test_by_the_type_of_an_icmpv6_message(number: int, name: str) -> None:
    message = Raw(bytes([number]) + bytes(23))
    assert described(Ether(dst=HOST_MAC) / IPv6(src="fe80::1", dst="fe80::2", nh=58) / message) == ("ICMPv6", name)


@pytest.mark.parametrize("layer", [UDP, TCP])
@pytest.mark.parametrize(
    ("source", "destination", "shown"),
    [(4000, 69, (GUEST, f"{HOST}:69")), (69, 4000, (f"{GUEST}:69", HOST)), (9, 9, (GUEST, f"{HOST}:9"))],
)
def test_of_two_parties_the_lower_port_is_told(
    layer: type[Packet], source: int, destination: int, shown: tuple[str, str]
) -> None:
    data = bytes(out(layer(sport=source, dport=destination)))
    frame = parse(data, len(data), 1)
    assert frame.ip is not None
    assert parties(frame.ip, frame.transport) == shown


def test_what_a_tcp_header_says_is_told() -> None:
    options = [("MSS", 1460), ("WScale", 7), ("SAckOK", b"")]
    assert described(out(TCP(seq=5, window=99, flags="S", options=options))) == (
        "TCP",
        "SYN seq=5 win=99 MSS 1460 wscale 7 SACK",
    )
