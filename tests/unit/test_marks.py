"""When a console's lines came, and how its stream is cut into events."""

from __future__ import annotations

import asyncio
import socket
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.guest import marks
from rawtap.guest.console import Console, History
from rawtap.guest.log import Piece, pieces
from rawtap.guest.marks import Marks
from support import PATIENCE

modest = settings(max_examples=200, deadline=None, database=None)
SECOND = 1_000_000_000


class Clock:
    """Stands for the clock: a nanosecond later with every look, or where it is set to."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def time_ns(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(marks, "time", made)
    return made


def told(history: History, position: int = 0, limit: int = 1000) -> list[tuple[str, int]]:
    found, _ = pieces(history, position, limit)
    return [(each.text, each.at_ns) for each in found]


@pytest.mark.usefixtures("clock")
def test_a_line_has_the_time_of_its_first_byte() -> None:
    history = History()
    for data in (b"on", b"e\r\nt", b"wo\r\nthree\r\n", b"four", b"\nfive\n"):
        history.append(data)
    lines = [("one", 1), ("two", 2), ("three", 3), ("four", 4), ("five", 5)]
    assert told(history) == [(text, 1000 * SECOND + number) for text, number in lines]


def test_what_comes_after_a_pause_or_after_typing_is_an_event_of_its_own(clock: Clock) -> None:
    history = History()
    history.append(b"=> ")
    history.marks.cut()
    history.append(b"help\r\nworking")
    clock.now += SECOND // 5
    history.append(b"... done\r\n")
    assert [text for text, _ in told(history)] == ["=> ", "help", "working", "... done"]
    assert [each.unfinished for each in pieces(history, 0, 9)[0]] == [True, False, True, False]


def test_typing_on_a_console_begins_an_event() -> None:
    async def scenario() -> list[str]:
        ours, guest = socket.socketpair()
        guest.setblocking(False)
        console = Console(ours)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            for output in (b"=> ", b"help\r\n"):
                await loop.sock_sendall(guest, output)
                end = console.history.end + len(output)
                await console.wait(lambda end=end: end if console.history.end >= end else None, PATIENCE)
                await console.write(b"help\n")
        console.close()
        guest.close()
        return [text for text, _ in told(console.history)]

    assert asyncio.run(scenario()) == ["=> ", "help"]


@pytest.mark.usefixtures("clock")
def test_a_line_that_was_given_as_it_was_goes_on_in_an_event_of_its_own() -> None:
    history = History()
    history.append(b"half a li")
    (first,), position = pieces(history, 0, 10)
    assert (first.text, first.unfinished, position) == ("half a li", True, 9)
    assert pieces(history, position, 10) == ([], 9)
    history.append(b"ne\r\nnext\r\n")
    assert [text for text, _ in told(history, position)] == ["ne", "next"]
    assert [text for text, _ in told(history)] == ["half a li", "ne", "next"]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"\r\r\n\n\n"])
@pytest.mark.usefixtures("clock")
def test_an_end_of_a_line_that_comes_late_is_no_event(end: bytes) -> None:
    history = History()
    history.append(b"=> ")
    _, position = pieces(history, 0, 10)
    history.append(end)
    assert pieces(history, position, 10) == ([], history.end)


@pytest.mark.usefixtures("clock")
def test_empty_lines_are_left_out_however_many() -> None:
    history = History()
    history.append(b"\n\r\n" * 100_000 + b"end\n")
    assert [text for text, _ in told(history, limit=1)] == ["end"]


@pytest.mark.usefixtures("clock")
def test_a_long_line_is_cut_and_says_how_long_it_is() -> None:
    history = History()
    history.append(b"x" * 5000 + b"\n" + b"\x1b" * 200 + b"\nnext\n")
    long, escapes, last = [text for text, _ in told(history)]
    assert long == "x" * 300 + "... (5001 bytes)"
    assert (escapes[:8], escapes[300:]) == (r"\x1b\x1b", "... (201 bytes)")
    assert last == "next"


@modest
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\r\n", b"\n", b"a\r\nb"]), max_size=20), st.data())
def test_pages_of_a_growing_stream_hold_each_byte_once_and_no_control_character(
    parts: list[bytes], data: st.DataObject
) -> None:
    history = History()
    found: list[Piece] = []
    position = 0
    for part in parts:
        history.append(part)
        if data.draw(st.booleans()):
            some, position = pieces(history, position, data.draw(st.integers(1, 3)))
            found += some
    rest, position = pieces(history, position, 10_000)
    found += rest
    stream = b"".join(parts)
    assert position == len(stream)
    covered = bytearray(stream)
    for each in found:
        assert each.start < each.end
        covered[each.start : each.end] = b"\n" * (each.end - each.start)
    assert not covered.strip(b"\r\n")
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert [each.at_ns for each in found] == sorted(each.at_ns for each in found)
    kinds = {unicodedata.category(char) for each in found for char in each.text if char != "\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}


@pytest.mark.usefixtures("clock")
def test_marks_go_with_the_bytes_that_they_belong_to() -> None:
    history = History(limit=10)
    for number in range(100):
        history.append(b"%02d\n" % number)
    assert len(history.marks._positions) <= 8
    lines = told(history)
    assert lines[-1] == ("99", 1000 * SECOND + 100)
    assert all(at == 1000 * SECOND + int(text) + 1 for text, at in lines if len(text) == 2)


def test_what_is_left_of_a_line_has_the_lines_time(clock: Clock) -> None:
    history = History(limit=10)
    history.append(b"abcdefghijklmno")
    history.append(b"pq\nrs\n")
    assert history.start == 11
    assert told(history) == [("lmnopq", clock.now - 1), ("rs", clock.now)]


@pytest.mark.usefixtures("clock")
def test_of_too_many_marks_some_go_and_times_become_coarse_but_never_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(marks, "KEPT", 64)
    history = History()
    for _ in range(1000):
        history.append(b"x\n")
    assert len(history.marks._positions) <= 64
    times = [at - 1000 * SECOND for _, at in told(history)]
    assert len(times) == 1000
    assert all(at <= number for number, at in enumerate(times, 1))
    assert times == sorted(times)
    assert times[-1] > 900


def test_marks_of_a_clock_that_goes_back_do_not_disturb_the_lines(clock: Clock) -> None:
    history = History()
    history.append(b"before\n")
    clock.now -= 3600 * SECOND
    history.append(b"after\n")
    history.append(b"later\n")
    assert [text for text, _ in told(history)] == ["before", "after", "later"]


def test_a_megabyte_in_small_pieces_costs_a_mark_a_line_at_most() -> None:
    history = History()
    for _ in range(1 << 12):
        history.append(b"y" * 255 + b"\n")
        history.append(b"z" * 256)
    assert len(history.marks._positions) <= 2 << 12
    assert isinstance(history.marks, Marks)
