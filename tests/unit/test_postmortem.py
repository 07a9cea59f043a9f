"""Why a guest ended, in a line: what QEMU told, what its console shows, and no more than that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.guest.postmortem import BY_ITSELF, Clues, end_reason, last_words, trouble


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        (
            b"boot\n[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0\n",
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
        ),
        (b"xv6 kernel is booting\r\npanic: kerneltrap\r\n", "panic: kerneltrap"),
        (b"panic(cpu 0 caller 0xffffff80): zone", "panic(cpu 0 caller 0xffffff80): zone"),
        (b"\x1b[31m[kernel] Panicked at src/main.rs:40 no memory\x1b[0m", "Panicked at src/main.rs:40 no memory"),
        (b"\rpanicked at src/net/arp.rs:7:5:\r\nindex out of bounds", "panicked at src/net/arp.rs:7:5:"),
        (b"thread 'main' panicked at a.rs:1:1", "thread 'main' panicked at a.rs:1:1"),
        (b"KERNEL PANIC: panicked at a.rs:1:1", "KERNEL PANIC: panicked at a.rs:1:1"),
        (b"\n### ERROR ### Please RESET the board ###\n", "### ERROR ### Please RESET the board ###"),
        (
            b"sbi_trap_error: hart0: trap handler failed (error -2)",
            "sbi_trap_error: hart0: trap handler failed (error -2)",
        ),
        (b"PANIC: \x1b]0;x\x07 \xff", "PANIC: \\x1b]0;x\\x07 \\xff"),
    ],
)
def test_a_kernels_last_words_are_known(tail: bytes, line: str) -> None:
    assert last_words(tail) == line
    assert trouble(Clues(tail=tail)) == f"kernel panic: {line!r} on the console"


@pytest.mark.parametrize(
    "tail",
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
def test_what_only_speaks_of_a_panic_is_none(tail: bytes) -> None:
    assert last_words(tail) is None


def test_the_first_of_several_panics_is_told_for_the_later_ones_follow_from_it() -> None:
    assert last_words(b"panic: first\npanic: double\n") == "panic: first"


@given(st.binary(max_size=300))
def test_whatever_a_guest_prints_the_line_is_one_line_without_control_characters(raw: bytes) -> None:
    line = last_words(b"panic: " + raw)
    assert line is not None
    assert line.isprintable()
    assert len(line) <= 200


def resets(*seconds: float) -> list[tuple[int, str, str]]:
    return [(int(at * 1e9), "RESET", '{"guest":true,"reason":"guest-reset"}') for at in seconds]


def test_three_resets_soon_one_after_the_other_are_a_loop() -> None:
    assert trouble(Clues(events=resets(1, 2))) is None
    assert trouble(Clues(events=resets(1, 60, 3600))) is None
    said = trouble(Clues(events=resets(0, 100, 101, 102.5)))
    assert said == "reboot loop: the last 3 resets within 2.5 s (on x86 a triple fault is one)"
    by_host = [(at, "RESET", '{"guest":false,"reason":"host-qmp-system-reset"}') for at in range(9)]
    assert trouble(Clues(events=by_host)) is None


def test_a_watchdog_and_a_panic_that_qemu_tells_of_are_named() -> None:
    bitten = [(1, "WATCHDOG", '{"action":"reset"}'), (2, "RESET", '{"guest":true,"reason":"guest-reset"}')]
    assert trouble(Clues(events=bitten)) == "watchdog reset"
    assert end_reason(0, "guest-reset", BY_ITSELF, Clues(events=bitten)) == (
        "watchdog reset; guest-reset: watchdog reset, at which QEMU ends"
    )
    told = [(1, "GUEST_PANICKED", '{"action":"shutdown"}')]
    assert end_reason(0, "guest-panic", BY_ITSELF, Clues(events=told)) == (
        "kernel panic, as the guest told QEMU (GUEST_PANICKED); guest-panic"
    )
    assert trouble(Clues(events=[(1, "WATCHDOG", '{"action":')])) == "watchdog "  # cut off: no word, and no error


@pytest.mark.parametrize(
    ("code", "cause", "led_by", "said"),
    [
        (0, "guest-shutdown", "console command 'poweroff'", "guest-shutdown"),
        (0, "host-qmp-quit", "quit", "host-qmp-quit"),
        (0, None, "console command 'poweroff'", "console command 'poweroff'"),
        (0, None, BY_ITSELF, BY_ITSELF),
        (0, "guest-reset", BY_ITSELF, "guest-reset: a reboot, or on x86 a triple fault, at which QEMU ends"),
        (7, None, BY_ITSELF, "QEMU failed, or the guest ended it with the failure code 7 (a test device's)"),
        (-9, None, BY_ITSELF, "killed by SIGKILL, from outside, or by the kernel for want of memory"),
        (-15, None, BY_ITSELF, "killed by SIGTERM, from outside"),
        (-11, None, BY_ITSELF, "QEMU crashed (SIGSEGV)"),
        (-9, None, "SIGKILL", "SIGKILL"),
        (-77, None, BY_ITSELF, "killed by the signal 77"),
    ],
)
def test_every_end_has_its_words(code: int, cause: str | None, led_by: str, said: str) -> None:
    assert end_reason(code, cause, led_by, Clues()) == said
    panicked = Clues(tail=b"panic: x")
    assert end_reason(code, cause, led_by, panicked) == f"kernel panic: 'panic: x' on the console; {said}"
