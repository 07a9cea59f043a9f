"""A guest stopped at a frame of its driver's: a breakpoint whose stops are those at which a frame in memory matches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from anyio.to_thread import run_sync as to_thread

from rawtap._bpf import FilterRefused
from rawtap.capture import filters
from rawtap.debug import frames, points
from rawtap.debug.debugger import Debugger
from rawtap.debug.frames import Direction, Found
from rawtap.debug.records import Results
from rawtap.debug.stops import Stop, shortened
from rawtap.errors import BadFilter, DebugRefused
from rawtap.packets import lines
from rawtap.packets.headers import parse
from rawtap.packets.tags import FrameFilter

_ETHERNET = 1  # libpcap's number, DLT_EN10MB
_MOST_PASSED = 10_000
_LISTED = 20
_SHOWN = 600  # characters of what was looked at


@dataclass
class Tap:
    """What a breakpoint of a driver's function looks for; `passed` frames did not match since the last stop."""

    debugger: Debugger
    on: Direction
    expression: str
    filter: FrameFilter | None
    passed: int = 0

    def __str__(self) -> str:
        wanted = f" that match {self.expression!r}" if self.expression else ""
        return f"frames to {self.on}{wanted}, {self.passed} others passed"

    async def judge(self, stop: Stop) -> Stop | None:
        """The stop, with its frame; None where another frame is wanted."""
        found, looked_at = await frames.frame_at(self.debugger.gdb, self.debugger.registers, stop)
        if found is None:
            looked = shortened(", ".join(looked_at), _SHOWN) or "no pointer"
            told = f"no frame was found, be it one that matches or not; looked at: {looked}"
        elif self.filter is None or self.filter.passes(found.data) or self.passed >= _MOST_PASSED:
            told = _told(found)
            if self.passed >= _MOST_PASSED:
                told = f"{self.passed} frames did not match, and it was stopped at the next; {told}"
        else:
            self.passed += 1
            return None
        passed, self.passed = self.passed, 0
        others = f"; {passed} frames before it did not match" if passed else ""
        return replace(stop, why=f"{stop.why}, a frame to {self.on}{others}", frame=told)


def _told(found: Found) -> str:
    summary = lines.summarize(parse(found.data, len(found.data), _ETHERNET))
    return f"{shortened(found.by)} at {found.address:#x}, {len(found.data)} bytes: {summary}"


async def place(debugger: Debugger, on: Direction, at: str, expression: str, condition: str) -> Results:
    """Set one at that function, or at the one whose name is like a driver's; gdb's row of it.

    Raises:
        BadFilter: libpcap does not take the filter.
        DebugRefused: No function's name is like one, or several are; they are listed.
        RequestInvalid: No place, or no condition.
    """
    compiled = None
    if expression:
        try:
            compiled = await to_thread(partial(FrameFilter, filters.checked(expression), _ETHERNET, live=False))
        except FilterRefused as error:
            raise BadFilter.because(expression, str(error)) from error
    tap = Tap(debugger, on, expression, compiled)
    return await points.break_at(debugger, at or await function(debugger, on), condition, tap)


async def function(debugger: Debugger, on: Direction) -> str:
    """The one function whose name is like a driver's. Raises DebugRefused, with their names."""
    names = await frames.functions(debugger.gdb, on)
    if len(names) == 1:
        return names[0]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    raise DebugRefused(
        f"{'several functions have names' if names else 'no function has a name'} like a driver's to {on} a frame",
        evidence=f"{', '.join(map(shortened, names[:_LISTED]))}{more}" if names else "; ".join(debugger.notes),
        cure='Name the one that is given the frame: at="card_transmit"; action="symbols" finds names',
    )
