"""The cause is named: who is at fault, what was found, what was expected, and the classic mistake behind it."""

# ruff: noqa: E501, S104 - one case, one line

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, back, dhcp, out
from scapy.layers.dhcp import BOOTP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, CookedLinux, Ether
from scapy.packet import Raw
from test_explain import (
    ARP_REPLY,
    DISCOVER,
    HANDSHAKE,
    LEASED,
    OFFER,
    OTHER_MAC,
    PING,
    PONG,
    REQUEST,
    answer,
    arp,
    examine,
    exchange,
    fragment,
    only,
    query,
    refusal,
)

from rawtap.packets import mistakes

CLAIMS = [arp(), ARP_REPLY]
DNS_ANSWER = answer()


def to_link(packet: Any, mac: str) -> Any:
    packet = packet.copy()
    packet.dst = mac
    return packet


def arp_answer(**fields: Any) -> Any:
    given = {"op": 2, "hwsrc": HOST_MAC, "psrc": HOST, "hwdst": GUEST_MAC, "pdst": GUEST} | fields
    return Ether(src=HOST_MAC, dst=GUEST_MAC) / ARP(**given)


GUEST6, HOST6 = "fe80::1", "fe80::2"
PING6 = Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src=GUEST6, dst=HOST6) / ICMPv6EchoRequest(id=1, seq=1)
PONG6 = Ether(src=HOST_MAC, dst=GUEST_MAC) / IPv6(src=HOST6, dst=GUEST6) / ICMPv6EchoReply(id=1, seq=1)
DATA6 = Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src=GUEST6, dst=HOST6) / UDP(sport=4000, dport=4001) / b"data"
# One more host on the link, which is heard.
ANOTHER = Ether(src=OTHER_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=OTHER_MAC, psrc="10.0.2.9", pdst="10.0.2.9")


def solicitation(own: str = GUEST_MAC) -> Any:
    option = ICMPv6NDOptSrcLLAddr(lladdr=own)
    return Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src=GUEST6, dst=HOST6, hlim=255) / ICMPv6ND_NS(tgt=HOST6) / option


def advertisement(own: str = HOST_MAC) -> Any:
    option = ICMPv6NDOptDstLLAddr(lladdr=own)
    return (
        Ether(src=HOST_MAC, dst=GUEST_MAC)
        / IPv6(src=HOST6, dst=GUEST6, hlim=255)
        / ICMPv6ND_NA(tgt=HOST6, S=1)
        / option
    )


PXE = dhcp([("message-type", "discover"), ("vendor_class_id", b"PXEClient:Arch:00000")])
WITH_FILE = dhcp(
    [("message-type", "offer"), ("server_id", HOST), ("lease_time", 60)], reply=True, yiaddr=GUEST, file=b"boot.0"
)
SWAPPED = mistakes.SWAPPED

