"""Conversations put together: in order, late, repeated, with gaps, over the end of the numbers, page by page."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from frames import GUEST, HOST, back, out
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw as Data

from rawtap.guest.patterns import Pattern, compiled
from rawtap.packets import headers
from rawtap.packets.conversation import Conversation, End, Oddities, Succession, ends_of
from rawtap.packets.origin import Origin
from rawtap.packets.reader import Raw
from rawtap.packets.turns import Search, TurnPage, collect

PORT, SERVER = 40000, 80
ISN, THEIRS = 1000, 5000


def said(at: int, data: bytes = b"", flags: str = "PA", ack: int = THEIRS + 1, isn: int = ISN) -> Any:
    """A segment of the client's whose data begin at byte `at` of what it says."""
    seq = (isn + 1 + at) % 2**32
    return out(TCP(sport=PORT, dport=SERVER, seq=seq, ack=ack, flags=flags) / Data(data))


def answered(at: int, data: bytes = b"", flags: str = "PA", ack: int = ISN + 1) -> Any:
    return back(TCP(sport=SERVER, dport=PORT, seq=THEIRS + 1 + at, ack=ack, flags=flags) / Data(data))


OPEN = [
    out(TCP(sport=PORT, dport=SERVER, seq=ISN, flags="S")),
    back(TCP(sport=SERVER, dport=PORT, seq=THEIRS, ack=ISN + 1, flags="SA")),
    said(0, flags="A"),
]


def followed(packets: Iterable[Any], *, offset: int = 0, room: int = 1 << 20, snaplen: int = 1 << 18) -> Any:
    """The page, and what was odd; the bytes of each side are checked by the caller."""
    conversation: Conversation | None = None
    page = TurnPage(offset, room)
    pieces = []
    for number, packet in enumerate(packets, 1):
        data = bytes(packet)
        frame = headers.parse(data[:snaplen], len(data), headers.ETHERNET)
        found = ends_of(frame)
        assert found is not None
        conversation = conversation or Conversation(found[1])
        raw = Raw(number, number * 1000, len(data[:snaplen]), len(data), data[:snaplen], Origin(headers.ETHERNET))
        pieces += list(conversation.feed(raw, frame))
    assert conversation is not None
    pieces += list(conversation.rest())
    collect(pieces, [page])
    return page, conversation.oddities, pieces


def whole(page: TurnPage, side: int) -> bytes:
    return b"".join(bytes(each.data) for each in page.turns if each.side == side)


def test_turns_are_in_the_order_in_which_they_were_said() -> None:
    page, odd, _ = followed(
        [*OPEN, said(0, b"GET "), said(4, b"/"), answered(0, b"200"), said(5, b"!", ack=THEIRS + 4)]
    )
    assert [(each.side, bytes(each.data), each.at, each.number) for each in page.turns] == [
        (0, b"GET /", 0, 4),
        (1, b"200", 5, 6),
        (0, b"!", 8, 7),
    ]
    assert (page.sizes, page.missing, page.more) == ([6, 3], 0, False)
    assert odd == Oddities()


def test_what_comes_late_is_put_in_its_place() -> None:
    page, odd, _ = followed([*OPEN, said(3, b"def"), said(6, b"ghi"), said(0, b"abc")])
    assert whole(page, 0) == b"abcdefghi"
    assert (page.missing, odd.late) == (0, 1)


def test_what_is_said_again_is_given_once_and_compared() -> None:
    page, odd, _ = followed([*OPEN, said(0, b"abc"), said(0, b"abc"), said(1, b"bcd"), said(4, b"e")])
    assert whole(page, 0) == b"abcde"
    assert (odd.repeated, odd.differing) == (1, None)
    page, odd, _ = followed([*OPEN, said(0, b"abc"), said(1, b"bXd")])
    assert whole(page, 0) == b"abcd"
    assert odd.differing == 5


def test_a_keep_alive_is_no_other_byte() -> None:
    _, odd, _ = followed([*OPEN, said(0, b"abc"), said(2, b"\0")])
    assert (odd.differing, odd.repeated) == (None, 1)


def test_what_the_other_end_has_and_the_capture_has_not_is_a_gap() -> None:
    page, _, _ = followed([*OPEN, said(0, b"abc"), answered(0, b"ok", ack=ISN + 11), said(10, b"k")])
    assert [(each.side, bytes(each.data), each.gap) for each in page.turns] == [
        (0, b"abc", 0),
        (0, b"", 7),
        (1, b"ok", 0),
        (0, b"k", 0),
    ]
    assert page.missing == 7


