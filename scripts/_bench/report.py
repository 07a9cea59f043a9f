"""What is told: tables with their targets, as text and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Line:
    """A contender's values in a table; `ratio` is of its median to the best peer's, None where there is none."""

    name: str
    values: tuple[float, ...]
    ratio: float | None = None
    remark: str = ""

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Target:
    """A promise and what was found; `met` is None where it could not be judged."""

    text: str
    found: str
    met: bool | None


@dataclass(frozen=True)
class Table:
    """One table of a row."""

    row: int
    title: str
    unit: str
    lines: tuple[Line, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


def compare(values: Mapping[str, Sequence[float]], best: str, remarks: Mapping[str, str]) -> tuple[Line, ...]:
    """Lines with ratios to the contender `best`, where its median is not zero."""
    base = statistics.median(values[best])
    return tuple(
        Line(name, tuple(found), statistics.median(found) / base if base else None, remarks.get(name, ""))
        for name, found in values.items()
    )


def at_most(text: str, found: float, limit: float, unit: str = "") -> Target:
    """A target that `found` must not exceed."""
    return Target(f"{text} <= {limit:g}{unit}", f"{found:.4g}{unit}", found <= limit)


def loses_least(name: str, lost: Sequence[float], peers: Mapping[str, Sequence[float]]) -> Target:
    """The target that `name`, with its default settings, never loses more than the best peer with any setting.

    Round by round, for a round's trials had the same machine. How much it was loaded is no excuse: the peer was given
    as much. Values are shares of what was sent, in percent.
    """
    best = [min((values[turn], peer) for peer, values in peers.items()) for turn in range(len(lost))]
    worse = [(own - share, own, share, peer) for own, (share, peer) in zip(lost, best, strict=True) if own > share]
    found = f"more in 0 of {len(lost)}"
    if worse:
        _, own, share, peer = max(worse)
        found = f"more in {len(worse)} of {len(lost)}, at the worst {own:.3g} % where {peer} lost {share:.3g} %"
    return Target(f"{name} loses no more than the best peer, in every round", found, not worse)


def all_exact(wrong: Sequence[str]) -> Target:
    """The target that every trial's counts add up; `wrong` has "" or a complaint for each trial."""
    return _all("sent == saved + dropped in every trial, and saved is in the file", wrong)


def found_all(wrong: Sequence[str]) -> Target:
    """The target that every pass found all that matches; `wrong` as in `all_exact`."""
    return _all("every pass found all that matches", wrong)


def _all(text: str, wrong: Sequence[str]) -> Target:
    complaints = [each for each in wrong if each]
    found = f"not in {len(complaints)}: {complaints[0]}" if complaints else f"in {len(wrong)} of {len(wrong)}"
    return Target(text, found, not complaints)


def text_of(table: Table) -> str:
    """A table as text."""
    width = max(len(line.name) for line in table.lines)
    lines = [
        f"row {table.row}: {table.title} [{table.unit}]",
        f"  {'':{width}} {'median':>11} {'min':>11} {'max':>11} {'ratio':>7}",
    ]
    for line in table.lines:
        numbers = "".join(f" {_number(value):>11}" for value in (line.median, min(line.values), max(line.values)))
        ratio = f"{line.ratio:.2f}" if line.ratio is not None else "-"
        lines.append(f"  {line.name:{width}}{numbers} {ratio:>7}  {line.remark}".rstrip())
    lines += [f"  {_VERDICTS[target.met]}: {target.text}: {target.found}" for target in table.targets]
    lines += [f"  {note}" for note in table.notes]
    return "\n".join(lines)


_VERDICTS = {True: "met", False: "NOT MET", None: "not judged"}


def _number(value: float) -> str:
    whole = value == round(value) or abs(value) >= 100  # noqa: PLR2004 - three digits are enough
    return f"{value:,.0f}" if whole else f"{value:.3g}"


def write_json(
    path: Path, head: Mapping[str, Any], tables: Sequence[Table], trials: Sequence[Mapping[str, Any]]
) -> None:
    """Everything that was measured."""
    content = {**head, "tables": [asdict(table) for table in tables], "trials": trials}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
