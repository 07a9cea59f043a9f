"""A conversation on a console: which output belongs to which command, and what ends a wait."""

from __future__ import annotations

import asyncio
import re
import time

import anyio
import pytest
from consoles import SOON, Line, on_a_line

from rawtap.errors import GuestBusy
from rawtap.guest.console import Output
from rawtap.guest.jobs import Ask
from rawtap.guest.prompts import SURE


def test_a_command_is_typed_with_its_enter_and_answered_at_the_next_prompt() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("ls")
        await line.takes(b"ls", b"\r\n")
        await line.says(b"bin\r\nrvos>")
        answer = await asked
        assert (answer.text, answer.matched, answer.which, answer.notes) == ("ls\nbin\nrvos>", True, "prompt", ())
        assert answer.exit_status is None

    on_a_line(scenario, enter="\r\n")


def test_a_prompt_from_before_the_command_does_not_answer_it() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"\r\nrvos>")
        asked = line.sends("ls")
        await line.takes(b"ls")
        await line.says(b"bin\r\n")
        assert not asked.done()
        await line.says(b"rvos>")
        assert (await asked).matched

    on_a_line(scenario)


@pytest.mark.parametrize("echo", [[b"echo done\r\n"], [b"echo do", b"ne", b"\r\n"], [b"echo \r", b"\ndone\r\n"]])
def test_a_text_that_is_waited_for_is_not_found_in_the_commands_own_echo(echo: list[bytes]) -> None:
    async def scenario(line: Line) -> None:
        asked = line.sends("echo done", "done")
        await line.hears(b"echo done\n")
        for part in echo:
            await line.says(part)
            assert not asked.done()
        await line.says(b"done\r\n")
        assert (await asked).matched

    on_a_line(scenario)


def test_a_guest_that_does_not_echo_is_understood_and_waited_for_once_only() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("help")
        await line.hears(b"help")
        await line.hears(b"\n")  # after a while
        await line.says(b"none\r\nrvos>")
        assert (await asked).text == "none\nrvos>"
        asked = line.sends("more")
        await line.hears(b"more\n")
        await line.says(b"no more\r\nrvos>")
        assert (await asked).text == "no more\nrvos>"

    on_a_line(scenario)


def test_a_prompt_inside_of_the_output_ends_nothing() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"# ")
        asked = line.sends("cat script")
        await line.takes(b"cat script")
        for part in (b"# a comment\r\n", b"# ", b"another\r\n", b"the end\r\n"):
            await line.says(part)
            assert not asked.done()
        await line.says(b"# ")
        assert (await asked).text == "cat script\n# a comment\n# another\nthe end\n# "

    on_a_line(scenario, prompt="# ")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"root@vm:~# ", b"root@vm:/tmp# "),
        (b"\x1b[01;32mroot@vm\x1b[00m:\x1b[01;34m~\x1b[00m# ", b"\x1b[01;32mroot@vm\x1b[00m:\x1b[01;34m/etc\x1b[00m# "),
        (b"[root@vm ~]# ", b"[root@vm tmp]# "),
        (b"\x1b[?2004hroot@vm:~# ", b"\x1b[?2004hroot@vm:/# "),
        (b"~ # ", b"/proc # "),
        (b"\x1b[1;32muart:~$ \x1b[m", b"\x1b[1;32muart:~$ \x1b[m"),
        (b"job 7> ", b"job 18> "),
        (b"[12:59:59] $ ", b"[13:00:00] $ "),
    ],
)
def test_a_prompt_that_changes_its_folder_time_or_number_is_known(first: bytes, second: bytes) -> None:
    async def scenario(line: Line) -> None:
        await line.says(first)
        line.talk.prompts.learn(line.console.history.since(0))
        await line.talk.settle(SOON)
        asked = line.sends("cd")
        await line.takes(b"cd")
        await line.says(second)
        answer = await asked
        assert answer.matched
        assert "\x1b" not in answer.text
        assert "x1b" not in answer.text

    on_a_line(scenario, prompt="")


def test_output_without_a_line_end_does_not_hide_the_prompt_behind_it() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"# ")
        asked = line.sends("printf hello")
        await line.takes(b"printf hello")
        await line.says(b"hello# ")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "printf hello\nhello# ")

    on_a_line(scenario, prompt="# ")


