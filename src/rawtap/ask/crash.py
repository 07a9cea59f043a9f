"""A crash explained: which exception led to which, at which line, and what happened before it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from rawtap.ask.exceptions import MOST, shown, steps
from rawtap.ask.happened import before
from rawtap.debug.code import Code
from rawtap.debug.debugger import Debugger
from rawtap.debug.faults import Fault, fault_of
from rawtap.debug.places import place_at, places
from rawtap.debug.stops import Place
from rawtap.errors import DebugError
from rawtap.guest import registers, traps
from rawtap.guest.machine import Crash, Machine
from rawtap.guest.peek import peek
from rawtap.lab.debugging import symbols_of
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab

_SHOWN_TRAPS = 5
_OF_ALL = "the exceptions that it took last, of which a kernel may have wanted each"
_OF_KERNEL = "the kernel's own that it took before, the newest at each place, since programs' are newer"


@dataclass
class Explained:
    """What is known of it, in lines; the console's end and the packets before it; and what else is to be known."""

    lines: list[str] = field(default_factory=list)
    console: str = ""
    packets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def explain(lab: Lab, guest: Guest, debugger: Debugger | None) -> Explained:
    """The exceptions that it took last, where QEMU emulates the processor; of an x86's, the newest triple fault.

    QEMU's log of exceptions is begun, if it is not there.

    Raises:
        GuestExited, GuestFailed: The guest has ended, or QEMU does not answer.
    """
    machine = guest.machine
    if not machine.tells_traps:
        return Explained([_why_not(machine)])
    told = await (_of_x86(lab, guest, debugger) if machine.tells_faults else _of_others(lab, guest, debugger))
    told.notes += await _logged(machine)
    return told


async def _of_x86(lab: Lab, guest: Guest, debugger: Debugger | None) -> Explained:
    machine = guest.machine
    crash = machine.crash
    told = Explained([_when(crash) if crash else "no triple fault was seen"])
    lines: list[tuple[str, int | None]] = list(traps.chain(crash.fault)) if crash else []
    own, newest = machine.traps(_SHOWN_TRAPS)
    for head, taken in ((_OF_KERNEL, own), (_OF_ALL, newest)):
        lines += [(f"{head}:", None)] if taken else []
        lines += [(f"{traps.told(each)}, stack pointer {each.stack:#x}", each.at) for each in taken]
    wanted = [at for _, at in lines if at is not None]
    found = await _places(guest, debugger, wanted, told, was_reset=crash is not None)
    told.lines += [line if at is None else f"{line}, at {found[at]}" for line, at in lines]
    if crash:
        await _add_happened(lab, guest, told, crash.position, crash.at_ns)
    if lines:
        told.notes += _mixed(machine)
    return told


async def _of_others(lab: Lab, guest: Guest, debugger: Debugger | None) -> Explained:
    """Of a RISC-V's or an Arm's."""
    machine = guest.machine
    machine.wants_traps = True
    seen, boot = machine.exceptions
    newest = shown(seen)
    known = await _registers(machine)
    rows = steps(newest, boot, known)
    last = None if seen else next((fault for each in known.values() if (fault := fault_of(each))), None)
    told = Explained([_head(machine, is_there=bool(seen))])
    wanted = [each.at for each in rows if each.at is not None]
    was_reset = any(each.taken.boot != boot for each in newest)
    if last and last.at is not None:
        wanted = [last.at]
    found = await _places(guest, debugger, wanted, told, was_reset=was_reset)
    for each in rows:
        at = "" if each.at is None else f", at {found[each.at]}"
        told.lines.append(f"{each.text}{at}{f'; {each.more}' if each.more else ''}")
    if not seen and machine.running:
        told.lines.append(_by_registers(last, found))
    machine.console.drain()
    position, at_ns = machine.moment() or (machine.console.history.end, time.time_ns())
    await _add_happened(lab, guest, told, position, at_ns)
    if seen or last:
        told.notes += _mixed(machine)
    if len(newest) > MOST:
        told.notes.append("of what came before the newest, the kernel's alone is told: programs' was more")
    return told


