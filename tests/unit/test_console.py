"""The serial console: what is shown, what is kept, and what counts as an answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.guest.console import (
    HISTORY_BYTES,
    SHOWN_CHARACTERS,
    Console,
    History,
    Output,
    echo_end,
    pattern_for,
    printable,
)

SOON = 5.0  # far more than anything here needs; a test that comes to it has failed
PROMPT = pattern_for("rvos>", at_line_start=True)

# Unicode's property Bidi_Control, PropList.txt.
LINE_BREAKS = "\u0085\u2028\u2029"
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

modest = settings(max_examples=150, deadline=None, database=None)


def word(text: str) -> re.Pattern[bytes]:
    return pattern_for(text, at_line_start=False)


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


def test_the_last_lines_begin_where_a_line_does() -> None:
    history = History(limit=8)
    history.append(b"one\ntwo\nthree")
    assert history.last_lines(100) == b"one\ntwo\nthree"
    assert history.last_lines(7) == b"three"  # and not "o" before it, whose beginning is not in it
    assert history.last_lines(2) == b""
    history.append(b"\nfour")
    assert history.start > 0
    assert history.last_lines(100) == b"four"


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


@pytest.mark.parametrize("before", [b"", b"boot\n", b"boot\r\n", b"boot\r"])
def test_a_prompt_is_found_at_the_start_of_a_line(before: bytes) -> None:
    history = History()
    history.append(before + b"rvos> ")
    assert history.find(PROMPT, 0) == len(before) + 5


def test_a_prompt_within_a_line_is_no_prompt() -> None:
    history = History()
    history.append(b"type at rvos> please")
    assert history.find(PROMPT, 0) is None


def test_a_line_does_not_start_where_a_search_starts() -> None:
    history = History()
    history.append(b"type at rvos> please\n")
    assert history.find(PROMPT, 8) is None
    history.append(b"rvos>")
    assert history.find(PROMPT, 21) == 26


def test_a_line_does_not_start_where_the_history_was_cut() -> None:
    history = History(limit=5)
    history.append(b"at...at rvos>")
    assert history.since(0) == b"rvos>"
    assert history.find(PROMPT, 0) is None


def test_a_pattern_is_the_text_itself_and_no_expression() -> None:
    assert word("a.c (1)").search(b"abc 1") is None
    assert word("a.c (1)").search(b"-a.c (1)")


@modest
@given(st.data())
def test_an_echo_is_found_however_the_console_wrapped_it(data: st.DataObject) -> None:
    command = data.draw(st.text(st.sampled_from("a\r\n") | st.characters(codec="utf-8"), max_size=30)).encode()
    wraps = data.draw(st.lists(st.sampled_from([b"", b"", b"\r\n", b"\n", b"\r"]), min_size=len(command)))
    echo = b"".join(wrap + bytes([byte]) for wrap, byte in zip(wraps, command, strict=False))
    end = echo_end(echo + b"\r\nanswer\r\nrvos> ", command)
    assert end is not None
    # A command that ends in line ends of its own may leave an inserted one: nothing else may be left.
    assert echo[end:].strip(b"\r\n") == b""
    assert end <= len(echo)


@modest
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=20), st.data())
def test_an_echo_that_is_still_coming_is_waited_for(command: str, data: st.DataObject) -> None:
    echo = command.encode()
    come = data.draw(st.integers(0, len(echo) - 1))
    assert echo_end(echo[:come], echo) is None
    assert echo_end(b"\r\n" + echo[:come] + b"\r\n", echo) is None
    assert echo_end(echo, echo) == len(echo)


def test_a_guest_that_does_not_echo_has_an_echo_of_no_length() -> None:
    assert echo_end(b"answer", b"help") == 0
    assert echo_end(b"hello", b"help") == 0
    assert echo_end(b"\r\nanswer", b"help") == 0


def test_a_command_of_two_lines_has_an_echo_of_two_lines() -> None:
    assert echo_end(b"a\r\nb\r\n", b"a\nb") == 4
    assert echo_end(b"a\nb\r\n", b"a\nb") == 3


def test_an_empty_command_has_an_empty_echo() -> None:
    assert echo_end(b"", b"") == echo_end(b"\r\nrvos>", b"") == 0


@contextlib.asynccontextmanager
async def line() -> AsyncIterator[tuple[Console, socket.socket]]:
    """A console, and the guest's end of it."""
    ours, guest = socket.socketpair()
    guest.setblocking(False)
    console = Console(ours)
    try:
        async with asyncio.timeout(SOON):
            yield console, guest
    finally:
        console.close()
        guest.close()