def test_a_time_out_is_an_answer_that_did_not_match_and_holds_what_came() -> None:
    async def scenario(line: Line) -> None:
        asked = line.sends("ls", timeout=1)
        await line.hears(b"ls\n")
        await line.says(b"ls\r\npartial")
        answer = await asked
        assert (answer.text, answer.matched, answer.how, answer.position) == ("ls\npartial", False, None, 11)

    on_a_line(scenario)


def test_a_guest_that_goes_away_ends_the_wait_at_once() -> None:
    async def scenario(line: Line) -> None:
        asked = line.sends("poweroff", timeout=3600)
        await line.hears(b"poweroff\n")
        await line.says(b"bye\r\n")
        line.guest.close()
        answer = await asked
        assert (answer.text, answer.matched, answer.how) == ("bye\n", False, "gone")

    on_a_line(scenario)


def test_a_guest_that_is_gone_cannot_be_typed_to() -> None:
    async def scenario(line: Line) -> None:
        line.guest.close()
        with pytest.raises(ConnectionError):
            await line.sends("ls")

    on_a_line(scenario)


def test_a_command_that_the_guest_does_not_take_is_a_time_out() -> None:
    async def scenario(line: Line) -> None:
        with pytest.raises(TimeoutError):
            await line.sends("x" * (4 << 20), timeout=0)  # more than the socket holds unread
        assert line.guest.recv(4) == b"xxxx"

    on_a_line(scenario)


# ---------------------------------------------------------------- turns and debts


async def late(line: Line, command: str, timeout: float = 0.3) -> Output:
    """A command whose call ends before it does."""
    asked = line.sends(command, timeout=timeout)
    await line.hears(command.encode() + b"\n")
    await line.says(command.encode() + b"\r\n")
    answer = await asked
    assert not answer.matched
    return answer


