"""The rules that stacks are examined by: each can be sent, is told in its page, and has a source."""

from __future__ import annotations

import re
from collections import Counter
from ipaddress import IPv6Address
from typing import Any

import pytest

from pages import ROOT
from rawtap.errors import RequestInvalid
from rawtap.examine import catalogue, health, manners
from rawtap.examine.rules import Ask, AtLeast, AtMost, Bits, Converse, Either, Frame, Other, Quiet, Rule
from rawtap.examine.suites import dns
from rawtap.examine.values import Crowd, Names, Seen, filled, made, names6, names_in, needed

PAGE = ROOT / "docs/examine.md"
NAMES: Names = {
    "us": "10.0.2.250",
    "us_mac": "02:00:00:00:00:fa",
    "other_mac": "02:00:00:00:00:fb",
    "guest": "10.0.2.15",
    "guest_mac": "52:54:00:00:00:01",
    "stranger": "10.0.2.251",
    "mover": "10.0.2.252",
    "nobody": "10.0.2.253",
    "pulse": "10.0.2.254",
    "second_pulse": "10.0.2.249",
    "broadcast": "10.0.2.255",
    "shut": 47,
    "port": 7777,
    "id": 0x1010,
    "data": "rawtap 000001: as it was sent.",
    "sport": 20001,
    "seq": 0xFFFFFFF0,
    "theirs": 55,
    "guest_hex": "525400000001",
    "xid": 0x12345678,
    "stranger_hex": "0a0002fb",
    "server": "10.0.2.248",
    "told": "10.0.2.247",
    "told_hex": "0a0002f7",
    "dns_name": "One.rawtap.test",
    "dns_id": 0x1234,
    "dns_number": "1234",
    "dns_other_number": "4835",
    "dns_port": 40000,
    "dns_question": "034f6e650672617774617004746573740000010001",
    "dns_whole": "034f6e6506726177746170047465737400",
    "dns_other_case": "036f4e4506524157544150045445535400",
    "dns_first": "034f6e65",
    "dns_rest": "c010",
    "dns_behind": "c021",
    "secs": 3,
    **{
        name: value
        for name, value in Crowd(("10.0.2.250",), ("10.0.2.251",)).of(1).items()
        if name.startswith(("us6", "stranger6"))
    },
    **names6("fe80::5054:ff:fe00:1"),
    "own6": "2001:db8:7261:1:5054:ff:fe00:1",
    "own6_group": "ff02::1:ff00:1",
    "own6_group_mac": "33:33:ff:00:00:01",
}
RULES = list(catalogue.every())


def rows(suite: str) -> list[str]:
    """The table of a suite as the page has it."""
    head = ["| rule | asks | source |", "| --- | --- | --- |"]
    return head + [
        f"| `{rule.name}` | {rule.level}: {rule.says}{f' Linux {rule.linux}.' if rule.linux else ''} | {rule.source} |"
        for rule in catalogue.SUITES[suite]
    ]


def sent(rule: Rule) -> list[Frame]:
    """All that it may send."""
    steps = [*rule.steps, *(step.control for step in rule.steps if isinstance(step, Ask) and step.control)]
    return [frame for step in steps for frame in step.send]


def test_every_rule_has_a_name_of_its_own_that_begins_with_its_suite() -> None:
    assert [name for name, count in Counter(rule.name for rule in RULES).items() if count > 1] == []
    assert [rule.name for suite, rules in catalogue.SUITES.items() for rule in rules if rule.suite != suite] == []
    assert all(re.fullmatch(r"[a-z\d]+\.[a-z_]+", rule.name) for rule in RULES)


