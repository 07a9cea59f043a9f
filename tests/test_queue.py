"""What comes while a disk is behind: it is kept in the memory that was granted, and accounted for to the last."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import stalling_disk
from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.session import CaptureRequest, CaptureSession
from rawtap.guest.filter_mirror import packed
from stalling_disk import Disk
from support import (
    PATIENCE,
    PCAP_HEADER,
    RECORD_HEADER,
    Account,
    Session,
    Wire,
    eventually,
    eventually_async,
    link_names,
    numbers_in,
    read_back,
    serving,
    trimmers,
)
from test_endings import end_by, raw_client

OURS = "ether proto 0x88b5"
SIZE = 1500
RECORD = RECORD_HEADER + SIZE
MIB = 1 << 20
PORTION = 2000
FRAME = packed((b"\xff" * 6 + b"\x52\x54\0\0\0\1" + b"\x88\xb5").ljust(SIZE, b"\0"))


@pytest.fixture
def disk(user: Account) -> Iterator[Disk]:
    folder = user.home / "disk"
    folder.mkdir()
    with stalling_disk.mounted(folder, user.uid, user.gid) as mounted:
        yield mounted


def adds_up(row: dict[str, Any]) -> bool:
    saved = row["packets"] + row["packets_overwritten"]
    return bool(row["seen"] == saved + row["dropped_kernel"] + row["refused"] + row["in_flight"])


async def sent(session: Session, wire: Wire, count: int, capture: str | None = None, already: int = 0) -> None:
    """Send so many, in portions that the kernel's ring holds however busy the machine is."""
    for _ in range(count // PORTION):
        await anyio.to_thread.run_sync(wire.send, PORTION, SIZE)
        already += PORTION
        await arrived(session, already, capture)


async def row_of(session: Session, capture: str | None = None) -> dict[str, Any]:
    row: dict[str, Any] = (await session.call("qemu_pcap_status", capture=capture))["captures"][0]
    assert row["filtered"] is None or row["filtered"] == 0
    return row


async def arrived(session: Session, count: int, capture: str | None = None) -> dict[str, Any]:
    """The row when the kernel's count has got as far as that."""
    with anyio.fail_after(PATIENCE):
        while (row := await row_of(session, capture))["seen"] != count:
            pass
    return row


def options(wire: Wire, disk: Disk, ring_mib: int = 4, buffer_mib: int = 128) -> tuple[object, ...]:
    folder = disk.folder / "captures"
    sizes = ("--ring-mib", str(ring_mib), "--buffer-mib", str(buffer_mib))
    return ("--allow-interface", wire.near, "--capture-dir", folder, *sizes)


def test_what_comes_while_the_disk_stands_still_is_kept_and_saved_in_its_order(
    user: Account, wire: Wire, disk: Disk
) -> None:
    """Three times what the kernel's ring holds."""
    count = 8_000

    async def scenario() -> None:
        async with serving(user, *options(wire, disk)) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near)
            disk.stall()
            await sent(session, wire, count)
            row = await row_of(session)
            assert adds_up(row)
            assert (row["dropped_kernel"], row["refused"], row["buffer_bytes"]) == (0, 0, 128 * MIB)
            assert row["buffer_most"] > count * RECORD - 2 * MIB
            assert row["in_flight"] > count - 4 * MIB // RECORD
            disk.resume()
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["dropped_kernel"], row["in_flight"], row["warnings"]) == (count, 0, 0, [])
            assert row["size_bytes"] == PCAP_HEADER + count * RECORD
            assert numbers_in(started["path"]) == list(range(PORTION)) * (count // PORTION)

    anyio.run(scenario)


def test_no_more_memory_is_taken_than_was_granted_and_the_rest_is_counted_as_dropped(
    user: Account, wire: Wire, disk: Disk
) -> None:
    count = 20_000

    async def scenario() -> None:
        async with serving(user, *options(wire, disk, ring_mib=1, buffer_mib=8)) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near)
            disk.stall()
            await anyio.to_thread.run_sync(wire.send, count, SIZE)
            disk.resume()
            row = await session.call("qemu_pcap_stop")
            assert row["dropped_kernel"] > 0
            assert row["packets"] + row["dropped_kernel"] == row["seen"] == count
            assert 5 * MIB < row["buffer_most"] <= (8 + 1) * MIB
            assert any("The disk was behind" in warning for warning in row["warnings"])
            numbers = numbers_in(started["path"])
            assert numbers == sorted(set(numbers))
            assert len(numbers) == row["packets"]

    anyio.run(scenario)


