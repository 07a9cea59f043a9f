"""What a processor's own registers tell of the last exception that it took. Pure.

RISC-V: The RISC-V Instruction Set Manual, volume II, 3.1.15 and 4.1.9 (mcause, scause). AArch64: Arm Architecture
Reference Manual (DDI 0487), D19.2.37 (ESR_EL1). Arm: DDI 0406, B4.1.52 (DFSR) and B4.1.96 (IFSR).
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
    0x05: "translation fault (section)",
    0x07: "translation fault (page)",
    0x08: "external abort",
    0x0D: "permission fault (section)",
    0x0F: "permission fault (page)",
    0x16: "external abort, imprecise",
}
_ABORT_MODE = 0x17
_ARM_WRITE = 1 << 11


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
        return _aarch64(registers)
    if "DFSR" in registers and registers.get("cpsr", 0) & 0x1F == _ABORT_MODE:
        return _arm(registers)
    return None


def _riscv(registers: Mapping[str, int], mode: str) -> Fault | None:
    cause, at = registers[f"{mode}cause"], registers.get(f"{mode}epc", 0)
    if cause not in _RISCV or (cause == 0 and registers.get(f"{mode}tval", 0) % _ALIGNED == 0):  # 0 is also a reset's
        return None
    address = registers.get(f"{mode}tval") if cause in _ADDRESSED else None
    return Fault(f"{_RISCV[cause]} ({mode}cause {cause})", at, address)


def _aarch64(registers: Mapping[str, int]) -> Fault | None:
    syndrome, at = registers["ESR_EL1"], registers.get("ELR_EL1")
    kind = syndrome >> 26 & 0x3F
    if not syndrome or kind not in _CLASSES:
        return None
    told = _CLASSES[kind]
    if kind in _ABORTS:
        status = syndrome & 0x3F
        why = _FAULTS.get(status) or _BY_LEVEL.get(status >> 2, "")
        told += f", {why}" if why else ""
        told += ", a write" if kind in _DATA_ABORTS and syndrome & _WRITE else ""
    return Fault(f"{told} (ESR_EL1 {syndrome:#x})", at, registers.get("FAR_EL1") if kind in _ABORTS else None)


def _arm(registers: Mapping[str, int]) -> Fault | None:
    """In the mode of aborts; the link register is 8 behind a data abort's instruction, 4 behind the other's."""
    link = registers.get("lr")
    data, fetched = registers["DFSR"], registers.get("IFSR", 0)
    if fetched and link is not None and registers.get("IFAR") == link - 4:
        return Fault(f"prefetch abort, {_status(fetched)} (IFSR {fetched:#x})", link - 4, registers.get("IFAR"))
    if not data:
        return None
    write = ", a write" if data & _ARM_WRITE else ""
    at = None if link is None else link - 8
    return Fault(f"data abort, {_status(data)}{write} (DFSR {data:#x})", at, registers.get("DFAR"))


def _status(value: int) -> str:
    return _ARM.get((value & 0xF) | (value >> 6 & 0x10), "of another kind")