def on_a_line(scenario: Callable[[Console, socket.socket], Awaitable[None]]) -> None:
    async def run() -> None:
        async with line() as (console, guest):
            await scenario(console, guest)

    asyncio.run(run())


async def typed(guest: socket.socket, text: bytes) -> None:
    """The guest has got all of `text`, and nothing else."""
    got = b""
    while len(got) < len(text):
        got += await asyncio.get_running_loop().sock_recv(guest, 4096)
    assert got == text


async def say(console: Console, guest: socket.socket, data: bytes) -> None:
    """The guest prints `data`, and the console has read it."""
    upto = console.history.end + len(data)
    await asyncio.get_running_loop().sock_sendall(guest, data)
    await console.wait(lambda: upto if console.history.end >= upto else None, SOON)
    assert console.history.end == upto
    # A turn of the loop, so that whoever else waits has looked at it too.
    await asyncio.sleep(0)


def asking(console: Console, command: str, pattern: re.Pattern[bytes] | None, timeout: float) -> asyncio.Task[Output]:
    return asyncio.create_task(console.command(command, "\n", pattern, timeout))


def test_a_command_is_typed_with_its_enter_and_answered_at_the_next_prompt() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"rvos> ")
        asked = asyncio.create_task(console.command("ls", "\r\n", PROMPT, SOON))
        await typed(guest, b"ls\r\n")
        await say(console, guest, b"ls\r\nbin\r\nrvos> ")
        assert await asked == Output("ls\nbin\nrvos> ", matched=True, truncated=False, position=21)

    on_a_line(scenario)


def test_a_prompt_from_before_the_command_does_not_answer_it() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"\r\nrvos> ")
        asked = asking(console, "ls", PROMPT, SOON)
        await typed(guest, b"ls\n")
        await say(console, guest, b"ls\r\nbin\r\n")
        assert not asked.done()
        await say(console, guest, b"rvos> ")
        assert (await asked).matched

    on_a_line(scenario)


@pytest.mark.parametrize("echo", [[b"echo done\r\n"], [b"echo do", b"ne", b"\r\n"], [b"echo \r", b"\ndone\r\n"]])
def test_a_text_that_is_waited_for_is_not_found_in_the_commands_own_echo(echo: list[bytes]) -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "echo done", word("done"), SOON)
        await typed(guest, b"echo done\n")
        for part in echo:
            await say(console, guest, part)
            assert not asked.done()
        await say(console, guest, b"done\r\n")
        assert (await asked).matched

    on_a_line(scenario)


def test_a_guest_that_does_not_echo_is_understood() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "help", word("done"), SOON)
        await typed(guest, b"help\n")
        await say(console, guest, b"done\r\n")
        assert (await asked).matched

    on_a_line(scenario)


def test_a_prompt_that_comes_in_two_parts_is_found() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "ls", PROMPT, SOON)
        await typed(guest, b"ls\n")
        await say(console, guest, b"ls\r\nrv")
        assert not asked.done()
        await say(console, guest, b"os> ")
        assert (await asked).matched

    on_a_line(scenario)


def test_a_time_out_is_an_answer_that_did_not_match_and_holds_what_came() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "ls", PROMPT, 0.1)
        await typed(guest, b"ls\n")
        await say(console, guest, b"ls\r\npartial")
        assert await asked == Output("ls\npartial", matched=False, truncated=False, position=11)

    on_a_line(scenario)


def test_a_command_without_a_pattern_takes_its_whole_time() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "ls", None, 0.1)
        await typed(guest, b"ls\n")
        await say(console, guest, b"ls\r\nrvos> ")
        assert not asked.done()
        assert not (await asked).matched

    on_a_line(scenario)


def test_a_guest_that_goes_away_ends_the_wait_at_once() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "poweroff", PROMPT, 3600)
        await typed(guest, b"poweroff\n")
        await say(console, guest, b"bye\r\n")
        guest.close()
        assert await asked == Output("bye\n", matched=False, truncated=False, position=5)
        assert console.closed

    on_a_line(scenario)


