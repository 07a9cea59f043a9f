"""A command's frame, tried on the shells of this machine."""

from __future__ import annotations

import subprocess

import pytest

from rawtap.guest.escapes import Plain
from rawtap.guest.framing import MOST_TYPED, can_be_framed, framed

COMMANDS = {
    "echo it\\'s": (b"it's\n", 0),
    "false": (b"", 1),
    "printf hello": (b"hello", 0),
    "echo $?": (b"3\n", 0),
    "echo 'a  b' \"$((6 * 7))\" # no more": (b"a  b 42\n", 0),
    "for i in 1 2; do\nprintf '%s\\n' \"$i 50%d\\n\"\ndone": (b"1 50%d\\n\n2 50%d\\n\n", 0),
    "sleep 0 & wait; (exit 7)": (b"", 7),
    "cat <<END\n'one'\n\ttwo\nEND": (b"'one'\n\ttwo\n", 0),
}


@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_shell_runs_a_framed_command_as_it_runs_it_alone(shell: str, command: str) -> None:
    frame = framed(command)
    script = f"(exit 3)\n{frame.line}\nprintf %s $?"
    done = subprocess.run([*shell.split(), "-c", script], capture_output=True, check=True)
    assert done.stderr == b""
    plain = Plain()
    text = plain.feed(done.stdout)
    printed, status = COMMANDS[command]
    assert text == printed + str(status).encode()
    assert frame.begun(plain.signs) == 0
    assert frame.ended(plain.signs) == (len(printed), status)


def test_what_no_shell_would_take_as_it_is_gets_no_frame() -> None:
    assert can_be_framed("echo grüße")
    assert not can_be_framed("")
    assert not can_be_framed("\x03")
    assert not can_be_framed("x" * MOST_TYPED)
