"""Mistakes that whoever writes a network stack makes: each is the only cause that is found, told with who made it."""

# ruff: noqa: E501 - one case, one line

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, back, dhcp, out
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from test_explain import ARP_REPLY, BROADCAST, DISCOVER, HANDSHAKE, LEASED, OFFER, OTHER_MAC, examine, reply, segment

from rawtap.packets.explain import Place
from rawtap.packets.origin import Origin

SWAPPED = "its bytes are swapped"
REVERSED = "its bytes are in reversed order"
CLAIMS = [Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst=HOST), ARP_REPLY]
HOST_ASKS = Ether(src=HOST_MAC, dst=BROADCAST) / ARP(hwsrc=HOST_MAC, psrc=HOST, pdst=GUEST)
GUEST6, HOST6 = "fe80::1", "fe80::2"
GROUP6, GROUP6_MAC = "ff02::1:ff00:1", "33:33:ff:00:00:01"


def patched(packet: Any, at: int, new: str) -> Any:
    data, given = bytearray(bytes(packet)), bytes.fromhex(new)
    data[at : at + len(given)] = given
    return bytes(data)


def asked(sequence: int, at: float = 0) -> Any:
    return (at or sequence / 100, back(ICMP(id=7, seq=sequence) / b"abcdefgh"))


def answered(sequence: int, at: float = 0, **fields: Any) -> Any:
    kind = fields.pop("type", 0)
    return (at or sequence / 100 + 0.001, out(ICMP(type=kind, id=7, seq=sequence) / b"abcdefgh", **fields))


def asks(message: str, **fields: Any) -> Any:
    return out(UDP(sport=4000, dport=53) / Raw(bytes.fromhex(message)), **fields)


def arp_answer(**fields: Any) -> Any:
    given = {"op": 2, "hwsrc": GUEST_MAC, "psrc": GUEST, "hwdst": HOST_MAC, "pdst": HOST} | fields
    return Ether(src=GUEST_MAC, dst=HOST_MAC) / ARP(**given)


def solicits(target: str = GUEST6, group: str = GROUP6, mac: str = GROUP6_MAC, option: bool = True) -> Any:
    packet = Ether(src=HOST_MAC, dst=mac) / IPv6(src=HOST6, dst=group, hlim=255) / ICMPv6ND_NS(tgt=target)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=HOST_MAC) if option else packet


def advertises(target: str = GUEST6, to: str = HOST6, mac: str = HOST_MAC, option: Any = None, **flags: Any) -> Any:
    packet = Ether(src=GUEST_MAC, dst=mac) / IPv6(src=GUEST6, dst=to, hlim=255)
    packet /= ICMPv6ND_NA(tgt=target, **{"S": 1, "R": 0} | flags)
    return packet if option == "" else packet / (option or ICMPv6NDOptDstLLAddr(lladdr=GUEST_MAC))


def sent(flags: str, seq: int, ack: int, data: bytes = b"", at: float = 0.1, **fields: Any) -> Any:
    return (at, segment(flags, seq, ack, data, **fields))


ACKED = dhcp(
    [
        ("message-type", "ack"),
        ("server_id", HOST),
        ("lease_time", 60),
        ("subnet_mask", "255.255.255.0"),
        ("router", HOST),
    ],
    reply=True,
    yiaddr=GUEST,
)
WANTS = [("message-type", "request"), ("server_id", HOST)]
HEADER = "4242 0100 0001 0000 0000 0000"
NAME = "03 777777 03 6c6162"
SYN_BACK = Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=GUEST, dst=HOST)
HOST_OPENS = back(TCP(sport=33333, dport=80, flags="S", seq=100))

