r"""A command in a frame of signs, typed into a shell, so that where its output begins and ends is beyond doubt. Pure.

A sign is a control string that the shell prints (`escapes`): no terminal shows it, and the echo of the line that prints
it has a backslash where it has an escape. What is typed, in POSIX shell (IEEE 1003.1, 2.14 eval, "printf")::

    eval "printf '\033]rawtap;ID\007';(exit $?)";eval 'COMMAND';eval "printf '\033]rawtap;ID;$?\007';(exit $?)"

``$?`` is what the former command left when COMMAND begins, and what COMMAND left when the next one does; no variable
is made. Where it is known what the former command left, that number is typed: an interrupt of ours in between, which
takes a line back, leaves a shell 130. A command that the shell cannot parse, or an interrupt, may end the whole line:
then the prompt comes alone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from rawtap.guest.escapes import Sign

MOST_TYPED = 1000  # bytes in a line: busybox takes 1023, a terminal's driver 4095


@dataclass(frozen=True, slots=True)
class Frame:
    """One command's frame: what is typed, and the name in its signs."""

    id: str
    line: str

    def begun(self, signs: Sequence[Sign]) -> int | None:
        """Where its output begins; None where it has not begun."""
        return next((each.at for each in signs if each.text == self.id), None)

    def ended(self, signs: Sequence[Sign]) -> tuple[int, int | None] | None:
        """Where its output ended, and its exit status; None where it has not ended."""
        for each in signs:
            name, _, status = each.text.partition(";")
            if name == self.id and status:
                return each.at, int(status) if re.fullmatch(r"[0-9]{1,3}", status) else None
        return None


def framed(command: str, status: int | None = None) -> Frame:
    """`command` in a frame of its own; ":" makes one that only asks whether a shell is there.

    `status` is what the former command left, where that is known.
    """
    name = secrets.token_hex(3)
    before = "$?" if status is None else status
    start = f"eval \"printf '\\033]rawtap;{name}\\007';(exit {before})\""
    end = f"eval \"printf '\\033]rawtap;{name};$?\\007';(exit $?)\""
    return Frame(name, f"{start};eval {_quoted(command)};{end}")


def _quoted(command: str) -> str:
    """As one word. A line's end would bring a prompt of its own, and a tab complete a name: the shell puts them in."""
    if "\n" not in command and "\t" not in command:
        return "'" + command.replace("'", "'\\''") + "'"
    escaped = command.replace("\\", "\\\\").replace("%", "%%").replace("'", "'\\''")
    return "\"$(printf '" + escaped.replace("\n", "\\n").replace("\t", "\\t") + "')\""


def can_be_framed(command: str) -> bool:
    """Whether a shell would take it in a frame as it would alone."""
    is_text = all(character.isprintable() or character in "\n\t" for character in command)
    return bool(command.strip()) and is_text and len(framed(command).line.encode()) <= MOST_TYPED
