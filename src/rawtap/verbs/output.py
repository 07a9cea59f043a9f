"""What a command prints: answers on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING

from rawtap.untrusted import visible
from rawtap.verbs.wording import for_person

if TYPE_CHECKING:
    from rawtap.packets.reader import Line
    from rawtap.tools._text import Answer
    from rawtap.tools.capture import CaptureRow

WELL, FAILED, MISUSED, BAD_NEWS = 0, 1, 2, 3
"""Exit codes: all is well; it could not be done; wrong usage; it was done, and the answer is not a good one."""


def complain(text: str) -> None:
    """Say on stderr what went wrong, or what should be known."""
    print(f"rawtap: {visible(text)}", file=sys.stderr, flush=True)


class OutputLost(Exception):
    """Stdout takes no more: its disk is full, or nobody reads it any more.

    Attributes:
        is_unread: Whether it is a pipe whose reader has gone, who wants no complaint.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written: {error.strerror}")
        self.is_unread = error.errno == errno.EPIPE

    def told(self) -> int:
        """Say so; returns the exit code."""
        if self.is_unread:
            return 128 + signal.SIGPIPE
        complain(str(self))
        return FAILED


def say(text: str = "", end: str = "\n") -> None:
    """Print on stdout, now.

    Raises:
        OutputLost: It cannot be printed.
    """
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - else its end complains once more
        raise OutputLost(error) from error


def show(answer: Answer, *, as_json: bool) -> None:
    """Print a tool's answer, as the tool gives it: its text, or one line of JSON."""
    from rawtap.tools._text import text_of

    say(answer.model_dump_json() if as_json else text_of(answer))


def packet_line(line: Line) -> str:
    """A packet in a list: number, seconds, bytes, what it says."""
    return f"{line.number:>7} {line.time:>12.6f} {line.length:>6}  {line.summary}"


def told(row: CaptureRow, *, is_kept: bool = True) -> list[str]:
    """How a capture ended, in words: what is in the file, what was lost, and why nothing is there."""

    def count(name: str) -> str:
        value = getattr(row, name)
        return f"not known ({row.unknown.get(name, 'it was not asked for')})" if value is None else str(value)

    path = row.path if len(row.files) == 1 else f"{row.path} and {len(row.files) - 1} files before it"
    packets = row.packets if is_kept else row.packets + row.packets_overwritten
    found = [
        f"{f'{path}: ' if is_kept else ''}{packets} packets in {row.duration:.1f} s ({row.reason})",
        f"seen {count('seen')}, not selected {count('filtered')}, dropped by the kernel {count('dropped_kernel')}, "
        f"by the interface {count('dropped_interface')}",
    ]
    return [*found, *map(for_person, [*row.warnings, *filter(None, [row.error, row.diagnosis])])]
