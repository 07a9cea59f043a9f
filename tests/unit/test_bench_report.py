"""The judge of the bench: whoever lost more than the best peer in any round has not met the target."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from _bench import report

PEERS = {"small": [20.6, 20.0, 30.0], "large": [6.6, 0.0, 40.0]}


@pytest.mark.parametrize(
    ("lost", "met", "found"),
    [
        ([6.6, 0.0, 30.0], True, "more in 0 of 3"),
        ([0.0, 0.0, 0.0], True, "more in 0 of 3"),
        ([23.8, 0.0, 1.0], False, "more in 1 of 3, at the worst 23.8 % where large lost 6.6 %"),
        ([0.0, 0.001, 0.0], False, "more in 1 of 3, at the worst 0.001 % where large lost 0 %"),
        ([7.0, 1.0, 31.0], False, "more in 3 of 3, at the worst 31 % where small lost 30 %"),
    ],
)
def test_losing_more_than_the_best_peer_is_never_excused(lost: list[float], met: bool, found: str) -> None:
    target = report.loses_least("ours", lost, PEERS)
    assert (target.met, target.found) == (met, found)
