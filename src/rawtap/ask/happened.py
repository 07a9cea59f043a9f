"""What a guest's console showed and what its captures saw since its debugger stopped it last."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from rawtap.blocking import reading
from rawtap.errors import CaptureFailed, CaptureUnreadable, DiskStalled
from rawtap.guest.history import printable
from rawtap.lab.captures import Capture
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.lab.observation import Scene
from rawtap.packets import reader
from rawtap.packets.tail import Tail, behind

_CONSOLE = "console"
_CHARACTERS = 800
_PACKETS = 8
_LOOKED_AT = 1000  # packets of a capture


@dataclass
class Happened:
    """The console's text and the packets' lines, the newest of each; and which packets could not be told, and why."""

    console: str
    packets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def since_last(lab: Lab, guest: Guest) -> Happened:
    """What happened since the guest stopped last; from now on it has been told, but where a file could not be read."""
    marks, history = guest.debugging.marks, guest.machine.console.history
    is_later = _CONSOLE in marks  # all of a capture that began since the last stop is news
    guest.machine.console.drain()
    text = printable(history.shown(marks.get(_CONSOLE, history.end)))
    marks[_CONSOLE] = history.end
    happened = Happened(text[-_CHARACTERS:])
    for capture in captures_of(lab, guest):
        try:
            await _add_packets(happened, capture, marks, lab.scene, is_later=is_later)
        except (CaptureUnreadable, DiskStalled) as error:
            happened.notes.append(f"the packets of {capture.id} are not told: {error}")
    return happened


def captures_of(lab: Lab, guest: Guest) -> list[Capture]:
    """Those of the guest's cards, and of what these are on."""
    return [each for each in lab.captures.all() if any(card.is_on(each.interface) for card in guest.cards)]


async def before(lab: Lab, guest: Guest, position: int, at_ns: int) -> Happened:
    """The last that happened before the console had shown so much, and the clock so (Unix time, nanoseconds)."""
    history = guest.machine.console.history
    happened = Happened(printable(history.shown(max(0, position - _CHARACTERS), position)))
    for capture in captures_of(lab, guest):
        await _catch_up(happened, capture, "may be missing here")
        saved = capture.session.saved
        try:
            lines, lacking = await reading(
                capture.session.path, partial(_lines, capture, 0, saved, lab.scene, until_ns=at_ns)
            )
        except (CaptureUnreadable, DiskStalled) as error:
            lines, lacking = [], (f"the packets of {capture.id} are not told: {error}",)
        happened.packets += lines
        happened.notes += lacking
    return happened


async def _catch_up(happened: Happened, capture: Capture, otherwise: str) -> None:
    """Have what is on the wire by now saved; where that is in vain, a note says of its packets what is `otherwise`."""
    if capture.session.running:
        try:
            await capture.notifier.caught_up()
        except CaptureFailed as error:
            happened.notes.append(f"packets of {capture.id} {otherwise}: {error}")


async def _add_packets(
    happened: Happened, capture: Capture, marks: dict[str, int], scene: Scene, *, is_later: bool
) -> None:
    await _catch_up(happened, capture, "may be told at the next stop only")
    saved = capture.session.saved
    told = marks.setdefault(capture.id, 0 if is_later else saved)
    if saved > told:
        lines, lacking = await reading(capture.session.path, partial(_lines, capture, told, saved, scene))
        happened.packets += lines
        happened.notes += lacking
    marks[capture.id] = saved


def _lines(
    capture: Capture, told: int, saved: int, scene: Scene, until_ns: int | None = None
) -> tuple[list[str], tuple[str, ...]]:
    """The packets up to that time, and what the files lack of them."""
    start = max(told, saved - _LOOKED_AT)
    tail = Tail(capture.parts, "", behind(capture.parts(), start, None))
    taken = [raw for raw in tail.take(_LOOKED_AT) if start < raw.number <= saved]
    found = [raw for raw in taken if until_ns is None or raw.time_ns <= until_ns][-_PACKETS:]
    if until_ns is not None and not found and start > told:
        late = f"only the newest {_LOOKED_AT} packets of {capture.id} were looked at, and all came later"
        return [], (*tail.lacking, late)
    if until_ns is not None:  # those behind it are another matter
        saved = found[-1].number if found else told
    left_out = saved - told - len(found)
    lines = [f"{capture.id}: {left_out} packets before these"] if left_out > 0 else []
    for raw in found:
        line = reader.line_of(raw, capture.session.started_ns, "summary")
        direction = scene.direction(line.summary.source_mac, line.summary.destination_mac, line.origin)
        lines.append(
            f"{capture.id} #{line.number} {line.time:.6f} {f'{direction}: ' if direction else ''}{line.summary}"
        )
    return lines, tail.lacking
