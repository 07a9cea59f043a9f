"""Headers read from bytes: as scapy wrote them, and cut or broken in every way without an exception."""

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, XID, back, dhcp, out
from hypothesis import example, given, settings
from hypothesis import strategies as some
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Raw

from rawtap.packets.dhcp import Dhcp
from rawtap.packets.dns import Dns
from rawtap.packets.headers import Cooked, Ethernet, Fragment, Frame, Ip, parse
from rawtap.packets.transport import Icmp, Igmp, Tcp, Udp

LINK_TYPES = (0, 1, 12, 101, 108, 113, 276, 228, 229, 189)


def read(packet: Any, link_type: int = 1) -> Frame:
    data = bytes(packet)
    return parse(data, len(data), link_type)


def numbers(address: str) -> bytes:
    return bytes(int(each) for each in address.split("."))


def ip_of(frame: Frame) -> Ip:
    assert frame.ip is not None
    return frame.ip


def codes(frame: Frame) -> list[str]:
    return [each.what for each in frame.problems]


# -------------------------------------------------------------------- links


def test_an_ethernet_frame_is_read_with_its_tags() -> None:
    frame = read(Ether(src=GUEST_MAC, dst=HOST_MAC) / Dot1AD(vlan=5) / Dot1Q(vlan=7) / IP(dst=HOST) / UDP())
    assert isinstance(frame.link, Ethernet)
    assert frame.link.source.hex(":") == GUEST_MAC
    assert frame.link.destination.hex(":") == HOST_MAC
    assert frame.link.tags == (5, 7)
    assert (frame.kind, ip_of(frame).offset) == (0x0800, 22)


def test_an_802_3_frame_has_a_length_and_no_type() -> None:
    frame = read(Dot3(src=GUEST_MAC, dst="01:80:c2:00:00:00") / LLC() / STP())
    assert isinstance(frame.link, Ethernet)
    assert (frame.link.stated, frame.kind, frame.stopped) == (38, None, None)


def test_ip_behind_a_snap_header_is_read() -> None:
    frame = read(Dot3(src=GUEST_MAC, dst=HOST_MAC) / LLC() / SNAP() / IP(src=GUEST, dst=HOST) / UDP())
    assert ip_of(frame).offset == 22


def test_an_802_3_length_beyond_the_frame_is_malformed() -> None:
    assert codes(read(bytes(12) + b"\x00\x64" + bytes(46))) == ["ethernet.length"]


@pytest.mark.parametrize(("link_type", "header"), [(113, CookedLinux(proto=0x800)), (276, CookedLinuxV2(proto=0x800))])
def test_a_cooked_frame_is_read(link_type: int, header: Any) -> None:
    header.lladdrlen = 6
    header.src = bytes.fromhex("525400000001") + bytes(2)
    frame = read(header / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=2), link_type)
    assert isinstance(frame.link, Cooked)
    assert frame.link.address.hex(":") == GUEST_MAC
    assert isinstance(frame.transport, Udp)


def test_a_tag_in_a_cooked_frame_is_passed() -> None:
    tag = bytes.fromhex("0007 0800")
    old = read(CookedLinux(proto=0x8100) / Raw(tag) / IP(dst=HOST) / UDP(), 113)
    new = read(CookedLinuxV2(proto=0x8100) / Raw(tag) / IP(dst=HOST) / UDP(), 276)
    assert (ip_of(old).offset, ip_of(new).offset) == (20, 24)


@pytest.mark.parametrize("link_type", [12, 101])
@pytest.mark.parametrize("packet", [IP(dst=HOST) / UDP(), IPv6() / UDP()])
def test_a_raw_packet_is_read_by_its_version(link_type: int, packet: Any) -> None:
    assert isinstance(read(packet, link_type).transport, Udp)


@pytest.mark.parametrize(
    ("link_type", "family", "packet"),
    [
        (0, "02000000", IP(dst=HOST) / UDP()),  # from a little-endian host
        (0, "00000002", IP(dst=HOST) / UDP()),
        (0, "1e000000", IPv6() / UDP()),  # macOS
        (108, "00000018", IPv6() / UDP()),  # OpenBSD
    ],
)
def test_a_bsds_loopback_is_read(link_type: int, family: str, packet: Any) -> None:
    assert isinstance(read(bytes.fromhex(family) + bytes(packet), link_type).transport, Udp)


def test_another_link_type_is_told() -> None:
    frame = read(b"abc", 189)
    assert (frame.link, frame.ip, frame.stopped) == (None, None, "byte 0: frames of link type 189 are not read")


# ------------------------------------------------------------------ network


