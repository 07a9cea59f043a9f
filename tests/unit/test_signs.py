"""What a console's lines tell of trouble, and no more than that; and which resets are reboots."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.guest.resets import Reboots
from rawtap.guest.signs import PANIC, Signs

modest = settings(max_examples=100, deadline=None, database=None)


def of(text: bytes, *typed: bytes) -> Signs:
    signs = Signs()
    for command in typed:
        signs.typed(command)
    signs.feed(text)
    return signs


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            b"boot\n[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0\n",
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
        ),
        (b"xv6 kernel is booting\r\npanic: kerneltrap\r\n", "panic: kerneltrap"),
        (b"panic(cpu 0 caller 0xffffff80): zone", "panic(cpu 0 caller 0xffffff80): zone"),
        (b"[kernel] Panicked at src/main.rs:40 no memory", "Panicked at src/main.rs:40 no memory"),
        (b"\rpanicked at src/net/arp.rs:7:5:\r\nindex out of bounds", "panicked at src/net/arp.rs:7:5:"),
        (b"thread 'main' panicked at a.rs:1:1", "thread 'main' panicked at a.rs:1:1"),
        (b"KERNEL PANIC: panicked at a.rs:1:1", "KERNEL PANIC: panicked at a.rs:1:1"),
        (b"\n### ERROR ### Please RESET the board ###\n", "### ERROR ### Please RESET the board ###"),
        (b"sbi_trap_error: hart0: trap handler failed", "sbi_trap_error: hart0: trap handler failed"),
        (
            b"[00:00:00.010,000] <err> os: >>> ZEPHYR FATAL ERROR 3: Kernel oops on CPU 0",
            "os: >>> ZEPHYR FATAL ERROR 3",
        ),
        (b"E: >>> ZEPHYR FATAL ERROR 0: CPU exception on CPU 0", "E: >>> ZEPHYR FATAL ERROR 0"),
        (b"Fatal trap 12: page fault while in kernel mode\r\n", "Fatal trap 12: page fault while in kernel mode"),
        (b"fatal page fault in supervisor mode\n", "fatal page fault in supervisor mode"),
        (b"*** STACK OVERFLOW IN TASK idle\n", "*** STACK OVERFLOW IN TASK idle"),
        (b"PANIC: \x07 \xff", "PANIC: \\x07 \\xff"),
    ],
)
def test_a_kernels_last_words_are_known(text: bytes, line: str) -> None:
    panic = of(text).panic()
    assert panic is not None
    assert panic.lines[0].startswith(line)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"=> echo panic: no\n",
        b"rvos> panicked at work\n",
        b"do not panic: all is well\n",
        b"Kernel command line: panic=1 oops=panic\n",
        b"the last one said Kernel panic - not syncing\n",
        b"panic\n",
    ],
)
def test_what_only_speaks_of_a_panic_is_none(text: bytes) -> None:
    assert of(text).panic() is None


def test_the_first_of_several_panics_is_told_for_the_later_ones_follow_from_it() -> None:
    assert of(b"panic: first\npanic: double\n").panic() == of(b"panic: first\n").panic()


def test_a_panic_counts_until_the_guest_shows_that_it_lives() -> None:
    signs = of(b"panic: first\n")
    signs.alive(13)
    assert signs.panic() is None
    signs.feed(b"# panic\npanic: second\n")
    again = signs.panic(len(b"panic: first\n# panic\n"))
    assert again is not None
    assert "second" in str(again)
    assert signs.panic(again.at + 1) is None
    panic = signs.panic()
    assert panic is not None
    assert panic.lines == ["panic: second"]
    signs.restarted()
    assert signs.panic() is None


FAULTS = {
    "oops": b"BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "KASAN": b"BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
    "BUG": b"kernel BUG at mm/slub.c:4000!",
    "soft lockup": b"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]",
    "hung task": b"INFO: task foo:1 blocked for more than 120 seconds.",
    "RCU stall": b"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "lockdep": b"WARNING: possible circular locking dependency detected",
    "out of memory": b"Out of memory: Killed process 77 (stress) total-vm:100kB",
    "UBSAN": b"UBSAN: array-index-out-of-bounds in a.c:1:2",
    "WARNING": b"WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 foo+0x1/0x2",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_that_the_kernel_survives_is_told_until_it_begins_anew(kind: str) -> None:
    signs = of(b"[    1.000000] " + FAULTS[kind] + b"\r\n# ")
    signs.alive(1000)
    (fault,) = signs.faults()
    assert (signs.faults(fault.at), signs.faults(fault.at + 1)) == ([fault], [])
    assert (fault.kind, fault.lines[0]) == (kind, FAULTS[kind].decode())
    assert signs.panic() is None
    signs.restarted()
    assert signs.faults() == []


@pytest.mark.parametrize("kind", FAULTS)
def test_what_was_typed_is_no_fault_where_it_comes_back(kind: str) -> None:
    assert of(FAULTS[kind] + b"\r\n", b"echo " + FAULTS[kind]).faults() == []
    assert of(b"panic: x\n", b"echo 'panic: x'").panic() is None


def test_a_fault_is_told_with_the_lines_that_say_where() -> None:
    signs = of(
        b"[ 1.000000] BUG: kernel NULL pointer dereference, address: 8\n[ 1.000100] Oops: 0002 [#1] SMP\n"
        b"[ 1.000200] CPU: 0 PID: 7 Comm: insmod\n[ 1.000300] RIP: 0010:init+0x5/0x10\n[ 1.000400] Code: 00\n"
    )
    (fault,) = signs.faults()
    assert fault.lines[1:] == ["Oops: 0002 [#1] SMP", "CPU: 0 PID: 7 Comm: insmod", "RIP: 0010:init+0x5/0x10"]


@modest
@given(st.binary(max_size=300), st.data())
def test_whatever_a_guest_prints_the_words_are_bounded_and_without_control_characters(
    raw: bytes, data: st.DataObject
) -> None:
    signs, stream = Signs(), b"panic: " + raw
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        signs.feed(stream[:size])
        stream = stream[size:]
    panic = signs.panic()
    assert panic is not None
    assert (panic.kind, panic.at) == (PANIC, 0)
    assert str(panic).isprintable()
    assert len(str(panic)) < 1000


MS = 1_000_000


def test_resets_close_together_are_one_reboot_and_so_are_those_without_a_word_between() -> None:
    reboots = Reboots()
    assert [reboots.note(at * MS, said) for at, said in [(1000, 5), (1010, 5), (1060, 5), (1300, 5)]] == [
        True, False, False, False,
    ]  # fmt: skip
    assert reboots.note(2000 * MS, 9)
    assert reboots.count == 2
    assert reboots.loop is None


def test_three_reboots_soon_one_after_the_other_are_a_loop() -> None:
    reboots = Reboots()
    for second, said in ((0.5, 1), (200, 2), (201, 3)):
        reboots.note(int(second * 1000) * MS, said)
    assert reboots.loop is None
    reboots.note(202500 * MS, 4)
    assert reboots.loop == "reboot loop: the last 3 reboots within 2.5 s (on x86 a triple fault is one)"


def test_a_guest_that_came_to_its_prompt_in_between_is_in_no_loop() -> None:
    reboots = Reboots()
    for number in range(5):
        reboots.note((1000 + number * 1000) * MS, number)
        assert reboots.loop is None
        reboots.arrived()
    assert reboots.count == 5


def test_resets_that_go_on_in_silence_are_a_loop_too() -> None:
    reboots = Reboots()
    for number in range(6):
        assert reboots.loop is None
        reboots.note((1000 + number * 300) * MS, 0)
    assert "nothing on the console in between" in (reboots.loop or "")
    assert reboots.count == 1
