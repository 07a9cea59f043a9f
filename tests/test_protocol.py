"""What a client sees of the server itself: tools, schemas, hints, instructions, both protocol eras."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import anyio
import pytest
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from rawtap.tools import every
from rawtap.tools._listing import brief
from support import PATIENCE, RAWTAP, Account, eventually_async, serving

TOOLS = {
    "qemu_boot",
    "qemu_send",
    "qemu_read",
    "qemu_screenshot",
    "qemu_send_key",
    "qemu_type",
    "qemu_mouse",
    "qemu_monitor",
    "qemu_status",
    "qemu_shutdown",
    "qemu_pcap_start",
    "qemu_pcap_status",
    "qemu_pcap_follow",
    "qemu_pcap_stop",
    "qemu_pcap_read",
    "qemu_packet_send",
    "qemu_examine",
    "qemu_pcap_explain",
    "qemu_pcap_query",
    "qemu_pcap_picture",
    "qemu_pcap_wait",
    "qemu_snapshot",
    "qemu_debug",
    "qemu_timeline",
    "qemu_record",
    "qemu_doctor",
    "qemu_link",
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_every_tool_has_schemas_and_the_hints_that_differ(user: Account, mode: Literal["auto", "legacy"]) -> None:
    async def scenario() -> None:
        async with serving(user, mode=mode) as session:
            listed = (await session.client.list_tools()).tools
            assert {each.name for each in listed} == TOOLS
            made = await MCPServer("rawtap", tools=list(every.TOOLS)).list_tools()
            assert listed == [brief(each) for each in made], "run scripts/manual.py"
            for each in listed:
                assert each.output_schema is not None
                assert each.output_schema["type"] == "object"
                assert each.description
                # Whatever is not said is as the protocol takes it for granted: it writes, destroys, and reaches far.
                hints = each.annotations or ToolAnnotations()
                assert hints.read_only_hint is not False
                assert hints.destructive_hint is not True
                assert hints.open_world_hint is not True
            instructions = session.client.instructions
            assert instructions is not None
            assert 0 < len(instructions) <= 2048

    anyio.run(scenario)


def test_a_client_is_greeted_before_the_tools_are_made() -> None:
    late = {
        "rawtap.tools.every",
        "rawtap.lab.lab",
        "rawtap.guest.builtin",
        "rawtap.packets.reader",
        "pyroute2",
        "scapy",
    }
    program = f"import sys, rawtap.cli, rawtap.server\nprint(sorted({late!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_mcp_inspector_finds_nothing(user: Account, era: str) -> None:
    bin_folder = Path(sys.prefix) / "bin"
    inspector = Path(sys.prefix) / "inspector/node_modules/.bin/mcp-inspector"
    command = [inspector, "--cli", "--strict", "--protocol-era", era, "--method", "tools/list", "--format", "json"]
    done = subprocess.run(
        [*command, *user.command(RAWTAP, "serve")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(user.home)},
    )
    assert done.returncode == 0, done.stderr
    assert {each["name"] for each in json.loads(done.stdout)["result"]["tools"]} == TOOLS
    assert done.stderr == ""


def test_a_boot_reports_its_progress(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            assert session.progress == [
                "making the network",
                "starting QEMU",
                "booting",
                "waiting for the prompt '=> '",
                "interrupting the boot loader's countdown",
            ]

    anyio.run(scenario)


def test_other_calls_are_answered_while_one_waits(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            answered = anyio.Event()

            async def slow() -> None:
                await session.call("qemu_send", command="sleep 20; echo over", wait_for="over", timeout=PATIENCE)
                answered.set()

            async with anyio.create_task_group() as group:
                group.start_soon(slow)
                await session.until_said("sleep 20; echo over")  # it has been typed
                for _ in range(20):
                    await session.call("qemu_status")
                assert not answered.is_set()
                await session.call("qemu_send", command="ctrl-c", enter=False, timeout=0)
                group.cancel_scope.cancel()

    anyio.run(scenario)


def test_two_shutdowns_at_once_get_the_same_answer(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            answers: list[dict[str, object]] = []

            async def shut_down() -> None:
                answers.append(await session.call("qemu_shutdown"))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(shut_down)
            assert len(answers) == 3
            assert answers[0] == answers[1] == answers[2]

    anyio.run(scenario)


def test_what_decoding_needs_is_loaded_before_anybody_asks_for_it(user: Account, tmp_path: Path) -> None:
    """The first page would be half a second late; seen by the files that are opened when no tool was called."""
    log = tmp_path / "strace"

    async def scenario() -> None:
        async with serving(user, before=("strace", "-f", "-qq", "-e", "trace=openat", "-o", str(log))):
            loaded = re.compile(r"scapy/layers/(__pycache__/)?tftp\.")
            assert await eventually_async(lambda: bool(loaded.search(log.read_text(encoding="utf-8"))))

    anyio.run(scenario)