def test_arp_is_read() -> None:
    arp = read(Ether() / ARP(op=2, hwsrc=GUEST_MAC, psrc=GUEST, hwdst=HOST_MAC, pdst=HOST)).arp
    assert arp is not None
    assert (arp.operation, arp.sender_mac.hex(":"), arp.sender_ip) == (2, GUEST_MAC, numbers(GUEST))
    assert (arp.target_mac.hex(":"), arp.target_ip, arp.end) == (HOST_MAC, numbers(HOST), 42)


def test_arp_with_wrong_address_lengths_is_malformed() -> None:
    frame = read(Ether() / ARP(hwlen=8, plen=4))
    assert codes(frame) == ["arp.lengths"]
    assert frame.stopped is not None
    assert frame.stopped.startswith("byte 18: ARP address lengths of 8 and 4")


def test_ipv4_with_options_is_read() -> None:
    ip = ip_of(read(Ether() / IP(src=GUEST, dst=HOST, ttl=7, id=9, options=[Raw(b"\x94\x04\0\0")]) / UDP(sport=1)))
    assert (ip.version, ip.payload, ip.ttl, ip.identification) == (4, 14 + 24, 7, 9)
    assert (ip.source, ip.destination, ip.fragment) == (numbers(GUEST), numbers(HOST), None)


def test_ipv4_options_that_run_over_are_malformed() -> None:
    assert codes(read(Ether() / IP(options=[Raw(b"\x94\x09\0\0")]) / UDP())) == ["ip.options"]


def test_fragments_are_read_and_only_the_first_has_a_header() -> None:
    first = read(out(UDP(sport=1, dport=2, len=1000) / bytes(800), flags="MF", id=5))
    later = read(out(bytes(808), frag=101, id=5, proto=17))
    assert ip_of(first).fragment == Fragment(5, 0, more=True)
    assert ip_of(later).fragment == Fragment(5, 808, more=False)
    assert isinstance(first.transport, Udp)
    assert (later.transport, first.problems) == (None, [])


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (out(UDP(sport=1, dport=2), len=900), "ip.total_length"),
        (out(UDP(), len=19), "ip.total_length"),
        (out(UDP(), ihl=4), "ip.header_length"),
        (out(UDP(), version=5), "ip.version"),
        (Ether() / IPv6(plen=900) / UDP(sport=1, dport=2), "ip.payload_length"),
        (Ether() / IPv6(version=4) / UDP(), "ip.version"),
        (out(UDP(len=7)), "udp.length"),
        (out(UDP(sport=1, dport=2, len=99) / b"abc"), "udp.length_beyond"),
        (out(UDP(sport=1, dport=2, len=9) / b"abc"), "udp.length_short"),
        (out(TCP(dataofs=4)), "tcp.data_offset"),
        (out(TCP(dataofs=9)), "tcp.data_offset"),
        (out(TCP(dataofs=6) / b"\x02\x09\0\0"), "tcp.options"),
        (out(Raw(b"\0\0"), proto=6), "tcp.header"),
        (out(Raw(b"\x08\0"), proto=1), "icmp.header"),
        (Ether() / IPv6() / ICMPv6ND_NS() / Raw(b"\x01\x00" + bytes(6)), "ndp.options"),
    ],
)
def test_what_is_malformed_has_a_code(packet: Any, code: str) -> None:
    frame = read(packet)
    assert codes(frame) == [code]
    assert frame.stopped is not None


def test_a_length_beyond_the_frame_hides_nothing_behind_it() -> None:
    frame = read(out(UDP(sport=1, dport=2) / b"abc", len=900))
    assert isinstance(frame.transport, Udp)
    assert frame.transport.destination_port == 2


def test_a_packet_too_long_for_its_length_field_has_the_length_of_the_frame() -> None:
    four = read(out(TCP() / bytes(70000), len=0))
    six = read(Ether() / IPv6(plen=0) / TCP() / bytes(70000))
    assert (ip_of(four).end, ip_of(six).end) == (four.length, six.length)
    assert four.problems == six.problems == []


def test_ipv6_extension_headers_are_passed() -> None:
    hops = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    ip = ip_of(read(Ether() / IPv6() / hops / IPv6ExtHdrRouting(addresses=["::1"], segleft=1) / UDP()))
    assert (ip.protocol, ip.payload) == (17, 14 + 40 + 8 + 24)
    assert ip.ends == (ip.source, bytes(15) + b"\1")


def test_ipv6_fragments_are_read() -> None:
    frame = read(Ether() / IPv6() / IPv6ExtHdrFragment(id=77, offset=100, m=1, nh=17) / bytes(64))
    assert ip_of(frame).fragment == Fragment(77, 800, more=True)
    assert frame.transport is None


def test_an_atomic_ipv6_fragment_is_whole() -> None:
    frame = read(Ether() / IPv6() / IPv6ExtHdrFragment(id=77) / UDP())
    assert ip_of(frame).fragment is None
    assert isinstance(frame.transport, Udp)


