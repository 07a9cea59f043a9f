"""Rows 11 to 14 and 16: booting and asking a guest beside a script, its events, and the server beside the SDK's own."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from pyroute2 import IPRoute

from _bench.machine import ALL_CPUS, on_cpu
from _bench.plan import Bench, BenchError
from _bench.report import Table, at_most, compare
from _bench.service import serving
from rawtap.guest.profile import UBOOT_KERNEL

_BOOT, _SEND, _TOOL, _READY, _EVENT = 11, 12, 13, 14, 16
_LINK, _OWN_LINK = "bench", "bench-own"
_PROMPT, _COUNTDOWN = b"\n=> ", b"Hit any key"
_BARE, _OURS, _SDK = "QEMU by a script", "rawtap", "the SDK's own empty server"
_WHOLE = "a script that makes bridge and TAP, and has tcpdump listen"
_ECHO = "a script that types Enter when the line came back"
_LISTED = ", its tools listed"
_EMPTY_SERVER = """\
from mcp.server import MCPServer
server = MCPServer("empty")
@server.tool()
def empty() -> dict[str, int]:
    return {"nothing": 0}
server.run()
"""


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one trial."""

    contender: str
    milliseconds: float


@dataclass
class _Bare:
    """QEMU as a script has it: its console on pipes."""

    process: subprocess.Popen[bytes]

    def until(self, text: bytes) -> None:
        """Read its console up to `text`."""
        stream, seen = self.process.stdout, b""
        while stream and text not in seen:
            data = stream.read(65536)  # unbuffered: what is there
            if not data:
                raise BenchError(f"QEMU ended, and its console never showed {text!r}")
            seen += data

    def type(self, data: bytes) -> None:
        """Write to its console."""
        if self.process.stdin is None:
            raise BenchError("QEMU has no console")
        self.process.stdin.write(data)
        self.process.stdin.flush()


def boot(bench: Bench) -> list[Table]:
    """Row 11: with a network and an armed capture, beside QEMU on a TAP that is there already."""
    with _tap(_LINK):
        return _in_folder(_boot, bench)


def send(bench: Bench) -> list[Table]:
    """Row 12: a command, and its answer up to the next prompt."""
    with _tap(_LINK):
        return _in_folder(_send, bench)


def tool(bench: Bench) -> list[Table]:
    """Row 13: a call that does next to nothing."""
    return _in_folder(_tool, bench)


def ready(bench: Bench) -> list[Table]:
    """Row 14: from the spawn until the client may call."""
    return _in_folder(_ready, bench)


def event(bench: Bench) -> list[Table]:
    """Row 16: from a guest's reset, by QEMU's own stamp, to the answer that tells of it."""
    return _in_folder(_event, bench)


def _in_folder(row: Callable[[Bench, Path], Awaitable[Table]], bench: Bench) -> list[Table]:
    # Not on one CPU: a guest at its prompt takes one for itself.
    with tempfile.TemporaryDirectory(dir=bench.disk) as name, on_cpu(*ALL_CPUS):
        return [anyio.run(row, bench, Path(name))]


async def _boot(bench: Bench, folder: Path) -> Table:
    found: dict[str, list[float]] = {_OURS: [], _BARE: [], _WHOLE: []}
    async with serving(folder, cpus=ALL_CPUS) as service:
        await service.settle()
        for _ in range(bench.plan.boots):
            started = time.perf_counter()
            with _bare():
                found[_BARE].append((time.perf_counter() - started) * 1e3)
            found[_WHOLE].append(await anyio.to_thread.run_sync(_whole, folder))
            started = time.perf_counter()
            await service.call("qemu_boot", profile="u-boot-riscv64", network=True, capture=True)
            found[_OURS].append((time.perf_counter() - started) * 1e3)
            await service.call("qemu_shutdown", timeout=0)
            _keep(bench, _BOOT, found)
    ours, bare, whole = (statistics.median(found[name]) for name in (_OURS, _BARE, _WHOLE))
    targets = (
        at_most("boot, rawtap over the script", ours / bare, 1.1),
        at_most("boot, rawtap over the script that does the same", ours / whole, 1.1),
        at_most("boot, rawtap less the script", ours - bare, 100, " ms"),
    )
    remarks = {_OURS: "bridge, TAP, capture and QEMU, over MCP", _BARE: "its TAP is there already, no capture"}
    return Table(_BOOT, "from nothing to U-Boot's prompt", "ms", compare(found, _BARE, remarks), targets)


