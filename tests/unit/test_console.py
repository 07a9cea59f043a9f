"""The serial console: what is shown, what is kept, and what counts as an answer."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from consoles import SOON, Line, on_a_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.errors import RequestInvalid
from rawtap.guest.console import SHOWN_CHARACTERS, Output
from rawtap.guest.history import HISTORY_BYTES, History, printable
from rawtap.guest.patterns import Pattern, Wanted, compiled

# Unicode's property Bidi_Control, PropList.txt.
LINE_BREAKS = "\u0085\u2028\u2029"
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

modest = settings(max_examples=150, deadline=None, database=None)


def word(text: str) -> Wanted:
    return compiled(text)


@pytest.mark.parametrize("raw", [b"a\nb", b"a\r\nb", b"a\r\r\nb"])
def test_a_line_ends_with_a_line_feed_however_the_guest_ended_it(raw: bytes) -> None:
    assert printable(raw) == "a\nb"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        (b"50%\rdone", r"50%\rdone"),
        (b"\x00\x08\x7f", r"\x00\x08\x7f"),
        ("\x9b31m\x85".encode(), r"\x9b31m\x85"),
        (b"\xff\xfe ok", r"\xff\xfe ok"),
        (b"\xe2\x82", r"\xe2\x82"),
        (b"a\tb\n", "a\tb\n"),
        ("grüße 日本".encode(), "grüße 日本"),
    ],
    ids=["escape", "lone CR", "C0", "C1", "no UTF-8", "half a character", "tab", "other languages"],
)
def test_a_control_character_is_shown_and_never_obeyed(raw: bytes, shown: str) -> None:
    assert printable(raw) == shown


@pytest.mark.parametrize(
    "character", list(BIDI_CONTROLS + LINE_BREAKS), ids=lambda character: f"U+{ord(character):04X}"
)
def test_a_guest_cannot_turn_the_direction_of_the_text_or_break_its_lines(character: str) -> None:
    assert character not in printable(f"user{character}nimda".encode())


@modest
@given(st.binary() | st.text().map(str.encode))
def test_whatever_a_guest_sends_no_control_character_is_left(raw: bytes) -> None:
    kinds = {unicodedata.category(character) for character in printable(raw) if character not in "\n\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}


def test_a_history_counts_positions_in_the_whole_stream() -> None:
    history = History(limit=10)
    for part in (b"0123456789", b"abcdefghij", b"K"):
        history.append(part)
    assert (history.start, history.end) == (11, 21)
    assert history.since(0) == b"bcdefghijK"
    assert history.since(19) == b"jK"
    assert history.since(21) == history.since(99) == b""


def test_a_history_forgets_nothing_up_to_twice_its_limit() -> None:
    history = History(limit=10)
    history.append(b"x" * 20)
    assert (history.start, history.end) == (0, 20)


@modest
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_a_history_is_always_the_newest_part_of_the_stream(parts: list[bytes]) -> None:
    history = History(limit=16)
    for part in parts:
        history.append(part)
    stream = b"".join(parts)
    assert history.end == len(stream)
    assert history.since(0) == stream[history.start :]
    assert min(len(stream), 16) <= len(history.since(0)) <= 32


def test_a_find_gives_the_position_after_the_match_also_after_trimming() -> None:
    history = History(limit=10)
    history.append(b"." * 30 + b"needle..")
    assert history.start == 28
    assert history.find(word("needle"), 0) == history.find(word("needle"), 30) == 36
    assert history.find(word("needle"), 31) is None


def test_a_find_starts_at_its_position() -> None:
    history = History()
    history.append(b"ok ok")
    assert history.find(word("ok"), 0) == 2
    assert history.find(word("ok"), 1) == 5
    assert history.find(word("ok"), 4) is None


def test_a_pattern_is_the_text_itself_and_no_expression() -> None:
    assert word("a.c (1)").find(bytearray(b"abc 1"), 0) is None
    assert word("a.c (1)").find(bytearray(b"-a.c (1)"), 0) == (1, 8)


def test_a_read_goes_on_where_the_last_answer_ended() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"one ")
        assert (await line.talk.read((), SOON)).text == "one "
        waiting = asyncio.create_task(line.talk.read((), SOON))
        await asyncio.sleep(0)
        assert not waiting.done()
        await line.says(b"two ")
        assert (await waiting).text == "two "

    on_a_line(scenario)


def test_a_read_for_a_text_does_not_see_what_was_answered_before() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"link up\n")
        assert (await line.talk.read((word("up"),), SOON)).matched
        again = await line.talk.read((word("up"),), 0.05)
        assert again == Output("", matched=False, truncated=False, position=8)

    on_a_line(scenario)


def test_a_read_for_several_texts_says_which_came_first() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"it failed, and passed\n")
        found = await line.talk.read((word("passed"), word("failed")), SOON)
        assert (found.matched, found.which) == (True, "failed")

    on_a_line(scenario)


def test_a_read_from_a_position_can_be_made_again() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"one two")
        first = line.console.page(4)
        assert (first.text, first.position, first.truncated) == ("two", 7, False)
        assert line.console.page(4) == first
        assert line.console.page(0).text == "one two"

    on_a_line(scenario)


def test_a_read_for_nothing_in_particular_never_claims_a_match() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"one")
        assert not (await line.talk.read((), SOON)).matched

    on_a_line(scenario)


@pytest.mark.parametrize(("extra", "truncated"), [(0, False), (1, True)])
def test_an_answer_that_is_too_long_keeps_its_end_and_says_so(extra: int, *, truncated: bool) -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"a" * extra + b"b" * (SHOWN_CHARACTERS - 1) + b"c")
        answer = await line.talk.read((), SOON)
        assert answer.text == "b" * (SHOWN_CHARACTERS - 1) + "c"
        assert answer.truncated is truncated

    on_a_line(scenario)


def test_an_answer_whose_beginning_was_forgotten_says_so() -> None:
    async def scenario(line: Line) -> None:
        line.console.history = History(limit=4)
        await line.says(b"0123456789")
        answer = await line.talk.read((), SOON)
        assert (answer.text, answer.truncated, answer.position, answer.cut_from) == ("6789", True, 10, 0)

    on_a_line(scenario)


def test_pages_from_a_position_give_the_whole_of_a_long_output() -> None:
    async def scenario(line: Line) -> None:
        said = bytes(ord("a") + number % 26 for number in range(SHOWN_CHARACTERS * 2 + 10))
        await line.says(said)
        pages = [line.console.page(0)]
        while pages[-1].truncated:
            pages.append(line.console.page(pages[-1].position))
        assert "".join(page.text for page in pages).encode() == said
        assert len(pages) == 3

    on_a_line(scenario)


@pytest.mark.parametrize("regex", [False, True])
def test_a_megabyte_a_second_without_a_line_end_is_followed_in_bounded_memory(*, regex: bool) -> None:
    async def scenario(line: Line) -> None:
        wanted = compiled(Pattern("the (x+x+)*end") if regex else "the end")
        asked = asyncio.create_task(line.talk.read((wanted,), SOON))
        for _ in range(64):
            await asyncio.get_running_loop().sock_sendall(line.guest, b"x" * 65536)
            assert len(line.console.history.since(0)) <= 2 * HISTORY_BYTES
        await asyncio.get_running_loop().sock_sendall(line.guest, b"the end")
        output = await asked
        assert output.matched
        assert output.position == (64 << 16) + len("the end")

    on_a_line(scenario)


def test_a_closed_console_keeps_its_history() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"the last words")
        line.console.close()
        assert line.console.closed
        assert line.console.history.since(0) == b"the last words"

    on_a_line(scenario)


def test_a_wrong_expression_is_told_in_the_engines_own_words() -> None:
    with pytest.raises(RequestInvalid, match="missing \\)"):
        compiled(Pattern("(a"))


def test_an_expression_sees_where_lines_begin_whatever_was_seen_before() -> None:
    at_start = compiled(Pattern("^up"))
    assert at_start.find(bytearray(b"link up\nup"), 5) == (8, 10)
    assert at_start.find(bytearray(b"link up"), 5) is None
