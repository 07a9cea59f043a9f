"""However a server or a call ends, nothing is left: no process, no link, and capture files that are whole."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

import tiny_guest
from support import (
    PATIENCE,
    RAWTAP,
    Account,
    children_of,
    command_of,
    descendants_of,
    eventually,
    eventually_async,
    exists,
    link_names,
    next_start,
    read_back,
    serving,
)


class RawClient:
    """JSON-RPC by hand, so that a test decides when stdin closes and when the process is signalled."""

    def __init__(self, account: Account, *options: str) -> None:
        self.process = subprocess.Popen(
            account.command(RAWTAP, "serve", *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._number = 0
        began = time.monotonic()
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
        self.request("initialize", hello)
        self.answer()
        self.start_took = time.monotonic() - began
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> int:
        """Send a request without waiting."""
        self._number += 1
        self._write({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return self._number

    def message(self) -> dict[str, Any]:
        """The next answer, as it came. A server that gives none is killed, and then there is none."""
        assert self.process.stdout is not None
        killer = threading.Timer(2 * PATIENCE, self.process.kill)
        killer.start()
        try:
            while True:
                message = dict(json.loads(self.process.stdout.readline()))
                if "id" in message:
                    return message
        finally:
            killer.cancel()

    def answer(self) -> dict[str, Any]:
        """What the next answer has."""
        return dict(self.message()["result"])

    def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool."""
        self.request("tools/call", {"name": name, "arguments": arguments})
        result = self.answer()
        assert not result.get("isError"), result
        return dict(result["structuredContent"])


@contextmanager
def raw_client(account: Account, *options: str) -> Iterator[RawClient]:
    client = RawClient(account, *options)
    try:
        yield client
    finally:
        for stream in (client.process.stdin, client.process.stdout, client.process.stderr):
            if stream is not None:
                stream.close()
        if client.process.poll() is None:
            client.process.kill()
        client.process.wait()


def end_by(client: RawClient, how: str) -> None:
    if how == "stdin":
        assert client.process.stdin is not None
        client.process.stdin.close()
    else:
        client.process.send_signal(getattr(signal, how))


ENDINGS = ["SIGTERM", "SIGINT", "SIGHUP", "stdin"]


@pytest.mark.parametrize("how", ENDINGS)
def test_the_servers_end_during_a_capture_leaves_a_whole_file_and_nothing_else(user: Account, how: str) -> None:
    with raw_client(user) as client:
        booted = client.call("qemu_boot", profile="u-boot-riscv64", network=True)
        started = client.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in client.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        asked_at = time.monotonic()
        end_by(client, how)
        assert client.process.wait(timeout=PATIENCE) == 0
        # A client kills after two seconds; a machine that takes long to start a server has more of them.
        assert time.monotonic() - asked_at < 2 + 3 * client.start_took
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""
    assert read_back(started["path"]) == 2
    assert not exists(booted["pid"])
    assert link_names() == set()


@pytest.mark.parametrize("how", ENDINGS)
def test_the_servers_end_during_a_boot_leaves_nothing(user: Account, how: str) -> None:
    with raw_client(user) as client:
        arguments = {"project_root": tiny_guest.deaf(user), "network": True, "capture": True}
        client.request("tools/call", {"name": "qemu_boot", "arguments": arguments})
        assert eventually(lambda: any("qemu" in command_of(pid) for pid in descendants_of(client.process.pid)))
        below = descendants_of(client.process.pid)
        end_by(client, how)
        assert client.process.wait(timeout=PATIENCE) == 0
    assert not any(exists(pid) for pid in below)
    assert link_names() == set()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_cancelled_boot_leaves_nothing_and_the_server_goes_on(user: Account, mode: Literal["auto", "legacy"]) -> None:
    async def scenario() -> None:
        async with serving(user, mode=mode) as session:

            def guests() -> list[int]:
                return [pid for pid in children_of(session.pid) if "qemu-system" in command_of(pid)]

            async with anyio.create_task_group() as group:
                boot = {"project_root": tiny_guest.deaf(user), "network": True, "capture": True}
                group.start_soon(lambda: session.call("qemu_boot", **boot))
                assert await eventually_async(lambda: guests() != [])
                group.cancel_scope.cancel()
            # The next boot of that name waits until the cancelled one is gone.
            again = await session.boot()
            assert again["prompt_seen"]
            assert (guests(), link_names()) == ([again["pid"]], {again["network"]["bridge"], again["network"]["tap"]})
            status = await session.call("qemu_status")
            assert [guest["pid"] for guest in status["guests"]] == [again["pid"]]
            assert all(row["state"] == "stopped" for row in status["captures"])

    anyio.run(scenario)


def test_a_cancelled_wait_leaves_the_capture_running(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            await session.call("qemu_pcap_start", filter="icmp")
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.call("qemu_send", command="sleep 20", wait_for="never"))
                await session.until_said("sleep 20")
                group.cancel_scope.cancel()
            row = (await session.call("qemu_pcap_status"))["captures"][0]
            assert row["state"] == "running"

    anyio.run(scenario)


def test_sigkill_leaves_no_qemu_and_no_tap_and_the_next_start_removes_the_bridge(user: Account) -> None:
    with raw_client(user) as client:
        booted = client.call("qemu_boot", profile="u-boot-riscv64", network=True)
        started = client.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in client.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        assert eventually(lambda: Path(started["path"]).stat().st_size > 24)
        client.process.kill()
        client.process.wait()
        assert eventually(lambda: not exists(booted["pid"]))
        assert eventually(lambda: link_names() == {booted["network"]["bridge"]})
        assert read_back(started["path"]) == 2

    next_start(user, lambda: link_names() == set())


def test_a_bridge_of_a_server_that_lives_is_not_swept(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as first:
            booted = await first.boot()
            async with serving(user) as second:
                shared = await second.boot()
                assert shared["network"]["bridge"] == booted["network"]["bridge"]
                ended = await second.call("qemu_shutdown")
                assert ended["left_standing"] == [f"bridge {booted['network']['bridge']}"]
            assert "is alive" in await first.ping()

    anyio.run(scenario)
    assert link_names() == set()


def test_the_last_user_of_a_killed_servers_bridge_removes_it(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as second:
            with raw_client(user) as first:
                booted = first.call("qemu_boot", profile="u-boot-riscv64", network=True)
                assert (await second.boot())["network"]["bridge"] == booted["network"]["bridge"]
                first.process.kill()
            assert "is alive" in await second.ping()
            assert (await second.call("qemu_shutdown"))["left_standing"] == []
            assert link_names() == set()

    anyio.run(scenario)