def test_what_was_queued_when_the_disk_ran_full_is_counted_as_refused_with_the_reason(
    user: Account, wire: Wire, disk: Disk
) -> None:
    count = 8_000

    async def scenario() -> None:
        async with serving(user, *options(wire, disk)) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near)
            await anyio.to_thread.run_sync(wire.send, 100, SIZE)
            path = Path(started["path"])
            assert await eventually_async(lambda: path.stat().st_size == PCAP_HEADER + 100 * RECORD)
            disk.stall()
            await sent(session, wire, count, already=100)
            disk.run_full()
            disk.resume()
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["reason"]) == ("failed", "no_space")
            assert row["error"].startswith("capture.no_space: ")
            assert row["seen"] == 100 + count
            assert adds_up(row)
            assert (row["dropped_kernel"], row["in_flight"]) == (0, 0)
            assert 100 <= row["packets"] == read_back(started["path"])
            assert row["size_bytes"] == path.stat().st_size == PCAP_HEADER + row["packets"] * RECORD

    anyio.run(scenario)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_the_server_ends_with_a_full_queue_and_a_disk_that_does_not_answer(
    user: Account, wire: Wire, disk: Disk, how: str
) -> None:
    """The file ends with a whole packet, the first that were sent; what was in memory is lost."""
    count = 8_000
    with raw_client(user, *map(str, options(wire, disk))) as client:
        started = client.call("qemu_pcap_start", interface=wire.near)
        wire.send(100, SIZE)
        path = Path(started["path"])
        assert eventually(lambda: path.stat().st_size == PCAP_HEADER + 100 * RECORD)
        disk.stall()
        wire.send(count, SIZE)
        end_by(client, how)
        if how == "SIGTERM":
            assert client.process.wait(timeout=PATIENCE) == 0
        disk.resume()
        client.process.wait(timeout=PATIENCE)
    assert eventually(lambda: trimmers() == [])
    numbers = numbers_in(str(path))
    assert numbers == [*range(100), *range(len(numbers) - 100)]
    assert link_names() <= {wire.near, wire.far}


def mirrored(folder: Path, number: int, granted: int, **more: int) -> tuple[CaptureSession, socket.socket]:
    """A capture of a guest's own network, and the test's end of its socket: what it does not take waits there."""
    near, far = socket.socketpair()
    request, source = CaptureRequest(f"user:{number}", **more), MirrorSource(near, "52:54:00:00:00:01")
    return CaptureSession.start(request, source, folder, str(number), buffer_bytes=granted), far


def flooded(far: socket.socket, most: int) -> int:
    """Send until nobody takes more, for two seconds, or `most` are sent; how many that were."""
    far.settimeout(2)
    count = 0
    with contextlib.suppress(TimeoutError):
        while count < most:
            far.sendall(FRAME)
            count += 1
    return count


