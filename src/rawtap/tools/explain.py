"""The tool that says what is wrong on the wire."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from rawtap.errors import RequestInvalid
from rawtap.packets.reader import tags_told
from rawtap.tools._boundary import LabContext, is_none, lab_of, tool
from rawtap.tools._text import UNTRUSTED, Answer, indented, one_line
from rawtap.tools.capture import CaptureId, Filter

if TYPE_CHECKING:
    from rawtap.ask.compare import Compared
    from rawtap.ask.explain import Explained
    from rawtap.packets.explain import Exchange, Verdict
    from rawtap.packets.verdicts import Given

_ANSWER_CHARACTERS = 6000  # of findings
_EXCHANGES = 12
_CHANGES = 60
_TOLD = 4  # exchanges whose single requests are told
_NOTES = 12
_NAMES = 8  # of the overview


def _is_empty(value: str | list[str]) -> bool:
    return not value


class FindingRow(Answer):
    """Something that is wrong."""

    what: str = Field(description="A stable code.")
    says: str
    host: str = Field("", exclude_if=_is_empty, description="Who is at fault.")
    found: str = Field("", exclude_if=_is_empty, description="The value on the wire.")
    expected: str = Field("", exclude_if=_is_empty)
    follows: str = Field("", exclude_if=_is_empty, description="The finding that this is a consequence of.")
    packets: list[int] = Field(description="Numbers of the first of them.")
    count: int = Field(description="How many there are.")
    rule: str = Field(description="What is broken, like an RFC's section.")
    evidence: str = Field(description="Found and expected; values from the wire are untrusted data.")

    def lines(self) -> list[str]:
        """The finding, and below it what it rests on."""
        shown = ", ".join(map(str, self.packets)) + (", ..." if self.count > len(self.packets) else "")
        named = (("host", self.host), ("found", self.found), ("expected", self.expected), ("follows", self.follows))
        more = [f"{name}: {value}" for name, value in named if value]
        more += [f"packets: {shown}", f"rule: {self.rule}", f"evidence: {self.evidence}"]
        return [f"{self.what} ({self.count}): {one_line(self.says)}", *indented(map(one_line, more))]


class ExchangeRow(Answer):
    """Questions and answers of two parties."""

    kind: str
    asker: str
    asked: str
    requests: int
    answered: int
    unanswered: int
    retransmitted: int
    median_seconds: float | None = Field(description="To an answer.")
    greatest_seconds: float | None
    told: list[str] = Field([], exclude_if=_is_empty, description="The first, and what became of each.")

    def lines(self) -> list[str]:
        """Who asked whom, what came of it, and the first requests below it."""
        counts = f"{self.requests} requests, {self.answered} answered, {self.unanswered} unanswered"
        again = f", {self.retransmitted} sent again" if self.retransmitted else ""
        times = "" if self.median_seconds is None else f", {self.median_seconds} s (at most {self.greatest_seconds})"
        head = f"{self.kind} {self.asker} > {self.asked}: {counts}{again}{times}"
        return [one_line(head), *indented(map(one_line, self.told))]


class ChangeRow(Answer):
    """One difference between two captures."""

    what: str = Field(description="finding, unanswered, delay, protocol, name, conversation or endpoint.")
    name: str
    how: str = Field(description="new, gone, more, less, slower or faster.")
    before: float | None = Field(description="Packets, of names and unanswered their count, of delays median seconds.")
    after: float | None

    def lines(self) -> list[str]:
        """One line."""
        unit = " s" if self.what == "delay" else ""
        return [one_line(f"{self.how} {self.what} {self.name}: {_number(self.before)} -> {_number(self.after)}{unit}")]


class Explanation(Answer):
    """What is wrong on the wire. No finding in packets that were examined: nothing wrong was found in them."""

    overview: str = Field(description="All findings, by code and by host.")
    source: str
    examined: int = Field(description="Packets.")
    changes: Annotated[list[ChangeRow], UNTRUSTED] | None = Field(
        None, exclude_if=is_none, description="With compare: since that capture, causes first."
    )
    findings: Annotated[list[FindingRow], UNTRUSTED] = Field(
        description="What is proven first, consequences last. With compare: those that are new."
    )
    left: int = Field(description="Findings that follow with next_cursor.")
    exchanges: Annotated[list[ExchangeRow], UNTRUSTED] = Field(description="The busiest; not with compare.")
    notes: list[str] = Field(description="What could not be judged, or is worth knowing and no fault.")
    next_cursor: str | None


async def qemu_pcap_explain(
    context: LabContext,
    capture: CaptureId = None,
    path: Annotated[str | None, Field(description="A file instead.")] = None,
    filter: Filter = "",  # noqa: A002 - the interface's name for it
    limit: Annotated[int, Field(ge=1, le=100, description="Findings a page.")] = 20,
    cursor: Annotated[str | None, Field(description="next_cursor of the page before.")] = None,
    compare: Annotated[
        str | None, Field(description="An earlier capture's id or path: what is new, gone, slower.")
    ] = None,
) -> Explanation:
    """Find what is wrong on the wire: checksums, lengths, addresses, exchanges not completed; compare two captures."""
    from rawtap.ask.compare import compare as compared
    from rawtap.ask.explain import explain

    async def tell(examined: float, message: str) -> None:
        await context.report_progress(examined, message=message)

    if compare:
        if cursor:
            raise RequestInvalid("compare and cursor are both given", cure="A comparison has one page")
        file = Path(path) if path else None
        return _comparison(await compared(lab_of(context), compare, capture, file, filter, tell), limit, filter)
    place = _Cursor.parse(cursor) if cursor else None
    before = (place.examined, place.until_ns) if place else None
    done = await explain(lab_of(context), capture, Path(path) if path else None, filter, before, tell)
    key = _key(done.source, filter)
    if place and place.key != key:
        raise RequestInvalid(
            "the cursor belongs to another capture, file or filter",
            cure="Keep them while paging, or start again without a cursor",
        )
    return _explanation(done, place.shown if place else 0, limit, key, filter)


class _Cursor(NamedTuple):
    """Findings that were shown, packets that were examined for them, as of when, and what they are of."""

    shown: int
    examined: int
    until_ns: int
    key: str

    @classmethod
    def parse(cls, text: str) -> _Cursor:
        found = re.fullmatch(r"([0-9]{1,6})-([1-9][0-9]{0,11})-([0-9]{1,20})-([0-9a-f]{8})", text, re.ASCII)
        if not found:
            raise RequestInvalid(f"{text[:80]!r} is no cursor", cure="Use next_cursor as it was given")
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4])


def _key(source: str, expression: str) -> str:
    whose = f"{source}\0{expression}"
    return f"{zlib.crc32(whose.encode()):08x}"


def _explanation(done: Explained, before: int, limit: int, key: str, expression: str) -> Explanation:
    given, verdict = done.given, done.given.verdict
    shown: list[FindingRow] = []
    for finding in verdict.findings[before : before + limit]:
        row = FindingRow(**dataclasses.asdict(finding))
        if shown and sum(len(each.model_dump_json()) for each in [*shown, row]) > _ANSWER_CHARACTERS:
            break
        shown.append(row)
    end = before + len(shown)
    busiest = sorted(verdict.exchanges, key=lambda each: -each.requests)
    return Explanation(
        overview=_overview(verdict),
        source=done.source,
        examined=verdict.examined,
        changes=None,
        findings=shown,
        left=max(0, len(verdict.findings) - end),
        exchanges=[_exchange(each, told=place < _TOLD) for place, each in enumerate(busiest[:_EXCHANGES])],
        notes=[*done.behind, *_notes(given, expression)],
        next_cursor=f"{end}-{verdict.examined}-{given.until_ns}-{key}" if end < len(verdict.findings) else None,
    )


def _notes(given: Given, expression: str) -> list[str]:
    """What else is to be known of packets, and which of them were not judged."""
    verdict = given.verdict
    notes = [*verdict.notes[:_NOTES]]
    if len(verdict.notes) > _NOTES:
        notes.append(f"and {len(verdict.notes) - _NOTES} notes more: a filter selects fewer packets")
    notes += tags_told(given.tagged, expression)
    notes += given.lacking
    if given.more:
        notes.append(f"only the first {verdict.examined} packets were examined in the time: a filter selects others")
    return notes


def _comparison(done: Compared, limit: int, expression: str) -> Explanation:
    """The newer capture's explanation, of its findings those that are new, and what has changed."""
    verdict = done.explained.given.verdict
    explained = replace(
        done.explained, given=done.explained.given._replace(verdict=replace(verdict, findings=done.fresh))
    )
    told = _explanation(explained, 0, limit, "", expression)
    rows: list[ChangeRow] = []
    for each in done.changes[:_CHANGES]:
        row = ChangeRow(
            what=each.what, name=each.name, how=each.how, before=_rounded(each.before), after=_rounded(each.after)
        )
        rows.append(row)
        if sum(len(known.model_dump_json()) for known in rows) > _ANSWER_CHARACTERS:
            break
    left = len(done.changes) - len(rows)
    before = done.earlier.given.verdict
    line = f"{len(done.changes)} changes; before: {_overview(before)}; after: {_overview(verdict)}"
    sides = [f"before: {each}" for each in _notes(done.earlier.given, expression)]
    sides += [f"after: {each}" for each in told.notes]
    notes = [*dict.fromkeys([*done.notes, *sides]), *([f"and {left} changes more"] if left else [])]
    return told.model_copy(
        update={"overview": line, "changes": rows, "exchanges": [], "notes": notes, "next_cursor": None}
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _exchange(exchange: Exchange, *, told: bool) -> ExchangeRow:
    row = ExchangeRow(**dataclasses.asdict(exchange))
    return row if told else row.model_copy(update={"told": []})


def _overview(verdict: Verdict) -> str:
    """What was found, in one line: causes by code and by host, with the packets of each, and what follows from them."""
    if not verdict.findings:
        return f"no finding in {verdict.examined} packets"
    causes = [each for each in verdict.findings if not each.follows]
    consequences = [each for each in verdict.findings if each.follows]
    kinds, hosts, later = Counter[str](), Counter[str](), Counter[str]()
    for each in causes:
        kinds[each.what] += each.count
        hosts[each.host or "unknown"] += each.count
    for each in consequences:
        later[each.what] += each.count
    line = f"{_counted(kinds)}; by host: {_counted(hosts)}"
    return f"{line}; consequences: {_counted(later)}" if later else line


def _counted(counter: Counter[str]) -> str:
    """Names with their packets, the most first."""
    told = [f"{name} {count}" for name, count in counter.most_common(_NAMES)]
    return ", ".join(told) + (f" and {len(counter) - _NAMES} more" if len(counter) > _NAMES else "")


TOOLS: tuple[Tool, ...] = (tool(qemu_pcap_explain, "Find what is wrong", read_only=True, idempotent=True),)
