"""Why a guest ended, or what is wrong with one that runs, in a line. Pure.

What QEMU tells goes before what the console shows: the console is the guest's word, and may say anything.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass

BY_ITSELF = "guest ended by itself"
_SHOWN = 200  # characters of a line
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}

Event = tuple[int, str, str]  # nanoseconds since 1970, name, data as JSON


@dataclass(frozen=True)
class Clues:
    """What a guest left behind, or has shown so far.

    `events` are its newest QMP events; `panic` and `faults` what its console tells (`signs`), in words. `loop` and
    `fault` are what its resets tell (`resets`), and `reset` what one is at which it ends, where QEMU tells of the
    processor's own. One that never `ran` cannot have ended QEMU; one that has isa-debug-exit,
    of which `may_exit` tells, did so where QEMU itself complained of nothing. `lost` is what it was lent by the host,
    and has no more, in words.
    """

    events: Sequence[Event] = ()
    panic: str | None = None
    faults: Sequence[str] = ()
    loop: str | None = None
    fault: str | None = None
    reset: str | None = None
    ran: bool = True
    may_exit: bool = False
    lost: Sequence[str] = ()


def trouble(clues: Clues) -> str | None:
    """What is wrong with a guest, as far as QEMU or its console tells; None where nothing is known to be."""
    found = [*clues.lost]
    if clues.panic is not None:
        found.append(clues.panic)
    elif is_panic(clues):
        found.append("kernel panic, as the guest told QEMU (GUEST_PANICKED)")
    found += clues.faults
    if actions := [_field(data, "action") for _, name, data in clues.events if name == "WATCHDOG"]:
        found.append(f"watchdog {actions[-1]}")
    if clues.loop is not None:
        found.append(clues.loop)
    elif clues.fault is not None:
        found.append(clues.fault)
    return "; ".join(found) or None


def is_panic(clues: Clues) -> bool:
    """Whether the kernel gave up, as its console or QEMU tells."""
    told = (name in {"GUEST_PANICKED", "GUEST_CRASHLOADED"} for _, name, _ in since_reset(clues.events))
    return clues.panic is not None or any(told)


def kept(clues: Clues) -> str | None:
    """Of a guest that powered off and whose QEMU stays: so it says; None for one that did not."""
    is_off = any(name == "SHUTDOWN" for _, name, _ in since_reset(clues.events))
    return 'it powered off or was reset, and QEMU keeps it as it was (on_shutdown="pause")' if is_off else None


def since_reset(events: Sequence[Event]) -> Sequence[Event]:
    """Those behind the last reset: what was before it is over."""
    last = max((number for number, each in enumerate(events) if each[1] == "RESET"), default=-1)
    return events[last + 1 :]


def _field(data: str, key: str) -> str:
    """A text of an event's data, made for words: "" where it is not there."""
    try:
        found = json.loads(data)[key] if data else ""
    except (ValueError, KeyError, TypeError):
        return ""
    return str(found)[:_SHOWN]


def end_reason(code: int, cause: str | None, led_by: str, clues: Clues) -> str:
    """Why QEMU ended, in a line.

    `cause` is QEMU's own word (qapi/run-state.json, ShutdownCause), where it had time for one; `led_by` what this
    program did last to end it, or BY_ITSELF.
    """
    how = _from_qemu(cause, clues) if cause else _from_code(code, clues) if led_by == BY_ITSELF else led_by
    wrong = trouble(clues)
    return f"{wrong}; {how}" if wrong else how


def _from_qemu(cause: str, clues: Clues) -> str:
    if cause != "guest-reset":
        return cause
    if clues.fault:  # told before this
        return f"{cause}, at which QEMU ends"
    bitten = any(name == "WATCHDOG" for _, name, _ in clues.events)
    how = "watchdog reset" if bitten else clues.reset or "a reboot, or on x86 a triple fault"
    return f"{cause}: {how}, at which QEMU ends"


def _from_code(code: int, clues: Clues) -> str:
    """For a QEMU that said nothing: killed, failed, or ended by a guest's device, of which QEMU 7 does not tell."""
    if code == 0:
        return BY_ITSELF
    if code > 0:
        return _from_failure(code, clues)
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by the signal {-code}"
    if number in _CRASHES:
        return f"QEMU crashed ({number.name})"
    by_kernel = ", or by the kernel for want of memory" if number is signal.SIGKILL else ""
    return f"killed by {number.name}, from outside{by_kernel}"


def _from_failure(code: int, clues: Clues) -> str:
    if not clues.ran:
        return "QEMU failed, before the guest began"
    if clues.may_exit and code & 1:  # twice the value and one (qemu/hw/misc/debugexit.c)
        return f"the guest ended QEMU: it wrote {code >> 1:#x} to isa-debug-exit"
    return f"QEMU failed, or the guest ended it with the failure code {code} (a test device's)"
