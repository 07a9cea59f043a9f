"""What a console's lines tell of trouble: a kernel that gives up, and one that goes on after a fault. Pure.

The console is the guest's word and may say anything. So only lines count that begin as a kernel's own do. What somebody
has typed is no kernel's word where it comes back, unless it has a time or a level in front of it; and a kernel that
gives up is believed only as long as the guest gives no sign of life.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from rawtap.untrusted import visible

_SHOWN = 200  # characters of a line
_READ = 600  # bytes of a line
_MORE_LINES = 40  # behind the first, in which its details are looked for
_MORE_SHOWN = 3
_SAME_LINES = 3  # a report may begin with several lines that could each begin one
_KEPT = 20
_SHORTEST = 7  # bytes of a command that can have a kernel's words in it

PANIC = "kernel panic"
KERNEL_FAULTS = {"oops", "BUG"}  # of those that a kernel survives, the ones to which an exception of its own leads

# A time, a level, a processor or a name in brackets may stand in front: "[    1.234567] ", "<0>", "[kernel] ".
_FRONT = rb"(?P<front>(?:[<\[(][^\n\])>]{0,40}[\])>]:? ?){0,3})"
_LAST_WORDS = re.compile(
    _FRONT + rb"(?P<said>"
    rb"Kernel panic - not syncing"  # Linux, kernel/panic.c
    rb"|panic(?:\(cpu \d{1,4} [^)\n]{0,40}\))?: "  # the BSDs, xv6, XNU
    rb"|KERNEL PANIC\b|Kernel panic: |PANIC: "
    rb"|Fatal (?:trap|double fault|exception)\b"  # FreeBSD, sys/amd64/amd64/trap.c; RTEMS
    rb"|fatal .{1,40} in (?:supervisor|user) mode"  # NetBSD, sys/arch/amd64/amd64/trap.c
    rb"|uvm_fault\("  # NetBSD and OpenBSD
    rb"|(?:[\w' -]{1,60} )?[Pp]anicked at [^\n]{1,120}:\d"  # Rust's core::panic has the place: file:line:column
    rb"|Unhandled exception: "  # U-Boot, arch/riscv/lib/interrupts.c
    rb"|### ERROR ### Please RESET the board ###"  # U-Boot, lib/hang.c
    rb"|sbi_trap_error: "  # OpenSBI, lib/sbi/sbi_trap.c
    rb"|(?:\w{1,20}: )?>>> ZEPHYR FATAL ERROR"
    rb"|\*\*\* STACK OVERFLOW IN TASK |Stack overflow in task |vApplicationStackOverflowHook|ASSERT(?:ION)? [Ff]ailed"
    rb"|Malloc failed hook|vApplicationMallocFailedHook|configASSERT"  # FreeRTOS: what its hooks commonly print
    rb"|Guru Meditation Error: "  # ESP-IDF
    rb"|X64 Exception Type|!!!! "  # EDK II, UefiCpuPkg
    rb"|You need to load the kernel first"  # GRUB
    rb"|ASSERT failed|KERNEL FAULT|HardFault\b"
    rb")",
)
_FAULTS: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (kind, re.compile(_FRONT + rb"(?P<said>" + words + rb")"))
    for kind, words in (
        ("KASAN", rb"BUG: K[A-Z]*SAN: "),  # lib/kasan, kmsan, kcsan, kfence
        ("KFENCE", rb"BUG: KFENCE: "),
        ("UBSAN", rb"UBSAN: "),
        ("soft lockup", rb"watchdog: BUG: soft lockup|BUG: soft lockup"),
        ("hard lockup", rb"(?:NMI )?[Ww]atchdog:? (?:detected|Watchdog detected) hard LOCKUP"),
        ("oops", rb"BUG: kernel NULL pointer|BUG: unable to handle |Oops(?: - [^:]{1,60})?:? "),
        ("oops", rb"Unable to handle kernel |Internal error: |general protection fault|Oops \["),
        ("BUG", rb"kernel BUG at |BUG: "),
        ("hung task", rb"INFO: task \S{1,40} blocked for more than "),
        ("RCU stall", rb"(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected |rcu: INFO: |INFO: rcu_\w+ detected "),
        ("lockdep", rb"WARNING: (?:possible (?:circular|recursive|irq)|inconsistent lock|bad unlock|suspicious RCU)"),
        ("out of memory", rb"Out of memory: Kill|\S{1,40} invoked oom-killer: |Memory cgroup out of memory: "),
        ("WARNING", rb"WARNING: CPU: "),
        ("file system", rb"EXT4-fs error|XFS \([^)]{1,30}\): (?:Corruption|Internal error)|BTRFS (?:error|critical)"),
    )
)
_STAMP = re.compile(rb"\[ *\d+\.\d{3,6}\]|<\d>")
_DETAIL = re.compile(
    rb"(?:Oops:? |RIP: |pc : |lr : |epc ?:|PC is at |CPU: .*(?:Comm|PID): |(?:Read|Write) of size |Workqueue: "
    rb"|Unable to mount|Killed process |E: |[Cc]urrent thread|curproc|scause|sepc|mcause"
    rb"|cause:)"
)


@dataclass
class Trouble:
    """One: its kind, where in the stream its first line begins, and its lines."""

    kind: str
    at: int
    lines: list[str] = field(default_factory=list)
    looked_at: int = 0

    def __str__(self) -> str:
        first, *more = self.lines
        behind = f" (then {', '.join(map(repr, more))})" if more else ""
        return f"{self.kind}: {first!r} on the console{behind}"


def _shown(raw: bytes) -> str:
    return visible(raw.decode("utf-8", errors="backslashreplace")).strip()[:_SHOWN]


class Signs:
    """The troubles of one console, from its lines as they come.

    Attributes:
        alive_at: Up to there the guest has shown since that it lives: no panic before it counts.
    """

    def __init__(self) -> None:
        self.found: list[Trouble] = []
        self.alive_at = 0
        self._line = bytearray()  # the beginning of the one that is coming
        self._line_at = 0
        self._at = 0
        self._typed: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """What came."""
        lines = re.split(rb"[\r\n]", data)
        for number, part in enumerate(lines):
            if len(self._line) < _READ:
                self._line += part[: _READ - len(self._line)]
            self._at += len(part)
            if number < len(lines) - 1:
                self._end_line()
                self._at += 1
                self._line_at = self._at

    def _end_line(self) -> None:
        if self._line:
            self._look(bytes(self._line), self._line_at)
            self._line.clear()

    def typed(self, command: bytes) -> None:
        """That was typed: where it comes back it is no kernel's word."""
        if len(command) >= _SHORTEST:
            self._typed = [*self._typed[-7:], command]

    def alive(self, position: int) -> None:
        """The guest has shown that it lives: a prompt of its own, or the echo of what was typed, up to there."""
        self.alive_at = max(self.alive_at, position)

    def restarted(self, at: int | None = None) -> None:
        """It began anew, there or here: what was before is over, and so is the line that had begun."""
        at = self._at if at is None else at
        self.found = [each for each in self.found if each.at >= at]
        if self._line_at < at:
            self._line.clear()
            self._line_at = self._at
        self.alive(at)

    def _look(self, line: bytes, at: int) -> None:
        last = self.found[-1] if self.found else None
        if (trouble := self._trouble(line, at)) is not None:
            if last and last.kind == trouble.kind != PANIC and last.looked_at < _SAME_LINES:
                last.lines += trouble.lines[: _MORE_SHOWN + 1 - len(last.lines)]
            elif len(self.found) < _KEPT:
                self.found.append(trouble)
            else:
                self.found[-1] = trouble
        elif last:
            self._add_detail(last, line)

    def _trouble(self, line: bytes, at: int) -> Trouble | None:
        if match := _LAST_WORDS.match(line):
            return None if self._was_typed(line[match.start("said") :]) else self._new(PANIC, line, match, at)
        for kind, pattern in _FAULTS:
            if match := pattern.match(line):
                genuine = _STAMP.search(match["front"]) or not self._was_typed(line[match.start("said") :])
                return self._new(kind, line, match, at) if genuine else None
        return None

    @staticmethod
    def _new(kind: str, line: bytes, match: re.Match[bytes], at: int) -> Trouble:
        return Trouble(kind, at, [_shown(line[match.start("said") :])])

    def _was_typed(self, said: bytes) -> bool:
        """Whether that stood in a command: what a command prints of itself is no kernel's word."""
        return any(said.strip() in command for command in self._typed)

    @staticmethod
    def _add_detail(trouble: Trouble, line: bytes) -> None:
        trouble.looked_at += 1
        text = re.sub(rb"\A" + _FRONT, b"", line).strip()
        if trouble.looked_at <= _MORE_LINES and len(trouble.lines) <= _MORE_SHOWN and _DETAIL.match(text):
            trouble.lines.append(_shown(text))

    def _all(self) -> Iterable[Trouble]:
        """Those of whole lines, and of the one that stands there without an end."""
        last = self._trouble(bytes(self._line), self._line_at) if self._line else None
        return [*self.found, *([last] if last else [])]

    def panic(self, since: int = 0) -> Trouble | None:
        """The first in which the kernel gives up, as long as the guest has not shown since that it lives."""
        begin = max(since, self.alive_at)
        return next((each for each in self._all() if each.kind == PANIC and each.at >= begin), None)

    def faults(self, since: int = 0) -> list[Trouble]:
        """Those that the kernel survived, one of a kind, since it began."""
        kinds: dict[str, Trouble] = {}
        for each in self._all():
            if each.kind != PANIC and each.at >= since:
                kinds.setdefault(each.kind, each)
        return list(kinds.values())
