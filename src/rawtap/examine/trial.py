"""One rule tried on one guest: its steps are taken, and what comes is judged.

No verdict is the clock's. That nothing came is believed when the guest has answered a health check that was sent behind
the question; and then the question is asked once more, behind a rest, before it is said. The exception is what a rule
lets take seconds (`within`).

A client of DHCP may take another address than health checks are for: it is looked for there, and what it says to its
server shows that it lives. Of a guest that has no address (the kind "dhcp") nothing else does: silence is the clock's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic
from typing import Protocol

from rawtap.errors import NetworkFailed, RequestInvalid
from rawtap.examine import health, scenes, talk
from rawtap.examine.rules import Ask, Converse, Fields, Frame, Quiet, Rule, Step, Tell
from rawtap.examine.values import Crowd, Names, Seen, filled, made, needed, own_bytes, shown

_CHATTER = 500  # frames of which each field is looked at, between a question and its answer
_HEALTH_CHATTER = 50_000  # frames that an answer to a health check may be behind
_NEXT = 16
_SOON = 5  # this part of the patience is enough for what comes at once
_AGAIN = 1.0  # seconds from one question to the same
_CLIENT_SECONDS = 20.0  # a client may wait so long at first: RFC 2131, 4.1, and 10 s behind a decline (3.1 (5))


class Verdict(StrEnum):
    """What came of a rule.

    KEPT, VIOLATED: by frames that were seen. SILENT: what must come did not, though the guest lives. CANNOT_TELL: it
    was not tried, with the reason. DIED: the guest did.
    """

    KEPT = "kept"
    VIOLATED = "violated"
    SILENT = "silent"
    CANNOT_TELL = "cannot tell"
    DIED = "died"


@dataclass(frozen=True)
class Passed:
    """A frame of a trial, and whether the guest sent it."""

    data: bytes
    from_guest: bool


@dataclass(frozen=True)
class Outcome:
    """What came of one rule. `field`, `found` and `expected` are "" where no field decided it; `figures` are a
    transfer's, where one was completed."""

    rule: Rule
    verdict: Verdict
    reason: str = ""
    field: str = ""
    found: str = ""
    expected: str = ""
    frames: tuple[Passed, ...] = ()
    figures: str = ""


class Wire(Protocol):
    """Where a guest's frames come from, and where ours go."""

    frames: list[bytes]
    """What the guest has sent, in its order."""

    async def send(self, frame: bytes) -> None:
        """Send one to the guest.

        Raises:
            RequestInvalid, NetworkFailed: This one was not sent.
        """

    async def more(self, than: int, patience: float) -> bool:
        """Wait until there are more `frames` than that; False if none comes for `patience` seconds."""

    def lost(self) -> int:
        """How many frames found no room on their way, ours or the guest's, since it was opened or before."""


class Deaf(Exception):
    """The guest answers no health check; `sent` is what went before it."""

    def __init__(self, sent: bytes | None) -> None:
        super().__init__(sent)
        self.sent = sent


