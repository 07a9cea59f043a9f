"""What QEMU's log tells of the exceptions of RISC-V's and Arm's processors (`-d int`). Pure.

RISC-V (qemu/target/riscv/cpu_helper.c) has a line for each, and none for a return:

    riscv_cpu_do_interrupt: hart:0, async:0, cause:0000000000000005, epc:0x..., tval:0x..., desc=fault_load

Arm (qemu/target/arm/helper.c, m_helper.c) has several, and one for a return (helper-a64.c, cpsr_write):

    Taking exception 4 [Data Abort] on CPU 0
    ...from EL1 to EL1
    ...with ESR 0x25/0x96000050
    ...with FAR 0xdead00000
    ...with ELR 0x40080f34
    ...to EL1 PC 0x40081200 PSTATE 0x3c5
    Exception return from AArch64 EL1 to AArch64 EL1 PC 0x40080f38

An AArch32 has `...with DFSR 0x8 DFAR 0xdead0000`, or IFSR and IFAR, and no word of where the instruction was.

An exception that comes again and again is kept once: a handler that faults itself writes as many as QEMU can, and what
led to the first of them must not be lost in these. It is known again by its instruction's address, not by that which it
was about, since a handler that pushes onto a bad stack goes down that with each.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

_KEPT = 32
_MOST_LINES = 32  # of one exception's
_RISCV = re.compile(
    rb"riscv_cpu_do_interrupt: hart:(\d+), async:([01]), cause:([0-9a-f]+), epc:0x([0-9a-f]+), tval:0x([0-9a-f]+),"
    rb" desc=(.*)"
)
_RISCV_CALLS = range(8, 12)  # environment calls, of each level
_ARM = re.compile(rb"Taking exception \d+ \[([^\]]*)\](?: on CPU (\d+))?")
_RETURN = b"Exception return from "
_NOTHING = (b"AArch32 mode switch from ", b"Loaded reset SP ")  # to tell of
_RISCV_BEGINS = b"riscv_cpu_do_interrupt: "
_BEGINS = (_RISCV_BEGINS, b"Taking exception ", _RETURN, b"Exception return: ", *_NOTHING)
_DETAIL = b"..."
_LEVEL = re.compile(rb"\.\.\.from EL(\d) to EL\d")
_VALUE = re.compile(rb"\b(FAR|ELR|DFSR|DFAR|IFSR|IFAR|HDFAR|HIFAR|fault address) 0x([0-9a-f]+)")
_SYNDROME = re.compile(rb"\.\.\.with ESR 0x[0-9a-f]+/0x([0-9a-f]+)")
_STATUS = re.compile(rb"\b[A-Z]?FSR\.[A-Z]+")  # of a processor of the M profile
_LAST = re.compile(rb"\.\.\.(?:to EL\d |taking pending |with (?:DFSR|IFSR|HDFAR|HIFAR) ).*")  # of one's lines
_ADDRESSES = ("FAR", "DFAR", "HDFAR", "HIFAR", "IFAR", "fault address")
_PREFETCH = "Prefetch Abort"
_OF_M = b" UsageFault] "
# What a program asks for, what a device does, and what QEMU makes of an exception of its own (arm_log_exception).
_NO_EXCEPTIONS = {
    *("SVC", "Hypervisor Call", "Secure Monitor Call", "Semihosting call", "Hypervisor Trap", "Monitor Trap"),
    *("IRQ", "FIQ", "NMI", "Virtual IRQ", "Virtual FIQ", "Virtual IRQ NMI", "Virtual FIQ NMI"),
    *("QEMU v7M exception exit", "QEMU intercept of kernel commpage"),
}

_Key = tuple[object, ...]


@dataclass(frozen=True)
class Taken:
    """An exception that a processor took.

    Attributes:
        name: QEMU's word for it.
        processor: Its number.
        boot: How often the machine was reset before it.
        at: The address of the instruction, None where the log has none.
        address: What it was about, None for nothing known.
        level: Arm's exception level before.
        cause: RISC-V's number of it.
        syndrome: Arm's exception syndrome (ESR).
        data: AArch32's fault status of a data abort (DFSR).
        fetch: The same of a prefetch abort (IFSR).
        status: What an M profile's fault status registers say, like "CFSR.IBUSERR".
    """

    name: str
    processor: int = 0
    boot: int = 0
    at: int | None = None
    address: int | None = None
    level: int | None = None
    cause: int | None = None
    syndrome: int | None = None
    data: int | None = None
    fetch: int | None = None
    status: str = ""

    @property
    def key(self) -> _Key:
        """What it is known by when it comes again. The last is its place, or where that is not told, the address."""
        what = (self.boot, self.level, self.name, self.cause, self.syndrome, self.data, self.fetch, self.status)
        return (*what, self.address if self.at is None else self.at)


@dataclass
class Seen:
    """An exception, and how often it came.

    Attributes:
        taken: The newest of them.
        first: The address that the first one was about.
        count: Of all.
        row: How many came in a row, without an interrupt, a call or another exception in between.
        inside: Whether the newest came before the handler of the exception before it had returned.
        own: How many came so inside the handler of their own kind.
    """

    taken: Taken
    first: int | None
    count: int = 0
    row: int = 0
    inside: bool = False
    own: int = 0


class Tally:
    """Exceptions, each once, with how often it came and inside of what."""

    def __init__(self) -> None:
        self.seen: dict[_Key, Seen] = {}  # the newest last
        self._before: dict[int, _Key] = {}  # what each processor took last
        self._inside: dict[int, _Key] = {}  # the same, where returns are told, and its handler has not returned

    def begin(self) -> None:
        """What comes next does not follow what came before: lines in between were not logged."""
        self._before.clear()
        self._inside.clear()

    def interrupt(self, processor: int) -> None:
        """It took an interrupt or a call: what comes next is neither inside of what was before nor in a row."""
        self._before.pop(processor, None)
        self._inside.pop(processor, None)

    def returned(self) -> None:
        """A handler has returned; of which processor is not told."""
        self._inside.clear()

    def note(self, taken: Taken, *, returns_are_told: bool) -> None:
        """One more."""
        key, before, inside = taken.key, self._before.get(taken.processor), self._inside.get(taken.processor)
        if taken.at is None and inside is not None and inside[:-1] == key[:-1]:
            key = inside  # one place of a handler's, as far as one can know
        seen = self.seen.pop(key, None) or Seen(taken, taken.address)
        seen.taken = taken
        seen.count += 1
        seen.row = seen.row + 1 if before == key else 1
        seen.inside = inside is not None
        seen.own += inside == key
        self.seen[key] = seen
        if len(self.seen) > _KEPT:
            del self.seen[self._least()]
        self._before[taken.processor] = key
        if returns_are_told:
            self._inside[taken.processor] = key

    def _least(self) -> _Key:
        """The oldest, of programs' before others: a kernel runs on after a fault of its own, and starts others."""
        *older, _ = self.seen
        return next((each for each in older if self.seen[each].taken.level == 0), older[0])