# ---------------------------------------------------------------- transport


def test_tcp_with_options_is_read() -> None:
    options = [("MSS", 1460), ("SAckOK", ""), ("Timestamp", (5, 6)), ("NOP", None), ("WScale", 7)]
    tcp = read(out(TCP(sport=1000, dport=80, seq=5, ack=6, flags="SA", window=99, options=options) / b"abc")).transport
    assert isinstance(tcp, Tcp)
    assert (tcp.source_port, tcp.destination_port, tcp.sequence, tcp.acknowledgment) == (1000, 80, 5, 6)
    assert (tcp.flags, tcp.window, tcp.size) == (0x12, 99, 3)
    assert (tcp.mss, tcp.scale, tcp.sack, tcp.timestamps) == (1460, 7, True, (5, 6))


def test_padding_is_no_data() -> None:
    tcp = read(bytes(out(TCP(flags="A"))) + bytes(6)).transport
    assert isinstance(tcp, Tcp)
    assert tcp.size == 0


def test_an_echo_request_is_read() -> None:
    icmp = read(out(ICMP(id=3, seq=4) / bytes(56))).transport
    assert isinstance(icmp, Icmp)
    assert (icmp.is_echo, icmp.identifier, icmp.sequence, icmp.size) == (True, 3, 4, 56)


def test_an_icmp_error_names_the_packet_it_is_about() -> None:
    about = IP(src=GUEST, dst=HOST) / UDP(sport=4000, dport=69)
    icmp = read(back(ICMP(type=3, code=3) / about)).transport
    assert isinstance(icmp, Icmp)
    assert icmp.quoted is not None
    assert (icmp.quoted.source, icmp.quoted.source_port, icmp.quoted.destination_port) == (numbers(GUEST), 4000, 69)


def test_a_neighbor_solicitation_is_read() -> None:
    option = ICMPv6NDOptSrcLLAddr(lladdr=GUEST_MAC)
    icmp = read(Ether() / IPv6(src="fe80::1", dst="ff02::1:ff00:2") / ICMPv6ND_NS(tgt="fe80::2") / option).transport
    assert isinstance(icmp, Icmp)
    assert icmp.target == bytes.fromhex("fe80" + "00" * 13 + "02")
    assert icmp.link_address == bytes.fromhex("525400000001")


def test_igmp_is_read() -> None:
    igmp = read(out(Raw(bytes.fromhex("1600f9fde0000001")), proto=2)).transport
    assert isinstance(igmp, Igmp)
    assert (igmp.type, igmp.group) == (0x16, bytes((224, 0, 0, 1)))


# -------------------------------------------------------------- application


def test_a_dhcp_message_is_read() -> None:
    message = read(
        dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST)
    ).application
    assert isinstance(message, Dhcp)
    assert (message.name, message.xid, message.yiaddr) == ("offer", XID, numbers(GUEST))
    assert (message.server, message.lease, message.ended, message.stop) == (numbers(HOST), 60, True, None)
    assert message.chaddr.hex(":") == GUEST_MAC


def test_a_dhcp_option_that_runs_over_is_malformed() -> None:
    frame = read(bytes(out(UDP(sport=68, dport=67) / Raw(bytes(236) + bytes.fromhex("63825363 350101 3209 0a")))))
    assert codes(frame) == ["dhcp.options"]
    assert isinstance(frame.application, Dhcp)
    assert frame.application.message == 1


def test_options_in_the_file_field_are_found_by_the_overload() -> None:
    packet = dhcp([(52, b"\x01")], file=bytes.fromhex("350102ff"))
    message = read(packet).application
    assert isinstance(message, Dhcp)
    assert message.message == 2


def test_a_dns_query_and_its_answer_are_read() -> None:
    query = read(out(UDP(sport=999, dport=53) / DNS(id=7, qd=DNSQR(qname="example.com")))).application
    record = DNSRR(rrname="example.com", rdata="192.0.2.1")
    answer = read(back(UDP(sport=53, dport=999) / DNS(id=7, qr=1, qd=DNSQR(qname="example.com"), an=record)))
    assert isinstance(query, Dns)
    assert isinstance(answer.application, Dns)
    assert (query.id, query.response, query.questions[0][:2]) == (7, False, ("example.com", 1))
    assert (answer.application.answers, answer.application.stop) == (("A 192.0.2.1",), None)


def test_of_a_dns_message_in_fragments_the_first_is_read() -> None:
    records = [DNSRR(rrname="example.com", rdata="192.0.2.1") for _ in range(20)]
    whole = back(UDP(sport=53, dport=999) / DNS(id=7, qr=1, qd=DNSQR(qname="example.com"), an=records))
    frame = read(Ether() / whole[IP].fragment(120)[0])
    assert isinstance(frame.application, Dns)
    assert (frame.application.id, frame.application.questions[0].name) == (7, "example.com")
    assert (frame.problems, frame.stop) == ([], None)
    cut = parse(frame.data[:60], frame.length, 1)
    assert cut.stopped == "byte 54: DNS name is cut: of the frame 60 bytes were captured"


