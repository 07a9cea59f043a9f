"""A frame in one line: what a reader wants to know, printable and bounded, whatever the frame holds."""

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, back, dhcp, out
from hypothesis import given, settings
from hypothesis import strategies as some
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Dot3, Ether
from scapy.packet import Raw
from test_headers import LINK_TYPES, mutated

from rawtap.packets.lines import PacketSummary, describe

QUESTION = DNSQR(qname="example.com")
ANSWER = DNSRR(rrname="example.com", rdata="192.0.2.1")
SOLICITATION = ICMPv6ND_NS(tgt="fe80::2") / ICMPv6NDOptSrcLLAddr(lladdr=GUEST_MAC)


def over_ipv6(message: Any, source: str = "fe80::1") -> Any:
    return Ether(dst=HOST_MAC) / IPv6(src=source, dst="fe80::2") / message


def arp(**fields: Any) -> Any:
    return Ether() / ARP(hwsrc=GUEST_MAC, **fields)


def line(packet: Any, link_type: int = 1) -> PacketSummary:
    data = bytes(packet)
    return describe(data, len(data), link_type)


@pytest.mark.parametrize(
    ("packet", "protocol", "info"),
    [
        (Ether() / ARP(psrc=HOST, pdst=GUEST), "ARP", "who has 10.0.2.15? tell 10.0.2.2"),
        (Ether() / ARP(op=2, psrc=GUEST, hwsrc=GUEST_MAC), "ARP", "10.0.2.15 is at 52:54:00:00:00:01, to broadcast"),
        (arp(psrc="0.0.0.0", pdst=GUEST), "ARP", "who has 10.0.2.15? probe by 52:54:00:00:00:01"),  # noqa: S104
        (arp(psrc=GUEST, pdst=GUEST), "ARP", "announcement: 10.0.2.15 is at 52:54:00:00:00:01"),
        (out(ICMP(id=1, seq=3) / bytes(56)), "ICMP", "echo request id=1 seq=3 56 bytes"),
        (out(ICMP(type=0, id=1, seq=3) / bytes(56)), "ICMP", "echo reply id=1 seq=3 56 bytes"),
        (
            back(ICMP(type=3, code=3) / IP(src=GUEST, dst=HOST) / UDP(sport=4000, dport=69)),
            "ICMP",
            "port unreachable: UDP 10.0.2.15:4000 to 10.0.2.2:69",
        ),
        (
            out(TCP(seq=5, window=99, flags="S", options=[("MSS", 1460)])),
            "TCP",
            "SYN seq=5 win=99 MSS 1460",
        ),
        (out(TCP(sport=40, seq=5, ack=6, window=99, flags="PA") / b"abc"), "TCP", "PSH+ACK seq=5 ack=6 win=99 3 bytes"),
        (out(UDP(sport=1000, dport=2000) / b"hello"), "UDP", "5 bytes"),
        (
            dhcp([("message-type", "discover"), ("requested_addr", GUEST)]),
            "DHCP",
            "discover xid=0x00001234 from 52:54:00:00:00:01 for 10.0.2.15",
        ),
        (
            dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST),
            "DHCP",
            "offer xid=0x00001234 to 52:54:00:00:00:01: 10.0.2.15 by 10.0.2.2 for 60 s",
        ),
        (out(UDP(sport=999, dport=53) / DNS(id=7, qd=QUESTION)), "DNS", "query id=0x0007 A example.com"),
        (
            back(UDP(sport=53, dport=999) / DNS(id=7, qr=1, rcode=3, qd=QUESTION)),
            "DNS",
            "answer id=0x0007 NXDOMAIN A example.com (0 answers)",
        ),
        (
            back(UDP(sport=53, dport=999) / DNS(id=7, qr=1, qd=QUESTION, an=ANSWER)),
            "DNS",
            "answer id=0x0007 A example.com (1 answer): A 192.0.2.1",
        ),
        (
            Ether() / IPv6(src="fe80::1", dst="ff02::1") / SOLICITATION,
            "ICMPv6",
            "neighbor solicitation: who has fe80::2? tell 52:54:00:00:00:01",
        ),
        (
            Dot3(src=GUEST_MAC, dst="01:80:c2:00:00:00") / LLC() / STP(),
            "STP",
            "root 0/00:00:00:00:00:00 cost 0 bridge 0/00:00:00:00:00:00",
        ),
        (Ether(type=0x88B5) / b"abc", "0x88b5", "17 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\1boot.img\0octet\0"), "TFTP", "read request 'boot.img', 17 bytes"),
        (out(bytes(808), frag=101, id=5, proto=17), "UDP", "808 bytes, fragment id=0x5 bytes 808-1616, the last"),
        (Ether() / Dot1Q(vlan=7) / IP(dst=HOST) / UDP(sport=1, dport=2) / b"a", "UDP", "VLAN 7: 1 bytes, to broadcast"),
        (
            out(UDP(sport=1, dport=2, chksum=0x1234) / b"abc"),
            "UDP",
            "3 bytes, bad UDP checksum 0x1234, expected 0x2362",
        ),
        (out(Raw(b"abc"), proto=132), "SCTP", "3 bytes"),
        (out(ICMP(type=13)), "ICMP", "timestamp"),
        (over_ipv6(ICMPv6ND_NS(tgt="fe80::2")), "ICMPv6", "neighbor solicitation: who has fe80::2?"),
        (over_ipv6(ICMPv6ND_NS(tgt="fe80::2"), "::"), "ICMPv6", "neighbor solicitation: who has fe80::2? probe"),
        (over_ipv6(ICMPv6ND_NA(tgt="fe80::1")), "ICMPv6", "neighbor advertisement: fe80::1"),
        (
            over_ipv6(ICMPv6ND_NA(tgt="fe80::1") / ICMPv6NDOptDstLLAddr(lladdr=GUEST_MAC)),
            "ICMPv6",
            "neighbor advertisement: fe80::1 is at 52:54:00:00:00:01",
        ),
        (
            over_ipv6(ICMPv6PacketTooBig() / IPv6(src="fe80::2", dst="fe80::1") / UDP(sport=5, dport=53)),
            "ICMPv6",
            "packet too big: UDP [fe80::2]:5 to [fe80::1]:53",
        ),
        (out(UDP(sport=9, dport=69) / b"\0\2log\0octet\0"), "TFTP", "write request 'log', 12 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\3\0\1log"), "TFTP", "data block 1, 7 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\4\0\1"), "TFTP", "acknowledgment block 1, 4 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\4\0"), "TFTP", "3 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\6\0\0"), "TFTP", "option acknowledgment, 4 bytes"),
        (out(UDP(sport=9, dport=69) / b"\0\7\0\0"), "TFTP", "opcode 7, 4 bytes"),
        (out(UDP(sport=9, dport=547) / b"\1abc"), "DHCPv6", "solicit xid=0x616263, 4 bytes"),
        (out(UDP(sport=9, dport=547) / b"\1ab"), "DHCPv6", "3 bytes"),
        (out(UDP(sport=9, dport=547) / b"\15abc"), "DHCPv6", "relay reply, hop 97, 4 bytes"),
        (out(UDP(sport=9, dport=547) / b"\16abc"), "DHCPv6", "type 14 xid=0x616263, 4 bytes"),
        (out(UDP(sport=9, dport=123) / b"\x23"), "NTP", "version 4, client, 1 bytes"),
        (out(UDP(sport=9, dport=4789) / b"\x08bc"), "VXLAN", "3 bytes"),
        (out(UDP(sport=514, dport=9) / b"abc"), "syslog", "abc, 3 bytes"),
    ],
)  # fmt: skip
def test_a_frame_says(packet: Any, protocol: str, info: str) -> None:
    found = line(packet)
    assert (found.protocol, found.info, found.stopped) == (protocol, info, None)