# Packets; the code of the first finding, words of what it says, who is at fault, what was found.
CASES: dict[str, tuple[list[Any], str, str, str, str]] = {
    "a source of zeros": ([*CLAIMS, Ether(src="00:00:00:00:00:00", dst=HOST_MAC) / IP(src=GUEST, dst=HOST) / UDP(sport=1)], "ethernet.source_zero", "zeros", GUEST, "00:00:00:00:00:00"),
    "IPv4's type": ([*CLAIMS, asked(1), (0.02, patched(answered(1)[1], 12, "0008"))], "ethernet.type", SWAPPED, GUEST_MAC, "0x0008"),
    "ARP's type": ([HOST_ASKS, patched(arp_answer(), 12, "0608")], "ethernet.type", SWAPPED, GUEST_MAC, "0x0608"),
    "IPv6's type": ([patched(advertises(), 12, "dd86")], "ethernet.type", SWAPPED, GUEST_MAC, "0xdd86"),
    "the hardware's type": ([patched(CLAIMS[0], 14, "0100")], "arp.kind_swapped", SWAPPED, GUEST_MAC, "hardware 256, protocol 0x0800"),
    "the protocol's type": ([patched(CLAIMS[0], 16, "0008")], "arp.kind_swapped", SWAPPED, GUEST_MAC, "hardware 1, protocol 0x0008"),
    "ARP's lengths": ([patched(CLAIMS[0], 18, "0406")], "arp.lengths", "they are exchanged", GUEST_MAC, "4 and 6"),
    "ARP's hardware addresses": ([HOST_ASKS, arp_answer(hwsrc=HOST_MAC, hwdst=GUEST_MAC)], "arp.sender_mismatch", "are exchanged", GUEST, HOST_MAC),
    "the gateway in ARP": ([Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst="2.2.0.10")], "arp.target", REVERSED, GUEST, "2.2.0.10"),
    "a neighbour that can be none": ([Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst="192.0.2.1")], "arp.off_link", "a router is to be asked for", GUEST, "192.0.2.1"),
    "a neighbour outside the mask": ([DISCOVER, OFFER, dhcp([*WANTS, ("requested_addr", GUEST)]), ACKED, Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst="10.9.2.1")], "arp.off_link", "mask 255.255.255.0", GUEST, "10.9.2.1"),
    "a group's link address": ([Ether(src=GUEST_MAC, dst="01:00:5e:00:00:01") / IP(src=GUEST, dst="224.0.0.251") / UDP(sport=1)], "ethernet.group", "only byte 5 differs", GUEST, "01:00:5e:00:00:01"),
    "a group's link address of IPv6": ([solicits(mac="33:33:00:00:00:01")], "ethernet.group", "at another link address", HOST6, "33:33:00:00:00:01"),
    "a version": ([*CLAIMS, asked(1), (0.02, patched(answered(1)[1], 14, "54"))], "ip.version", "version and header length are exchanged", GUEST_MAC, "0x54"),
    "a length": ([*CLAIMS, out(UDP(sport=1, dport=9) / b"abcd", len=0x2000)], "ip.total_length", SWAPPED, GUEST, "8192"),
    "a length without its header": ([*CLAIMS, out(Raw(bytes(60)), proto=253, len=60)], "ethernet.trailer", "the IP header is not counted", GUEST_MAC, "94 bytes"),
    "a payload length with its header": ([Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src=GUEST6, dst=HOST6, plen=48) / UDP(sport=1, dport=9)], "ip.payload_length", "the headers before it are counted", GUEST6, "48"),
    "a datagram's length": ([out(UDP(sport=1, dport=9, len=0x0C00) / b"abcd")], "udp.length_beyond", SWAPPED, GUEST, "3072"),
    "ICMPv6 in IPv4": ([*CLAIMS, asked(1), answered(1, proto=58)], "ip.protocol", "which has its own", GUEST, "protocol 58"),
    "the flag DF": ([*CLAIMS, asked(1), answered(1, frag=64)], "ip.fragments_incomplete", "the flag DF has its bytes swapped", GUEST, "0x0040"),
    "a number that is always the same": ([*CLAIMS, asked(1), answered(1), asked(2), answered(1, 0.03)], "icmp.reply_mismatch", "the numbers of one before", GUEST, "id 0x0007 seq 0x0001"),
    "a type that is kept": ([*CLAIMS, asked(1), answered(1, type=8)], "icmp.reply_type", "the type is not changed", GUEST, "type 8"),
    "addresses that are kept": ([*CLAIMS, asked(1), (0.02, Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=HOST, dst=GUEST) / ICMP(type=0, id=7, seq=1))], "ip.source_of_another", "sends from 10.0.2.2", GUEST, HOST),
    "a reply to all": ([*CLAIMS, asked(1), (0.02, Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=GUEST, dst="255.255.255.255") / ICMP(type=0, id=7, seq=1))], "icmp.reply_destination", "with a reply to 255.255.255.255", GUEST, "255.255.255.255"),
    "a name without its end": ([asks(HEADER + NAME + "00010001")], "dns.malformed", "no zero at its end", GUEST, ""),
    "a name with dots": ([asks(HEADER + "7777772e6c6162 00 00010001")], "dns.malformed", "written with dots", GUEST, ""),
    "a question's type": ([asks(HEADER + NAME + "00 01000001")], "dns.type", SWAPPED, GUEST, "type 256"),
    "a query's flags": ([asks("4242 0001 0001 0000 0000 0000" + NAME + "00 00010001"), back(UDP(sport=53, dport=4000) / DNS(id=0x4242, qr=1, rd=1, qd=DNSQR(qname="www.lab")))], "dns.query_code", SWAPPED, GUEST, "code 1"),
    "a query without recursion": ([out(UDP(sport=4000, dport=53) / DNS(id=7, rd=0, qd=DNSQR(qname="a.lab"))), back(UDP(sport=53, dport=4000) / DNS(id=7, qr=1, rd=0, ra=1, rcode=2, qd=DNSQR(qname="a.lab")))], "dns.no_recursion", "is told nothing", GUEST, "RD 0"),
    "a lease without the address": ([DISCOVER, OFFER, dhcp(WANTS)], "dhcp.request_lacks", "without the requested address", GUEST_MAC, "none"),
    "a lease with the address elsewhere": ([DISCOVER, OFFER, dhcp(WANTS, ciaddr=GUEST)], "dhcp.request_lacks", "it is in ciaddr", GUEST_MAC, "none"),
    "a lease without the server": ([DISCOVER, OFFER, dhcp([("message-type", "request"), ("requested_addr", GUEST)])], "dhcp.request_lacks", "without the server identifier", GUEST_MAC, "none"),
    "a client's operation": ([patched(DISCOVER, 40, "0000 02")], "dhcp.operation", "the operation of a reply", GUEST_MAC, "2"),
    "a server's operation": ([DISCOVER, patched(OFFER, 40, "0000 01")], "dhcp.operation", "the operation of a request", HOST_MAC, "1"),
    "a client's ports": ([patched(patched(DISCOVER, 34, "00430044"), 40, "0000")], "dhcp.port", "the ports are exchanged", GUEST_MAC, "port 67 to 68"),
    "a short hardware address": ([dhcp([("message-type", "discover")], hlen=4)], "dhcp.hardware_length", "of 4 bytes", GUEST_MAC, "type 1, length 4"),
    "the hardware's type and length": ([dhcp([("message-type", "discover")], htype=6, hlen=1)], "dhcp.hardware_length", "type and length are exchanged", GUEST_MAC, "type 6, length 1"),
    "nearly its own hardware address": ([dhcp([("message-type", "discover")], chaddr="52:54:00:00:00:09")], "dhcp.hardware_address", "only byte 5 differs", GUEST_MAC, "52:54:00:00:00:09"),
    "a solicitation of another group": ([solicits(group="ff02::1:ff00:9", mac="33:33:ff:00:00:09")], "ndp.group", "only byte 15 differs", HOST6, "ff02::1:ff00:9"),
    "a solicitation without an address": ([solicits(option=False)], "ndp.no_link_address", "does not say where it is", HOST6, "no link-layer address"),
    "an advertisement without an address": ([solicits(), advertises(option="")], "ndp.no_link_address", "does not say where it is", GUEST6, "no link-layer address"),
    "an advertisement with a source's address": ([solicits(), advertises(option=ICMPv6NDOptSrcLLAddr(lladdr=GUEST_MAC))], "ndp.option_type", "is a source's", GUEST6, "option 1"),
    "an advertisement that nobody asked for": ([solicits(), advertises(S=0)], "ndp.not_solicited", "does not say that it was asked for", GUEST6, "S 0"),
    "an advertisement of another": ([solicits(), advertises("fe80::9")], "ndp.other_target", "only byte 15 differs", GUEST6, "fe80::9"),
    "a SYN with another number": ([(0, segment("S", 1000)), (1, segment("S", 2000)), (3, segment("S", 3000))], "tcp.syn_changed", "another initial sequence number", GUEST, "2000"),
    "a segment without ACK": ([*HANDSHAKE, sent("P", 1001, 0, b"abc"), sent("P", 1001, 0, b"abc", 0.5)], "tcp.no_ack_flag", "3 bytes of data", GUEST, "PSH"),
    "a sequence number": ([*HANDSHAKE, sent("PA", 0xE9030000, 5001, b"abc"), (0.2, reply("A", 5001, 1001))], "tcp.sequence", SWAPPED, GUEST, str(0xE9030000)),
    "ports that are kept": ([HOST_OPENS, (0.1, SYN_BACK / TCP(sport=33333, dport=80, flags="SA", seq=7000, ack=101))], "tcp.ports", "not exchanged", GUEST, "from 33333 to 80"),
    "ports that a refusal keeps": ([HOST_OPENS, (0.1, SYN_BACK / TCP(sport=33333, dport=80, flags="RA", ack=101))], "tcp.ports", "not exchanged", GUEST, "from 33333 to 80"),
    "a FIN too far": ([*HANDSHAKE, sent("PA", 1001, 5001, b"abc"), (0.2, reply("A", 5001, 1004)), sent("FA", 1005, 5001, at=0.3), (0.3, reply("A", 5001, 1004)), sent("FA", 1005, 5001, at=0.6)], "tcp.sequence_skipped", "one too high", GUEST, "1005"),
    "a FIN too far that is refused": ([*HANDSHAKE, (0.2, reply("FA", 5001, 1001)), sent("A", 1001, 5002, at=0.2), sent("FA", 1002, 5002, at=0.3), (0.3, reply("R", 5002, 0))], "tcp.sequence_skipped", "one too high", GUEST, "1002"),
    "an acknowledgment of more than all": ([*HANDSHAKE, (0.1, reply("PA", 5001, 1001, b"abc")), sent("A", 1001, 5005), sent("PA", 1001, 5005, b"x", 0.101), (0.102, reply("A", 5004, 1002))], "tcp.ack_beyond", "never sent", GUEST, "5005"),
    "an acknowledgment of more than all that is not believed": ([*HANDSHAKE, (0.1, reply("PA", 5001, 1001, b"abc")), sent("A", 1001, 5005), (0.3, reply("PA", 5001, 1001, b"abc")), sent("A", 1001, 5005, at=0.3), (0.7, reply("PA", 5001, 1001, b"abc"))], "tcp.ack_beyond", "never sent", GUEST, "5005"),
    "a handshake's number that is reset": ([HOST_OPENS, (0.1, SYN_BACK / TCP(sport=80, dport=33333, flags="SA", seq=7000, ack=100)), (0.2, back(TCP(sport=33333, dport=80, flags="R", seq=100)))], "tcp.syn_ack_mismatch", "one too low", GUEST, "100"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_the_only_cause_that_is_found(name: str) -> None:
    packets, code, words, host, found = CASES[name]
    first, *others = examine(packets).findings
    assert (first.what, first.host, first.found) == (code, host, found)
    assert words in first.says
    assert first.rule
    assert [each for each in others if not each.follows] == []


CLEAN: dict[str, list[Any]] = {
    "a reply that was captured twice beside a request that waits": [*CLAIMS, asked(1), answered(1), answered(1, 0.0111), asked(2), answered(2)],
    "two that ping each other with the same numbers": [*CLAIMS, asked(1), (0.0101, out(ICMP(id=7, seq=1) / b"abcdefgh")), answered(1), (0.02, back(ICMP(type=0, id=7, seq=1) / b"abcdefgh"))],
    "a router of another network": [Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst="192.0.2.1"), Ether(src=HOST_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=HOST_MAC, psrc="192.0.2.1", hwdst=GUEST_MAC, pdst=GUEST)],
    "a neighbour within the mask": [DISCOVER, OFFER, dhcp([*WANTS, ("requested_addr", GUEST)]), ACKED, *CLAIMS],
    "a group in a broadcast frame": [Ether(src=GUEST_MAC, dst=BROADCAST) / IP(src=GUEST, dst="224.0.0.251") / UDP(sport=1)],
    "a group in a frame for one": [Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=GUEST, dst="224.0.0.251") / UDP(sport=1)],
    "a client that asks for the lease that it had": [dhcp([("message-type", "request"), ("requested_addr", GUEST)]), LEASED],
    "a repeater's hardware address": [dhcp([("message-type", "discover")], chaddr="52:54:00:00:00:09"), dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST, chaddr="52:54:00:00:00:09"), dhcp([*WANTS, ("requested_addr", GUEST)], chaddr="52:54:00:00:00:09"), dhcp([("message-type", "ack"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST, chaddr="52:54:00:00:00:09")],
    "a server that knows it itself": [out(UDP(sport=4000, dport=53) / DNS(id=7, rd=0, qd=DNSQR(qname="a.lab"))), back(UDP(sport=53, dport=4000) / DNS(id=7, qr=1, rd=0, ra=1, aa=1, qd=DNSQR(qname="a.lab")))],
    "a service by its name": [asks(HEADER + "05 5f68747470 03 6c6162 00 01000001"), back(UDP(sport=53, dport=4000) / DNS(id=0x4242, qr=1, rd=1, qd=DNSQR(qname="_http.lab", qtype=256)))],
    "an advertisement for all": [solicits(), advertises(to="ff02::1", mac="33:33:00:00:00:01", S=0)],
    "a solicitation of one without an address": [solicits(), advertises(), (1, Ether(src=HOST_MAC, dst=GUEST_MAC) / IPv6(src=HOST6, dst=GUEST6, hlim=255) / ICMPv6ND_NS(tgt=GUEST6)), (1.1, advertises(option=""))],
    "the same ports later, with another number": [(0, segment("S", 1000)), (0, reply("RA", 0, 1001)), (20, segment("S", 9000)), (20, reply("SA", 7000, 9001)), (20, segment("A", 9001, 7001))],
    "a question for a lease": [dhcp([("message-type", 10)])],
    "a scan without flags of what is no connection": [segment("", 1, 0), segment("FPU", 1, 0)],
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_right_is_not_taken_for_a_mistake(name: str) -> None:
    found = examine(CLEAN[name], 30)
    assert [each.what for each in found.findings if each.what != "tcp.refused"] == []


FOREIGN = "02:00:00:12:34:56"
CARD = Origin(1, 0, "tap0", f"guest ({GUEST_MAC} on tap0)")
SPEAKS = [
    (0, Ether(src=FOREIGN, dst=BROADCAST) / ARP(hwsrc=FOREIGN, psrc=GUEST, pdst=HOST)),
    (0.001, Ether(src=HOST_MAC, dst=FOREIGN) / ARP(op=2, hwsrc=HOST_MAC, psrc=HOST, hwdst=FOREIGN, pdst=GUEST)),
]


def test_a_guest_that_sends_under_another_address_than_its_cards_is_told() -> None:
    (finding,) = examine(SPEAKS, place=Place(CARD, frozenset({bytes.fromhex(HOST_MAC.replace(":", ""))}))).findings
    assert (finding.what, finding.host) == ("ethernet.source", "guest")
    assert (finding.found, finding.expected) == (FOREIGN, GUEST_MAC)


def test_others_on_the_network_send_under_their_own() -> None:
    others = frozenset(bytes.fromhex(each.replace(":", "")) for each in (HOST_MAC, OTHER_MAC))
    place = Place(CARD, others)
    assert examine(CLAIMS, place=place).findings == ()
    # What is sent to one that was heard long ago may be flooded.
    late = [SPEAKS[0], (0.1, ARP_REPLY), (20, SPEAKS[1][1])]
    assert [each.what for each in examine(late, 30, place=place).findings if each.what == "ethernet.source"] == []


def asks_for(address: str) -> Any:
    return Ether(src=GUEST_MAC, dst=BROADCAST) / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst=address)


