"""Rows 17 to 20: who loses least, at several speeds, in bursts, with frames of all sizes, and on disks in trouble.

Of the peers without python-libpcap: its ring is as small as tcpdump's, and it loses more.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from _bench import strain
from _bench.contenders import LEAST_LOSSES, RAWTAP
from _bench.floor import written_alone
from _bench.plan import Bench, BenchError
from _bench.report import Table, all_exact, compare, loses_least
from _bench.sender import Load
from _bench.strain import Strained
from _bench.trial import Trial, interleaved, longest_stall

_SPEEDS, _BURSTS, _MIXES, _DISKS = 17, 18, 19, 20
_FRAME = 1514
_SHARES = (0.3, 0.6, 1.0, 1.5)
_REACHED = 0.9  # of the speed that was asked for
# A second of them, of 1514 bytes, is row 3.
_SECONDS = (0.1, 10.0)
# Without their FCS; the last is the simple IMIX, seven small frames on four medium and one large.
_SIZES = {"60": (60,), "594": (594,), "9014": (9014,), "IMIX": (60,) * 7 + (594,) * 4 + (1514,)}
_SLOW_DISK = 200_000_000  # bytes a second
_LITTLE = 256 << 20


def speeds(bench: Bench) -> list[Table]:
    """Row 17: a second of frames, at shares of what the disk and the page cache take, up to what the sender can."""
    size = bench.plan.large_packets * _FRAME
    tables = []
    for name, folder, to_disk in (("disk", bench.disk, True), ("page cache (tmpfs)", bench.tmpfs, False)):
        limit = written_alone(folder, size, to_disk=to_disk).speed
        for share in _SHARES:
            rate = share * limit / _FRAME
            load = Load(max(1, int(rate * bench.plan.burst)), _FRAME, rate)
            what = f"{share:g} of the {name}'s {limit / 1e9:.2f} GB/s, {rate:,.0f} frames a second"
            begun = len(bench.trials)
            table = _judged(Strained(bench, folder), _SPEEDS, what, load)
            reached = statistics.median(trial["rate"] for trial in bench.trials[begun:])
            if reached < _REACHED * rate:  # a larger share would be the same trial again
                tables.append(replace(table, notes=(f"the sender reached {reached:,.0f}: no larger share was tried",)))
                break
            tables.append(table)
    return tables


def bursts(bench: Bench) -> list[Table]:
    """Row 18: the highest rate, for so long."""
    return [
        _judged(Strained(bench, bench.disk), _BURSTS, f"{seconds:g} s at the highest rate, disk", load)
        for seconds in _SECONDS
        for load in (Load(int(bench.plan.burst_packets * seconds), _FRAME),)
    ]


def mixes(bench: Bench) -> list[Table]:
    """Row 19: the highest rate, with frames of these sizes."""
    tables = []
    for name, mix in _SIZES.items():
        mean = sum(mix) // len(mix)
        count = min(bench.plan.small_packets, bench.plan.large_packets * _FRAME // mean)
        load = Load(count, mean, mix=mix)
        tables.append(_judged(Strained(bench, bench.disk), _MIXES, f"{count:,} frames of {name} bytes, disk", load))
    return tables


def disks(bench: Bench) -> list[Table]:
    """Row 20: the highest rate, where something is in the way."""
    load = Load(bench.plan.large_packets, _FRAME)
    strains: dict[str, AbstractContextManager[Strained | None]] = {
        f"an ext4 that takes {_SLOW_DISK / 1e6:.0f} MB a second": strain.slow_disk(bench, _SLOW_DISK),
        "a second writer on the disk": strain.second_writer(bench),
        f"{_LITTLE >> 20} MiB of memory for the capture": strain.little_memory(bench, _LITTLE),
        "one CPU for sender and capture": strain.one_cpu(bench),
    }
    tables = []
    for what, strained_by in strains.items():
        with strained_by as strained:
            if strained is None:
                raise BenchError(f"this kernel does not let the bench have {what}")
            tables.append(_judged(strained, _DISKS, what, load))
    return tables


def _judged(strained: Strained, row: int, what: str, load: Load) -> Table:
    plan = strained.bench.plan
    trials = interleaved(
        strained.bench,
        row,
        strained.of((RAWTAP, *LEAST_LOSSES)),
        strained.folder,
        load,
        rounds=plan.strain_rounds,
        pause=plan.pause,
    )
    lost = {name: [trial.lost_share for trial in done] for name, done in trials.items()}
    peers = {peer.name: lost[peer.name] for peer in LEAST_LOSSES}
    best = min(peers, key=lambda name: statistics.median(peers[name]))
    targets = (
        loses_least(RAWTAP.name, lost[RAWTAP.name], peers),
        all_exact([trial.wrong for trial in trials[RAWTAP.name]]),
    )
    remarks = {name: _remark(done) for name, done in trials.items()}
    return Table(row, f"dropped: {what}", "% of what was sent", compare(lost, best, remarks), targets)


def _remark(done: Sequence[Trial]) -> str:
    return (
        f"of {done[0].sent} at {statistics.median(trial.rate for trial in done):,.0f} a second; "
        f"{statistics.median(trial.cpu_ns for trial in done):,.0f} ns of CPU per saved packet; {longest_stall(done)}"
    )
