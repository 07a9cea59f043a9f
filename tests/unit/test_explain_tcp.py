"""TCP: what is at fault and whose fault it is, and what only looks like a fault."""

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, HOST, back, out
from scapy.layers.inet import TCP
from test_explain import HANDSHAKE, OPEN, SYN, SYN_ACK, Timed, codes, examine, only, reply, segment

from rawtap.packets import mistakes
from rawtap.packets.findings import Finding

SLOW: list[Timed | Any] = [(0, SYN), (0.08, SYN_ACK), (0.0801, OPEN)]  # a round trip of 80 ms
SERVER = f"{HOST}:80"


def finding(packets: list[Timed | Any], code: str, until: float = 10.0) -> Finding:
    return next(each for each in examine(packets, until).findings if each.what == code)


# ------------------------------------------------------- not captured is not unsent

ABC = segment("PA", 1001, 5001, b"abc")
MISSING = f"100 bytes of {GUEST} to {SERVER}: 1001 to 1101"
BEYOND = (1, reply("A", 5001, 1101))
GAPS: dict[str, tuple[list[Timed | Any], str]] = {
    "data behind it": (
        [*HANDSHAKE, BEYOND, (1.1, segment("PA", 1101, 5001, b"abc")), (1.2, reply("A", 5001, 1104))],
        f"{MISSING} (packet 4)",
    ),
    "an acknowledgment that bears a later number": (
        [*HANDSHAKE, BEYOND, (1.1, segment("A", 1101, 5001))],
        f"{MISSING} (packet 4)",
    ),
    "nothing more": ([*HANDSHAKE, BEYOND], f"{MISSING} (packet 4)"),
    "a hole": (
        [*HANDSHAKE, (1, segment("PA", 1101, 5001, b"abc")), (1.1, reply("A", 5001, 1104))],
        f"{MISSING} (packet 5)",
    ),
    "both directions": (
        [*HANDSHAKE, BEYOND, (1.1, segment("A", 1101, 5201)), (1.2, reply("A", 5201, 1101))],
        f"both directions: {MISSING} (packet 4); "
        f"200 bytes of {SERVER} to {GUEST}: 5001 to 5201 (packet 5)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GAPS)
def test_what_is_acknowledged_and_not_in_the_capture_accuses_nobody(name: str) -> None:
    packets, told = GAPS[name]
    verdict = examine(packets, until=1.9)
    assert verdict.findings == ()
    assert verdict.notes == (f"Acknowledged and not in the capture, {told}",)


def test_an_accusation_rests_on_the_accused_ones_own_number() -> None:
    packets = [*HANDSHAKE, (1, reply("A", 5001, 2001)), (1.5, segment("A", 1001, 5001))]
    found = only(examine(packets))
    assert (found.what, found.host, found.found, found.expected) == ("tcp.ack_beyond", HOST, "2001", "1001 at most")
    assert found.packets == (4, 5)


def test_a_keep_alive_tells_nothing_of_what_was_sent() -> None:
    assert codes([*HANDSHAKE, (1, reply("A", 5001, 2001)), (1.5, segment("A", 1000, 5001))]) == []


def test_a_number_that_is_far_off_is_no_mistake_where_the_connection_began_before_the_capture() -> None:
    swapped = int.from_bytes((1004).to_bytes(4, "big"), "little")
    far = (1.1, segment("PA", swapped, 5001, b"abc"))
    assert "tcp.sequence" in codes([*HANDSHAKE, (1, ABC), far])
    assert "tcp.sequence" not in codes([(1, ABC), far])


def test_no_more_holes_are_kept_than_64() -> None:
    """Each second segment is missing: what is sent again fills a hole as long as it is among those that are kept."""
    ahead: list[Timed | Any] = [
        (1 + each / 1000, segment("PA", 1101 + 200 * each, 5001, bytes(100))) for each in range(70)
    ]
    late = {each: (1.2, segment("PA", 1001 + 200 * each, 5001, bytes(100))) for each in (63, 64)}
    told = {each: finding([*HANDSHAKE, *ahead, late[each]], "tcp.retransmission").evidence for each in late}
    assert ["a hole since" in told[each] for each in late] == [True, False]


# ------------------------------------------------------------- acknowledgments that are off


def talk(by: int, count: int = 4, size: int = 50) -> list[Timed | Any]:
    """The client sends, and the server's acknowledgments are off."""
    packets: list[Timed | Any] = [*HANDSHAKE]
    for number in range(count):
        end = 1001 + size * (number + 1)
        packets += [
            (1 + number / 10, segment("PA", end - size, 5001, bytes(size))),
            (1.01 + number / 10, reply("A", 5001, end + by)),
        ]
    return packets


@pytest.mark.parametrize(("by", "says"), [(-1, "1 byte short"), (-3, "3 bytes short"), (7, "7 bytes too far")])
def test_acknowledgments_that_are_off_by_a_constant_are_one_finding_on_their_sender(by: int, says: str) -> None:
    found = examine(talk(by), until=1.5).findings
    assert [each.what for each in found] == ["tcp.ack_off"]
    assert found[0].says == f"{SERVER} to {GUEST}: acknowledgments never fall on the end of a segment: they are {says}"
    assert (found[0].host, found[0].found, found[0].expected) == (HOST, f"{by:+}", "0")
    assert found[0].packets[:2] == (5, 7)


def test_a_single_byte_that_is_never_acknowledged_is_the_acknowledgments_fault() -> None:
    found = finding(
        [*HANDSHAKE, (1, ABC), (1.01, reply("A", 5001, 1003)), (1.3, segment("PA", 1003, 5001, b"c"))], "tcp.ack_off"
    )
    assert found.host == HOST


WELL_PLACED: dict[str, list[Timed | Any]] = {
    "right ones": talk(0),
    "one that is right": [*talk(-1), (2, segment("PA", 1201, 5001, b"abc")), (2.01, reply("A", 5001, 1204))],
    "segments that a card has still to cut": [
        *HANDSHAKE, (1, segment("PA", 1001, 5001, bytes(2920))), (1.01, reply("A", 5001, 2461)),
        (1.1, segment("PA", 3921, 5001, bytes(2920))), (1.11, reply("A", 5001, 5381)),
    ],
    "a window that takes a part": [
        SYN, reply("SA", 5000, 1001, window=60), OPEN, (1, segment("PA", 1001, 5001, bytes(50))),
        (1.01, reply("A", 5001, 1051, window=10)), (1.1, segment("PA", 1051, 5001, bytes(11))),
        (1.11, reply("A", 5001, 1061, window=0)), (1.12, reply("A", 5001, 1061, window=500)),
    ],
    "data without the FIN": [
        *HANDSHAKE, (1, segment("FPA", 1001, 5001, b"abc")), (1.1, reply("A", 5001, 1004)),
        (1.2, reply("A", 5001, 1005)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", WELL_PLACED)
def test_acknowledgments_of_a_part_may_have_their_reason(name: str) -> None:
    assert "tcp.ack_off" not in codes(WELL_PLACED[name], until=2.05)


def test_an_acknowledgment_of_all_but_the_fin_is_not_off() -> None:
    packets = [*HANDSHAKE, (1, segment("FPA", 1001, 5001, b"abc"))]
    packets += [(1.1 + each / 10, reply("A", 5001, 1004)) for each in range(3)]
    assert codes(packets, until=4) == ["tcp.fin_not_acknowledged"]


def test_data_captured_behind_their_acknowledgments_make_these_not_off() -> None:
    packets: list[Timed | Any] = [*HANDSHAKE]
    for number in range(3):
        packets += [
            (1 + number, reply("A", 5001, 1004 + 3 * number)),
            (1.05 + number, segment("PA", 1001 + 3 * number, 5001, b"abc")),
        ]
    assert codes(packets, until=3.5) == []


# ------------------------------------------------------------- order and repetition

HOLE = [(1, segment("A", 1101, 5001, b"b" * 100)), (1.0001, reply("A", 5001, 1001))]
FILL = segment("A", 1001, 5001, b"a" * 100)
DUPLICATES = [(1.001 + each / 10_000, reply("A", 5001, 1001)) for each in range(3)]


def test_what_comes_within_the_handshakes_round_trip_was_overtaken() -> None:
    verdict = examine([*SLOW, *HOLE, (1.05, FILL), (1.06, reply("A", 5001, 1201))], until=1.5)
    assert verdict.findings == ()
    assert verdict.notes == (
        "1 TCP segments came out of order, and were not sent again: first packet 6, 50.0 ms after the one that overtook"
        " it (packet 4), the handshake took 80.1 ms",
    )


def test_what_comes_later_than_a_round_trip_was_sent_again() -> None:
    found = finding([*SLOW, *HOLE, (1.09, FILL), (1.1, reply("A", 5001, 1201))], "tcp.retransmission")
    assert "did not come this far before (a hole since packet 4)" in found.evidence
    assert found.host == GUEST  # it was lost on its side of the capture


def test_after_three_duplicate_acknowledgments_it_is_a_fast_retransmission() -> None:
    packets = [*SLOW, *HOLE, *DUPLICATES, (1.002, FILL), (1.01, reply("A", 5001, 1201))]
    found = only(examine(packets, until=1.5))
    assert found.what == "tcp.retransmission"
    assert "fast retransmission" in found.says
    assert "4 duplicate acknowledgments of 1001" in found.evidence


def test_what_came_by_and_is_not_acknowledged_is_the_other_ends_fault() -> None:
    assert finding([*HANDSHAKE, (1, ABC), (1.3, ABC), (1.4, reply("A", 5001, 1004))], "tcp.retransmission").host == HOST


def test_what_was_acknowledged_is_sent_again_by_its_senders_fault() -> None:
    found = only(examine([*HANDSHAKE, (1, ABC), (1.1, reply("A", 5001, 1004)), (1.4, ABC)], until=1.9))
    assert found.says == f"{GUEST} to {SERVER}: data is sent again that was acknowledged"
    assert (found.host, found.evidence) == (GUEST, "sequence number 1001, 3 bytes: packet 5 acknowledges 1004")


def test_the_pieces_of_what_was_captured_whole_are_no_repetition() -> None:
    whole = segment("A", 1001, 5001, bytes(2920))
    pieces = [(1.0001, segment("A", 1001, 5001, bytes(1460))), (1.0002, segment("A", 2461, 5001, bytes(1460)))]
    assert codes([*HANDSHAKE, (1, whole), *pieces, (1.1, reply("A", 5001, 3921))], until=1.5) == []
    late = [(1.5, each) for _, each in pieces]
    assert codes([*HANDSHAKE, (1, whole), *late, (1.6, reply("A", 5001, 3921))], until=1.9) == ["tcp.retransmission"]


# ------------------------------------------------------------------- windows


def shrinking() -> list[Timed | Any]:
    """The server takes 300 bytes, and its window shrinks by each of them."""
    packets: list[Timed | Any] = [SYN, reply("SA", 5000, 1001, window=300), OPEN]
    for number in range(3):
        begin = 1001 + 100 * number
        packets += [
            (1 + number / 10, segment("PA", begin, 5001, bytes(100))),
            (1.01 + number / 10, reply("A", 5001, begin + 100, window=200 - 100 * number)),
        ]
    return packets


def test_a_window_that_shrinks_and_never_opens_is_told_with_its_probes() -> None:
    probes = [
        (1.5, segment("A", 1300, 5001)), (1.51, reply("A", 5001, 1301, window=0)),
        (2.5, segment("A", 1300, 5001)), (2.51, reply("A", 5001, 1301, window=0)),
    ]  # fmt: skip
    found = only(examine([*shrinking(), *probes], until=4))
    assert (found.what, found.host, found.packets) == ("tcp.window_shrinks", HOST, (2, 9))
    assert found.says.endswith("the window shrinks with what is received, from 300 bytes to 0, and never opens again")
    assert found.evidence.endswith("2.8 s to the end of the capture, probed 2 times in 1.0 s (packets 10, 12)")


def test_probes_with_a_byte_are_counted_as_well() -> None:
    probes = [(2, segment("A", 1301, 5001, b"x")), (3, segment("A", 1301, 5001, b"x"))]
    found = only(examine([*shrinking(), *probes], until=4))
    assert found.evidence.endswith("probed 2 times in 1.0 s (packets 10, 11)")
    opened = [
        (3.1, reply("A", 5001, 1301, window=900)), (3.2, segment("A", 1301, 5001, b"x" * 100)),
        (3.3, reply("A", 5001, 1401, window=900)),
    ]  # fmt: skip
    assert codes([*shrinking(), *probes, *opened], until=4) == ["tcp.zero_window"]  # the byte is not sent again


# ------------------------------------------------------------------- endings

FIN = segment("FA", 1001, 5001)


def test_a_fin_that_is_never_acknowledged_is_told_with_the_number_that_is_missing() -> None:
    found = only(examine([*HANDSHAKE, (1, segment("PA", 1001, 5001, b"abc")), (1.1, reply("A", 5001, 1004)), (
        1.2, segment("FA", 1004, 5001)), (1.3, reply("A", 5001, 1004))], until=4))  # fmt: skip
    assert found.what == "tcp.fin_not_acknowledged"
    assert (found.host, found.found, found.expected) == (HOST, "acknowledgment 1004", "acknowledgment 1005")


def test_a_second_fin_is_called_one() -> None:
    second = segment("FA", 1002, 5002)
    found = only(examine([*HANDSHAKE, FIN, reply("FA", 5001, 1002), segment("A", 1002, 5002), (1, second), (
        1.1, reply("A", 5002, 1003))], until=1.5))  # fmt: skip
    assert (found.what, found.host, found.found, found.expected) == ("tcp.second_fin", GUEST, "1002", "1001")


RESET = segment("R", 1001)  # the FIN's own number


def test_a_reset_behind_the_fin_with_its_number_is_outside_the_window_if_the_other_end_goes_on() -> None:
    packets = [
        *HANDSHAKE,
        (1, FIN),
        (1.0001, RESET),
        (1.01, reply("A", 5001, 1002)),
        (1.5, reply("PA", 5001, 1002, b"abc")),
    ]
    found = finding(packets, "tcp.rst_outside_window", until=1.6)
    assert (found.host, found.found, found.expected, found.packets) == (GUEST, "1001", "1002", (5, 7))
    assert codes(packets[:-1]) == []  # nobody knows


def test_a_reset_in_the_window_ends_everything() -> None:
    packets = [*HANDSHAKE, (1, FIN), (1.0001, segment("R", 1002)), (1.5, reply("PA", 5001, 1002, b"abc"))]
    assert codes(packets) == []


def test_a_reset_of_a_connection_from_before_is_no_fault() -> None:
    """The other end still has the old one (RFC 9293, 3.5.1, figure 9)."""
    old = [SYN, (0.1, reply("A", 700_000, 800_000)), (0.11, segment("R", 800_000))]
    assert codes([*old, (3, SYN), (3.1, SYN_ACK), (3.2, OPEN), (3.3, ABC), (3.4, reply("A", 5001, 1004))]) == []


def test_data_on_its_way_is_no_proof_that_a_reset_was_not_heeded() -> None:
    assert codes([*SLOW, (1, FIN), (1.001, RESET), (1.07, reply("PA", 5001, 1001, b"abc"))]) == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (reply("R", 0, 0), "no acknowledgment"),
        (reply("RA", 0, 1000), "acknowledgment 1000"),
        (reply("RA", 0, 0xE9030000), "acknowledgment 3909287936"),
    ],
)
def test_a_refusal_that_does_not_acknowledge_the_syn_is_named(answer: Any, found: str) -> None:
    each = only(examine([SYN, answer]))
    assert (each.what, each.host, each.found, each.expected) == ("tcp.rst_mismatch", HOST, found, "acknowledgment 1001")


def test_swapped_bytes_are_named() -> None:
    assert "its bytes are swapped" in only(examine([SYN, reply("RA", 0, 0xE9030000)])).says
    assert "one too low" in finding([SYN, reply("SA", 5000, 1000)], "tcp.syn_ack_mismatch").says


# ----------------------------------------------------------------- beginnings


def test_a_second_syn_ack_with_another_number_is_one_finding_and_no_more() -> None:
    other = reply("SA", 99000, 1001)
    rest = [
        (1, segment("PA", 1001, 5001, b"abc")), (1.1, reply("PA", 5001, 1004, b"de")), (1.2, segment("A", 1004, 5003)),
    ]  # fmt: skip
    found = only(examine([SYN, SYN_ACK, OPEN, (0.5, other), *rest]))
    assert (found.what, found.host, found.found, found.expected) == ("tcp.second_syn_ack", HOST, "99000", "5000")


def test_the_other_end_may_take_the_second() -> None:
    packets = [
        SYN, SYN_ACK, (0.1, reply("SA", 99000, 1001)), (0.2, segment("A", 1001, 99001)),
        (0.3, reply("PA", 99001, 1001, b"abc")), (0.4, segment("A", 1001, 99004)),
    ]  # fmt: skip
    verdict = examine(packets)
    assert only(verdict).what == "tcp.second_syn_ack"
    assert verdict.notes == ()


CLOSED = [*HANDSHAKE, segment("FA", 1001, 5001), reply("FA", 5001, 1002), segment("A", 1002, 5002)]
AGAIN = 700_000_000


LATER = [
    (3600, segment("S", AGAIN)),
    (3600.1, reply("SA", 2 * AGAIN, AGAIN + 1)),
    (3600.2, segment("PA", AGAIN + 1, 2 * AGAIN + 1, b"abc")),
    (3600.3, reply("A", 2 * AGAIN + 1, AGAIN + 4)),
]
BROKEN = [*HANDSHAKE, segment("R", 1001)]


@pytest.mark.parametrize(
    ("before", "later"),
    [
        *((before, LATER[first:]) for before in (CLOSED, BROKEN) for first in range(3)),
        (HANDSHAKE, LATER), (HANDSHAKE, LATER[2:]),
    ],
)  # fmt: skip
def test_the_same_ports_again_are_another_connection(before: list[Any], later: list[Any]) -> None:
    """An hour later, and what opens it need not be in the capture."""
    assert codes([*before, *later], until=3601) == (["tcp.reset"] if before is BROKEN else [])


def test_a_connection_that_goes_on_was_answered() -> None:
    packets = [SYN, (0.1, OPEN), (0.2, ABC), (0.3, reply("A", 5001, 1004))]
    assert codes(packets) == []


# ------------------------------------------------------------ who is at fault


def test_each_finding_on_a_connection_names_a_host() -> None:
    for packets in (
        [SYN, reply("RA", 0, 1001)], [*HANDSHAKE, segment("R", 1001)], [SYN, SYN_ACK, OPEN, ABC],
        [SYN, reply("SA", 5000, 1001, window=10), OPEN, segment("PA", 1001, 5001, b"a" * 100)],
    ):  # fmt: skip
        for each in examine(packets).findings:
            assert each.host in {GUEST, HOST}, each
            assert each.found
            assert each.expected


def test_what_is_not_acknowledged_is_the_fault_of_the_end_that_does_not() -> None:
    assert only(examine([*HANDSHAKE, ABC])).host == HOST
    assert only(examine([SYN, SYN_ACK, (0.1, segment("A", 1001, 5000))])).evidence.startswith(
        "packet 3 acknowledges 5000, its own number"
    )


def test_tcp_headers_without_a_connection_are_no_fault() -> None:
    assert codes([out(TCP(sport=1, dport=2, flags="A")), back(TCP(sport=2, dport=1, flags="A"))]) == []


@pytest.mark.parametrize(
    ("number", "words"), [(5000, "the SYN counts as one"), (mistakes.swapped(5001, 4), "its bytes are swapped")]
)
def test_a_handshake_that_ends_with_another_number_is_its_senders_fault_though_the_other_end_resets(
    number: int, words: str
) -> None:
    wrong = segment("A", 1001, number)
    found = only(examine([SYN, SYN_ACK, wrong, segment("PA", 1001, number, b"hello"), reply("R", number, 0)]))
    assert (found.what, found.host, found.found) == ("tcp.handshake_ack", GUEST, str(number))
    assert words in found.says


def test_a_reset_of_what_was_acknowledged_rightly_is_no_such_fault() -> None:
    assert codes([*HANDSHAKE, reply("R", 5001, 0)]) == ["tcp.reset"]


def test_data_at_the_syns_number_are_their_senders_fault() -> None:
    found = only(examine([*HANDSHAKE, segment("PA", 1000, 5001, b"hello"), reply("A", 5001, 1005)], until=0.5))
    assert (found.what, found.host, found.found, found.expected) == ("tcp.data_at_syn", GUEST, "1000", "1001")


@pytest.mark.parametrize(
    ("mss", "codes_"), [(0, ["tcp.mss"]), (27, ["tcp.mss"]), (28, []), (46085, ["tcp.mss"]), (9000, []), (65495, [])]
)
def test_a_largest_segment_that_none_can_be_is_told(mss: int, codes_: list[str]) -> None:
    syn = SYN.copy()
    syn[TCP].options = [("MSS", mss)]
    assert codes([syn, SYN_ACK, OPEN]) == codes_


def test_a_fin_that_is_sent_again_follows_from_its_missing_acknowledgment() -> None:
    fin = segment("FA", 1001, 5001)
    first, second = examine([*HANDSHAKE, (1, fin), (1.3, fin), (1.4, reply("A", 5001, 1001))]).findings
    assert (first.what, second.what) == ("tcp.fin_not_acknowledged", "tcp.retransmission")
    assert second.follows.startswith("tcp.fin_not_acknowledged")
