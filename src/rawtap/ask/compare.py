"""Two captures, before and after a change: what is new, gone or slower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rawtap.ask.explain import Explained, Progress, explain
from rawtap.ask.packets import chosen
from rawtap.ask.query import Question, query
from rawtap.errors import QueryFailed, QueryLimit, QueryUnavailable
from rawtap.lab.lab import Lab
from rawtap.packets.changes import Change, Counted, What, changes, fresh
from rawtap.packets.findings import Finding

_ROWS = 1000
Subject = tuple[str, str | None, Path | None]  # before or after, and a capture's id or a file
# What is counted, and how many packets in both; delays are medians in seconds. Ports from 32768 on are of one use only.
_SQL = """
WITH talks AS (
    SELECT file, stream, protocol, first, source, destination, source_port, destination_port, packets,
        CASE WHEN least(source_port, destination_port) >= 32768 THEN '*'
        ELSE least(source_port, destination_port)::VARCHAR END AS port, destination_port <= source_port AS ahead
    FROM streams
), first_data AS (
    SELECT t.file, CASE WHEN t.ahead THEN t.destination ELSE t.source END || ':' || t.port AS name,
        min(p.time) FILTER (p.source = CASE WHEN t.ahead THEN t.source ELSE t.destination END) AS asked,
        min(p.time) FILTER (p.source <> CASE WHEN t.ahead THEN t.source ELSE t.destination END) AS answered
    FROM packets p JOIN talks t ON p.file = t.file AND p.stream = t.stream
    WHERE p.payload > 0 AND t.protocol = 'TCP' AND t.port <> '*' AND t.source <> t.destination
    GROUP BY t.file, t.stream, 2
), counts AS (
    SELECT 'protocol' AS what, file, protocol AS name, packets AS n FROM protocols WHERE protocol IS NOT NULL
    UNION ALL SELECT 'conversation', file, CASE WHEN ahead THEN source ELSE destination END || ' > '
        || CASE WHEN ahead THEN destination ELSE source END || ':' || port || ' ' || protocol, packets FROM talks
    UNION ALL SELECT 'endpoint', file, address, packets FROM endpoints
    UNION ALL SELECT 'name', file, name || ' ' || type || ' ' || rcode, 1 FROM dns WHERE response
), pairs AS (
    SELECT what, name, coalesce(sum(n) FILTER (file = 'before'), 0)::DOUBLE AS before,
        coalesce(sum(n) FILTER (file = 'after'), 0)::DOUBLE AS after
    FROM counts WHERE name IS NOT NULL GROUP BY ALL
    UNION ALL SELECT 'delay', 'first data of ' || name, median(answered - asked) FILTER (file = 'before'),
        median(answered - asked) FILTER (file = 'after') FROM first_data WHERE answered > asked GROUP BY ALL
)
SELECT * FROM pairs WHERE before IS DISTINCT FROM after
ORDER BY before > 0 AND after > 0, abs(coalesce(after, 0) - coalesce(before, 0)) DESC
"""


@dataclass(frozen=True)
class Compared:
    """How a capture differs from one before: its `explained` verdict, the findings that are new in it, and all changes.

    `earlier` is the verdict on the one before. `notes` say what was not compared, or may not be for the change.
    """

    explained: Explained
    earlier: Explained
    fresh: tuple[Finding, ...]
    changes: list[Change]
    notes: tuple[str, ...]


async def compare(
    lab: Lab, before: str, capture_id: str | None, path: Path | None, expression: str, tell: Progress
) -> Compared:
    """Compare with `before`: a capture's id, or a path, which has a slash in it.

    Raises:
        As `explain`, of each.
    """
    was_given = (None, Path(before)) if "/" in before else (before, None)
    subjects, notes = await _subjects(lab, {"before": was_given, "after": (capture_id, path)})
    earlier, explained = [await explain(lab, *each[1:], expression, None, tell) for each in subjects]
    counted, told = await _counted(lab, subjects, expression)
    notes += told
    was, now = earlier.given.verdict, explained.given.verdict
    found = changes((was.findings, now.findings), (was.exchanges, now.exchanges), counted)
    return Compared(explained, earlier, fresh(was.findings, now.findings), found, tuple(notes))


async def _subjects(
    lab: Lab, given: Mapping[str, tuple[str | None, Path | None]]
) -> tuple[tuple[Subject, ...], list[str]]:
    """Which captures or files are compared, the same ones in all that is asked of them; and what else than a change
    makes them differ, or not."""
    found = {which: await chosen(lab, *each) for which, each in given.items()}
    notes = [f"{which}: it is still running" for which, (each, _) in found.items() if each and each.session.running]
    filters = {each.session.request.filter for each, _ in found.values() if each}
    if len(filters) > 1:
        notes.append(
            f"the captures have other filters, {' and '.join(map(repr, sorted(filters)))}: what one of them "
            "does not pass is new or gone"
        )
    subjects = tuple(
        (which, capture.id if capture and path is None else None, path) for which, (capture, path) in found.items()
    )
    if len({each[1:] for each in subjects}) == 1:
        notes.append("before and after are the same packets")
    return subjects, notes


async def _counted(lab: Lab, subjects: tuple[Subject, ...], expression: str) -> tuple[list[Counted], list[str]]:
    """What is counted in SQL, and why that may be missing."""
    lacking = "protocols, conversations, endpoints and names are not compared"
    if expression:
        return [], [f"{lacking}: a filter is given"]
    try:
        answer = await query(lab, Question(_SQL, _ROWS, named=subjects))
    except (QueryUnavailable, QueryLimit, QueryFailed) as error:
        return [], [f"{lacking}: {error}"]
    rows = [Counted(cast(What, what), name, before, after) for what, name, before, after in map(_row, answer.rows)]
    return rows, [*answer.notes, *([f"{lacking} beyond {len(rows)} differences"] if answer.more else [])]


def _row(row: list[Any]) -> tuple[str, str, float | None, float | None]:
    what, name, before, after = row
    return str(what), str(name), before, after
