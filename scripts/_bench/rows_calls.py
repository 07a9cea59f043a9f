"""Row 4: how long an agent waits until a capture is armed, and until it is stopped."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.contenders import TCPDUMP, capturing
from _bench.machine import Wire
from _bench.plan import Bench
from _bench.report import Table, all_exact, at_most, compare
from _bench.sender import Load
from _bench.service import Service, serving, wrong_counts

_ROW = 4
_ARMED_TARGET = 1.0
_STOP_LIMIT = 25.0  # ms
_LOAD = Load(100)


@dataclass(frozen=True)
class Call:
    """Milliseconds of one start and one stop."""

    contender: str
    armed: float
    stopped: float
    wrong: str = ""


def calls(bench: Bench) -> list[Table]:
    """Row 4."""
    with Wire.make() as wire, tempfile.TemporaryDirectory(dir=bench.disk) as name:
        return anyio.run(_calls, bench, wire, Path(name))


async def _calls(bench: Bench, wire: Wire, folder: Path) -> list[Table]:
    ours, theirs = [], []
    async with serving(folder, "--allow-interface", wire.near) as service:
        await service.settle()
        for _ in range(bench.plan.calls):
            ours.append(await _rawtap(bench, wire, service))
            theirs.append(_tcpdump(bench, wire, folder))
            for each in (ours[-1], theirs[-1]):
                bench.record(_ROW, each)
    return _tables(ours, theirs)


async def _rawtap(bench: Bench, wire: Wire, service: Service) -> Call:
    started = time.perf_counter()
    capture = await service.call("qemu_pcap_start", interface=wire.near)
    armed = time.perf_counter() - started
    sent = bench.sender.send(wire.far, _LOAD)
    started = time.perf_counter()
    row = await service.call("qemu_pcap_stop", capture=capture["capture"])
    stopped = time.perf_counter() - started
    wrong = "the file is still open after the answer" if service.has_open(row["path"]) else ""
    return Call("rawtap", armed * 1e3, stopped * 1e3, wrong or wrong_counts(row, sent.count))


def _tcpdump(bench: Bench, wire: Wire, folder: Path) -> Call:
    started = time.perf_counter()
    with capturing(TCPDUMP, wire, folder) as running:
        armed = time.perf_counter() - started
        bench.sender.send(wire.far, _LOAD)
        started = time.perf_counter()
        running.stop()
        stopped = time.perf_counter() - started
    return Call("tcpdump", armed * 1e3, stopped * 1e3)


def _tables(ours: list[Call], theirs: list[Call]) -> list[Table]:
    both = {"rawtap": ours, "tcpdump": theirs}
    armed = {name: [call.armed for call in done] for name, done in both.items()}
    stopped = {name: [call.stopped for call in done] for name, done in both.items()}
    ratio = statistics.median(armed["rawtap"]) / statistics.median(armed["tcpdump"])
    remarks = {"rawtap": "call over MCP to its answer", "tcpdump": 'spawn to "listening on"'}
    armed_target = at_most("time to armed, rawtap over tcpdump", ratio, _ARMED_TARGET)
    stop_target = at_most("median of rawtap's stop", statistics.median(stopped["rawtap"]), _STOP_LIMIT, " ms")
    exact = all_exact([call.wrong for call in ours])
    stop_remarks = {"rawtap": "call over MCP to its answer, file closed", "tcpdump": "SIGINT to its end"}
    return [
        Table(_ROW, "armed", "ms", compare(armed, "tcpdump", remarks), (armed_target,)),
        Table(_ROW, "stopped", "ms", compare(stopped, "tcpdump", stop_remarks), (stop_target, exact)),
    ]
