"""Why a guest ended, in a line: what QEMU told, what its console shows, and no more than that."""

from __future__ import annotations

import pytest

from rawtap.guest.postmortem import BY_ITSELF, Clues, end_reason, trouble


def test_all_that_is_wrong_is_told_the_panic_first() -> None:
    clues = Clues(panic="kernel panic: 'x'", faults=["oops: 'y'", "KASAN: 'z'"], loop="reboot loop: 3")
    assert trouble(clues) == "kernel panic: 'x'; oops: 'y'; KASAN: 'z'; reboot loop: 3"
    assert trouble(Clues()) is None


def test_what_qemu_told_of_a_panic_is_over_with_the_next_reset() -> None:
    events = [(1, "GUEST_PANICKED", ""), (2, "RESET", "{}")]
    assert trouble(Clues(events=events)) is None
    assert trouble(Clues(events=events[:1])) == "kernel panic, as the guest told QEMU (GUEST_PANICKED)"


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


def test_a_triple_fault_at_which_qemu_ends_is_told_once() -> None:
    fault = "reset by the processor: a triple fault at 0x10"
    told = f"guest-reset: {fault}, at which QEMU ends"
    assert end_reason(0, "guest-reset", BY_ITSELF, Clues(reset=fault)) == told
    assert end_reason(0, "guest-reset", BY_ITSELF, Clues(fault=fault)) == f"{fault}; guest-reset, at which QEMU ends"


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
    assert end_reason(code, cause, led_by, Clues(panic="panic: x")) == f"panic: x; {said}"


@pytest.mark.parametrize(("code", "value"), [(1, "0x0"), (33, "0x10"), (255, "0x7f")])
def test_what_a_guest_wrote_to_its_exit_device_is_no_failure_of_qemus(code: int, value: str) -> None:
    """kvm-unit-tests write 0 where all went well: QEMU's exit code is 1 then."""
    said = f"the guest ended QEMU: it wrote {value} to isa-debug-exit"
    assert end_reason(code, None, BY_ITSELF, Clues(may_exit=True)) == said
    assert end_reason(code, None, BY_ITSELF, Clues()) != said
    assert end_reason(code, None, BY_ITSELF, Clues(may_exit=True, ran=False)) != said
    assert end_reason(code + 1, None, BY_ITSELF, Clues(may_exit=True)) != said


def test_a_guest_that_never_ran_did_not_end_qemu() -> None:
    assert end_reason(1, None, BY_ITSELF, Clues(ran=False)) == "QEMU failed, before the guest began"
    assert end_reason(-9, None, BY_ITSELF, Clues(ran=False)).startswith("killed by SIGKILL")
