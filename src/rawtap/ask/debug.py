"""A guest looked into: its debugger's actions, and at each stop where it is and what happened before."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from rawtap.ask import coverage, taps
from rawtap.ask.asked import Wish, require_fitting
from rawtap.ask.crash import explain
from rawtap.ask.happened import since_last
from rawtap.ask.trace import trace_byte
from rawtap.debug import looking, points
from rawtap.debug.debugger import Debugger
from rawtap.debug.records import Results, text_at
from rawtap.debug.stops import Stop
from rawtap.errors import DebugFailed, RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab

_GOING = {"step": "exec-step", "next": "exec-next", "stepi": "exec-step-instruction"}
_FOUND = 6000  # characters
_NEWS = 'it had stopped before this call, and stands there still: "continue" goes on from here'


@dataclass(frozen=True)
class Told:
    """What came of it.

    Attributes:
        stop: Where the guest stands, None where it runs.
        attached: Whether its debugger is there still.
        again: Whether an answer has told of that stop before.
        source: The lines around the place.
        found: What was asked for, in lines; `cut` of them did not fit.
        console: What it showed since the last stop.
        packets: What its captures saw since then.
        notes: What else is to be known.
    """

    stop: Stop | None
    attached: bool
    again: bool = False
    source: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    cut: int = 0
    console: str = ""
    packets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def debug(lab: Lab, name: str, wish: Wish) -> Told:
    """Do that.

    Raises:
        GuestNotRunning: There is no such guest.
        DebugError: One of its kinds; gdb's own words are inside.
        RequestInvalid: Something that the action needs is missing, or is not taken.
        GuestExited, GuestFailed: It has ended, or QEMU does not answer.
    """
    guest = lab.guest(name)
    require_fitting(wish)
    if wish.action == "attach":
        debugger = await lab.attach(name)
        return await _stopped(lab, guest, debugger, [*debugger.notes, *await _here(debugger)])
    if guest.debugging.attached is not None:
        with contextlib.suppress(DebugFailed):  # which is told to who needs one
            await guest.debugging.attached.verify()
    if wish.action in {"crash", "coverage"}:
        return await (_crash(lab, guest) if wish.action == "crash" else _coverage(guest, wish))
    debugger = guest.debugging.debugger(name)
    if wish.action == "detach":
        await guest.debugging.close()
        was_covered = await coverage.end(guest)
        return Told(None, attached=False, notes=("coverage is off as well",) if was_covered else ())
    if wish.frame and debugger.stop is not None:
        await looking.require_frame(debugger, wish.frame)
    if wish.action in {"continue", "finish", "until", "reset", "interrupt", *_GOING}:
        if wish.action == "continue" and _is_news(guest, debugger):
            return await _stopped(lab, guest, debugger, [_NEWS])
        await _set_going(guest, debugger, wish)
        await debugger.wait(wish.timeout)
        notes = await _here(debugger) if wish.action == "interrupt" else _unended(debugger, wish)
        return await _stopped(lab, guest, debugger, notes)
    return await _looked(lab, guest, debugger, wish)


async def _looked(lab: Lab, guest: Guest, debugger: Debugger, wish: Wish) -> Told:
    """What is asked for, and the stop where nobody has told of it."""
    if wish.action == "trace_byte":
        return await _trace(lab, guest, debugger, wish)
    found = await _LOOKS[wish.action](debugger, wish)
    shown, cut = _fitting(found)
    if debugger.stop is not None and debugger.stop is not guest.debugging.told:  # it stopped while another call ran
        return replace(await _stopped(lab, guest, debugger), found=shown, cut=cut)
    told = Told(debugger.stop, attached=True, again=True, found=shown, cut=cut, notes=_unlike(debugger))
    if wish.action in {"where", "locals"}:
        source, note = await looking.source(debugger, wish.frame)
        told = replace(told, source=tuple(source), notes=(*told.notes, *([note] if note else [])))
    return told


def _unlike(debugger: Debugger) -> tuple[str, ...]:
    """That no name is known where it stands."""
    return (debugger.stop.unlike,) if debugger.stop is not None and debugger.stop.unlike else ()


async def _crash(lab: Lab, guest: Guest) -> Told:
    """Why it crashed; no debugger is needed for that, and a guest that stands with one stays as it is."""
    debugger = guest.debugging.attached
    explained = await explain(lab, guest, debugger)
    shown, cut = _fitting(explained.lines)
    return Told(
        debugger.stop if debugger else None,
        attached=debugger is not None,
        again=True,
        found=shown,
        cut=cut,
        console=explained.console,
        packets=tuple(explained.packets),
        notes=tuple(explained.notes),
    )


async def _coverage(guest: Guest, wish: Wish) -> Told:
    """What it ran; no debugger is needed for that either."""
    debugger = guest.debugging.attached
    told = await coverage.coverage(guest, debugger, wish.at, wish.expression)
    shown, cut = _fitting([looking.bounded(each) for each in told.lines])
    stop = debugger.stop if debugger else None
    return Told(stop, attached=debugger is not None, again=True, found=shown, cut=cut, notes=tuple(told.notes))


async def _trace(lab: Lab, guest: Guest, debugger: Debugger, wish: Wish) -> Told:
    if wish.packet is None or wish.offset is None:
        raise RequestInvalid('action="trace_byte" needs packet and offset', cure="Like packet=3, offset=22")
    lines = await trace_byte(lab, guest, debugger, wish.packet, wish.offset, wish.at, wish.timeout)
    shown, cut = _fitting([looking.bounded(each) for each in lines])
    return replace(await _stopped(lab, guest, debugger), found=shown, cut=cut)


async def _here(debugger: Debugger) -> list[str]:
    """What else is to be known of where it stands: an exception before that, code that is elsewhere by the symbols."""
    stop = debugger.stop
    moved = await debugger.names.moved(stop, debugger.read) if stop is not None else ""
    return [each for each in (await looking.fault(debugger), moved) if each]


def _is_news(guest: Guest, debugger: Debugger) -> bool:
    """Whether it stands for whoever knows only that it runs, and so wants to wait on."""
    return debugger.stop is not None and guest.debugging.told is None and not guest.machine.consoles.halt_told


def _unended(debugger: Debugger, wish: Wish) -> list[str]:
    """That a step may never end: gdb waits for it on the processor where it began (its manual, "All-Stop Mode")."""
    if wish.action not in {"finish", *_GOING} or debugger.stop is not None or debugger.gone or debugger.processors == 1:
        return []
    return [f'{wish.action} ends on its own processor only; where the code went on on another, action="break" stops it']


async def _set_going(guest: Guest, debugger: Debugger, wish: Wish) -> None:
    """Let it run, or have it stand."""
    action = wish.action
    if action == "interrupt":
        await debugger.interrupt()
    elif action == "reset":
        await debugger.interrupt()
        await guest.machine.execute("system_reset")
        await debugger.refresh("a reset")
    elif action == "continue":
        if debugger.stop is not None:
            await debugger.go("exec-continue")
    elif action == "finish":
        stop = debugger.require_stop()
        await debugger.go("exec-finish", "--thread", stop.thread, "--frame", str(wish.frame))
    elif action == "until":
        await points.go_until(debugger, _needed(wish.at, "until", "at"))
    else:
        await debugger.go(_GOING[action], "--thread", debugger.require_stop().thread, str(wish.count or 1))


async def _stopped(lab: Lab, guest: Guest, debugger: Debugger, notes: list[str] | None = None) -> Told:
    """Where it stands now, and what happened before; or that it runs."""
    await debugger.verify()
    said = [*(notes or ()), *_unlike(debugger)]
    if (stop := debugger.stop) is None:
        guest.debugging.told = None
        return Told(None, attached=not debugger.gone, notes=(*said, debugger.gone) if debugger.gone else tuple(said))
    source, note = await looking.source(debugger)
    guest.debugging.told = stop
    said += [note] if note else []
    happened = await since_last(lab, guest)
    return Told(
        stop,
        attached=True,
        source=tuple(source),
        console=happened.console,
        packets=(*([f"in memory: {stop.frame}"] if stop.frame else ()), *happened.packets),
        notes=(*said, *happened.notes),
    )


def _fitting(lines: list[str]) -> tuple[tuple[str, ...], int]:
    """Those that fit into an answer, and how many do not."""
    room, kept = _FOUND, 0
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    return tuple(lines[:kept]), len(lines) - kept


def _needed(text: str, action: str, parameter: str) -> str:
    if not text:
        raise RequestInvalid(f"action={action!r} needs {parameter}", cure=_LIKE[parameter])
    return text


_LIKE = {
    "at": 'Like at="net.c:120", at="net_send" or at="0x80000000"',
    "expression": 'Like expression="packet->length"',
}


async def _break(debugger: Debugger, wish: Wish) -> list[str]:
    if wish.on is not None:
        row = await taps.place(debugger, wish.on, wish.at, wish.filter, wish.expression)
    elif wish.at:
        row = await points.break_at(debugger, wish.at, wish.expression)
    else:
        return await _breakpoints(debugger)
    return [_line(debugger, row) + await looking.doubt(debugger, row)]


async def _breakpoints(debugger: Debugger) -> list[str]:
    return [_line(debugger, each) for each in await points.rows(debugger)] or ["there is no breakpoint"]


def _line(debugger: Debugger, row: Results) -> str:
    """A breakpoint in a line, with the frames that it looks for."""
    judge = debugger.judges.get(text_at(row, "number"))
    return looking.breakpoint_line(row) + (f"; {judge}" if judge else "")


async def _watch(debugger: Debugger, wish: Wish) -> list[str]:
    what = _needed(wish.expression, "watch", "expression")
    return [looking.breakpoint_line(await points.watch(debugger, what, wish.frame))]


async def _delete(debugger: Debugger, wish: Wish) -> list[str]:
    await points.delete(debugger, wish.at)
    return await _breakpoints(debugger)


async def _threads(debugger: Debugger, wish: Wish) -> list[str]:
    if wish.at:
        await debugger.turn_to(wish.at)
    return await looking.processors(debugger)


async def _symbols(debugger: Debugger, wish: Wish) -> list[str]:
    if not wish.at:
        _needed(wish.expression, "symbols", "expression")
    found = await looking.symbols(debugger, wish.expression, wish.at)
    return found or ["; ".join(("there is no such name", *debugger.notes))]


_LOOKS: dict[str, Callable[[Debugger, Wish], Awaitable[list[str]]]] = {
    "break": _break,
    "watch": _watch,
    "delete": _delete,
    "symbols": _symbols,
    "where": lambda debugger, _: looking.where(debugger),
    "locals": lambda debugger, wish: looking.variables(debugger, wish.frame),
    "print": lambda debugger, wish: looking.value(
        debugger, _needed(wish.expression, "print", "expression"), wish.frame
    ),
    "registers": lambda debugger, wish: looking.registers(debugger, wish.expression),
    "memory": lambda debugger, wish: looking.memory(
        debugger, _needed(wish.expression or wish.at, "memory", "expression"), wish.count or 64, wish.frame
    ),
    "disassemble": lambda debugger, wish: looking.code(debugger, wish.at, wish.count or 10),
    "threads": _threads,
}
