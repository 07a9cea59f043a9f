"""A guest looked into: its debugger's actions, and at each stop where it is and what happened before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from rawtap.ask import coverage, taps
from rawtap.ask.crash import explain
from rawtap.ask.happened import since_last
from rawtap.ask.trace import trace_byte
from rawtap.debug import looking
from rawtap.debug.debugger import Debugger
from rawtap.debug.frames import Direction
from rawtap.debug.records import Results, text_at
from rawtap.debug.stops import Stop
from rawtap.errors import RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab

Action = Literal[
    "attach", "detach", "break", "watch", "delete", "continue", "step", "next", "stepi", "finish", "until",
    "interrupt", "reset", "where", "locals", "print", "registers", "memory", "disassemble", "symbols", "threads",
    "crash", "coverage", "trace_byte",
]  # fmt: skip

_GOING = {"step": "exec-step", "next": "exec-next", "stepi": "exec-step-instruction"}
_FOUND = 6000  # characters
_NEWS = 'it had stopped before this call, and stands there still: "continue" goes on from here'


@dataclass(frozen=True)
class Wish:
    """What is asked for; see the tool for the meaning of each."""

    action: Action
    at: str = ""
    expression: str = ""
    count: int | None = None
    frame: int = 0
    timeout: float = 10.0
    on: Direction | None = None
    filter: str = ""
    packet: int | None = None
    offset: int | None = None


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
    if wish.action == "attach":
        debugger = await lab.attach(name)
        return await _stopped(lab, guest, debugger, [*debugger.notes, *await _fault(debugger)])
    _require_fitting(wish)
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
        notes = await _fault(debugger) if wish.action == "interrupt" else _unended(debugger, wish)
        return await _stopped(lab, guest, debugger, notes)
    return await _looked(lab, guest, debugger, wish)


def _require_fitting(wish: Wish) -> None:
    """Refuse parameters that another action takes."""
    if wish.on is None and wish.filter:
        raise RequestInvalid("filter selects frames of the driver's", cure='Say which: on="transmit" or "receive"')
    if wish.on is not None and wish.action != "break":
        raise RequestInvalid(f"on={wish.on!r} is for breakpoints", cure='action="break"')


async def _looked(lab: Lab, guest: Guest, debugger: Debugger, wish: Wish) -> Told:
    """What is asked for, and the stop where nobody has told of it."""
    if wish.action == "trace_byte":
        return await _trace(lab, guest, debugger, wish)
    found = await _LOOKS[wish.action](debugger, wish)
    shown, cut = _fitting(found)
    if debugger.stop is not None and debugger.stop is not guest.debugging.told:  # it stopped while another call ran
        return replace(await _stopped(lab, guest, debugger), found=shown, cut=cut)
    told = Told(debugger.stop, attached=True, again=True, found=shown, cut=cut)
    if wish.action in {"where", "locals"}:
        source, note = await looking.source(debugger, wish.frame)
        told = replace(told, source=tuple(source), notes=(note,) if note else ())
    return told


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


async def _fault(debugger: Debugger) -> list[str]:
    told = await looking.fault(debugger)
    return [told] if told else []


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
        await debugger.go_until(_needed(wish.at, "until", "at"))
    else:
        await debugger.go(_GOING[action], "--thread", debugger.require_stop().thread, str(wish.count or 1))


async def _stopped(lab: Lab, guest: Guest, debugger: Debugger, notes: list[str] | None = None) -> Told:
    """Where it stands now, and what happened before; or that it runs."""
    said = list(notes or ())
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
        row = await debugger.break_at(wish.at, wish.expression)
    else:
        return await _breakpoints(debugger)
    return [_line(debugger, row)]


async def _breakpoints(debugger: Debugger) -> list[str]:
    return [_line(debugger, each) for each in await debugger.breakpoints()] or ["there is no breakpoint"]


def _line(debugger: Debugger, row: Results) -> str:
    """A breakpoint in a line, with the frames that it looks for."""
    judge = debugger.judges.get(text_at(row, "number"))
    return looking.breakpoint_line(row) + (f"; {judge}" if judge else "")


async def _watch(debugger: Debugger, wish: Wish) -> list[str]:
    return [looking.breakpoint_line(await debugger.watch(_needed(wish.expression, "watch", "expression"), wish.frame))]


async def _delete(debugger: Debugger, wish: Wish) -> list[str]:
    await debugger.delete(wish.at)
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
