"""What goes wrong under a capture, made for real: each is told, loses nothing that it need not, and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pyroute2 import IPRoute

from support import (
    PCAP_HEADER,
    Account,
    Session,
    ToolFailed,
    Wire,
    children_of,
    eventually,
    eventually_async,
    numbers_in,
    open_files,
    read_back,
    serving,
    trimmers,
)

OURS = "ether proto 0x88b5"


@asynccontextmanager
async def on_wire(
    user: Account, wire: Wire, *options: str | Path, before: tuple[str, ...] = ()
) -> AsyncIterator[Session]:
    async with serving(user, "--allow-interface", wire.near, *options, before=before) as session:
        yield session


@pytest.mark.parametrize("change", ["deleted", "renamed"])
def test_a_file_that_is_deleted_or_renamed_under_a_capture_is_no_plain_success(
    user: Account, wire: Wire, change: str
) -> None:
    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(5)
            path = Path(started["path"])
            if change == "deleted":
                path.unlink()
            else:
                path.rename(path.with_suffix(".elsewhere"))
            row = await session.call("qemu_pcap_stop")
            assert row["state"] == "failed"
            assert row["error"].startswith("capture.output_unwritable: ")
            assert f"{path} was deleted or renamed" in row["error"]

    anyio.run(scenario)


def test_an_interface_that_is_renamed_is_captured_on(user: Account, wire: Wire) -> None:
    def rename(old: str, new: str) -> None:
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=old)[0], ifname=new)

    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(3)
            await anyio.to_thread.run_sync(rename, wire.near, "other0")
            wire.send(4)
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["packets"]) == ("stopped", 7)

    anyio.run(scenario)


def test_when_descriptors_run_out_the_start_says_so_and_works_again_after(user: Account, wire: Wire) -> None:
    """Each start at the limit fails at another place, since some of its descriptors may still be had."""

    async def scenario() -> None:
        async with on_wire(user, wire, before=("prlimit", "--nofile=64:64")) as session:
            ids = [(await session.call("qemu_pcap_start", interface=wire.near))["capture"]]
            errors: list[str] = []
            while len(errors) < 5:
                try:
                    ids.append((await session.call("qemu_pcap_start", interface=wire.near, filter=OURS))["capture"])
                except ToolFailed as error:
                    errors.append(str(error))
            assert all(error.startswith(("capture.failed: ", "server.exhausted: ")) for error in errors), errors
            assert all("Too many open files" in error for error in errors), errors
            held = open_files(session.pid)
            assert held >= {str(path) for path in user.captures.iterdir()}
            assert len(list(user.captures.iterdir())) == len(ids)  # a start that failed left no file
            wire.send(10)
            rows = [await session.call("qemu_pcap_stop", capture=each) for each in ids]
            assert {row["packets"] for row in rows} == {10}
            again = await session.call("qemu_pcap_start", interface=wire.near)
            wire.send(1)
            assert (await session.call("qemu_pcap_stop", capture=again["capture"]))["packets"] == 1

    anyio.run(scenario)


def test_many_calls_at_once_start_and_stop_captures_of_a_flood(user: Account, wire: Wire) -> None:
    """Starts and stops overlap in every way; each capture's counters balance with its own file."""

    async def one(session: Session, rows: list[dict[str, Any]]) -> None:
        started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
        rows.append(await session.call("qemu_pcap_stop", capture=started["capture"]))

    async def scenario() -> None:
        async with on_wire(user, wire) as session, anyio.create_task_group() as flood:
            rows: list[dict[str, Any]] = []
            done = anyio.Event()

            async def send() -> None:
                while not done.is_set():
                    await anyio.to_thread.run_sync(wire.send, 200)

            flood.start_soon(send)
            for _ in range(3):
                async with anyio.create_task_group() as calls:
                    for _ in range(15):
                        calls.start_soon(one, session, rows)
            done.set()
            assert len(rows) == 45
            for row in rows:
                assert (row["state"], row["error"]) == ("stopped", None)
                assert not any("never came out" in warning for warning in row["warnings"])
                assert row["packets"] == read_back(row["path"])

    anyio.run(scenario)


def test_several_servers_capture_one_wire_and_each_has_all(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with on_wire(user, wire) as first, on_wire(user, wire) as second, on_wire(user, wire) as third:
            sessions = (first, second, third)
            for session in sessions:
                await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(500)
            rows = [await session.call("qemu_pcap_stop") for session in sessions]
            assert [row["packets"] for row in rows] == [500, 500, 500]
            assert len({row["path"] for row in rows}) == 3

    anyio.run(scenario)


def test_a_ring_keeps_the_last_packets_in_order_and_says_what_it_overwrote(user: Account, wire: Wire) -> None:
    """Files of 4096 bytes hold 53 packets of 60 bytes each."""

    def held(session: Session) -> set[str]:
        return {name for name in open_files(session.pid) if name.startswith(str(user.captures))}

    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, files=3, max_bytes=4096)
            wire.send(19 * 53)
            # A removed file is given back as its successor grows: when that is full, there is nothing of it.
            assert await eventually_async(lambda: {name[-10:] for name in held(session)} == {"00019.pcap"})
            wire.send(30)
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["reason"], row["error"]) == ("stopped", "stopped", None)
            assert [len(numbers_in(path)) for path in row["files"]] == [53, 53, 30]
            kept = [number for path in row["files"] for number in numbers_in(path)]
            assert kept == [*range(17 * 53, 19 * 53), *range(30)]
            assert (row["packets"], row["packets_overwritten"]) == (len(kept), 17 * 53)
            assert row["bytes"] == 60 * len(kept)
            assert row["size_bytes"] == sum(Path(path).stat().st_size for path in row["files"])
            assert row["path"] == row["files"][-1]
            assert sorted(map(str, user.captures.iterdir())) == row["files"]
            assert not held(session)
            page = await session.call("qemu_pcap_read", path=row["files"][0])
            assert (page["scanned"], page["packets"][0]["number"]) == (53, 1)
            assert page["warnings"] == ["this is file 1 of a ring's 3: capture= reads them all"]
            page = await session.call("qemu_pcap_read", first=17 * 53 + 50, limit=10)
            assert (page["scanned"], page["path"], page["warnings"]) == (len(kept), row["path"], [])
            assert [packet["number"] for packet in page["packets"]] == list(range(17 * 53 + 50, 17 * 53 + 60))
            page = await session.call("qemu_pcap_read", first=10, limit=1)
            assert page["packets"][0]["number"] == 17 * 53 + 1
            assert page["warnings"] == [f"{17 * 53 - 9} packets before these were overwritten by the ring meanwhile"]

    anyio.run(scenario)