def test_one_capture_that_is_flooded_leaves_memory_to_seven_others(tmp_path: Path) -> None:
    """Their frames come from QEMU's sockets, which say themselves when nobody takes more out of them."""
    granted, few = 32 * MIB, 1000
    with stalling_disk.mounted(tmp_path, 0, 0) as disk, contextlib.ExitStack() as stack:
        made = [mirrored(tmp_path, number, granted) for number in range(8)]
        sessions = [session for session, _ in made]
        wires = [stack.enter_context(far) for _, far in made]
        disk.stall()
        flood = flooded(wires[0], 4 * granted // RECORD)
        assert 0.7 * granted < flood * RECORD < granted
        for far in wires[1:]:
            far.settimeout(PATIENCE)
            for _ in range(few):
                far.sendall(FRAME)
        for session in sessions[1:]:
            assert eventually(lambda session=session: session.snapshot().in_flight == few)  # type: ignore[misc]
        disk.resume()
        stopped = [session.stop().packets for session in sessions]
        assert (stopped[0] >= flood, stopped[1:]) == (True, [few] * 7)
        for far in wires:
            far.close()
        for session in sessions:
            session.close()


def test_a_ring_goes_on_while_the_disk_gives_a_removed_file_back(tmp_path: Path) -> None:
    """The third file is filled while the first is on its way out; nobody but the fourth waits for that."""
    in_a_file = (2 * MIB - PCAP_HEADER) // RECORD
    count = 5 * in_a_file
    with stalling_disk.mounted(tmp_path, 0, 0) as disk:
        session, far = mirrored(tmp_path, 0, 64 * MIB, max_bytes=2 * MIB, files=2)
        disk.hold_cuts()
        assert flooded(far, count) == count
        disk.until_asked()
        assert eventually(lambda: session.saved == 3 * in_a_file)
        disk.resume()
        row = session.stop()
        assert (row.packets + row.packets_overwritten, row.in_flight, row.dropped_kernel) == (count, 0, 0)
        assert [segment.number for segment in session.segments] == [4, 5]
        assert len(list(tmp_path.glob("*.pcap"))) == 2
        far.close()
        session.close()


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_a_ring_of_the_smallest_files_loses_nothing(user: Account, wire: Wire, format_: str) -> None:
    count = 60_000

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, "--ring-mib", "64") as session:
            await session.call("qemu_pcap_start", interface=wire.near, files=4, max_bytes=4096, format=format_)
            await anyio.to_thread.run_sync(wire.send, count, 100)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"] + row["packets_overwritten"], row["dropped_kernel"]) == (count, 0)
            assert len(row["files"]) == 4
            assert all(Path(path).stat().st_size <= 4096 for path in row["files"])
            kept = [number for path in row["files"] for number in numbers_in(path)]
            assert kept == list(range(count - row["packets"], count))

    anyio.run(scenario)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_memory_that_a_burst_took_is_given_back(tmp_path: Path) -> None:
    """Most of what the burst filled is gone from the process a while after the disk has caught up."""
    count = 20_000
    with stalling_disk.mounted(tmp_path, 0, 0) as disk:
        session, far = mirrored(tmp_path, 0, 64 * MIB)
        with far:
            disk.stall()
            for _ in range(count):
                far.sendall(FRAME)
            assert eventually(lambda: session.snapshot().in_flight == count)
            full = resident()
            disk.resume()
            assert eventually(lambda: resident() < full - count * RECORD // 2)
            assert session.stop().packets == count
        session.close()


def test_memory_that_was_given_back_can_be_taken_again(tmp_path: Path) -> None:
    """A second capture's burst, after the first one's memory is gone, fills about as much."""
    granted = 24 * MIB
    with stalling_disk.mounted(tmp_path, 0, 0) as disk:
        first, far = mirrored(tmp_path, 0, granted)
        second, other = mirrored(tmp_path, 1, granted)
        with far, other:
            disk.stall()
            filled = [flooded(far, 4 * granted // RECORD)]
            full = resident()
            disk.resume()
            assert eventually(lambda: resident() < full - filled[0] * RECORD // 2)
            disk.stall()
            filled.append(flooded(other, 4 * granted // RECORD))
            disk.resume()
            assert abs(filled[0] - filled[1]) * RECORD < 4 * MIB
            first.stop()
            second.stop()
        first.close()
        second.close()
