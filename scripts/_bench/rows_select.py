"""Row 5: selecting from a large file, and the first page of it."""

from __future__ import annotations

import random
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import Bench
from _bench.report import Line, Table, Target, at_most, compare, found_all
from _bench.service import SETTLE, Service, serving
from rawtap.packets import reader

_ROW = 5
_EXPRESSION = "udp port 53"
_SPEED_TARGET = 1.0
_PAGE_LIMIT = 100.0  # ms beyond the count
_FRAMES = 400  # different ones in the file
_ADDRESSES = b"\x02\0\0\0\0\2\x02\0\0\0\0\1"
_ARP, _IPV4, _TCP, _UDP = 0x0806, 0x0800, 6, 17
_PORTS = (53, 67, 123, 443, 5353, 40000)
_SIZES = (18, 64, 200, 512, 1200, 1440)


@dataclass(frozen=True)
class Timed:
    """One pass over the file; `wrong` says that it did not find what is in it."""

    contender: str
    what: str
    milliseconds: float
    wrong: str


@dataclass(frozen=True)
class Mixed:
    """A capture file of `packets` packets, of which `matching` match."""

    path: Path
    packets: int
    matching: int


def select(bench: Bench) -> list[Table]:
    """Row 5."""
    with tempfile.TemporaryDirectory(dir=bench.disk) as name:
        mixed = _write_mixed(Path(name) / "mixed.pcap", bench.plan.select_packets)
        tables = [_select(bench, mixed, to_file=True), _select(bench, mixed, to_file=False)]
        return [*tables, anyio.run(_first_page, bench, mixed)]


def _select(bench: Bench, mixed: Mixed, *, to_file: bool) -> Table:
    what = "to a new file" if to_file else "to a count"
    out = mixed.path.with_name("selected.pcap") if to_file else None
    ways = {"rawtap": lambda: _ours(mixed.path, out), "tcpdump": lambda: _tcpdump(mixed.path, out)}
    timed = _interleaved(bench, what, ways, mixed, out)
    values = {name: [each.milliseconds for each in done] for name, done in timed.items()}
    remarks = {
        "rawtap": "in a process that runs already",
        "tcpdump": f"the whole command, of which it starts for {_tcpdump_start_up(mixed):.1f} ms",
    }
    wrong = [each.wrong for done in timed.values() for each in done]
    targets = (_speed(values), found_all(wrong))
    title = f'select "{_EXPRESSION}" {what}: {mixed.matching} of {mixed.packets} packets'
    return Table(_ROW, title, "ms", compare(values, "tcpdump", remarks), targets)


def _speed(values: Mapping[str, Sequence[float]]) -> Target:
    text = f"speed, rawtap over tcpdump >= {_SPEED_TARGET:g}"
    ratio = statistics.median(values["tcpdump"]) / statistics.median(values["rawtap"])
    return Target(text, f"{ratio:.3g}", ratio >= _SPEED_TARGET)


def _ours(path: Path, out: Path | None) -> int:
    """Select by rawtap; how many packets match."""
    return reader.select(path, _EXPRESSION, out).matched


def _interleaved(
    bench: Bench, what: str, ways: Mapping[str, Callable[[], int]], mixed: Mixed, out: Path | None
) -> dict[str, list[Timed]]:
    """Some rounds of every way, each after one that is not counted."""
    timed: dict[str, list[Timed]] = {name: [] for name in ways}
    for number in range(bench.plan.rounds + 1):
        for name, way in ways.items():
            if out is not None:
                out.unlink(missing_ok=True)
            with on_cpu(CAPTURE_CPU):
                started = time.perf_counter()
                matched = way()
                milliseconds = (time.perf_counter() - started) * 1e3
            if out is not None:
                matched = _tcpdump(out, None)
            if number:
                wrong = "" if matched == mixed.matching else f"found {matched} of {mixed.matching}"
                timed[name].append(Timed(name, what, milliseconds, wrong))
                bench.record(_ROW, timed[name][-1])
    return timed


def _tcpdump(path: Path, out: Path | None) -> int:
    """Select by tcpdump; how many packets match, 0 where they go to a file."""
    action = ["--count"] if out is None else ["-Z", "root", "-w", str(out)]
    command = ["tcpdump", "-nr", str(path), *action, _EXPRESSION]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) if out is None else 0


