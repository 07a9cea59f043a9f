"""Row 22: questions in SQL over a file, beside tshark's pass that writes the same columns."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import Bench, BenchError
from _bench.report import Line, Table, Target, at_most
from _bench.rows_pages import write
from _bench.service import Service, serving

_ROW = 22
_SECONDS = 1.0  # until a million packets are asked
_TIMES = 20  # faster than tshark
_SHARE = 10  # of so many packets tshark gets one
_TSHARK = (
    "frame.number", "frame.time_relative", "frame.len", "eth.src", "eth.dst", "ip.src", "ip.dst", "udp.srcport",
    "udp.dstport", "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.stream",
    "_ws.col.Protocol",
)  # fmt: skip
# Every value of these columns is looked at, and one row comes out.
_ALL = """
SELECT max(COLUMNS([
    'number', 'time', 'length', 'source_mac', 'destination_mac', 'source', 'destination', 'source_port',
    'destination_port', 'flags', 'seq', 'ack', 'stream', 'protocol'
])) FROM packets
"""
_QUESTIONS = {
    "the same columns, all of them": _ALL,
    "who talks to whom": "SELECT * FROM conversations ORDER BY bytes DESC LIMIT 10",
    "how many packets": "SELECT count(*) FROM packets",
    "the longest, with what they say": "SELECT number, info FROM packets ORDER BY length DESC, number LIMIT 10",
}


@dataclass(frozen=True)
class Asked:
    """Seconds of one question, from the call to the answer."""

    question: str
    seconds: float


def asking(bench: Bench) -> list[Table]:
    """Row 22; all on one CPU."""
    with tempfile.TemporaryDirectory(dir=bench.disk) as name:
        path, part = Path(name, "long.pcap"), Path(name, "part.pcap")
        packets = bench.plan.select_packets
        write(path, packets)
        write(part, packets // _SHARE)
        found = anyio.run(_ask, bench, path)
        tshark = []
        for _ in range(bench.plan.rounds):
            with on_cpu(CAPTURE_CPU):
                tshark.append(_tshark(part) * _SHARE)
            bench.record(_ROW, Asked("tshark -T fields, the same columns", tshark[-1]))
    lines = [Line(name, tuple(values)) for name, values in found.items()]
    lines.append(
        Line("tshark -T fields, the same columns", tuple(tshark), remark=f"of 1 packet in {_SHARE}, times that")
    )
    return [Table(_ROW, f"{packets:,} packets asked over MCP", "s", tuple(lines), _targets(found, tshark, packets))]


def _targets(found: dict[str, list[float]], tshark: list[float], packets: int) -> tuple[Target, ...]:
    name = next(iter(_QUESTIONS))
    ours = statistics.median(found[name])
    faster = statistics.median(tshark) / ours
    return (
        at_most(f"seconds until {packets:,} packets are asked", ours, _SECONDS, " s"),
        Target(f"times faster than tshark >= {_TIMES}", f"{faster:.3g}", faster >= _TIMES),
    )


async def _ask(bench: Bench, path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in _QUESTIONS}
    async with serving(path.parent, "--read-dir", str(path.parent)) as service:
        await service.settle()
        for _ in range(bench.plan.rounds):
            for name, sql in _QUESTIONS.items():
                found[name].append(await _one(service, path, sql))
                bench.record(_ROW, Asked(name, found[name][-1]))
    return found


async def _one(service: Service, path: Path, sql: str) -> float:
    started = time.perf_counter()
    answer = await service.call("qemu_pcap_query", path=str(path), sql=sql)
    elapsed = time.perf_counter() - started
    if not answer["rows"]:
        raise BenchError(f"{sql} has no answer")
    return elapsed


def _tshark(path: Path) -> float:
    fields = [word for name in _TSHARK for word in ("-e", name)]
    started = time.perf_counter()
    subprocess.run(["tshark", "-nr", str(path), "-T", "fields", *fields], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