# What is near to a mistake and none: the codes of all that is found, with what it follows from.
NEAR: dict[str, tuple[list[Any], list[tuple[str, str]]]] = {
    "a neighbour whose address reads the same": ([asks_for("10.0.0.10")], [("arp.no_answer", "")]),
    "a neighbour of another private network": ([asks_for("192.168.1.1")], [("arp.no_answer", "")]),
    "a SYN of another try": ([(0, segment("S", 1000)), (20, segment("S", 9000))], [("tcp.no_answer", "")]),
    "a SYN after the connection was open": ([*HANDSHAKE, (1, segment("S", 9000)), (1, reply("SA", 8000, 9001)), (1, segment("A", 9001, 8001))], []),
    "data that were captured behind their acknowledgment": ([*HANDSHAKE, sent("A", 1001, 5005), (0.101, reply("A", 5001, 1001)), (0.102, reply("PA", 5001, 1001, b"abcd"))], []),
    "a refusal behind more than a byte that was not captured": ([*HANDSHAKE, (0.2, reply("FA", 5001, 1001)), sent("A", 1001, 5002, at=0.2), sent("FA", 1101, 5002, at=0.3), (0.3, reply("R", 5002, 0))], []),
    "a lease of before, asked for after an offer": ([DISCOVER, (0.1, OFFER), (0.2, dhcp([("message-type", "request"), ("requested_addr", GUEST)], xid=0x9999))], [("dhcp.no_ack", "")]),
    "a ping with the numbers of one, and other data": ([*CLAIMS, asked(1), (0.0101, out(ICMP(id=7, seq=1) / b"others"))], [("icmp.no_reply", ""), ("icmp.no_reply", "")]),
    "data beside a second SYN+ACK": ([*HANDSHAKE, sent("PA", 1001, 5001, b"abc"), (0.2, reply("SA", 7000, 1001)), (3, segment("PA", 1001, 5001, b"abc")), (3.1, reply("A", 5001, 1004))], [("tcp.second_syn_ack", ""), ("tcp.retransmission", "tcp.second_syn_ack in packet 5"), ("tcp.stalled", "tcp.second_syn_ack in packet 5")]),
    "a packet that is not recognized before a ping": ([*CLAIMS, answered(1, proto=58), asked(2)], [("ip.protocol", ""), ("icmp.no_reply", "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_what_is_near_to_a_mistake_is_not_called_one(name: str) -> None:
    packets, expected = NEAR[name]
    assert [(each.what, each.follows) for each in examine(packets, 30).findings] == expected