def test_a_ring_whose_folder_is_taken_away_fails_and_keeps_what_it_has(user: Account, wire: Wire) -> None:
    """The worker's own error: no call waits for it, so it is in the later answers."""
    aside = user.home / "aside"

    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, files=3, max_bytes=4096)
            user.captures.rename(aside)
            user.captures.write_text("", encoding="ascii")
            wire.send(100)
            row = await session.ended(started["capture"])
            assert row["state"] == "failed"
            assert row["error"].startswith("capture.output_unwritable: cannot create a capture file")
            assert row["packets"] == 53 == read_back(aside / Path(started["path"]).name)
            assert (await session.call("qemu_pcap_stop", capture=started["capture"]))["error"] == row["error"]

    anyio.run(scenario)


@contextmanager
def flood(wire: Wire, size: int) -> Iterator[None]:
    """Frames of `size` bytes as fast as a process can send them."""
    with subprocess.Popen(["python3", "-c", _FLOOD, wire.far, str(size)]) as sender:
        try:
            yield
        finally:
            sender.kill()


_FLOOD = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind((sys.argv[1], 0))
frame = (bytes.fromhex("ffffffffffff02000000000188b5")).ljust(int(sys.argv[2]), b"\\0")
while True:
    sender.send(frame)
"""


@pytest.mark.parametrize("moments", [6, pytest.param(100, marks=pytest.mark.soak)])
def test_after_sigkill_at_any_moment_the_files_end_on_a_whole_record(user: Account, wire: Wire, moments: int) -> None:
    """libpcap reads every file to its end without a complaint; nothing has to be repaired first."""
    chance = random.Random(moments)

    async def killed(ring: dict[str, int]) -> None:
        known = set(children_of(os.getpid()))
        with contextlib.suppress(Exception):  # the client's, whose server is killed under it
            async with on_wire(user, wire) as session:
                started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, **ring)
                assert await eventually_async(lambda: Path(started["path"]).stat().st_size > 1 << 12)
                await anyio.sleep(chance.uniform(0, 0.1))
                os.kill(session.pid, signal.SIGKILL)
        assert eventually(lambda: set(children_of(os.getpid())) <= known)

    for moment in range(moments):
        with flood(wire, chance.choice([60, 300, 1514])):
            anyio.run(killed, [{}, {"files": 3, "max_bytes": 1 << 20}][moment % 2])
        assert eventually(lambda: not trimmers())
        *full, newest = sorted(user.captures.glob("[!.]*"))
        assert all(read_back(path) > 0 for path in full)
        # A ring's newest may have begun a moment ago: then it is its header and nothing else.
        assert read_back(newest) > 0 or (full and newest.stat().st_size == PCAP_HEADER)
        for path in (*full, newest):
            path.unlink()


def test_the_trimmer_has_no_capability_and_ends_with_its_server(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            assert trimmers() == []
            await session.call("qemu_pcap_start", interface=wire.near)
            (trimmer,) = trimmers()
            status = Path(f"/proc/{trimmer}/status").read_text(encoding="utf-8")
            assert "CapPrm:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            await session.call("qemu_pcap_stop")
            with pytest.raises(ToolFailed, match=r"^capture\.bad_filter: "):
                await session.call("qemu_pcap_start", interface=wire.near, filter="icmp icmp")
            # Nothing of a capture that has ended, or did not start, is held.
            assert await eventually_async(lambda: not any("captures" in name for name in open_files(trimmer)))
        assert trimmers() == []

    anyio.run(scenario)


@pytest.mark.soak
def test_a_clock_that_is_set_forward_and_back_changes_no_duration(user: Account, wire: Wire) -> None:
    """The machine's own clock, for some moments: so not in a run beside which others may be running."""

    def shift(seconds: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + seconds)

    async def scenario() -> None:
        async with on_wire(user, wire) as session:
            begun = time.monotonic()
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, max_seconds=3)
            shift(3600)
            try:
                wire.send(3)
                row = (await session.call("qemu_pcap_status", capture=started["capture"]))["captures"][0]
                assert row["state"] == "running"
                assert row["duration"] < 3
            finally:
                shift(-3600)
            wire.send(2)
            row = await session.ended(started["capture"])
            assert (row["reason"], row["packets"]) == ("max_seconds", 5)
            assert 3 <= row["duration"] <= time.monotonic() - begun

    anyio.run(scenario)
