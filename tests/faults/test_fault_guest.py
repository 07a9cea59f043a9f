"""Faults of QEMU and of what a guest prints: it is killed, stopped, deaf, or floods its console."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import tiny_guest
from support import PATIENCE, Account, Session, ToolFailed, eventually_async, link_names, read_back, serving, status_of


def test_qemu_killed_from_outside_is_told_and_released(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot()
            # Whoever holds its stderr makes the server learn of the exit late, as a loaded machine does.
            stderr = os.open(f"/proc/{booted['pid']}/fd/2", os.O_WRONLY)
            asyncio.get_running_loop().call_later(0.4, os.close, stderr)
            os.kill(booted["pid"], signal.SIGKILL)
            assert await eventually_async(lambda: booted["network"]["tap"] not in link_names())
            await session.call("qemu_read", wait_for="never")  # ends at once: the console is closed
            status = await session.call("qemu_status")
            assert status["guests"][0]["state"] == "exited"
            assert "exit code -9" in status["guests"][0]["exit"]
            ended = await session.call("qemu_shutdown")
            assert ended["exit_code"] == -9
            assert link_names() == set()

    anyio.run(scenario)


def test_a_stopped_qemu_holds_no_other_call_up_and_is_shut_down(user: Account) -> None:
    """Its monitor hangs as well: to QMP a stopped QEMU and a hung one are the same."""

    async def bounded(session: Session, name: str, /, **arguments: Any) -> dict[str, Any]:
        with anyio.fail_after(9):  # whoever waits for QEMU's answer waits 10 s
            return await session.call(name, **arguments)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(capture=True)
            await session.ping()
            os.kill(booted["pid"], signal.SIGSTOP)
            link = asyncio.create_task(session.call("qemu_link", up=False))
            assert (await bounded(session, "qemu_status"))["guests"][0]["state"] == "running"
            assert not (await bounded(session, "qemu_read", wait_for="never", timeout=0.2))["matched"]
            assert not (await bounded(session, "qemu_send", command="version", timeout=0.2))["matched"]
            await bounded(session, "qemu_packet_send", interface=booted["network"]["tap"], hex="ff" * 60)
            assert (await bounded(session, "qemu_pcap_wait", since="start", count=1))["satisfied"]
            await bounded(session, "qemu_timeline")
            await bounded(session, "qemu_pcap_explain")
            row = await bounded(session, "qemu_pcap_stop")
            assert row["packets"] == read_back(row["path"]) > 0
            ended = await bounded(session, "qemu_shutdown", timeout=0.2)
            assert (ended["exit_code"], ended["reason"]) == (-9, "SIGKILL")
            with pytest.raises(ToolFailed) as caught:
                await link
            assert caught.value.code in {"guest.exited", "guest.failed"}  # which it is where all the others took 10 s
            assert (await session.boot())["prompt_seen"]

    anyio.run(scenario)
    assert link_names() == set()


def has_carrier(name: str) -> bool:
    """By sysfs, of which this run has its own."""
    return Path(f"/sys/class/net/{name}/carrier").read_text(encoding="ascii") == "1\n"


@pytest.mark.soak
def test_a_monitor_that_does_not_answer_is_an_error_and_leaves_the_cable_as_it_was(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot()
            default = (await session.call("qemu_link", up=True))["queue"]
            os.kill(booted["pid"], signal.SIGSTOP)
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_link", up=False, rate=100_000)
            assert caught.value.code == "guest.failed"
            assert has_carrier(booted["network"]["tap"])
            os.kill(booted["pid"], signal.SIGCONT)
            assert (await session.call("qemu_link", up=True))["queue"] == default
            assert "is alive" in await session.ping()

    anyio.run(scenario)


async def watch(session: Session, root: str, until: str) -> str:
    """What a guest that is booted without a prompt has printed, once `until` is in it."""
    await session.call("qemu_boot", project_root=root, wait_for_prompt=False)
    return await session.until_said(until)


def test_bytes_that_are_no_text_are_shown_and_colours_are_taken_out(user: Account) -> None:
    noise = b"\xff\xfe \x1b[31mred\x1b[0m \x07\x08 \xe2\x80\xae \xc3\xa9 no newline"

    async def scenario() -> None:
        async with serving(user) as session:
            said = await watch(session, tiny_guest.tree(user, tiny_guest.program(noise)), "newline")
            assert said == "\\xff\\xfe red \\x07\\x08 \\u202e é no newline"

    anyio.run(scenario)


@pytest.mark.parametrize(
    "text", [b"x" * 1000, b"line of a flood\r\n" * 60, b"\n" * 1000], ids=["endless", "lines", "empty"]
)
def test_a_console_that_floods_is_read_in_bounded_memory_and_holds_nobody_up(user: Account, text: bytes) -> None:
    """As fast as the guest can: with an endless line, with many, with nothing but line feeds."""

    async def scenario() -> None:
        async with serving(user) as session:
            root = tiny_guest.tree(user, tiny_guest.program(text, again=True), 'prompt = "> "\n')
            booted = await session.call("qemu_boot", project_root=root, timeout=0.5)
            assert not booted["prompt_seen"]
            begun, position = time.monotonic(), 0
            with anyio.fail_after(PATIENCE):
                # A history is cut at 2 MiB.
                while position < 100_000 or (position < 3 << 20 and time.monotonic() - begun < 3):
                    answer = await session.call("qemu_read", wait_for="never there", timeout=0.2)
                    assert len(answer["output"]) <= 8000
                    position = answer["position"]
            sent = await session.call("qemu_send", command="x", timeout=0.2)
            assert sent["position"] > position
            page = await session.call("qemu_timeline", sources=["console"], limit=5)
            assert len(str(page)) < 20_000
            assert int(status_of(session.pid)["RssAnon"].split()[0]) < 200_000
            assert (await session.call("qemu_status"))["guests"][0]["trouble"] is None
            assert (await session.call("qemu_shutdown", timeout=0.2))["exit_code"] == 0

    anyio.run(scenario)


def test_a_guest_that_takes_a_carriage_return_for_enter_is_typed_to(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            root = user.home / "cr"
            root.mkdir()
            (root / "rawtap.toml").write_text('profile = "u-boot-riscv64"\nenter = "\\r"\n', encoding="utf-8")
            await session.call("qemu_boot", project_root=str(root))
            said = await session.call("qemu_send", command="echo one; echo two")
            assert (said["matched"], said["output"].splitlines()[1:3]) == (True, ["one", "two"])

    anyio.run(scenario)
