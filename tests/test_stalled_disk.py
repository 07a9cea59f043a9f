"""A disk that does not answer holds nobody up: each call says so in time, other calls go on, and the server ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import stalling_disk
from stalling_disk import Disk
from support import PATIENCE, Account, Session, ToolFailed, Wire, link_names, read_back, serving
from test_endings import end_by, raw_client

OURS = "ether proto 0x88b5"


@pytest.fixture
def disk(user: Account) -> Iterator[Disk]:
    folder = user.home / "disk"
    folder.mkdir()
    with stalling_disk.mounted(folder, user.uid, user.gid) as mounted:
        yield mounted


def test_a_stop_says_that_the_disk_does_not_answer_and_a_later_one_has_everything(
    user: Account, wire: Wire, disk: Disk
) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, "--capture-dir", disk.folder / "captures") as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            disk.stall()
            wire.send(5)
            row = await session.call("qemu_pcap_stop")
            assert row["state"] == "running"
            assert row["error"].startswith(f"capture.output_unwritable: the disk of {disk.folder}/captures does not")
            with pytest.raises(ToolFailed, match=f"^capture.output_unwritable: the disk of {disk.folder}"):
                await session.call("qemu_pcap_start", interface=wire.near)
            disk.resume()
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["packets"], row["error"]) == ("stopped", 5, None)
            assert read_back(row["path"]) == 5

    anyio.run(scenario)


def test_a_shutdown_releases_the_guest_whose_capture_cannot_be_written(user: Account, disk: Disk) -> None:
    async def scenario() -> None:
        async with serving(user, "--capture-dir", disk.folder / "captures") as session:
            await session.boot(capture=True)
            disk.stall()
            assert "is alive" in await session.ping()
            ended = await session.call("qemu_shutdown", timeout=0)
            assert ended["left_standing"] == []
            assert link_names() == set()
            (row,) = ended["captures"]
            assert row["state"] == "running"
            assert "does not answer" in row["error"]
            disk.resume()
            row = await session.call("qemu_pcap_stop")
            assert (row["state"], row["reason"], row["packets"], row["error"]) == ("stopped", "guest_ended", 4, None)

    anyio.run(scenario)


@pytest.mark.parametrize("how", ["SIGTERM", "stdin"])
def test_the_server_ends_beside_a_capture_that_cannot_be_written(user: Account, disk: Disk, how: str) -> None:
    with raw_client(user, "--capture-dir", str(disk.folder / "captures")) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, capture=True)
        disk.stall()
        client.request("tools/call", {"name": "qemu_pcap_read", "arguments": {}})
        end_by(client, how)
        assert client.process.wait(timeout=PATIENCE) == 0
    assert link_names() == set()


def test_a_guest_that_the_kernel_holds_is_told_of_and_ends_when_it_is_let_go(user: Account, disk: Disk) -> None:
    """QEMU's own thread waits for the disk, and not even SIGKILL ends that."""
    image = disk.folder / "disk.img"

    async def scenario() -> None:
        async with serving(user, "--image-dir", disk.folder) as session:
            image.write_bytes(bytes(1 << 20))
            image.chmod(0o666)
            drives = [{"path": str(image)}]
            await session.boot(network=True, extra_drives=drives)
            disk.go_deaf()
            read = "virtio scan; virtio read $loadaddr 0 8"
            await session.call("qemu_send", command=read, wait_for="never", timeout=2)
            await anyio.to_thread.run_sync(disk.until_asked)
            with pytest.raises(ToolFailed, match=r"^guest\.failed: QEMU does not end, not even by SIGKILL"):
                await session.call("qemu_shutdown", timeout=0)
            disk.resume()
            ended = await session.call("qemu_shutdown", timeout=0)
            assert ended["exit_code"] == -signal.SIGKILL
            assert link_names() == set()

    anyio.run(scenario)


@pytest.mark.parametrize("what", ["project", "drive", "read"])
def test_a_path_on_a_disk_that_does_not_answer_holds_up_its_own_call_only(user: Account, disk: Disk, what: str) -> None:
    async def scenario() -> None:
        folders = ("--image-dir", disk.folder, "--read-dir", disk.folder)
        async with serving(user, *folders) as session:
            calls: dict[str, tuple[str, dict[str, Any]]] = {
                "project": ("qemu_boot", {"project_root": str(disk.folder / "tree")}),
                "drive": (
                    "qemu_boot",
                    {"profile": "u-boot-riscv64", "extra_drives": [{"path": str(disk.folder / "x.img")}]},
                ),
                "read": ("qemu_pcap_read", {"path": str(disk.folder / "x.pcap")}),
            }
            name, arguments = calls[what]
            await session.boot(name="other", network=False)
            disk.stall()
            failed = anyio.Event()

            async def ask() -> None:
                with pytest.raises(ToolFailed, match=r"^server\.disk_stalled: ") as caught:
                    await session.call(name, **arguments)
                assert str(disk.folder) in str(caught.value)
                failed.set()

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                while not failed.is_set():  # each of these is answered meanwhile
                    await session.call("qemu_send", command="echo there", name="other")
            disk.resume()
            assert (await session.call("qemu_shutdown", name="other", timeout=0))["exit_code"] == 0

    anyio.run(scenario)


async def stalled(session: Session, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolFailed, match=r"^server\.disk_stalled: "):
        await session.call(name, **arguments)


async def all_stalled(session: Session, calls: dict[str, dict[str, Any]]) -> None:
    """Hold that each of these calls says so, and that others are answered meanwhile."""
    async with anyio.create_task_group() as group:
        for name, arguments in calls.items():
            group.start_soon(stalled, session, name, arguments)
        await session.call("qemu_status")


def test_who_reads_a_capture_is_told_that_its_disk_does_not_answer(user: Account, wire: Wire, disk: Disk) -> None:
    calls: dict[str, dict[str, Any]] = {
        "qemu_pcap_read": {},
        "qemu_pcap_wait": {"since": "start"},
        "qemu_pcap_explain": {},
        "qemu_timeline": {},
    }

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, "--capture-dir", disk.folder / "captures") as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            wire.send(3)
            assert (await session.call("qemu_pcap_wait", since="start", count=3))["satisfied"]
            disk.stall()
            await all_stalled(session, calls)
            disk.resume()
            for name, arguments in calls.items():
                await session.call(name, **arguments)

    anyio.run(scenario)


def test_what_a_guest_writes_cannot_be_kept_where_the_disk_does_not_answer(user: Account, disk: Disk) -> None:
    state = user.home / ".local/state/rawtap"
    state.mkdir(parents=True)
    for folder in (state, *list(state.parents)[:2]):
        os.chown(folder, user.uid, user.gid)
    (state / "scratch").symlink_to(disk.folder)
    image = user.home / "disk.img"
    image.write_bytes(bytes(1 << 20))
    image.chmod(0o666)
    boot = {"profile": "u-boot-riscv64", "name": "layered", "extra_drives": [{"path": str(image)}], "overlay": True}
    calls = {"qemu_boot": boot, "qemu_snapshot": {"action": "save", "tag": "a"}}

    async def scenario() -> None:
        async with serving(user, "--image-dir", user.home) as session:
            await session.boot(network=False)
            disk.stall()
            await all_stalled(session, calls)
            disk.resume()
            for name, arguments in calls.items():
                await session.call(name, **arguments)
            assert list(disk.folder.iterdir()) == []

    anyio.run(scenario)
