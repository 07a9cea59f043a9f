"""What QEMU's log tells of the exceptions of RISC-V's and Arm's processors, and how they are told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.ask.exceptions import MOST, shown, steps
from rawtap.guest import registers
from rawtap.guest.processor_log import ProcessorLog

HANDLER = 0x80000010


def riscv(cause: int = 7, at: int = 0x80000D3C, value: int = 0xDEAD00004, *, is_interrupt: bool = False) -> bytes:
    line = b"riscv_cpu_do_interrupt: hart:0, async:%d, cause:%016x, epc:0x%016x, tval:0x%016x, desc=fault_store\n"
    return line % (is_interrupt, cause, at, value)


ECALL, TIMER = riscv(9), riscv(7, is_interrupt=True)


def aarch64(at: int = 0x40080F34, address: int = 0xDEAD00004, syndrome: int = 0x96000050) -> bytes:
    return (
        b"Taking exception 4 [Data Abort] on CPU 0\n...from EL1 to EL1\n...with ESR 0x25/0x%x\n...with FAR 0x%x\n"
        b"...with ELR 0x%x\n...to EL1 PC 0x40081200 PSTATE 0x3c5\n"
    ) % (syndrome, address, at)


def arm(address: int = 0xEAD00004, status: int = 0x808) -> bytes:
    return (
        b"Taking exception 4 [Data Abort] on CPU 0\n...from EL1 to EL1\n...with ESR 0x25/0x96000050\n"
        b"...with DFSR 0x%x DFAR 0x%x\n"
    ) % (status, address)


def calls(name: bytes) -> bytes:
    return b"Taking exception 2 [%s] on CPU 0\n...from EL0 to EL1\n...with ESR 0x15/0x56000000\n" % name


UNDEFINED = b"Taking exception 1 [Undefined Instruction] on CPU 0\n...from EL1 to EL1\n...with ESR 0x0/0x2000000\n"
PREFETCH = (
    b"Taking exception 3 [Prefetch Abort] on CPU 0\n...from EL1 to EL1\n...with ESR 0x21/0x86000010\n"
    b"...with IFSR 0x8 IFAR 0xead00008\n"
)
RETURN = b"Exception return from AArch64 EL1 to AArch64 EL1 PC 0x40080f38\n"
RETURN_32 = b"Exception return from AArch32 abt to svc PC 0x40010f38\n"
SWITCH = b"AArch32 mode switch from abt to svc PC 0x40010020\n"


def log_of(*parts: bytes) -> ProcessorLog:
    log = ProcessorLog()
    for each in parts:
        log.feed(each)
    return log


def told(log: ProcessorLog, known: dict[int, dict[str, int]] | None = None) -> list[str]:
    found = steps(log.exceptions.newest(), log.exceptions.boot, known or {})
    return [
        f"{each.text}{f' @{each.at:#x}' if each.at is not None else ''}{f'; {each.more}' if each.more else ''}"
        for each in found
    ]


def test_a_riscvs_exceptions_are_told_and_its_calls_and_interrupts_are_not() -> None:
    log = log_of(ECALL, riscv(), TIMER, riscv(2, 0x80000E00, 0), riscv(20, 0x80000F00, 0x10), b"qemu: a word\n")
    assert told(log) == [
        "1. store access fault (cause 7), address 0xdead00004 @0x80000d3c",
        "2. illegal instruction (cause 2) @0x80000e00",
        "3. fault store (cause 20), address 0x10 @0x80000f00",
    ]
    assert bytes(log.words) == b"qemu: a word\n"


def test_a_riscv_of_32_bits_is_read() -> None:
    line = b"riscv_cpu_do_interrupt: hart:0, async:0, cause:0000000d, epc:0x80200580, tval:0x00000010, desc=load\n"
    assert told(log_of(line)) == ["1. load page fault (cause 13), address 0x10 @0x80200580"]


def test_one_that_comes_again_and_again_is_counted_and_hides_not_what_led_to_it() -> None:
    log = log_of(riscv(), *(riscv(1, HANDLER, HANDLER) for _ in range(5000)))
    assert told(log) == [
        "1. store access fault (cause 7), address 0xdead00004 @0x80000d3c",
        f"2. instruction access fault (cause 1), address {HANDLER:#x} @{HANDLER:#x}; "
        "5000 times in a row: its handler faults itself there, or returns and it happens again",
    ]


def test_a_handler_that_pushes_onto_a_bad_stack_is_one_exception() -> None:
    log = log_of(riscv(), *(riscv(7, HANDLER, 0x1000 - 16 * each) for each in range(100)))
    assert told(log)[1] == (
        f"2. store access fault (cause 7), address {0x1000 - 16 * 99:#x} (the first of them 0x1000) @{HANDLER:#x}; "
        "100 times in a row: its handler faults itself there, or returns and it happens again"
    )


@pytest.mark.parametrize("between", [ECALL, TIMER, riscv(13, 0x100)], ids=["call", "interrupt", "other"])
def test_what_comes_again_after_something_else_is_not_in_a_row(between: bytes) -> None:
    log = log_of(*[riscv(), riscv(), between] * 3)
    (line,) = [each for each in told(log) if "store access" in each]
    assert line.endswith("; 6 times")


def test_an_aarch64s_exceptions_are_told_and_its_calls_and_interrupts_are_not() -> None:
    psci = calls(b"Hypervisor Call") + b"...handled as PSCI call\n"
    log = log_of(aarch64(), RETURN, calls(b"SVC"), calls(b"IRQ"), RETURN, psci, aarch64(0x40081000, 0x10, 0x96000006))
    assert told(log) == [
        "1. data abort, external abort, a write (ESR 0x96000050), address 0xdead00004 @0x40080f34",
        "2. data abort, translation fault (ESR 0x96000006), address 0x10 @0x40081000",
    ]
    assert log.words == b""


def test_one_whose_class_has_no_name_has_qemus() -> None:
    line = (
        UNDEFINED.replace(b"0x0/0x2000000", b"0x7/0x1fe00000")
        + b"...with ELR 0x40080010\n...to EL1 PC 0x40081200 PSTATE 0x3c5\n"
    )
    assert told(log_of(line)) == ["1. undefined instruction (ESR 0x1fe00000) @0x40080010"]


def test_one_inside_the_handler_of_another_is_told_as_such() -> None:
    log = log_of(aarch64(), *[aarch64(0x40081200, 0x40081200, 0x86000010)] * 3)
    assert told(log)[1].endswith(
        "@0x40081200; 3 times; 2 of them before its own handler had returned: the handler faults itself"
    )
    log = log_of(aarch64(), aarch64(0x40081200))
    assert told(log)[1].endswith("; inside the handler of the one before, which had not returned")
    log = log_of(aarch64(), RETURN, aarch64(0x40081200))
    assert told(log)[1].endswith(" @0x40081200")
    log = log_of(*[aarch64(), RETURN] * 4)
    assert told(log)[0].endswith("; 4 times in a row: its handler faults itself there, or returns and it happens again")


def test_an_arms_place_is_told_by_its_link_register_as_long_as_it_is_in_that_mode() -> None:
    abort, undefined, fetch = arm(), UNDEFINED, PREFETCH
    assert told(log_of(abort, RETURN_32, SWITCH, undefined, RETURN_32, fetch)) == [
        "1. data abort, external abort, a write (DFSR 0x808), address 0xead00004; QEMU's log does not tell where",
        "2. unknown instruction (ESR 0x2000000); QEMU's log does not tell where",
        "3. prefetch abort, external abort (IFSR 0x8), address 0xead00008 @0xead00008",
    ]
    link = "; by its link register, if its handler has not changed that"
    known = {0: {"cpsr": 0x600001D7, "lr": 0x40010F40}}
    assert told(log_of(abort), known)[0].endswith(f" @0x40010f38{link}")
    assert told(log_of(undefined), known)[0].endswith("; QEMU's log does not tell where")
    assert told(log_of(undefined), {0: {"cpsr": 0x1DB, "lr": 0x40010F40}})[0].endswith(f" @0x40010f3c{link}")
    assert told(log_of(undefined), {0: {"cpsr": 0x1FB, "lr": 0x40010F40}})[0].endswith(f" @0x40010f3e{link}")
    assert told(log_of(abort), {0: {"cpsr": 0x1D3, "lr": 0x40010F40}})[0].endswith("does not tell where")


def test_an_arms_handler_that_pushes_onto_a_bad_stack_hides_not_what_led_to_it() -> None:
    log = log_of(arm(), *(arm(0x1000 - 8 * each, 0x805) for each in range(100)))
    first, second = told(log)
    assert first.startswith("1. data abort, external abort")
    assert "(the first of them 0x1000)" in second
    assert "100 times; 99 of them before its own handler had returned" in second


def test_the_long_format_of_an_arms_status_is_read() -> None:
    assert told(log_of(arm(0x10, 0xA07)))[0].startswith("1. data abort, translation fault, a write (DFSR 0xa07)")


def test_an_m_profiles_status_is_told() -> None:
    log = log_of(
        b"Loaded reset SP 0x20001000 PC 0x1e from vector table\n"
        b"Taking exception 3 [Prefetch Abort] on CPU 0\n...at fault address 0xdead0000\n...with CFSR.IBUSERR\n"
        b"...taking pending nonsecure exception 3\n...loading from element 3 of non-secure vector table at 0xc\n"
        b"...loaded new PC 0x2c1\nTaking exception 8 [QEMU v7M exception exit] on CPU 0\n"
        b"Exception return: magic PC fffffff9 previous exception 3\n...successful exception return\n"
        b"Taking exception 18 [v7M INVSTATE UsageFault] on CPU 0\n"
    )
    assert told(log) == [
        "1. prefetch abort (CFSR.IBUSERR), address 0xdead0000; QEMU's log does not tell where",
        "2. v7M INVSTATE UsageFault; QEMU's log does not tell where",
    ]
    assert log.words == b""


def test_a_reset_is_between() -> None:
    log = log_of(aarch64())
    log.exceptions.restarted()
    log.feed(aarch64())
    assert [line.partition(" (")[0] for line in told(log)] == [
        "1. before the last reset, or right behind it: data abort, external abort, a write",
        "2. data abort, external abort, a write",
    ]
    assert "inside" not in told(log)[1]


def test_the_log_is_bounded_and_counts_as_one() -> None:
    log = log_of(*(riscv(7, 0x80000000 + 4 * each) for each in range(100)))
    assert len(told(log)) == 32
    assert told(log)[-1].startswith("32. store access fault (cause 7), address 0xdead00004 @0x8000018c")
    assert log.size == 100 * len(riscv())


def test_an_arm_kernels_own_exceptions_are_not_pushed_out_by_those_of_programs() -> None:
    of_programs = [aarch64(0x1000 + 4 * each).replace(b"from EL1", b"from EL0") for each in range(100)]
    log = log_of(*(aarch64(0x40080000 + 4 * each) for each in range(4)), *of_programs, RETURN)
    seen = log.exceptions.newest()
    assert [each.taken.at for each in shown(seen)] == [
        *(0x40080000 + 4 * each for each in range(1, 4)),
        *(0x1000 + 4 * each for each in range(100 - MOST, 100)),
    ]
    assert len(shown(seen[:4])) == 4
    log = log_of(*(aarch64(0x40080000 + 4 * each) for each in range(100)))
    assert [each.taken.at for each in shown(log.exceptions.newest())] == [
        0x40080000 + 4 * each for each in range(100 - MOST, 100)
    ]


def test_dots_are_qemus_own_where_no_arm_was_before() -> None:
    assert bytes(log_of(b"...and so on\n").words) == b"...and so on\n"


_LINES = (
    (riscv(), riscv(2, HANDLER), ECALL, TIMER),
    (aarch64(), aarch64(0x40081200), calls(b"IRQ"), RETURN),
    (arm(), UNDEFINED, PREFETCH, RETURN_32, SWITCH, calls(b"SVC")),
)
_EXCEPTIONS = {riscv(), riscv(2, HANDLER), aarch64(), aarch64(0x40081200), arm(), UNDEFINED, PREFETCH}


@given(st.one_of([st.lists(st.sampled_from(each), max_size=10) for each in _LINES]), st.integers(20, 200))
def test_any_order_of_the_logs_lines_is_read_in_any_pieces(parts: list[bytes], size: int) -> None:
    whole, log = b"".join(parts), ProcessorLog()
    for start in range(0, len(whole), size):
        log.feed(whole[start : start + size])
        for line in told(log):  # of none that has not come whole
            assert re.fullmatch(r"\d\. .*(access fault|instruction|external abort).*(@0x[0-9a-f]+|where).*", line)
    assert log.words == b""
    assert told(log) == told(log_of(whole))
    count = sum(each.count for each in log.exceptions.newest())
    assert count == sum(part in _EXCEPTIONS for part in parts)


def test_one_that_has_not_come_whole_is_not_told_yet() -> None:
    log = ProcessorLog()
    for line in aarch64().splitlines(keepends=True)[:-1]:
        log.feed(line)
        assert told(log) == []
    log.feed(aarch64().splitlines(keepends=True)[-1])
    assert told(log)[0].endswith("@0x40080f34")
    log = log_of(aarch64(), RETURN, UNDEFINED)
    assert len(told(log)) == 1
    log.feed(b"...with ELR 0x40080010\n...to EL1 PC 0x40081200 PSTATE 0x3c5\n")
    assert told(log)[1] == "2. unknown instruction (ESR 0x2000000) @0x40080010"


def test_the_monitors_registers_are_read_of_each_processor() -> None:
    shown = (
        "\r\nCPU#0\r\n pc       0000000080000010\r\n mcause   0000000000000007\r\n mepc     0000000080000d3c\r\n"
        " mtval    0000000dead00004\r\n vscause  0000000000000001\r\n mtval2   0000000000000002\r\n"
        "\r\nCPU#1\r\nR12=00000000 R13=40020000 R14=40010f40 R15=40010010\r\nPSR=600001d7 -ZC- A NS abt32\r\n"
    )
    assert registers.of_processors(shown) == {
        0: {"mcause": 7, "mepc": 0x80000D3C, "mtval": 0xDEAD00004},
        1: {"lr": 0x40010F40, "cpsr": 0x600001D7},
    }
    assert registers.of_processors("") == {}
