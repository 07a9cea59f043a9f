"""Row 9: a page of a long file, at its beginning, in its middle and at its end. Row 10: packets decoded a second."""

from __future__ import annotations

import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import Bench, BenchError
from _bench.report import Line, Table, Target, at_most, compare
from _bench.service import Service, serving
from rawtap.packets import lines, reader

_PAGES, _DECODING = 9, 10
_LIMIT = 1.5  # the page at 99 % over that at 1 %
_BLOCK = 4000  # packets that are written over and over
_MATCHING = 100  # of so many one is a DNS question
_FILTERS = {"no filter": "", "1 % match": "udp port 53"}
_PLACES = (0.01, 0.5, 0.99)
_PAGE = 20

_ETHERNET = bytes.fromhex("ffffffffffff020000000001")
_QUESTION = _ETHERNET + bytes.fromhex(
    "08004500003700010000401162a60a00020f0a0002029c400035002300000007010000010000000000000161076578616d706c6500000100010000"
)
_OTHER = (_ETHERNET + bytes.fromhex("0800450000320001000040 0666b60a00020f0a000202".replace(" ", ""))).ljust(64, b"\0")


@dataclass(frozen=True)
class PageTrial:
    """Milliseconds of one page."""

    where: str
    milliseconds: float


def pages(bench: Bench) -> list[Table]:
    """Row 9."""
    with tempfile.TemporaryDirectory(dir=bench.disk) as name:
        path = Path(name, "long.pcap")
        write(path, bench.plan.page_packets)
        return [anyio.run(_pages, bench, path)]


def write(path: Path, packets: int) -> None:
    frames = [_QUESTION if number % _MATCHING == 0 else _OTHER for number in range(_BLOCK)]
    block = b"".join(struct.pack("=IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for _ in range(packets // _BLOCK):
            file.write(block)


async def _pages(bench: Bench, path: Path) -> Table:
    packets = bench.plan.page_packets // _BLOCK * _BLOCK
    found: dict[str, list[float]] = {}
    async with serving(path.parent, "--read-dir", str(path.parent)) as service:
        await service.settle()
        for name, expression in _FILTERS.items():
            found[f"first page of all, {name}"] = [await _page(bench, service, path, expression, 1, name)]
            found[f"tcpdump -r --count, {name}"] = [await anyio.to_thread.run_sync(_count, path, expression)]
        for _ in range(bench.plan.calls):
            for name, expression in _FILTERS.items():
                for place in _PLACES:
                    where = f"page at {place:.0%}, {name}"
                    elapsed = await _page(bench, service, path, expression, int(packets * place), where)
                    found.setdefault(where, []).append(elapsed)
    lines = tuple(Line(name, tuple(values)) for name, values in found.items())
    targets = tuple(_same(found, name) for name in _FILTERS)
    return Table(_PAGES, f"a page of {_PAGE} packets of {packets:,}, over MCP", "ms", lines, targets)


def _same(found: dict[str, list[float]], name: str) -> Target:
    first, last = (statistics.median(found[f"page at {place:.0%}, {name}"]) for place in (_PLACES[0], _PLACES[-1]))
    return at_most(f"page at 99 % over page at 1 %, {name}", last / first, _LIMIT)


async def _page(bench: Bench, service: Service, path: Path, expression: str, first: int, where: str) -> float:
    started = time.perf_counter()
    page = await service.call("qemu_pcap_read", path=str(path), filter=expression, first=first, limit=_PAGE)
    elapsed = (time.perf_counter() - started) * 1e3
    if len(page["packets"]) != _PAGE or page["packets"][0]["number"] < first:
        raise BenchError(f"the page at {first} is not what was asked for")
    bench.record(_PAGES, PageTrial(where, elapsed))
    return elapsed


def _count(path: Path, expression: str) -> float:
    started = time.perf_counter()
    subprocess.run(["tcpdump", "-nr", str(path), "--count", expression], check=True, capture_output=True)
    return (time.perf_counter() - started) * 1e3


@dataclass(frozen=True)
class Decoded:
    """Packets a second that one decoder turned into lines."""

    contender: str
    rate: float


def decoding(bench: Bench) -> list[Table]:
    """Row 10: each decoder makes one line of every packet of a file; start-up is not counted, but tshark's is."""
    found: dict[str, list[float]] = {name: [] for name in _DECODERS}
    with tempfile.TemporaryDirectory(dir=bench.disk) as name:
        path = Path(name, "some.pcap")
        write(path, bench.plan.decode_packets)
        packets = bench.plan.decode_packets // _BLOCK * _BLOCK
        for _ in range(bench.plan.rounds):
            for contender, (decoder, share) in _DECODERS.items():
                with on_cpu(CAPTURE_CPU):
                    seconds = decoder(path, packets // share)
                found[contender].append(packets // share / seconds)
                bench.record(_DECODING, Decoded(contender, found[contender][-1]))
    best = max((name for name in _DECODERS if name != _OURS), key=lambda each: statistics.median(found[each]))
    remarks = {"tshark": "its start included", "scapy": "one packet of 20"}
    title = f"packets decoded to a line each, {packets:,} of 64 and 69 bytes"
    return [Table(_DECODING, title, "packets a second", compare(found, best, remarks))]


def _rawtap(path: Path, packets: int) -> float:
    savefile = reader.open_file(path, "")
    started = time.perf_counter()
    for _, _, _, length, data, _ in savefile.take(packets):
        lines.describe(data, length, savefile.link_type)
    return time.perf_counter() - started


def _scapy(path: Path, packets: int) -> float:
    from scapy.layers import dns  # noqa: F401 - so that scapy knows it
    from scapy.utils import PcapReader

    with PcapReader(str(path)) as opened:
        next(opened)
        started = time.perf_counter()
        for _ in range(packets - 1):
            next(opened).summary()
        return time.perf_counter() - started


def _tshark(path: Path, packets: int) -> float:
    command = ["tshark", "-nr", str(path), "-c", str(packets)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


_OURS = "rawtap"
_DECODERS: dict[str, tuple[Callable[[Path, int], float], int]] = {
    _OURS: (_rawtap, 1),
    "tshark": (_tshark, 1),
    "scapy": (_scapy, 20),
}