def test_the_parties_are_ip_addresses_with_their_ports() -> None:
    found = line(out(UDP(sport=1000, dport=53)))
    assert (found.source, found.destination) == ("10.0.2.15:1000", "10.0.2.2:53")
    six = line(Ether(dst=HOST_MAC) / IPv6(src="fe80::1", dst="fe80::2") / TCP(sport=1, dport=2))
    assert (six.source, six.destination) == ("[fe80::1]:1", "[fe80::2]:2")
    ping = line(Ether(dst=HOST_MAC) / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6EchoRequest())
    assert (ping.source, ping.destination) == ("fe80::1", "fe80::2")


def test_the_parties_are_mac_addresses_where_there_is_no_ip() -> None:
    found = line(Ether(src=GUEST_MAC, dst=HOST_MAC) / ARP())
    assert (found.source, found.destination) == (GUEST_MAC, HOST_MAC)


def test_both_mac_addresses_are_told_beside() -> None:
    found = line(out(UDP()))
    assert (found.source_mac, found.destination_mac) == (GUEST_MAC, HOST_MAC)
    assert line(IP(dst=HOST) / UDP(), 101).source_mac is None


def test_a_frame_that_was_cut_and_one_that_ends_are_told_apart() -> None:
    data = bytes(out(TCP()))[:40]
    cut, short = describe(data, 54, 1), describe(data, 40, 1)
    assert cut.stopped == "byte 34: TCP header is cut: of the frame 40 bytes were captured"
    assert short.stopped == "byte 34: TCP header needs 20 bytes, 6 were sent"
    assert cut.protocol == short.protocol == "TCP"


def test_escapes_in_a_packet_stay_text() -> None:
    found = line(out(UDP(sport=9, dport=69) / b"\0\1\x1b[31m\xe2\x80\xae\n\0octet\0"))
    assert found.info.isprintable()
    assert "\x1b" not in found.info


def test_a_long_name_is_cut() -> None:
    found = line(out(UDP(sport=9, dport=53) / DNS(qd=[DNSQR(qname=f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}")])))
    assert len(found.info) == 200
    assert found.info.endswith("...")


@given(some.one_of(some.binary(max_size=200), mutated()), some.integers(0, 3000), some.sampled_from(LINK_TYPES))
@settings(max_examples=500, deadline=None)
def test_whatever_the_bytes_a_line_is_printable_and_bounded(data: bytes, length: int, link_type: int) -> None:
    found = describe(data, length, link_type)
    for text in (found.protocol, found.source, found.destination, found.info, found.stopped or ""):
        assert len(text) <= 200
        assert text.isprintable()
