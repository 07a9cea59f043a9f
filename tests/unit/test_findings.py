"""Findings are ordered by cause, say what they follow from, and are told together where they are many."""

from __future__ import annotations

from typing import Any

from rawtap.packets.findings import MAX_PENDING, Finding, Findings

GUEST, HOST = "10.0.2.15", "10.0.2.2"


def collected(*added: dict[str, Any], lost: int = 0) -> tuple[Finding, ...]:
    findings = Findings()
    for each in added:
        fields = {"parties": (GUEST, HOST), "says": "it is so", "rule": "RFC 1", "evidence": "seen"} | each
        findings.add(fields.pop("what"), fields.pop("parties"), fields.pop("number"), **fields)
    assert findings.copy().all(lost) == findings.all(lost)
    return findings.all(lost)


def codes(found: tuple[Finding, ...]) -> list[str]:
    return [each.what for each in found]


def test_found_and_expected_are_the_evidence_where_there_is_no_other() -> None:
    (finding,) = collected({"what": "a.x", "number": 1, "evidence": "", "found": 5, "expected": 7, "host": GUEST})
    assert finding == Finding("a.x", "it is so", (1,), 1, "RFC 1", "found 5, expected 7", GUEST, "5", "7")


def test_what_is_proven_comes_before_what_was_never_seen_and_consequences_come_last() -> None:
    found = collected(
        {"what": "a.consequence", "number": 1, "suspects": [9]},
        {"what": "b.absent", "number": 2, "absence": True},
        {"what": "c.second", "number": 9},
        {"what": "d.first", "number": 8},
    )
    assert codes(found) == ["d.first", "c.second", "b.absent", "a.consequence"]


def test_a_consequence_names_its_cause_and_who_is_at_fault_for_that() -> None:
    cause = {"what": "udp.wrong", "number": 3, "host": GUEST}
    (first, second) = collected(
        {"what": "dns.no_answer", "number": 3, "absence": True, "host": HOST, "suspects": [2, 3]}, cause, lost=4
    )
    assert (first.what, first.follows) == ("udp.wrong", "")
    assert (second.what, second.follows, second.host) == ("dns.no_answer", "udp.wrong in packet 3", GUEST)
    assert second.evidence.endswith("4 packets of the capture were lost, and what is missing may be among them")


def test_a_cause_can_be_named_by_its_judge() -> None:
    found = collected(
        {"what": "b.later", "number": 1, "follows": ("a.cause", "x")},
        {"what": "a.cause", "number": 5, "parties": "y"},
        {"what": "a.cause", "number": 7, "parties": "x"},
        {"what": "c.alone", "number": 6, "follows": ("a.cause", "none"), "parties": "z"},
        {"what": "d.alone", "number": 6, "follows": ("a.other", "none")},
    )
    follows = {each.what: each.follows for each in found}
    assert follows == {
        "a.cause": "", "b.later": "a.cause in packet 7", "c.alone": "a.cause in packet 5", "d.alone": "",
    }  # fmt: skip


def test_what_no_receiver_drops_explains_nothing() -> None:
    found = collected(
        {"what": "ethernet.padding", "number": 3, "dropped": False},
        {"what": "dns.no_answer", "number": 3, "absence": True, "suspects": [3]},
    )
    assert [(each.what, each.follows) for each in found] == [("ethernet.padding", ""), ("dns.no_answer", "")]


def test_consequences_explain_nothing_themselves() -> None:
    found = collected(
        {"what": "a.one", "number": 3, "suspects": [4]},
        {"what": "b.two", "number": 4, "suspects": [3]},
    )
    assert [each.follows for each in found] == ["", ""]


def test_a_scan_is_one_finding_with_a_count() -> None:
    scan: list[dict[str, Any]] = [
        {"what": "tcp.refused", "number": port, "parties": port, "host": GUEST, "says": f"port {port} is closed"}
        for port in range(1, 1001)
    ]
    other = {"what": "tcp.refused", "number": 2000, "parties": "other", "host": HOST}
    first, second = collected(*scan, other)
    assert (first.says, first.count, first.host) == ("port 1 is closed (and 999 more like this)", 1000, GUEST)
    assert first.packets == tuple(range(1, 11))
    assert (second.says, second.count, second.host) == ("it is so", 1, HOST)


def test_a_few_are_told_one_by_one() -> None:
    found = collected(*({"what": "a.x", "number": each, "parties": each, "host": GUEST} for each in (4, 3, 2, 1)))
    assert [each.packets for each in found] == [(1,), (2,), (3,), (4,)]


def test_the_same_of_many_hosts_is_one_finding_and_its_memory_is_bounded() -> None:
    many = MAX_PENDING + 500
    added: list[dict[str, Any]] = [
        {"what": "a.x", "number": each, "parties": each, "host": f"10.{each}"} for each in range(1, many + 1)
    ]
    (finding,) = collected(*added)
    assert finding.count == many
    assert finding.host == f"10.1 and {MAX_PENDING - 1} more"
    assert finding.says.startswith("it is so (and ")


def test_texts_are_printable_and_bounded() -> None:
    texts = {"says": "\x1b[31m" + "x" * 999, "found": "y" * 999, "expected": "\n", "evidence": ""}
    (finding,) = collected({"what": "a.x", "number": 1} | texts)
    for text in (finding.says, finding.found, finding.expected, finding.evidence):
        assert text.isprintable()
        assert len(text) <= 300
