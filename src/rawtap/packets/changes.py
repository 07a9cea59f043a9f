"""What is new, gone, more, slower in one capture against another: causes first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rawtap.packets.exchanges import Exchange
from rawtap.packets.findings import Finding

How = Literal["new", "gone", "more", "less", "slower", "faster"]
What = Literal["finding", "unanswered", "delay", "protocol", "conversation", "endpoint", "name"]

_FACTOR = 2.0  # of counts, below which they are as before
_LEAST = 10  # more packets
_SLOWER = 1.5  # of a delay
_LEAST_SECONDS = 0.001
_ORDER: tuple[What, ...] = ("finding", "unanswered", "delay", "protocol", "name", "conversation", "endpoint")
_TURN: tuple[How, ...] = ("new", "gone", "slower", "more", "less", "faster")


@dataclass(frozen=True)
class Change:
    """One difference. `before` and `after` count packets, of findings their packets as well, of `unanswered` requests;
    of a delay they are its median in seconds, None where there is none."""

    what: What
    name: str
    how: How
    before: float | None
    after: float | None


class Counted(NamedTuple):
    """How many packets are of something in both; of a delay, the median seconds."""

    what: What
    name: str
    before: float | None
    after: float | None


def changes(
    findings: tuple[Sequence[Finding], Sequence[Finding]],
    exchanges: tuple[Sequence[Exchange], Sequence[Exchange]],
    counted: Iterable[Counted],
) -> list[Change]:
    """All of them: of what is wrong, what was asked and answered, and what was counted; each pair before and after."""
    found = [
        *_of(_paired("finding", *map(_causes, findings))),
        *_of(_paired("unanswered", *map(_unanswered, exchanges))),
        *_of(_delays(*exchanges)),
        *_of(counted),
    ]
    talks = {(each.how, name) for each in found if each.what == "conversation" for name in _ends(each.name)}
    found = [each for each in found if each.what != "endpoint" or (each.how, each.name) not in talks]
    return sorted(found, key=lambda each: (_ORDER.index(each.what), _TURN.index(each.how), -_size(each)))


def fresh(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of the second that the first has not: no such code of that host."""
    known = {(each.what, each.host) for each in before}
    return tuple(each for each in after if (each.what, each.host) not in known)


def _ends(conversation: str) -> tuple[str, str]:
    """The addresses of one that is called ``10.0.2.15 > 10.0.2.2:80 TCP``."""
    one, _, other = conversation.partition(" > ")
    return one, other.rpartition(":")[0]


def _size(change: Change) -> float:
    return abs((change.after or 0) - (change.before or 0))


def _causes(findings: Sequence[Finding]) -> Mapping[str, float]:
    """Packets by code and host; what follows from another finding is told by that one."""
    told: dict[str, float] = {}
    for each in findings:
        if not each.follows:
            name = f"{each.what} {each.host}".strip()
            told[name] = told.get(name, 0) + each.count
    return told


def _unanswered(exchanges: Sequence[Exchange]) -> Mapping[str, float]:
    told: dict[str, float] = {}
    for each in exchanges:
        if each.unanswered:
            told[_name(each)] = told.get(_name(each), 0) + each.unanswered
    return told


def _name(exchange: Exchange) -> str:
    return f"{exchange.kind} {exchange.asker} > {exchange.asked}"


def _delays(before: Sequence[Exchange], after: Sequence[Exchange]) -> Iterator[Counted]:
    """Of those that were answered in both; one that is new has no delay to compare."""
    known = {_name(each): each.median_seconds for each in before}
    for each in after:
        then, now = known.get(_name(each)), each.median_seconds
        if then is not None and now is not None:
            yield Counted("delay", _name(each), then, now)


def _paired(what: What, before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[Counted]:
    for name in dict.fromkeys([*before, *after]):
        yield Counted(what, name, before.get(name, 0), after.get(name, 0))


def _of(counted: Iterable[Counted]) -> Iterator[Change]:
    """Those that differ enough to be told."""
    for each in counted:
        how = _slower(each) if each.what == "delay" else _more(each)
        if how:
            yield Change(each.what, each.name, how, each.before, each.after)


def _slower(each: Counted) -> How | None:
    if each.before is None or each.after is None:
        return None
    least, most = sorted((each.before, each.after))
    if most - least < _LEAST_SECONDS or most < _SLOWER * least:
        return None
    return "slower" if each.after > each.before else "faster"


def _more(each: Counted) -> How | None:
    before, after = each.before or 0, each.after or 0
    if not before or not after:
        return None if before == after else "new" if after else "gone"
    if abs(after - before) < _LEAST or max(before, after) < _FACTOR * min(before, after):
        return None
    return "more" if after > before else "less"