def _whole(folder: Path) -> float:
    """Milliseconds of a script that does what rawtap does. Not in an event loop: pyroute2 runs one of its own."""
    started = time.perf_counter()
    with _tap(_OWN_LINK), _tcpdump(folder), _bare(_OWN_LINK):
        return (time.perf_counter() - started) * 1e3


async def _send(bench: Bench, folder: Path) -> Table:
    found: dict[str, list[float]] = {_OURS: [], _BARE: [], _ECHO: [], _SDK: []}
    with _bare() as bare:
        async with serving(folder, cpus=ALL_CPUS) as service, _empty(folder) as empty:
            await service.settle()
            ours = int((await service.call("qemu_boot", profile="u-boot-riscv64", network=True))["pid"])
            for number in range(bench.plan.calls):
                with _stopped(ours):
                    both = ((_BARE, False), (_ECHO, True))
                    _echo(bare, number, awaited=True)  # it pays for the change of guests
                    for name, awaited in both if number % 2 else both[::-1]:
                        started = time.perf_counter()
                        _echo(bare, number, awaited=awaited)
                        found[name].append((time.perf_counter() - started) * 1e3)
                with _stopped(bare.process.pid):
                    await service.call("qemu_send", command=f"echo {number}")
                    await empty.call_tool("empty", {})
                    started = time.perf_counter()
                    await service.call("qemu_send", command=f"echo {number}")
                    found[_OURS].append((time.perf_counter() - started) * 1e3)
                    started = time.perf_counter()
                    await empty.call_tool("empty", {})
                    found[_SDK].append((time.perf_counter() - started) * 1e3)
                _keep(bench, _SEND, found)
            await service.call("qemu_shutdown", timeout=0)
    more = statistics.median(found[_OURS]) - statistics.median(found[_BARE])
    floor = statistics.median(found[_ECHO]) + statistics.median(found[_SDK])
    targets = (
        at_most("a command's round trip, rawtap less the guest's own", more, 2, " ms"),
        at_most("rawtap less that script and the SDK's call", statistics.median(found[_OURS]) - floor, 1, " ms"),
    )
    remarks = {_SDK: "a call of it, by which no guest is asked"}
    return Table(_SEND, "a command on the console", "ms", compare(found, _BARE, remarks), targets)


def _echo(bare: _Bare, number: int, *, awaited: bool) -> None:
    """Have a script's guest echo a number. With `awaited` Enter is typed when the line came back, as rawtap does it."""
    line = b"echo %d" % number
    if awaited:
        bare.type(line)
        bare.until(line)
    bare.type(b"\n" if awaited else line + b"\n")
    bare.until(b"\n%d\r\n=> " % number)


async def _event(bench: Bench, folder: Path) -> Table:
    found: dict[str, list[float]] = {_OURS: []}
    async with serving(folder, cpus=ALL_CPUS) as service:
        await service.settle()
        for _ in range(bench.plan.boots):
            await service.call("qemu_boot", profile="u-boot-riscv64")
            await service.call("qemu_send", command="reset", timeout=50)
            answered = time.time()
            page = await service.call("qemu_timeline", sources=["qmp"])
            resets = [each["time"] for each in page["events"] if each["kind"] == "RESET"]
            begun = datetime.fromisoformat(page["started"]).timestamp()
            found[_OURS].append((answered - begun - resets[0]) * 1e3)
            await service.call("qemu_shutdown", timeout=0)
            _keep(bench, _EVENT, found)
    target = at_most("from the event to the answer", statistics.median(found[_OURS]), 1000, " ms")
    return Table(_EVENT, "from a guest's reset to the answer", "ms", compare(found, _OURS, {}), (target,))


