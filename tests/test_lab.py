"""The Lab in this process, for what must happen at a moment that no client can choose."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio

from rawtap.capture.session import CaptureRequest
from rawtap.lab import Lab
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
            assert lab.captures == {}
            assert capture_threads() == []
            assert list(tmp_path.iterdir()) == []

    anyio.run(scenario)
