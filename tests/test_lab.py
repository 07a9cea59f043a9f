"""The Lab in this process, for what must happen at a moment that no client can choose."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from rawtap.ask.wait import Wish, wait
from rawtap.capture.notifier import Notifier
from rawtap.capture.session import CaptureRequest, Reached
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import Wire, eventually_async


def capture_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("capture-")]


def test_a_capture_whose_start_is_cancelled_while_it_opens_leaves_nothing(wire: Wire, tmp_path: Path) -> None:
    """Nobody would learn of it: no capture, no thread, no file."""

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with Lab(settings) as lab:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(lab.start_capture, CaptureRequest(wire.near))
                    assert await eventually_async(lambda: bool(capture_threads()))
                    scope.cancel()
            assert scope.cancelled_caught
            assert lab.captures.all() == []
            assert capture_threads() == []
            assert list(tmp_path.iterdir()) == []

    anyio.run(scenario)


def test_what_comes_after_a_waits_time_is_not_held_against_it(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet that comes while the last ones before the deadline are still on their way into the file."""
    caught_up = Notifier.caught_up

    async def with_a_late_packet(notifier: Notifier) -> Reached | None:
        place = await caught_up(notifier)
        wire.send(1)
        await caught_up(notifier)
        return place

    def eventfds() -> int:
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum("eventfd" in str(link) for link in links)

    before = eventfds()

    async def nothing(_: float, __: str) -> None:
        monkeypatch.setattr(Notifier, "caught_up", with_a_late_packet)

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with Lab(settings) as lab:
            await lab.start_capture(CaptureRequest(wire.near))
            wish = Wish("", count=1, timeout=0.1, absent=True, since="now")
            assert (await wait(lab, None, wish, "summary", nothing)).satisfied
        assert eventfds() == before

    anyio.run(scenario)
