"""Captures on a wire of our own: nothing lost, counters that balance, limits, a full disk."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

import anyio
import pytest

from support import (
    PATIENCE,
    PCAP_HEADER,
    RAWTAP,
    RECORD_HEADER,
    Account,
    Session,
    ToolFailed,
    Wire,
    eventually_async,
    numbers_in,
    read_back,
    serving,
)

OURS = "ether proto 0x88b5"


async def stopped_after(session: Session, wire: Wire, count: int) -> dict[str, object]:
    """Start, send, stop at once."""
    await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
    wire.send(count)
    return await session.call("qemu_pcap_stop")


def test_fifty_captures_lose_nothing_between_the_starts_answer_and_the_stop(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            for cycle in range(50):
                count = 1 + 37 * cycle
                row = await stopped_after(session, wire, count)
                assert (row["packets"], row["dropped_kernel"]) == (count, 0)
                assert row["size_bytes"] == PCAP_HEADER + count * (RECORD_HEADER + 60)
                assert row["bytes"] == count * 60
                assert row["warnings"] == []
            assert read_back(str(row["path"])) == count

    anyio.run(scenario)


def test_frames_from_before_the_start_are_not_in_the_file(user: Account, wire: Wire) -> None:
    """The socket is bound before the filter is set: what comes in between must not be counted or kept."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session, anyio.create_task_group() as group:
            busy = anyio.Event()

            async def flood() -> None:
                while not busy.is_set():
                    await anyio.to_thread.run_sync(wire.send, 200, 60, 0x88B6)

            group.start_soon(flood)
            for _ in range(10):
                row = await stopped_after(session, wire, 25)
                assert (row["packets"], row["warnings"]) == (25, [])
            busy.set()

    anyio.run(scenario)


