"""A guest goes back to a state that was saved, whole: memory, devices, network and what it wrote to its drives."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from support import (
    PATIENCE,
    Account,
    Session,
    ToolFailed,
    command_of,
    descendants_of,
    eventually_async,
    exists,
    link_names,
    serving,
)
from test_endings import raw_client

UBOOT = "/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin"


@pytest.fixture
def project(user: Account) -> Path:
    """U-Boot with two disks that the user may write: a raw one, and one in qcow2."""
    root = user.home / "project"
    root.mkdir()
    drives = '[{ path = "disk.img" }, { path = "disk.qcow2", format = "qcow2" }]'
    (root / "rawtap.toml").write_text(f'profile = "u-boot-riscv64"\ndrives = {drives}\n', encoding="utf-8")
    (root / "disk.img").write_bytes(b"A" * (1 << 20))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", root / "disk.qcow2", "1M"], check=True)
    for path in root.iterdir():
        os.chown(path, user.uid, user.gid)
    return root


def hashes(root: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()}


async def snapshot(session: Session, action: str, tag: str | None = None, **more: Any) -> list[str]:
    """Do that and return the tags that there are then."""
    arguments = {"action": action} | ({"tag": tag} if tag else {}) | more
    answer = await session.call("qemu_snapshot", **arguments)
    assert (answer["action"], answer["tag"]) == (action, tag)
    return [each["tag"] for each in answer["snapshots"]]


async def refused(session: Session, action: str, tag: str | None = None, **more: Any) -> str:
    """The text of the error that such an action ends in."""
    return str(await session.refused("qemu_snapshot", action=action, **({"tag": tag} if tag else {}), **more))


async def reaches_its_host(session: Session) -> bool:
    """Whether a restored U-Boot does.

    About once in 150 times the clock that it reads after a restore makes it give up within milliseconds instead of ten
    seconds, and every later ping works: QEMU's affair, or U-Boot's, so it is asked twice.
    """
    return "is alive" in await session.ping() or "is alive" in await session.ping()


def test_a_guest_without_a_drive_goes_back_and_its_network_works(anyone: Account) -> None:
    async def scenario() -> None:
        async with serving(anyone) as session:
            await session.boot()
            assert await snapshot(session, "list") == []
            before = time.time()
            assert await snapshot(session, "save", "booted") == ["booted"]
            assert "is alive" in await session.ping()
            await session.typed("setenv mark it-was-here")
            assert "mark=it-was-here" in await session.typed("printenv mark")

            answer = await session.call("qemu_snapshot", action="restore", tag="booted")
            (row,) = answer["snapshots"]
            assert row["size_bytes"] > 1 << 20
            assert before - 1 < row["saved_at"] < time.time() + 1
            assert '"mark" not defined' in await session.typed("printenv mark")
            await session.call("qemu_pcap_start", filter="icmp")
            assert await reaches_its_host(session)
            assert (await session.call("qemu_pcap_stop"))["packets"] in {2, 3, 4}

            for _ in range(3):  # again and again
                await snapshot(session, "restore", "booted")
                assert await reaches_its_host(session)
            events = await session.call("qemu_timeline", sources=["event"], limit=100)
            assert "guest guest went back to its snapshot 'booted'" in str(events)
            ended = await session.call("qemu_shutdown")
            assert (ended["exit_code"], ended["left_standing"]) == (0, [])

    anyio.run(scenario)
    assert link_names() == set()


def test_drives_go_back_as_well_and_the_users_images_stay_as_they_are(user: Account, project: Path) -> None:
    before = hashes(project)
    write = "mw.b 84000000 {0:x} 200; virtio write 84000000 {1} 1"
    read = "mw.b 84001000 0 200; virtio read 84001000 {0} 1; md.b 84001000 4"

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=str(project), overlay=True)
            await session.typed("virtio scan")
            for device in (0, 1):
                await session.typed(f"virtio dev {device}; " + write.format(0x42, 3))
            await snapshot(session, "save", "b")
            for device in (0, 1):
                await session.typed(f"virtio dev {device}; " + write.format(0x43, 3))
                assert "43 43 43 43" in await session.typed(read.format(3))
            await snapshot(session, "restore", "b")
            for device in (0, 1):
                assert "42 42 42 42" in await session.typed(f"virtio dev {device}; " + read.format(3))
            below = {await session.typed(f"virtio dev {device}; " + read.format(4)) for device in (0, 1)}
            assert sum("41 41 41 41" in each for each in below) == 1  # what was never written shows through
            assert hashes(project) == before
            await session.call("qemu_shutdown")
            assert hashes(project) == before
            # Another boot begins where the images are.
            await session.call("qemu_boot", project_root=str(project), overlay=True)
            assert "42 42 42 42" not in await session.typed("virtio scan; virtio dev 0; " + read.format(3))

    anyio.run(scenario)
    assert hashes(project) == before


def test_without_layers_what_is_written_is_in_the_image_and_snapshots_are_refused(user: Account, project: Path) -> None:
    before = hashes(project)

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=str(project))
            said = await refused(session, "save", "a")
            assert said.startswith("guest.snapshot_refused: ")
            assert f"it writes to {project}/disk.img, {project}/disk.qcow2" in said
            assert "overlay=true" in said
            await session.typed("virtio scan; virtio dev 0; mw.b 84000000 42 200; virtio write 84000000 0 1")
            await session.call("qemu_shutdown")
            assert len(hashes(project) - before) == 1
            drives = [{"path": "disk.img", "readonly": True}]
            await session.boot(network=False, name="r", project_root=str(project), overlay=True, extra_drives=drives)
            assert await snapshot(session, "save", "a", name="r") == ["a"]

    anyio.run(scenario)


def test_the_profile_can_ask_for_layers_and_the_call_against_them(user: Account, project: Path) -> None:
    config = project / "rawtap.toml"
    config.write_text("overlay = true\n" + config.read_text(encoding="utf-8"), encoding="utf-8")

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=str(project))
            assert await snapshot(session, "save", "a") == ["a"]
            await session.call("qemu_boot", name="plain", project_root=str(project), overlay=False, timeout=0)

    with pytest.raises(ToolFailed, match="lock"):  # of QEMU: the first guest has the image open
        anyio.run(scenario)


def test_tags_are_listed_refused_and_deleted(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await refused(session, "save", "a")).startswith("guest.not_running: ")
            await session.boot(network=False)
            assert (await refused(session, "restore", "a")).startswith("guest.snapshot_unknown: ")
            assert await snapshot(session, "save", "a") == ["a"]
            assert await snapshot(session, "save", "1") == ["a", "1"]
            assert (await refused(session, "save", "a")).startswith("request.invalid: ")
            said = await refused(session, "delete", "b")
            assert said.startswith("guest.snapshot_unknown: there is no snapshot 'b' (there are: a, 1)")
            assert await snapshot(session, "delete", "a") == ["1"]
            assert await snapshot(session, "restore", "1") == ["1"]
            for action, tag in (("save", None), ("list", "a"), ("save", "a b"), ("save", "../a"), ("copy", "a")):
                assert (await refused(session, action, tag)).startswith("request.invalid: ")
            await session.call("qemu_send", command="poweroff", wait_for="never", timeout=0)
            assert (await session.call("qemu_read", timeout=PATIENCE, wait_for="never"))["next_step"]
            assert (await refused(session, "save", "c")).startswith("guest.exited: ")

    anyio.run(scenario)


def test_more_snapshots_than_the_limit_are_refused(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False, memory="64M")
            for number in range(32):
                await snapshot(session, "save", f"s{number}")
            assert (await refused(session, "save", "more")).startswith("guest.snapshot_refused: ")
            await snapshot(session, "delete", "s0")
            assert len(await snapshot(session, "save", "more")) == 32

    anyio.run(scenario)


def test_a_disk_without_room_fails_the_save_and_the_guest_goes_on(user: Account, small_disk: Path) -> None:
    (user.home / ".local/state/rawtap").mkdir(parents=True)
    for folder in (".local", ".local/state", ".local/state/rawtap"):
        os.chown(user.home / folder, user.uid, user.gid)
    (user.home / ".local/state/rawtap/scratch").symlink_to(small_disk)

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            said = await refused(session, "save", "a")
            assert said.startswith("guest.failed: ")
            assert f"0 MiB are free in {scratch_of(user)}" in said  # QEMU itself: "Input/output error"
            assert "mark=5" in await session.typed("setenv mark 5; printenv mark")
            assert await snapshot(session, "list") == []

    anyio.run(scenario)


def test_calls_at_once_come_one_after_the_other(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            async with anyio.create_task_group() as group:
                for tag in "abcd":
                    group.start_soon(snapshot, session, "save", tag)
            assert sorted(await snapshot(session, "list")) == ["a", "b", "c", "d"]

    anyio.run(scenario)


def test_a_cancelled_save_leaves_a_guest_that_can_be_saved(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            for seconds in (0.0, 0.002, 0.01, 0.03):
                with anyio.move_on_after(seconds):
                    await snapshot(session, "save", f"s{seconds}")
            assert "last" in await snapshot(session, "save", "last")
            assert "mark=5" in await session.typed("setenv mark 5; printenv mark")
            await snapshot(session, "restore", "last")
            assert "not defined" in await session.typed("printenv mark")

    anyio.run(scenario)


def test_a_guest_that_dies_in_a_save_is_told(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(network=False)
            os.kill(booted["pid"], signal.SIGSTOP)
            codes: list[str] = []

            async def save() -> None:
                codes.append((await refused(session, "save", "a")).partition(":")[0])

            async with anyio.create_task_group() as group:
                group.start_soon(save)
                os.kill(booted["pid"], signal.SIGKILL)
            assert codes == ["guest.exited"]

    anyio.run(scenario)


def scratch_of(account: Account) -> Path:
    return account.home / ".local/state/rawtap/scratch"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_it_is_left_however_the_server_ends(user: Account, project: Path, how: signal.Signals) -> None:
    """The files lost their names as soon as QEMU had them open, so there is nothing to clean up."""
    with raw_client(user) as client:
        booted = client.call("qemu_boot", project_root=str(project), overlay=True)
        client.call("qemu_snapshot", action="save", tag="a")
        assert list(scratch_of(user).iterdir()) == []
        assert scratch_of(user).stat().st_mode & 0o777 == 0o700
        client.process.send_signal(how)
        client.process.wait(timeout=PATIENCE)

        async def gone() -> bool:
            return await eventually_async(lambda: not exists(booted["pid"]))

        assert anyio.run(gone)
    assert list(scratch_of(user).iterdir()) == []


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.06, 0.1])
def test_a_cancelled_boot_leaves_no_layer_and_no_socket(user: Account, project: Path, seconds: float) -> None:
    runtime = user.home / "run"
    runtime.mkdir()
    os.chown(runtime, user.uid, user.gid)

    async def scenario() -> None:
        async with serving(replace(user, more=(f"XDG_RUNTIME_DIR={runtime}",))) as session:
            with anyio.move_on_after(seconds):
                await session.call("qemu_boot", project_root=str(project), overlay=True, gdb=True)
            booted = await session.call(
                "qemu_boot", project_root=str(project), overlay=True
            )  # waits for the other's end
            assert booted["prompt_seen"]
            assert [each.name for each in runtime.iterdir()] == ["rawtap"]  # where those who watch it find it
            assert len([*(runtime / "rawtap").iterdir()]) == 1
            assert list(scratch_of(user).iterdir()) == []
            assert [pid for pid in descendants_of(session.pid) if "qemu" in command_of(pid)] == [booted["pid"]]

    anyio.run(scenario)


def test_a_boot_that_fails_leaves_no_layer(user: Account, project: Path) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            with pytest.raises(ToolFailed, match=r"guest\.exited"):
                await session.call("qemu_boot", project_root=str(project), overlay=True, memory="1K")
            assert list(scratch_of(user).iterdir()) == []
            scratch_of(user).rmdir()
            scratch_of(user).write_bytes(b"")
            with pytest.raises(ToolFailed, match=r"guest\.failed: no layer .* can be made"):
                await session.call("qemu_boot", project_root=str(project), overlay=True)

    anyio.run(scenario)