def test_the_command_after_one_that_ran_out_of_time_is_typed_when_that_has_ended() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        await late(line, "first")
        asked = line.sends("second")
        await line.says(b"from the first\r\nrvos>")
        await line.takes(b"second")
        await line.says(b"from the second\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "second\nfrom the second\nrvos>")
        assert [note.partition(":")[0] for note in answer.notes] == ["earlier output that no answer has shown"]

    on_a_line(scenario)


def test_what_comes_while_an_earlier_command_has_not_ended_is_never_given_to_a_later_one() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        await late(line, "first")
        asked = line.sends("second", timeout=2)
        await line.hears(b"second\n")  # after half of its time
        await line.says(b"second\r\nfrom the first\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.text) == (False, "")
        assert "typed while 'first' had not ended" in answer.notes[0]
        assert "from the first" in (await line.talk.read((), SOON)).text

    on_a_line(scenario)


def test_a_program_that_asks_is_answered_at_once() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("install", timeout=0.4)
        await line.hears(b"install\n")
        await line.says(b"install\r\nGo on? [y/n] ")
        await asked
        asked = line.sends("y")
        await line.hears(b"y\n")
        await line.says(b"y\r\ninstalled\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "y\ninstalled\nrvos>")
        assert answer.notes == ("typed into 'install', which asked for it",)

    on_a_line(scenario)


def test_two_calls_take_turns_and_one_that_cannot_is_told_whose_turn_it_is() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        first, second = line.sends("first"), line.sends("second")
        await line.takes(b"first")
        with pytest.raises(GuestBusy, match="first"):
            await line.sends("third", timeout=0.05)
        await line.says(b"1\r\nrvos>")
        assert (await first).text == "first\n1\nrvos>"
        await line.takes(b"second")
        await line.says(b"2\r\nrvos>")
        assert (await second).text == "second\n2\nrvos>"

    on_a_line(scenario)


def test_a_cancelled_command_is_typed_whole_and_owes_its_prompt() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        scope = anyio.CancelScope()

        async def call() -> None:
            with scope:
                await line.talk.send(Ask("first", SOON))

        first = asyncio.create_task(call())
        await line.hears(b"first")
        scope.cancel()
        await line.says(b"first")
        await line.hears(b"\n")
        await first
        second = line.sends("second")
        await line.says(b"\r\n1\r\nrvos>")
        await line.takes(b"second")
        await line.says(b"2\r\nrvos>")
        assert (await second).text == "second\n2\nrvos>"

    on_a_line(scenario)


def test_a_read_takes_nothing_from_a_command_that_waits() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("ls")
        await line.takes(b"ls")
        await line.says(b"bin\r\n")
        assert "bin" in (await line.talk.read((), SOON)).text
        await line.says(b"rvos>")
        assert (await asked).text == "ls\nbin\nrvos>"

    on_a_line(scenario)


def test_keys_without_enter_need_no_turn_and_may_interrupt() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        first = line.sends("loop")
        await line.takes(b"loop")
        interrupt = line.sends("\x03", enter=False)
        await line.hears(b"\x03")
        await line.says(b"^C\r\nrvos>")
        assert (await interrupt).text == "^C\nrvos>"
        assert (await first).text == "loop\n^C\nrvos>"

    on_a_line(scenario)


# ---------------------------------------------------------------- echo


def test_a_line_that_is_cut_short_is_not_run_and_its_answer_says_so() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("x" * 300)
        await line.hears(b"x" * 300)
        await line.says(b"x" * 255 + b"\x07" * 45)
        await line.hears(b"\x03")  # and no Enter
        await line.says(b"<INTERRUPT>\r\nrvos>")
        answer = await asked
        assert not answer.matched
        assert answer.notes[0].startswith("255 of 300 characters were echoed")

    on_a_line(scenario)


def test_a_line_of_which_something_was_lost_is_typed_again_slowly() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("printenv ethaddr")
        await line.hears(b"printenv ethaddr")
        await line.says(b"printv ethaddr")
        await line.hears(b"\x03")
        await line.says(b"^C\r\nrvos>")
        await line.takes_slowly(b"printenv ethaddr")
        await line.says(b"\r\nnone\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "printenv ethaddr\nnone\nrvos>")

    on_a_line(scenario)


def test_a_long_line_that_lost_some_of_its_middle_is_typed_again_though_its_end_stands_there() -> None:
    """As iPXE on a PC's firmware, whose queue holds 15 keys, and which goes on below at column 80."""
    command = "echo " + " ".join(f"word{number}" for number in range(18))

    async def scenario(line: Line) -> None:
        await line.at_prompt(b"iPXE> ")
        asked = line.sends(command)
        await line.hears(command.encode())
        got = command.replace("word10 word11 ", "").encode()
        await line.says(got[:74] + b"\r\n" + got[74:])
        await line.hears(b"\x03")
        await line.says(b"\r\niPXE> ")
        await line.takes_slowly(command.encode())
        await line.says(f"\r\n{command.removeprefix('echo ')}\r\niPXE> ".encode())
        answer = await asked
        assert (answer.matched, answer.text) == (True, f"{command}\n{command.removeprefix('echo ')}\niPXE> ")

    on_a_line(scenario, prompt="iPXE> ")


def test_a_line_is_typed_slowly_for_as_long_as_the_call_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PC's firmware takes 0.1 s for a key."""
    monkeypatch.setattr("rawtap.guest.typist._SLOW_SECONDS", 0.0)

    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("printenv")
        await line.hears(b"printenv")
        await line.says(b"prinenv")
        await line.hears(b"\x03")
        await line.says(b"^C\r\nrvos>")
        await line.takes_slowly(b"printenv")
        await line.says(b"\r\nnone\r\nrvos>")
        answer = await asked
        assert (answer.matched, answer.text) == (True, "printenv\nnone\nrvos>")

    on_a_line(scenario)


# ---------------------------------------------------------------- frames


class Shell:
    """A shell as far as frames go: `programs` says what each prints, and with which status it ends."""

    def __init__(self, line: Line, programs: dict[str, tuple[bytes, int]]) -> None:
        self.line, self.programs = line, programs
        self.prompt = b"rvos>"

    async def run(self, lines: int) -> None:
        for _ in range(lines):
            typed = bytearray()
            while not typed.endswith(b"\n"):
                got = await asyncio.get_running_loop().sock_recv(self.line.guest, 4096)
                typed += got
                await self.line.says(got.replace(b"\n", b"\r\n"))
            match = re.fullmatch(
                r"""eval "printf '\\033\]rawtap;(\w+)\\007'.*";eval '(.*)';eval ".*"\n""", typed.decode()
            )
            assert match, typed
            printed, status = self.programs[match[2]]
            begin, end = f"\x1b]rawtap;{match[1]}\x07", f"\x1b]rawtap;{match[1]};{status}\x07"
            await self.line.says(begin.encode() + printed + end.encode() + self.prompt)


def test_where_a_shell_is_found_a_command_has_a_frame_an_exit_status_and_no_sign_of_it() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        shell = Shell(line, {":": (b"", 0), "false": (b"", 1), "cat x": (b"rvos>\r\nrvos> no end", 0)})
        running = asyncio.create_task(shell.run(3))
        first = await line.sends("false")
        assert (first.text, first.matched, first.exit_status) == ("false\nrvos>", True, 1)
        second = await line.sends("cat x")
        assert (second.text, second.exit_status) == ("cat x\nrvos>\nrvos> no endrvos>", 0)
        await running
        assert b"\x1b" not in line.console.history.since(0)

    on_a_line(scenario, framing=True)


def test_a_prompt_that_a_command_has_changed_is_the_shells_from_then_on() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        shell = Shell(line, {":": (b"", 0), "PS1=x": (b"", 0), "cd /proc": (b"", 0), "false": (b"no end", 1)})
        running = asyncio.create_task(shell.run(5))
        await line.sends("false")
        shell.prompt = b"root@vm:/# "
        changed = await line.sends("PS1=x")
        assert (changed.text, changed.matched) == ("PS1=x\nroot@vm:/# ", True)
        for shell.prompt, command, status in ((b"root@vm:/proc# ", "cd /proc", 0), (b"new> ", "false", 1)):
            answer = await line.sends(command)
            assert (answer.matched, answer.exit_status, answer.notes) == (True, status, ())
        await running

    on_a_line(scenario, framing=True)


def test_what_does_not_answer_like_a_shell_is_given_no_frame() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("help")
        typed = b""
        while b"\x07'" not in typed and not typed.endswith(b')"'):
            typed += await asyncio.get_running_loop().sock_recv(line.guest, 4096)
        await line.says(typed)
        await line.hears(b"\n")
        await line.says(b"\r\nunknown command: eval\r\nrvos>")
        await line.takes(b"help")
        await line.says(b"no help\r\nrvos>")
        assert (await asked).text == "help\nno help\nrvos>"

    on_a_line(scenario, framing=True)


def test_a_look_for_a_shell_that_did_not_arrive_whole_is_not_shown() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("help")
        while not line.heard.endswith(b')"'):
            line.heard += await asyncio.get_running_loop().sock_recv(line.guest, 4096)
        await line.says(bytes(line.heard[:20]) + b"\x07")
        line.heard.clear()
        await line.hears(b"\x03")
        await line.says(b"\r\nrvos>")
        await line.takes(b"help")
        await line.says(b"no help\r\nrvos>")
        answer = await asked
        assert (answer.text, answer.notes) == ("help\nno help\nrvos>", ())
        assert line.console.page(0).text == "rvos>help\nno help\nrvos>"

    on_a_line(scenario, framing=True)


def test_a_program_that_reads_is_never_given_a_frame() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        line.talk._shell = True
        asked = line.sends("cat", timeout=2)
        typed = b""
        while not typed.endswith(b"\n"):
            got = await asyncio.get_running_loop().sock_recv(line.guest, 4096)
            typed += got
            await line.says(got.replace(b"\n", b"\r\n"))
        assert not (await asked).matched
        asked = line.sends("hello", timeout=0.1)
        await line.hears(b"hello\n")
        await asked

    on_a_line(scenario, framing=True)


def test_text_like_a_prompt_is_none_where_the_prompt_has_control_sequences_and_the_text_has_not() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt(b"\x1b[?2004hrvos>")
        line.talk._shell = True
        asked = line.sends("printf 'rvos>'; sleep 100", timeout=1.0)
        typed = b""
        while not typed.endswith(b"\n"):
            got = await asyncio.get_running_loop().sock_recv(line.guest, 4096)
            typed += got
            await line.says(got.replace(b"\n", b"\x1b[?2004l\r\n"))
        (name,) = re.findall(rb"rawtap;(\w+)\\007", typed)[:1]
        await line.says(b"\x1b]rawtap;" + name + b"\x07rvos>")
        answer = await asked
        assert (answer.matched, answer.how) == (False, None)

    on_a_line(scenario, framing=True)


def test_what_a_frame_types_is_shown_as_its_command_and_what_looks_for_a_shell_is_not_shown() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        shell = Shell(line, {":": (b"", 0), "false": (b"no\r\n", 1)})
        running = asyncio.create_task(shell.run(2))
        await line.sends("false")
        await running
        assert line.console.page(0).text == "rvos>false\nno\nrvos>"
        assert b"eval" in line.console.history.since(0)

    on_a_line(scenario, framing=True)


def test_a_frame_has_the_status_of_the_former_command_though_a_line_was_taken_back_in_between() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        shell = Shell(line, {":": (b"", 0), "false": (b"", 7)})
        running = asyncio.create_task(shell.run(2))
        await line.sends("false")
        await running
        asked = line.sends("echo $?", timeout=0.4)
        typed = b""
        while b"\n" not in typed:
            typed += await asyncio.get_running_loop().sock_recv(line.guest, 4096)
        assert b"(exit 7)\";eval 'echo $?'" in typed
        await asked

    on_a_line(scenario, framing=True)


# ---------------------------------------------------------------- trouble


def test_a_panic_ends_a_wait_with_its_line() -> None:
    async def scenario(line: Line) -> None:
        asked = line.sends("crash", "never", timeout=3600)
        await line.hears(b"crash\n")
        await line.says(
            b"crash\r\n[    1.0000] Kernel panic - not syncing: real\r\n[    1.0001] CPU: 0 PID: 1 Comm: sh\r\n"
        )
        answer = await asked
        assert (answer.matched, answer.how) == (False, "panic")
        assert "Kernel panic - not syncing: real" in answer.notes[0]

    on_a_line(scenario)


def test_a_text_of_a_panic_is_none_while_the_guest_answers_and_hides_none() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("cat log")
        await line.takes(b"cat log")
        await line.says(b"Kernel panic - not syncing: old\r\nrvos>")
        assert (await asked).matched
        assert line.console.signs.panic() is None
        await line.says(b"\r\nKernel panic - not syncing: new\r\n")
        panic = line.console.signs.panic()
        assert panic is not None
        assert "new" in str(panic)
        line.talk.began_anew("the reboot")
        assert line.console.signs.panic() is None

    on_a_line(scenario)


def test_a_prompt_that_came_before_qemus_word_of_the_reset_is_that_of_the_new_boot() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        at_ns = time.time_ns()
        await line.says(b"reboot\r\nrvos>")  # may have been said before it
        assert line.console.said_by(at_ns) == line.console.history.end
        await line.says(b"\r\npanic: again\r\nrvos>")
        line.talk.began_anew("the reboot", line.console.said_by(at_ns))
        assert line.console.signs.panic() is not None
        await line.talk.settle(SOON)
        assert line.talk.ready
        line.talk.began_anew("the reboot", line.console.said_by(time.time_ns()))
        assert line.talk.standing(line.talk.jobs[0].start) is None

    on_a_line(scenario)


def test_a_command_that_reset_the_guest_did_not_end_at_the_prompt_of_the_new_boot() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("crash", timeout=3600)
        await line.takes(b"crash")
        await line.says(b"booting\r\nrvos>")
        time.sleep(2 * SURE)  # the loop is busy, and QEMU's word comes with the prompt
        line.talk.reboots.note(1, line.console.history.end)
        line.talk.began_anew("the reboot", line.console.history.end - len(b"rvos>"))
        answer = await asked
        assert (answer.matched, answer.how) == (False, "reset")
        await line.talk.settle(SOON)
        assert line.talk.ready

    on_a_line(scenario)


def test_a_reset_ends_a_wait_and_the_next_command_waits_for_the_new_prompt() -> None:
    async def scenario(line: Line) -> None:
        await line.at_prompt()
        asked = line.sends("reboot", timeout=3600)
        await line.takes(b"reboot")
        line.talk.reboots.note(1, line.console.history.end)
        line.talk.began_anew("the reboot")
        answer = await asked
        assert (answer.matched, answer.how) == (False, "reset")
        asked = line.sends("ls")
        await line.says(b"booting\r\nrvos>")
        await line.takes(b"ls")
        await line.says(b"rvos>")
        assert (await asked).text == "ls\nrvos>"

    on_a_line(scenario)


def test_a_question_for_a_password_ends_a_wait() -> None:
    async def scenario(line: Line) -> None:
        asked = line.sends("root", timeout=3600)
        await line.hears(b"root\n")
        await line.says(b"root\r\nPassword: ")
        assert (await asked).how == "password"

    on_a_line(scenario)
