"""Protocols that lines name by their first bytes at a port, with what they say, and never by a guess."""

from __future__ import annotations

import random
import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot3, Ether
from scapy.packet import Packet, Raw

from rawtap.packets.lines import PacketSummary, describe

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
HOSTS = IP(src="10.0.0.1", dst="10.0.0.2")


def line(packet: Packet, link_type: int = 1) -> PacketSummary:
    data = bytes(packet)
    return describe(data, len(data), link_type)


def tcp(data: bytes, port: int, source: int = 40000) -> PacketSummary:
    return line(LINK / HOSTS / TCP(sport=source, dport=port, flags="PA") / Raw(data))


def udp(data: bytes, port: int, source: int = 40000) -> PacketSummary:
    return line(LINK / HOSTS / UDP(sport=source, dport=port) / Raw(data))


def mysql(sequence: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


STREAMS: dict[str, tuple[int, bytes, str]] = {
    "RESP": (6379, b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n", "GET name"),
    "RESP answer": (6379, b"+OK\r\n", "+OK"),
    "MySQL": (3306, mysql(0, b"\x03SELECT 1"), "query SELECT 1"),
    "MySQL greeting": (3306, mysql(0, b"\x0a8.0.36\0" + bytes(60)), "greeting, server 8.0.36"),
    "MySQL ok": (3306, mysql(1, b"\0\0\0\2\0\0\0"), "ok"),
    "DRDA": (50000, b"\0\x26\xd0\x41\0\1\0\x20\x10\x41" + bytes(28), "exchange attributes"),
    "KRB5": (88, b"\0\0\0\x40\x6a\x3e" + bytes(62), "AS request"),
    "DIAMETER": (3868, b"\1\0\0\x14\x80\0\1\1" + bytes(12), "capabilities exchange request"),
    "Socks": (1080, b"\5\1\0", "5 methods"),
    "Socks connect": (1080, b"\5\1\0\1\x0a\0\0\2\0\x50", "5 connect"),
    "RDP": (3389, b"\3\0\0\x13\x0e\xe0" + bytes(13), "connection request"),
    "TDS": (1433, b"\x12\1\0\x2f\0\0\1\0" + bytes(39), "pre-login"),
    "TNS": (1521, b"\0\x3a\0\0\1\0\0\0" + bytes(50), "connect"),
    "Kafka": (9092, b"\0\0\0\x20\0\3\0\1" + bytes(24), "metadata or a response"),
    "SKINNY": (2000, b"\4\0\0\0\0\0\0\0\x02\0\0\0" + bytes(4), "message 0x2"),
    "Elasticsearch": (9300, b"ES\0\0\0\x20" + bytes(32), "PSH+ACK"),
    "OpenWire": (61616, b"\0\0\1\4\1ActiveMQ\0\0\0\6", "wire format"),
    "NCP": (524, b"DmdT\0\0\0\x20" + bytes(24), "request"),
    "RMI": (1099, b"JRMI\0\2K", "PSH+ACK"),
    "RSYNC": (873, b"@RSYNCD: 31.0\n", "@RSYNCD: 31.0"),
    "NNTP": (119, b"200 ready\r\n", "200 ready"),
    "IRC": (6667, b"NICK me\r\n", "NICK me"),
    "XMPP": (5222, b"<?xml version='1.0'?>", "PSH+ACK"),
    "RTMP": (1935, b"\3" + struct.pack("!II", 7, 0) + bytes(64), "handshake"),
    "Git": (9418, b"0033git-upload-pack /a.git\0host=b\0", "git-upload-pack /a.git"),
    "AJP13": (8009, b"\x12\x34\0\1\x0a", "PSH+ACK"),
    "AMS": (48898, b"\0\0" + (32).to_bytes(4, "little") + bytes(16) + b"\4\0\4\0" + bytes(12), "read state request"),
    "DoIP": (13400, b"\2\xfd\0\5\0\0\0\7" + bytes(7), "routing activation request"),
    "DNP 3.0": (20000, b"\x05\x64\x05\xc4\x0a\0\x01\0ab", "1 > 10, function 4"),
    "AMQP": (5672, b"AMQP\0\0\x09\1", "version 0.9.1"),
    "AMQP method": (5672, b"\1\0\0\0\0\0\x0c\0\x0a\0\x0a\0\x09" + bytes(6) + b"\xce", "connection method 10"),
    "AMQP heartbeat": (5672, b"\x08" + bytes(6) + b"\xce", "heartbeat"),
    "AMQP 1.0": (5672, b"\0\0\0\x20\2\0\0\0" + bytes(24), "frame"),
    "TELNET": (23, b"\xff\xfd\x18\xff\xfa\x1f\0\x50\0\x18\xff\xf0", "options"),
    "TELNET text": (23, "login: Grüße\r\0\x1b[0m".encode(), "data"),
    "TELNET key": (23, b"\3", "data"),
    "Rlogin": (513, b"\0me\0you\0vt100/9600\0", "login of you"),
    "Rlogin answer": (513, b"\0", "PSH+ACK"),
    "RSH": (514, b"1022\0", "request"),
}
DATAGRAMS: dict[str, tuple[int, bytes, str]] = {
    "RTCP": (40001, b"\x80\xc8\0\6" + bytes(24) + b"\x81\xca\0\1abcd", "sender report, source description"),
    "DCERPC": (40001, b"\4\0\0\0\x10\0" + bytes(68) + b"\4\0" + bytes(4) + b"abcd", "request"),
    "GTP": (2123, b"\x32\x10\0\4" + bytes(12), "create PDP context request"),
    "GTPv2": (2123, b"\x48\x20\0\4" + bytes(12), "create session request"),
    "PFCP": (8805, b"\x21\x36\0\x0c" + bytes(12), "session deletion request"),
    "LISP": (4342, b"\x30" + bytes(30), "map register"),
    "BACnet-APDU": (47808, b"\x81\x0a\0\x0b\1\4\0\5\1\x0c\0", "confirmed request"),
    "BACnet-NPDU": (47808, b"\x81\x0b\0\x08\1\x80\0\0", "network message 0"),
    "BVLC": (47808, b"\x81\x05\0\x06\0\x3c", "function 5"),
    "DoIP": (13400, b"\2\xfd\0\4\0\0\0\x20" + bytes(32), "vehicle identification"),
    "DNP 3.0": (20000, b"\x05\x64\x05\xc4\x0a\0\x01\0ab", "1 > 10, function 4"),
    "KRB5": (88, b"\x6a\x3e" + bytes(62), "AS request"),
    "KRB4": (88, b"\4\2" + bytes(30), "32 bytes"),
    "HSRP": (2029, b"\0\0\x10\3\x0a\x64\0\0", "hello"),
    "BFD Control": (7784, b"\x20\xc0\3\x18" + bytes(20), "up"),
    "MPLS ECHO": (3503, b"\0\1\0\0\1\2" + bytes(26), "echo request"),
    "RTPS": (7410, b"RTPS\2\1" + bytes(20), "26 bytes"),
    "BT-DHT": (40001, b"d1:ad2:id20:" + bytes(20), "32 bytes"),
    "HART_IP": (5094, b"\1\0\0\0\0\2\0\x0d" + bytes(5), "initiate session request"),
    "sFlow": (6343, b"\0\0\0\5\0\0\0\1\x0a\0\0\x09" + bytes(16), "version 5"),
    "UDPENCAP": (4500, b"\xff", "keepalive of an address translation"),
    "STUN": (3478, b"\x40\0\0\4abcd", "channel data"),
    "WireGuard": (40001, b"\4\0\0\0" + bytes(28), "data"),
    "IAX2": (4569, b"\x80\1\0\2" + bytes(6) + b"\6\x0d", "IAX"),
}
FRAMES: dict[str, tuple[Packet, int, str, str]] = {
    "TIPC": (Ether(type=0x88CA) / Raw(bytes(46)), 1, "TIPC", ""),
    "LACP": (Ether(type=0x8809) / Raw(b"\1\1" + bytes(50)), 1, "LACP", "version 1"),
    "WOL": (Ether(type=0x0842) / Raw(b"\xff" * 6 + bytes.fromhex("020000000009") * 16), 1, "WOL", "for 02:00:00:00"),
    "BACnet": (Dot3(len=11) / Raw(b"\x82\x82\x03\1\0\x10\x08ab"), 1, "BACnet-APDU", "unconfirmed request"),
    "GARP": (Dot3(len=10) / Raw(b"\x42\x42\x03\0\1\1\2\0\0"), 1, "GARP", ""),
    "NHRP": (LINK / IP(proto=47) / Raw(b"\0\0\x20\1" + bytes(17) + b"\1" + bytes(8)), 1, "NHRP", "GRE"),
    "PGM": (LINK / IP(proto=113) / Raw(b"\0\7\0\x50\4" + bytes(20)), 1, "PGM", "original data"),
    "MIPv6": (
        LINK / IPv6(src="fe80::1", dst="fe80::2", nh=135) / Raw(b"\x3b\1\5\0" + bytes(12)), 1, "MIPv6",
        "binding update",
    ),
    "M3UA": (
        LINK / IP(proto=132) / Raw(bytes(12) + b"\0\3\0\x18" + bytes(8) + struct.pack("!I", 3) + bytes(8)), 1, "M3UA",
        "0 > 0 DATA",
    ),
    "DVMRP": (LINK / IP(proto=2) / Raw(b"\x13\1" + bytes(6)), 1, "DVMRP", ""),
    "FabricPath": (
        Ether(type=0x8903) / Raw(b"\0\x60") / LINK / HOSTS / UDP(sport=4000, dport=4001) / Raw(b"ab"), 1, "UDP",
        "FabricPath 1: 2 bytes",
    ),
    "AYIYA": (
        LINK / HOSTS / UDP(sport=5072, dport=5072)
        / Raw(b"\x45\x52\x11\x29" + bytes(4) + bytes(16) + bytes(20)) / IPv6(src="::1", dst="::2", nh=59),
        1, "nothing", "AYIYA (10.0.0.1 > 10.0.0.2)",
    ),
    "FDDI": (
        Raw(b"\x50" + bytes(12) + b"\xaa\xaa\3\0\0\0\x08\0") / HOSTS / UDP(sport=9, dport=4000) / b"a", 10, "UDP",
        "FDDI: 1 bytes",
    ),
    "CAN": (Raw(b"\0\0\7\x10\2\0\0\0\x12\x34"), 227, "CAN", "CAN: 0x710, 2 bytes 1234"),
    "802.15.4": (Raw(b"\x61\x88\x07" + bytes(9)), 195, "IEEE 802.15.4", "data seq=7"),
    "IPNET": (Raw(b"\1\2" + bytes(22)) / HOSTS / UDP(sport=9, dport=4000) / b"a", 226, "UDP", "IPNET: 1 bytes"),
    "IPoIB": (Raw(bytes(40) + b"\x08\0\0\0") / HOSTS / UDP(sport=9, dport=4000) / b"a", 242, "UDP", "IPoIB: 1 bytes"),
    "Cisco HDLC as PPP": (Raw(b"\x0f\0\x08\0") / HOSTS / UDP(sport=9, dport=4000) / b"a", 50, "UDP", "HDLC: 1 bytes"),
    "ERSPAN": (
        LINK / IP(proto=47) / Raw(b"\x10\0\x22\xeb" + bytes(4) + b"\x20\0\0\x65" + bytes(6) + b"\x1c\0" + bytes(20)),
        1, "ERSPAN", "session 101",
    ),
}  # fmt: skip


ENIP = bytes.fromhex("6f00 1a00 00000001 00000000 0000000000000000 00000000 00000000 0000 0200 0000 0000 b200 0a00")
MMS = bytes.fromhex("03000024 02f080 01000100 61173015020103a010a00e020100a109a003800100a1028000")
STREAMS |= {
    "CIP": (44818, ENIP + bytes.fromhex("52022006240100") + bytes(3), "service 0x52 request"),
    "ENIP": (44818, bytes.fromhex("65000400") + bytes(20) + bytes.fromhex("01000000"), "register session"),
    "MMS": (102, MMS, "confirmed request"),
    "MMS alone": (102, bytes.fromhex("03000011 02f080 a808 80020000 81010382"), "initiate request"),
    "SES": (102, bytes.fromhex("03000009 02f080 0900"), "finish"),
    "COTP": (102, bytes.fromhex("03000008 02f080 77"), "data"),
    "IEC 60870-5 ASDU": (2404, bytes.fromhex("680e 00000000 64010600 0100 000000 14"), "type 100, cause 6"),
    "IEC 60870-5-104": (2404, bytes.fromhex("6804 07000000"), "control"),
    "OMRON": (9600, b"FINS\0\0\0\x0c" + bytes(12), ""),
    "LDAP": (389, bytes.fromhex("3084000000100204 0a5e3d28 6384 00000006 040004000a01"), "search request"),
    "LDAP sealed": (389, bytes.fromhex("00000020 0504 07ff") + bytes(28), "sealed"),
    "T.125": (3389, bytes.fromhex("0300000c 02f080 38 000703eb"), "channel join request"),
    "RDP data": (3389, bytes.fromhex("0300000f 02f080 64 0007 03eb 70 80 00"), "data"),
}
QUESTION = bytes.fromhex("1234 0100 0001 0000 0000 0000 03777777 076578616d706c65 00 0001 0001")
STREAMS |= {
    "BGP": (40001, b"\xff" * 16 + b"\0\x13\4", "keepalive"),
    "DCERPC": (40001, b"\5\0\x0b\3\x10\0\0\0\x18\0\0\0" + bytes(12), "bind"),
    "DNS": (53, b"\0\x1d" + QUESTION, "query id=0x1234 A www.example"),
    "MQTT": (1883, b"\x32\xa7\x8d\6\0\3foo\0\2" + b"X" * 400, "publish"),
    "MQTT connect": (1883, b"\x10\x0e\0\4MQTT\4\2\0\x3c\0\2P1", "connect"),
    "MQTT acks": (1883, b"\x40\2\0\2\x40\2\0\3\xd0\0", "publish ack"),
    "NBSS": (139, b"\x81\0\0\x44" + bytes(68), "session request"),
    "PPTP": (1723, b"\0\x9c\0\1\x1a\x2b\x3c\x4d\0\1\0\0" + bytes(144), "PSH+ACK"),
    "SSH": (22, b"Protocol mismatch.\n", "Protocol mismatch."),
    "X11": (6000, b"l\0\x0b\0" + bytes(8), "connection"),
}
BROWSE = b"\x11\x02\x12\x34" + bytes(78) + b"\xffSMB\x25" + bytes(60) + b"\\MAILSLOT\\BROWSE\0" + b"\x0f"
DATAGRAMS |= {
    "DTLS": (40001, b"\x16\xfe\xfd" + bytes(8) + b"\0\x08" + b"\xff" * 8 + b"\x2e" + bytes(20), "42 bytes"),
    "DNS": (9053, QUESTION, "query id=0x1234 A www.example"),
    "RakNet": (19132, b"\5" + bytes.fromhex("00ffff00fefefefefdfdfdfd12345678") + b"\x0b", "connection, message 5"),
    "CLASSIC-STUN": (3478, b"\0\1\0\0" + bytes(16), "binding request"),
    "NAT-PMP": (5351, b"\0\x80\0\0" + bytes(8), "external address response"),
    "PCP": (5351, b"\2\1" + bytes(58), "map request"),
    "SRVLOC": (427, b"\2\1" + bytes(30), "service request"),
    "ISAKMP": (500, bytes(17) + b"\x20\x22\x08" + bytes(20), "IKE_SA_INIT"),
    "RIPng": (521, b"\2\1\0\0" + bytes(20), "response"),
    "SNMP": (161, b"\x30\x05\2\1\7\4\0", "version 7"),
    "MGCP": (2427, b"200 1204 OK\r\n", "200 1204 OK"),
    "CoAP": (5683, b"\x40\1\0\7", "4 bytes"),
    "collectd": (25826, b"\0\0\0\x08abc\0", "8 bytes"),
    "BROWSER": (138, BROWSE, ""),
    "NBDS": (138, BROWSE.replace(b"BROWSE", b"OTHERS"), ""),
    "WireGuard": (40001, b"\4\0\0\0" + b"abcd" + b"\7" + bytes(7) + b"~" * 32, "data"),
}
FRAMES |= {
    "GOOSE": (
        Ether(type=0x88B8) / Raw(bytes.fromhex("0003 0020 0000 0000 6116 8003 676f31") + bytes(20)), 1, "GOOSE",
        "application 0x0003 go1",
    ),
    "PN-DCP": (
        Ether(type=0x8892) / Raw(bytes.fromhex("fefe 0500 01000001 0080 0004 ffff0000")), 1, "PN-DCP",
        "identify request xid=0x01000001",
    ),
    "PNIO": (Ether(type=0x8892) / Raw(b"\x80\0" + bytes(44)), 1, "PNIO", "cyclic, frame 0x8000"),
    "PBB": (
        Ether(type=0x88E7) / Raw(b"\0\0\1\2") / LINK / HOSTS / UDP(sport=4000, dport=4001) / Raw(b"ab"), 1, "UDP",
        "PBB 258: 2 bytes",
    ),
    "an old VLAN": (
        Ether(type=0x9100) / Raw(b"\0\7\x08\0") / HOSTS / UDP(sport=4000, dport=4001) / Raw(b"ab"), 1, "UDP",
        "VLAN 7: 2 bytes",
    ),
    "EoIP": (
        LINK / IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / Raw(b"\x20\1\x64\0\0\x30\x09\0")
        / LINK / HOSTS / UDP(sport=4000, dport=4001) / Raw(b"ab"),
        1, "UDP", "EoIP 9 (10.0.0.1 > 10.0.0.2): 2 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_segment_says(name: str) -> None:
    port, data, says = STREAMS[name]
    told = tcp(data, port)
    whole = {"DNP 3.0", "IEC 60870-5 ASDU", "IEC 60870-5-104"}
    assert told.protocol == (name if name in whole else name.split(maxsplit=1)[0])
    assert told.info.startswith(says)


@pytest.mark.parametrize("name", DATAGRAMS)
def test_a_datagram_says(name: str) -> None:
    port, data, says = DATAGRAMS[name]
    told = udp(data, port)
    assert told.protocol == name
    assert told.info.startswith(says)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_says(name: str) -> None:
    packet, link_type, protocol, says = FRAMES[name]
    told = line(packet, link_type)
    assert told.protocol == protocol
    assert told.info.startswith(says)


def test_a_destination_option_before_mobility_is_passed() -> None:
    packet = LINK / IPv6(src="fe80::1", dst="fe80::2") / IPv6ExtHdrDestOpt(nh=135) / Raw(b"\x3b\1\6\0" + bytes(12))
    assert (line(packet).protocol, line(packet).info) == ("MIPv6", "binding acknowledgment, 16 bytes")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 30, 100])
def test_noise_has_no_name_but_of_its_port(size: int) -> None:
    noise = random.Random(size)
    for _ in range(300):
        data = noise.randbytes(size)
        assert tcp(data, 40001).protocol == "TCP"
        assert udp(data, 40001).protocol == "UDP"


def test_what_may_be_quic_is_called_what_it_surely_is() -> None:
    told = udp(b"\x4a" + bytes(40), 443)
    assert (told.protocol, told.info) == ("UDP", "perhaps QUIC, protected, 41 bytes")
    assert udp(b"\x08" + bytes(40), 443).protocol == "UDP"
    assert udp(b"", 53).protocol == "UDP"


def test_what_is_almost_of_a_protocol_is_not_called_that() -> None:
    for data in (QUESTION + b"x", QUESTION[:-3] + b"\x77" + QUESTION[-2:], b"\4\0\0\0" + b"~" * 44):
        assert udp(data, 9053).protocol == "UDP"
    assert tcp(MMS[:11] + b"\x62" + MMS[12:], 102).protocol == "COTP"
    assert tcp(b"\x30\x10\x04\x02\x0a\x5e" + bytes(20), 389).protocol == "TCP"
    assert tcp(b"\x68\x04\1\0\0\0", 2405).protocol == "TCP"


NTP_OF_WHO_STARTED = bytes.fromhex("e30006e8 00000000 00000002") + b"INIT" + bytes(32)
NETBIOS = QUESTION[:12] + b"\x20CK" + b"A" * 30 + bytes.fromhex("00 0021 0001")
DNP3 = b"\x05\x64\x05\xc4\x0a\0\x01\0ab"
ALMOST_STREAMS: dict[str, tuple[int, bytes, str]] = {
    "BGP, a type that there is not": (40001, b"\xff" * 64, "TCP"),
    "BGP, less than its head": (40001, b"\xff" * 16 + b"\0\x12\2" + bytes(20), "TCP"),
    "DCERPC, an answer of SOCKS": (1080, b"\5\0\0\1\0\0\0\0\1\xbb", "Socks"),
    "DCERPC, a pointer of VNC": (5900, bytes.fromhex("050003a300c1 050003ba00bd 050003d200b9"), "TCP"),
    "DCERPC, sealed by more than all": (135, b"\5\0\0\3\x10\0\0\0\x18\0\x20\0" + bytes(12), "TCP"),
    "DNS, a crowd of questions": (53, b"\xffu\x18h\0\0\x10\0\xffu\x10\xe8\xe1\x3a" + bytes(40), "TCP"),
    "DNS, no such operation": (53, b"\0\x1d\x12\x34\x39\0" + QUESTION[4:], "TCP"),
    "MQTT, the middle of what is published": (1883, b"X" * 400, "TCP"),
    "MQTT, a topic of control characters": (1883, b"\x30\x10\0\4\1\2\3\4" + bytes(10), "TCP"),
    "MQTT, what follows is none": (1883, b"\x40\2\0\2\0\0", "TCP"),
    "NBSS, the middle of a file": (139, bytes(400), "TCP"),
    "NBSS, too large": (139, b"\0\xff\0\7" + bytes(7), "TCP"),
    "PPTP, no mark": (1723, b"\0\x10\0\1" + bytes(12), "TCP"),
    "SSH, text": (22, b"\r\nThis is the body of a page.\n", "TCP"),
    "Modbus, nothing": (502, bytes(300), "TCP"),
    "PGSQL, nothing": (5432, bytes(300), "TCP"),
    "X11, not in parts of four": (6000, b"hello", "TCP"),
    "AMQP, text": (5672, b"anything", "TCP"),
    "AMQP, three bytes": (5672, b"\1\0\0", "TCP"),
    "AMQP, a frame without its end": (5672, b"\1\0\0\0\0\0\4abcde", "TCP"),
    "TELNET, TLS of another version": (23, b"\x16\x07\x01\0\x05\1\0\0\1\0", "TCP"),
    "Rlogin, numbers": (513, bytes(30), "TCP"),
    "RSH, what a command says": (514, b"total 0\n", "TCP"),
    "FTP-DATA, any bytes": (20, b"anything", "TCP"),
}
ALMOST_DATAGRAMS: dict[str, tuple[int, bytes, str]] = {
    "RPC, NTP of who just started": (123, NTP_OF_WHO_STARTED, "NTP"),
    "DNS, a name of NetBIOS": (137, NETBIOS, "NBNS"),
    "NBNS, no such operation": (137, b"X" * 60, "UDP"),
    "STUN, two bytes": (3478, b"OK", "UDP"),
    "STUN, a channel's length does not fit": (3478, b"\x40\0\0\4abcdefgh", "UDP"),
    "SNMP, no sequence": (161, b"\0\1\2\3", "UDP"),
    "RADIUS, larger than any": (1813, b"\1\0\xb1\5" + bytes(60), "UDP"),
    "DTLS, no record behind a record": (40001, b"\x16\xfe\xff" + bytes(8) + b"\0\x08" + b"\xff" * 20, "UDP"),
    "NBDS, no such kind": (138, b"anything", "UDP"),
    "CLDAP, no sequence": (389, b"anything", "UDP"),
    "L2TP, another version": (1701, b"\0\7" + bytes(20), "UDP"),
    "CAPWAP, another version": (5247, b"anything", "UDP"),
    "OpenVPN, no such operation": (1194, b"\xff" * 20, "UDP"),
    "OMRON, no gateway's bits": (9600, b"anything", "UDP"),
    "GTP, another version": (2152, b"\x50\xff\0\x10" + bytes(20), "UDP"),
    "IAX2, no such frame": (4569, b"\x80\1\0\2" + bytes(6) + b"\x30\0", "UDP"),
    "IAX2, a short frame": (4569, b"\0\1\0\2voice", "UDP"),
    "VXLAN, without its flag": (4789, bytes(40), "UDP"),
    "Teredo, no IPv6": (3544, b"\xff" * 40, "UDP"),
    "DB-LSP-DISC, no JSON": (17500, b"anything", "UDP"),
}


@pytest.mark.parametrize("name", ALMOST_STREAMS)
def test_a_segment_is_not_called_what_it_almost_is(name: str) -> None:
    port, data, protocol = ALMOST_STREAMS[name]
    assert tcp(data, port).protocol == protocol


@pytest.mark.parametrize("name", ALMOST_DATAGRAMS)
def test_a_datagram_is_not_called_what_it_almost_is(name: str) -> None:
    port, data, protocol = ALMOST_DATAGRAMS[name]
    assert udp(data, port).protocol == protocol


@pytest.mark.parametrize("port", [138, 427, 500, 521, 547, 1985, 2427, 5246, 5351, 5683, 9600, 25826])
def test_noise_at_a_known_port_has_no_name(port: int) -> None:
    assert udp(b"\xee" * 300, port).protocol == "UDP"


def test_of_what_no_byte_was_captured_is_not_named() -> None:
    data = bytes(LINK / HOSTS / UDP(sport=40000, dport=53) / Raw(QUESTION))
    assert [describe(data[:size], len(data), 1).protocol for size in (42, len(data))] == ["UDP", "DNS"]


def test_what_only_a_port_tells_gives_way_to_what_bytes_tell() -> None:
    assert tcp(DNP3, 5672, source=20000).protocol == "DNP 3.0"
    assert tcp(b"anything", 7, source=20000).info.startswith("perhaps ECHO, by its port alone, ")
    assert tcp(b"anything", 40001, source=20).info.startswith("perhaps FTP-DATA, by its port alone, ")
    assert "perhaps" not in tcp(b"anything", 80, source=20).info
    assert udp(b"anything", 7).info == "perhaps ECHO, by its port alone, 8 bytes"


def test_both_versions_of_hsrp_are_known() -> None:
    assert [udp(data + bytes(38), 1985).info.split(",")[0] for data in (b"\0\1\x10\3", b"\1\x28\2\2")] == [
        "coup",
        "resign",
    ]


def test_bytes_of_tls_in_a_mail_connection_are_no_mail() -> None:
    assert tcp(b"\x9a\x01\x02\x8b" * 40, 25).protocol == "TCP"
    assert tcp("Grüße an alle\r\n".encode(), 25).protocol == "SMTP"
