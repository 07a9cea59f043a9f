"""What carries packets inside packets, and other links than Ethernet: what they carry is told, as deep as is read."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.eap import EAPOL
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from rawtap.packets import carriers, links
from rawtap.packets.explain import Examiner
from rawtap.packets.headers import DEEPEST, innermost, parse
from rawtap.packets.lines import PacketSummary, describe

OUTER = IP(src="192.0.2.1", dst="192.0.2.2")
OUTER6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
INNER = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=4000, dport=4001) / Raw(b"inside")
INNER6 = IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=4000, dport=4001) / Raw(b"inside")
FRAME = Ether(src="02:00:00:00:00:05", dst="02:00:00:00:00:06") / INNER
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
HERE = ("10.0.0.1:4000", "10.0.0.2:4001")
HERE6 = ("[fd00::1]:4000", "[fd00::2]:4001")
WIFI = bytes.fromhex("0801") + bytes(2) + bytes.fromhex("020000000009 020000000005 020000000006 0000 aaaa03000000")


def udp(port: int, head: bytes, inside: Packet) -> Packet:
    return LINK / OUTER / UDP(sport=50000, dport=port) / Raw(head + bytes(inside))


ETHERNET: dict[str, tuple[Packet, str, tuple[str, str]]] = {
    "tags": (LINK / Dot1Q(vlan=7) / Dot1Q(vlan=8) / INNER, "VLAN 7/8: ", HERE),
    "PPPoE": (LINK / Raw(b""), "", HERE),  # made below
    "IP in IP": (LINK / OUTER / INNER, "IP in IP (192.0.2.1 > 192.0.2.2): ", HERE),
    "6in4": (LINK / OUTER / INNER6, "IPv6 in IP (192.0.2.1 > 192.0.2.2): ", HERE6),
    "4in6": (LINK / OUTER6 / INNER, "IP in IP (2001:db8::1 > 2001:db8::2): ", HERE),
    "GRE": (LINK / OUTER / GRE() / INNER, "GRE (192.0.2.1 > 192.0.2.2): ", HERE),
    "GRE with a key": (
        LINK / OUTER / GRE(key_present=1, key=255) / INNER6, "GRE key 0xff (192.0.2.1 > 192.0.2.2): ", HERE6
    ),
    "GRE of a frame": (LINK / OUTER / GRE(proto=0x6558) / FRAME, "GRE (192.0.2.1 > 192.0.2.2): ", HERE),
    "VXLAN": (LINK / OUTER / UDP() / VXLAN(vni=42, flags=8) / FRAME, "VXLAN 42 (192.0.2.1 > 192.0.2.2): ", HERE),
    "Geneve": (
        udp(6081, bytes.fromhex("0100655800002a00deadbeef"), FRAME), "Geneve 42 (192.0.2.1 > 192.0.2.2): ", HERE
    ),
    "GTP-U": (udp(2152, struct.pack("!BBHI", 0x30, 255, 34, 9), INNER), "GTP 0x9 (192.0.2.1 > 192.0.2.2): ", HERE),
    "GTP-U with an extension": (
        udp(2152, struct.pack("!BBHI", 0x34, 255, 42, 9) + bytes.fromhex("0000008501000900"), INNER),
        "GTP 0x9 (192.0.2.1 > 192.0.2.2): ", HERE,
    ),
    "Teredo": (udp(3544, b"", INNER6), "Teredo (192.0.2.1 > 192.0.2.2): ", HERE6),
    "Teredo with an origin": (udp(3544, bytes(8), INNER6), "Teredo (192.0.2.1 > 192.0.2.2): ", HERE6),
    "ERSPAN II": (
        LINK / OUTER / GRE(proto=0x88BE, seqnum_present=1) / Raw(bytes.fromhex("1000002a00000000") + bytes(FRAME)),
        "ERSPAN 42 (192.0.2.1 > 192.0.2.2): ", HERE,
    ),
    "MPLS": (Ether(src=LINK.src, dst=LINK.dst, type=0x8847) / Raw(bytes.fromhex("00010040 00011140") + bytes(INNER)),
             "MPLS 16/17: ", HERE),
    "MACsec": (
        Ether(src=LINK.src, dst=LINK.dst, type=0x88E5)
        / Raw(bytes.fromhex("2022 00000044 0200000000010001 0800") + bytes(INNER) + b"\xa5" * 16),
        "MACsec: ", HERE,
    ),
    "NSH": (
        Ether(src=LINK.src, dst=LINK.dst, type=0x894F)
        / Raw(bytes.fromhex("0fc6 01 01 00030907") + bytes(16) + bytes(INNER)),
        "NSH 777/7: ", HERE,
    ),
    "NSH of a frame in VXLAN-GPE": (
        udp(4790, bytes.fromhex("0c000004 00002a00 0fc2 02 03 000001ff"), FRAME),
        "VXLAN-GPE 42 (192.0.2.1 > 192.0.2.2): NSH 1/255: ", HERE,
    ),
    "in three tunnels": (
        LINK / OUTER / GRE() / OUTER / UDP() / VXLAN(vni=1, flags=8) / (Ether(dst=LINK.dst) / Dot1Q(vlan=5) / INNER),
        "GRE (192.0.2.1 > 192.0.2.2): VXLAN 1: VLAN 5: ", HERE,
    ),
}  # fmt: skip
ETHERNET["PPPoE"] = (
    Ether(src=LINK.src, dst=LINK.dst, type=0x8864)
    / Raw(struct.pack("!BBHHH", 0x11, 0, 0x1234, len(bytes(INNER)) + 2, 0x21) + bytes(INNER)),
    "PPPoE 0x1234: ",
    HERE,
)


def line(data: bytes, link_type: int = 1) -> PacketSummary:
    return describe(data, len(data), link_type)


@pytest.mark.parametrize("name", ETHERNET)
def test_the_line_is_of_what_is_carried_and_names_the_carriers(name: str) -> None:
    packet, before, ends = ETHERNET[name]
    told = line(bytes(packet))
    assert (told.protocol, told.source, told.destination) == ("UDP", *ends)
    assert told.info == before + "6 bytes"
    assert (told.source_mac, told.destination_mac, told.stopped) == (LINK.src, LINK.dst, None)


IP_BYTES = bytes(INNER)
LINKS: dict[str, tuple[int, bytes, str]] = {
    "PPP": (9, b"\x00\x21" + IP_BYTES, "PPP: "),
    "PPP in HDLC's frame": (50, b"\xff\x03\x00\x21" + IP_BYTES, "PPP: "),
    "PPPoE": (51, struct.pack("!BBHHH", 0x11, 0, 1, len(IP_BYTES) + 2, 0x21) + IP_BYTES, "PPPoE 0x0001: "),
    "Cisco HDLC": (104, b"\x0f\x00\x08\x00" + IP_BYTES, "HDLC: "),
    "Frame Relay": (107, bytes.fromhex("184103cc") + IP_BYTES, "FR 100: "),
    "802.11": (105, WIFI + b"\x08\x00" + IP_BYTES, "802.11: "),
    "radiotap": (127, bytes.fromhex("0000 0800 00000000") + WIFI + b"\x08\x00" + IP_BYTES, "802.11: "),
    "PPI": (192, bytes.fromhex("0000 0800 69000000") + WIFI + b"\x08\x00" + IP_BYTES, "802.11: "),
    "NFLOG": (239, b"\x02\0\0\0" + struct.pack("=HHI", 8, 1, 0) + struct.pack("<HH", len(IP_BYTES) + 4, 9) + IP_BYTES,
              "NFLOG: "),
    "FDDI": (10, bytes.fromhex("50 020000000006 020000000005 aaaa03000000 0800") + IP_BYTES, "FDDI: "),
    "ARCnet": (7, bytes.fromhex("be50d4 00 0001") + IP_BYTES, "ARCnet: "),
    "ARCnet in an exception": (7, bytes.fromhex("be50d4 ffffffff 00 0001") + IP_BYTES, "ARCnet: "),
    "ARCnet of RFC 1051": (7, bytes.fromhex("be50f0") + IP_BYTES, "ARCnet: "),
    "ARCnet by Linux": (129, bytes.fromhex("be50 a892 d4 00 0001") + IP_BYTES, "ARCnet: "),
    "ARCnet of RFC 1051 by Linux": (129, bytes.fromhex("be50 a892 f0") + IP_BYTES, "ARCnet: "),
    "NULL": (0, struct.pack("<I", 2) + IP_BYTES, ""),
    "LOOP": (108, struct.pack(">I", 2) + IP_BYTES, ""),
    "raw": (101, IP_BYTES, ""),
    "SLL2": (276, b"\x08\0" + bytes(18) + IP_BYTES, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_the_line_is_of_what_a_link_carries(name: str) -> None:
    link_type, data, before = LINKS[name]
    told = line(data, link_type)
    assert (told.protocol, told.source, told.destination) == ("UDP", *HERE)
    assert told.info == before + "6 bytes"


def test_a_wireless_frame_has_the_stations_addresses() -> None:
    told = line(WIFI + b"\x08\x06" + bytes(ARP(psrc="10.0.0.1", pdst="10.0.0.2", hwsrc="02:00:00:00:00:05")), 105)
    assert (told.protocol, told.info) == ("ARP", "802.11: who has 10.0.0.2? tell 10.0.0.1")
    assert (told.source_mac, told.destination_mac) == ("02:00:00:00:00:05", "02:00:00:00:00:06")


def test_a_beacon_names_its_network() -> None:
    head = bytes.fromhex("8000 0000 ffffffffffff 020000000009 020000000009 0000")
    told = line(head + bytes(12) + b"\0\x04home" + b"\x01\x01\x82", 105)
    assert (told.protocol, told.info) == ("802.11", "beacon of 'home'")


MACS = "020000000006 020000000005 "
NAMED: dict[str, tuple[int, str, str, str]] = {
    "MACsec, encrypted": (1, MACS + "88e5 0c00 00000048" + "11" * 4, "MACSEC", "encrypted, packet 72, 4 bytes"),
    "MACsec, changed": (1, MACS + "88e5 0400 00000006 0800" + "11" * 4, "MACSEC", "changed, packet 6, 6 bytes"),
    "MACsec, of LLC": (1, MACS + "88e5 0000 00000006 0026" + "42" * 4, "MACSEC", "packet 6, 6 bytes"),
    "NSH, what is not known": (1, MACS + "894f 0fc2 02fe 00030907", "NSH", "path 777/7, next protocol 254, 8 bytes"),
    "FDDI's claim": (10, "c3 020000000006 020000000005 00000001", "FDDI", "claim, 17 bytes"),
    "FDDI's management": (10, "41 020000000006 020000000005 00000001", "FDDI", "station management, 17 bytes"),
    "FDDI with LLC": (10, "50 020000000006 020000000005 424203", "FDDI", "16 bytes"),
    "ARCnet, the first part": (7, "be50d4 03 0001 4500", "ARCNET", "type 212, part the first of 3, 2 bytes"),
    "ARCnet, the third part": (7, "be50d4 04 0001 4500", "ARCNET", "type 212, part 3, 2 bytes"),
    "ARCnet, diagnosis": (7, "be5080 0102", "ARCNET", "type 128, 2 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_further_is_named(name: str) -> None:
    link_type, data, protocol, info = NAMED[name]
    told = line(bytes.fromhex(data), link_type)
    assert (told.protocol, told.info, told.stopped) == (protocol, info, None)


def test_addresses_of_one_byte_are_told() -> None:
    told = line(bytes.fromhex("be00d5 00 0001 0007080001040001"), 7)
    assert (told.protocol, told.source, told.destination) == ("ARP", "be", "00")


def test_negotiation_of_a_link_is_named() -> None:
    assert line(bytes.fromhex("c021 01010004"), 9).protocol == "PPP LCP"
    assert line(bytes.fromhex("c021 09010008 00000000"), 9).info == "echo request"


def test_no_more_carriers_are_read_than_there_is_a_limit() -> None:
    packet: Packet = INNER
    for _ in range(DEEPEST + 1):
        packet = OUTER / packet
    frame = parse(bytes(packet), len(packet), 101)
    assert len(innermost(frame).carriers) == DEEPEST
    assert "carriers is not read" in (line(bytes(packet), 101).stopped or "")


def test_a_port_alone_makes_no_tunnel() -> None:
    """VXLAN's flag, GTP's type and Teredo's length are looked at."""
    for port in carriers.IN_UDP:
        data = bytes(LINK / OUTER / UDP(sport=50000, dport=port) / Raw(b"\xff" * 60))
        if port not in {6635, 4754}:  # labels may hold anything
            assert parse(data, len(data), 1).inner is None