def test_a_stop_in_a_flood_accounts_for_every_packet(user: Account, wire: Wire) -> None:
    """Every packet that the kernel counted is in the file or among the dropped: "never came out" would be a warning."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session, anyio.create_task_group() as group:
            done = anyio.Event()

            async def flood() -> None:
                while not done.is_set():
                    await anyio.to_thread.run_sync(wire.send, 2000, 1500)

            group.start_soon(flood)
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            assert (await session.call("qemu_pcap_wait", since="start", count=200, timeout=PATIENCE))["satisfied"]
            row = await session.call("qemu_pcap_stop")
            done.set()
            assert row["packets"] == read_back(row["path"]) > 0
            assert not any("never came out" in warning for warning in row["warnings"])

    anyio.run(scenario)


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
@pytest.mark.parametrize("size", [60, 61, 1501])
def test_every_packet_of_a_burst_is_saved_whole_and_in_order(
    user: Account, wire: Wire, format_: str, size: int
) -> None:
    """Bursts of large packets go to the disk past the page cache, in whole blocks; small ones do not.

    The ring has room for all of them, so that nothing hangs on how fast the machine is.
    """

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, "--ring-mib", "64") as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, format=format_)
            await anyio.to_thread.run_sync(wire.send, 10000, size)
            await anyio.to_thread.run_sync(wire.send, 10000, size)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["dropped_kernel"]) == (20000, 0)
            assert numbers_in(row["path"]) == [*range(10000), *range(10000)]

    anyio.run(scenario)


def test_a_pcapng_file_says_how_it_was_made_and_three_programs_read_it(user: Account, wire: Wire) -> None:
    def output_of(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[1:] == []  # the first line: "Running as user root", or nothing
        return done.stdout

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call(
                "qemu_pcap_start", interface=wire.near, filter=OURS, format="pcapng", comment="the second try", files=2
            )
            assert (started["format"], started["limits"]["files"]) == ("pcapng", 2)
            wire.send(11)
            row = await session.call("qemu_pcap_stop")
            info = output_of("capinfos", row["path"])
            for expected in (
                "Number of packets:   11",
                "Capture comment:     the second try",
                f"Name = {wire.near}",
                f"Filter string = {OURS}",
                "Number of stat entries = 1",
                "nanoseconds",
            ):
                assert expected in info
            assert (
                output_of("tshark", "-r", row["path"], "-T", "fields", "-e", "frame.interface_name").split()
                == [wire.near] * 11
            )
            assert read_back(row["path"]) == 11 == (await session.call("qemu_pcap_read", limit=1))["matched"]
            with pytest.raises(ToolFailed, match=r"^request\.invalid: a pcap file has no place for a comment"):
                await session.call("qemu_pcap_start", interface=wire.near, comment="lost")

    anyio.run(scenario)


def test_several_captures_run_at_once_and_each_sees_its_own(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            filters = [OURS, "ether proto 0x88b6", "greater 200", ""]
            ids = [
                (await session.call("qemu_pcap_start", interface=wire.near, filter=each))["capture"] for each in filters
            ]
            wire.send(10)
            wire.send(20, protocol=0x88B6)
            wire.send(30, size=300)
            rows = [await session.call("qemu_pcap_stop", capture=each) for each in ids]
            assert [row["packets"] for row in rows] == [40, 20, 30, 60]
            listed = await session.call("qemu_pcap_status")
            assert [row["capture"] for row in listed["captures"]] == ids

    anyio.run(scenario)


def test_a_running_captures_counters_and_file_are_live(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(100)
            path = Path(started["path"])
            assert await eventually_async(lambda: path.stat().st_size == PCAP_HEADER + 100 * (RECORD_HEADER + 60))
            status = await session.call("qemu_pcap_status", capture=started["capture"])
            assert (status["captures"][0]["state"], status["captures"][0]["packets"]) == ("running", 100)
            first = await session.call("qemu_pcap_read", limit=60)
            assert (len(first["packets"]), first["matched"]) == (60, 100)
            wire.send(5)
            assert await eventually_async(lambda: path.stat().st_size == PCAP_HEADER + 105 * (RECORD_HEADER + 60))
            second = await session.call("qemu_pcap_read", limit=60, cursor=first["next_cursor"])
            assert [packet["number"] for packet in second["packets"]] == list(range(61, 106))
            assert second["next_cursor"] is not None  # more may come
            await session.call("qemu_pcap_stop")
            last = await session.call("qemu_pcap_read", limit=60, cursor=second["next_cursor"])
            assert (last["packets"], last["next_cursor"], last["scanned"]) == ([], None, 105)

    anyio.run(scenario)


def test_each_limit_ends_a_capture_and_is_its_reason(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:

            async def ended(**limit: float) -> dict[str, object]:
                started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, **limit)
                wire.send(1000)
                return await session.ended(started["capture"])

            by_packets = await ended(max_packets=7)
            assert (by_packets["reason"], by_packets["packets"]) == ("max_packets", 7)
            by_bytes = await ended(max_bytes=PCAP_HEADER + 100 * (RECORD_HEADER + 60) + 10)
            assert (by_bytes["reason"], by_bytes["packets"]) == ("max_bytes", 100)
            assert read_back(str(by_bytes["path"])) == 100
            for end in (wire.near, wire.far):
                subprocess.run(["ip", "link", "set", end, "mtu", "9000"], check=True)
            started = await session.call("qemu_pcap_start", interface=wire.near, max_bytes=4096)
            wire.send(1, size=5000)
            by_one = await session.ended(started["capture"])
            assert (by_one["reason"], by_one["packets"], by_one["refused"]) == ("max_bytes", 0, 1)
            assert by_one["diagnosis"].startswith(
                "The first packet that matched does not fit into a file of max_bytes="
            )
            by_time = await ended(max_seconds=0.2)
            assert by_time["reason"] == "max_seconds"
            assert float(str(by_time["duration"])) >= 0.2
            assert by_time["packets"] == read_back(str(by_time["path"]))

    anyio.run(scenario)


def test_snaplen_cuts_packets_and_keeps_their_length(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, snaplen=20)
            wire.send(3, size=500)
            row = await session.call("qemu_pcap_stop")
            assert (row["bytes"], row["size_bytes"]) == (1500, PCAP_HEADER + 3 * (RECORD_HEADER + 20))
            page = await session.call("qemu_pcap_read")
            assert [(each["length"], each["captured"]) for each in page["packets"]] == [(500, 20)] * 3

    anyio.run(scenario)


def test_a_short_snaplen_loses_nothing_to_a_filter_that_looks_further(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            for snaplen in (14, 20, 34):
                await session.call("qemu_pcap_start", interface=wire.near, filter="ether[50] = 0", snaplen=snaplen)
                wire.send(50)
                row = await session.call("qemu_pcap_stop")
                assert (row["packets"], row["warnings"]) == (50, [])
                assert row["size_bytes"] == PCAP_HEADER + 50 * (RECORD_HEADER + snaplen)

    anyio.run(scenario)


def test_a_full_disk_ends_the_capture_and_is_told_with_the_true_count(
    user: Account, wire: Wire, small_disk: Path
) -> None:
    """The file system holds 1 MiB: about 650 of these packets fit."""

    async def scenario() -> None:
        options = ("--allow-interface", wire.near, "--capture-dir", small_disk)
        async with serving(user, *options) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(2000, size=1500)
            row = await session.ended()
            assert row["state"] == "failed"
            assert str(row["error"]).startswith("capture.no_space: ")
            assert 0 < int(str(row["packets"])) < 2000
            assert row["packets"] == read_back(started["path"])
            assert row["size_bytes"] == Path(started["path"]).stat().st_size
            # The first error is in every later answer.
            stopped = await session.call("qemu_pcap_stop", capture=started["capture"])
            assert (stopped["error"], stopped["packets"]) == (row["error"], row["packets"])
            # And the next start says at once that there is no room.
            with pytest.raises(ToolFailed, match=r"^capture\.no_space: "):
                await session.call("qemu_pcap_start", interface=wire.near)

    anyio.run(scenario)


def test_a_write_that_gets_half_way_leaves_whole_records_only(user: Account, wire: Wire, small_disk: Path) -> None:
    """Records of 1516 bytes do not divide the file system's pages: the last write(2) is a short one."""

    async def scenario() -> None:
        filler = small_disk / "filler"
        options = ("--allow-interface", wire.near, "--capture-dir", small_disk)
        async with serving(user, *options) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(1 << 20))
            wire.send(400, size=1500)
            row = await session.call("qemu_pcap_stop")
            assert str(row["error"]).startswith("capture.no_space: ")
            size = Path(started["path"]).stat().st_size
            assert (size - PCAP_HEADER) % (RECORD_HEADER + 1500) == 0
            assert row["packets"] == (size - PCAP_HEADER) // (RECORD_HEADER + 1500) == read_back(started["path"])

    anyio.run(scenario)


