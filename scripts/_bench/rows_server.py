"""Rows 6 and 7: what the server needs over many packets and captures, and many captures that are busy at once."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from _bench.machine import Wire
from _bench.plan import Bench
from _bench.report import Line, Table, Target, all_exact, at_most
from _bench.sender import Load, Sent
from _bench.service import Service, serving, wrong_counts
from rawtap.capture.memory import ring_bytes

_MIB = 1 << 20
_GROWTH_LIMIT = 1.0  # MiB over all packets: what an allocator may do, and no packet's worth
_RSS_LIMIT = 500.0  # MB
_IDLE_LIMIT = 5.0  # percent of a core
_SNAPLEN = 64
_FOR_EACH = Load(1000, rate=20_000)
_LARGE_FRAME = 1514
_FEW_RATE, _FEW_SHARE = 5_000, 50  # of those beside a flooded one: packets a second, and how many of the usual ones
_SPARE = 1.25  # of the full rate, all pairs together leave so much
_ROOMY = 8 << 30  # bytes
_LOOK = 0.05  # seconds between two looks at a capture's counters


@dataclass(frozen=True)
class Memory:
    """The server's memory at one moment, in bytes."""

    at: str
    rss: int
    anonymous: int
    proportional: int


@dataclass(frozen=True)
class Many:
    """One capture of several."""

    interface: str
    sent: int
    rate: float
    saved: int
    dropped_kernel: int
    dropped_interface: int
    wrong: str


def memory(bench: Bench) -> list[Table]:
    """Row 6."""
    with Wire.make() as wire, tempfile.TemporaryDirectory(dir=bench.disk) as name:
        arguments = (bench, wire, Path(name))
        return [anyio.run(_over_packets, *arguments), anyio.run(_over_captures, *arguments)]


async def _over_packets(bench: Bench, wire: Wire, captures: Path) -> Table:
    """The server's memory after more and more packets of one capture."""
    points, sent = [], 0
    async with serving(captures, "--allow-interface", wire.near) as service:
        await service.settle()
        await service.call("qemu_pcap_start", interface=wire.near, snaplen=_SNAPLEN, max_bytes=1 << 40)
        for point in bench.plan.memory_points:
            bench.sender.send(wire.far, Load(point - sent))
            sent = point
            await _wait_until_counted(service, sent)
            points.append(_sample(bench, service, f"after {point} packets"))
        wrong = wrong_counts(await service.call("qemu_pcap_stop"), sent)
    lines = [Line(f"VmRSS {each.at}", (each.rss / _MIB,)) for each in points]
    lines += [Line(f"RssAnon {each.at}", (each.anonymous / _MIB,)) for each in points]
    first, last = points[0], points[-1]
    targets = (
        at_most("VmRSS, last less first", (last.rss - first.rss) / _MIB, _GROWTH_LIMIT, " MiB"),
        at_most("RssAnon, last less first", (last.anonymous - first.anonymous) / _MIB, _GROWTH_LIMIT, " MiB"),
        all_exact([wrong]),
    )
    return Table(6, "memory of the server over one capture's packets", "MiB", tuple(lines), targets)


async def _wait_until_counted(service: Service, sent: int) -> None:
    """Wait until a running capture has saved or dropped all of it; no tool tells of an event for that."""
    with anyio.fail_after(60):
        while True:
            (row,) = (await service.call("qemu_pcap_status"))["captures"]
            if row["packets"] + row["dropped_kernel"] + row["dropped_interface"] >= sent:
                return
            await anyio.sleep(_LOOK)


def _sample(bench: Bench, service: Service, at: str) -> Memory:
    found = service.memory()
    sample = Memory(at, found["VmRSS"], found["RssAnon"], found["Pss"])
    bench.record(6, sample)
    return sample


async def _over_captures(bench: Bench, wire: Wire, captures: Path) -> Table:
    """The server's memory and its CPU time with many captures that have nothing to do; then each sees every frame."""
    plan = bench.plan
    async with serving(captures, "--allow-interface", wire.near) as service:
        await service.settle()
        before = _sample(bench, service, "before")
        for _ in range(plan.many_captures):
            await service.call("qemu_pcap_start", interface=wire.near)
        during = _sample(bench, service, f"with {plan.many_captures} captures")
        used = service.cpu_seconds()
        await anyio.sleep(plan.idle)  # deliberate: the time that is measured
        idle = 100 * (service.cpu_seconds() - used) / plan.idle
        sent = bench.sender.send(wire.far, _FOR_EACH)
        # Without an id the newest that runs is stopped.
        stopped = [await service.call("qemu_pcap_stop") for _ in range(plan.many_captures)]
        wrong = [wrong_counts(row, sent.count) for row in stopped]
    return _captures_table(plan.many_captures, before, during, idle, wrong)


