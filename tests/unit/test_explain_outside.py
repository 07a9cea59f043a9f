"""What is sent beyond a network that has no way out: the way is at fault, and no host there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from test_explain import OTHER_MAC, examine, query

from rawtap.packets.explain import Place, Verdict
from rawtap.packets.judges import outside
from rawtap.packets.judges.outside import DeadEnd
from rawtap.packets.origin import Origin

FAR, FARTHER, OWN = "8.8.8.8", "203.0.113.5", "198.51.100.1"
PING = ICMP(id=7, seq=1) / b"abcdefgh"
PONG = Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src=FAR, dst=GUEST) / ICMP(type=0, id=7, seq=1) / b"abcdefgh"
NO_WAY = DeadEnd(
    "rvos-br0",
    {4: "net.ipv4.conf.rvos-br0.forwarding = 0"},
    frozenset({bytes.fromhex(HOST_MAC.replace(":", ""))}),
    b"",
    (IPv4Network("10.0.2.0/24"),),
    frozenset({ip_address(HOST).packed, ip_address(OWN).packed}),
    "the operator has not allowed it; rawtap serve --outside would",
)
INSIDE_QEMU = replace(
    NO_WAY, network="user:guest", stations=frozenset(), guest=bytes.fromhex(GUEST_MAC.replace(":", ""))
)


def to(address: str, packet: Any, mac: str = HOST_MAC) -> Any:
    return Ether(src=GUEST_MAC, dst=mac) / IP(src=GUEST, dst=address) / packet


def judged(packets: list[Any], end: DeadEnd | None = NO_WAY) -> Verdict:
    return examine(packets, 60, place=Place(Origin(1), dead_end=end))


@pytest.mark.parametrize("end", [NO_WAY, INSIDE_QEMU], ids=["bridge", "QEMU"])
def test_the_network_is_at_fault_and_what_is_not_answered_follows(end: DeadEnd) -> None:
    asked = UDP(sport=4000, dport=53) / DNS(id=7, qd=DNSQR(qname="example.com"))
    packets = [
        (0.0, to(FAR, PING)),
        (1.0, to(FAR, asked)),
        (2.0, to(FARTHER, TCP(sport=40000, dport=80, flags="S", seq=1))),
    ]
    cause, *others = judged(packets, end).findings
    assert (cause.what, cause.host, cause.packets, cause.count) == ("ip.no_way_out", end.network, (1, 2, 3), 3)
    assert cause.says == (
        f"{end.network} has no way out, so nothing gets to {FAR} and 1 more: "
        "the operator has not allowed it; rawtap serve --outside would"
    )
    assert cause.evidence == "net.ipv4.conf.rvos-br0.forwarding = 0"
    assert {(each.what, each.host, each.follows) for each in others} == {
        (what, end.network, "ip.no_way_out in packet 1") for what in ("icmp.no_reply", "dns.no_answer", "tcp.no_answer")
    }


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        ([to(HOST, PING)], "icmp.no_reply"),
        ([to("10.0.2.99", PING)], "icmp.no_reply"),
        ([to(OWN, PING)], "icmp.no_reply"),
        ([to("169.254.1.1", PING)], "icmp.no_reply"),
        ([query()], "dns.no_answer"),
        ([to(FAR, PING, OTHER_MAC)], "icmp.no_reply"),  # another guest may be a router
    ],
    ids=["gateway", "neighbour", "this machine", "on the link", "its DNS", "another router"],
)
def test_a_host_that_is_reached_and_does_not_answer_is_at_fault_itself(packets: list[Any], expected: str) -> None:
    assert [(each.what, each.follows) for each in judged(packets).findings] == [(expected, "")]


def test_nothing_is_said_where_the_way_is_not_known_or_somebody_answers() -> None:
    assert [each.what for each in judged([to(FAR, PING)], None).findings] == ["icmp.no_reply"]
    of_six = replace(NO_WAY, held={6: "net.ipv6.conf.all.forwarding = 0"})
    assert [each.what for each in judged([to(FAR, PING)], of_six).findings] == ["icmp.no_reply"]
    answered = [(0.0, to(FAR, PING)), (0.1, PONG)]
    assert judged(answered).findings == ()  # by a rule of this machine's


def test_nothing_is_said_where_more_were_heard_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "MAX_PENDING", 1)
    other = Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src=FARTHER, dst=GUEST) / ICMP(type=0, id=9, seq=1)
    answered = [(0.0, to(FAR, PING)), (0.1, other), (0.2, PONG)]
    assert "ip.no_way_out" not in [each.what for each in judged(answered).findings]
