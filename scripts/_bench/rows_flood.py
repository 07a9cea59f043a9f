"""Rows 1 to 3: the tail, the CPU time per packet, and more than can be written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _bench import floor
from _bench.contenders import FILES, PEERS, RAWTAP, RING_FILES_NAME, SCAPY, ring_of_files
from _bench.floor import Written
from _bench.machine import file_system
from _bench.plan import Bench
from _bench.report import Line, Table, Target, all_exact, at_most, compare, loses_least
from _bench.sender import Load
from _bench.trial import Trial, interleaved, longest_stall

_NEARLY_NOTHING = 0.1  # percent of the packets
_CPU_TARGET, _LARGE_CPU_TARGET = 0.75, 0.6
_NEW_FILE, _REUSED = "only writes", f"only writes, {FILES} files reused"
_SMALL_FRAME, _LARGE_FRAME = 60, 1514

Trials = Mapping[str, Sequence[Trial]]


def tail(bench: Bench) -> list[Table]:
    """Row 1: what the file lacks when the capture is stopped right after the last packet."""
    plan = bench.plan
    contenders = (RAWTAP, *PEERS, SCAPY)
    load = Load(plan.tail_packets, _SMALL_FRAME)
    trials = interleaved(bench, 1, contenders, bench.disk, load, rounds=plan.tail_peer_trials, settle=False)
    more = plan.tail_trials - plan.tail_peer_trials
    trials[RAWTAP.name] += interleaved(bench, 1, (RAWTAP,), bench.disk, load, rounds=more, settle=False)[RAWTAP.name]
    lines = tuple(
        Line(name, tuple(trial.lost for trial in done), remark=_tail_remark(done)) for name, done in trials.items()
    )
    lost = sum(trial.lost for trial in trials[RAWTAP.name])
    targets = (at_most("packets that rawtap lost in all trials", lost, 0), _exact(trials))
    counts = f"{plan.tail_trials} trials, {plan.tail_peer_trials} of the others"
    title = f"tail: packets missing of {plan.tail_packets}, stopped right after the last, {counts}"
    return [Table(1, title, "packets", lines, targets)]


def _tail_remark(done: Sequence[Trial]) -> str:
    woken = sum(trial.woken for trial in done)
    return _reported(done) + (f"; in {woken} trials it stopped only when another packet came" if woken else "")


def cpu_per_packet(bench: Bench) -> list[Table]:
    """Row 2: CPU time per packet where everybody can keep up."""
    plan = bench.plan
    load = Load(plan.small_packets, _SMALL_FRAME)
    trials = interleaved(bench, 2, (RAWTAP, *PEERS, SCAPY), bench.disk, load, rounds=plan.rounds)
    peers = {peer.name: trials[peer.name] for peer in PEERS}
    kept_up = {name: done for name, done in peers.items() if _median(done, _lost_share) <= _NEARLY_NOTHING}
    best = _least(kept_up or peers, _cpu_ns)
    ratio = _median(trials[RAWTAP.name], _cpu_ns) / _median(trials[best], _cpu_ns)
    lost = sum(trial.lost for trial in trials[RAWTAP.name])
    targets = (
        at_most(f"CPU per packet, rawtap over the best peer that kept up ({best})", ratio, _CPU_TARGET),
        at_most("packets that rawtap lost in all trials", lost, 0),
        _exact(trials),
    )
    lines = compare(_values(trials, _cpu_ns), best, {name: _loss_remark(done) for name, done in trials.items()})
    title = f"CPU per packet: {plan.small_packets} frames of {_SMALL_FRAME} bytes at full rate, on disk"
    notes = [f"scapy got 1/{plan.slow_share} of the packets: it takes minutes for what the others do in seconds"]
    if not kept_up:
        notes.append("no peer kept up: the one with the least CPU time was taken")
    return [Table(2, title, "ns of CPU per saved packet", lines, targets, (*notes, _rates(trials)))]


def overload(bench: Bench) -> list[Table]:
    """Row 3: large frames at the highest rate, on tmpfs and on disk."""
    return [table for folder in (bench.tmpfs, bench.disk) for table in _overload(bench, folder)]


def _overload(bench: Bench, folder: Path) -> list[Table]:
    plan = bench.plan
    load = Load(plan.large_packets, _LARGE_FRAME)
    contenders = (RAWTAP, ring_of_files(plan.ring_file_bytes), *PEERS, floor.taker(bench))
    trials: dict[str, list[Trial]] = {contender.name: [] for contender in contenders}
    written: dict[str, list[Written]] = {_NEW_FILE: [], _REUSED: []}
    for turn in range(plan.rounds):
        for name, file_bytes in ((_NEW_FILE, 0), (_REUSED, plan.ring_file_bytes)):
            time.sleep(plan.pause)
            written[name].append(floor.written_alone(folder, load.bytes, file_bytes=file_bytes))
        done = interleaved(bench, 3, contenders, folder, load, rounds=1, pause=plan.pause, first=turn)
        for name, each in done.items():
            trials[name] += each
    where = f"{'tmpfs' if folder == bench.tmpfs else 'disk'} ({file_system(folder)})"
    what = f"{plan.large_packets} frames of {_LARGE_FRAME} bytes at the highest rate, {where}"
    notes = (_rates(trials), _limit_note(written[_NEW_FILE], trials), "scapy is left out: row 2 shows what it can take")
    taken = [_cpu_ns(trial) for trial in trials.pop(floor.TAKER)]
    parts = {floor.TAKER: taken}
    parts |= {name: [each.cpu_ns(_LARGE_FRAME) for each in found] for name, found in written.items()}
    return [_drop_table(trials, what, notes), _saved_cpu_table(trials, parts, what)]


def _drop_table(trials: Trials, what: str, notes: tuple[str, ...]) -> Table:
    peers = {peer.name: trials[peer.name] for peer in PEERS}
    best = _least(peers, _lost_share)
    values = _values(trials, _lost_share)
    target = loses_least(RAWTAP.name, values[RAWTAP.name], {name: values[name] for name in peers})
    remarks = {
        name: f"{_reported(done)}, at {_median(done, _rate):,.0f} frames a second; {longest_stall(done)}"
        for name, done in trials.items()
    }
    lines = compare(values, best, remarks)
    return Table(3, f"overload, dropped: {what}", "% of what was sent", lines, (target, _exact(trials)), notes)


def _saved_cpu_table(trials: Trials, parts: Mapping[str, Sequence[float]], what: str) -> Table:
    """`parts` are what nobody can do without: what takes the frames, and what writes as many bytes, apart."""
    best = _least({peer.name: trials[peer.name] for peer in PEERS}, _cpu_ns)
    values = _values(trials, _cpu_ns)
    remarks = {name: _loss_remark(done) for name, done in trials.items()}
    lines = compare({**values, **parts}, best, remarks)
    title = f"overload, CPU per packet: {what}"
    lost = sum(trial.lost for trial in trials[RING_FILES_NAME])
    peer = statistics.median(values[best])
    targets = [at_most("packets that the reused ring of files lost in all trials", lost, 0)]
    notes = []
    for name, writer in ((RAWTAP.name, _NEW_FILE), (RING_FILES_NAME, _REUSED)):
        own = statistics.median(values[name])
        both = statistics.median(parts[floor.TAKER]) + statistics.median(parts[writer])
        about = f"CPU per saved packet, {name} over the best peer ({best})"
        targets.append(at_most(about, own / peer, _LARGE_CPU_TARGET))
        notes.append(
            f"{floor.TAKER} and {writer}: {both / peer:.2f} of the best peer's; {name}: {own / both:.2f} of theirs"
        )
    return Table(3, title, "ns of CPU per saved packet", lines, tuple(targets), tuple(notes))


def _limit_note(written: Sequence[Written], trials: Trials) -> str:
    limits = [each.speed / 1e9 for each in written]
    rate = statistics.median(trial.rate for done in trials.values() for trial in done)
    return (
        f"one thread that only writes as much, 1 MiB at a time, to a new file there: {statistics.median(limits):.2f} "
        f"GB/s ({min(limits):.2f} to {max(limits):.2f}); the sender offers {rate * _LARGE_FRAME / 1e9:.2f} GB/s"
    )


def _rates(trials: Trials) -> str:
    rates = [trial.rate for done in trials.values() for trial in done]
    return (
        f"the sender reached {statistics.median(rates):,.0f} frames a second ({min(rates):,.0f} to {max(rates):,.0f})"
    )


def _loss_remark(done: Sequence[Trial]) -> str:
    return f"lost {_median(done, _lost_share):.3g} % of {done[0].sent}"


def _reported(done: Sequence[Trial]) -> str:
    """What was lost, and what the contender itself said of it."""
    lost, sent = sum(trial.lost for trial in done), sum(trial.sent for trial in done)
    told = sum((trial.dropped_kernel or 0) + (trial.dropped_interface or 0) for trial in done)
    return f"lost {lost} of {sent}, " + ("does not tell" if done[0].dropped_kernel is None else f"reported {told}")


def _lost_share(trial: Trial) -> float:
    return trial.lost_share


def _cpu_ns(trial: Trial) -> float:
    return trial.cpu_ns


def _rate(trial: Trial) -> float:
    return trial.rate


def _median(done: Sequence[Trial], of: Callable[[Trial], float]) -> float:
    return statistics.median(of(trial) for trial in done)


def _least(trials: Trials, of: Callable[[Trial], float]) -> str:
    return min(trials, key=lambda name: _median(trials[name], of))


def _values(trials: Trials, of: Callable[[Trial], float]) -> dict[str, list[float]]:
    return {name: [of(trial) for trial in done] for name, done in trials.items()}


def _exact(trials: Trials) -> Target:
    """Of rawtap's trials, and of any other where frames got lost before the capture."""
    ours = {RAWTAP.name, RING_FILES_NAME}
    wrong = [trial.wrong for name, done in trials.items() for trial in done if name in ours or trial.wrong]
    return all_exact(wrong)
