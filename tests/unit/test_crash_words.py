"""What a processor's registers tell of its last exception."""

from __future__ import annotations

import pytest

from rawtap.debug.faults import Fault, fault_of

CASES: list[tuple[dict[str, int], Fault | None]] = [
    ({}, None),
    ({"scause": 0, "sepc": 0, "stval": 0, "mcause": 0, "mepc": 0, "mtval": 0}, None),
    ({"scause": 13, "sepc": 0x10, "stval": 0x8}, Fault("load page fault (scause 13)", 0x10, 0x8)),
    ({"scause": 0, "sepc": 0x10, "stval": 0x8}, None),  # after a reset
    ({"scause": 0, "sepc": 0x10, "stval": 0x7}, Fault("instruction address misaligned (scause 0)", 0x10, 0x7)),
    ({"scause": 2, "sepc": 0x10, "stval": 0xFFFF}, Fault("illegal instruction (scause 2)", 0x10)),
    ({"scause": 8, "sepc": 0x10, "stval": 0}, None),  # a call to the system
    ({"scause": (1 << 63) | 5, "sepc": 0x10, "stval": 0}, None),  # an interrupt
    ({"scause": 0, "sepc": 0, "mcause": 9, "mepc": 0x10}, None),  # a call to the firmware
    ({"scause": 0, "sepc": 0, "mcause": 7, "mepc": 0x10, "mtval": 4}, Fault("store access fault (mcause 7)", 0x10, 4)),
    ({"ESR_EL1": 0, "ELR_EL1": 0}, None),
    ({"ESR_EL1": 0x56000000, "ELR_EL1": 0x10}, None),  # svc
    (
        {"ESR_EL1": 0x96000046, "ELR_EL1": 0x10, "FAR_EL1": 0x20},
        Fault("data abort, translation fault, a write (ESR_EL1 0x96000046)", 0x10, 0x20),
    ),
    (
        {"ESR_EL1": 0x86000010, "ELR_EL1": 0x10, "FAR_EL1": 0x10},
        Fault("instruction abort, external abort (ESR_EL1 0x86000010)", 0x10, 0x10),
    ),
    (
        {"ESR_EL1": 0x96000021, "ELR_EL1": 0x10, "FAR_EL1": 0x3},
        Fault("data abort, misaligned (ESR_EL1 0x96000021)", 0x10, 0x3),
    ),
    (
        {"ESR_EL1": 0x8A000000, "ELR_EL1": 0x11, "FAR_EL1": 0x9},
        Fault("program counter misaligned (ESR_EL1 0x8a000000)", 0x11),
    ),
    ({"DFSR": 8, "DFAR": 0x20, "cpsr": 0x1D3, "lr": 0x18}, None),  # not in the mode of aborts
    (
        {"DFSR": 0x808, "DFAR": 0x20, "cpsr": 0x1D7, "lr": 0x18},
        Fault("data abort, external abort, a write (DFSR 0x808)", 0x10, 0x20),
    ),
    (
        {"DFSR": 0, "DFAR": 0, "IFSR": 0x5, "IFAR": 0x14, "cpsr": 0x1D7, "lr": 0x18},
        Fault("prefetch abort, translation fault (section) (IFSR 0x5)", 0x14, 0x14),
    ),
]


@pytest.mark.parametrize(("registers", "fault"), CASES, ids=range(len(CASES)))
def test_a_fault_is_told_by_what_was_left_of_it(registers: dict[str, int], fault: Fault | None) -> None:
    assert fault_of(registers) == fault


def test_a_fault_in_words() -> None:
    assert str(Fault("load page fault", 1, 0x20)) == "load page fault, address 0x20"
    assert str(Fault("illegal instruction", 1)) == "illegal instruction"