@pytest.mark.parametrize("suite", catalogue.SUITES)
def test_the_page_lists_every_rule_of_a_suite_as_it_is(suite: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(rows(suite)) + "\n\n" in text + "\n"


def test_the_page_lists_no_other_rule() -> None:
    listed = re.findall(r"^\| `([a-z\d]+\.[a-z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(rule.name for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_frame_of_a_rule_can_be_made_and_every_name_in_it_is_known(rule: Rule) -> None:
    assert names_in(rule.steps) <= NAMES.keys()
    assert re.match(r"(RFC|IEEE) [\d.]+", rule.source)
    frames = [made(frame, NAMES) for frame in sent(rule)]
    assert all(14 <= len(frame) <= 1514 for frame in frames)
    assert any(isinstance(step, (Ask, Quiet, Converse)) for step in rule.steps)  # it asks for something


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_must_not_be_answered_is_kept_by_no_stack_that_is_deaf_to_all_of_it(rule: Rule) -> None:
    """One that asks only that the stack lives is kept by each that does."""
    if any(isinstance(step, Quiet) and step.never for step in rule.steps) and "no harm" not in rule.says:
        assert any(isinstance(step, Ask) and step.given for step in rule.steps)
        # Behind it, but where leftovers would be in the way, or what is asked for is another thing than in front.
        assert isinstance(rule.steps[-1], Ask) or "fragments" in rule.name or rule.name.endswith(".question_rate")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_can_be_broken(rule: Rule) -> None:
    """By more than a death: where all that is wanted is `given`, a stack that has it otherwise could not be told."""
    asks = [step for step in rule.steps if isinstance(step, Ask)]
    is_more = any(isinstance(step, Converse) or (isinstance(step, Quiet) and step.never) for step in rule.steps)
    assert is_more or any(step.must or not step.given for step in asks) or rule.says.endswith("no harm.")


@pytest.mark.parametrize("rule", [each for each in RULES if "doubled" not in each.name], ids=lambda rule: rule.name)
def test_no_echo_request_looks_like_one_before_that_came_twice(rule: Rule) -> None:
    packets: dict[tuple[Any, Any], set[Any]] = {}
    for number, frame in enumerate(sent(rule)):
        if frame.piece and frame.piece[0]:
            continue  # no header of ICMP's is in it
        for header in frame.layers:
            if (header["layer"] == "ICMP" and header["type"] == 8) or header["layer"] == "ICMPv6EchoRequest":
                heads = (each["id"] for each in frame.layers if each["layer"] in {"IP", "IPv6ExtHdrFragment"})
                fragmented = next(heads) if frame.piece else None
                packets.setdefault((header["id"], header["seq"]), set()).add(fragmented or number)
    assert {key: found for key, found in packets.items() if len(found) > 1} == {}


def test_a_name_that_is_none_is_answered_by_the_nearest() -> None:
    assert [rule.name for rule in catalogue.chosen("arp.probe")] == ["arp.probe"]
    assert catalogue.chosen("arp") == catalogue.SUITES["arp"]
    with pytest.raises(RequestInvalid, match=r"arp\.probe"):
        catalogue.chosen("arp.prob")


def test_sums_of_names_go_around_as_sequence_numbers_do() -> None:
    assert filled({"ack": ["$seq+16", "$theirs-1"]}, NAMES) == {"ack": [0, 54]}


def test_a_field_that_is_not_as_it_should_be_is_named_with_both_values() -> None:
    from scapy.all import ARP, Ether

    seen = Seen(bytes(Ether(src="52:54:00:00:00:01") / ARP(op=2, psrc="10.0.2.15", pdst="10.0.2.250")))
    assert seen.lacks({"ARP.op": 2, "ARP.psrc": "$guest", "IP.src": None}, NAMES) is None
    assert seen.lacks({"ARP.psrc": "$us"}, NAMES) == ("ARP.psrc", "10.0.2.15", "10.0.2.250")
    assert seen.lacks({"IP.src": "$us"}, NAMES) == ("IP.src", "absent", "10.0.2.250")
    assert seen.lacks({"ARP.op": AtLeast(3)}, NAMES) == ("ARP.op", "2", "3 at least")
    assert seen.lacks({"ARP.op": AtMost(1)}, NAMES) == ("ARP.op", "2", "1 at most")
    assert seen.lacks({"ARP.op": Either((1, 2))}, NAMES) is None
    assert seen.lacks({"ARP.op": Either(("$theirs", "$theirs+1"))}, NAMES) == ("ARP.op", "2", "55 or 56")
    assert seen.lacks({"ARP.op": Other((1, "$theirs"))}, NAMES) is None
    assert seen.lacks({"ARP.op": Other((1, "$theirs-53"))}, NAMES) == ("ARP.op", "2", "other than 1 or 2")
    assert seen.lacks({"Raw.load": "abc"}, NAMES) == (
        "Raw.load",
        "0 bytes, from 0 on nothing",
        "3 bytes, from 0 on 616263",
    )
    assert seen.lacks({"ARP.op": Bits(2, 1)}, NAMES) is None
    assert seen.lacks({"ARP.op": Bits(0, 2)}, NAMES) is not None


@pytest.mark.parametrize("kind", ["echo", "arp"])
def test_a_health_check_knows_its_answer_whatever_else_is_wrong_with_it(kind: health.Kind) -> None:
    from scapy.all import ARP, ICMP, IP, Ether

    first, second, *_ = (check for check, _ in zip(health.checks(kind, NAMES), range(2), strict=False))
    if kind == "arp":
        asks = Ether() / ARP(op=1, psrc="10.0.2.15", pdst="10.0.2.254")
        assert not first.is_answered_by(bytes(asks))
        answer = bytes(Ether() / ARP(op=512, psrc="10.0.2.15", pdst="10.0.2.254"))
        assert first.is_answered_by(answer)
        assert not second.is_answered_by(answer)  # one that comes late, or is doubled
        return
    assert not Seen(first.frame).wrong_sums
    answer = bytes(Ether() / IP(src="10.0.2.15") / ICMP(type=8, chksum=1) / first.token)
    assert first.is_answered_by(answer)
    assert not second.is_answered_by(answer)


def test_every_rule_of_ipv6_says_that_it_needs_a_guest_with_ipv6() -> None:
    assert {rule.suite for rule in RULES if "guest6" in needed(rule)} == {"ipv6"}
    assert all("guest6" in needed(rule) for rule in catalogue.SUITES["ipv6"])


def test_a_neighbor_says_by_ipv6_where_it_is_to_whom_asks_for_it_and_to_nobody_else() -> None:
    from scapy.all import Ether, ICMPv6ND_NS, IPv6

    ours = str(NAMES["us6"])
    stations = {IPv6Address(ours).packed: bytes.fromhex("0200000000fa")}
    header = IPv6(src="fe80::15", dst=NAMES["us6_group"], hlim=255)
    asks = Ether(src="52:54:00:00:00:01", dst=NAMES["us6_group_mac"]) / header / ICMPv6ND_NS(tgt=ours)
    wanted = {"Ether.src": "$us_mac", "IPv6.src": "$us6", "IPv6.hlim": 255, "ICMPv6.type": 136, "ICMPv6.code": 0}
    wanted |= {"ICMPv6ND_NA.tgt": "$us6", "ICMPv6ND_NA.R": 0, "ICMPv6ND_NA.O": 1}
    wanted |= {"ICMPv6NDOptDstLLAddr.lladdr": "$us_mac"}
    for source, to in (("fe80::15", {"Ether.dst": "$guest_mac"}), ("::", {"Ether.dst": "33:33:00:00:00:01"})):
        asks[IPv6].src = source
        reply = manners.advertisement(bytes(asks), stations)
        assert reply is not None
        seen = Seen(reply)
        assert seen.wrong_sums == []
        is_asked = source != "::"
        to |= {"IPv6.dst": source if is_asked else "ff02::1", "ICMPv6ND_NA.S": int(is_asked)}
        assert seen.lacks({**wanted, **to}, NAMES) is None
    asks[ICMPv6ND_NS].tgt = "fe80::1"
    for frame in (bytes(asks), bytes(asks)[:77], reply):
        assert manners.advertisement(frame, stations) is None


def test_a_neighbor_says_where_it_is_to_whom_asks_for_it_and_to_nobody_else() -> None:
    from scapy.all import ARP, Ether

    stations = {bytes([10, 0, 2, 250]): bytes.fromhex("0200000000fa")}
    asks = Ether(src="52:54:00:00:00:01") / ARP(op=1, hwsrc="52:54:00:00:00:01", psrc="10.0.2.15", pdst="10.0.2.250")
    reply = manners.arp_reply(bytes(asks), stations)
    assert reply is not None
    wanted = {"Ether.dst": "$guest_mac", "Ether.src": "$us_mac", "ARP.op": 2, "ARP.hwlen": 6, "ARP.plen": 4}
    wanted |= {"ARP.hwsrc": "$us_mac", "ARP.psrc": "$us", "ARP.hwdst": "$guest_mac", "ARP.pdst": "$guest"}
    assert Seen(reply).lacks(wanted, NAMES) is None
    for frame in (bytes(asks)[:41], reply, bytes(Ether() / ARP(op=1, pdst="10.0.2.249"))):
        assert manners.arp_reply(frame, stations) is None


def test_a_neighbor_resets_what_asks_for_a_connection_and_nothing_else() -> None:
    from scapy.all import IP, TCP, Ether

    stations = {bytes([10, 0, 2, 250]): bytes.fromhex("0200000000fa")}
    packet = Ether(src="52:54:00:00:00:01", dst="02:00:00:00:00:fa") / IP(src="10.0.2.15", dst="10.0.2.250")
    asks = packet / TCP(sport=40000, dport=53, flags="S", seq=0xFFFFFFFF)
    reply = manners.reset(bytes(asks), stations)
    assert reply is not None
    seen = Seen(reply)
    assert seen.wrong_sums == []
    wanted = {"Ether.dst": "$guest_mac", "Ether.src": "$us_mac", "IP.src": "$us", "IP.dst": "$guest", "IP.len": 40}
    wanted |= {"TCP.sport": 53, "TCP.dport": 40000, "TCP.seq": 0, "TCP.ack": 0, "TCP.flags": 0x14, "TCP.dataofs": 5}
    assert seen.lacks(wanted, NAMES) is None
    others = [packet / TCP(flags=flags) for flags in ("SA", "A", "R")]
    others += [Ether() / IP(dst="10.0.2.249") / TCP(flags="S"), packet / IP(proto=17) / (b"\0" * 40)]
    for frame in (bytes(asks)[:53], reply, *map(bytes, others)):
        assert manners.reset(frame, stations) is None


def dns_query(**fields: Any) -> bytes:
    from scapy.all import DNS, DNSQR, IP, UDP, Ether

    packet = Ether() / IP(src="10.0.2.15", dst=NAMES["server"]) / UDP(sport=40000, dport=53)
    return bytes(packet / DNS(**{"id": 0x1234, "rd": 1, "qd": DNSQR(qname="One.rawtap.test")} | fields))


def test_what_answers_repeat_of_a_query_is_read_from_it() -> None:
    seen = Seen(dns_query())
    assert seen.has(dns.QUERY, NAMES)
    assert {name: seen.fields[field] for name, field in dns.KEPT.items()} == {name: NAMES[name] for name in dns.KEPT}
    assert seen.has({"Query.flags": 0x0100, "Query.questions": 1, "Query.answers": 0, "Query.authorities": 0}, NAMES)


def test_a_query_that_cannot_be_read_says_what_is_wrong_and_has_no_name() -> None:
    whole = dns_query()
    for frame, wrong in (
        (whole[:-3], "DNS question"),
        (whole[:53], "DNS header"),
        (whole[:54] + bytes([63]) + whole[55:], "DNS name"),
        (whole[:54] + b"\xc0\x0c" + whole[71:], "leads nowhere"),
        (whole[:54] + b"One.rawtap.test\0\0\1\0\1", "dots"),
    ):
        seen = Seen(frame)
        assert wrong in seen.fields["Query.broken"]
        assert "Query.name" not in seen.fields
        assert seen.has({"Query.server": "$server", "Query.by": "UDP", "Query.port": 40000}, NAMES)
        assert not seen.has(dns.QUERY, NAMES)


def test_a_question_by_tcp_is_a_syn_and_other_frames_are_none() -> None:
    from scapy.all import IP, TCP, UDP, Ether

    packet = Ether() / IP(src="10.0.2.15", dst=NAMES["server"])
    asks = {"Query.server": "$server", "Query.by": "TCP"}
    assert Seen(bytes(packet / TCP(dport=53, flags="S"))).has(asks, NAMES)
    others = [TCP(dport=53, flags="SA"), TCP(dport=54, flags="S"), UDP(sport=53, dport=54)]
    for other in (packet / each for each in others):
        assert not [name for name in Seen(bytes(other)).fields if name.startswith("Query.")]


def test_answers_are_what_rules_say_of_them() -> None:
    """By another reader of DNS: scapy's."""
    from scapy.all import DNS, Ether

    answers = {"letter_case": [1], "alias": [5, 5, 1], "other_record": [0xFF00, 1], "ttl_zero": [1], "other_id": [1]}
    for name, kinds in answers.items():
        (rule,) = catalogue.chosen(f"dns.{name}")
        frame = next(made(frame, NAMES) for frame in sent(rule))
        message = Ether(frame)[DNS]
        assert Seen(frame).wrong_sums == []
        assert [each.type for each in message.an] == kinds
        assert message.id == (0x1234 if name != "other_id" else 0x4835)
        assert message.qd[0].qname == b"One.rawtap.test."
        assert message.an[-1].rdata == (NAMES["stranger"] if name == "other_id" else NAMES["told"])
    assert message.an[0].rrname == b"One.rawtap.test."
    (rule,) = catalogue.chosen("dns.letter_case")
    assert Ether(made(sent(rule)[0], NAMES))[DNS].an[0].rrname == b"oNE.RAWTAP.TEST."