# What was captured; the only finding's code, host, what was found, what was expected, and words of its sentence.
CAUSES: dict[str, tuple[list[Any], tuple[str, str, str, str, str]]] = {
    "an echo reply with its sequence number swapped": (
        [out(ICMP(id=1, seq=2)), back(ICMP(type=0, id=1, seq=0x200))],
        ("icmp.reply_mismatch", HOST, "id 0x0001 seq 0x0200", "id 0x0001 seq 0x0002", f"another sequence number than it was sent: {SWAPPED}"),
    ),
    "an echo reply with both numbers swapped": (
        [out(ICMP(id=0x1234, seq=1)), out(ICMP(id=0x1234, seq=2)), back(ICMP(type=0, id=0x1234, seq=2)), back(ICMP(type=0, id=0x3412, seq=0x100))],
        ("icmp.reply_mismatch", HOST, "id 0x3412 seq 0x0100", "id 0x1234 seq 0x0001", f"identifier and sequence number than it was sent: {SWAPPED}"),
    ),
    "an echo reply with another identifier": (
        [PING, back(ICMP(type=0, id=99, seq=1) / b"abcdefgh")],
        ("icmp.reply_mismatch", HOST, "id 0x0063 seq 0x0001", "id 0x0001 seq 0x0001", "another identifier than it was sent"),
    ),
    "an echo reply from an address in the wrong byte order": (
        [PING, Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src="2.2.0.10", dst=GUEST) / ICMP(type=0, id=1, seq=1)],
        ("icmp.reply_source", HOST, "2.2.0.10", HOST, "its bytes are in reversed order"),
    ),
    "a refused port that is 53 swapped": (
        [refusal(out(UDP(sport=4000, dport=13568)))],
        ("icmp.unreachable", GUEST, "port 13568", "port 53", "port 13568 is 53 with its bytes swapped"),
    ),
    "a DNS answer with its number swapped": (
        [query(number=7), answer(number=0x700)],
        ("dns.id_mismatch", HOST, "id 0x0700", "id 0x0007", SWAPPED),
    ),
    "a DNS answer to another port": (
        [query(port=4000), answer(port=mistakes.swapped(4000))],
        ("dns.other_port", HOST, f"port {mistakes.swapped(4000)}", "port 4000", SWAPPED),
    ),
    "a DNS answer from another server": (
        [query(), Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src="10.0.2.3", dst=GUEST) / DNS_ANSWER[UDP]],
        ("dns.other_server", "10.0.2.3", "10.0.2.3", HOST, "only byte 3 differs"),
    ),
    "a DNS query to 53 swapped": (
        [out(UDP(sport=4000, dport=13568) / DNS(id=7, qd=DNSQR(qname="example.com")))],
        ("dns.port", GUEST, "port 13568", "port 53", SWAPPED),
    ),
    "a DNS query with the bit of a response": (
        [out(UDP(sport=4000, dport=53) / DNS(id=7, qr=1, qd=DNSQR(qname="example.com")))],
        ("dns.query_is_response", GUEST, "QR 1", "QR 0", "the bit of a response"),
    ),
    "a DNS query of a swapped class": (
        [out(UDP(sport=4000, dport=53) / DNS(id=7, qd=DNSQR(qname="example.com", qclass=256))), answer()],
        ("dns.class", GUEST, "class 256", "class 1 (IN)", SWAPPED),
    ),
    "a DHCP request with another number than the offer's": (
        [DISCOVER, OFFER, dhcp([("message-type", "request"), ("requested_addr", GUEST), ("server_id", HOST)], xid=0x34120000),
         dhcp([("message-type", "ack"), ("server_id", HOST), ("lease_time", 60)], xid=0x34120000, reply=True)],
        ("dhcp.request_xid", GUEST_MAC, "0x34120000", "0x00001234", SWAPPED),
    ),
    "a DHCP request for a reversed address": (
        [DISCOVER, OFFER, dhcp([("message-type", "request"), ("requested_addr", "15.2.0.10"), ("server_id", HOST)]), LEASED],
        ("dhcp.request_address", GUEST_MAC, "15.2.0.10", GUEST, "its bytes are in reversed order"),
    ),
    "a DHCP request to another server": (
        [DISCOVER, OFFER, dhcp([("message-type", "request"), ("requested_addr", GUEST), ("server_id", "10.0.2.3")]), LEASED],
        ("dhcp.request_server", GUEST_MAC, "10.0.2.3", HOST, "only byte 3 differs"),
    ),
    "a DHCP request that is repeated though acknowledged": (
        [DISCOVER, OFFER, REQUEST, LEASED, (1, REQUEST), (1.1, LEASED)],
        ("dhcp.ack_ignored", GUEST_MAC, "", "", "though it was acknowledged"),
    ),
    "a DHCP offer that is never taken": (
        [DISCOVER, OFFER, (4, DISCOVER), (4.1, OFFER)],
        ("dhcp.offer_not_taken", GUEST_MAC, "", "", "is offered 10.0.2.15 and never requests it"),
    ),
    "a PXE client without a file": (
        [PXE, OFFER],
        ("dhcp.offer_not_taken", HOST, "no bootfile", "a file to boot, in option 67 or in the field `file`", "no offer names a file to boot"),
    ),
    "an offer with a swapped number": (
        [DISCOVER, dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 6)], reply=True, xid=0x34120000)],
        ("dhcp.xid_mismatch", HOST, "xid 0x34120000", "xid 0x00001234", SWAPPED),
    ),
    "a DHCP client whose own address is reversed": (
        [dhcp([("message-type", "discover")], chaddr="01:00:00:00:54:52"),
         dhcp([("message-type", "offer"), ("server_id", HOST), ("lease_time", 6)], reply=True, chaddr="01:00:00:00:54:52")],
        ("dhcp.hardware_address", GUEST_MAC, "01:00:00:00:54:52", GUEST_MAC, "its bytes are in reversed order"),
    ),
    "a DHCP message to 67 swapped": (
        [Ether(src=GUEST_MAC) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=17152) / DISCOVER[BOOTP]],
        ("dhcp.port", GUEST_MAC, "port 17152", "port 67", SWAPPED),
    ),
    "an ARP reply with a swapped operation": (
        [arp(), arp_answer(op=0x200)], ("arp.operation", HOST, "512", "2", SWAPPED),
    ),
    "an ARP reply whose addresses are not exchanged": (
        [arp(), arp_answer(hwsrc=HOST_MAC, psrc=GUEST, pdst=HOST)],
        ("arp.reply_mismatch", HOST_MAC, f"{GUEST} is at {HOST_MAC}, to {HOST}", f"{HOST} as sender, {GUEST} as target", "not exchanged"),
    ),
    "an ARP reply with a reversed address": (
        [arp(), arp_answer(psrc="2.2.0.10")],
        ("arp.reply_mismatch", HOST_MAC, f"2.2.0.10 is at {HOST_MAC}, to {GUEST}", f"{HOST} as sender, {GUEST} as target", "reversed"),
    ),
    "a host that names two link addresses for itself": (
        [arp(), ARP_REPLY, arp(), arp_answer(hwsrc="52:54:00:00:00:99")],
        ("arp.two_addresses", HOST, "52:54:00:00:00:99", HOST_MAC, "names two link addresses for itself"),
    ),
    "a reply in a broadcast frame": (
        [*CLAIMS, PING, to_link(PONG, "ff:ff:ff:ff:ff:ff")],
        ("ethernet.destination_group", HOST, "ff:ff:ff:ff:ff:ff", GUEST_MAC, "which is one host, in a broadcast frame"),
    ),
    "a reply to a rotated link address": (
        [*CLAIMS, PING, to_link(PONG, "54:00:00:00:01:52")],
        ("ethernet.destination", HOST, "54:00:00:00:01:52", GUEST_MAC, "its bytes are rotated by 1"),
    ),
    "a reply to a reversed link address, which is a group's": (
        [*CLAIMS, PING, to_link(PONG, "01:00:00:00:54:52")],
        ("ethernet.destination", HOST, "01:00:00:00:54:52", GUEST_MAC, "its bytes are in reversed order"),
    ),
    "an answer to a link address of nobody": (
        [*CLAIMS, query(), to_link(DNS_ANSWER, "02:00:00:00:00:77")],
        ("ethernet.destination", HOST, "02:00:00:00:00:77", GUEST_MAC, "a link address that is not that host's"),
    ),
    "an echo reply in a frame for another host": (
        [PING, ANOTHER, to_link(PONG, OTHER_MAC)],
        ("ethernet.destination", HOST, OTHER_MAC, GUEST_MAC, "not the asker's: only byte 5 differs"),
    ),
    "a DNS answer in a frame for another host": (
        [query(), ANOTHER, to_link(DNS_ANSWER, OTHER_MAC)],
        ("ethernet.destination", HOST, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "an ARP reply in a frame for another host": (
        [arp(), ANOTHER, to_link(ARP_REPLY, OTHER_MAC)],
        ("ethernet.destination", HOST, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "a SYN+ACK in a frame for another host": (
        [HANDSHAKE[0], ANOTHER, to_link(HANDSHAKE[1], OTHER_MAC)],
        ("ethernet.destination", HOST, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "a DHCP offer in a frame for another host": (
        [DISCOVER, ANOTHER, to_link(OFFER, OTHER_MAC)],
        ("ethernet.destination", HOST, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "an echo reply over IPv6 in a frame for another host": (
        [PING6, ANOTHER, to_link(PONG6, OTHER_MAC)],
        ("ethernet.destination", HOST6, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "a neighbour advertisement in a frame for another host": (
        [solicitation(), ANOTHER, to_link(advertisement(), OTHER_MAC)],
        ("ethernet.destination", HOST6, OTHER_MAC, GUEST_MAC, "not the asker's"),
    ),
    "a neighbour advertisement of a reversed link address": (
        [solicitation(), advertisement("02:00:00:00:54:52"), to_link(DATA6, "02:00:00:00:54:52")],
        ("ndp.link_address", HOST6, "02:00:00:00:54:52", HOST_MAC, "its bytes are in reversed order"),
    ),
    "a neighbour solicitation of a rotated link address": (
        [solicitation("54:00:00:00:01:52"), to_link(advertisement(), "54:00:00:00:01:52")],
        ("ndp.link_address", GUEST6, "54:00:00:00:01:52", GUEST_MAC, "its bytes are rotated by 1"),
    ),
    "a frame to a link address of nobody over IPv6": (
        [solicitation(), advertisement(), to_link(DATA6, "02:00:00:00:00:77")],
        ("ethernet.destination", GUEST6, "02:00:00:00:00:77", HOST_MAC, "a link address that is not that host's"),
    ),
    "fragments whose places are in bytes": (
        [fragment(0, 800, more=True), out(Raw(bytes(100)), frag=800, flags=0, id=77, proto=253)],
        ("ip.fragments_incomplete", GUEST, "bytes 0 to 800, 6400 to 6500", "bytes 800 to 6400", "in bytes, not in units of 8 bytes"),
    ),
    "fragments of which none is the last": (
        [fragment(0, 800, more=True), fragment(800, 800, more=True)],
        ("ip.fragments_incomplete", GUEST, "bytes 0 to 1600", "a last fragment", "all of them say that more follow"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_the_only_finding_names_the_cause(name: str) -> None:
    packets, (what, host, found, expected, words) = CAUSES[name]
    verdict = examine(packets)
    beside = [each for each in verdict.findings if each.follows]
    finding = next(each for each in verdict.findings if not each.follows)
    assert len(verdict.findings) == len(beside) + 1
    assert not any("no_reply" in each.what or "no_answer" in each.what for each in beside)
    assert (finding.what, finding.host, finding.found, finding.expected) == (what, host, found, expected)
    assert words in finding.says
    assert finding.rule


def test_what_a_receiver_drops_is_no_answer_and_its_silence_is_no_second_cause() -> None:
    verdict = examine([PING, back(ICMP(type=0, id=1, seq=1, chksum=1) / b"abcdefgh")])
    assert only(verdict).what == "icmp.checksum_wrong"
    assert (exchange(verdict, "ICMP echo").answered, exchange(verdict, "ICMP echo").unanswered) == (0, 1)


def test_a_question_that_its_receiver_drops_explains_that_no_answer_comes() -> None:
    broken = out(UDP(sport=4000, dport=53, chksum=1) / DNS(id=7, qd=DNSQR(qname="example.com")))
    cause, consequence = examine([broken]).findings
    assert (cause.what, consequence.what) == ("udp.checksum_wrong", "dns.no_answer")
    assert consequence.follows == "udp.checksum_wrong in packet 1"


def test_the_right_answer_that_comes_yet_takes_a_wrong_one_back() -> None:
    assert examine([query(), answer(number=8), answer()]).findings == ()
    assert examine([PING, back(ICMP(type=0, id=1, seq=0x100)), PONG]).findings == ()


def test_a_host_that_answers_now_and_then_is_told_as_that() -> None:
    packets = [(each / 10, out(ICMP(id=1, seq=each))) for each in range(4)]
    packets += [(each / 10 + 0.01, back(ICMP(type=0, id=1, seq=each))) for each in (0, 2)]
    finding = only(examine(sorted(packets, key=lambda each: each[0])))
    assert finding.says == f"{HOST} answers only 2 of 4 requests by {GUEST} (ICMP echo)"
    assert (finding.what, finding.host, finding.count) == ("icmp.no_reply", HOST, 2)
    assert "later ones were answered" in finding.evidence


def test_a_host_that_stops_answering_is_told_with_its_last_answer() -> None:
    packets = [PING, PONG, *((1 + each, out(ICMP(id=1, seq=9 + each))) for each in range(3))]
    assert "the last answer is packet 2" in only(examine(packets)).evidence


def test_what_may_be_a_subnets_broadcast_or_a_cluster_is_not_judged_by_its_frame() -> None:
    to_all = Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff")
    assert examine([to_all / IP(src=GUEST, dst="10.0.2.127") / UDP(sport=1, dport=2)]).findings == ()
    cluster = "03:bf:0a:00:02:63"
    claims = arp(mac=cluster, src=OTHER_MAC, psrc="10.0.2.99", pdst="10.0.2.99")
    packets = [claims, Ether(src=GUEST_MAC, dst=cluster) / IP(src=GUEST, dst="10.0.2.99") / UDP(sport=1, dport=2)]
    assert "ethernet.destination_group" not in [each.what for each in examine(packets).findings]


def test_a_frame_to_a_router_for_a_neighbour_is_no_fault() -> None:
    router = arp(mac=OTHER_MAC, psrc="10.0.2.1", pdst="10.0.2.1")
    packets = [*CLAIMS, router, to_link(out(UDP(sport=1, dport=2)), OTHER_MAC)]
    assert examine(packets).findings == ()


def test_a_dhcp_client_that_renews_with_its_old_number_is_believed() -> None:
    renews = dhcp([("message-type", "request")], ciaddr=GUEST, source=GUEST)
    assert examine([DISCOVER, OFFER, REQUEST, LEASED, (20, renews), (20.1, LEASED)], until=30).findings == ()


def test_a_pxe_client_that_is_told_a_file_is_itself_at_fault() -> None:
    finding = only(examine([PXE, WITH_FILE]))
    assert (finding.host, "no offer names" in finding.says) == (GUEST_MAC, False)


def test_connections_alone_give_no_finding_of_links() -> None:
    assert examine([*CLAIMS, *HANDSHAKE]).findings == ()


def test_what_became_of_each_request_is_told_by_its_numbers() -> None:
    verdict = examine([query(number=7), answer(number=7), query("b.example", number=8)])
    assert exchange(verdict, "DNS").told == (
        "id 0x0007 A example.com in 1: answered by 2",
        "id 0x0008 A b.example in 3: not answered",
    )
    told = [each.told for each in examine([DISCOVER, OFFER, REQUEST, LEASED]).exchanges]
    assert ("xid 0x00001234 discover in 1: answered by 2",) in told


def test_what_is_not_looked_into_is_a_note() -> None:
    tunnel = out(UDP(sport=4000, dport=4789) / Raw(bytes(50)))
    verdict = examine([tunnel, out(Raw(bytes(30)), proto=47), Ether(type=0x8847) / Raw(bytes(60))])
    assert verdict.notes == ("3 packets are not looked into, nor what they carry: VXLAN 1, GRE 1, MPLS 1",)


def test_where_only_broadcasts_are_seen_no_answer_is_missed() -> None:
    packets = [arp(), arp(mac=OTHER_MAC, psrc="10.0.2.77"), DISCOVER]
    verdict = examine(packets, sees_all=False)
    assert verdict.findings == ()
    assert verdict.notes == ("No frame to a single host is here: answers could not be seen, and are not missed",)
    assert len(examine(packets).findings) == 3
    assert len(examine([*packets, PING], sees_all=False).findings) == 4


def test_a_cooked_capture_of_broadcasts_misses_no_answer_either() -> None:
    def cooked(mac: str, address: str, packet_type: int = 1) -> Any:
        link = CookedLinux(pkttype=packet_type, lladdrlen=6, src=bytes.fromhex(mac.replace(":", "")), proto=0x806)
        return link / arp(mac=mac, psrc=address)[ARP]

    heard = [cooked(GUEST_MAC, GUEST), cooked(OTHER_MAC, "10.0.2.77")]
    assert examine(heard, sees_all=False, link_type=113).findings == ()
    assert len(examine([*heard, cooked(GUEST_MAC, GUEST, 0)], sees_all=False, link_type=113).findings) == 2