async def _tool(bench: Bench, folder: Path) -> Table:
    found: dict[str, list[float]] = {_OURS: [], _SDK: []}
    async with serving(folder, cpus=ALL_CPUS) as service, _empty(folder) as empty:
        await service.settle()
        for _ in range(bench.plan.tool_calls):
            started = time.perf_counter()
            await service.call("qemu_status")
            found[_OURS].append((time.perf_counter() - started) * 1e3)
            started = time.perf_counter()
            await empty.call_tool("empty", {})
            found[_SDK].append((time.perf_counter() - started) * 1e3)
            _keep(bench, _TOOL, found)
    ratio = statistics.median(found[_OURS]) / statistics.median(found[_SDK])
    target = at_most("an empty qemu_status over the SDK's empty tool", ratio, 1.3)
    return Table(_TOOL, "a call that does next to nothing", "ms", compare(found, _SDK, {}), (target,))


async def _ready(bench: Bench, folder: Path) -> Table:
    found: dict[str, list[float]] = {_OURS: [], _SDK: [], _OURS + _LISTED: [], _SDK + _LISTED: []}
    for _ in range(bench.plan.starts):
        for name in (_OURS, _SDK):
            started = time.perf_counter()
            async with _served(name, folder) as client:
                found[name].append((time.perf_counter() - started) * 1e3)
                await client.list_tools()
                found[name + _LISTED].append((time.perf_counter() - started) * 1e3)
        _keep(bench, _READY, found)
    targets = tuple(
        at_most(
            f"ready{until}, rawtap over the SDK's empty server",
            statistics.median(found[_OURS + until]) / statistics.median(found[_SDK + until]),
            1.1,
        )
        for until in ("", _LISTED)
    )
    return Table(_READY, "from the spawn until the client may call", "ms", compare(found, _SDK, {}), targets)


@asynccontextmanager
async def _served(name: str, folder: Path) -> AsyncIterator[Client]:
    if name == _SDK:
        async with _empty(folder) as client:
            yield client
    else:
        async with serving(folder, cpus=ALL_CPUS) as service:
            yield service.client


def _keep(bench: Bench, row: int, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        bench.record(row, Timed(name, values[-1]))


@asynccontextmanager
async def _empty(folder: Path) -> AsyncIterator[Client]:
    """The SDK's server with one tool that does nothing, and a client of it."""
    script = folder / "empty.py"
    script.write_text(_EMPTY_SERVER, encoding="utf-8")
    async with Client(stdio_client(StdioServerParameters(command=sys.executable, args=[str(script)]))) as client:
        yield client


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Have the other guest stand still, which polls its console all the time."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _tap(name: str) -> Iterator[None]:
    """A TAP of that name on a bridge, both up."""
    bridge_name = f"{name}-br"
    with IPRoute() as netlink:
        netlink.link("add", ifname=bridge_name, kind="bridge")
        netlink.link("add", ifname=name, kind="tuntap", mode="tap")
        bridge, tap = (netlink.link_lookup(ifname=each)[0] for each in (bridge_name, name))
        netlink.link("set", index=tap, master=bridge, state="up")
        netlink.link("set", index=bridge, state="up")
        try:
            yield
        finally:
            netlink.link("del", index=tap)
            netlink.link("del", index=bridge)


@contextmanager
def _tcpdump(folder: Path) -> Iterator[None]:
    """tcpdump, listening on the script's own TAP; killed with the block."""
    command = ["tcpdump", "-Z", "root", "-i", _OWN_LINK, "-w", str(folder / "tcpdump.pcap")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            if not any("listening on" in line for line in process.stderr or ()):
                raise BenchError("tcpdump does not listen")
            yield
        finally:
            process.kill()


@contextmanager
def _bare(tap: str = _LINK) -> Iterator[_Bare]:
    """QEMU with its console on pipes, at U-Boot's prompt; killed with the block."""
    command = ["qemu-system-riscv64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
    command += ["-machine", "virt", "-m", "128M", "-bios", "default", "-kernel", UBOOT_KERNEL]
    command += ["-netdev", f"tap,id=net0,ifname={tap},script=no,downscript=no"]
    command += ["-device", "virtio-net-device,netdev=net0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            bare = _Bare(process)
            bare.until(_COUNTDOWN)
            bare.type(b" ")
            bare.until(_PROMPT)
            yield bare
        finally:
            process.kill()
