"""What QEMU's log tells of an x86's resets, and what of its stderr is no log."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.guest import processor_log, traps
from rawtap.guest.processor_log import ProcessorLog
from rawtap.guest.resets import Fault, Reboots

DUMP = b"""CPU Reset (CPU 0)
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
EIP=00100a2b EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
CS =f000 ffff0000 0000ffff 00009b00
GDT=     00000000 0000ffff
CR0=60000010 CR2=000000000000dead CR3=00000000 CR4=00000000
DR6=00000000ffff0ff0 DR7=0000000000000400
FPR0=0000000000000000 0000 FPR1=0000000000000000 0000
XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000
"""
SECOND = 1_000_000_000


def raised(vector: int, during: int | None = None) -> bytes:
    old = 0xFFFFFFFF if during is None else during
    return b"check_exception old: %#x new %#x\n" % (old, vector)


def taken(vector: int, error: int = 0, at: int = 0x100, stack: int = 0x9000, address: int = 0) -> bytes:
    first = b"     7: v=%02x e=%04x i=0 cpl=0 IP=0008:%016x pc=%016x SP=0010:%016x env->regs[R_EAX]=0\n"
    return first % (vector, error, at, at, stack) + DUMP.partition(b"\n")[2].replace(b"dead", b"%04x" % address)


def lines_of(log: ProcessorLog) -> list[str]:
    assert log.fault is not None
    return [line if at is None else f"{line} @{at:#x}" for line, at in traps.chain(log.fault)]


def test_a_triple_fault_is_told_with_its_place_and_registers_are_no_words_of_qemus() -> None:
    log = ProcessorLog()
    for part in (DUMP, b"qemu: a warn", b"ing\nTriple fa", b"ult\n" + DUMP + DUMP.replace(b"100a2b", b"0"), b"the end"):
        log.feed(part)
    log.end()
    assert (log.faults, str(log.fault)) == (1, "at 0x00100a2b, CR2 0xdead")
    assert bytes(log.words) == b"qemu: a warning\nthe end\n"


def test_exceptions_that_led_to_one_another_are_told_and_those_before_are_not() -> None:
    log = ProcessorLog()
    log.feed(b"Servicing hardware INT=0x20\n" + taken(0x20) + raised(14) + taken(14, 4, address=0x5000))
    log.feed(raised(14) + taken(14, 2, address=0x8FF8) + raised(13, 14) + taken(8) + raised(11, 8))
    log.feed(b"Triple fault\n" + DUMP)
    assert lines_of(log) == [
        "1. page fault (#PF): a write by the kernel at 0x8ff8, the page is not present (error code 0x2), "
        "where the stack pointer is: a stack overflow, or a wrong stack pointer, stack pointer 0x9000 @0x100",
        "2. while page fault (#PF) was delivered: general protection (#GP), "
        "of which the processor makes a double fault (#DF)",
        "3. while double fault (#DF) was delivered: segment not present (#NP), a triple fault: the processor resets",
    ]
    assert log.words == b""
    assert not log.traps


def test_a_log_that_began_in_between_tells_what_was_being_delivered() -> None:
    log = ProcessorLog()
    log.feed(raised(13, 14) + taken(8) + raised(13, 8) + b"Triple fault\n" + DUMP)
    assert lines_of(log)[0] == (
        "1. while page fault (#PF) was delivered: general protection (#GP), "
        "of which the processor makes a double fault (#DF), stack pointer 0x9000 @0x100"
    )


def test_the_kernels_own_exceptions_are_not_pushed_out_by_those_of_programs_and_of_copies_to_them() -> None:
    log = ProcessorLog()
    for at in range(14):
        log.feed(raised(14) + taken(14, 2, at=0xF00 + at, address=0xDEAD))
    assert [[each.at for each in part] for part in log.newest(2)] == [[], [0xF0C, 0xF0D]]  # all are the kernel's
    for at in range(100):
        log.feed(raised(14) + taken(14, 4, at=0x400 + at).replace(b"cpl=0", b"cpl=3"))
        log.feed(raised(14) + taken(14, 2, at=0xE00, address=at))
    own, newest = log.newest(3)
    assert [each.at for each in own] == [0xF00 + at for at in range(3, 14)]
    assert own[-1].address == 0xDEAD
    assert [(each.at, each.address) for each in newest] == [(0xE00, 98), (0x463, 0), (0xE00, 99)]
    log.begin_traps()
    assert log.newest(2) == ([], [])
    for at in (0xA, 0xB, 0xA):
        log.feed(raised(14) + taken(14, 2, at=at))
    log.feed(raised(14) + taken(14, 4, at=0x400).replace(b"cpl=0", b"cpl=3"))
    assert [each.at for each in log.newest(1)[0]] == [0xB, 0xA]


@pytest.mark.parametrize("error", [6 << 3 | 2, 6 << 4 | 2], ids=["vector", "twice"])
def test_an_exception_whose_handler_cannot_be_used_led_to_the_next(error: int) -> None:
    log = ProcessorLog()
    log.feed(raised(6) + taken(6) + raised(13) + taken(13, error) + raised(13, 13) + taken(8) + raised(13, 8))
    log.feed(b"Triple fault\n" + DUMP)
    assert [line.partition(" (")[0] for line in lines_of(log)] == [
        "1. invalid opcode",
        "2. while invalid opcode",
        "3. while general protection",
        "4. while double fault",
    ]
    log.feed(raised(6) + taken(6, at=0x200) + raised(13) + taken(13, error) + b"Triple fault\n" + DUMP)
    assert len(lines_of(log)) == 1, "another instruction's"


def test_what_is_not_logged_is_not_told() -> None:
    log = ProcessorLog()
    log.feed(raised(6) + taken(6))
    log.begin_traps()
    log.feed(b"Triple fault\n" + DUMP.replace(b"GDT=", b"IDT=     00001000 00000000\nGDT="))
    assert lines_of(log) == [
        "the processor was at an instruction that it could not end, and the last page fault (CR2) was about 0xdead "
        "@0x100a2b",
        "there is no table of handlers: the IDT's limit is below one entry",
    ]


@pytest.mark.parametrize(
    ("vector", "error", "words"),
    [
        (14, 0x15, "an instruction is fetched by a program at 0xdead, the page tables forbid it (error code 0x15)"),
        (14, 0x7, "a write by a program at 0x9008, the page tables forbid it (error code 0x7)"),
        (14, 0x9, "a read by the kernel at 0xdead, a reserved bit is set in the page tables (error code 0x9)"),
        (13, 0x28, "general protection (#GP): entry 5 of the GDT (error code 0x28)"),
        (11, 0x0C, "segment not present (#NP): entry 1 of the LDT (error code 0xc)"),
        (13, 0, "general protection (#GP) (error code 0: it names no segment and no handler)"),
        (30, 0, "exception 30"),
    ],
    ids=range(7),
)
def test_error_codes_are_told_in_words(vector: int, error: int, words: str) -> None:
    log = ProcessorLog()
    log.feed(raised(vector) + taken(vector, error, address=0x9008 if "0x9008" in words else 0xDEAD))
    assert traps.told(log.traps[-1]).endswith(words)


@given(st.lists(st.sampled_from([raised(14), raised(13, 14), taken(14, 2), taken(8), b"Triple fault\n", DUMP, b"x\n"])))
def test_any_order_of_the_logs_lines_is_read(parts: list[bytes]) -> None:
    """As several processors may write them."""
    log = ProcessorLog()
    for each in parts:
        log.feed(each)
    log.end()
    assert log.words == b"x\n" * parts.count(b"x\n")
    if log.fault is not None:
        assert lines_of(log)


def test_a_log_that_has_no_end_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_log, "MOST_LOG", 4 * len(taken(14)))
    told: list[int] = []

    async def scenario() -> None:
        end, begin = os.pipe()
        with os.fdopen(end, "rb") as reading:
            diagnostics = processor_log.Diagnostics(reading)
            diagnostics.on_much = lambda: told.append(diagnostics.log.size)
            for number in range(6):
                os.write(begin, raised(14) + taken(14))
                diagnostics.drain()
                assert bool(told) == (number >= 3)
            os.write(begin, b"a word\n" * 2000)
            os.close(begin)
            diagnostics.drain()
        assert told == [0]

    asyncio.run(scenario())


def test_a_fault_at_which_qemu_ends_has_no_place() -> None:
    log = ProcessorLog()
    log.feed(b"Triple fault\n")
    assert log.faults == 0
    log.end()
    assert (log.faults, str(log.fault)) == (1, "")


def test_a_firmware_that_resets_a_machine_by_a_triple_fault_was_asked_to() -> None:
    log = ProcessorLog()
    log.feed(b"Triple fault\n" + DUMP.replace(b"00100a2b", b"000efaad"))
    assert log.faults == 0
    log.feed(b"Triple fault\n" + DUMP)
    assert log.faults == 1


def test_a_reset_is_the_processors_where_it_had_a_fault_since_the_one_before() -> None:
    reboots = Reboots()
    assert reboots.note(SECOND, 10, Fault(0))
    assert reboots.how == "the guest reset itself"
    assert reboots.note(2 * SECOND, 20, Fault(1, "at 0x10"))
    assert reboots.how == "reset by the processor: a triple fault at 0x10"
    assert not reboots.note(2 * SECOND + 1, 20, Fault(1, "at 0x10"))
    assert "triple fault at 0x10" in reboots.how
    assert reboots.note(3 * SECOND, 30, Fault(2, "at 0x10"))
    assert reboots.loop == (
        "reboot loop: the last 3 reboots within 2 s (reset by the processor: a triple fault at 0x10)"
    )
    assert reboots.note(4 * SECOND, 40, Fault(2))
    assert reboots.loop == "reboot loop: the last 3 reboots within 2 s (the guest asked for them)"
