"""What protocols say, in lines: their first words, and never a control character or a false name."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.eap import EAP, EAPOL
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6MLDMultAddrRec, ICMPv6MLReport2, IPv6
from scapy.layers.l2 import LLC, SNAP, STP, Dot3, Ether
from scapy.layers.ntp import NTPHeader
from scapy.layers.radius import Radius, RadiusAttr_User_Name
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.layers.snmp import SNMP, SNMPget, SNMPvarbind
from scapy.layers.vrrp import VRRP
from scapy.packet import Packet, Raw

from rawtap.packets.lines import PacketSummary, describe
from rawtap.packets.says import datagrams, streams

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
HOSTS = IP(src="10.0.0.1", dst="10.0.0.2")


def line(packet: Packet) -> PacketSummary:
    data = bytes(packet)
    return describe(data, len(data), 1)


def tcp(data: bytes, port: int = 40001, source: int = 40000) -> Packet:
    return LINK / HOSTS / TCP(sport=source, dport=port, flags="PA", seq=5, ack=6) / Raw(data)


def udp(data: bytes | Packet, port: int, source: int = 40000) -> Packet:
    return LINK / HOSTS / UDP(sport=source, dport=port) / (Raw(data) if isinstance(data, bytes) else data)


def extension(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def handshake(kind: int, body: bytes) -> bytes:
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


NAME = b"www.example.org"
SNI = extension(0, struct.pack("!HBH", len(NAME) + 3, 0, len(NAME)) + NAME)
ALPN = extension(16, b"\0\x0c\x02h2\x08http/1.1")
VERSIONS = extension(43, b"\x06\x7a\x7a\x03\x04\x03\x03")
EXTENSIONS = SNI + ALPN + VERSIONS
HELLO = handshake(
    1, b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(EXTENSIONS).to_bytes(2, "big") + EXTENSIONS
)
ANSWER = handshake(
    2, b"\x03\x03" + bytes(32) + b"\0\x13\x01\0" + struct.pack("!H", 6) + extension(43, b"\x03\x04")
)  # fmt: skip
SAID: dict[str, tuple[Packet, str, str]] = {
    "HTTP request": (
        tcp(b"GET /a?b HTTP/1.1\r\nHost: example.org\r\n\r\n"), "HTTP", "GET /a?b HTTP/1.1, host example.org, PSH+ACK "
    ),
    "HTTP answer": (tcp(b"HTTP/1.0 404 Not Found\r\n\r\n"), "HTTP", "HTTP/1.0 404 Not Found, PSH+ACK "),
    "TLS hello": (tcp(HELLO), "TLS", "client hello 1.3 SNI www.example.org ALPN h2/http/1.1, PSH+ACK "),
    "TLS answer": (tcp(ANSWER + b"\x14\x03\x03\0\1\1"), "TLS", "server hello 1.3, change cipher spec, PSH+ACK "),
    "TLS alert": (tcp(b"\x15\x03\x03\0\2\2\x30"), "TLS", "alert: unknown CA, fatal, PSH+ACK "),
    "TLS data": (tcp(b"\x17\x03\x03\0\4abcd"), "TLS", "application data, PSH+ACK "),
    "QUIC": (udp(b"\xc0\0\0\0\1\x04abcd" + bytes(60), 443), "QUIC", "initial v1, to connection 61626364, 70 bytes"),
    "DNS in TCP": (
        tcp(b"\0\x1d" + bytes(DNS(id=9, qd=DNSQR(qname="example.org"))), 53), "DNS", "query id=0x0009 A example.org, "
    ),
    "TFTP": (udp(b"\0\1boot.img\0octet\0", 69), "TFTP", "read request 'boot.img', 17 bytes"),
    "NTP": (udp(NTPHeader(mode=4, stratum=2), 123, 123), "NTP", "version 4, server, stratum 2, "),
    "DHCPv6": (
        LINK / IPv6() / UDP(sport=546, dport=547) / DHCP6_Solicit(trid=0x123456), "DHCPv6", "solicit xid=0x123456, "
    ),
    "SNMP": (
        udp(SNMP(community="public", PDU=SNMPget(varbindlist=[SNMPvarbind(oid="1.3.6.1.2.1.1.1.0")])), 161),
        "SNMP", "v2c get request 'public' 1.3.6.1.2.1.1.1.0, ",
    ),
    "syslog": (udp(b"<34>Oct 11 su: failed\n", 514), "syslog", "critical, facility 4: Oct 11 su: failed, "),
    "SSDP": (
        udp(b"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n", 1900), "SSDP", "M-SEARCH * HTTP/1.1, ssdp:all, "
    ),
    "MLDv2": (
        LINK / IPv6() / ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(rtype=4, dst="ff02::fb")]), "ICMPv6",
        "multicast report v2 joins ff02::fb",
    ),
    "IGMPv3": (
        LINK / HOSTS.copy() / Raw(b""), "IGMP", "report v3 joins 224.0.0.251, leaves 224.0.0.9"
    ),  # made below
    "STP": (
        Dot3(dst="01:80:c2:00:00:00", src="02:00:00:00:00:01") / LLC() / STP(pathcost=4), "STP",
        "root 0/00:00:00:00:00:00 cost 4 bridge 0/00:00:00:00:00:00",
    ),
    "LLDP": (
        Ether(dst="01:80:c2:00:00:0e", type=0x88CC)
        / Raw(bytes.fromhex("0207 04 020000000001 0403 05 7030 0602 0078 0a03 737731 0000")),
        "LLDP", "system sw1, chassis 02:00:00:00:00:01, port p0",
    ),
    "CDP": (
        Dot3(dst="01:00:0c:cc:cc:cc") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0xC, code=0x2000)
        / Raw(bytes.fromhex("02b40000 00010007 737731 00030006 7030")),
        "CDP", "device sw1, port p0",
    ),
    "EAPOL start": (LINK / EAPOL(type=1), "EAPOL", "start"),
    "EAP": (
        LINK / EAPOL(type=0) / EAP(code=2, id=3, type=1, identity=b"me"), "EAP", "response id=3 identity 'me'"
    ),
    "SCTP": (LINK / HOSTS / SCTP(sport=5, dport=6) / SCTPChunkInit(), "SCTP", "5 > 6 INIT"),
    "OSPF": (
        LINK / IP(proto=89) / Raw(bytes.fromhex("0201 002c 01010101 00000000") + bytes(32)), "OSPF",
        "v2 hello, router 1.1.1.1, area 0.0.0.0",
    ),
    "VRRP": (LINK / IP(proto=112) / VRRP(vrid=7, priority=200), "VRRP", "v2 advertisement, router 7, priority 200"),
    "NFS": (
        udp(struct.pack("!6I", 0x77, 0, 2, 100003, 3, 6) + bytes(20), 2049), "NFS",
        "call xid=0x00000077 NFS v3 READ, ",
    ),
    "MOUNT": (
        tcp(struct.pack("!7I", 0x80000018, 0x77, 0, 2, 100005, 3, 1)), "MOUNT",
        "call xid=0x00000077 MOUNT v3 procedure 1, ",
    ),
    "SIP": (udp(b"INVITE sip:a@b SIP/2.0\r\n\r\n", 5060), "SIP", "INVITE sip:a@b SIP/2.0, "),
    "SSH": (tcp(b"SSH-2.0-OpenSSH_9.2\r\n", 22), "SSH", "SSH-2.0-OpenSSH_9.2, PSH+ACK "),
    "FTP": (tcp(b"220 ready\r\n", 40001, 21), "FTP", "220 ready, PSH+ACK "),
    "SMTP": (tcp(b"EHLO me\r\n", 25), "SMTP", "EHLO me, PSH+ACK "),
    "RADIUS": (
        udp(Radius(code=1, id=8, attributes=[RadiusAttr_User_Name(value=b"me")]), 1812), "RADIUS",
        "access request id=8, user 'me', ",
    ),
}  # fmt: skip
SAID["IGMPv3"] = (
    LINK
    / IP(src="10.0.0.1", dst="224.0.0.22", proto=2)
    / Raw(bytes.fromhex("2200 0000 0000 0002 04000000 e00000fb 03000000 e0000009")),
    *SAID["IGMPv3"][1:],
)


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_comes_first(name: str) -> None:
    packet, protocol, begins = SAID[name]
    told = line(packet)
    assert told.protocol == protocol
    assert told.info.startswith(begins)


def test_what_goes_on_in_the_middle_of_a_message_is_tcp() -> None:
    for port in (80, 443, 5432, 502, 179):
        assert line(tcp(b"\x9a\x8b" * 20, port)).protocol == "TCP"


def test_a_port_alone_makes_no_web() -> None:
    assert line(tcp(b"hello there", 80)).protocol == "TCP"
    assert line(tcp(b"\x16\x03\x09\0\0", 443)).protocol == "TCP"


def test_no_control_character_of_a_packet_is_in_its_line() -> None:
    hostile = b"GET /\x1b[2J\x07\xe2\x80\xae HTTP/1.1\r\nHost: a\x1bb\r\n\r\n"
    told = line(tcp(hostile))
    assert told.info.isprintable()
    assert "\\x1b" in told.info


def test_a_bad_sum_is_never_cut_off() -> None:
    packet = udp(b"<34>" + b"x" * 400, 514)
    packet[UDP].chksum = 1
    told = line(packet)
    assert ", bad UDP checksum 0x0001, expected 0x" in told.info
    assert len(told.info) <= 200


def test_a_packet_for_one_host_in_a_frame_for_all_is_marked() -> None:
    packet = udp(b"x", 4000)
    packet[Ether].dst = "ff:ff:ff:ff:ff:ff"
    assert line(packet).info == "1 bytes, to broadcast"
    packet[IP].dst = "255.255.255.255"
    assert line(packet).info == "1 bytes"


PORTS = sorted({*streams._PORTS, 102, 2049, 111, 40001})
DATAGRAMS = sorted({*datagrams._PORTS, 2049, 111, 4500, 40001})


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([each for each, _, _ in SAID.values()]), st.lists(st.tuples(st.integers(14, 250), st.integers(0, 255)), max_size=8), st.integers(0, 250))  # fmt: skip  # noqa: E501
def test_no_changed_message_raises(packet: Packet, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(bytes(packet))
    for at, value in changes:
        data[at % len(data)] = value
    for each in (bytes(data), bytes(data[:cut])):
        told = describe(each, len(data), 1)
        assert told.info.isprintable()
        assert len(told.info) <= 300


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PORTS), st.sampled_from(DATAGRAMS), st.binary(max_size=80))
def test_no_noise_at_a_port_raises(port: int, other: int, data: bytes) -> None:
    for packet in (tcp(data, port), udp(data, other)):
        assert line(packet).info.isprintable()
