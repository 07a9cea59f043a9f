"""The process that keeps capture files whole is a precaution: nothing waits for it, and another takes its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from rawtap.capture.trimmer import SLOTS, Trimmer
from support import (
    Account,
    Session,
    Wire,
    eventually,
    eventually_async,
    exists,
    open_files,
    serving,
    status_of,
    trimmers,
)

OURS = "ether proto 0x88b5"


@contextmanager
def made() -> Iterator[tuple[Trimmer, int]]:
    """A trimmer of this process's own, and its pid."""
    with closing(Trimmer()) as trimmer:
        assert eventually(lambda: len(trimmers()) == 1)  # its command line is empty for a moment
        yield trimmer, trimmers()[0]


def holds(process: int, files: int) -> bool:
    """Whether a trimmer has taken so many files."""
    return len(list(Path(f"/proc/{process}/fd").iterdir())) > files


def is_stopped(process: int) -> bool:
    """Whether a process is stopped; one that is gone is not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return status_of(process)["State"][0] == "T"
    return False


async def captured(session: Session, wire: Wire, **ring: int) -> None:
    """A capture from its start to its stop, with all that was sent."""
    started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, **ring)
    wire.send(100)
    row = await session.call("qemu_pcap_stop", capture=started["capture"])
    assert (row["state"], row["packets"] + row["packets_overwritten"]) == ("stopped", 100)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_trimmer_that_is_killed_or_stopped_holds_nothing_up_and_is_replaced(
    user: Account, wire: Wire, blow: signal.Signals
) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            (first,) = trimmers()
            os.kill(first, blow)
            assert eventually(lambda: not exists(first) or is_stopped(first))
            (row,) = (await session.call("qemu_pcap_status"))["captures"]
            assert row["state"] == "running"
            (warning,) = row["warnings"]
            assert warning.startswith("if the server is killed, the file may end inside a packet: ")
            # The next one holds what is captured now.
            assert await eventually_async(lambda: trimmers() not in ([], [first]))
            (second,) = trimmers()
            assert await eventually_async(lambda: started["path"] in open_files(second))
            (row,) = (await session.call("qemu_pcap_status"))["captures"]
            assert row["warnings"] == []
            wire.send(3)
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["packets"], row["warnings"]) == ("stopped", 3, [])
            await captured(session, wire)
        assert eventually(lambda: trimmers() == [])

    anyio.run(scenario)


def test_a_stopped_trimmer_that_nobody_asks_about_holds_up_no_capture_and_no_end(user: Account, wire: Wire) -> None:
    """More than a socket holds is sent to it meanwhile."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await captured(session, wire)
            (trimmer,) = trimmers()
            os.kill(trimmer, signal.SIGSTOP)
            for _ in range(20):
                await captured(session, wire, files=2, max_bytes=4096)
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, files=2, max_bytes=4096)
            await anyio.to_thread.run_sync(wire.send, 53 * 500)
            row = await session.call("qemu_pcap_stop")
            assert row["state"] == "stopped"
            assert await eventually_async(lambda: not exists(trimmer))
            assert await eventually_async(lambda: set(trimmers()) - {trimmer})
            os.kill(trimmers()[0], signal.SIGSTOP)
            await session.call("qemu_pcap_start", interface=wire.near)
            os.kill(session.pid, signal.SIGTERM)
            assert await eventually_async(lambda: not exists(session.pid))
        assert trimmers() == []

    anyio.run(scenario)


def test_what_has_no_slot_is_not_kept_and_a_slot_comes_back(tmp_path: Path) -> None:
    slots: list[int | None] = []
    with made() as (trimmer, process), (tmp_path / "file").open("wb") as file:
        for held in range(64, SLOTS + 1, 64):
            slots += [trimmer.hold(file.fileno()) for _ in range(64)]
            assert eventually(partial(holds, process, held))  # its socket has room for half of them
        assert len({*slots} - {None}) == SLOTS
        assert trimmer.hold(file.fileno()) is None
        trimmer.release(slots[7] or 0)
        assert trimmer.hold(file.fileno()) == slots[7]
        assert trimmer.trouble() == ""


def test_slots_come_back_where_nothing_can_be_sent(tmp_path: Path) -> None:
    with made() as (trimmer, process), (tmp_path / "file").open("wb") as file:
        for _ in range(2 * SLOTS):
            for each in trimmers():
                with suppress(ProcessLookupError):  # killed to be replaced
                    os.kill(each, signal.SIGSTOP)
            slot = trimmer.hold(file.fileno())
            assert slot is not None
            trimmer.release(slot)
        assert not exists(process)
    assert trimmers() == []
