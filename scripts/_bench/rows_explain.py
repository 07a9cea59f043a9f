"""Row 15: what is wrong in a file, and a page of it after the first."""

from __future__ import annotations

import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio

from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import Bench, BenchError
from _bench.report import Line, Table, at_most
from _bench.service import Service, serving
from rawtap.packets.checks import total

_ROW = 15
_SHARE = 0.5  # of tshark's time
_PAGE_MS = 20.0
_WRONG = 7  # of so many connections one has a wrong checksum in each of its segments
_SEGMENTS = 8  # of data in a connection
_DATA = bytes(range(256)) * 4
_HOSTS = (bytes([10, 0, 2, 15]), bytes([10, 0, 2, 2]))
_LINKS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
_EXPERT = ("-q", "-z", "expert", *(f"-o{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")))


@dataclass(frozen=True)
class ExplainTrial:
    """Milliseconds of one question."""

    where: str
    milliseconds: float


def explaining(bench: Bench) -> list[Table]:
    """Row 15."""
    with tempfile.TemporaryDirectory(dir=bench.disk) as name:
        path = Path(name, "some.pcap")
        packets = _write(path, bench.plan.explain_packets)
        return [anyio.run(_explaining, bench, path, packets)]


async def _explaining(bench: Bench, path: Path, packets: int) -> Table:
    ours, tshark, later = "qemu_pcap_explain", "tshark -q -z expert, with checksums", "a page after the first"
    found: dict[str, list[float]] = {ours: [], tshark: [], later: []}
    async with serving(path.parent, "--read-dir", str(path.parent)) as service:
        await service.settle()
        for turn in range(bench.plan.rounds):
            await anyio.Path(path).touch()  # else it is answered as before
            cursor, elapsed = await _page(service, path, packets, None)
            found[ours].append(elapsed)
            found[later].append((await _page(service, path, packets, cursor))[1])
            found[tshark].append(await anyio.to_thread.run_sync(_tshark, path))
            for name, values in found.items():
                bench.record(_ROW, ExplainTrial(f"{name}, round {turn}", values[-1]))
    medians = {name: statistics.median(values) for name, values in found.items()}
    lines = tuple(Line(name, tuple(values)) for name, values in found.items())
    targets = (
        at_most("explain over tshark", medians[ours] / medians[tshark], _SHARE),
        at_most(later, medians[later], _PAGE_MS, " ms"),
    )
    return Table(_ROW, f"what is wrong in a file of {packets:,} packets, over MCP", "ms", lines, targets)


async def _page(service: Service, path: Path, packets: int, cursor: str | None) -> tuple[str, float]:
    started = time.perf_counter()
    page = await service.call("qemu_pcap_explain", path=str(path), limit=1, cursor=cursor)
    elapsed = (time.perf_counter() - started) * 1e3
    if page["examined"] != packets or [each["what"] for each in page["findings"]] == []:
        raise BenchError(f"explain examined {page['examined']} packets of {packets}, and found {page['findings']}")
    return page["next_cursor"], elapsed


def _tshark(path: Path) -> float:
    started = time.perf_counter()
    with on_cpu(CAPTURE_CPU):
        subprocess.run(["tshark", "-nr", str(path), *_EXPERT], check=True, capture_output=True)
    return (time.perf_counter() - started) * 1e3


def _write(path: Path, packets: int) -> int:
    """Connections one after the other, a millisecond from packet to packet; returns how many packets they are."""
    written = 0
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for number in range(packets // (_SEGMENTS * 2 + 5)):
            for frame in _connection(number):
                seconds, milliseconds = divmod(written, 1000)
                size = len(frame)
                file.write(struct.pack("=IIII", seconds + 1, milliseconds * 1000, size, size) + frame)
                written += 1
    return written


def _connection(number: int) -> Iterator[bytes]:
    port, wrong = 10_000 + number % 50_000, number % _WRONG == 0
    ours, theirs = 1000, 5000

    def sent(way: int, flags: int, data: bytes = b"") -> bytes:
        numbers = (ours, theirs) if way == 0 else (theirs, ours)
        return _segment(way, port, numbers[0], numbers[1] if flags != 2 else 0, flags, data, wrong=wrong)  # noqa: PLR2004

    yield sent(0, 0x02)
    ours += 1
    yield sent(1, 0x12)
    theirs += 1
    yield sent(0, 0x10)
    for _ in range(_SEGMENTS):
        yield sent(0, 0x18, _DATA)
        ours += len(_DATA)
        yield sent(1, 0x10)
    yield sent(0, 0x11)
    ours += 1
    yield sent(1, 0x11)


def _segment(way: int, port: int, sequence: int, acknowledgment: int, flags: int, data: bytes, *, wrong: bool) -> bytes:
    ports, source, destination = ((port, 80), (80, port))[way], _HOSTS[way], _HOSTS[1 - way]
    head = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledgment, 5 << 4, flags, 8192, 0, 0)
    pseudo = source + destination + struct.pack("!HH", 6, len(head) + len(data))
    value = (0xFFFF - total(pseudo + head + data) + wrong) & 0xFFFF
    segment = head[:16] + value.to_bytes(2, "big") + head[18:] + data
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0, source, destination)
    ip = ip[:10] + (0xFFFF - total(ip)).to_bytes(2, "big") + ip[12:]
    return _LINKS[1 - way] + _LINKS[way] + b"\x08\0" + ip + segment
