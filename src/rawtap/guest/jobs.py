"""What is typed on a console, what of it has not ended, and looking for what ends a wait. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rawtap.guest.console import Console
from rawtap.guest.endings import Ending
from rawtap.guest.framing import Frame
from rawtap.guest.history import printable
from rawtap.guest.patterns import Wanted

_SHOWN_COMMAND = 60


@dataclass(frozen=True)
class Ask:
    """What a call wants typed, and what is to end it; nothing in `wanted` means a prompt."""

    command: str
    timeout: float
    wanted: tuple[Wanted, ...] = ()
    enter: bool = True


@dataclass(eq=False)
class Job:
    """A command whose end was not seen yet.

    `start` is where it was typed, or its echo begins. `behind` is the line behind which it was typed. `in_shell` tells
    that a shell reads it, or may: then what looks like its prompt may be output. `is_boot`: the guest boots.
    """

    words: str
    start: int
    frame: Frame | None = None
    in_shell: bool = False
    is_veiled: bool = False
    behind: bytes = b""
    is_boot: bool = False


@dataclass(frozen=True)
class Into:
    """What had not ended when something was typed, and whether it asked for that.

    `last` is the command whose prompt had output behind it, by then.
    """

    jobs: tuple[Job, ...] = ()
    asking: bool = False
    last: str = ""

    @property
    def hides(self) -> bool:
        """Whether what came since may be the output of another command, and is none of this one's answer."""
        return bool(self.jobs) and not self.asking

    @property
    def words(self) -> str:
        """Which they were."""
        return ", ".join(repr(job.words) for job in self.jobs)


class Search:
    """Looks for texts in what is new, and in older output only as far as a match could begin there."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._at: dict[int, int] = {}

    def look(self, console: Console, start: int) -> Ending | None:
        """The first of them that came at or after `start`."""
        history, best = console.history, None
        for number, each in enumerate(self._wanted):
            found = history.find(each, max(start, self._at.get(number, start)))
            self._at[number] = max(start, history.end - each.reach)
            if found is not None and (best is None or found < best[0]):
                best = found, each.text
        return Ending("text", at=best[0], which=best[1]) if best else None


def shortened(command: str) -> str:
    """A command for a message."""
    return printable(command.encode())[:_SHOWN_COMMAND]
