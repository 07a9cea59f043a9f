"""Memory that does not come back is told by figures; what a kernel keeps once, or a console does not tell, is not."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from rawtap.ask.examine.memory import Loss, Meter, free_in

COMMAND = "grep MemFree /proc/meminfo"
FRAMES = tuple(bytes([number]) * 60 for number in range(100))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (f"~ # {COMMAND}\r\nMemFree:          180064 kB\r\n~ # ", 180064 << 10),
        ("MemFree: 12 MB\n", 12 << 20),
        ("free: 123456 bytes\n~ # ", 123456),
        (f"~ # {COMMAND}\ngrep: /proc/meminfo: No such file\n~ # ", None),
        ("", None),
    ],
)
def test_the_first_number_behind_the_command_is_what_is_free(output: str, expected: int | None) -> None:
    assert free_in(output, COMMAND) == expected


class Guest:
    """`takes` says how many bytes so many frames take."""

    def __init__(self, takes: Callable[[int], int], *, is_mute: bool = False) -> None:
        self.takes, self.is_mute = takes, is_mute
        self.got = 0
        self.asked = 0

    async def begin(self) -> None:
        self.got = 0

    async def send(self, frames: tuple[bytes, ...]) -> bool:
        self.got += len(frames)
        return True

    async def console(self, command: str) -> str | None:
        self.asked += 1
        return None if self.is_mute else f"# {command}\nMemFree: {(100 << 20) - self.takes(self.got)}\n# "

    def loss(self) -> tuple[Loss | None, Meter]:
        meter = Meter(COMMAND, self.console)
        return anyio.run(meter.loss, FRAMES, self.begin, self.send), meter


def test_what_grows_with_the_frames_and_stays_is_a_loss_with_its_figures() -> None:
    loss, _ = Guest(lambda got: got * 4096).loss()
    assert loss == Loss(FRAMES, 409600, 1228800)
    assert loss.each == 4096
    assert "409600 bytes less after 100 frames and a pause, 1228800 after 3 times as many" in str(loss)


@pytest.mark.parametrize(
    "takes",
    [lambda got: 1 << 20 if got else 0, lambda got: got * 100, lambda got: -got * 4096, lambda got: got**3],
    ids=["once", "little", "more", "noise"],
)
def test_what_is_kept_once_or_is_little_is_none(takes: Callable[[int], int]) -> None:
    assert Guest(takes).loss()[0] is None


def test_a_console_that_tells_nothing_is_asked_once_and_that_is_said() -> None:
    guest = Guest(lambda _: 0, is_mute=True)
    loss, meter = guest.loss()
    assert loss is None
    assert guest.asked == 1
    assert "free memory was not looked at" in meter.trouble