def test_what_waits_behind_a_gap_is_given_at_the_end() -> None:
    page, _, _ = followed([*OPEN, said(5, b"f"), said(8, b"i")])
    assert [(bytes(each.data), each.gap) for each in page.turns] == [(b"", 5), (b"f", 0), (b"", 2), (b"i", 0)]


def test_what_waits_is_bounded() -> None:
    size, count = 60000, 80
    conversation = Conversation(End(bytes([10, 0, 2, 15]), PORT))
    given = []
    for number, packet in enumerate([*OPEN, *(said(10 + size * each, bytes(size)) for each in range(count))], 1):
        data = bytes(packet)
        raw = Raw(number, 0, len(data), len(data), data, Origin(headers.ETHERNET))
        given += list(conversation.feed(raw, headers.parse(data, len(data), headers.ETHERNET)))
    assert given[0].gap == 10
    assert sum(len(each.data) for each in given) == count * size  # nothing is left for the end


def test_the_longest_of_what_waits_at_a_place_is_kept() -> None:
    page, _, _ = followed([*OPEN, said(5, b"f"), said(5, b"fgh"), said(5, b"fg"), said(0, b"abcde")])
    assert (whole(page, 0), page.missing) == (b"abcdefgh", 0)


def test_what_waits_is_counted_once_whatever_takes_its_place() -> None:
    conversation = Conversation(End(bytes([10, 0, 2, 15]), PORT))
    given = []
    packets = [*OPEN, *(said(10, bytes(50000 + each)) for each in range(100)), said(0, bytes(10))]
    for number, packet in enumerate(packets, 1):
        data = bytes(packet)
        raw = Raw(number, 0, len(data), len(data), data, Origin(headers.ETHERNET))
        given += list(conversation.feed(raw, headers.parse(data, len(data), headers.ETHERNET)))
    assert [(len(each.data), each.gap) for each in given] == [(10, 0), (50099, 0)]


def test_a_syn_that_is_said_again_takes_nothing_back() -> None:
    page, odd, _ = followed([*OPEN, said(0, b"abc"), OPEN[0], OPEN[1], said(3, b"def"), answered(0, b"x", ack=ISN + 7)])
    assert (whole(page, 0), whole(page, 1), page.missing) == (b"abcdef", b"x", 0)
    assert odd == Oddities()


def test_what_follows_on_the_same_ports_is_told_apart_from_the_second_syn_on() -> None:
    again = out(TCP(sport=PORT, dport=SERVER, seq=ISN + 70_000, flags="S"))
    told = []
    for packets in ([*OPEN, OPEN[0], again, again], [said(500, b"abc"), OPEN[0], again]):
        succession = Succession()
        told.append([succession.begins_next(headers.parse(bytes(each), 100, headers.ETHERNET)) for each in packets])
    assert told == [[False, False, False, False, True, False], [False, False, True]]


def test_a_beginning_in_the_middle_of_the_capture_is_no_gap_and_no_repetition() -> None:
    isn = ISN + 70_000
    opening = out(TCP(sport=PORT, dport=SERVER, seq=isn, flags="S"))
    page, odd, _ = followed([said(0, b"abc"), said(5, b"f"), opening, said(0, b"XYZ", isn=isn)])
    assert [(bytes(each.data), each.gap) for each in page.turns] == [(b"abc", 0), (b"", 2), (b"fXYZ", 0)]
    assert (odd.differing, odd.repeated, odd.middle) == (None, 0, True)


def test_an_end_takes_a_number_and_is_no_byte() -> None:
    closed = [said(0, b"abc", flags="FPA"), answered(0, b"x", ack=ISN + 5), answered(1, flags="FA", ack=ISN + 5)]
    page, odd, _ = followed([*OPEN, *closed, said(4, flags="A", ack=THEIRS + 3)])
    assert (page.sizes, page.missing, odd) == ([3, 1], 0, Oddities())


def test_what_the_snaplen_cut_off_is_a_gap() -> None:
    page, _, _ = followed([*OPEN, said(0, b"x" * 100), said(100, b"y" * 20)], snaplen=54 + 60)
    assert [(len(each.data), each.gap) for each in page.turns] == [(60, 0), (0, 40), (20, 0)]
    page, _, _ = followed([out(UDP(sport=PORT, dport=SERVER) / Data(b"z" * 100))], snaplen=42 + 60)
    assert [(len(each.data), each.gap) for each in page.turns] == [(60, 0), (0, 40)]