def test_a_record_of_an_update_may_have_no_data() -> None:
    zone_and_prerequisite = "0178 00 0006 0001 c00c 0005 00fe 00000000 0000"
    update = bytes.fromhex(f"0007 2800 0001 0001 0000 0000 {zone_and_prerequisite}")
    message = read(out(UDP(sport=999, dport=53) / Raw(update))).application
    assert isinstance(message, Dns)
    assert (message.answers, message.stop) == (("CNAME",), None)


def dns_bytes(body: bytes, questions: int = 1) -> Frame:
    header = bytes((0, 7, 1, 0)) + questions.to_bytes(2, "big") + bytes(6)
    return read(out(UDP(sport=999, dport=53) / Raw(header + body)))


@pytest.mark.parametrize(
    "body",
    [
        b"\xc0\x0c\0\1\0\1",  # a name that points to itself
        b"\xc0\x12\0\1\0\1\x01a\0",  # forwards, to a name
        b"\xc0\x20\0\1\0\1",  # forwards, to nothing
        b"\xc0\x00\0\1\0\1",  # into the header
        b"\x3fabc",  # beyond the end
        b"\x80abc\0\0\1\0\1",  # a label type that is none
        b"\x01a\xc0\x0c\0\1\0\1",  # a loop by way of a label
        b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",  # too long
    ],
)
def test_a_dns_name_that_ends_nowhere_is_malformed(body: bytes) -> None:
    assert codes(dns_bytes(body)) == ["dns.malformed"]


def test_a_dns_name_stays_printable() -> None:
    message = dns_bytes(b"\x05a\x1b\n.\xff\0\0\1\0\1").application
    assert isinstance(message, Dns)
    assert message.questions[0].name == r"a\027\010\046\255"


# ------------------------------------------------- truncated and malformed


def test_bytes_that_were_not_captured_are_not_called_malformed() -> None:
    whole = bytes(dhcp([("message-type", "offer"), ("server_id", HOST)], reply=True))
    for size in range(len(whole)):
        frame = parse(whole[:size], len(whole), 1)
        assert frame.problems == []
        assert frame.stop is None or frame.stop.what == "truncated"


def test_bytes_that_were_never_sent_are() -> None:
    whole = bytes(out(TCP(flags="S", options=[("MSS", 1460)])))
    for size in range(1, len(whole)):
        assert codes(read(whole[:size])), size


CORPUS = [
    bytes(packet)
    for packet in (
        Ether() / ARP(),
        out(ICMP() / b"abc"),
        back(ICMP(type=3, code=3) / IP(src=GUEST, dst=HOST) / UDP(sport=4000, dport=69)),
        out(TCP(flags="S", options=[("MSS", 1460), ("WScale", 7)])),
        out(
            UDP(sport=53, dport=9)
            / DNS(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rrname="a.example", rdata="1.2.3.4"))
        ),
        dhcp([("message-type", "offer"), ("server_id", HOST)], reply=True),
        Ether() / IPv6() / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrFragment(m=1) / UDP() / bytes(16),
        Ether() / IPv6() / ICMPv6ND_NS() / ICMPv6NDOptSrcLLAddr(),
        Dot3() / LLC() / SNAP() / IP() / UDP(sport=69, dport=69) / b"\0\1file\0",
    )
]


@some.composite
def mutated(draw: some.DrawFn) -> bytes:
    data = bytearray(draw(some.sampled_from(CORPUS)))
    for _ in range(draw(some.integers(0, 6))):
        data[draw(some.integers(0, len(data) - 1))] = draw(some.integers(0, 255))
    return bytes(data[: draw(some.integers(0, len(data)))]) if draw(some.booleans()) else bytes(data)


@given(some.one_of(some.binary(max_size=200), mutated()), some.integers(0, 3000), some.sampled_from(LINK_TYPES))
@example(b"", 0, 1)
@settings(max_examples=500, deadline=None)
def test_no_bytes_raise(data: bytes, length: int, link_type: int) -> None:
    frame = parse(data, length, link_type)
    assert frame.length >= len(data)
    if frame.ip is not None:
        assert frame.ip.payload <= frame.ip.end + 60


def test_a_header_may_go_on_in_the_next_fragment() -> None:
    first = read(out(Raw(bytes(TCP(sport=1, dport=2, options=[("MSS", 1460)]))[:16]), proto=6, flags="MF"))
    assert first.problems == []
    assert first.stop is not None
    assert first.stop.what == "truncated"
