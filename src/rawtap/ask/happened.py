"""What a guest's console showed and what its captures saw since its debugger stopped it last."""

from __future__ import annotations

import contextlib
from functools import partial

from rawtap.blocking import reading
from rawtap.errors import CaptureFailed
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


async def since_last(lab: Lab, guest: Guest) -> tuple[str, list[str]]:
    """The console's text and the packets' lines, the newest of each; from now on they have been told.

    Raises:
        CaptureUnreadable: A capture's file cannot be read.
        DiskStalled: The disk of the captures' folder does not answer.
    """
    marks, history = guest.debugging.marks, guest.machine.console.history
    is_later = _CONSOLE in marks  # all of a capture that began since the last stop is news
    guest.machine.console.drain()
    text = printable(history.shown(marks.get(_CONSOLE, history.end)))
    marks[_CONSOLE] = history.end
    lines: list[str] = []
    for capture in _captures(lab, guest):
        lines += await _packets(capture, marks, lab.scene, is_later=is_later)
    return text[-_CHARACTERS:], lines


def _captures(lab: Lab, guest: Guest) -> list[Capture]:
    """Those of the guest's cards, and of what these are on."""
    return [each for each in lab.captures.all() if any(card.is_on(each.interface) for card in guest.cards)]


async def _packets(capture: Capture, marks: dict[str, int], scene: Scene, *, is_later: bool) -> list[str]:
    if capture.session.running:
        with contextlib.suppress(CaptureFailed):  # what is not in the file yet is told at the next stop
            await capture.notifier.caught_up()
    saved = capture.session.saved
    told = marks.get(capture.id, 0 if is_later else saved)
    marks[capture.id] = saved
    if saved <= told:
        return []
    return await reading(capture.session.path, partial(_lines, capture, told, saved, scene))


def _lines(capture: Capture, told: int, saved: int, scene: Scene) -> list[str]:
    start = max(told, saved - _LOOKED_AT)
    found = Tail(capture.parts, "", behind(capture.parts(), start, None)).take(_LOOKED_AT)
    found = [raw for raw in found if start < raw.number <= saved][-_PACKETS:]
    left_out = saved - told - len(found)
    lines = [f"{capture.id}: {left_out} packets before these"] if left_out > 0 else []
    for raw in found:
        line = reader.line_of(raw, capture.session.started_ns, "summary")
        direction = scene.direction(line.summary.source_mac, line.summary.destination_mac, line.origin)
        lines.append(
            f"{capture.id} #{line.number} {line.time:.6f} {f'{direction}: ' if direction else ''}{line.summary}"
        )
    return lines
