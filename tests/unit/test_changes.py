"""What is told of two captures: what is new, gone, more, slower, and in which order."""

from __future__ import annotations

from rawtap.packets.changes import Change, Counted, changes, fresh
from rawtap.packets.exchanges import Exchange
from rawtap.packets.findings import Finding


def finding(what: str, host: str = "10.0.2.15", count: int = 1, follows: str = "") -> Finding:
    return Finding(what, "", (1,), count, "", "", host, follows=follows)


def exchange(kind: str, median: float | None, unanswered: int = 0) -> Exchange:
    return Exchange(kind, "a", "b", 9, 9 - unanswered, unanswered, 0, median, median)


def test_causes_come_first_and_what_is_as_before_is_not_told() -> None:
    found = changes(
        ([finding("dns.no_answer"), finding("arp.old")], [finding("dns.no_answer"), finding("tcp.bad", count=3)]),
        ([exchange("DNS", 0.010), exchange("ARP", 0.001)], [exchange("DNS", 0.020, 2), exchange("ARP", 0.0011)]),
        [
            Counted("endpoint", "10.0.0.9", 0, 4),
            Counted("protocol", "TCP", 100, 95),
            Counted("protocol", "TLS", 0, 5),
            Counted("protocol", "UDP", 50, 10),
            Counted("name", "a.example A NXDOMAIN", 1, 0),
            Counted("delay", "first data of 10.0.2.2:80", None, 0.5),
        ],
    )
    assert found == [
        Change("finding", "tcp.bad 10.0.2.15", "new", 0, 3),
        Change("finding", "arp.old 10.0.2.15", "gone", 1, 0),
        Change("unanswered", "DNS a > b", "new", 0, 2),
        Change("delay", "DNS a > b", "slower", 0.010, 0.020),
        Change("protocol", "TLS", "new", 0, 5),
        Change("protocol", "UDP", "less", 50, 10),
        Change("name", "a.example A NXDOMAIN", "gone", 1, 0),
        Change("endpoint", "10.0.0.9", "new", 0, 4),
    ]


def test_a_consequence_is_no_change_of_its_own() -> None:
    after = [finding("tcp.bad"), finding("tcp.no_answer", follows="tcp.bad in packet 1")]
    assert [each.name for each in changes(([], after), ([], []), [])] == ["tcp.bad 10.0.2.15"]


def test_an_end_is_not_told_again_beside_its_conversation() -> None:
    told = changes(
        ([], []),
        ([], []),
        [
            Counted("conversation", "10.0.0.1 > fe80::2:80 TCP", 0, 3),
            Counted("endpoint", "10.0.0.1", 0, 3),
            Counted("endpoint", "fe80::2", 0, 3),
            Counted("endpoint", "10.0.0.3", 0, 3),
        ],
    )
    assert [(each.what, each.name) for each in told] == [
        ("conversation", "10.0.0.1 > fe80::2:80 TCP"),
        ("endpoint", "10.0.0.3"),
    ]


def test_a_finding_of_another_host_is_fresh() -> None:
    known, other = finding("tcp.bad", "a"), finding("tcp.bad", "b")
    assert fresh([known], [known, other]) == (other,)


def test_a_small_difference_is_none() -> None:
    same = [
        Counted("protocol", "TCP", 10, 19),
        Counted("protocol", "UDP", 1000, 1900),
        Counted("delay", "x", 0.1, 0.12),
    ]
    assert changes(([], []), ([], []), same) == []
