"""A gdb's breakpoints: which there are, at which of them the guest stands, and whether it is to stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from rawtap.debug.gdb import Gdb
from rawtap.debug.records import Results, rows_at, text_at
from rawtap.debug.stops import Stop
from rawtap.errors import DebugRefused


class Judge(Protocol):
    """Says of stops at a breakpoint whether they are such; in words it tells of which it does."""

    async def judge(self, stop: Stop) -> Stop | None:
        """The stop as it is to be told; None has the guest go on."""


async def listed(gdb: Gdb) -> list[Results]:
    """gdb's rows of all."""
    return rows_at((await gdb.command("break-list")).results, "BreakpointTable", "body")


def addresses(row: Results) -> set[str]:
    """Where a breakpoint is, by gdb's row of it."""
    found = (text_at(each, "addr") for each in (row, *rows_at(row, "locations")))
    return {each for each in found if each.startswith("0x")}


async def judgement(gdb: Gdb, judges: Mapping[str, Judge], stop: Stop) -> Stop | None:
    """The stop as it is to be told, None where the guest is to go on.

    Raises:
        DebugFailed: gdb has ended.
    """
    try:
        for number in await _stopping(gdb, stop):
            here = replace(stop, why=f"breakpoint {number}", breakpoints=(number,))
            judge = judges.get(number)
            if (judged := await judge.judge(here) if judge else here) is not None:
                return judged
    except DebugRefused as error:
        return replace(stop, why=f"{stop.why}; what is there could not be read: {error.evidence}")
    return None


async def _stopping(gdb: Gdb, stop: Stop) -> list[str]:
    """The numbers of those that stop it there: of several at one place gdb names the first only."""
    found = [*stop.breakpoints]
    for row in await listed(gdb):
        number, is_there = text_at(row, "number"), stop.place.address in addresses(row)
        if is_there and number not in found and text_at(row, "enabled") == "y" and await _holds(gdb, stop, row):
            found.append(number)
    return found


async def _holds(gdb: Gdb, stop: Stop, row: Results) -> bool:
    """Whether a breakpoint's condition is true there."""
    if not (condition := text_at(row, "cond")):
        return True
    at = ("--thread", stop.thread, "--frame", "0")
    value = text_at((await gdb.command("data-evaluate-expression", *at, condition)).results, "value")
    return value.partition(" ")[0] not in {"0", "0x0", "false"}
