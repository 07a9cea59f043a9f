"""Row 21: what the machine allows a thread that only takes frames, and one that only writes, beside rawtap."""

from __future__ import annotations

import statistics
from pathlib import Path

from _bench import floor
from _bench.contenders import RAWTAP
from _bench.machine import file_system
from _bench.plan import Bench
from _bench.report import Table, Target, all_exact, compare
from _bench.sender import Load
from _bench.trial import Trial, interleaved

_ROW, _FRAME, _AIM = 21, 1514, 0.9
_WRITER = "only writes"


def limit(bench: Bench) -> list[Table]:
    """Row 21, on disk and on tmpfs."""
    return [_limit(bench, folder) for folder in (bench.disk, bench.tmpfs)]


def _limit(bench: Bench, folder: Path) -> Table:
    plan = bench.plan
    load = Load(plan.limit_packets, _FRAME)
    written = [floor.written_alone(folder, load.bytes).speed / 1e9 for _ in range(plan.strain_rounds)]
    contenders = (RAWTAP, floor.taker(bench))
    trials = interleaved(
        bench, _ROW, contenders, folder, load, rounds=plan.strain_rounds, pause=plan.pause, settle=False
    )
    found = {name: [_speed(trial) for trial in done] for name, done in trials.items()} | {_WRITER: written}
    slower = min((floor.TAKER, _WRITER), key=lambda name: statistics.median(found[name]))
    share = statistics.median(found[RAWTAP.name]) / statistics.median(found[slower])
    aim = Target(f"rawtap over the slower of the two ({slower}) >= {_AIM}", f"{share:.3g}", share >= _AIM)
    title = f"saved, until the file is closed: {load.count:,} frames of {_FRAME} bytes, {file_system(folder)}"
    targets = (aim, all_exact([trial.wrong for trial in trials[RAWTAP.name]]))
    return Table(_ROW, title, "GB a second", compare(found, slower, {}), targets)


def _speed(trial: Trial) -> float:
    return trial.saved * _FRAME / trial.closed / 1e9
