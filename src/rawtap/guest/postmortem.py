"""Why a guest ended, or what is wrong with one that runs, in a line. Pure.

What QEMU tells goes before what the console shows: the console is the guest's word, and may say anything. So its
lines are quoted, and only those count that begin as a kernel's last words do.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from rawtap.untrusted import visible

TAIL_BYTES = 1 << 16  # of a console: a kernel's last words come before a dump of its stack
BY_ITSELF = "guest ended by itself"
_SHOWN = 200  # characters of a line
_LOOP_RESETS = 3  # so many of them, each soon after the one before, are no restart that somebody asked for
_LOOP_NS = 20_000_000_000

_COLOUR = re.compile(rb"\x1b\[[0-9;]{0,20}m")
# Each begins a line, behind a time, a level or a name in brackets at most: "[    1.234567] ", "<0>", "[kernel] ".
_LAST_WORDS = re.compile(
    rb"^(?:[<\[(][^\n\])>]{0,40}[\])>]:? ?){0,3}"
    rb"((?:"
    rb"Kernel panic - not syncing"  # Linux, kernel/panic.c
    rb"|panic(?:\(cpu \d{1,4} [^)\n]{0,40}\))?: "  # the BSDs, xv6, XNU
    rb"|KERNEL PANIC\b|Kernel panic: |PANIC: "
    rb"|(?:[\w' -]{1,60} )?[Pp]anicked at [^\n]{1,120}:\d"  # Rust's core::panic has the place: file:line:column
    rb"|Unhandled exception: "  # U-Boot, arch/riscv/lib/interrupts.c
    rb"|### ERROR ### Please RESET the board ###"  # U-Boot, lib/hang.c
    rb"|sbi_trap_error: "  # OpenSBI, lib/sbi/sbi_trap.c
    rb"|>>> ZEPHYR FATAL ERROR"
    rb")[^\n]{0,400})",
    re.MULTILINE,
)

_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}

Event = tuple[int, str, str]  # nanoseconds since 1970, name, data as JSON


@dataclass(frozen=True)
class Clues:
    """What a guest left behind, or has shown so far: its newest QMP events, and the end of its console."""

    events: Sequence[Event] = ()
    tail: bytes = b""


def last_words(tail: bytes) -> str | None:
    """The line in which a kernel gives up, the first of them; None where there is none."""
    match = _LAST_WORDS.search(_COLOUR.sub(b"", tail.replace(b"\r", b"\n")))
    return visible(match[1].decode("utf-8", errors="backslashreplace")).strip()[:_SHOWN] if match else None


def trouble(clues: Clues) -> str | None:
    """What is wrong with a guest, as far as QEMU or its console tells; None where nothing is known to be."""
    found = []
    if (line := last_words(clues.tail)) is not None:
        found.append(f"kernel panic: {line!r} on the console")
    elif any(name in {"GUEST_PANICKED", "GUEST_CRASHLOADED"} for _, name, _ in clues.events):
        found.append("kernel panic, as the guest told QEMU (GUEST_PANICKED)")
    if actions := [_field(data, "action") for _, name, data in clues.events if name == "WATCHDOG"]:
        found.append(f"watchdog {actions[-1]}")
    if (loop := _reboot_loop(clues.events)) is not None:
        found.append(loop)
    return "; ".join(found) or None


def _reboot_loop(events: Sequence[Event]) -> str | None:
    """In words, if the newest resets came soon one after the other. QEMU does not tell a triple fault from a reset."""
    times = [at for at, name, data in events if name == "RESET" and _field(data, "reason") == "guest-reset"]
    newest = times[-_LOOP_RESETS:]
    if len(newest) < _LOOP_RESETS or newest[-1] - newest[0] > _LOOP_NS:
        return None
    seconds = (newest[-1] - newest[0]) / 1e9
    return f"reboot loop: the last {_LOOP_RESETS} resets within {seconds:.2g} s (on x86 a triple fault is one)"


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
    how = _from_qemu(cause, clues) if cause else _from_code(code) if led_by == BY_ITSELF else led_by
    wrong = trouble(clues)
    return f"{wrong}; {how}" if wrong else how


def _from_qemu(cause: str, clues: Clues) -> str:
    if cause != "guest-reset":
        return cause
    bitten = any(name == "WATCHDOG" for _, name, _ in clues.events)
    return f"{cause}: {'watchdog reset' if bitten else 'a reboot, or on x86 a triple fault'}, at which QEMU ends"


def _from_code(code: int) -> str:
    """For a QEMU that said nothing: killed, failed, or ended by a guest's device, of which QEMU 7 does not tell."""
    if code == 0:
        return BY_ITSELF
    if code > 0:
        return f"QEMU failed, or the guest ended it with the failure code {code} (a test device's)"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by the signal {-code}"
    if number in _CRASHES:
        return f"QEMU crashed ({number.name})"
    by_kernel = ", or by the kernel for want of memory" if number is signal.SIGKILL else ""
    return f"killed by {number.name}, from outside{by_kernel}"
