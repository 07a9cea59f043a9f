"""What QEMU writes to stderr: its own words, and what its log tells of a processor's exceptions and resets.

On x86 QEMU's events do not tell a triple fault from a reset that was asked for. Its log does (`-d cpu_reset`), where it
emulates the processor: before the RESET event come "Triple fault" and the registers as they were (target/i386/tcg).
With `-d int` each exception comes before that, and which was being delivered when it was raised:

    check_exception old: 0xe new 0xd
         1: v=08 e=0000 i=0 cpl=0 IP=0008:0000000000100965 pc=0000000000100965 SP=0010:0000000000116f80 ...

The second line is left out where the processor gives up. What other processors' log looks like, `exception_log` knows.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO

from rawtap.guest.block_log import BlockLog
from rawtap.guest.exception_log import ExceptionLog
from rawtap.guest.log_part import LogPart
from rawtap.guest.translation_log import TranslationLog

_KEPT = 16384
_KEPT_TRAPS = 32
_KEPT_OWN = 12  # places
_READ = 65536
MOST_LOG = 64 << 20  # bytes: some 30,000 exceptions
_MOST_READS = 16  # at once: a guest may fault as fast as QEMU can write, and a pipe holds one of them
_FAULT = b"Triple fault"
_DUMP = re.compile(rb"CPU Reset \(CPU \d+\)")
_REGISTERS = re.compile(rb"(?:[ER][A-Z0-9]{2}|R\d\d?|[C-GS]S|[LGI]DT|TR|CR0|DR\d|CCS|EFER|FCW|FPR\d|XMM\d\d) ?=")
_FIRMWARE = range(0xE0000, 0x100000)  # where SeaBIOS is, which resets a machine so when it is asked to
_PLACE = re.compile(rb"\b[ER]IP=([0-9a-f]+)")
_ADDRESS = re.compile(rb"\bCR2=([0-9a-f]+)")
_TABLE = re.compile(rb"IDT= *([0-9a-f]+) ([0-9a-f]+)")
_RAISED = re.compile(rb"check_exception old: 0x([0-9a-f]+) new 0x([0-9a-f]+)")
_TAKEN = re.compile(
    rb" *\d+: v=([0-9a-f]+) e=([0-9a-f]+) i=\d cpl=(\d) IP=[0-9a-f]+:([0-9a-f]+) pc=[0-9a-f]+"
    rb" SP=[0-9a-f]+:([0-9a-f]+) .*"
)
_OTHER = re.compile(rb"Servicing (?:hardware|virtual hardware) INT=.*|SMM: (?:enter|after RSM)")
_NONE = 0xFFFFFFFF
_PROGRAMS = 3  # the privilege level
_OF_HANDLERS = 2  # in an error code: it names an entry of the IDT (Intel SDM volume 3, 6.13)


@dataclass(frozen=True, slots=True)
class Trap:
    """An exception.

    Attributes:
        raised: Its vector (Intel SDM volume 3, 6.15).
        during: That of the exception that was being delivered, None for an exception of the program's.
        taken: The vector that the processor went to, 8 where it made a double fault of the two; None where it gave up.
        error: Its error code.
        level: The privilege level before, 3 for a program's.
        at: The address of the instruction.
        stack: The stack pointer.
        address: Of a page fault (CR2), whichever was the last one.
    """

    raised: int
    during: int | None = None
    taken: int | None = None
    error: int = 0
    level: int = 0
    at: int = 0
    stack: int = 0
    address: int = 0

    @property
    def is_kernels(self) -> bool:
        """Whether the processor took it from what is no program's level."""
        return self.taken is not None and self.level < _PROGRAMS

    def is_of_handler(self, other: Trap) -> bool:
        """Whether it is that the other one's handler cannot be used.

        QEMU tells so of those only of which two make a double fault; of others the error code does. In 64-bit mode
        that has the vector twice as large as it should be, in some versions.
        """
        named = {self.error >> 3, self.error >> 4} if self.error & _OF_HANDLERS else set()
        return self.during is None and self.at == other.at and other.raised in named


@dataclass(frozen=True)
class TripleFault:
    """One: where the processor was (None: QEMU ended at it), and which exceptions led to it, as far as it was logged.

    Attributes:
        at: The address of the instruction.
        address: Of the last page fault (CR2).
        table: Base and limit of the table of handlers (IDT).
        traps: The exceptions before it, the newest last.
    """

    at: int | None = None
    address: int = 0
    table: tuple[int, int] | None = None
    traps: tuple[Trap, ...] = ()

    @property
    def chain(self) -> tuple[Trap, ...]:
        """Those that led to one another, up to it."""
        first = max((number for number, each in enumerate(self.traps) if each.during is None), default=0)
        while first and self.traps[first].is_of_handler(self.traps[first - 1]):
            first -= 1
        return self.traps[first:]

    def __str__(self) -> str:
        about = f", CR2 {self.address:#x}" if self.address else ""
        return "" if self.at is None else f"at {self.at:#010x}{about}"