def test_a_wrong_sum_inside_is_told_with_the_line_and_found() -> None:
    data = bytearray(bytes(LINK / OUTER / GRE() / INNER))
    data[-1] ^= 1
    assert ", bad UDP checksum" in line(bytes(data)).info
    examiner = Examiner(1)
    examiner.add(1, 0, len(data), bytes(data))
    assert [each.what for each in examiner.result(1).findings] == ["udp.checksum_wrong"]


def test_connections_in_tunnels_are_judged_apart_from_those_outside() -> None:
    """The same segments on the way into a tunnel and in it are no retransmissions."""
    segment = (
        IP(src="10.0.0.1", dst="10.0.0.2", id=7) / TCP(sport=4000, dport=80, flags="PA", seq=1, ack=1) / Raw(b"x" * 9)
    )
    again = IP(src="10.0.0.1", dst="10.0.0.2", id=8) / segment.payload
    examiner = Examiner(1)
    packets = [LINK / segment, LINK / OUTER / GRE() / segment]
    for number, packet in enumerate(packets, 1):
        examiner.add(number, number * 10**9, len(packet), bytes(packet))
    assert not [each for each in examiner.result(10**10).findings if each.what.startswith("tcp.")]
    packet = LINK / OUTER / GRE() / again
    examiner.add(3, 5 * 10**9, len(packet), bytes(packet))
    assert [each.packets for each in examiner.result(10**10).findings if each.what == "tcp.retransmission"] == [(3,)]


