"""Every frame that a capture was given is accounted for, at every moment and at every stop; its files are its own."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest, CaptureSession
from support import (
    PATIENCE,
    Account,
    ToolFailed,
    Wire,
    eventually,
    eventually_async,
    host_sends,
    numbers_in,
    read_back,
    serving,
)

OURS = "ether proto 0x88b5"
PORT = 9999


def closes(row: dict[str, Any]) -> bool:
    """The invariant, over an answer's own numbers."""
    parts = ("filtered", "packets", "packets_overwritten", "dropped_kernel", "refused", "in_flight")
    return int(row["seen"]) == sum(row[part] or 0 for part in parts)


def counters_in(path: str | Path) -> dict[int, int]:
    """The counters of a pcapng file's last block, by their codes (draft-ietf-opsawg-pcapng, 4.6)."""
    data = Path(path).read_bytes()
    block = data[-int.from_bytes(data[-4:], "little") :]
    assert int.from_bytes(block[:4], "little") == 5
    at, found = 20, {}
    while (code := struct.unpack_from("<H", block, at)[0]) != 0:
        size = struct.unpack_from("<H", block, at + 2)[0]
        if code > 3:
            found[code] = int.from_bytes(block[at + 4 : at + 4 + size], "little")
        at += 4 + (size + 3) // 4 * 4
    return found


@contextmanager
def session_on(wire: Wire, folder: Path, **request: Any) -> Iterator[CaptureSession]:
    """A capture in this process, which is root's."""
    source = InterfaceSource(socket.if_nametoindex(wire.near), 4 << 20)
    session = CaptureSession.start(CaptureRequest(wire.near, **request), source, folder, "t")
    try:
        yield session
    finally:
        session.close()


# ---------------------------------------------------------------- what libpcap would throw away out of sight


def test_on_the_loopback_interface_the_account_closes_and_nothing_runs_ahead(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", "lo") as session:
            await session.call("qemu_pcap_start", interface="lo", filter=f"udp port {PORT}")
            for sent in (3, 6):
                for _ in range(3):
                    host_sends(("127.0.0.1", PORT))
                waited = await session.call("qemu_pcap_wait", since="start", count=sent + 1, timeout=0.01)
                assert (waited["matched"], waited["since"]) == (sent, sent)
            with pytest.raises(ToolFailed, match=r"since=7 is not there yet: the capture has saved 6 packets"):
                await session.call("qemu_pcap_wait", since=7, timeout=0.01)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["seen"], row["in_flight"]) == (6, 6, 0)
            assert row["warnings"] == []
            assert read_back(row["path"]) == 6

    anyio.run(scenario)


