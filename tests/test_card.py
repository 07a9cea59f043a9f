"""A guest that is killed while a call is half-way through what it does to its TAP: the call tells of the guest's end.

The kernel takes a killed QEMU's TAP away at a moment of its own, before anybody is told of the process's end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.ask.link import set_cable
from rawtap.ask.send import send
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest
from rawtap.errors import GuestExited, NetworkFailed
from rawtap.lab.guests import Booted, BootRequest
from rawtap.lab.lab import Lab
from rawtap.network import impair, links, taps, transmit
from rawtap.network.impair import Impairment
from rawtap.network.transmit import Transmitter
from rawtap.network.watch import Watcher
from rawtap.settings import Settings
from support import Wire, eventually, link_names

FRAME = "ffffffffffff02000000000188b5".ljust(120, "0")


async def pull(lab: Lab, _: str) -> object:
    return await set_cable(lab, "guest", False, Impairment(rate=100_000))


async def put_a_frame(lab: Lab, tap: str) -> object:
    return await send(lab, tap, FRAME, None, 3)


async def start_a_capture(lab: Lab, tap: str) -> object:
    return await lab.start_capture(CaptureRequest(tap))


async def booted_in(lab: Lab) -> tuple[Booted, str]:
    request = BootRequest(profile="u-boot-riscv64", network=True, wait_for_prompt=False, services=False)
    booted = await lab.boot(request)
    (tap,) = (name for name in link_names() if name.startswith("rtap"))
    return booted, tap


@pytest.mark.usefixtures("_needs_root")
@pytest.mark.parametrize(
    ("call", "where", "step"),
    [
        (pull, links, "find"),
        (pull, impair, "apply"),
        (pull, taps, "set_carrier"),
        (pull, links, "queue_of"),
        (put_a_frame, transmit, "transmitter"),
        (put_a_frame, Transmitter, "send"),
        (start_a_capture, Watcher, "look"),
        (start_a_capture, InterfaceSource, "open"),
    ],
)
def test_a_guest_that_is_killed_half_way_through_a_call_has_exited(
    call: Callable[[Lab, str], Awaitable[object]],
    where: object,
    step: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = getattr(where, step)

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path, scratch_dir=tmp_path)) as lab:
            booted, tap = await booted_in(lab)

            def after_the_kill(*given: Any, **named: Any) -> Any:
                monkeypatch.setattr(where, step, real)
                os.kill(booted.guest.machine.pid, signal.SIGKILL)
                assert eventually(lambda: tap not in link_names())
                return real(*given, **named)

            monkeypatch.setattr(where, step, after_the_kill)
            with pytest.raises(GuestExited) as caught:
                await call(lab, tap)
            assert "exit code -9" in str(caught.value)

    anyio.run(scenario)
    assert link_names() == set()


@pytest.mark.usefixtures("_needs_root")
def test_a_tap_that_somebody_removed_is_no_guests_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path, scratch_dir=tmp_path)) as lab:
            booted, tap = await booted_in(lab)
            await anyio.to_thread.run_sync(Wire.remove, tap)
            with pytest.raises(NetworkFailed, match="the guest guest has lost its TAP"):
                await pull(lab, tap)
            assert booted.guest.machine.running

    anyio.run(scenario)
