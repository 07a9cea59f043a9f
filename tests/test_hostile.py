"""What a hostile project, file, guest or moment may try: each gets an error with its code, and the server goes on."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest, CaptureSession
from rawtap.errors import BadFilter, CaptureFailed
from support import (
    PATIENCE,
    Account,
    ToolFailed,
    Wire,
    eventually_async,
    guests_of,
    link_names,
    serving,
)
from test_endings import end_by, raw_client


def tree(user: Account, text: str) -> str:
    """A project's folder with that rawtap.toml."""
    root = user.home / "tree"
    root.mkdir(exist_ok=True)
    (root / "rawtap.toml").write_text(text, encoding="utf-8")
    return str(root)


def deaf_tree(user: Account, shutdown_command: str = "halt") -> str:
    """A machine whose one instruction jumps to itself (RISC-V `j .`): it never reads its UART."""
    root = tree(user, f'bios = "none"\nkernel = "spin.bin"\nprompt = "> "\nshutdown_command = "{shutdown_command}"\n')
    (Path(root) / "spin.bin").write_bytes(struct.pack("<I", 0x0000006F))
    return root


def test_a_projects_file_cannot_reach_the_hosts_traffic(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            everything = tree(user, 'profile = "u-boot-riscv64"\nbridge = "any"\n')
            assert (
                await session.refused("qemu_boot", project_root=everything, network=True)
            ).code == "network.name_invalid"
            public = tree(user, 'profile = "u-boot-riscv64"\naddress = "8.8.8.1/24"\n')
            assert (await session.refused("qemu_boot", project_root=public, network=True)).code == "profile.invalid"

    anyio.run(scenario)
    assert link_names() == set()


def test_what_libpcap_opened_is_held_against_the_interface_that_was_meant(wire: Wire, tmp_path: Path) -> None:
    """To libpcap "any" is every interface, whatever the index of the one that was allowed."""
    with pytest.raises(CaptureFailed, match="opened another device"):
        CaptureSession.start(CaptureRequest("any"), InterfaceSource(1, 1 << 20), tmp_path, "any")
    with pytest.raises(CaptureFailed, match="opened another device"):
        CaptureSession.start(CaptureRequest(wire.near), InterfaceSource(1, 1 << 20), tmp_path, "near")
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_closes_no_descriptor_that_is_not_its_own(wire: Wire, tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(CaptureFailed):
        CaptureSession.start(CaptureRequest("any"), InterfaceSource(1, 1 << 20), tmp_path, "any")
    index = socket.if_nametoindex(wire.near)
    with pytest.raises(BadFilter):
        CaptureSession.start(CaptureRequest(wire.near, "icmp icmp"), InterfaceSource(index, 1 << 20), tmp_path, "x")
    assert set(before) <= set(open_descriptors())


def open_descriptors() -> list[tuple[int, int]]:
    """This process's, each with what it is open on."""
    found = []
    for fd in range(1000):
        with contextlib.suppress(OSError):
            found.append((fd, os.fstat(fd).st_ino))
    return found


def test_a_guest_that_does_not_read_its_console_holds_nobody_up(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=deaf_tree(user), timeout=0.1)
            assert booted["prompt_seen"] is False
            codes = set()
            for _ in range(200):
                try:
                    await session.call("qemu_send", command="x" * 4096, timeout=0)
                except ToolFailed as failed:
                    codes.add(failed.code)
                    break
            assert codes == {"guest.failed"}
            ended = await session.call("qemu_shutdown", timeout=0.2)
            assert ended["reason"] == "host-qmp-quit"

    anyio.run(scenario)


@pytest.mark.parametrize("how", ["SIGTERM", "stdin"])
def test_a_shutdown_that_waits_does_not_hold_the_servers_end_up(user: Account, how: str) -> None:
    with raw_client(user) as client:
        root = deaf_tree(user, "never read")
        client.call("qemu_boot", project_root=root, network=True, wait_for_prompt=False)
        client.request("tools/call", {"name": "qemu_shutdown", "arguments": {"timeout": 600}})
        client.call("qemu_status")  # the one before it has begun by now
        end_by(client, how)
        assert client.process.wait(timeout=PATIENCE) == 0
    assert link_names() == set()


def test_a_signal_ends_the_server_while_stdin_is_full(user: Account) -> None:
    """The client reads no answers, so its requests pile up in every buffer; the signal must not wait for them."""
    with raw_client(user) as client:
        assert client.process.stdin is not None
        stdin = client.process.stdin.fileno()
        ping = b'{"jsonrpc":"2.0","id":7,"method":"ping"}\n'
        while select.select([], [stdin], [], 1)[1]:  # a pipe that is writable takes PIPE_BUF bytes, pipe(7)
            os.write(stdin, ping * (select.PIPE_BUF // len(ping)))
        end_by(client, "SIGTERM")
        client.process.stdin.close()
        client.process.stdin = None
        client.process.communicate(timeout=PATIENCE)
        assert client.process.returncode == 0


def test_qemu_killed_at_the_moment_of_its_shutdown_is_released_all_the_same(user: Account) -> None:
    """Between the end of the monitor's connection and the exit code QEMU is neither running nor gone."""

    async def scenario() -> None:
        async with serving(user) as session:
            for _ in range(8):
                booted = await session.boot(wait_for_prompt=False)
                os.kill(booted["pid"], signal.SIGKILL)
                ended = await session.call("qemu_shutdown", timeout=0)
                assert ended["exit_code"] == -9
                assert link_names() == set()

    anyio.run(scenario)


def test_qemu_killed_at_any_moment_of_a_network_boot_has_exited_and_leaves_nothing(user: Account) -> None:
    chance = random.Random(15)
    boot = {"project_root": deaf_tree(user), "network": True, "capture": True, "timeout": 60}

    async def scenario() -> None:
        async with serving(user) as session:

            async def refused_boot() -> None:
                assert (await session.refused("qemu_boot", **boot)).code == "guest.exited"

            for _ in range(8):
                async with anyio.create_task_group() as group:
                    group.start_soon(refused_boot)
                    assert await eventually_async(lambda: guests_of(session.pid) != [])
                    await anyio.sleep(chance.random() / 4)  # any moment will do
                    os.kill(guests_of(session.pid)[0], signal.SIGKILL)
                assert await eventually_async(lambda: link_names() == set())

    anyio.run(scenario)


def test_a_user_without_a_name_gets_an_error_and_no_hang(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        os.chown(user.home, 54321, 54321)
        nameless = replace(user, uid=54321, gid=54321, groups="--clear-groups")
        async with serving(nameless, "--allow-interface", wire.near) as session:
            assert (await session.refused("qemu_pcap_start", interface=wire.near)).code == "capture.permission"
            checks = {each["name"]: each["ok"] for each in (await session.call("qemu_doctor"))["checks"]}
            assert checks["cap_net_raw"] is False

    anyio.run(scenario)


def test_a_fifo_in_the_captures_folder_is_not_waited_for(user: Account) -> None:
    async def scenario() -> None:
        user.captures.mkdir(parents=True)
        os.mkfifo(user.captures / "x.pcap", 0o644)
        async with serving(user) as session:
            code = (await session.refused("qemu_pcap_read", path=str(user.captures / "x.pcap"))).code
            assert code == "capture.unreadable"

    anyio.run(scenario)


ODD: list[tuple[str, dict[str, Any], str]] = [
    ("qemu_pcap_read", {"path": "\0"}, "capture.unreadable"),
    ("qemu_boot", {"project_root": "a" * 5000}, "guest.not_found"),
    ("qemu_boot", {"profile": "u-boot-riscv64", "kernel": "a\0b"}, "guest.not_found"),
    ("qemu_boot", {"profile": "u-boot-riscv64", "memory": "0"}, "profile.invalid"),
    ("qemu_boot", {"profile": "u-boot-riscv64", "capture": True}, "request.invalid"),
]


def test_an_odd_argument_is_an_error_with_a_code(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            for tool, arguments, code in ODD:
                assert (await session.refused(tool, **arguments)).code == code, arguments

    anyio.run(scenario)


def test_an_odd_cursor_or_position_is_an_error_with_a_code(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            wire.send(5)
            row = await session.call("qemu_pcap_stop")
            page = await session.call("qemu_pcap_read", limit=2)
            fields = page["next_cursor"].split("-")
            for place in range(2):
                for number in (2**70, 2**61, -1):
                    forged = [*fields]
                    forged[place] = str(number)
                    try:
                        await session.call("qemu_pcap_read", cursor="-".join(forged))
                    except ToolFailed as failed:
                        assert failed.code in {"request.invalid", "capture.unreadable"}  # noqa: PT017
            for cursor in ("x", "", "-", "1-", "-1-00000000", "\u0661-" + fields[1], "9" * 400 + "-" + fields[1]):
                assert (await session.refused("qemu_pcap_read", cursor=cursor)).code == "request.invalid"
            behind_the_end = await session.call("qemu_pcap_read", cursor="999-" + fields[1])
            assert (behind_the_end["packets"], behind_the_end["next_cursor"]) == ([], None)
            assert (
                await session.refused("qemu_pcap_read", first=2, cursor=page["next_cursor"])
            ).code == "request.invalid"
            assert (await session.refused("qemu_pcap_read", first=0)).code == "request.invalid"
            assert (
                await session.refused("qemu_pcap_read", cursor=page["next_cursor"], filter="tcp")
            ).code == "request.invalid"
            both = {"capture": row["capture"], "path": row["path"]}
            assert (await session.refused("qemu_pcap_read", **both)).code == "request.invalid"
            await session.boot(network=False)
            assert (await session.refused("qemu_read", position=10**30)).code == "request.invalid"

    anyio.run(scenario)


def test_a_long_console_output_can_be_read_whole(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            said = await session.call("qemu_send", command="help; help; help")
            assert said["truncated"]
            start = int(said["next_step"].partition("position=")[2].partition(")")[0])
            text, position, more = "", start, True
            while more:
                page = await session.call("qemu_read", position=position)
                text, position, more = text + page["output"], page["position"], page["truncated"]
            assert text.startswith("help; help; help\n")
            assert text.endswith(said["output"])
            assert len(text) > len(said["output"])

    anyio.run(scenario)


def pcapng_with_a_late_interface(path: Path) -> None:
    """Two interfaces, the second described only after the first one's packets (pcapng, sections 4.1 to 4.3)."""

    def block(kind: int, body: bytes) -> bytes:
        size = 12 + len(body)
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    def packet(interface: int) -> bytes:
        return block(6, struct.pack("<IIIII", interface, 0, 0, 60, 60) + bytes(60))

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    described = block(1, struct.pack("<HHI", 1, 0, 262144))
    path.write_bytes(section + described + packet(0) * 3 + described + packet(1) * 3)


def test_pages_of_a_pcapng_file_know_interfaces_that_came_before(user: Account) -> None:
    folder = user.home / "more"
    folder.mkdir()
    pcapng_with_a_late_interface(folder / "x.pcapng")

    async def scenario() -> None:
        async with serving(user, "--read-dir", folder) as session:
            numbers, cursor = [], None
            while True:
                page = await session.call("qemu_pcap_read", path=str(folder / "x.pcapng"), limit=2, cursor=cursor)
                assert (page["matched"], page["scanned"], page["warnings"]) == (6, 6, [])
                numbers += [packet["number"] for packet in page["packets"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert numbers == [1, 2, 3, 4, 5, 6]

    anyio.run(scenario)


def test_a_running_capture_is_known_by_its_path_through_a_link(user: Account, wire: Wire) -> None:
    (user.home / "real").mkdir()
    os.chown(user.home / "real", user.uid, user.gid)
    (user.home / "link").symlink_to(user.home / "real")

    async def scenario() -> None:
        options = ("--allow-interface", wire.near, "--capture-dir", user.home / "link")
        async with serving(user, *options) as session:
            started = await session.call("qemu_pcap_start", interface=wire.near)
            assert (await session.call("qemu_pcap_read", path=started["path"]))["next_cursor"] is not None

    anyio.run(scenario)


def test_more_captures_than_the_limit_are_refused_and_all_others_run(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            codes: list[str] = []

            async def start() -> None:
                try:
                    await session.call("qemu_pcap_start", interface=wire.near, filter="ether proto 0x88b5")
                    codes.append("started")
                except ToolFailed as failed:
                    codes.append(failed.code)

            async with anyio.create_task_group() as group:
                for _ in range(55):
                    group.start_soon(start)
            assert sorted(codes) == ["server.limit"] * 5 + ["started"] * 50
            wire.send(4)
            await session.call("qemu_pcap_stop", capture="c1")
            assert await eventually_async(lambda: len({path.stat().st_size for path in user.captures.iterdir()}) == 1)

    anyio.run(scenario)