def test_on_the_loopback_interface_what_came_is_not_called_absent(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", "lo") as session, anyio.create_task_group() as group:
            await session.call("qemu_pcap_start", interface="lo", filter=f"udp port {PORT}")
            for _ in range(3):
                host_sends(("127.0.0.1", PORT))

            async def send() -> None:
                assert await eventually_async(lambda: "armed" in session.progress)
                host_sends(("127.0.0.1", PORT))

            group.start_soon(send)
            waited = await session.call("qemu_pcap_wait", absent=True, timeout=PATIENCE)
            assert (waited["satisfied"], waited["matched"]) == (False, 1)

    anyio.run(scenario)


def test_a_capture_on_a_busy_loopback_interface_starts_and_closes(user: Account) -> None:
    """What comes between the socket's making and its filter is on the ring twice, and libpcap gives it once."""
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            host_sends(("127.0.0.1", PORT))

    async def scenario() -> None:
        async with serving(user, "--allow-interface", "lo") as session:
            for _ in range(5):
                await session.call("qemu_pcap_start", interface="lo")
                row = await session.call("qemu_pcap_stop")
                assert (closes(row), row["in_flight"], row["warnings"]) == (True, 0, []), row

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        anyio.run(scenario)
    finally:
        done.set()
        flooder.join()


def test_a_filter_that_the_kernel_refuses_is_refused_with_its_reason(user: Account, wire: Wire) -> None:
    """libpcap would run it in user space, and what the kernel counted would never come out."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            with pytest.raises(ToolFailed, match=r"^capture\.bad_filter: .*the kernel does not take it: Invalid"):
                await session.call("qemu_pcap_start", interface=wire.near, filter="arp or ether[4294967295]=1")
            bound = Path("/proc/sys/net/core/optmem_max")
            before = bound.read_text(encoding="ascii")
            long = " or ".join(f"ether[{each}] = 1" for each in range(60))
            try:
                bound.write_text("1024", encoding="ascii")
                with pytest.raises(ToolFailed, match=r"^capture\.bad_filter: .*Cannot allocate memory.*optmem_max"):
                    await session.call("qemu_pcap_start", interface=wire.near, filter=long)
            finally:
                bound.write_text(before, encoding="ascii")
            await session.call("qemu_pcap_start", interface=wire.near, filter=long)
            assert closes(await session.call("qemu_pcap_stop"))

    anyio.run(scenario)


@pytest.mark.parametrize("filter_", ["inbound", "not outbound and greater 40"])
def test_a_filter_for_a_direction_loses_nothing_of_the_first_packets(user: Account, wire: Wire, filter_: str) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=filter_)
            wire.send(50)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["seen"], row["warnings"]) == (50, 50, [])

    anyio.run(scenario)


# ------------------------------------------------------------------------------- one account, wherever it is told


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, {"packets": 1000, "refused": 0}),
        ({"max_packets": 7}, {"packets": 7}),
        ({"max_bytes": 4096}, {"packets": 53}),
        ({"files": 2, "max_bytes": 4096}, {}),
    ],
)
def test_the_account_closes_at_a_stop_at_a_limit_and_in_a_ring(
    user: Account, wire: Wire, limits: dict[str, int], expected: dict[str, int]
) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, **limits)
            wire.send(1000)
            row = await session.call("qemu_pcap_stop", capture=started["capture"])
            assert closes(row), row
            assert row.items() >= expected.items()
            assert (row["in_flight"], row["warnings"]) == (0, [])
            assert row["filtered"] is None
            assert "filtered" in row["unknown"]
            if not limits:
                assert row["seen"] == 1000

    anyio.run(scenario)


def test_the_account_closes_at_every_moment_of_a_flood_into_a_ring(user: Account, wire: Wire) -> None:
    """Files come and go by the hundred meanwhile: what is told of them and what is counted belong together."""

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session, anyio.create_task_group() as group:
            done = anyio.Event()

            async def flood() -> None:
                while not done.is_set():
                    await anyio.to_thread.run_sync(wire.send, 2000)

            group.start_soon(flood)
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, files=3, max_bytes=8192)
            for _ in range(200):
                (row,) = (await session.call("qemu_pcap_status"))["captures"]
                assert closes(row), row
                records = row["size_bytes"] - 24 * len(row["files"])
                assert records == row["packets"] * (16 + 60), row
            row = await session.call("qemu_pcap_stop")
            done.set()
            assert closes(row), row
            assert not any("does not close" in warning for warning in row["warnings"])

    anyio.run(scenario)


@pytest.mark.parametrize("filter_", ["", OURS])
def test_a_pcapng_files_counters_are_those_of_the_answer(user: Account, wire: Wire, filter_: str) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=filter_, format="pcapng", max_packets=5)
            wire.send(12)
            row = await session.call("qemu_pcap_stop")
            told = {5: row["dropped_interface"], 6: row["seen"], 7: row["dropped_kernel"], 8: row["packets"]}
            if not filter_:
                told[4] = row["seen"]
                assert row["filtered"] == 0
            assert counters_in(row["path"]) == told
            assert (row["packets"], closes(row)) == (5, True)

    anyio.run(scenario)


def test_what_an_interface_dropped_is_counted_past_32_bits(user: Account, wire: Wire, tmp_path: Path) -> None:
    """libpcap reads it in /sys and tells it in 32 bits; the file there is one of the test's own."""
    counter = tmp_path / "rx_missed_errors"
    counter.write_text("0\n", encoding="ascii")
    counter.chmod(0o644)
    shown = Path(f"/sys/class/net/{wire.near}/statistics/rx_missed_errors").resolve()
    subprocess.run(["mount", "--bind", counter, shown], check=True)

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            for dropped in (4294967290, 4294967310):
                counter.write_text(f"{dropped}\n", encoding="ascii")
                await session.call("qemu_pcap_wait", count=1, timeout=0.01)  # the counters are read for its answer
            row = await session.call("qemu_pcap_stop")
            assert row["dropped_interface"] == 4294967310

    try:
        anyio.run(scenario)
    finally:
        subprocess.run(["umount", shown], check=True)


def test_a_question_that_comes_while_another_is_weighed_is_weighed_itself(wire: Wire, tmp_path: Path) -> None:
    """Another thread asks without a pause, so that the worker does little but weigh.

    What was sent before a question is in the file when it is answered all the same.
    """
    done = threading.Event()

    def ask_on(session: CaptureSession) -> None:
        while not done.is_set():
            session.ask()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with session_on(wire, tmp_path, filter=OURS) as session:
            asking = threading.Thread(target=ask_on, args=[session])
            asking.start()
            saved = []
            for _ in range(1000):
                wire.send(1)
                question = session.ask()
                while session.answered < question:
                    os.sched_yield()
                saved.append(session.saved)
            done.set()
            asking.join()
    finally:
        sys.setswitchinterval(interval)
    late = [(each, count) for each, count in enumerate(saved, 1) if count < each]
    assert late == []


# ------------------------------------------------------------------------------------------ the file under the capture


def test_a_truncated_file_is_told_at_once_and_gets_no_hole(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(331)
            path = Path(started["path"])
            assert await eventually_async(lambda: path.stat().st_size == 24 + 331 * 76)
            os.truncate(path, 24 + 20 * 76)
            (row,) = (await session.call("qemu_pcap_status"))["captures"]
            (warning,) = row["warnings"]
            assert f"was truncated to {24 + 20 * 76} of {24 + 331 * 76} bytes while the capture runs" in warning
            wire.send(5)
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["reason"], row["refused"]) == ("failed", "file_cut", 5)
            assert row["error"].startswith("capture.output_unwritable: ")
            assert "was truncated to" in row["error"]
            assert closes(row)
            assert numbers_in(path) == list(range(20))

    anyio.run(scenario)


def test_a_file_that_was_truncated_when_all_was_saved_is_an_error_at_the_stop(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(331)
            path = Path(started["path"])
            assert await eventually_async(lambda: path.stat().st_size == 24 + 331 * 76)
            os.truncate(path, 24)
            row = await session.call("qemu_pcap_stop")
            assert row["state"] == "failed"
            assert f"was truncated to 24 of {24 + 331 * 76} bytes" in row["error"]

    anyio.run(scenario)


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
@pytest.mark.parametrize("torn", [0, 30])
def test_of_a_finished_file_that_was_truncated_every_answer_says_so_alike(
    user: Account, wire: Wire, format_: str, torn: int
) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, format=format_)
            wire.send(20)
            row = await session.call("qemu_pcap_stop")
            path, capture = row["path"], started["capture"]
            assert (row["packets"], row["warnings"]) == (20, [])
            assert (await session.call("qemu_pcap_read"))["warnings"] == []
            os.truncate(path, seventh_ends(path) + torn)
            place = {"pcap": "packet 8", "pcapng": "a block behind packet 7"}[format_]
            how = f"ends in the middle of {place}" if torn else "was cut behind packet 7"
            lacks = f"{how}: 20 packets were saved, 7 are in the file"
            for which in ({"capture": capture}, {"path": path}):
                for detail in ("summary", "layers", "hex"):
                    read = await session.call("qemu_pcap_read", detail=detail, limit=3, **which)
                    assert (read["scanned"], read["warnings"]) == (7, [f"the file {lacks}"])
                explained = await session.call("qemu_pcap_explain", **which)
                assert explained["examined"] == 7
                assert [note.split(" ", 1)[1] for note in explained["notes"] if "saved" in note] == [
                    f"file {lacks}" if "path" in which else lacks
                ]
            for absent in (False, True):
                asked = {"filter": "udp", "absent": absent, "since": "start"}
                waited = await session.call("qemu_pcap_wait", **asked, timeout=0.1)
                assert not waited["satisfied"]
                assert f"{Path(path).name} {lacks}" in waited["reason"]
            os.truncate(path, 0)
            assert (await session.refused("qemu_pcap_read")).code == "capture.unreadable"

    anyio.run(scenario)


def seventh_ends(path: str) -> int:
    """Where in the file the seventh of the packets of 60 bytes ends."""
    data = Path(path).read_bytes()
    if not path.endswith("ng"):
        return 24 + 7 * 76
    at, packets = 0, 0
    while packets < 7:
        packets += int.from_bytes(data[at : at + 4], "little") == 6
        at += int.from_bytes(data[at + 4 : at + 8], "little")
    return at


def test_a_running_captures_file_that_was_truncated_is_read_with_what_it_lacks(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(20)
            assert (await session.call("qemu_pcap_read"))["warnings"] == []
            os.truncate(started["path"], 24 + 7 * 76 + 3)
            lacks = "was cut behind packet 7: 20 packets were saved, 7 are in the file"
            assert (await session.call("qemu_pcap_read"))["warnings"] == [f"the file {lacks}"]
            waited = await session.call("qemu_pcap_wait", absent=True, filter="udp", since="start", timeout=0.1)
            assert not waited["satisfied"]
            assert "7 are in the file" in waited["reason"]

    anyio.run(scenario)


def test_of_a_ring_the_file_that_was_truncated_is_named(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            ring = {"interface": wire.near, "filter": OURS, "files": 3, "max_bytes": 4096}
            await session.call("qemu_pcap_start", **ring)
            wire.send(120)  # 53 a file
            row = await session.call("qemu_pcap_stop")
            middle = sorted(user.captures.glob("*.pcap*"))[1]
            os.truncate(middle, 24 + 7 * 76)
            read = await session.call("qemu_pcap_read")
            lacks = f"{middle.name} was cut behind packet 7: 53 packets were saved, 7 are in the file"
            assert (row["packets"], read["scanned"], read["warnings"]) == (120, 74, [lacks])
            assert lacks in (await session.call("qemu_pcap_explain"))["notes"]

    anyio.run(scenario)


@pytest.mark.parametrize(
    "way", ["replaced by a hard link", "linked by a backup", "replaced by a link", "a pipe", "a folder"]
)
def test_a_ring_cuts_only_what_it_wrote_and_what_has_no_other_name(user: Account, wire: Wire, way: str) -> None:
    precious = user.home / "precious"
    precious.write_bytes(b"p" * 100_000)
    os.chown(precious, user.uid, user.gid)

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            started = await session.call(
                "qemu_pcap_start", interface=wire.near, filter=OURS, files=2, max_bytes=4096 + 24
            )
            first, backup = Path(started["path"]), user.home / "backup"
            wire.send(60)
            assert await eventually_async(lambda: len(list(user.captures.glob("[!.]*"))) == 2)
            kept = first.read_bytes()
            if way == "linked by a backup":
                backup.hardlink_to(first)
            else:
                first.unlink()
                {
                    "replaced by a hard link": lambda: first.hardlink_to(precious),
                    "replaced by a link": lambda: first.symlink_to(precious),
                    "a pipe": lambda: os.mkfifo(first),
                    "a folder": first.mkdir,
                }[way]()
            for sent in range(61, 131):  # one by one: what is removed is cut away bit by bit, as the next file grows
                wire.send(1)
                row = {"packets": 0, "packets_overwritten": 0}
                while row["packets"] + row["packets_overwritten"] < sent:
                    (row,) = (await session.call("qemu_pcap_status"))["captures"]
            wire.send(600)
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["packets"] + row["packets_overwritten"]) == ("stopped", 730)
            assert precious.read_bytes() == b"p" * 100_000
            if way == "linked by a backup":
                assert backup.read_bytes() == kept
                assert not first.exists()
            else:
                assert os.path.lexists(first)  # it is somebody else's, whatever its name

    anyio.run(scenario)


@pytest.mark.parametrize("mebibytes", [4, 24])
def test_a_small_disk_keeps_its_floor(user: Account, wire: Wire, mebibytes: int) -> None:
    folder = user.home / "disk"
    folder.mkdir()
    options = f"size={mebibytes}m,uid={user.uid},gid={user.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    async def scenario() -> None:
        options = ("--allow-interface", wire.near, "--capture-dir", folder, "--ring-mib", "64")
        async with serving(user, *options) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near, filter=OURS, format="pcapng")
            await anyio.to_thread.run_sync(wire.send, 20_000, 1500)
            row = await session.call("qemu_pcap_stop")
            assert str(row["error"]).startswith("capture.no_space: ")
            disk = os.statvfs(folder)
            floor = (mebibytes << 20) // 20
            assert disk.f_bavail * disk.f_frsize > floor - (64 << 10)
            assert row["packets"] == read_back(started["path"]) > 0
            assert closes(row), row

    try:
        anyio.run(scenario)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_captures_sockets_are_closed_in_programs_that_are_started(wire: Wire, tmp_path: Path) -> None:
    def packet_sockets() -> list[bool]:
        """Whether each packet socket of this process is inherited by what it starts."""
        lines = Path("/proc/net/packet").read_text(encoding="ascii").splitlines()[1:]
        ours = {f"socket:[{line.split()[8]}]" for line in lines}
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [os.get_inheritable(int(link.name)) for link in links if str(link.readlink()) in ours]

    with session_on(wire, tmp_path, filter=OURS):
        assert eventually(lambda: len(packet_sockets()) == 3)  # the ring, the unfiltered count, the wire's own
        assert packet_sockets() == [False] * 3
