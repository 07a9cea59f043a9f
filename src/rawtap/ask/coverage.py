"""What a guest ran between two calls, function by function: what a packet touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from anyio.to_thread import run_sync as to_thread

from rawtap.debug import expressions
from rawtap.debug.debugger import Debugger
from rawtap.debug.functions import Function
from rawtap.debug.places import place_at, places
from rawtap.debug.stops import shortened
from rawtap.errors import DebugError, RequestInvalid
from rawtap.guest.block_log import MOST_SECONDS
from rawtap.guest.patterns import Pattern, compiled
from rawtap.guest.peek import peek
from rawtap.lab.covering import Covering
from rawtap.lab.debugging import symbols_of
from rawtap.lab.guests import Guest

_SHOWN = 100  # functions
_MOST_ASKED = 1000  # functions whose names gdb is asked for, since their own are a compiler's
_LONGEST = 120  # characters of a name
_LOOKED_AT = 8  # functions of which it is seen whether they are what is in memory
_SLOW = "where it computes it is some hundred times slower meanwhile, so have longer timeouts"
_HOW = (
    'leave it alone for a moment and give action="coverage", at="idle": what it ran by then is left out from then on. '
    'Then send a packet, and action="coverage" tells what that touched; at="off" ends it'
)
_ELSEWHERE = (
    "no block is in a function of the symbols: does it run at other addresses than those of its file? Linux does, but "
    "for nokaslr in its bootargs; a profile can say how far (symbols, offset)"
)


@dataclass(frozen=True)
class Answer:
    """What is told, in lines; and what else is to be known."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Ran:
    """A function that ran.

    Attributes:
        addresses: Those of its blocks that did.
        idle: How many of these do when the guest is idle.
        entered: How often its first one did; 0 for one that had been entered before.
        is_idle: Whether any block of it runs when the guest is idle.
    """

    function: Function
    is_idle: bool
    addresses: list[int] = field(default_factory=list)
    idle: int = 0
    entered: int = 0

    @property
    def blocks(self) -> int:
        """How many of its blocks ran."""
        return len(self.addresses)

    @property
    def new(self) -> int:
        """Blocks that do not run when the guest is idle."""
        return self.blocks - self.idle


@dataclass(frozen=True)
class Told:
    """What ran, by functions in the order in which each was first run; the addresses of blocks that are in none."""

    ran: list[Ran]
    outside: list[int]


async def coverage(guest: Guest, debugger: Debugger | None, at: str, expression: str) -> Answer:
    """The functions that ran since the last call; the first call has them counted.

    Args:
        at: "idle": what ran is of no interest, and is left out of later answers. "off": nothing is counted any more.
        expression: A pattern of names; "" for all.

    Raises:
        RequestInvalid: `at` is none of these, or `expression` no pattern.
        DebugRefused: QEMU does not emulate its processors.
        DiskStalled: The disk of its symbols does not answer.
        GuestExited, GuestFailed, DebugError: It has ended; QEMU, or gdb, does not answer.
    """
    if at not in {"", "idle", "off"}:
        raise RequestInvalid(f"at={at[:100]!r} means nothing to coverage", cure='at="idle", at="off", or neither')
    wanted = compiled(Pattern(expressions.pattern(expression))) if expression else None
    if (known := guest.covering) is None:
        return await _begun(guest, debugger, at, expression)
    guest.machine.console.drain()
    guest.machine.consoles.drain()
    await guest.machine.settle()  # whether it has ended is to be told
    log = guest.machine.blocks
    if log is None:
        raise RuntimeError("blocks are to be told that were never counted")
    counts, seconds = log.turn()
    notes = await _ended(guest, at)
    told = await to_thread(sort, counts, known)
    told, wrong = await _true(guest, known, told)
    if known.functions and counts and not told.ran:
        notes.append(wrong or _ELSEWHERE)
    if at == "idle":
        known.note_idle(counts)
        return Answer([_idle(told, seconds)], notes)
    if wanted is not None:
        mangled = [each.function for each in told.ran if each.function.is_mangled]
        notes += await _ask(guest, debugger, known, mangled[:_MOST_ASKED])
        fits = wanted.expression.search
        told = replace(told, ran=[each for each in told.ran if fits(_name(known, each.function).encode())])
    lines = lines_of(told, seconds, has_idle=bool(known.idle), pattern=expression)
    if wrong or not known.functions:
        which = "the symbols do not tell" if wrong else "no symbols tell"
        lines[0] = f"{which} which functions ran in the last {seconds:.1f} s"
    notes += await _ask(guest, debugger, known, [each.function for each in lines if isinstance(each, Ran)])
    return Answer([each if isinstance(each, str) else _line(known, each) for each in lines], notes)


async def end(guest: Guest) -> bool:
    """Have nothing counted any more; whether anything was."""
    was_on, guest.covering = guest.covering is not None, None
    if was_on:
        await guest.machine.end_blocks()
    return was_on


async def _begun(guest: Guest, debugger: Debugger | None, at: str, expression: str) -> Answer:
    if at or expression:
        raise RequestInvalid(
            f"coverage is not on, and {'at' if at else 'expression'}={at or expression!r} means nothing",
            cure='action="coverage" alone begins it',
        )
    known = guest.covering = await Covering.begin(guest.machine, debugger)
    count = _several(len(known.functions), "function")
    line = f"coverage is on: from now on it is noted which of {count} run; {_SLOW}"
    return Answer([line], [*known.notes, _HOW, f"it ends by itself where nobody asks for {MOST_SECONDS:g} s"])


