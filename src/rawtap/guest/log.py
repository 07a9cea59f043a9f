"""What guests said, on their consoles and in QMP events, for as long as it can be asked for: also after their end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rawtap.guest.history import History, printable
from rawtap.guest.machine import Machine

_SHOWN = 300  # characters of a line
_KEPT_ENDED = 8  # guests
_KEPT_TALLIES = 1000
_BREAKS = re.compile(rb"[\r\n]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A line of a console, or a part of one: where it is in the stream, when its first byte came, what it says.

    `unfinished` tells that no line end follows: what comes after it is the next piece.
    """

    start: int
    end: int
    at_ns: int
    text: str
    unfinished: bool


def pieces(history: History, position: int, limit: int) -> tuple[list[Piece], int]:
    """At most `limit` pieces of what came from `position` on, without empty lines, and where the last of them ended.

    The line that is still being written is given as it is, since whoever got it may be given younger things of others
    next; what comes after it is a piece of its own.
    """
    found: list[Piece] = []
    at = max(position, history.start)
    while len(found) < limit:
        at = history.skip(_BREAKS, at)
        if at >= history.end:
            break
        stop = history.marks.next_after(at) or history.end
        end = history.line_end(at, stop)
        found.append(_piece(history, at, end))
        at = end
    if found and found[-1].unfinished and at == history.end:
        history.marks.cut()
    return found, at


def _piece(history: History, start: int, end: int) -> Piece:
    raw = history.since(start, min(end - start, _SHOWN + 2))
    text = printable(raw.rstrip(b"\r\n"))
    if end - start > len(raw) or len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}... ({end - start} bytes)"
    unfinished = history.since(end - 1, 1) != b"\n"
    return Piece(start, end, history.marks.time_at(start), text, unfinished)


@dataclass(frozen=True, eq=False)
class GuestLog:
    """One boot's, by its number among all boots of this server."""

    number: int
    machine: Machine

    @property
    def name(self) -> str:
        """The guest's."""
        return self.machine.name


@dataclass(frozen=True, slots=True)
class Tally:
    """How much a guest said in all: bytes on its console, and events."""

    name: str
    console: int
    events: int


@dataclass(eq=False)
class GuestLogs:
    """Those of the guests that run, and of a few that have ended, until the next boot of the same name."""

    _logs: dict[int, GuestLog] = field(default_factory=dict)
    _tallies: dict[int, Tally] = field(default_factory=dict)
    counter: int = 0  # boots so far

    def begin(self, machine: Machine) -> None:
        """Keep what that machine says from now on."""
        self.counter += 1
        for number in [each.number for each in self._logs.values() if each.name == machine.name]:
            self._forget(number)
        ended = [each.number for each in self._logs.values() if not each.machine.running]
        for number in ended[: max(0, len(ended) - _KEPT_ENDED)]:
            self._forget(number)
        self._logs[self.counter] = GuestLog(self.counter, machine)

    def _forget(self, number: int) -> None:
        machine = self._logs.pop(number).machine
        self._tallies[number] = Tally(machine.name, machine.console.history.end, machine.events.end)
        if len(self._tallies) > _KEPT_TALLIES:
            del self._tallies[next(iter(self._tallies))]

    def all(self) -> tuple[GuestLog, ...]:
        """Every log that is kept, oldest first."""
        return tuple(self._logs.values())

    def forgotten(self) -> dict[int, Tally]:
        """How much was in the logs that are no longer kept, by their numbers."""
        return dict(self._tallies)
