"""Row 8: how long after the wire an agent that waits for a packet has it."""

from __future__ import annotations

import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.machine import CAPTURE_CPU, Wire, on_cpu
from _bench.plan import Bench, BenchError
from _bench.report import Table, Target, at_most, compare
from _bench.service import Service, serving

_ROW = 8
_LIMIT = 20.0  # ms
_FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x88\xb5" + bytes(46)  # for experiments, IEEE 802
_OURS = "rawtap, qemu_pcap_wait"
_PEERS = {
    "tcpdump -c 1": (),
    "tcpdump -c 1 --immediate-mode": ("--immediate-mode",),
}


@dataclass(frozen=True)
class Wait:
    """Milliseconds from the call that sends a frame to the one answer, or to the process's end."""

    contender: str
    latency: float


def wait(bench: Bench) -> list[Table]:
    """Row 8."""
    folder = tempfile.TemporaryDirectory(dir=bench.disk)
    with Wire.make() as wire, folder as name, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((wire.far, 0))
        return [anyio.run(_wait, bench, wire, Path(name), sender)]


async def _wait(bench: Bench, wire: Wire, folder: Path, sender: socket.socket) -> Table:
    found: dict[str, list[float]] = {_OURS: [], **{name: [] for name in _PEERS}}
    async with serving(folder, "--allow-interface", wire.near) as service:
        await service.settle()
        await service.call("qemu_pcap_start", interface=wire.near)
        for _ in range(bench.plan.calls):
            found[_OURS].append(await _rawtap(service, sender))
            for name, options in _PEERS.items():
                found[name].append(await anyio.to_thread.run_sync(_tcpdump, wire, sender, options))
            for name, values in found.items():
                bench.record(_ROW, Wait(name, values[-1]))
    target: Target = at_most("median of rawtap", statistics.median(found[_OURS]), _LIMIT, " ms")
    best = min(_PEERS, key=lambda name: statistics.median(found[name]))
    remarks = {_OURS: "to the decoded packet in the client's hands, over MCP"}
    remarks |= dict.fromkeys(_PEERS, "to the end of a process that was listening")
    return Table(_ROW, "from the frame's sending to its reader", "ms", compare(found, best, remarks), (target,))


async def _rawtap(service: Service, sender: socket.socket) -> float:
    armed = anyio.Event()
    satisfied = False

    async def tell(_: float, __: float | None, message: str | None) -> None:
        if message == "armed":
            armed.set()

    async def call() -> None:
        nonlocal satisfied
        result = await service.client.call_tool("qemu_pcap_wait", {"timeout": 10}, progress_callback=tell)
        satisfied = bool(result.structured_content and result.structured_content["satisfied"])

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await armed.wait()
        started = time.perf_counter()
        sender.send(_FRAME)
    elapsed = time.perf_counter() - started
    if not satisfied:
        raise BenchError("qemu_pcap_wait did not see the frame")
    return elapsed * 1e3


def _tcpdump(wire: Wire, sender: socket.socket, options: tuple[str, ...]) -> float:
    with on_cpu(CAPTURE_CPU):
        command = ["tcpdump", "-n", "-c", "1", "-i", wire.near, *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with process:
        if not any("listening on" in line for line in process.stderr or ()):
            raise BenchError("tcpdump does not listen")
        started = time.perf_counter()
        sender.send(_FRAME)
        process.wait()
        return (time.perf_counter() - started) * 1e3