class ExceptionLog:
    """Takes the exceptions out of the log's lines.

    Attributes:
        boot: How often the machine was reset since the beginning.
    """

    def __init__(self) -> None:
        self.boot = 0
        self._tally = Tally()
        self._lines: list[bytes] = []  # of an Arm's exception, of which more may come
        self._is_arm = False
        self._is_64 = False  # as far as has been seen
        self._last: tuple[list[bytes], Taken] | None = None  # the newest, and its lines

    def begin(self) -> None:
        """What comes next does not follow what came before: lines in between were not logged."""
        self._end_arms()
        self._tally.begin()

    def restarted(self) -> None:
        """The machine was reset."""
        self.begin()
        self.boot += 1
        self._last = None

    def newest(self) -> list[Seen]:
        """Those that are kept, the newest last."""
        tally = copy.deepcopy(self._tally)
        if self._lines and self._is_whole(self._lines):
            tally.note(_of_arm(self._lines, self.boot), returns_are_told=True)
        return [*tally.seen.values()]

    def take(self, line: bytes) -> bool:
        """Whether that line is one of the log's."""
        if line.startswith(_DETAIL):
            if 0 < len(self._lines) < _MOST_LINES:
                self._lines.append(line)
            return self._is_arm
        if not line.startswith(_BEGINS):
            return False
        self._end_arms()
        if line.startswith(_RISCV_BEGINS):
            self._note_riscv(line)
        elif match := _ARM.fullmatch(line):
            self._is_arm = True
            if _word(match[1]) in _NO_EXCEPTIONS:
                self._tally.interrupt(int(match[2] or 0))
            else:
                self._lines = [line]
        elif not line.startswith(_NOTHING):
            self._tally.returned()
        return True

    def _note_riscv(self, line: bytes) -> None:
        if self._last is None or self._last[0] != [line]:  # a handler that faults itself writes the same
            if (match := _RISCV.fullmatch(line)) is None:
                return
            processor, is_interrupt, cause = int(match[1]), match[2] == b"1", int(match[3], 16)
            if is_interrupt or cause in _RISCV_CALLS:
                self._tally.interrupt(processor)
                return
            at, value, name = int(match[4], 16), int(match[5], 16), _word(match[6]).replace("_", " ")
            self._last = ([line], Taken(name, processor, self.boot, at, value, cause=cause))
        self._tally.note(self._last[1], returns_are_told=False)

    def _is_whole(self, lines: list[bytes]) -> bool:
        """Whether the last line of an Arm's has come, as far as one can know: what is read may end between two."""
        if any(map(_LAST.fullmatch, lines)) or _OF_M in lines[0]:
            return True
        return b"[Undefined Instruction]" in lines[0] and bool(_SYNDROME.fullmatch(lines[-1])) and not self._is_64

    def _end_arms(self) -> None:
        """All is known of it."""
        if self._lines:
            if self._last is None or self._last[0] != self._lines:  # a handler that faults itself writes the same
                self._last = (self._lines, _of_arm(self._lines, self.boot))
                self._is_64 |= any(line.startswith(b"...with ELR ") for line in self._lines)
            self._tally.note(self._last[1], returns_are_told=True)
            self._lines = []


def _of_arm(lines: list[bytes], boot: int) -> Taken:
    """An Arm's exception of its lines, the first of which is _ARM's."""
    match = _ARM.fullmatch(lines[0])
    name, processor = (_word(match[1]), int(match[2] or 0)) if match else ("", 0)
    values: dict[str, int] = {}
    status: list[str] = []
    for line in lines[1:]:
        if match := _LEVEL.fullmatch(line):
            values["EL"] = int(match[1])
        elif match := _SYNDROME.fullmatch(line):
            values["ESR"] = int(match[1], 16)
        else:
            values |= {_word(each): int(number, 16) for each, number in _VALUE.findall(line)}
            status += map(_word, _STATUS.findall(line))
    return Taken(
        name,
        processor,
        boot,
        at=values.get("ELR", values.get("IFAR") if name == _PREFETCH else None),
        address=next((values[each] for each in _ADDRESSES if each in values), None),
        level=values.get("EL"),
        syndrome=values.get("ESR"),
        data=values.get("DFSR"),
        fetch=values.get("IFSR"),
        status=" ".join(status),
    )


def _word(raw: bytes) -> str:
    return raw.decode("ascii", errors="replace")
