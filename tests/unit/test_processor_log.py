"""What QEMU's log tells of an x86's resets, and what of its stderr is no log."""

from __future__ import annotations

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


def test_a_triple_fault_is_told_with_its_place_and_registers_are_no_words_of_qemus() -> None:
    log = ProcessorLog()
    for part in (DUMP, b"qemu: a warn", b"ing\nTriple fa", b"ult\n" + DUMP + DUMP.replace(b"100a2b", b"0"), b"the end"):
        log.feed(part)
    log.end()
    assert (log.faults, log.place) == (1, "at 0x00100a2b, CR2 0x000000000000dead")
    assert bytes(log.words) == b"qemu: a warning\nthe end\n"


def test_a_fault_at_which_qemu_ends_has_no_place() -> None:
    log = ProcessorLog()
    log.feed(b"Triple fault\n")
    assert log.faults == 0
    log.end()
    assert (log.faults, log.place) == (1, "")


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
