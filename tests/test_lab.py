"""The Lab in this process, for what must happen at a moment that no client can choose."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

import tiny_guest
from rawtap.ask.stream import stream
from rawtap.ask.wait import Wish, wait
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.notifier import Notifier
from rawtap.capture.session import CaptureRequest, Reached
from rawtap.errors import NetworkFailed, ServerStopping
from rawtap.lab.captures import InterfaceFeed
from rawtap.lab.guests import BootRequest
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import Account, Wire, children_of, command_of, eventually_async, link_names, new_children


def capture_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("capture-")]


@dataclass(frozen=True)
class Opening:
    """An interface's opening, which has begun, and goes on when it may."""

    begun: threading.Event
    may_go_on: threading.Event


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    """Have captures wait where they open their interface."""
    held, open_it = Opening(threading.Event(), threading.Event()), InterfaceSource.open

    def held_up(*given: Any, **named: Any) -> Any:
        held.begun.set()
        held.may_go_on.wait()
        return open_it(*given, **named)

    monkeypatch.setattr(InterfaceSource, "open", held_up)
    yield held
    held.may_go_on.set()


def test_a_capture_whose_start_is_cancelled_while_it_opens_leaves_nothing(
    wire: Wire, tmp_path: Path, opening: Opening
) -> None:
    """Nobody would learn of it: no capture, no thread, no file."""

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with Lab(settings) as lab:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(lab.start_capture, CaptureRequest(wire.near))
                    assert await eventually_async(opening.begun.is_set)
                    scope.cancel()
                    opening.may_go_on.set()
            assert scope.cancelled_caught
            assert lab.captures.all() == []
            assert capture_threads() == []
            assert list(tmp_path.iterdir()) == []

    anyio.run(scenario)


def test_what_is_not_followed_ends_with_what_was_saved_when_it_was_asked_for(wire: Wire, tmp_path: Path) -> None:
    """A capture that saves faster than its reader reads would never come to an end."""

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with Lab(settings) as lab:
            capture = await lab.start_capture(CaptureRequest(wire.near))
            wire.send(10)
            async with aclosing(stream(capture, follow=False)) as packets:
                body = await anext(packets)
                wire.send(10)
                await capture.notifier.caught_up()
                body += b"".join([data async for data in packets])
            saved = capture.session.path.read_bytes()
        assert saved.startswith(body)
        assert (capture.session.saved, len(saved) - 24) == (20, 2 * (len(body) - 24))

    anyio.run(scenario)


def test_a_boot_in_flight_when_its_lab_closes_leaves_nothing(root: Account) -> None:
    settings = Settings(capture_dir=root.home / "captures", scratch_dir=root.home / "scratch")

    def guests() -> list[int]:
        return [pid for pid in children_of(os.getpid()) if "qemu-system" in command_of(pid)]

    async def boot(lab: Lab) -> None:
        with pytest.raises(ServerStopping):
            await lab.boot(BootRequest(project_root=Path(tiny_guest.deaf(root)), network=True, capture=True))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            async with Lab(settings) as lab:
                group.start_soon(boot, lab)
                assert await eventually_async(lambda: guests() != [])
            assert (guests(), link_names(), capture_threads()) == ([], set(), [])

    anyio.run(scenario)


def test_a_capture_that_starts_when_its_lab_closes_leaves_nothing(wire: Wire, tmp_path: Path, opening: Opening) -> None:
    async def start(lab: Lab) -> None:
        with pytest.raises(ServerStopping):
            await lab.start_capture(CaptureRequest(wire.near))

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with anyio.create_task_group() as group:
            async with Lab(settings) as lab:
                group.start_soon(start, lab)
                assert await eventually_async(opening.begun.is_set)
                group.start_soon(anyio.to_thread.run_sync, opening.may_go_on.set)  # once the Lab is closing
            assert (lab.captures.all(), capture_threads(), list(tmp_path.iterdir())) == ([], [], [])

    anyio.run(scenario)


class Stuck(InterfaceFeed):
    """Of a source that cannot be cut off."""

    async def cut(self) -> None:
        raise NetworkFailed(f"{self.source.index} stays", cure="")


def test_captures_that_cannot_be_ended_keep_no_other_one_and_all_are_told_of(wire: Wire, tmp_path: Path) -> None:
    known = children_of(os.getpid())

    async def scenario() -> None:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({wire.near}))
        async with Lab(settings) as lab:
            captures = [await lab.start_capture(CaptureRequest(wire.near)) for _ in range(3)]
            for number, capture in enumerate(captures[:2]):
                feed = Stuck(InterfaceSource(number, 4 << 20))
                lab.captures._by_id[capture.id] = replace(capture, feed=feed)
            with pytest.raises(BaseExceptionGroup) as caught:
                await lab.captures.stop_those(lambda _: True)
            assert [each.problem for each in caught.value.exceptions] == ["0 stays", "1 stays"]
            assert not captures[2].session.running
            with pytest.raises(BaseExceptionGroup):
                await lab.captures.close()
            assert (capture_threads(), new_children(known)) == ([], set())

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
        gc.collect()  # those of captures of earlier tests go with their objects
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