def _captures_table(count: int, before: Memory, during: Memory, idle: float, wrong: list[str]) -> Table:
    sizes = [ring_bytes(running) for running in range(count)]
    rings = sum(sizes)
    lines = tuple(
        Line(f"{name}, {each.at}", (size / 1e6,))
        for each in (before, during)
        for name, size in (("VmRSS", each.rss), ("RssAnon", each.anonymous), ("Pss", each.proportional))
    )
    ring_line = Line("the kernel's rings", (rings / 1e6,), remark=f"of {max(sizes) >> 20} to {min(sizes) >> 20} MiB")
    targets = (
        at_most(f"VmRSS with {count} captures", during.rss / 1e6, _RSS_LIMIT, " MB"),
        at_most("CPU of the idle server", idle, _IDLE_LIMIT, " %"),
        all_exact(wrong),
    )
    mapped = (during.rss - during.anonymous - before.rss + before.anonymous) / 1e6
    note = (
        f"resident memory that is not anonymous grew by {mapped:.0f} MB: the rings as they are mapped into the process"
    )
    title = f"memory of the server with {count} captures at once"
    return Table(6, title, "MB", (*lines, ring_line), targets, (note,))


def many(bench: Bench) -> list[Table]:
    """Row 7: all are busy alike, then one is flooded."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire.make(number)) for number in range(bench.plan.pairs)]
        captures = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.disk)))
        return anyio.run(_many, bench, wires, captures)


async def _many(bench: Bench, wires: list[Wire], captures: Path) -> list[Table]:
    plan, even, uneven = bench.plan, list[Many](), list[Many]()
    allowed = [word for wire in wires for word in ("--allow-interface", wire.near)]
    async with serving(captures, *allowed) as service:
        full = await _full_rate(bench, service, wires[0])
        load = Load(plan.pair_packets, rate=full / plan.pairs / _SPARE)
        flood = Load(plan.large_packets, _LARGE_FRAME)
        few = Load(max(1, plan.pair_packets // _FEW_SHARE), rate=_FEW_RATE)
        for _ in range(plan.rounds):
            even += await _all_at_once(bench, service, wires, [load] * len(wires))
            uneven += await _all_at_once(bench, service, wires, [flood, *[few] * (len(wires) - 1)])
        for each in (*even, *uneven):
            bench.record(7, each)
    note = f"one sender alone, with one capture, reached {full:,.0f} frames a second"
    title = f"{plan.pairs} captures of one server at once, a sender each, "
    others = [each for each in uneven if each.interface != wires[0].near]
    return [
        _many_table(f"{title}{load.count} frames of {load.size} bytes", even, even, note),
        _many_table(f"{title}one of them at the highest rate", uneven, others, "the flooded one may lose"),
    ]


async def _full_rate(bench: Bench, service: Service, wire: Wire) -> float:
    """The rate that one sender reaches while a capture runs."""
    await service.call("qemu_pcap_start", interface=wire.near)
    sent = bench.sender.send(wire.far, Load(bench.plan.calibration_packets))
    await service.call("qemu_pcap_stop")
    return sent.rate


async def _all_at_once(bench: Bench, service: Service, wires: list[Wire], loads: list[Load]) -> list[Many]:
    # The default limit of a file is below what a flood sends.
    starts = [await service.call("qemu_pcap_start", interface=wire.near, max_bytes=_ROOMY) for wire in wires]
    ids = [each["capture"] for each in starts]
    with ExitStack() as stack:
        pairs = zip(wires, loads, strict=True)
        senders = [stack.enter_context(bench.sender.started(wire.far, load)) for wire, load in pairs]
        sent = [bench.sender.finish(each) for each in senders]
    rows = [await service.call("qemu_pcap_stop", capture=each) for each in ids]
    return [_one_of_many(row, each) for row, each in zip(rows, sent, strict=True)]


def _one_of_many(row: dict[str, Any], sent: Sent) -> Many:
    return Many(
        row["interface"],
        sent.count,
        sent.rate,
        row["packets"],
        row["dropped_kernel"],
        row["dropped_interface"],
        wrong_counts(row, sent.count),
    )


def _many_table(title: str, done: list[Many], whole: list[Many], note: str) -> Table:
    """`whole` are the captures that may lose nothing."""
    by_interface: dict[str, list[Many]] = {}
    for each in done:
        by_interface.setdefault(each.interface, []).append(each)
    lines = tuple(
        Line(name, tuple(each.sent - each.saved for each in found), remark=f"{found[0].rate:,.0f} frames a second")
        for name, found in by_interface.items()
    )
    lost = sum(each.sent - each.saved for each in whole)
    targets: tuple[Target, ...] = (
        at_most("packets that these captures lost", lost, 0),
        all_exact([each.wrong for each in done]),
    )
    return Table(7, title, "packets lost", lines, targets, (note,))
