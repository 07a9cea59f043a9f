"""What ends a wait on a console besides what it is for: the first thing that happens. Looks at /proc, else pure."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rawtap.guest.console import Console
from rawtap.guest.prompts import LONGEST, asks_for_password, asks_to_log_in, last_line
from rawtap.guest.resets import Reboots

How = Literal[
    "text",
    "prompt",
    "frame",
    "login",
    "password",
    "panic",
    "reset",
    "loop",
    "fault",
    "gone",
    "silence",
    "nothing",
    "hidden",
    "halted",
]

_PANIC_SILENCE = 0.5  # a kernel's last words are followed by a dump, and by nothing; by a prompt where they were a text
_DUMP = 0.9  # a dump without an end is no sign of life
_LOG = 5.0  # ... but a shell's command may show a log
_FAULT_SILENCE = 4.0  # after a triple fault: firmware that starts again says something sooner
_RESET_GRACE = 0.9  # for a text that is expected after it
_AFTER_RESET = "the next qemu_send waits for its prompt"
_ASKED_SILENCE = 0.3
_NOTHING_SECONDS = 8.0
_SILENCE_SECONDS = 15.0
_HOPELESS_SECONDS = 3.0  # where no prompt is known, there is little to wait for
_BUSY_SECONDS = 45.0  # the same, where the guest works meanwhile
_IDLE_SHARE = 0.2  # of a processor: what a guest that waits for an interrupt may use at most


@dataclass(frozen=True, slots=True)
class Ending:
    """How a wait ended: by what, at which position, which of what was waited for, and more in words."""

    how: How
    at: int | None = None
    which: str | None = None
    words: str = ""


class Troubles:
    """What may go wrong during one wait. Made when it begins, and asked again and again."""

    def __init__(
        self, console: Console, reboots: Reboots, *, patient: bool, boot: bool = False, log: bool = False
    ) -> None:
        """`patient`: what is waited for may come after a reboot. `boot`: nobody types, so a reset is no news.

        `log`: what comes is the output of a shell's command.
        """
        self._console, self._reboots = console, reboots
        self._patient, self._boot = patient, boot
        self._dump = _LOG if log else _DUMP
        self._before = reboots.count
        self._reset_quiet_from: float | None = None
        self._panic_since: float | None = None

    def look(self, quiet: float, now: float) -> Ending | float | None:
        """What has happened, or when to look again."""
        if self._console.closed:
            return Ending("gone")
        if self._console.halted:
            return Ending("halted", words=self._console.halted)
        happened = self._reboots.count > self._before
        if happened and (loop := self._reboots.loop):
            return Ending("loop", words=loop)
        later = self._look_for_reset(now) if happened and not self._boot else None
        looks = (self._look_for_panic(quiet, now), self._look_for_fault(quiet), later)
        for each in looks:
            if isinstance(each, Ending):
                return each
        waits = [each for each in looks if each is not None]
        return min(waits) if waits else None  # type: ignore[type-var]

    def _look_for_reset(self, now: float) -> Ending | float:
        self._reset_quiet_from = self._reset_quiet_from or now
        left = _RESET_GRACE - (now - self._reset_quiet_from) if self._patient else 0.0
        return left if left > 0 else Ending("reset", words=f"{self._reboots.how}; {_AFTER_RESET}")

    def _look_for_fault(self, quiet: float) -> Ending | float | None:
        if not self._boot or (fault := self._reboots.fault) is None:
            return None
        left = _FAULT_SILENCE - quiet
        return left if left > 0 else Ending("fault", words=f"{fault}, and nothing came after it")

    def _look_for_panic(self, quiet: float, now: float) -> Ending | float | None:
        panic = self._console.signs.panic()
        if panic is None:
            self._panic_since = None
            return None
        self._panic_since = self._panic_since or now
        since = now - self._panic_since
        left = min(_PANIC_SILENCE - min(quiet, since), self._dump - since)
        return left if left > 0 else Ending("panic", words=str(panic))


def asked(console: Console, start: int, quiet: float) -> Ending | float | None:
    """Whether the console asks for a user or a password, in a line that began at or after `start`."""
    tail = console.history.tail(LONGEST)
    line = last_line(tail)
    how: How | None = "login" if asks_to_log_in(line) else "password" if asks_for_password(line) else None
    if how is None or console.history.end - len(line) < start:
        return None
    left = _ASKED_SILENCE - quiet
    return left if left > 0 else Ending(how, at=console.history.end, which=how)


class Silence:
    """Whether a guest that boots says nothing more, and does nothing either."""

    def __init__(self, console: Console, pid: int, *, hopeless: bool = False) -> None:
        """`hopeless`: there is no prompt that could be recognised, so there is little to wait for."""
        self._console, self._pid, self._hopeless = console, pid, hopeless
        self._since: tuple[float, float] | None = None  # when the processor was looked at, and what was used by then

    def look(self, quiet: float, now: float) -> Ending | float | None:
        """An ending where nothing came for long and the processor was idle meanwhile."""
        nothing = self._console.history.end == 0
        if self._hopeless and quiet >= _BUSY_SECONDS:
            return Ending("silence", words=f"nothing came for {quiet:.0f} s, and no prompt is known")
        half = (_HOPELESS_SECONDS if self._hopeless else _NOTHING_SECONDS if nothing else _SILENCE_SECONDS) / 2
        if quiet < half:
            self._since = None
            return half - quiet
        if self._since is None:
            self._since = now, cpu_seconds(self._pid)
        since, used = self._since
        if now - since < half:
            return half - (now - since)
        if cpu_seconds(self._pid) - used > _IDLE_SHARE * (now - since):
            self._since = None  # it works
            return half
        if nothing:
            return Ending("nothing", words=f"no console output at all in {quiet:.0f} s, and the guest idles")
        return Ending("silence", words=f"nothing more came for {quiet:.0f} s, and the guest idles")


def cpu_seconds(pid: int) -> float:
    """What a process's threads have used of processors, or waited for one (linux/Documentation/scheduler/sched-stats).

    The wait counts: on a busy machine a guest that works gets little of a processor, and is not idle.
    """
    spent = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError):  # a thread that ended meanwhile
            used, waited, _ = task.read_text(encoding="ascii").split()
            spent += int(used) + int(waited)
    return spent / 1e9