def _head(machine: Machine, *, is_there: bool) -> str:
    if is_there:
        return f"{_OF_ALL}; the newest is the last:"
    if machine.trap_log == "off":
        return "exceptions were not logged so far: what led to it is not known"
    until = ", which ended since there was too much else" if machine.trap_log == "ended" else ""
    return f"no exception was seen while they were logged{until}"


def _by_registers(last: Fault | None, found: dict[int, Place]) -> str:
    if last is None:
        return 'its registers may tell of the last one: action="attach", then "interrupt"; see "warnings"'
    return f"by its registers, which keep old ones as well, the last one was: {last}, at {found.get(last.at or 0)}"


async def _registers(machine: Machine) -> dict[int, dict[str, int]]:
    if not machine.running:
        return {}
    shown = await machine.execute("human-monitor-command", {"command-line": "info registers -a"})
    return registers.of_processors(str(shown))


async def _add_happened(lab: Lab, guest: Guest, told: Explained, position: int, at_ns: int) -> None:
    happened = await before(lab, guest, position, at_ns)
    told.console, told.packets = happened.console, happened.packets
    told.notes += happened.notes


def _mixed(machine: Machine) -> list[str]:
    several = machine.spec.profile.smp > 1
    return ["it has several processors, whose exceptions may be mixed here"] if several else []


def _when(crash: Crash) -> str:
    lacking = "" if crash.fault.traps else ", and exceptions were not logged then: what led to it is not known"
    return f"a triple fault, {(time.time_ns() - crash.at_ns) / 1e9:.1f} s ago{lacking}"


def _why_not(machine: Machine) -> str:
    if machine.spec.tells_traps:
        return 'under KVM QEMU sees no exception of the guest\'s; icount = "auto" in its profile has it emulated'
    return (
        "QEMU's log of exceptions is read on x86, RISC-V and Arm; here the registers tell: attach, interrupt, and see "
        '"warnings"'
    )


async def _logged(machine: Machine) -> list[str]:
    """Have exceptions logged from now on; what is to be known of that."""
    if not machine.running:
        return ["the next qemu_boot of that name logs exceptions from the start"] if machine.wants_traps else []
    if machine.trap_log == "on":
        return ["exceptions are logged: where one is missing here, let it happen again and ask once more"]
    more = ", once more: there were too many" if machine.trap_log == "ended" else ""
    await machine.log_traps()
    again = "" if machine.tells_faults else ", or boot it again: they are logged from its start then"
    return [f"exceptions are logged from now on{more}; let it happen again{again}, and ask once more"]


async def _places(
    guest: Guest, debugger: Debugger | None, addresses: Iterable[int], told: Explained, *, was_reset: bool
) -> dict[int, Place]:
    """What is at those addresses; without a gdb they stand for themselves.

    A name is left out where other code is in memory than its file has there, unless the guest `was_reset` since.
    """
    if not (wanted := list(dict.fromkeys(addresses))):
        return {}
    try:
        if debugger is not None:
            found = {each: await place_at(debugger.gdb, each) for each in wanted}
        else:
            found, notes = await places(symbols_of(guest.machine), guest.machine.spec.source, wanted)
            told.notes += notes
    except DebugError as error:
        told.notes.append(f"no function and no line is told: {error}")
        return {each: Place(f"{each:#x}") for each in wanted}
    if was_reset or not guest.machine.running:
        return found
    return await _true(guest.machine, found, told)


async def _true(machine: Machine, found: dict[int, Place], told: Explained) -> dict[int, Place]:
    """The same, without names that are not of what is in memory there."""
    code, read = await Code.read(machine.spec.symbols), partial(peek, machine)
    named = [each for each in found if found[each].function]
    wrong = [each for each in named if await code.look(each, read) == "other"]
    if wrong:
        told.notes.append(str(await code.moved(wrong[0], read) or code.told(wrong[0])))
    elif found and not named and (moved := await code.moved(next(reversed(found)), read)):
        told.notes.append(str(moved))
    without = {*wrong, *(each for each in named if code.has_none(each))}
    return {each: Place(place.address) if each in without else place for each, place in found.items()}