class _Ended(Exception):
    """A trial came to its verdict before its last step."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass
class Examiner:
    """Tries rules on one guest.

    Attributes:
        names: What names in rules stand for, but those that are new for each try.
        crowd: Addresses that tries come from.
        kind: Which health check this guest answers.
        patience: Seconds that an answer may take, by what this guest needed.
        rest: Waits before a question is asked again: a stack may limit how often it asks, answers, or tells errors.
        number: Of the last try; each has names of its own.
        now: Seconds, of a clock that does not go back.
        last: What a try sent last, but for health checks.
    """

    wire: Wire
    names: Names
    crowd: Crowd
    kind: health.Kind
    patience: float
    rest: Callable[[], Awaitable[None]]
    number: int = 0
    now: Callable[[], float] = monotonic
    last: bytes | None = None
    _checks: Iterator[health.Check] = field(init=False)
    _log: list[Passed] = field(default_factory=list)
    _read: int = 0  # frames of the wire that are in the log
    _place: int = 0  # in the wire's frames, behind the answer that came last
    _ours: tuple[bytes, ...] = field(init=False)
    _health: tuple[bytes, ...] = field(init=False)
    _offered: tuple[health.Check, ...] = ()  # in a rule of DHCP: where its client may be
    _is_away: bool = False  # it answers no more where it was found

    def __post_init__(self) -> None:
        self._checks = health.checks(self.kind, self.names)
        self._health = health.tokens_of(self.names)
        self._ours = tuple(own_bytes(self.names, self.crowd))

    def fresh(self) -> Names:
        """The names of the next try."""
        self.number += 1
        return {
            **self.names,
            **self.crowd.of(self.number),
            "id": (self.number * _NEXT) % 0xFFF0,  # what is beside it is free: left over fragments meet no others
            "data": f"rawtap {self.number:06}: as it was sent.",
            "sport": 20000 + self.number % 20000,
            "seq": (self.number * 64013) % (1 << 32),
        }

    async def judge(self, rule: Rule, *, afresh: Callable[[], Awaitable[None]]) -> Outcome:
        """Try a rule; what is not kept is tried once more, after `afresh`, before it is said.

        Raises:
            Deaf: The guest answers no health check, before or after.
        """
        first = await self.once(rule)
        if first.verdict is Verdict.KEPT:
            return first
        await afresh()
        second = await self.once(rule, rested=True)
        if second.verdict == first.verdict:
            return second
        if first.verdict is Verdict.VIOLATED and second.verdict is Verdict.CANNOT_TELL:  # the guest knows more by now
            return replace(first, reason=f"{first.reason}; {second.verdict} at the second try: {second.reason}")
        if first.verdict is not Verdict.VIOLATED and second.verdict is Verdict.KEPT:
            return replace(second, reason=f"at the second try; {first.verdict} at the first: {first.reason}")
        if second.verdict is Verdict.VIOLATED:
            return replace(second, reason=f"{second.reason}; {first.verdict} at the first try".lstrip("; "))
        reason = f"{first.verdict} at the first try, {second.verdict} at the second: {first.reason}"
        return replace(first, verdict=Verdict.CANNOT_TELL, reason=reason)

    async def once(self, rule: Rule, *, careful: bool = False, rested: bool = False) -> Outcome:
        """Try a rule.

        `careful`: with a health check behind each frame, to know which one the guest dies of. `rested`: after a rest,
        which is behind the greeting and the first health check, so that neither counts against a limit of the guest's.

        Raises:
            Deaf: The guest answers no health check, before or after.
        """
        names = self.fresh()
        self.last = None
        self._offered = health.offered(names) if rule.suite == "dhcp" else ()
        self._is_away = False
        self._log, self._read = [], len(self.wire.frames)
        lost = self.wire.lost()
        try:
            await self._meet(rule, names)
            if rested:
                await self.rest()
            self._read = len(self.wire.frames)
            outcome = await self._taken(rule, names, careful=careful)
            await self.alive()
        except (RequestInvalid, NetworkFailed) as error:
            return self._untold(rule, f"{error.problem}: {error.evidence}")
        more = self.wire.lost() - lost
        if more and outcome.verdict is not Verdict.VIOLATED:
            return self._untold(rule, f"frames were lost for want of room, ours or the guest's: {more}")
        return outcome

    async def _meet(self, rule: Rule, names: Names) -> None:
        """Have the guest know us, and be alive."""
        if self.kind == "dhcp":
            if not await self._asks_server(len(self.wire.frames)):
                raise Deaf(None)
            return
        await self.wire.send(health.greeting(names))
        if "guest6" in needed(rule):
            await self.wire.send(health.greeting6(names))
        await self.alive()

    async def _taken(self, rule: Rule, names: Names, *, careful: bool) -> Outcome:
        try:
            for step in rule.steps:
                await self._take(rule, step, names, careful=careful)
        except _Ended as ended:
            return ended.outcome
        return Outcome(rule, Verdict.KEPT, frames=self._frames())

    def _untold(self, rule: Rule, reason: str) -> Outcome:
        return Outcome(rule, Verdict.CANNOT_TELL, reason, frames=self._frames())

    async def alive(self, patient: float = 4, tries: int = 2) -> None:
        """Have a health check answered, asked so often; each is given up after `patient` times the patience.

        Raises:
            Deaf: It is not, nor where a client of DHCP may be by now.
        """
        begin, patience = len(self.wire.frames), patient * self.patience
        if self.kind == "dhcp" or (self._is_away and await self._lives_elsewhere(begin, patience)):
            return
        for _ in range(tries):
            if await self._answers((next(self._checks),), patience):
                return
        self._is_away = bool(self._offered) and not self._is_away and await self._lives_elsewhere(begin, patience)
        if not self._is_away:
            raise Deaf(self.last)

    async def _answers(self, checks: tuple[health.Check, ...], patience: float) -> bool:
        def is_it(frame: bytes) -> bool:
            return any(each.is_answered_by(frame) for each in checks)

        begin = len(self.wire.frames)
        for each in checks:
            await self.wire.send(each.frame)
        return await self._comes(begin, is_it, patience, _HEALTH_CHATTER) is not None

    async def _lives_elsewhere(self, begin: int, patience: float) -> bool:
        return await self._answers(self._offered, patience) or await self._asks_server(begin)

    async def _asks_server(self, begin: int) -> bool:
        """Whether its client of DHCP says something, at which a rule may have a look all the same."""
        said = await self._comes(begin, health.asks_server, _CLIENT_SECONDS, _HEALTH_CHATTER)
        self._place -= said is not None
        return said is not None

    async def _take(self, rule: Rule, step: Step, names: Names, *, careful: bool) -> None:
        begin = len(self.wire.frames) if step.send else self._place
        for frame in step.send:
            await self._send(frame, names)
            if careful:
                await self.alive()
        if isinstance(step, Ask):
            await self._ask(rule, step, begin, names, careful=careful)
        elif isinstance(step, Quiet):
            await self._quiet(rule, step, begin, names)
        elif isinstance(step, Converse):
            await self._converse(rule, step, names, careful=careful)
        elif not isinstance(step, Tell):
            raise TypeError(f"no such step: {step}")

    async def _send(self, frame: Frame, names: Names) -> None:
        await self._say(made(frame, names))

    async def _say(self, data: bytes) -> None:
        self._take_down()
        self.last = data
        await self.wire.send(data)
        self._log.append(Passed(data, from_guest=False))

    async def _converse(self, rule: Rule, step: Converse, names: Names, *, careful: bool) -> None:
        async def say(data: bytes) -> None:
            await self._say(data)
            if careful:
                await self.alive()

        came = await scenes.played(step, names, talk.Table(self.wire, say, self.alive, self.now))
        verdict, frames = Verdict(came.verdict), self._frames()
        raise _Ended(Outcome(rule, verdict, came.reason, came.field, came.found, came.expected, frames, came.figures))

    async def _ask(self, rule: Rule, step: Ask, begin: int, names: Names, *, careful: bool) -> None:
        def is_it(frame: bytes) -> bool:
            return self._is_of_rules(frame) and Seen(frame).has(step.comes, names)

        if (found := await self._answer(step, begin, is_it, names)) is None:
            if too_many := self._too_many(rule, begin):
                raise _Ended(too_many)
            if step.control:
                await self._take(rule, step.control, names, careful=careful)
            raise _Ended(self._missing(rule, step, names))
        self._show(found)
        seen = Seen(found)
        if wrong := seen.lacks(step.must, names):
            name, was, should = wrong
            reason = f"{name} is {was}, and should be {should}"
            raise _Ended(Outcome(rule, Verdict.VIOLATED, reason, name, was, should, self._frames()))
        if (sums := seen.wrong_sums) and not step.given:
            bad = sums[0]
            was, should = f"{bad.found:#06x}", f"{bad.expected:#06x}"
            reason = f"the {bad.name} checksum is {was}, and should be {should}"
            raise _Ended(Outcome(rule, Verdict.VIOLATED, reason, f"{bad.name} checksum", was, should, self._frames()))
        for name, source in step.keep.items():
            names[name] = seen.fields[source]

    async def _answer(self, step: Ask, begin: int, is_it: Callable[[bytes], bool], names: Names) -> bytes | None:
        found = await self._comes(begin, is_it, self.patience / _SOON)
        if found is None:
            await self.alive()
            found = await self._comes(begin, is_it, self.patience)
        for _ in range(step.within):
            if found is None:
                for each in step.send:
                    await self._send(each, names)
                found = await self._comes(begin, is_it, _AGAIN)
        return found

    def _too_many(self, rule: Rule, begin: int) -> Outcome | None:
        """A guest that sends without end is not judged by what it did not send."""
        came = len(self.wire.frames) - begin
        return self._untold(rule, f"{came} frames came meanwhile, too many to look at") if came > _CHATTER else None

    def _missing(self, rule: Rule, step: Ask, names: Names) -> Outcome:
        wanted = _words(step.comes, names)
        if step.given:
            return self._untold(rule, f"it needs a frame of the guest's with {wanted}, and none came")
        reason = f"no frame with {wanted} came, while {health.LIVED[self.kind]}"
        return Outcome(rule, Verdict.SILENT, reason, frames=self._frames())

    async def _quiet(self, rule: Rule, step: Quiet, begin: int, names: Names) -> None:
        await self.alive()
        for _ in range(step.within):
            await self.rest()
            for each in step.send:
                await self._send(each, names)
            await self.alive()
        if not step.never:
            return
        if too_many := self._too_many(rule, begin):
            raise _Ended(too_many)
        came = [
            each
            for each in self.wire.frames[begin:]
            if self._is_of_rules(each) and any(Seen(each).has(never, names) for never in step.never)
        ]
        if len(came) > step.beyond:
            for frame in came:
                self._show(frame)
            most = f"at most {step.beyond}" if step.beyond else "none"
            wanted = " or ".join(_words(never, names) for never in step.never)
            reason = f"{len(came)} {'frame' if len(came) == 1 else 'frames'} came with {wanted}, and {most} may come"
            raise _Ended(Outcome(rule, Verdict.VIOLATED, reason, "frames", str(len(came)), most, self._frames()))

    async def _comes(
        self, begin: int, is_it: Callable[[bytes], bool], patience: float, most: int = _CHATTER
    ) -> bytes | None:
        """The first such frame behind the first `begin`; None if nothing comes for so long, or `most` others do."""
        for at in range(begin, begin + most):
            if at >= len(self.wire.frames) and not await self.wire.more(at, patience):
                break
            if is_it(self.wire.frames[at]):
                self._place = at + 1
                return self.wire.frames[at]
        return None

    def _take_down(self) -> None:
        new, self._read = self.wire.frames[self._read :], len(self.wire.frames)
        is_about_us = [each for each in new if self._is_of_rules(each) and any(own in each for own in self._ours)]
        self._log += [Passed(each, from_guest=True) for each in is_about_us]

    def _show(self, frame: bytes) -> None:
        """Have a frame among those that are shown, though none of our addresses may be in it."""
        self._take_down()
        if not any(each.data == frame and each.from_guest for each in self._log):
            self._log.append(Passed(frame, from_guest=True))

    def _is_of_rules(self, frame: bytes) -> bool:
        """Whether a frame is no answer to a health check, nor a question of the guest's for who sent it."""
        return not any(token in frame for token in self._health)

    def _frames(self) -> tuple[Passed, ...]:
        self._take_down()
        return tuple(self._log)


def _words(wanted: Fields, names: Names) -> str:
    return ", ".join(f"{name} {shown(filled(value, names))}" for name, value in wanted.items())
