"""Consoles with habits of their own: how they echo, what they say behind a prompt, what they ask."""

from __future__ import annotations

import asyncio
import os

import pytest
from consoles import SOON, Line, on_a_line

from rawtap.guest import booting, endings
from rawtap.guest.booting import Boot
from rawtap.guest.echo import echo_in
from rawtap.guest.jobs import Job
from rawtap.guest.profile import Profile


def require_nothing_typed(line: Line) -> None:
    """The host has typed nothing that the guest has not heard."""
    with pytest.raises(BlockingIOError):
        line.guest.recv(1)


async def nothing(_: str) -> None:
    """Nobody is told of a boot's steps."""


# ---------------------------------------------------------------- learning a prompt


@pytest.mark.parametrize("prompts", [(b"vm:1> ", b"vm:2> ", b"vm:3> "), (b"[12:00:59] $ ", b"[12:01:00] $ ") * 2])
def test_a_prompt_with_a_number_or_a_time_is_learned(prompts: tuple[bytes, ...]) -> None:
    async def scenario(line: Line) -> None:
        boot = asyncio.create_task(Boot(line.talk, Profile(), os.getpid()).wait(SOON, nothing))
        await line.says(prompts[0])
        for each in prompts[1:3]:
            await line.hears(b"\n")
            await line.says(b"\r\n" + each)
        ending = await boot
        assert ending is not None
        assert ending.how == "prompt"

    on_a_line(scenario, prompt="")


def test_a_boot_ends_in_time_where_each_line_looks_like_another_prompt() -> None:
    async def scenario(line: Line) -> None:
        boot = asyncio.create_task(Boot(line.talk, Profile(), os.getpid()).wait(1.5, nothing))
        await line.says(b"first> ")
        await line.hears(b"\n")
        await line.says(b"\r\nsecond) ")
        assert await boot is None

    on_a_line(scenario, prompt="")


# ---------------------------------------------------------------- a log behind the prompt


def test_a_prompt_behind_which_a_log_went_on_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "_BURIED_SILENCE", 0.0)

    async def scenario(line: Line) -> None:
        boot = asyncio.create_task(Boot(line.talk, Profile(), os.getpid()).wait(SOON, nothing))
        await line.says(b"starting\r\n] eth0: configured\r\n")
        await line.hears(b"\n")
        await line.says(b"\r\n] eth0: up\r\n")  # no prompt; Enter is not typed again and again
        await line.says(b"the end\r\n] ")
        ending = await boot
        assert ending is not None
        assert ending.how == "prompt"
        require_nothing_typed(line)

    on_a_line(scenario, prompt="] ")


def test_enter_is_not_typed_where_no_prompt_began_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "_BURIED_SILENCE", 0.0)

    async def scenario(line: Line) -> None:
        boot = asyncio.create_task(Boot(line.talk, Profile(), os.getpid()).wait(SOON, nothing))
        await line.says(b"[    0.1] eth0: link\r\nusb 1-1: a=> b\r\n=>\r\n")
        await line.says(b"=> ")
        ending = await boot
        assert ending is not None
        assert ending.how == "prompt"
        require_nothing_typed(line)

    on_a_line(scenario, prompt="=> ")


# ---------------------------------------------------------------- echo


def test_an_echo_that_is_drawn_anew_in_capitals_or_as_asterisks_is_whole() -> None:
    drawn = b"\r# l\r\r# ls\r\r# ls \r\r# ls -\r\r# ls -l\r"
    assert (echo_in(drawn, b"ls -l", b"# ").whole, echo_in(drawn[:-3], b"ls -l", b"# ").whole) == (True, False)
    behind = echo_in(b"l\r\n[    1.0] eth0: up\r\n# ls -l", b"ls -l", b"# ")
    assert (behind.whole, behind.start, behind.end) == (True, 25, 30)
    assert echo_in(b"LS -L", b"ls -l", b"# ").whole
    assert echo_in(b"*****", b"ls -l", b"# ").whole
    assert not echo_in(b"L -L", b"ls -l", b"# ").whole
    assert not echo_in(b"****", b"ls -l", b"# ").whole


def test_a_line_that_is_drawn_anew_for_each_character_is_shown_once() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"# ")
        asked = line.sends("aaa")
        await line.hears(b"aaa")
        await line.says(b"\r# a\r\x1b[3C\r# aa\r\x1b[4C")
        assert not asked.done()
        await line.says(b"\r# aaa\r\x1b[5C")
        await line.hears(b"\n")
        await line.says(b"\r\nout\r\n# ")
        answer = await asked
        assert (answer.text, answer.notes) == ("aaa\nout\n# ", ())

    on_a_line(scenario, prompt="# ")


def test_a_line_of_the_kernels_while_a_command_is_typed_is_none_of_its_output() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"# ")
        asked = line.sends("ls -l")
        await line.hears(b"ls -l")
        await line.says(b"ls\r\n[    1.0] eth0: up\r\n# ls -l")
        await line.hears(b"\n")
        await line.says(b"\r\nbin\r\n# ")
        answer = await asked
        assert answer.text == "ls -l\nbin\n# "
        assert "earlier output that no answer has shown: qemu_read(position=0)" in answer.notes

    on_a_line(scenario, prompt="# ")


def test_a_guest_that_gave_an_echo_before_and_gives_none_is_not_given_enter() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("first")
        await line.takes(b"first")
        await line.says(b"rvos>")
        assert (await asked).matched
        asked = line.sends("second", timeout=1)
        await line.hears(b"second")
        await line.hears(b"\x03")
        answer = await asked
        assert not answer.matched
        assert answer.notes[0].startswith("0 of 6 characters were echoed; Enter was not typed")

    on_a_line(scenario)


