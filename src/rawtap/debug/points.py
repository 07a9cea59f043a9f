"""Breakpoints and watchpoints of a guest's: set, listed, deleted, and one that it goes on to.

gdb takes them only while the guest stands: a guest that runs is held for that moment (`Debugger.held_still`).
"""

from __future__ import annotations

import re

from rawtap.debug import expressions
from rawtap.debug.breakpoints import Judge, addresses, listed
from rawtap.debug.debugger import Debugger
from rawtap.debug.gdb import Gdb
from rawtap.debug.records import Results, text_at
from rawtap.debug.stops import shortened
from rawtap.errors import DebugRefused, RequestInvalid

MOST = 50
_NAME = re.compile(r"[A-Za-z_]\w*")


async def break_at(debugger: Debugger, place: str, condition: str, judge: Judge | None = None) -> Results:
    """Set a breakpoint, whose stops are for `judge` to say; gdb's row of it.

    Raises:
        RequestInvalid: No place, or an expression that is not taken.
        DebugRefused: gdb knows no such place.
    """
    words = expressions.place(place)
    given = ("-c", expressions.expression(condition, debugger.registers)) if condition else ()
    async with debugger.held_still() as gdb:
        await _require_room(gdb)
        row = await _inserted(gdb, *given, *words)
        if judge is not None:  # before the guest goes on: it may come by at once
            debugger.judges[text_at(row, "number")] = judge
    return row


async def _inserted(gdb: Gdb, *words: str) -> Results:
    found = (await gdb.command("break-insert", *words)).results.get("bkpt")
    return found if isinstance(found, dict) else {}


async def go_until(debugger: Debugger, place: str) -> None:
    """Have it go on to a place. Raises as `break_at`."""
    words = expressions.place(place)
    debugger.require_stop()
    async with debugger.held_still() as gdb:
        await _require_room(gdb)
        row = await _inserted(gdb, "-t", *words)
        there = [text_at(each, "number") for each in await listed(gdb) if addresses(each) & addresses(row)]
        if any(each in debugger.judges for each in there):
            await gdb.command("break-delete", text_at(row, "number"))
            raise DebugRefused(
                f"a breakpoint at frames is at {place[:200]!r}, and gdb would tell of that one only",
                cure='action="continue" comes there at such a frame; action="delete" removes it',
            )
    await debugger.go("exec-continue")


async def watch(debugger: Debugger, text: str, frame: int) -> Results:
    """Stop whenever that changes; gdb's row of it. Raises as `break_at`."""
    what = expressions.expression(text, debugger.registers)
    stop = debugger.stop
    async with debugger.held_still() as gdb:
        await _require_room(gdb)
        where = () if stop is None else ("--thread", stop.thread, "--frame", str(frame))
        line = f"watch {'' if _NAME.fullmatch(what.strip()) else '-location '}{what}"
        await gdb.command("interpreter-exec", *where, "console", line)
        row = (await listed(gdb))[-1]
        if text_at(row, "type") == "watchpoint":
            await gdb.command("break-delete", text_at(row, "number"))
            raise DebugRefused(
                f"{shortened(what)} cannot be watched at full speed",
                evidence="gdb would run the guest a step at a time",
                cure="Watch what is in memory and of at most 8 bytes, like packet->bytes[8]",
            )
    return row


async def rows(debugger: Debugger) -> list[Results]:
    """gdb's rows of all."""
    async with debugger.held_still() as gdb:
        return await listed(gdb)


async def delete(debugger: Debugger, number: str) -> None:
    """Delete that breakpoint, or all for "".

    Raises:
        RequestInvalid: No number.
        DebugRefused: There is none of that number.
    """
    if number and not re.fullmatch(r"[0-9]{1,6}", number):
        raise RequestInvalid(f"at={number[:100]!r} is no breakpoint's number", cure='action="break" lists them')
    async with debugger.held_still() as gdb:
        known = [text_at(each, "number") for each in await listed(gdb)]
        if number and number not in known:
            raise DebugRefused(
                f"there is no breakpoint {number}",
                evidence=f"there are: {', '.join(known) or 'none'}",
                cure="Name one",
            )
        if known:
            await gdb.command("break-delete", *([number] if number else known))


async def _require_room(gdb: Gdb) -> None:
    if len(await listed(gdb)) >= MOST:
        raise DebugRefused(f"there are {MOST} breakpoints already", cure='action="delete" removes them')