def test_an_interface_that_is_removed_ends_the_capture_with_all_packets_and_no_failure(user: Account) -> None:
    """Five times: what is in the kernel's unfinished block at that moment must not be lost."""

    async def remove_under(session: Session, wire: Wire) -> None:
        started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
        wire.send(3)
        await anyio.to_thread.run_sync(wire.remove, wire.near)
        row = await session.ended(started["capture"])
        assert (row["state"], row["reason"], row["error"]) == ("stopped", "interface_removed", None)
        assert any("was removed" in warning for warning in row["warnings"])
        assert row["packets"] == read_back(started["path"]) == 3

    async def scenario(wires: list[Wire]) -> None:
        options = [word for wire in wires for word in ("--allow-interface", wire.near)]
        async with serving(user, *options) as session:
            for wire in wires:
                await remove_under(session, wire)

    with contextlib.ExitStack() as stack:
        anyio.run(scenario, [stack.enter_context(Wire.make(f"near{each}", f"far{each}")) for each in range(5)])


def test_an_interface_that_goes_down_and_up_again_is_told(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(3)
            await anyio.to_thread.run_sync(wire.set_state, wire.near, "down")
            await anyio.to_thread.run_sync(wire.set_state, wire.near, "up")
            await anyio.to_thread.run_sync(wire.until_connected)
            wire.send(4)
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == 7
            (warning,) = row["warnings"]
            assert re.fullmatch(rf"'{wire.near}' was down from \d+\.\d\d s to \d+\.\d\d s after the start", warning)

    anyio.run(scenario)


def test_a_page_is_selected_by_a_filter_and_followed_by_a_cursor(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            wire.send(50)
            wire.send(50, size=100)
            row = await session.call("qemu_pcap_stop")
            seen: list[int] = []
            cursor = None
            while True:
                page = await session.call(
                    "qemu_pcap_read", path=row["path"], filter="greater 80", limit=15, cursor=cursor
                )
                assert (page["matched"], page["scanned"]) == (50, 100)
                seen += [packet["number"] for packet in page["packets"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert seen == list(range(51, 101))

    anyio.run(scenario)


def test_calls_that_name_no_capture_mean_the_same_one_until_another_starts(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:

            async def started() -> str:
                return str((await session.call("qemu_pcap_start", interface=wire.near))["capture"])

            async def read() -> int:
                return int((await session.call("qemu_pcap_read"))["matched"])

            first = await started()
            wire.send(1)
            second = await started()
            wire.send(3)
            assert (await session.call("qemu_pcap_stop"))["capture"] == second
            assert await read() == 3
            assert (await session.call("qemu_pcap_wait", count=1, timeout=0))["capture"] == first
            assert (await session.call("qemu_pcap_stop"))["capture"] == first
            assert await read() == 4
            await started()
            assert await read() == 0

    anyio.run(scenario)


@pytest.mark.parametrize("mebibytes", [1, 16])
def test_the_operator_sizes_the_kernels_ring(user: Account, wire: Wire, mebibytes: int) -> None:
    """The ring is mapped into the server, as what /proc/PID/maps calls a socket."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, "--ring-mib", str(mebibytes)) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            lines = Path(f"/proc/{session.pid}/maps").read_text(encoding="utf-8").splitlines()
            (ends,) = [line.split()[0].split("-") for line in lines if "socket:[" in line]
            begin, end = (int(each, 16) for each in ends)
            assert mebibytes << 20 <= end - begin < (mebibytes + 1) << 20

    anyio.run(scenario)


@pytest.mark.parametrize("text", ["0", "1025", "4M"])
def test_a_ring_of_no_size_is_refused(text: str) -> None:
    done = subprocess.run([RAWTAP, "serve", "--ring-mib", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"argument --ring-mib: '{text}' is no whole number from 1 to 1024" in done.stderr


def test_a_page_shows_layers_or_bytes_and_is_bounded(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(60)
            await session.call("qemu_pcap_stop")
            page = await session.call("qemu_pcap_read", detail="layers", limit=1)
            assert page["packets"][0]["layers"] == [
                {
                    "layer": "Ethernet",
                    "offset": 0,
                    "size": 14,
                    "fields": {"dst": "ff:ff:ff:ff:ff:ff", "src": "02:00:00:00:00:01", "type": 0x88B5},
                    "names": {"type": "0x88b5"},
                },
                {"layer": "Raw", "offset": 14, "size": 46, "fields": {}, "names": {}},
            ]
            page = await session.call("qemu_pcap_read", detail="hex", limit=1)
            assert page["packets"][0]["runs"] == [
                {"offset": 0, "hex": "ff" * 6 + "020000000001" + "88b5" + "00" * 18, "fields": ""},
                {"offset": 32, "hex": "00" * 28, "fields": ""},
            ]
            seen: list[int] = []
            cursor = None
            while cursor is not None or not seen:
                page = await session.call("qemu_pcap_read", detail="layers", limit=60, cursor=cursor)
                assert len(json.dumps(page)) < 30_000
                seen += [packet["number"] for packet in page["packets"]]
                cursor = page["next_cursor"]
                assert bool(page["warnings"]) == (cursor is not None)
            assert seen == list(range(1, 61))
            plain = (await session.call("qemu_pcap_read"))["packets"][0]
            assert not {"layers", "runs", "fields", "stopped"} & plain.keys()
            page = await session.call("qemu_pcap_read", fields=["Ethernet.src", "Ether.type", "IP.src"], limit=2)
            picked = {"Ethernet.src": "02:00:00:00:00:01", "Ether.type": 0x88B5}
            assert [packet["fields"] for packet in page["packets"]] == [picked] * 2
            assert page["warnings"] == [
                'no packet of this page has IP.src: detail="layers" shows the names',
            ]

    anyio.run(scenario)