class ProcessorLog:
    """Takes the log out of what QEMU writes. Pure.

    Attributes:
        faults: How many triple faults there were.
        fault: The newest, None for none.
        traps: The newest exceptions of an x86's since, where they are logged.
        exceptions: Those of a RISC-V's or an Arm's, where they are logged.
        words: The newest of what is no log.
    """

    def __init__(self) -> None:
        self.faults = 0
        self.fault: TripleFault | None = None
        self.traps: deque[Trap] = deque(maxlen=_KEPT_TRAPS)
        self.exceptions = ExceptionLog()
        self.words = bytearray()
        self.size = 0  # bytes of the log since that began
        self._line = b""
        self._own: dict[int, Trap] = {}  # the newest of the kernel's at each place, but for the very last one
        self._fault: TripleFault | None = None  # whose registers are to come
        self._trap: Trap | None = None  # of which more is to come

    def begin_traps(self) -> None:
        """Exceptions are logged from here on, or not any more: what comes next does not follow those before."""
        self.traps.clear()
        self._own.clear()
        self._trap, self.size = None, 0
        self.exceptions.begin()

    def newest(self, most: int) -> tuple[list[Trap], list[Trap]]:
        """The newest exceptions that were taken, at most so many; in front, the kernel's that programs' pushed out.

        A kernel goes on after a fault of its own: it ends a program and starts another, which brings in its pages, and
        so does the kernel where it copies to them. So the newest of each place is told.
        """
        newest = [each for each in self.traps if each.taken is not None][-most:]
        if all(each.is_kernels for each in newest):
            return [], newest
        return [each for each in self._own.values() if each not in newest], newest

    def feed(self, data: bytes) -> None:
        """What was written."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Nothing more comes. A fault at which QEMU ends has no registers, and so no place."""
        if self._line:
            self._take(self._line)
            self._line = b""
        if self._fault is not None:
            self._note_fault(self._fault)

    def _take(self, line: bytes) -> None:
        if self.exceptions.take(line) or self._is_x86s(line):
            self.size += len(line) + 1
        else:
            self.words += line + b"\n"
            del self.words[:-_KEPT]

    def _is_x86s(self, line: bytes) -> bool:
        """Whether it is one of the log's, which is taken."""
        if _REGISTERS.match(line):
            self._look(line)
        elif match := _RAISED.fullmatch(line):
            old, new = int(match[1], 16), int(match[2], 16)
            self._note_own()
            self._trap = Trap(new, None if old == _NONE else old)
            self.traps.append(self._trap)
        elif match := _TAKEN.fullmatch(line):
            self._note_taken(*(int(each, 16) for each in match.groups()))
        elif line == _FAULT:
            self._fault, self._trap = TripleFault(traps=tuple(self.traps)), None
            self.traps.clear()
            self._own.clear()
        else:
            return bool(_DUMP.fullmatch(line) or _OTHER.fullmatch(line))
        return True

    def _note_own(self) -> None:
        """The one before the next is whole now; keep it, if it is the kernel's."""
        if self.traps and (last := self.traps[-1]).is_kernels:
            self._own.pop(last.at, None)
            self._own[last.at] = last
            if len(self._own) > _KEPT_OWN:
                del self._own[next(iter(self._own))]

    def _note_taken(self, vector: int, error: int, level: int, at: int, stack: int) -> None:
        """More of the exception that was raised; without one it was an interrupt, or asked for by an instruction."""
        if self._trap is not None and self._trap.taken is None:
            taken = replace(self._trap, taken=vector, error=error, level=level, at=at, stack=stack)
            self._trap = self.traps[-1] = taken

    def _look(self, line: bytes) -> None:
        """A line of registers: behind an exception, or the first ones behind a fault, as they were."""
        if self._fault is not None:
            self._look_at_fault(self._fault, line)
        elif self._trap is not None and line.startswith(b"CR0=") and (match := _ADDRESS.search(line)):
            self.traps[-1] = replace(self._trap, address=int(match[1], 16))
            self._trap = None

    def _look_at_fault(self, fault: TripleFault, line: bytes) -> None:
        if fault.at is None and (match := _PLACE.search(line)):
            self._fault = replace(fault, at=int(match[1], 16))
        elif match := _TABLE.match(line):
            self._fault = replace(fault, table=(int(match[1], 16), int(match[2], 16)))
        elif line.startswith(b"CR0=") and (match := _ADDRESS.search(line)):
            self._note_fault(replace(fault, address=int(match[1], 16)))

    def _note_fault(self, fault: TripleFault) -> None:
        self._fault = None
        if fault.at not in _FIRMWARE:
            self.faults, self.fault = self.faults + 1, fault


class Diagnostics:
    """Reads a child's stderr into a log, as it comes or when asked; closes the pipe at its end.

    `on_much` is called when there is more of the log than anybody could want.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self.log = ProcessorLog()
        self.blocks: BlockLog | None = None  # from the first time on that they were wanted
        self.translations: TranslationLog | None = None  # the same
        self.on_much: Callable[[], None] | None = None
        self.ended = asyncio.Event()
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe, self.drain)

    def drain(self) -> None:
        """Read what is there by now, within bounds."""
        for _ in range(_MOST_READS):
            if self.ended.is_set():
                return
            try:
                data = os.read(self._pipe.fileno(), _READ)
            except BlockingIOError:
                return
            self.log.feed(self._words(data))
            if self.log.size > MOST_LOG and self.on_much:
                self.log.size = 0
                self.on_much()
            if not data:
                asyncio.get_running_loop().remove_reader(self._pipe)
                self._pipe.close()
                self.log.end()
                self.ended.set()

    @property
    def parts(self) -> list[LogPart]:
        """Those of the log that were wanted once."""
        return [each for each in (self.translations, self.blocks) if each is not None]

    def _words(self, data: bytes) -> bytes:
        """What was written but for the logs of blocks, each of which keeps the begin of a line; b"" is the end."""
        is_end = not data
        for each in self.parts:
            if data:
                data = each.taken(data)
            if is_end:
                data += each.taken(b"")
        return data
