"""Row 21: what the machine allows a thread that only takes frames, and one that only writes, beside rawtap."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

from _bench.contenders import RAWTAP, Contender, from_json
from _bench.machine import file_system, written_alone
from _bench.plan import Bench
from _bench.report import Table, Target, all_exact, compare
from _bench.sender import Load
from _bench.trial import Trial, interleaved
from rawtap.capture.memory import ring_bytes

_ROW, _FRAME, _AIM = 21, 1514, 0.9
_SOURCE = Path(__file__).parent.parent / "_taker.c"
_TAKER, _WRITER = "only takes frames out of the ring", "only writes"


def limit(bench: Bench) -> list[Table]:
    """Row 21, on disk and on tmpfs."""
    binary = bench.tmpfs / "taker"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, _SOURCE, "-lpcap"], check=True)
    taker = Contender(
        _TAKER, lambda interface, _: [str(binary), interface, str(ring_bytes(0))], "armed", from_json, keeps=False
    )
    return [_limit(bench, taker, folder) for folder in (bench.disk, bench.tmpfs)]


def _limit(bench: Bench, taker: Contender, folder: Path) -> Table:
    plan = bench.plan
    load = Load(plan.limit_packets, _FRAME)
    written = [written_alone(folder, load.bytes) / 1e9 for _ in range(plan.strain_rounds)]
    trials = interleaved(
        bench, _ROW, (RAWTAP, taker), folder, load, rounds=plan.strain_rounds, pause=plan.pause, settle=False
    )
    found = {name: [_speed(trial) for trial in done] for name, done in trials.items()} | {_WRITER: written}
    slower = min((_TAKER, _WRITER), key=lambda name: statistics.median(found[name]))
    share = statistics.median(found[RAWTAP.name]) / statistics.median(found[slower])
    aim = Target(f"rawtap over the slower of the two ({slower}) >= {_AIM}", f"{share:.3g}", share >= _AIM)
    title = f"saved, until the file is closed: {load.count:,} frames of {_FRAME} bytes, {file_system(folder)}"
    targets = (aim, all_exact([trial.wrong for trial in trials[RAWTAP.name]]))
    return Table(_ROW, title, "GB a second", compare(found, slower, {}), targets)


def _speed(trial: Trial) -> float:
    return trial.saved * _FRAME / trial.closed / 1e9
