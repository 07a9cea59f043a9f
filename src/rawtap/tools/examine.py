"""The tool that asks a guest's network stack for what the RFCs demand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rawtap.tools._text import UNTRUSTED, Answer, indented, one_line
from rawtap.tools._tool import LabContext, Offer, is_empty, lab_of, tool
from rawtap.tools.guest import GuestName

if TYPE_CHECKING:
    from rawtap.ask.examine.course import Examination
    from rawtap.examine.trial import Outcome, Passed

_ANSWER_CHARACTERS = 6000  # of findings
_FRAMES = 12  # of a finding; the newest
_SHOWN = 256  # bytes of the frame that a guest died of


class SuiteRow(Answer):
    """What came of a suite's rules, as numbers of them."""

    suite: str
    kept: int
    violated: int
    silent: int
    cannot_tell: int
    died: int

    def lines(self) -> list[str]:
        """Those that are not 0."""
        told = [f"{value} {name.replace('_', ' ')}" for name, value in self if name != "suite" and value]
        return [f"{self.suite}: {', '.join(told)}"]


class RuleRow(Answer):
    """What came of one rule."""

    rule: str
    verdict: str = Field(
        description="kept; violated, by what was seen; silent: what must come did not, twice, though the guest "
        "answered health checks; cannot tell, with the reason; died."
    )
    level: str = Field(description="MUST or SHOULD.")
    says: str = Field(description="The rule.")
    source: str = Field(description="Where it is written.")
    reason: str = Field("", exclude_if=is_empty)
    field: str = Field("", exclude_if=is_empty, description="The field that is wrong.")
    found: str = Field("", exclude_if=is_empty)
    expected: str = Field("", exclude_if=is_empty)
    linux: str = Field("", exclude_if=is_empty, description="Why Linux does not keep it either.")
    frames: list[str] = Field(
        [], exclude_if=is_empty, description="Numbers in the capture; > is to the guest, < from it."
    )
    hex: str = Field("", exclude_if=is_empty, description="Of the frame that the guest died of.")

    def lines(self) -> list[str]:
        """The verdict, and below it what it rests on."""
        named = (("reason", self.reason), ("linux", self.linux), ("hex", self.hex))
        field = [f"field: {self.field}, found: {self.found}, expected: {self.expected}"] if self.field else []
        more = [*field, *(f"{name}: {value}" for name, value in named if value), *self.frames]
        head = f"{self.verdict}: {self.rule}: {self.level}: {self.says} [{self.source}]"
        return [one_line(head), *indented(map(one_line, more))]


class Examined(Answer):
    """What came of the rules that were tried."""

    name: str
    address: str = Field(description="The guest's.")
    neighbor: str = Field(description="The first of the addresses that asked.")
    health: str = Field(description="By what it was seen that the guest lives.")
    answer_seconds: float = Field(description="The longest that a health check took.")
    port: int | None = Field(description="The TCP port that was taken for an open one.")
    snapshots: bool = Field(description="Whether each rule began in the same state, to which the guest went back.")
    capture: str
    path: str
    elapsed: float = Field(description="Seconds.")
    suites: list[SuiteRow]
    rules: Annotated[list[RuleRow], UNTRUSTED] = Field(description="Those that were not kept; one that was asked for.")
    left: int = Field(description="Rules that were not kept and did not fit in here: ask for their suite.")
    notes: list[str]


async def qemu_examine(
    context: LabContext,
    what: Annotated[
        str,
        Field(
            max_length=160,
            description="link, arp, ipv4, icmp, udp, fragments, tcp, ipv6, dns, dhcp, impairments, fuzz, all; "
            'or "arp.reply"',
        ),
    ],
    name: GuestName = "guest",
    address: Annotated[str | None, Field(description="The guest's IPv4 address; found if absent.")] = None,
    port: Annotated[int | None, Field(ge=1, le=65535, description="Its open TCP port.")] = None,
) -> Examined:
    """Test a guest's network stack against RFC rules, as a neighbour: which it breaks, with packets."""
    from rawtap.ask.examine.course import examine
    from rawtap.ask.examine.finding import Place

    async def tell(done: float, total: float, message: str) -> None:
        await context.report_progress(done, total, message)

    done = await examine(lab_of(context), name, what, Place(address, port), tell)
    return _examined(name, done)