def _tcpdump_start_up(mixed: Mixed) -> float:
    """Milliseconds of tcpdump on a file without a packet."""
    empty = mixed.path.with_name("empty.pcap")
    empty.write_bytes(_file_header())
    found = []
    with on_cpu(CAPTURE_CPU):
        for _ in range(5):
            started = time.perf_counter()
            _tcpdump(empty, None)
            found.append((time.perf_counter() - started) * 1e3)
    return statistics.median(found)


async def _first_page(bench: Bench, mixed: Mixed) -> Table:
    """The first page over MCP beside the count alone: the first one of each of some servers, and a later one."""
    first: list[Timed] = []
    later: list[Timed] = []
    for _ in range(bench.plan.rounds):
        async with serving(mixed.path.parent / "captures", "--read-dir", str(mixed.path.parent)) as service:
            await service.settle()
            for pages, what in ((first, "first page, first call"), (later, "first page, later call")):
                pages.append(await _page(service, mixed, what))
                bench.record(_ROW, pages[-1])
    counts = _count_ms(bench, mixed)
    lines = (
        Line(
            "first page, first call", tuple(page.milliseconds for page in first), remark=f"{SETTLE:g} s after its start"
        ),
        Line("first page, later call", tuple(page.milliseconds for page in later)),
        Line("count alone", tuple(counts), remark="in the bench's own process"),
    )
    beyond = [statistics.median(line.values) - statistics.median(counts) for line in lines]
    targets = (
        at_most("first page beyond the count, first call", beyond[0], _PAGE_LIMIT, " ms"),
        at_most("first page beyond the count, later call", beyond[1], _PAGE_LIMIT, " ms"),
        found_all([page.wrong for page in [*first, *later]]),
    )
    return Table(_ROW, f"first page of qemu_pcap_read, {mixed.packets} packets", "ms", lines, targets)


async def _page(service: Service, mixed: Mixed, what: str) -> Timed:
    started = time.perf_counter()
    page = await service.call("qemu_pcap_read", path=str(mixed.path), filter=_EXPRESSION)
    milliseconds = (time.perf_counter() - started) * 1e3
    found = (page["matched"], page["scanned"])
    wrong = "" if found == (mixed.matching, mixed.packets) else f"matched and scanned {found}"
    return Timed("rawtap", what, milliseconds, wrong)


def _count_ms(bench: Bench, mixed: Mixed) -> list[float]:
    """The count alone, the first one left out."""
    found = []
    with on_cpu(CAPTURE_CPU):
        for _ in range(bench.plan.rounds + 1):
            started = time.perf_counter()
            _ours(mixed.path, None)
            found.append((time.perf_counter() - started) * 1e3)
    return found[1:]


def _write_mixed(path: Path, packets: int) -> Mixed:
    """Write a file of ARP, UDP and TCP packets of many sizes, the same in every run."""
    chance = random.Random(53)  # noqa: S311 - nothing secret
    frames = [_frame(chance) for _ in range(_FRAMES)]
    matching = 0
    with path.open("wb") as file:
        file.write(_file_header())
        for number in range(packets):
            frame, matches = frames[chance.randrange(_FRAMES)]
            matching += matches
            size = len(frame)
            file.write(struct.pack("<IIII", 1_700_000_000 + number // 1000, number % 1000 * 1_000_000, size, size))
            file.write(frame)
    return Mixed(path, packets, matching)


def _file_header() -> bytes:
    """Of pcap with nanoseconds and Ethernet, pcap-savefile(5)."""
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)


def _frame(chance: random.Random) -> tuple[bytes, bool]:
    """A frame, and whether it matches."""
    kind = chance.choice((_ARP, _UDP, _UDP, _UDP, _TCP, _TCP, _TCP, _TCP))
    if kind == _ARP:
        return _ADDRESSES + struct.pack("!HHHBBH", _ARP, 1, _IPV4, 6, 4, 1) + chance.randbytes(20) + bytes(18), False
    source, destination = chance.choice(_PORTS), chance.choice(_PORTS)
    payload = chance.randbytes(chance.choice(_SIZES))
    if kind == _UDP:
        segment = struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload
    else:
        segment = struct.pack("!HHIIBBHHH", source, destination, 1, 1, 5 << 4, 0x10, 65535, 0, 0) + payload
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 1, 0, 64, kind, 0, b"\n\0\2\2", b"\n\0\2\x0f")
    return _ADDRESSES + struct.pack("!H", _IPV4) + packet + segment, kind == _UDP and _PORTS[0] in {source, destination}
