"""What a processor's own registers, or QEMU's log of them, tell of an exception that it took. Pure.

RISC-V: The RISC-V Instruction Set Manual, volume II, 3.1.15 and 4.1.9 (mcause, scause). AArch64: Arm Architecture
Reference Manual (DDI 0487), D19.2.37 (ESR_EL1). Arm: DDI 0406, B4.1.52 (DFSR) and B4.1.96 (IFSR), B3.13.3 (their
codes in the long format), B1.9 (the link register in an exception's mode).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NAMES = (
    *("scause", "sepc", "stval", "mcause", "mepc", "mtval"),
    *("ESR_EL1", "ELR_EL1", "FAR_EL1", "DFSR", "DFAR", "IFSR", "IFAR", "cpsr", "lr"),
)
_RISCV = {
    0: "instruction address misaligned",
    1: "instruction access fault",
    2: "illegal instruction",
    3: "breakpoint",
    4: "load address misaligned",
    5: "load access fault",
    6: "store address misaligned",
    7: "store access fault",
    12: "instruction page fault",
    13: "load page fault",
    15: "store page fault",
}
_ADDRESSED = {0, 1, 4, 5, 6, 7, 12, 13, 15}  # those whose value register is the address
_ALIGNED = 4  # bytes
_CLASSES = {
    0x00: "unknown instruction",
    0x0E: "illegal execution state",
    0x20: "instruction abort from EL0",
    0x21: "instruction abort",
    0x22: "program counter misaligned",
    0x24: "data abort from EL0",
    0x25: "data abort",
    0x26: "stack pointer misaligned",
    0x2F: "SError",
    0x3C: "breakpoint instruction",
}
_ABORTS = {0x20, 0x21, 0x24, 0x25}
_DATA_ABORTS = {0x24, 0x25}
_BY_LEVEL = {0: "address size fault", 1: "translation fault", 2: "access flag fault", 3: "permission fault"}
_FAULTS = {0x10: "external abort", 0x21: "misaligned"}
_WRITE = 1 << 6
_ARM = {
    0x01: "misaligned",
    0x02: "debug event",
    0x05: "translation fault (section)",
    0x07: "translation fault (page)",
    0x08: "external abort",
    0x0D: "permission fault (section)",
    0x0F: "permission fault (page)",
    0x16: "external abort, imprecise",
}
_OTHER = "of another kind"
_ABORT_MODE, _UNDEFINED_MODE, _MODES = 0x17, 0x1B, 0x1F
_THUMB = 1 << 5
_ARM_WRITE = 1 << 11
_LONG_FORMAT = 1 << 9


@dataclass(frozen=True)
class Fault:
    """An exception: what it was, where the instruction is, and which address it was about, None where none was."""

    what: str
    at: int | None
    address: int | None = None

    def __str__(self) -> str:
        about = "" if self.address is None else f", address {self.address:#x}"
        return f"{self.what}{about}"


def fault_of(registers: Mapping[str, int]) -> Fault | None:
    """The exception that a processor took last, as far as its registers tell; None where none is told of.

    Calls to the system and interrupts are none.
    """
    for mode in "sm":
        if f"{mode}cause" in registers and (found := _riscv(registers, mode)):
            return found
    if "ESR_EL1" in registers:
        at, address = registers.get("ELR_EL1"), registers.get("FAR_EL1")
        return of_aarch64(registers["ESR_EL1"], at, address, "ESR_EL1") if registers["ESR_EL1"] else None
    if "DFSR" in registers and registers.get("cpsr", 0) & _MODES == _ABORT_MODE:
        return _arm(registers)
    return None


def _riscv(registers: Mapping[str, int], mode: str) -> Fault | None:
    cause, value = registers[f"{mode}cause"], registers.get(f"{mode}tval")
    if cause == 0 and (value or 0) % _ALIGNED == 0:  # 0 is also a reset's
        return None
    return of_riscv(cause, registers.get(f"{mode}epc", 0), value, f"{mode}cause")


def of_riscv(cause: int, at: int | None, value: int | None, register: str) -> Fault | None:
    """A RISC-V's exception by its cause and its trap value; None for a call, an interrupt, and one without a name."""
    if cause not in _RISCV:
        return None
    return Fault(f"{_RISCV[cause]} ({register} {cause})", at, value if cause in _ADDRESSED else None)


def of_aarch64(syndrome: int, at: int | None, address: int | None, register: str) -> Fault | None:
    """An AArch64's by its syndrome, or an AArch32's that went to Hyp mode; None for a call and the like."""
    kind = syndrome >> 26 & 0x3F
    if kind not in _CLASSES:
        return None
    told = _CLASSES[kind]
    if kind in _ABORTS:
        why = _long_status(syndrome)
        told += f", {why}" if why else ""
        told += ", a write" if kind in _DATA_ABORTS and syndrome & _WRITE else ""
    return Fault(f"{told} ({register} {syndrome:#x})", at, address if kind in _ABORTS else None)


def _arm(registers: Mapping[str, int]) -> Fault | None:
    """In the mode of aborts; the link register is 4 behind a prefetch abort's instruction."""
    link = registers.get("lr")
    data, fetched = registers["DFSR"], registers.get("IFSR", 0)
    if fetched and link is not None and registers.get("IFAR") == link - 4:
        return of_prefetch_abort(fetched, link - 4, registers.get("IFAR"))
    if not data:
        return None
    return of_data_abort(data, handled_at(registers, is_data_abort=True), registers.get("DFAR"))


def of_data_abort(status: int, at: int | None, address: int | None) -> Fault:
    """An AArch32's by its DFSR."""
    write = ", a write" if status & _ARM_WRITE else ""
    return Fault(f"data abort, {_status(status)}{write} (DFSR {status:#x})", at, address)


def of_prefetch_abort(status: int, at: int | None, address: int | None) -> Fault:
    """An AArch32's by its IFSR."""
    return Fault(f"prefetch abort, {_status(status)} (IFSR {status:#x})", at, address)


def handled_at(registers: Mapping[str, int], *, is_data_abort: bool) -> int | None:
    """Where the instruction is whose exception an AArch32's handler has begun with; None where it is in no such mode.

    By the link register, which a handler is free to change.
    """
    status, link = registers.get("cpsr", 0), registers.get("lr")
    if link is None:
        return None
    if is_data_abort:
        return link - 8 if status & _MODES == _ABORT_MODE else None
    return link - (2 if status & _THUMB else 4) if status & _MODES == _UNDEFINED_MODE else None


def _status(value: int) -> str:
    if value & _LONG_FORMAT:
        return _long_status(value) or _OTHER
    return _ARM.get((value & 0xF) | (value >> 6 & 0x10), _OTHER)


def _long_status(value: int) -> str:
    """A status code of the long format, which is AArch64's too; "" for one without a name."""
    status = value & 0x3F
    return _FAULTS.get(status) or _BY_LEVEL.get(status >> 2, "")