def test_it_may_begin_in_the_middle_and_end_by_a_reset() -> None:
    page, odd, _ = followed([said(500, b"abc"), answered(0, b"x"), said(503, flags="RA")])
    assert whole(page, 0) == b"abc"
    assert (odd.middle, odd.reset) == (True, 3)


def test_datagrams_are_said_as_they_come() -> None:
    ask = out(UDP(sport=PORT, dport=53) / Data(b"ask"))
    tell = back(UDP(sport=53, dport=PORT) / Data(b"tell"))
    page, odd, _ = followed([ask, tell, ask])
    assert [bytes(each.data) for each in page.turns] == [b"ask", b"tell", b"ask"]
    assert odd == Oddities()


def test_a_byte_order_beyond_the_last_number_goes_on() -> None:
    isn = 2**32 - 3
    page, odd, _ = followed([said(each, bytes([each]), isn=isn) for each in range(6)])
    assert whole(page, 0) == bytes(range(6))
    assert page.missing == odd.repeated == 0


@given(st.randoms(use_true_random=False), st.binary(min_size=1, max_size=300))
def test_any_order_with_any_overlap_says_the_same(random: random.Random, text: bytes) -> None:
    parts = []
    at = 0
    while at < len(text):
        end = at + random.randint(1, 40)
        begin = max(0, at - random.randint(0, 10))
        parts.append(said(begin, text[begin:end]))
        at = end
    parts += random.choices(parts, k=3)
    random.shuffle(parts)
    page, odd, _ = followed([*OPEN, *parts])
    assert whole(page, 0) == text
    assert (page.missing, odd.differing) == (0, None)


@pytest.mark.parametrize("room", [1, 2, 3, 7, 100])
def test_pages_are_the_whole_without_a_byte_twice(room: int) -> None:
    packets = [*OPEN, said(0, b"abcdefg"), answered(0, b"hij"), said(7, b"k"), answered(3, b"lmnop")]
    told, offset = b"", 0
    while True:
        page, _, _ = followed(packets, offset=offset, room=room)
        told += b"".join(bytes(each.data) for each in page.turns)
        assert page.sizes == [8, 8]
        if not page.more:
            break
        offset = page.end
    assert told == b"abcdefghijklmnop"


def test_a_capture_of_headers_alone_is_paged_to_its_end() -> None:
    count = 450
    packets = [*OPEN, *(part for each in range(count) for part in (said(each, b"x"), answered(each, b"y")))]
    offset, turns, missing = 0, 0, 0
    while True:
        page, _, _ = followed(packets, offset=offset, room=100, snaplen=54)
        turns, missing = turns + len(page.turns), missing + sum(each.gap for each in page.turns)
        if not page.more:
            break
        assert page.end > offset
        offset = page.end
    assert (turns, missing, page.missing) == (2 * count, 2 * count, 2 * count)


def test_an_offset_within_a_gap_begins_there() -> None:
    packets = [*OPEN, said(0, b"abc"), said(10, b"k")]
    page, _, _ = followed(packets, offset=6)
    assert [(each.at, bytes(each.data), each.gap) for each in page.turns] == [(6, b"", 4), (10, b"k", 0)]
    page, _, _ = followed([out(UDP(sport=PORT, dport=53)), out(UDP(sport=PORT, dport=53) / Data(b"ask"))], offset=1)
    assert [(each.at, bytes(each.data)) for each in page.turns] == [(1, b"sk")]


def test_a_text_is_found_across_segments_and_not_across_sides_or_gaps() -> None:
    packets = [
        *OPEN,
        said(0, b"one ne"),
        answered(0, b"needle"),
        said(6, b"edle two"),
        said(30, b"need"),
        said(40, b"le"),
    ]
    _, _, pieces = followed(packets)
    for wanted in (compiled("needle"), compiled(Pattern("ne+dle"))):
        search = Search(wanted.find, wanted.reach)
        collect(pieces, [TurnPage(0, 10), search])
        assert [(each.side, each.number, each.at, each.text) for each in search.found] == [
            (1, 5, 6, b"needle"),
            (0, 6, 12, b"needle"),
        ]


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_no_packet_makes_it_raise(datas: list[bytes]) -> None:
    ends = (End(bytes(4), 1), End(bytes(4), 2))
    conversation = Conversation(ends[0])
    for number, data in enumerate(datas, 1):
        frame = headers.parse(data, len(data), headers.RAW)
        list(conversation.feed(Raw(number, 0, len(data), len(data), data, Origin(headers.RAW)), frame))
    list(conversation.rest())
    assert conversation.packets == len(datas)
    assert GUEST != HOST