def test_what_is_inside_and_not_known_is_noted() -> None:
    packet = LINK / OUTER / GRE() / IP(proto=200) / Raw(bytes(8))
    examiner = Examiner(1)
    examiner.add(1, 0, len(packet), bytes(packet))
    assert any("IP protocol 200" in note for note in examiner.result(1).notes)


def test_a_header_that_ends_early_is_noted_and_no_fault() -> None:
    """It may be another format."""
    for link_type in ALL_LINKS:
        for size in range(1, 24):
            examiner = Examiner(link_type)
            for fill in (0, 2, 8, 255):
                examiner.add(1, 0, size, bytes([fill]) * size)
            assert examiner.result(1).examined == 4
    short = bytes(12) + bytes.fromhex("88e5 0000")
    examiner = Examiner(1)
    examiner.add(1, 0, len(short), short)
    examiner.add(2, 0, len(short), short)
    verdict = examiner.result(1)
    assert verdict.notes == ("2 packets could not be read from macsec.header on: nothing behind that is judged",)
    assert not verdict.findings


def test_frames_that_are_not_read_are_counted_by_few_sentences() -> None:
    """However many numbers somebody sends."""
    examiner = Examiner(192)
    for number in range(0x10000, 0x10400):
        data = struct.pack("<BBHI", 0, 0, 8, number)
        examiner.add(number, 0, len(data), data)
    assert examiner.result(1).notes == (
        "1024 frames of a link type that is none in PPI are not read: nothing in them is judged",
    )
    assert (
        line(struct.pack("<BBHI", 0, 0, 8, 147), 192).stopped == "byte 0: frames of link type 147 in PPI are not read"
    )