async def _ended(guest: Guest, at: str) -> list[str]:
    """End it where that is asked for, or where it has ended by itself, and say so."""
    log = guest.machine.blocks
    if log is not None and log.why_ended:
        why = f'coverage has ended: {log.why_ended}; action="coverage" begins it anew'
    elif not guest.machine.running:
        why = "the guest has ended: this is what it ran last"
    elif at == "off":
        why = "coverage is off: nothing is logged any more"
    else:
        return []
    await end(guest)
    return [why]


async def _true(guest: Guest, known: Covering, told: Told) -> tuple[Told, str]:
    """The same without names, where most of these functions are not what is in memory; in words, that it is so."""
    read = partial(peek, guest.machine)
    some = [each.function.start for each in told.ran[:: len(told.ran) // _LOOKED_AT + 1]]
    looks = Counter([await known.code.look(each, read) for each in some])
    if looks["other"] > looks["same"]:
        outside = [*told.outside, *(address for each in told.ran for address in each.addresses)]
        return Told([], outside), str(await known.code.moved(some[0], read) or known.code.told(some[0]))
    if not told.ran:
        for each in told.outside[:: len(told.outside) // _LOOKED_AT + 1]:
            if moved := await known.code.moved(each, read):
                return told, str(moved)
    return told, ""


def sort(counts: dict[int, int], known: Covering) -> Told:
    """Which functions those blocks are of. `counts` has how often each ran, by its address."""
    ran: dict[int, Ran] = {}
    outside: list[int] = []
    for address, count in counts.items():
        if (function := known.functions.at(address)) is None:
            outside.append(address)
            continue
        if (row := ran.get(function.start)) is None:
            row = ran[function.start] = Ran(function, function.start in known.idle_functions)
        row.addresses.append(address)
        row.idle += address in known.idle
        if address == function.start:
            row.entered = count
    return Told(list(ran.values()), outside)


def lines_of(told: Told, seconds: float, *, has_idle: bool, pattern: str = "") -> list[str | Ran]:
    """What is told: lines, and functions of which a line is to be made. `has_idle`: something is left out as idle."""
    new = [each for each in told.ran if not each.is_idle]
    more = [each for each in told.ran if each.is_idle and each.new]
    left_out = len(told.ran) - len(new) - len(more)
    fitting = f" whose names fit {pattern!r}" if pattern else ""
    besides = ", and not when it was idle" if has_idle else ""
    what = _several(len(new), "function") if new else "no function"
    order = ", in the order of first runs:" if new else ""
    lines: list[str | Ran] = [f"{what}{fitting} ran in the last {seconds:.1f} s{besides}{order}"]
    lines += _first(new, _SHOWN)
    if more:
        lines.append(f"{_several(len(more), 'function')} that ran when it was idle as well, with blocks that did not:")
        lines += _first(more, max(0, _SHOWN - len(new)))
    if left_out:
        lines.append(f"left out: {_several(left_out, 'function')} that did only what was done when it was idle")
    if told.outside and not pattern:
        reach = f"between {min(told.outside):#x} and {max(told.outside):#x}"
        lines.append(f"outside of the symbols: {_several(len(told.outside), 'block')}, {reach}")
    return lines


def _first(rows: list[Ran], most: int) -> Iterable[str | Ran]:
    if len(rows) <= most:
        return rows
    cut = _several(len(rows) - most, "function")
    return [*rows[:most], f'... and {cut} more: with a pattern of names, like expression="^net_", fewer are told']


def _line(known: Covering, row: Ran) -> str:
    place = known.places.get(row.function.start)
    where = f"{place.file}:{place.line}" if place and place.line else f"{row.function.start:#x}"
    blocks = f"{_several(row.new, 'block')} more" if row.is_idle else _several(row.blocks, "block")
    entered = f", entered {_several(row.entered, 'time')}" if row.entered else ""
    return f"{_name(known, row.function)} ({where}) {blocks}{entered}"


def _name(known: Covering, function: Function) -> str:
    """What it is called in its source, where gdb was asked for that; in its file otherwise."""
    place = known.places.get(function.start) if function.is_mangled else None
    return shortened(place.function if place and place.function else function.name, _LONGEST)


def _idle(told: Told, seconds: float) -> str:
    blocks = _several(sum(each.blocks for each in told.ran), "block")
    return (
        f"idle, and left out from now on: {_several(len(told.ran), 'function')}, {blocks}, in the last {seconds:.1f} s"
    )


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


async def _ask(guest: Guest, debugger: Debugger | None, known: Covering, wanted: list[Function]) -> list[str]:
    """Have the lines known at which functions begin; what is to be known of that."""
    starts = [each.start for each in wanted if each.start not in known.places]
    if not starts:
        return []
    try:
        if debugger is not None:
            known.places |= {each: await place_at(debugger.gdb, each) for each in starts}
            return []
        found, notes = await places(symbols_of(guest.machine), guest.machine.spec.source, starts)
    except DebugError as error:
        return [f"no lines are told: {error}"]
    known.places |= found
    return notes