# ---------------------------------------------------------------- prompts that are none


def test_what_comes_behind_a_prompt_that_was_none_is_not_given_to_the_next_command() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"# ")
        asked = line.sends("dots")
        await line.takes(b"dots")
        await line.says(b"# ")
        assert (await asked).matched
        await line.says(b"# # # \r\n# ")
        asked = line.sends("id")
        await line.takes(b"id")
        await line.says(b"root\r\n# ")
        answer = await asked
        assert answer.text == "id\nroot\n# "
        assert answer.notes[0].startswith(
            "earlier output that no answer has shown (it came behind the prompt of 'dots', and may be its)"
        )
        assert line.talk.prompts.doubted

    on_a_line(scenario, prompt="# ")


def test_one_line_that_no_answer_has_shown_is_told_of() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("first")
        await line.takes(b"first")
        await line.says(b"rvos>")
        await asked
        await line.says(b"\r\nhello\r\nrvos>")
        asked = line.sends("second")
        await line.takes(b"second")
        await line.says(b"rvos>")
        assert "no answer has shown" in (await asked).notes[0]

    on_a_line(scenario)


# ---------------------------------------------------------------- what asks


@pytest.mark.parametrize(
    "question", [b"Password: ", b"vm login: ", b"--More--", b"Press any key to continue", b"Go on? [y/n] "]
)
def test_what_asks_is_answered_at_once_after_a_call_that_waited_for_the_question(question: bytes) -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("first", question.decode().strip())
        await line.takes(b"first")
        await line.says(question)
        assert (await asked).matched
        asked = line.sends("x", timeout=3600)
        await line.hears(b"x\n")
        await line.says(b"\r\ndone\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.notes) == (True, ("typed into 'first', which asked for it",))

    on_a_line(scenario)


def test_where_nothing_can_be_told_apart_a_call_does_not_wait_for_all_its_time() -> None:
    async def scenario(line: Line) -> None:
        line.talk.jobs.append(Job("cat", 0))
        asked = line.sends("hello", timeout=3600)
        await line.hears(b"hello\n")
        await line.says(b"hello\r\nhello\r\n")
        answer = await asked
        assert (answer.matched, answer.text, answer.how) == (False, "", "hidden")
        assert "enter=false types to it at once" in answer.notes[0]

    on_a_line(scenario)


def test_a_boot_that_is_silent_reads_nothing() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        line.talk.began_anew("the reboot")
        asked = line.sends("hello", timeout=3600)
        await line.console.race(lambda quiet: True if quiet > 5.5 else 5.6, 2 * SOON)
        await line.says(b"rvos>")
        await line.takes(b"hello")
        await line.says(b"rvos>")
        assert (await asked).matched

    on_a_line(scenario)


# ---------------------------------------------------------------- panics


PANIC = b"[    1.0] Kernel panic - not syncing: old\r\n"


def test_a_prompt_behind_a_kernels_last_words_shows_that_they_were_none_but_not_a_debuggers() -> None:
    async def scenario(line: Line) -> None:
        for prompt, is_alive in ((b"ddb> ", False), (b"rvos>", True)):
            await line.says(PANIC + prompt)
            await line.console.race(lambda quiet: True if quiet > 0.4 else 0.4, SOON)
            line.talk.look_for_life()
            assert (line.console.signs.panic() is None) == is_alive

    on_a_line(scenario, prompts={"debugger": "ddb> "})


def test_a_panic_is_told_where_the_time_ran_out_and_where_its_dump_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(line: Line) -> None:
        monkeypatch.setattr(endings, "_PANIC_SILENCE", SOON)  # the call's time is over before
        asked = line.sends("crash", timeout=0.7)
        await line.hears(b"crash\n")
        await line.says(b"crash\r\n" + PANIC)
        answer = await asked
        assert (answer.how, len(answer.notes)) == (None, 1)
        assert "not syncing: old" in answer.notes[0]
        monkeypatch.undo()
        line.talk.jobs.clear()
        asked = line.sends("again", timeout=3600)
        await line.hears(b"again\n")
        await line.says(b"again\r\n" + PANIC)
        while not asked.done():
            await line.says(b"a line of a dump\r\n")
            await line.console.race(lambda quiet: True if quiet > 0.01 else 0.01, SOON)
        assert (await asked).how == "panic"

    on_a_line(scenario)


# ---------------------------------------------------------------- what is held back, and what is hidden


def test_a_control_sequence_that_never_ends_hides_nothing_for_long() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"\x1b[# ")
        assert line.console.history.end == 0
        assert await line.console.race(lambda _: line.console.history.since(0) or None, SOON) == b"# "
        await line.says(b"\x1b]0;a title")
        line.guest.close()
        line.console.drain()
        assert line.console.history.since(0) == b"# 0;a title"

    on_a_line(scenario)


def test_where_no_prompt_is_known_the_line_that_stands_there_again_after_a_command_is_one() -> None:
    async def scenario(line: Line) -> None:
        await line.says(b"grub> ")
        asked = line.sends("ls", timeout=3600)
        await line.hears(b"ls\n")
        await line.says(b"ls\r\n(cd)\r\ngrub> ")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "ls\n(cd)\ngrub> ")
        asked = line.sends("set", timeout=3600)
        await line.takes(b"set")
        await line.says(b"a=b\r\ngrub> ")
        assert (await asked).matched

    on_a_line(scenario, prompt="")