def test_the_sum_behind_a_secured_packet_is_no_fault() -> None:
    data = bytes(ETHERNET["MACsec"][0])
    examiner = Examiner(1)
    examiner.add(1, 0, len(data), data)
    assert not examiner.result(1).findings


ALL = [*(bytes(packet) for packet, _, _ in ETHERNET.values()), bytes(LINK / OUTER / ICMP()), bytes(LINK / EAPOL())]
ALL_LINKS = sorted({0, 1, 12, 101, 108, 113, 228, 229, 276, *links.LINKS})


@pytest.mark.parametrize("cut", [lambda data, at: data[:at]])
def test_no_cut_frame_raises(cut: Callable[[bytes, int], bytes]) -> None:
    for link_type, data in [*((1, each) for each in ALL), *((each[0], each[1]) for each in LINKS.values())]:
        for at in range(len(data)):
            assert describe(cut(data, at), len(data), link_type) is not None
            assert describe(cut(data, at), at, link_type) is not None


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([*((1, each) for each in ALL), *((each[0], each[1]) for each in LINKS.values())]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 64),
)
def test_no_bytes_raise(chosen: tuple[int, bytes], changes: list[tuple[int, int]], more: int) -> None:
    data = bytearray(chosen[1])
    for at, value in changes:
        data[at % len(data)] = value
    told = describe(bytes(data), len(data) + more, chosen[0])
    assert told.info.isprintable()
    assert len(told.info) <= 400


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL_LINKS), st.binary(max_size=120))
def test_no_noise_raises(link_type: int, data: bytes) -> None:
    assert describe(data, len(data), link_type).info.isprintable()