def _examined(name: str, done: Examination) -> Examined:
    rows = _rows(done)
    shown: list[RuleRow] = []
    for row in rows:
        if shown and sum(len(each.model_dump_json()) for each in [*shown, row]) > _ANSWER_CHARACTERS:
            break
        shown.append(row)
    notes = [f"without snapshots: {done.without}"] if done.without else []
    late = [each.rule.name for each in done.outcomes if each.verdict == "kept" and each.reason]
    notes += [f"kept only at the second try: {', '.join(late)}"] if late else []
    shown_so = {row.rule for row in rows}
    completed = [each for each in done.outcomes if each.figures and each.rule.name not in shown_so]
    notes += [f"{each.rule.name}: {each.figures}" for each in completed]
    notes += [done.trouble] if done.trouble else []
    notes += done.told
    return Examined(
        name=name,
        address=done.address,
        neighbor=done.neighbor,
        health=done.health,
        answer_seconds=round(done.answer_seconds, 4),
        port=done.port,
        snapshots=not done.without,
        capture=done.capture.id,
        path=str(done.path),
        elapsed=round(done.elapsed, 3),
        suites=_suites(done.outcomes),
        rules=shown,
        left=len(rows) - len(shown),
        notes=notes,
    )


def _suites(outcomes: tuple[Outcome, ...]) -> list[SuiteRow]:
    counted: dict[str, Counter[str]] = {}
    for each in outcomes:
        counted.setdefault(each.rule.suite, Counter())[each.verdict.replace(" ", "_")] += 1
    names = [name for name in SuiteRow.model_fields if name != "suite"]
    return [SuiteRow(suite=suite, **{name: counts[name] for name in names}) for suite, counts in counted.items()]


def _rows(done: Examination) -> list[RuleRow]:
    """The worst first; one that was kept only where it is the only one."""
    order = ("died", "violated", "silent", "cannot tell", "kept")
    told = [
        (order.index(outcome.verdict), _row(outcome, numbers))
        for outcome, numbers in zip(done.outcomes, done.numbers, strict=True)
        if outcome.verdict != "kept" or len(done.outcomes) == 1
    ]
    return [row for _, row in sorted(told, key=lambda each: each[0])]


def _row(outcome: Outcome, numbers: tuple[int | None, ...]) -> RuleRow:
    rule = outcome.rule
    frames = [_frame(each, number) for each, number in zip(outcome.frames, numbers, strict=True)]
    left = [f"{len(frames) - _FRAMES} frames before these"] if len(frames) > _FRAMES else []
    return RuleRow(
        rule=rule.name,
        verdict=outcome.verdict,
        level=rule.level,
        says=rule.says,
        source=rule.source,
        reason=outcome.reason or outcome.figures,
        field=outcome.field,
        found=outcome.found,
        expected=outcome.expected,
        linux=rule.linux,
        frames=[*left, *frames[-_FRAMES:]],
        hex=_hex(outcome.frames[-1].data) if outcome.verdict == "died" and outcome.frames else "",
    )


def _hex(data: bytes) -> str:
    return data[:_SHOWN].hex() + ("..." if len(data) > _SHOWN else "")


def _frame(frame: Passed, number: int | None) -> str:
    from rawtap.examine.values import told

    return f"{number or 'not captured'} {'<' if frame.from_guest else '>'} {told(frame.data)}"


TOOLS: tuple[Offer, ...] = (tool(qemu_examine, "Examine a guest's network stack"),)
