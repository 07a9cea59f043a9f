"""A crash explained: which exception led to which, at which line, and what happened before it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from rawtap.ask.happened import before
from rawtap.debug.debugger import Debugger
from rawtap.debug.places import place_at, places
from rawtap.debug.stops import Place
from rawtap.errors import DebugError
from rawtap.guest import traps
from rawtap.guest.machine import Crash, Machine
from rawtap.lab.debugging import symbols_of
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab

_SHOWN_TRAPS = 5


@dataclass
class Explained:
    """What is known of it, in lines; the console's end and the packets before it; and what else is to be known."""

    lines: list[str] = field(default_factory=list)
    console: str = ""
    packets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def explain(lab: Lab, guest: Guest, debugger: Debugger | None) -> Explained:
    """The newest triple fault of an x86's, and the exceptions that it took since, where QEMU emulates the processor.

    QEMU's log of exceptions is begun, if it is not there.

    Raises:
        GuestExited, GuestFailed: The guest has ended, or QEMU does not answer.
    """
    machine = guest.machine
    if not machine.tells_faults:
        return Explained([_why_not(machine)])
    crash = machine.crash
    told = Explained([_when(crash) if crash else "no triple fault was seen"])
    steps: list[tuple[str, int | None]] = list(traps.chain(crash.fault)) if crash else []
    if taken := [each for each in machine.traps if each.taken is not None][-_SHOWN_TRAPS:]:
        steps.append(("the exceptions that it took last, of which a kernel may have wanted each:", None))
        steps += [(f"{traps.told(each)}, stack pointer {each.stack:#x}", each.at) for each in taken]
    found = await _places(guest, debugger, [at for _, at in steps if at is not None], told)
    told.lines += [line if at is None else f"{line}, at {found[at]}" for line, at in steps]
    if crash:
        happened = await before(lab, guest, crash.position, crash.at_ns)
        told.console, told.packets = happened.console, happened.packets
        told.notes += happened.notes
    if machine.spec.profile.smp > 1 and steps:
        told.notes.append("it has several processors, whose exceptions may be mixed here")
    told.notes += await _logged(machine)
    return told


def _when(crash: Crash) -> str:
    lacking = "" if crash.fault.traps else ", and exceptions were not logged then: what led to it is not known"
    return f"a triple fault, {(time.time_ns() - crash.at_ns) / 1e9:.1f} s ago{lacking}"


def _why_not(machine: Machine) -> str:
    if machine.spec.is_x86:
        return 'under KVM QEMU sees no exception of the guest\'s; icount = "auto" in its profile has it emulated'
    return 'QEMU\'s log of exceptions is read on x86; here the registers tell: attach, interrupt, and see "warnings"'


async def _logged(machine: Machine) -> list[str]:
    """Have exceptions logged from now on; what is to be known of that."""
    if not machine.running:
        return ["the next qemu_boot of that name logs exceptions from the start"] if machine.crash else []
    if machine.trap_log == "on":
        return ["exceptions are logged: where one is missing here, let it happen again and ask once more"]
    more = ", once more: there were too many" if machine.trap_log == "ended" else ""
    await machine.log_traps()
    return [f"exceptions are logged from now on{more}; let it happen again and ask once more"]


async def _places(
    guest: Guest, debugger: Debugger | None, addresses: Iterable[int], told: Explained
) -> dict[int, Place]:
    """What is at those addresses; without a gdb they stand for themselves."""
    if not (wanted := list(dict.fromkeys(addresses))):
        return {}
    try:
        if debugger is not None:
            return {each: await place_at(debugger.gdb, each) for each in wanted}
        found, notes = await places(symbols_of(guest.machine), guest.machine.spec.source, wanted)
    except DebugError as error:
        found, notes = {each: Place(f"{each:#x}") for each in wanted}, [f"no function and no line is told: {error}"]
    told.notes += notes
    return found
