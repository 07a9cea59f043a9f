"""What is wrong in a capture: each defect is found by its code, and its clean counterpart is not."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, XID, back, dhcp, out
from hypothesis import given, settings
from hypothesis import strategies as some
from scapy.layers.dhcp import BOOTP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from test_headers import LINK_TYPES, mutated

from rawtap.packets import findings
from rawtap.packets._savefile import Savefile
from rawtap.packets.explain import Examiner, Exchange, Finding, Verdict

BASE = 1_700_000_000_000_000_000
BROADCAST = "ff:ff:ff:ff:ff:ff"
OTHER_MAC = "52:54:00:00:00:03"
ETHER = Ether(src=GUEST_MAC)
Timed = tuple[float, Any]


def examine(
    packets: Iterable[Timed | Any], until: float = 10.0, *, lost: int = 0, link_type: int = 1, **options: Any
) -> Verdict:
    """Packets with their seconds, or one after the other in the same millisecond."""
    examiner = Examiner(link_type, **options)
    for number, each in enumerate(packets, 1):
        seconds, packet = each if isinstance(each, tuple) else (number / 10_000, each)
        data = bytes(packet)
        examiner.add(number, BASE + round(seconds * 1e9), len(data), data)
    return examiner.result(BASE + round(until * 1e9), lost)


def codes(packets: Iterable[Timed | Any], until: float = 10.0, **options: Any) -> list[str]:
    return [each.what for each in examine(packets, until, **options).findings]


def only(verdict: Verdict) -> Finding:
    (finding,) = verdict.findings
    return finding


def exchange(verdict: Verdict, kind: str) -> Exchange:
    return next(each for each in verdict.exchanges if each.kind == kind)


# ----------------------------------------------------------------- building blocks


def arp(op: int = 1, mac: str = GUEST_MAC, psrc: str = GUEST, pdst: str = HOST, **fields: Any) -> Any:
    return Ether(src=fields.pop("src", mac), dst=BROADCAST) / ARP(op=op, hwsrc=mac, psrc=psrc, pdst=pdst, **fields)


def probe(mac: str = GUEST_MAC, dst: str = BROADCAST) -> Any:
    return Ether(src=mac, dst=dst) / ARP(op=1, hwsrc=mac, psrc="0.0.0.0", pdst=GUEST)  # noqa: S104


ARP_REPLY = Ether(src=HOST_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=HOST_MAC, psrc=HOST, hwdst=GUEST_MAC, pdst=GUEST)
PING, PONG = out(ICMP(id=1, seq=1) / b"abcdefgh"), back(ICMP(type=0, id=1, seq=1) / b"abcdefgh")
SIX = Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src="fe80::1", dst="fe80::2", hlim=255)
SIX_BACK = Ether(src=HOST_MAC, dst=GUEST_MAC) / IPv6(src="fe80::2", dst="fe80::1", hlim=255)
DAD = ETHER / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1")
SOLICITATION = SIX / ICMPv6ND_NS(tgt="fe80::2") / ICMPv6NDOptSrcLLAddr(lladdr=GUEST_MAC)
ADVERTISEMENT = SIX_BACK / ICMPv6ND_NA(tgt="fe80::2", S=1) / ICMPv6NDOptDstLLAddr(lladdr=HOST_MAC)
DISCOVER = dhcp([("message-type", "discover")])
OFFER = dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST)
REQUEST = dhcp([("message-type", "request"), ("requested_addr", GUEST), ("server_id", HOST)])
LEASED = dhcp([("message-type", "ack"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST)
NAK = dhcp([("message-type", "nak"), ("server_id", HOST)], reply=True)


def query(name: str = "example.com", number: int = 7, port: int = 4000) -> Any:
    return out(UDP(sport=port, dport=53) / DNS(id=number, qd=DNSQR(qname=name)))


def answer(name: str = "example.com", number: int = 7, port: int = 4000, **fields: Any) -> Any:
    record = DNSRR(rrname=name, rdata="192.0.2.1")
    return back(UDP(sport=53, dport=port) / DNS(id=number, qr=1, qd=DNSQR(qname=name), an=record, **fields))


def refusal(about: Any, **fields: Any) -> Any:
    return back(ICMP(type=3, code=3, **fields) / IP(bytes(about)[14:42]))


def segment(flags: str, seq: int, ack: int = 0, data: bytes = b"", **fields: Any) -> Any:
    """From the client, whose first sequence number is 1000."""
    return out(TCP(sport=40000, dport=80, flags=flags, seq=seq, ack=ack, **fields) / data, id=seq & 0xFFFF)


def reply(flags: str, seq: int, ack: int, data: bytes = b"", **fields: Any) -> Any:
    """From the server, whose first sequence number is 5000."""
    return back(TCP(sport=80, dport=40000, flags=flags, seq=seq, ack=ack, **fields) / data, id=seq & 0xFFFF)


SYN, SYN_ACK, OPEN = segment("S", 1000), reply("SA", 5000, 1001), segment("A", 1001, 5001)
HANDSHAKE: list[Any] = [SYN, SYN_ACK, OPEN]
CLOSE = [segment("FA", 1001, 5001), reply("FA", 5001, 1002), segment("A", 1002, 5002)]


def fragment(at: int, size: int, *, more: bool, **fields: Any) -> Any:
    return out(Raw(bytes(size)), frag=at // 8, flags="MF" if more else 0, id=77, proto=253, **fields)


def in_vlan(tag: int, packet: Any) -> Any:
    return Ether(src=packet.src, dst=packet.dst) / Dot1Q(vlan=tag) / packet.payload.copy()


def in_pieces(packet: Any, size: int = 600) -> list[Any]:
    """In fragments, each with the Ethernet header of the whole."""
    return [Ether(src=packet.src, dst=packet.dst) / each for each in packet[IP].fragment(size)]


LONG_ANSWER = back(
    UDP(sport=53, dport=4000)
    / DNS(id=7, qr=1, qd=DNSQR(qname="example.com"), an=[DNSRR(rrname="a.example", type="TXT", rdata=b"x" * 200)] * 9)
)
# Of an update its zone, and the name of which there must be no alias (RFC 2136, 2.4).
UPDATE = bytes.fromhex("0007 2800 0001 0001 0000 0000 0178 00 0006 0001 c00c 0005 00fe 00000000 0000")
BOOT_SERVER = dhcp([("message-type", "offer"), ("server_id", "10.0.2.3")], reply=True, source="10.0.2.3")

# ----------------------------------------------------------------------- clean

CLEAN: dict[str, list[Timed | Any]] = {
    "arp": [arp(), ARP_REPLY],
    "an ARP announcement": [arp(pdst=GUEST)],
    "an ARP probe": [arp(psrc="0.0.0.0")],  # noqa: S104
    "ping": [PING, PONG],
    "a broadcast ping": [Ether(src=GUEST_MAC, dst=BROADCAST) / IP(src=GUEST, dst="10.0.2.255") / ICMP()],
    "a ping asked again with other data": [
        (0, PING), (0.2, out(ICMP(id=1, seq=1) / b"other")), (0.3, PONG),
        (0.4, back(ICMP(type=0, id=1, seq=1) / b"other")),
    ],
    "ARP probes, and announcements": [
        (0, probe()), (1, probe()), (2, probe()), (4, arp(pdst=GUEST)), (6, arp(pdst=GUEST)),
    ],
    "an address that is taken after it was free": [(0, probe()), (5, arp(mac=OTHER_MAC, pdst=GUEST))],
    "a switch that looks whether a host is there": [
        probe(mac=OTHER_MAC, dst=GUEST_MAC),
        Ether(src=GUEST_MAC, dst=OTHER_MAC) / ARP(op=2, hwsrc=GUEST_MAC, psrc=GUEST),
    ],
    "a multicast ping": [ETHER / IPv6(src="fe80::1", dst="ff02::1") / ICMPv6EchoRequest()],
    "neighbour discovery": [SOLICITATION, ADVERTISEMENT],
    "duplicate address detection": [ETHER / IPv6(src="::", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="fe80::1")],
    "a router solicitation": [ETHER / IPv6(src="fe80::1", dst="ff02::2") / ICMPv6ND_RS()],
    "dhcp": [DISCOVER, OFFER, REQUEST, LEASED],
    "dhcp by way of a retry": [(0, DISCOVER), (4, DISCOVER), (4.1, OFFER), (4.2, REQUEST), (4.3, LEASED)],
    "a DHCP server that only tells where to boot from": [DISCOVER, OFFER, BOOT_SERVER, REQUEST, LEASED],
    "a DHCP server that tries an address before it offers it": [
        (0, DISCOVER), (0.01, arp(mac=HOST_MAC, psrc=HOST, pdst=GUEST)), (0.02, back(ICMP(id=9, seq=1) / b"free?")),
        (1, OFFER), (1.01, arp(mac=HOST_MAC, psrc=HOST, pdst=GUEST)), (1.1, REQUEST), (1.2, LEASED),
    ],
    "two DHCP servers": [DISCOVER, OFFER, OFFER, REQUEST, LEASED],
    "bootp": [
        out(UDP(sport=68, dport=67) / BOOTP() / Raw(bytes(64))),
        back(UDP(sport=67, dport=68) / BOOTP(op=2) / Raw(bytes(64))),
    ],
    "dns": [query(), answer()],
    "dns asked twice": [(0, query()), (5, query()), (5.1, answer()), (5.2, answer())],
    "a long DNS answer in fragments": [query(), *in_pieces(LONG_ANSWER)],
    "two questions of one number": [query("a.example"), query("b.example"), answer("a.example"), answer("b.example")],
    "a late answer to a question before, of the same number": [
        (0, query("a.example")), (1, query("a.example")), (1.1, answer("a.example")), (1.2, query("b.example")),
        (1.3, answer("a.example")), (1.4, answer("b.example")),
    ],
    "a DNS update": [out(UDP(sport=4000, dport=53) / Raw(UPDATE))],
    "a name in capitals": [query("Example.COM"), answer("example.com")],
    "a name that does not exist": [query(), answer(rcode=3)],
    "udp that nobody answers": [out(UDP(sport=1, dport=9999) / b"abc")],
    "mdns": [ETHER / IP(src=GUEST, dst="224.0.0.251") / UDP(sport=5353, dport=5353) / DNS(qd=DNSQR(qname="a.local"))],
    "tcp": [*HANDSHAKE, segment("PA", 1001, 5001, b"abc"), reply("A", 5001, 1004), *[]],
    "a SYN with data": [segment("S", 1000, data=b"abc"), reply("SA", 5000, 1004), segment("A", 1004, 5001)],
    "tcp in fragments": [
        *HANDSHAKE, *in_pieces(segment("PA", 1001, 5001, b"a" * 2000)), (0.1, reply("A", 5001, 3001)),
        (0.2, segment("A", 3001, 5001)),
    ],
    "tcp that closes": [*HANDSHAKE, *CLOSE],
    "tcp in the middle": [segment("PA", 90000, 70000, b"abc"), reply("A", 70000, 90003)],
    "tcp with wrapping numbers": [
        segment("S", 0xFFFFFFFE), reply("SA", 5000, 0xFFFFFFFF), segment("A", 0xFFFFFFFF, 5001),
        segment("PA", 0xFFFFFFFF, 5001, b"abcd"), reply("A", 5001, 3),
    ],
    "a keep-alive": [*HANDSHAKE, (5, segment("A", 1000, 5001)), (5.1, reply("A", 5001, 1001))],
    "a keep-alive with a byte": [
        *HANDSHAKE, segment("PA", 1001, 5001, b"abc"), reply("A", 5001, 1004),
        (5, segment("A", 1003, 5001, b"x")), (5.1, reply("A", 5001, 1004)),
    ],
    "probes of a closed window": [
        *HANDSHAKE, (1.0, reply("A", 5001, 1001, window=0)), (1.2, segment("A", 1001, 5001, b"x")),
        (1.3, reply("A", 5001, 1001, window=0)), (1.6, segment("A", 1001, 5001, b"x")),
        (1.7, reply("A", 5001, 1002, window=900)),
    ],
    "a SYN sent again and answered": [(0, SYN), (1, SYN), (1.1, SYN_ACK), (1.2, OPEN)],
    "segments out of order": [
        *HANDSHAKE, (1.0, segment("A", 1101, 5001, b"b" * 100)), (1.001, segment("A", 1001, 5001, b"a" * 100)),
        (1.002, reply("A", 5001, 1201)),
    ],
    "duplicate acknowledgments": [*HANDSHAKE, *[reply("A", 5001, 1001)] * 4],
    "an RST after the FINs": [*HANDSHAKE, *CLOSE[:2], segment("R", 1002)],
    "data beyond the window that is taken": [
        SYN, reply("SA", 5000, 1001, window=10), OPEN, segment("PA", 1001, 5001, b"a" * 100),
        (0.1, reply("A", 5001, 1101, window=10)),
    ],
    "a window that closes for a moment": [
        *HANDSHAKE, reply("A", 5001, 1001, window=0), (0.5, reply("A", 5001, 1001, window=900)),
    ],
    "a window that closes on data on its way": [
        *HANDSHAKE, (0.1, segment("PA", 1001, 5001, b"abc")), (0.11, reply("A", 5001, 1001, window=0)),
        (0.9, reply("A", 5001, 1001, window=900)), (1.5, reply("A", 5001, 1004, window=900)),
    ],
    "a SYN captured behind its answer": [SYN_ACK, SYN, OPEN, *CLOSE],
    "the same ports again": [
        *HANDSHAKE, *CLOSE, segment("S", 900000), reply("SA", 800000, 900001), segment("A", 900001, 800001),
        segment("PA", 900001, 800001, b"abc"), reply("A", 800001, 900004),
    ],
    "both close at once": [
        *HANDSHAKE, segment("FA", 1001, 5001), reply("FA", 5001, 1001),
        segment("A", 1002, 5002), reply("A", 5002, 1002),
    ],
    "an acknowledgment captured before its data": [
        *HANDSHAKE, (1.0, reply("A", 5001, 1004)), (1.0001, segment("PA", 1001, 5001, b"abc")),
    ],
    "an acknowledgment of what is captured later": [
        *HANDSHAKE, (1, reply("A", 5001, 1004)), (1.5, segment("PA", 1001, 5001, b"abc")),
    ],
    "a segment captured twice": [
        *HANDSHAKE, (1, segment("PA", 1001, 5001, b"abc")), (1.0001, segment("PA", 1001, 5001, b"abc")),
        (1.0002, reply("A", 5001, 1004)),
    ],
    "fragments": [fragment(800, 100, more=False), fragment(0, 800, more=True)],
    "fragments captured twice": [
        fragment(0, 800, more=True), fragment(0, 800, more=True),
        fragment(800, 100, more=False), fragment(800, 100, more=False),
    ],
    "the last fragment captured twice": [
        fragment(0, 800, more=True), fragment(800, 100, more=False), fragment(800, 100, more=False),
    ],
    "a fragment that comes twice": [
        fragment(0, 800, more=True), fragment(0, 800, more=True), fragment(800, 100, more=False),
    ],
    "padding": [bytes(out(UDP(sport=1, dport=2) / b"abc")).ljust(60, b"\0")],
    "no padding": [out(UDP(sport=1, dport=2) / b"abc")],
    "fragmentation needed": [back(ICMP(type=3, code=4) / IP(src=GUEST, dst=HOST) / UDP())],
    "what a router forwards": [
        arp(), ARP_REPLY, arp(mac=OTHER_MAC, psrc="10.0.2.1", pdst="10.0.2.1"),
        Ether(src=OTHER_MAC, dst=HOST_MAC) / IP(src=GUEST, dst=HOST, ttl=63) / UDP(sport=1, dport=2),
    ],
    "the same address in two VLANs": [
        in_vlan(7, arp(pdst=GUEST)), in_vlan(8, arp(mac=OTHER_MAC, pdst=GUEST)), arp(mac=HOST_MAC, pdst=GUEST),
    ],
    "a tunnel without a checksum": [SIX / UDP(sport=1, dport=4789, chksum=0) / bytes(8)],
    "loopback": [Ether(src="0:0:0:0:0:0", dst="0:0:0:0:0:0") / IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=1)],
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_wrong_with(name: str) -> None:
    assert examine(CLEAN[name]).findings == ()


# --------------------------------------------------------------------- defects

NO_COOKIE = UDP(sport=68, dport=67) / BOOTP(xid=1, options=b"abcd") / Raw(b"\x35\x01\x01\xff")

DEFECTS: dict[str, tuple[list[Timed | Any], str]] = {
    "a wrong IPv4 checksum": ([out(UDP(sport=1, dport=2), chksum=1)], "ipv4.checksum_wrong"),
    "a wrong UDP checksum": ([out(UDP(sport=1, dport=2, chksum=1) / b"abc")], "udp.checksum_wrong"),
    "a wrong TCP checksum": ([out(TCP(sport=1, dport=2, flags="A", chksum=1))], "tcp.checksum_wrong"),
    "a wrong ICMP checksum": ([back(ICMP(type=0, chksum=1))], "icmp.checksum_wrong"),
    "a wrong ICMPv6 checksum": ([SIX / ICMPv6ND_RS(cksum=1)], "icmpv6.checksum_wrong"),
    "no UDP checksum in IPv6": ([SIX / UDP(sport=1, dport=2, chksum=0)], "udp.checksum_zero"),
    "an IPv4 length beyond the frame": ([out(UDP(sport=1, dport=2), len=99)], "ip.total_length"),
    "an IPv6 length beyond the frame": ([SIX.copy() / UDP(sport=1, dport=2)], "ip.payload_length"),
    "a UDP length beyond the packet": ([out(UDP(sport=1, dport=2, len=99))], "udp.length_beyond"),
    "a UDP length that leaves bytes over": ([out(UDP(sport=1, dport=2, len=9) / b"ab")], "udp.length_short"),
    "a data offset beyond the segment": ([out(TCP(sport=1, dport=2, dataofs=15))], "tcp.data_offset"),
    "an IPv4 header length that is too small": ([out(UDP(), ihl=3)], "ip.header_length"),
    "ARP address lengths": ([arp(hwlen=5)], "arp.lengths"),
    "an 802.3 length": ([bytes(12) + b"\x01\x00" + bytes(46)], "ethernet.length"),
    "padding": ([bytes(out(UDP(sport=1, dport=2))).ljust(60, b"x")], "ethernet.padding"),
    "a trailer": ([bytes(out(UDP(sport=1, dport=2) / bytes(50))) + b"1234"], "ethernet.trailer"),
    "a group as Ethernet source": ([Ether(src=BROADCAST) / IP(src=GUEST, dst=HOST) / UDP()], "ethernet.source_group"),
    "a group as IPv4 source": ([ETHER / IP(src="224.0.0.1", dst=HOST) / UDP(sport=1)], "ip.source_group"),
    "a group as IPv6 source": ([ETHER / IPv6(src="ff02::1", dst="fe80::1") / UDP(sport=1)], "ip.source_group"),
    "Land": ([out(TCP(sport=80, dport=80, flags="S")).__class__(bytes(
        Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=HOST, dst=HOST) / TCP(sport=80, dport=80, flags="S"))),
    ], "ip.source_is_destination"),
    "a loopback address": ([ETHER / IP(src="127.0.0.1", dst=HOST) / UDP(sport=1)], "ip.loopback_address"),
    "a time to live of zero": ([out(UDP(sport=1), ttl=0)], "ip.ttl_zero"),
    "a hop limit of zero": ([ETHER / IPv6(src="fe80::1", dst="fe80::2", hlim=0) / UDP(sport=1)], "ip.ttl_zero"),
    "neighbour discovery from afar": (
        [ETHER / IPv6(src="fe80::1", dst="ff02::2", hlim=64) / ICMPv6ND_RS()], "ndp.hop_limit"),
    "ARP that nobody answers": ([arp()], "arp.no_answer"),
    "ARP from another sender": ([arp(pdst=GUEST, src=OTHER_MAC)], "arp.sender_mismatch"),
    "two that claim an address": ([arp(pdst=GUEST), arp(mac=OTHER_MAC, pdst=GUEST)], "arp.duplicate"),
    "a sender with the address of another": ([
        arp(), ARP_REPLY, arp(mac=OTHER_MAC, psrc="10.0.2.99", pdst="10.0.2.99"),
        Ether(src=OTHER_MAC, dst=HOST_MAC) / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=2),
    ], "ip.source_of_another"),
    "a probe for an address that another has": (
        [probe(), Ether(src=OTHER_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=OTHER_MAC, psrc=GUEST, hwdst=GUEST_MAC)],
        "arp.address_in_use"),
    "two that probe for an address": ([probe(), probe(mac=OTHER_MAC)], "arp.address_in_use"),
    "a reply to another hardware address": (
        [arp(), Ether(src=HOST_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=HOST_MAC, psrc=HOST, hwdst=OTHER_MAC, pdst=GUEST)],
        "arp.target_mismatch"),
    "an IPv6 address that another has": (
        [DAD, Ether(src=OTHER_MAC) / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::1", S=0)],
        "ndp.address_in_use"),
    "a solicitation that nobody answers": ([SOLICITATION], "ndp.no_answer"),
    "a ping that nobody answers": ([PING], "icmp.no_reply"),
    "a reply to another ping": ([PING, back(ICMP(type=0, id=1, seq=2) / b"abcdefgh")], "icmp.reply_mismatch"),
    "a reply with other data": ([PING, back(ICMP(type=0, id=1, seq=1) / b"abcdefgX")], "icmp.reply_differs"),
    "a port that is unreachable": ([refusal(out(UDP(sport=4000, dport=69)))], "icmp.unreachable"),
    "a time to live that ran out": (
        [back(ICMP(type=11) / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=2))], "icmp.time_exceeded"),
    "a discover that nobody answers": ([DISCOVER], "dhcp.no_offer"),
    "a request that nobody answers": ([DISCOVER, OFFER, REQUEST], "dhcp.no_ack"),
    "a BOOTP request that nobody answers": (
        [out(UDP(sport=68, dport=67) / BOOTP() / Raw(bytes(64)))], "bootp.no_reply"),
    "a refused request": ([REQUEST, NAK], "dhcp.nak"),
    "another transaction number": ([DISCOVER, dhcp(
        [("message-type", "offer"), ("server_id", HOST), ("lease_time", 6)], reply=True, xid=9)], "dhcp.xid_mismatch"),
    "an offer for another client": ([DISCOVER, dhcp(
        [("message-type", "offer"), ("server_id", HOST), ("lease_time", 6)], reply=True, chaddr=OTHER_MAC)],
        "dhcp.other_client"),
    "no message type": ([dhcp([("requested_addr", GUEST)]), dhcp([], reply=True)], "dhcp.no_message_type"),
    "no magic cookie": ([out(NO_COOKIE), dhcp([], reply=True, xid=1, chaddr="00:" * 5 + "00")], "dhcp.no_cookie"),
    "no end option": ([dhcp([("message-type", "discover")], end=()), OFFER], "dhcp.no_end"),
    "an option that runs over": ([dhcp([("message-type", "discover")], end=(b"\x32",)), OFFER], "dhcp.options"),
    "a client with an address too early": (
        [dhcp([("message-type", "discover")], source=GUEST), OFFER], "dhcp.source_address"),
    "an offer of no server": (
        [DISCOVER, dhcp([("message-type", "offer"), ("lease_time", 6)], reply=True)], "dhcp.no_server_identifier"),
    "an offer without a lease time": (
        [DISCOVER, dhcp([("message-type", "offer"), ("server_id", HOST)], reply=True, yiaddr=GUEST)],
        "dhcp.no_lease_time"),
    "a query that nobody answers": ([query()], "dns.no_answer"),
    "SERVFAIL": ([query(), answer(rcode=2)], "dns.servfail"),
    "FORMERR": ([query(), answer(rcode=1)], "dns.formerr"),
    "REFUSED": ([query(), answer(rcode=5)], "dns.refused"),
    "an answer with another number": ([query(), answer(number=8)], "dns.id_mismatch"),
    "an answer to another question": ([query(), answer("other.example")], "dns.other_question"),
    "a DNS name that loops": (
        [out(UDP(sport=9, dport=53) / Raw(bytes.fromhex("00070100000100000000 0000 c00c 0001 0001"))), answer(port=9)],
        "dns.malformed"),
    "a SYN that nobody answers": ([(0, SYN), (1, SYN), (3, SYN)], "tcp.no_answer"),
    "a refused connection": ([SYN, reply("RA", 0, 1001)], "tcp.refused"),
    "a SYN acknowledged by another number": (
        [SYN, reply("SA", 5000, 1000), segment("R", 1000)], "tcp.syn_ack_mismatch"),
    "a SYN's data that are not taken": ([
        segment("S", 1000, data=b"abc"), reply("SA", 5000, 1001), segment("PA", 1001, 5001, b"abc"),
        reply("A", 5001, 1004)], "tcp.retransmission"),
    "a SYN and ACK that nobody acknowledges": (
        [(0, SYN), (0.01, SYN_ACK), (1, SYN), (1.01, SYN_ACK), (3, SYN), (3.01, SYN_ACK)], "tcp.stalled"),
    "a SYN and ACK that is acknowledged late": ([SYN, SYN_ACK, (3, OPEN)], "tcp.stalled"),
    "a reset connection": ([*HANDSHAKE, segment("R", 1001)], "tcp.reset"),
    "data that is sent again": ([
        *HANDSHAKE, (1, segment("PA", 1001, 5001, b"abc")), (1.3, segment("PA", 1001, 5001, b"abc")),
        (1.4, reply("A", 5001, 1004))], "tcp.retransmission"),
    "a byte that is sent again": ([
        *HANDSHAKE, (1, segment("PA", 1001, 5001, b"a")), (1.3, segment("PA", 1001, 5001, b"a")),
        (1.4, reply("A", 5001, 1002))], "tcp.retransmission"),
    "two hosts of one address in a VLAN": (
        [in_vlan(7, arp(pdst=GUEST)), in_vlan(7, arp(mac=OTHER_MAC, pdst=GUEST))], "arp.duplicate"),
    "data that fills a hole late": ([
        *HANDSHAKE, (1, segment("A", 1101, 5001, b"b" * 100)), (1.3, segment("A", 1001, 5001, b"a" * 100)),
        (1.4, reply("A", 5001, 1201))], "tcp.retransmission"),
    "a window that stays closed": (
        [*HANDSHAKE, reply("A", 5001, 1001, window=0), (3, reply("A", 5001, 1001, window=900))], "tcp.zero_window"),
    "a window that never opens": ([*HANDSHAKE, reply("A", 5001, 1001, window=0)], "tcp.zero_window"),
    "a window that never opens to data on its way": ([
        *HANDSHAKE, segment("PA", 1001, 5001, b"abc"), reply("A", 5001, 1001, window=0)], "tcp.zero_window"),
    "data after the FIN": (
        [*HANDSHAKE, *CLOSE, segment("PA", 1002, 5002, b"abc"), reply("A", 5002, 1005)], "tcp.data_after_fin"),
    "an acknowledgment of nothing": (
        [*HANDSHAKE, (1, reply("A", 5001, 2001)), (1.5, segment("A", 1001, 5001))], "tcp.ack_beyond"),
    "data beyond the window": ([
        SYN, reply("SA", 5000, 1001, window=10), OPEN, segment("PA", 1001, 5001, b"a" * 100),
        (0.1, reply("A", 5001, 1011, window=0)), (0.2, reply("A", 5001, 1011, window=10))], "tcp.outside_window"),
    "data that is never acknowledged": ([*HANDSHAKE, segment("PA", 1001, 5001, b"abc")], "tcp.stalled"),
    "data that is acknowledged late": (
        [*HANDSHAKE, segment("PA", 1001, 5001, b"abc"), (4, reply("A", 5001, 1004))], "tcp.stalled"),
    "fragments that overlap": (
        [fragment(0, 800, more=True), fragment(792, 108, more=False)], "ip.fragment_overlap"),
    "a fragment that is missing": ([fragment(0, 800, more=True)], "ip.fragments_incomplete"),
    "a fragment of a size that does not fit": (
        [fragment(0, 804, more=True), fragment(804 // 8 * 8 + 8, 100, more=False)], "ip.fragment_size"),
    "a fragment beyond the largest packet": ([fragment(65528, 100, more=False)], "ip.fragment_beyond"),
    "IPv6 fragments that overlap": ([
        SIX / IPv6ExtHdrFragment(id=7, m=1, nh=59) / Raw(bytes(80)),
        SIX / IPv6ExtHdrFragment(id=7, offset=9, nh=59) / Raw(bytes(80))], "ip.fragment_overlap"),
}  # fmt: skip
BESIDE = {
    # What goes with a defect by its nature.
    "a fragment of a size that does not fit": ["ip.fragments_incomplete"],
    "a fragment beyond the largest packet": ["ip.fragments_incomplete"],
    "a SYN acknowledged by another number": ["tcp.reset"],
    "a reset connection": [],
    "data beyond the window": ["tcp.stalled"],
    "a group as Ethernet source": ["ethernet.destination_group"],
    "a group as IPv4 source": ["ethernet.destination_group"],
    "a loopback address": ["ethernet.destination_group"],
    "no end option": ["dhcp.offer_not_taken"],
    "an option that runs over": ["dhcp.offer_not_taken"],
    "a client with an address too early": ["dhcp.offer_not_taken"],
    "an offer of no server": ["dhcp.offer_not_taken"],
    "an offer without a lease time": ["dhcp.offer_not_taken"],
}
DEFECTS["an IPv6 length beyond the frame"][0][0].plen = 99


@pytest.mark.parametrize("name", DEFECTS)
def test_it_finds(name: str) -> None:
    packets, code = DEFECTS[name]
    verdict = examine(packets)
    assert [each.what for each in verdict.findings if each.what not in BESIDE.get(name, [])] == [code]
    for finding in verdict.findings:
        assert finding.says
        assert finding.rule
        assert finding.evidence
        assert finding.packets


def test_each_finding_names_the_rule_of_its_code() -> None:
    rules = {code: only(examine(packets)).rule for packets, code in DEFECTS.values() if len(codes(packets)) == 1}
    assert rules["udp.checksum_wrong"] == "RFC 768; RFC 1122, 4.1.3.4"
    assert rules["arp.duplicate"] == "RFC 5227, 2.4"
    assert rules["dhcp.no_offer"] == "RFC 2131, 3.1"


def test_a_wrong_checksum_is_told_with_what_was_expected() -> None:
    finding = only(examine([out(UDP(sport=1, dport=2, chksum=0x1234) / b"abc")]))
    assert finding.says == "10.0.2.15:1 to 10.0.2.2: the UDP checksum is wrong"
    assert finding.evidence == "found 0x1234, expected 0x2362"


# -------------------------------------------------------------------- aggregates


def test_the_same_thing_is_one_finding_with_its_first_packets_and_a_count() -> None:
    finding = only(examine([out(UDP(sport=1, dport=2, chksum=1) / b"abc")] * 25))
    assert (finding.count, finding.packets) == (25, tuple(range(1, 11)))


def test_repeated_requests_are_told() -> None:
    verdict = examine([(0, arp()), (1, arp()), (2, arp())], until=5)
    finding = only(verdict)
    assert finding.says == "10.0.2.15 asks who has 10.0.2.2, and nobody answers"
    assert finding.evidence == "no answer in the 5.0 s from packet 1 to the end, asked 3 times"
    assert (finding.packets, finding.count) == ((1, 2, 3), 3)
    assert exchange(verdict, "ARP") == Exchange("ARP", GUEST, HOST, 1, 0, 1, 2, None, None)


def test_a_request_captured_twice_was_asked_once() -> None:
    verdict = examine([(0, PING), (0.0002, PING), (0.0004, PONG), (0.0006, PONG)])
    assert verdict.findings == ()
    assert exchange(verdict, "ICMP echo") == Exchange(
        "ICMP echo", GUEST, HOST, 1, 1, 0, 0, 0.0004, 0.0004, ("id 1 seq 1 in 1: answered by 3",)
    )


def test_answers_are_timed() -> None:
    pings: list[Any] = []
    for number, seconds in enumerate((0.001, 0.002, 0.009)):
        pings += [
            (number, out(ICMP(id=1, seq=number))),
            (number + seconds, back(ICMP(type=0, id=1, seq=number))),
        ]
    found = exchange(examine(pings), "ICMP echo")
    told = tuple(f"id 1 seq {each} in {2 * each + 1}: answered by {2 * each + 2}" for each in range(3))
    assert found == Exchange("ICMP echo", GUEST, HOST, 3, 3, 0, 0, 0.002, 0.009, told)


@pytest.mark.parametrize(
    ("kind", "packets"),
    [("DHCP", CLEAN["dhcp"]), ("DNS", CLEAN["dns"]), ("TCP", CLEAN["tcp"]), ("NDP", CLEAN["neighbour discovery"])],
)
def test_exchanges_are_counted(kind: str, packets: list[Any]) -> None:
    found = [each for each in examine(packets).exchanges if each.kind == kind]
    assert found
    assert all((each.requests, each.answered, each.unanswered) == (1, 1, 0) for each in found)


def test_a_name_that_does_not_exist_is_a_note() -> None:
    verdict = examine(CLEAN["a name that does not exist"])
    assert verdict.notes == (
        "The DNS server 10.0.2.2 says of 1 queries that the name does not exist, first A example.com",
    )


def test_padding_by_moods_is_a_note() -> None:
    short = bytes(out(UDP(sport=1, dport=2)))
    assert examine([short, short.ljust(60, b"\0")]).notes == (
        "52:54:00:00:00:01 pads some of its short frames to 60 bytes and leaves others short",
    )
    assert examine([short, short]).notes == ()


# ----------------------------------------------------- what is no finding


@pytest.mark.parametrize("packet", [arp(), PING, SYN, SOLICITATION, query(), DISCOVER])
def test_a_request_has_its_time(packet: Any) -> None:
    assert codes([(0, packet)], until=0.9) == []
    assert codes([(0, packet)], until=9) != []


def test_what_was_dropped_may_be_the_answer() -> None:
    finding = only(examine([PING], lost=3))
    assert finding.evidence.endswith("3 packets of the capture were lost, and what is missing may be among them")
    wrong = only(examine([out(UDP(sport=1, dport=2, chksum=1))], lost=3))
    assert "dropped" not in wrong.evidence


def test_a_result_in_between_changes_nothing() -> None:
    examiner = Examiner(1)
    examiner.add(1, BASE, len(bytes(PING)), bytes(PING))
    assert [each.what for each in examiner.result(BASE + 2 * 10**9).findings] == ["icmp.no_reply"]
    examiner.add(2, BASE + 3 * 10**9, len(bytes(PONG)), bytes(PONG))
    assert examiner.result(BASE + 9 * 10**9).findings == ()
    assert examiner.result(BASE + 9 * 10**9).examined == 2


@pytest.mark.parametrize(
    "about", [query(), PING, SYN], ids=["dns", "ping", "tcp"]
)  # fmt: skip
def test_a_request_that_an_error_answers_is_refused_and_not_unanswered(about: Any) -> None:
    assert codes([about, refusal(about)]) == ["icmp.unreachable"]


def test_a_frame_that_the_snaplen_cut_is_not_judged_by_what_is_missing() -> None:
    data = bytes(out(UDP(sport=1, dport=2, chksum=1) / bytes(500)))
    examiner = Examiner(1)
    examiner.add(1, BASE, len(data), data[:60])
    verdict = examiner.result(BASE + 10**10)
    assert verdict.findings == ()
    assert verdict.notes == ("1 frames were not captured in full: their checksums are not judged",)


def test_a_checksum_left_to_hardware_is_a_note() -> None:
    packet = out(UDP(sport=1, dport=2, chksum=0x1864 + 0) / bytes(100))
    data = bytearray(bytes(packet))
    partial = sum((0x0A00, 0x020F, 0x0A00, 0x0202, 17, 108))
    data[40:42] = partial.to_bytes(2, "big")
    verdict = examine([bytes(data)])
    assert verdict.findings == ()
    assert verdict.notes == ("1 checksums were left to the hardware to finish, which is no defect",)


def test_what_waits_for_its_acknowledgment_is_named() -> None:
    assert only(examine([SYN, SYN_ACK])).says == "10.0.2.2:80 to 10.0.2.15: the SYN is never acknowledged"
    stalled = only(examine([*HANDSHAKE, segment("PA", 1001, 5001, b"abc")]))
    assert stalled.says == "10.0.2.15 to 10.0.2.2:80: data is never acknowledged"


def test_a_wrong_acknowledgment_of_a_syn_is_told_with_the_number_that_was_expected() -> None:
    finding, _ = examine([SYN, reply("SA", 5000, 1000), segment("R", 1000)]).findings
    assert finding.evidence == "acknowledgment 1000, expected 1001"


def test_a_connection_in_fragments_is_not_judged_and_told() -> None:
    verdict = examine([*HANDSHAKE, *in_pieces(segment("PA", 1001, 5001, b"a" * 2000))])
    assert verdict.notes == ("1 TCP connections have segments in fragments: their flow is not judged",)


def test_a_fragments_number_is_another_packets_after_a_minute() -> None:
    again = [(100, fragment(0, 600, more=True)), (100.1, fragment(600, 100, more=False))]
    assert codes([(0, fragment(0, 800, more=True)), *again], until=200) == ["ip.fragments_incomplete"]
    assert "ip.fragment_overlap" in codes([(70, fragment(0, 800, more=True)), *again], until=200)


def test_a_dhcp_message_whose_type_was_cut_off_is_of_no_kind() -> None:
    data = bytes(dhcp([("requested_addr", GUEST), ("message-type", "discover")]))
    examiner = Examiner(1)
    examiner.add(1, BASE, len(data), data[:285])
    assert examiner.result(BASE + 10**11).findings == ()


def test_a_ping_that_may_be_for_all_is_not_missed_an_answer() -> None:
    assert codes([IP(src=GUEST, dst="10.0.2.255") / ICMP()], link_type=101) == []
    assert codes([IP(src=GUEST, dst=HOST) / ICMP()], link_type=101) == ["icmp.no_reply"]


def test_frames_that_are_not_read_are_told() -> None:
    verdict = examine([PING, PING], link_type=147)
    assert verdict.findings == ()
    assert verdict.notes == ("2 frames of link type 147 are not read: nothing in them is judged",)


# -------------------------------------------------------- what a filter hides


def passes(*parts: tuple[int, bytes]) -> Callable[[bytes], bool]:
    """A filter for frames that have these bytes there."""
    return lambda frame: all(frame[at : at + len(part)] == part for at, part in parts)


FROM_GUEST = passes((6, bytes.fromhex("525400000001")))


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([arp()], "ARP"), ([PING], "ICMP echo"), ([DISCOVER], "DHCP"), ([query()], "DNS"), ([SYN], "TCP"),
        ([SOLICITATION], "NDP"), ([*HANDSHAKE, segment("PA", 1001, 5001, b"abc")], "TCP"),
    ],
)  # fmt: skip
def test_where_the_filter_hides_answers_their_absence_is_no_finding(packets: list[Any], told: str) -> None:
    assert codes(packets, answers_pass=lambda _: True) != []
    verdict = examine(packets, answers_pass=FROM_GUEST)
    assert verdict.findings == ()
    assert "The filter hides" in verdict.notes[0]
    assert told in verdict.notes[0]


@pytest.mark.parametrize(
    ("packets", "at", "part"),
    [
        ([arp()], 20, b"\0\2"),
        ([PING], 34, b"\0"),
        ([query()], 34, b"\0\x35\x0f\xa0"),
        ([query()], 44, b"\x81"),
        ([DISCOVER], 34, b"\0\x43\0\x44"),
        ([SOLICITATION], 54, b"\x88"),
    ],
)
def test_a_filter_is_asked_about_the_answer_itself(packets: list[Any], at: int, part: bytes) -> None:
    assert codes(packets, answers_pass=passes((at, part))) != []
    assert codes(packets, answers_pass=passes((at, bytes(each ^ 0xFF for each in part)))) == []


def test_a_filter_for_openings_alone_hides_the_rest_of_a_connection() -> None:
    def only_syn(frame: bytes) -> bool:
        return bool(frame[47] & 2)

    assert codes([SYN, SYN_ACK, reply("SA", 5000, 1001)], answers_pass=only_syn) == []


@pytest.mark.parametrize(("flags", "found"), [({0x12, 0x14}, ["tcp.no_answer"]), ({0x12}, []), ({0x14}, [])])
def test_a_connection_may_be_answered_in_two_ways(flags: set[int], found: list[str]) -> None:
    assert codes([SYN], answers_pass=lambda frame: frame[47] in flags) == found


def test_a_filter_by_length_is_asked_with_true_lengths() -> None:
    def is_honest(frame: bytes) -> bool:
        return int.from_bytes(frame[16:18], "big") == len(frame) - 14

    packets = [*HANDSHAKE, segment("PA", 1001, 5001, b"abc")]
    assert codes(packets, answers_pass=is_honest) == ["tcp.stalled"]
    assert codes(packets, answers_pass=lambda frame: is_honest(frame) and len(frame) < 500) == []


def test_a_filter_for_ports_hides_later_fragments() -> None:
    def first_only(frame: bytes) -> bool:
        return not (frame[20] & 0x1F or frame[21])

    packets = [fragment(0, 800, more=True)]
    assert codes(packets, answers_pass=lambda _: True) == ["ip.fragments_incomplete"]
    assert codes(packets, answers_pass=first_only) == []


def compiled(expression: str) -> Callable[[bytes], bool]:
    """libpcap's own filter, on a savefile of one packet."""

    def passes_it(frame: bytes) -> bool:
        fd = os.memfd_create("one")
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1)
        os.write(fd, head + struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
        os.lseek(fd, 0, os.SEEK_SET)
        savefile = Savefile(fd, expression)
        savefile.count_rest()
        return savefile.matched == 1

    return passes_it


@pytest.mark.parametrize(
    ("expression", "packets", "found"),
    [
        ("udp port 53", [query()], ["dns.no_answer"]),
        ("udp dst port 53", [query()], []),
        ("host 10.0.2.2", [query()], ["dns.no_answer"]),
        ("src host 10.0.2.15", [query()], []),
        ("arp", [arp()], ["arp.no_answer"]),
        ("arp[6:2] = 1", [arp()], []),
        ("ether src 52:54:00:00:00:01", [arp()], []),
        ("ether host 52:54:00:00:00:01", [arp()], ["arp.no_answer"]),
        ("icmp", [PING], ["icmp.no_reply"]),
        ("icmp[icmptype] = icmp-echo", [PING], []),
        ("udp port 67 or udp port 68", [DISCOVER], ["dhcp.no_offer"]),
        ("udp dst port 67", [DISCOVER], []),
        ("icmp6", [SOLICITATION], ["ndp.no_answer"]),
        ("icmp6 and ip6[40] = 135", [SOLICITATION], []),
        ("tcp port 80", [SYN], ["tcp.no_answer"]),
        ("tcp[tcpflags] & tcp-syn != 0", [SYN], []),
        ("tcp port 80", [*HANDSHAKE, segment("PA", 1001, 5001, b"abc")], ["tcp.stalled"]),
        ("tcp[tcpflags] & (tcp-syn|tcp-push) != 0", [*HANDSHAKE, segment("PA", 1001, 5001, b"abc")], []),
        ("tcp dst port 80", [*HANDSHAKE, segment("PA", 1001, 5001, b"abc")], []),
        ("proto 253", [fragment(0, 800, more=True)], ["ip.fragments_incomplete"]),
        ("ip[6:2] & 0x1fff = 0", [fragment(0, 800, more=True)], []),
    ],
)
def test_libpcaps_filters_are_asked(expression: str, packets: list[Any], found: list[str]) -> None:
    assert codes(packets, answers_pass=compiled(expression)) == found


# ------------------------------------------------------------------ bounds


def test_a_hundred_thousand_connections_are_bounded_and_told() -> None:
    data = bytearray(bytes(SYN))
    examiner = Examiner(1)
    for number in range(100_000):
        data[26:30] = (0x0A010000 + (number >> 4)).to_bytes(4, "big")
        data[34:36] = (40000 + number % 16).to_bytes(2, "big")
        examiner.add(number + 1, BASE + number * 1000, len(data), bytes(data))
    verdict = examiner.result(BASE + 10**10)
    told = {each.what: each.count for each in verdict.findings}
    assert (len(verdict.findings), told["tcp.no_answer"]) == (3, findings.MAX_PENDING)
    assert len(verdict.exchanges) <= findings.MAX_PENDING
    assert any("more TCP connections than are kept" in note for note in verdict.notes)


def test_connections_that_are_over_make_room() -> None:
    examiner = Examiner(1)
    closing = [bytearray(bytes(each)) for each in (*HANDSHAKE, *CLOSE)]
    for number in range(findings.MAX_PENDING + 50):
        for data in closing:
            port = 34 if data[6:12] == bytes.fromhex("525400000001") else 36
            data[port : port + 2] = (1 + number % 60000 + 100).to_bytes(2, "big")
            examiner.add(1, BASE + number * 1000, len(data), bytes(data))
    assert not any("kept" in note for note in examiner.result(BASE + 10**10).notes)


@given(
    some.lists(some.one_of(some.binary(max_size=200), mutated()), max_size=8),
    some.sampled_from(LINK_TYPES),
    some.integers(0, 400),
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_and_what_is_said_is_printable_and_bounded(
    frames: list[bytes], link_type: int, length: int
) -> None:
    examiner = Examiner(link_type, answers_pass=lambda frame: len(frame) % 2 == 0)
    for number, frame in enumerate(frames * 2):
        examiner.add(number, BASE + number * 10**9, length, frame)
    verdict = examiner.result(BASE + 10**11, 1)
    texts = [text for each in verdict.findings for text in (each.says, each.evidence, each.rule, each.what)]
    texts += [text for each in verdict.exchanges for text in (each.asker, each.asked)]
    for text in (*texts, *verdict.notes):
        assert len(text) <= 400
        assert text.isprintable()


def test_the_transaction_number_is_that_of_the_corpus() -> None:
    assert examine([DISCOVER]).findings[0].says == "52:54:00:00:00:01 sends a DHCP discover, and no server answers"
    assert XID == 0x1234
