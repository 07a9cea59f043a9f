"""How much is measured, and what all rows share."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _bench.sender import Sender


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


@dataclass(frozen=True)
class Plan:
    """How much of each row is measured; the default is the full form. Times in seconds.

    Attributes:
        rounds: Trials of each contender, interleaved; rows 1 and 4 have numbers of their own.
        tail_trials: rawtap's of row 1, which must lose nothing in any of them.
        tail_peer_trials: The others' of row 1.
        strain_rounds: The same for rows 17 to 21.
        burst: How long row 17 sends.
        burst_packets: Frames in a second of row 18: about the highest rate.
        pause: Before each trial of rows 3 and 17 to 21. Deliberate: on a virtual machine memory that somebody freed
            a moment ago is far cheaper to touch than memory that the host has to hand over first, so a trial that
            follows another's clean-up at once would be flattered. The kernel gives it to the host after 2 s
            (PAGE_REPORTING_DELAY, mm/page_reporting.c).
        settle: How long a file must not change to count as complete, where its tail is not what is measured. More
            than the second after which tcpdump looks at an unfinished block.
        slow_share: scapy gets one of so many packets.
    """

    rounds: int = 3
    strain_rounds: int = 2
    burst: float = 1.0
    burst_packets: int = 600_000
    pause: float = 2.5
    settle: float = 1.3
    slow_share: int = 100
    tail_trials: int = 50
    tail_peer_trials: int = 10
    tail_packets: int = 1000
    small_packets: int = 2_000_000
    large_packets: int = 1_000_000
    limit_packets: int = 2_000_000
    ring_file_bytes: int = 64 << 20
    calls: int = 30
    select_packets: int = 1_000_000
    memory_points: tuple[int, ...] = (1_000_000, 2_000_000, 4_000_000)
    many_captures: int = 50
    idle: float = 10.0
    pairs: int = 8
    pair_packets: int = 500_000
    calibration_packets: int = 500_000
    page_packets: int = 10_000_000
    decode_packets: int = 100_000
    explain_packets: int = 200_000
    boots: int = 10
    tool_calls: int = 200
    starts: int = 10


QUICK = Plan(
    rounds=1,
    strain_rounds=1,
    burst=0.02,
    burst_packets=12_000,
    pause=0.0,
    slow_share=20,
    tail_trials=2,
    tail_peer_trials=1,
    small_packets=40_000,
    large_packets=20_000,
    limit_packets=20_000,
    ring_file_bytes=4 << 20,
    calls=3,
    select_packets=20_000,
    memory_points=(10_000, 20_000, 40_000),
    many_captures=10,
    idle=1.0,
    pair_packets=5_000,
    calibration_packets=20_000,
    page_packets=400_000,
    decode_packets=8_000,
    explain_packets=20_000,
    boots=2,
    tool_calls=10,
    starts=2,
)


@dataclass(frozen=True)
class Bench:
    """One run. `disk` and `tmpfs` are folders of its own; `trials` collects everything that was measured."""

    plan: Plan
    sender: Sender
    disk: Path
    tmpfs: Path
    trials: list[dict[str, Any]] = field(default_factory=list)
    idle_cpu: dict[str, float] = field(default_factory=dict)

    def record(self, row: int, trial: Any) -> None:
        """Keep a trial (a dataclass) for the JSON file and show that there is progress."""
        fields = {"row": row, **dataclasses.asdict(trial)}
        self.trials.append(fields)
        shown = ", ".join(f"{key}={_short(value)}" for key, value in fields.items() if value not in ("", None))
        print(f"  {shown}", file=sys.stderr, flush=True)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