def test_a_guest_that_is_killed_with_its_input_unread_ends_the_wait_too() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "crash", PROMPT, 3600)
        await asyncio.sleep(0)  # the command is typed, and nobody reads it: the next receive is a reset
        guest.close()
        assert not (await asked).matched
        assert console.closed

    on_a_line(scenario)


def test_a_last_word_before_the_end_still_answers() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"System halted")
        guest.close()
        assert (await console.read(word("halted"), 3600)).matched

    on_a_line(scenario)


def test_a_guest_that_is_gone_cannot_be_typed_to() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        guest.close()
        with pytest.raises(ConnectionError):
            await console.command("ls", "\n", PROMPT, SOON)

    on_a_line(scenario)


def test_a_read_goes_on_where_the_last_answer_ended() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"one ")
        assert (await console.read(None, SOON)).text == "one "
        waiting = asyncio.create_task(console.read(None, SOON))
        await asyncio.sleep(0)
        assert not waiting.done()
        await say(console, guest, b"two ")
        assert (await waiting).text == "two "

    on_a_line(scenario)


def test_a_read_goes_on_behind_a_commands_answer() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asking(console, "ls", PROMPT, SOON)
        await typed(guest, b"ls\n")
        await say(console, guest, b"ls\r\nrvos> ")
        await asked
        await say(console, guest, b"late ")
        assert (await console.read(None, SOON)).text == "late "

    on_a_line(scenario)


def test_a_read_for_a_text_does_not_see_what_was_answered_before() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"link up\n")
        assert (await console.read(word("up"), SOON)).matched
        assert await console.read(word("up"), 0.05) == Output("", matched=False, truncated=False, position=8)

    on_a_line(scenario)


def test_a_read_from_a_position_can_be_made_again() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"one two")
        first = console.page(4)
        assert (first.text, first.position, first.truncated) == ("two", 7, False)
        assert console.page(4) == first
        assert console.page(0).text == "one two"

    on_a_line(scenario)


def test_a_read_for_nothing_in_particular_never_claims_a_match() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"one")
        assert not (await console.read(None, SOON)).matched

    on_a_line(scenario)


@pytest.mark.parametrize(("extra", "truncated"), [(0, False), (1, True)])
def test_an_answer_that_is_too_long_keeps_its_end_and_says_so(extra: int, *, truncated: bool) -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"a" * extra + b"b" * (SHOWN_CHARACTERS - 1) + b"c")
        answer = await console.read(None, SOON)
        assert answer.text == "b" * (SHOWN_CHARACTERS - 1) + "c"
        assert answer.truncated is truncated

    on_a_line(scenario)


def test_an_answer_whose_beginning_was_forgotten_says_so() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        console.history = History(limit=4)
        await say(console, guest, b"0123456789")
        assert await console.read(None, SOON) == Output("6789", matched=False, truncated=True, position=10, cut_from=0)

    on_a_line(scenario)


def test_pages_from_a_position_give_the_whole_of_a_long_output() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        said = bytes(ord("a") + number % 26 for number in range(SHOWN_CHARACTERS * 2 + 10))
        await say(console, guest, said)
        pages = [console.page(0)]
        while pages[-1].truncated:
            pages.append(console.page(pages[-1].position))
        assert "".join(page.text for page in pages).encode() == said
        assert len(pages) == 3

    on_a_line(scenario)


def test_a_megabyte_a_second_without_a_line_end_is_followed_in_bounded_memory() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        asked = asyncio.create_task(console.read(pattern_for("the end", at_line_start=False), SOON))
        begun = time.monotonic()
        for _ in range(64):
            await asyncio.get_running_loop().sock_sendall(guest, b"x" * 65536)
            assert len(console.history.since(0)) <= 2 * HISTORY_BYTES
        await asyncio.get_running_loop().sock_sendall(guest, b"the end")
        output = await asked
        assert output.matched
        assert output.position == (64 << 16) + len("the end")
        assert time.monotonic() - begun < 4

    on_a_line(scenario)


def test_a_command_that_the_guest_does_not_take_is_a_time_out() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            await console.command("x" * (4 << 20), "\n", None, 0)  # more than the socket holds unread
        assert guest.recv(4) == b"xxxx"

    on_a_line(scenario)


def test_a_closed_console_keeps_its_history() -> None:
    async def scenario(console: Console, guest: socket.socket) -> None:
        await say(console, guest, b"the last words")
        console.close()
        assert console.closed
        assert console.history.since(0) == b"the last words"

    on_a_line(scenario)
