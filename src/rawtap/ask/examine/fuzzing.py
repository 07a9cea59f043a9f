"""Fuzzing: frames that nobody would send, until the guest dies of some, or answers some wrong; then the fewest
and shortest of them that do so each time.

Each round begins from the same snapshot. What a guest dies of is told by QEMU's end, its console, or that it answers no
health check any more. What it sends meanwhile is judged as captures are (`examine.faults`). Where it can be watched,
what it runs guides the search (`guiding`). Frames of a round that do harm are sent again from the snapshot; then they
are made as few and as small as do (`shrinking`), and sent ten times in the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from anyio import current_time

from rawtap.ask.examine.guiding import Guide
from rawtap.ask.examine.memory import LEAST, Loss, Meter
from rawtap.ask.examine.neighbor import Neighbor
from rawtap.ask.examine.shrinking import Shrinker
from rawtap.errors import GuestError, NetworkFailed, RequestInvalid
from rawtap.examine import faults, health
from rawtap.examine.faults import Fault
from rawtap.examine.mutations import Case
from rawtap.examine.trial import Deaf, Examiner

TIMES = 10
UNEXPLAINED = "it seemed to die, and did not each time when the same frames were sent again"
_BATCHES, _CASES = 12, 8  # of a round; a health check is behind each batch
_SHRINK_SECONDS, _BOUNDS_SECONDS = 120.0, 20.0  # for one killer, at most
# Times the patience: on the way to the smallest, behind a batch, for each of the ten times, and before all that.
_QUICK, _PATIENT, _TELLING, _SURE = 0.3, 1.0, 2.0, 4.0
_DEAF = "it answers no health check any more"
_MOST_KILLERS = 20
_AT_ONCE = 32  # frames between two health checks, where none kills
ENDS = (Deaf, GuestError, NetworkFailed, RequestInvalid)
"""What ends a search before its time: the guest is not put back, does not answer then, or takes no health check."""


@dataclass(frozen=True)
class Sign:
    """How it was seen that frames do harm: the guest died, or has a `fault` in what it sent."""

    how: str
    fault: Fault | None = None

    @property
    def kind(self) -> str:
        """The fault's code; "" where it died."""
        return self.fault.what if self.fault else ""


@dataclass(frozen=True)
class Killer:
    """Frames that do harm, and how. `times`: they were tried so often; 0 where they could not be again.

    Of frames that a guest dies of, `fixed` are the places in the last of them whose bytes cannot be others, `least`
    those whose values can be higher; both are empty where that was not tried.
    """

    frames: Case
    how: str
    times: int
    fixed: frozenset[int] = frozenset()
    least: frozenset[int] = frozenset()
    fault: Fault | None = None

    def is_like(self, frame: bytes) -> bool:
        """Whether it would be the same death again."""
        last = self.frames[-1]
        if self.fault:
            return False
        if not self.fixed:
            return frame == last
        if len(frame) < len(last) or any(frame[at] < last[at] for at in self.least):
            return False
        return all(frame[at] == last[at] for at in self.fixed)


@dataclass
class Hunt:
    """A search for frames that do a guest harm.

    Attributes:
        afresh: Puts the guest back.
        death: How the guest died since then, or what its console told of a fault; "" where nothing was told.
        greeting: By which the guest learns where the frames' sender is: else its answers come too late.
        meter: Tells how much of its memory is free, if its console does.
        guide: Is told what was sent, and has `cases` made of it; `seeds` are what it begins with.
        sent: Frames, without those on the way to a killer's smallest.
        rounds: How often it was put back for them.
    """

    examiner: Examiner
    wire: Neighbor
    cases: Iterator[Case]
    afresh: Callable[[], Awaitable[None]]
    death: Callable[[], Awaitable[str]]
    report: Callable[[str], Awaitable[None]]
    greeting: bytes = b""
    meter: Meter | None = None
    guide: Guide | None = None
    seeds: Sequence[Case] = ()
    killers: list[Killer] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    sent: int = 0
    tried: int = 0
    skipped: int = 0  # frames that were not sent, being like those of a death that is known
    rounds: int = 0
    unexplained: int = 0  # rounds whose frames did not kill again
    refused: int = 0
    judged: int = 0  # frames of the guest's
    unsure: dict[str, str] = field(default_factory=dict)  # faults that did not come again, by their code
    ended: str = ""  # why the search ended before its time

    async def go(self, seconds: float) -> None:
        """Look for as long; the last round, and what it takes to shrink what kills, are ended all the same.

        Raises:
            ENDS: As they say.
            GuestExited: The guest was shut down.
        """
        await self.learn()
        deadline = _in(seconds)
        while current_time() < deadline and len(self.killers) < _MOST_KILLERS:
            await self.round()
        if current_time() < deadline:
            self.ended = f"{len(self.killers)} findings are enough"

    async def learn(self) -> None:
        """Have what the guest runs guide the search, where that can be; raises as `go`."""
        if self.guide:
            await self.report("what it runs by itself is learnt")
            await self.guide.learn(self._begin, self.examiner.alive, self.examiner.rest, self.seeds)

    async def round(self) -> None:
        """Some batches from the snapshot, until one does harm; before them, what is tried by itself."""
        if self.guide:
            await self.guide.go_on()
        await self._begin()
        meter = None if self.losses else self.meter
        free = await meter.free() if meter else None
        self.rounds += 1
        history: list[bytes] = []
        for case in self.guide.alone() if self.guide else ():
            if await self._harmed([case], history, alone=True):
                return
        batches = 0
        while batches < _BATCHES or (self.guide and self.guide.wants_more(batches)):
            batches += 1
            if await self._harmed(list(islice(self.cases, _CASES)), history, alone=False):
                return
        if meter and free is not None:
            await self._weighed(meter, tuple(history), free)

    async def _harmed(self, cases: Sequence[Case], history: list[bytes], *, alone: bool) -> bool:
        """Send them, behind that history, which grows by them; whether they do harm, which is looked into then."""
        await self.report(f"{self.sent} frames sent, {len(self.killers)} findings")
        frames = [each for case in cases for each in case if not self._is_known(each)]
        self.sent += len(frames)
        self.tried += len(cases)
        self.skipped += sum(map(len, cases)) - len(frames)
        history += frames
        if sign := await self._struck(frames, _PATIENT, self._new_kinds()):
            await self._caught(history, sign)
            return True
        if self.guide:
            self.guide.note(cases, alone=alone)
        return False

    async def _weighed(self, meter: Meter, history: Case, before: int) -> None:
        """Whether memory is lost for good, where there is less of it than before."""
        after = await meter.free()
        if after is None or before - after < LEAST:
            return
        await self.report(f"{before - after} bytes of free memory less: whether they come back is tried")
        if loss := await meter.loss(history, self._begin, self._survived):
            self.losses.append(loss)

    async def _survived(self, frames: Case) -> bool:
        """Send them, and wait until what they took can have come back; False if the guest died."""
        for end in range(_AT_ONCE, len(frames) + _AT_ONCE, _AT_ONCE):
            if sign := await self._struck(frames[end - _AT_ONCE : end], _PATIENT, frozenset()):
                await self._caught([*frames[:end]], sign)
                return False
        await self.examiner.rest()
        return True

    def _is_known(self, frame: bytes) -> bool:
        return any(killer.is_like(frame) for killer in self.killers)

    def _new_kinds(self) -> frozenset[str]:
        """Each kind of fault is told once."""
        return faults.KINDS - self.unsure.keys() - {each.fault.what for each in self.killers if each.fault}

    async def _struck(self, frames: Sequence[bytes], patient: float, kinds: frozenset[str]) -> Sign | None:
        """How the guest died of them, or what it sent that is wrong in one of these ways; None if neither."""
        for frame in frames:
            try:
                await self.wire.send(frame)
            except (RequestInvalid, NetworkFailed):
                self.refused += 1
        try:
            try:
                await self.examiner.alive(patient, tries=1)
            except Deaf:
                return Sign(await self.death() or _DEAF)
            if how := await self.death():
                return Sign(how)
            return self._faulty(kinds) if kinds else None
        finally:
            self.wire.frames.clear()

    def _faulty(self, kinds: frozenset[str]) -> Sign | None:
        """Answers to health checks are no answers to these frames."""
        tokens = health.tokens_of(self.examiner.names)
        frames = [each for each in self.wire.frames if not any(token in each for token in tokens)]
        self.judged += len(frames)
        fault = faults.first(frames, kinds)
        return Sign(f"what it sent is wrong: {fault.says}", fault) if fault else None

    async def _begin(self) -> None:
        """Put the guest back, and have it answer: it may take a while until it runs."""
        await self.afresh()
        if self.greeting:
            await self.wire.send(self.greeting)
        await self.examiner.alive(_SURE * (self.guide.patience if self.guide else 1))
        self.wire.frames.clear()  # what answers the greeting is no answer to what comes

    async def _caught(self, history: list[bytes], sign: Sign) -> None:
        try:
            if self.guide:
                await self.guide.pause()
            await self._shrunk(tuple(history), sign)
        except ENDS:
            if not sign.fault and sign.how != _DEAF:  # it is known by more than silence, and cannot be tried again
                self.killers.append(Killer(tuple(history), sign.how, 0))
            raise

    async def _shrunk(self, history: Case, sign: Sign) -> None:
        kind = sign.kind
        start = history
        if await self._again(history, kind, _SURE):
            for patient in (_QUICK, _PATIENT):  # if it was only slow on the way, it goes on from what killed before
                strikes = partial(self._strikes, kind, patient)
                shrinker = Shrinker(self._begin, strikes, self._is_known, _in(_SHRINK_SECONDS))
                smallest = await shrinker.smallest(start)
                if told := await self._each_time(smallest, kind):
                    shrinker.until = _in(_BOUNDS_SECONDS)
                    fixed, least = (frozenset[int](),) * 2 if kind else await shrinker.bounds(smallest)
                    self.killers.append(Killer(smallest, told.how, TIMES, fixed, least, told.fault))
                    return
                start = await self._last_that_does(shrinker.trail, kind)
            if told := await self._each_time(history, kind):
                self.killers.append(Killer(history, told.how, TIMES, fault=told.fault))
                return
        if kind:
            self.unsure[kind] = sign.how
        else:
            self.unexplained += 1

    async def _strikes(self, kind: str, patient: float, frames: list[bytes]) -> bool:
        size = sum(map(len, frames))
        await self.report(f"{len(self.killers)} findings; of one more, {len(frames)} frames of {size} bytes are tried")
        sign = await self._struck(frames, patient, frozenset({kind} if kind else ()))
        if sign and sign.kind != kind:  # another one, that ends the way to this
            await self._begin()
        return sign is not None and sign.kind == kind

    async def _again(self, frames: Case, kind: str, patient: float) -> Sign | None:
        """The same from the snapshot; None where it does not come."""
        await self._begin()
        sign = await self._struck(frames, patient, frozenset({kind} if kind else ()))
        return sign if sign and sign.kind == kind else None

    async def _each_time(self, frames: Case, kind: str) -> Sign | None:
        """The same, if it comes each of ten times."""
        sign = None
        for number in range(1, TIMES + 1):
            await self.report(f"{len(self.killers)} findings; one more is tried, {number} times of {TIMES}")
            sign = await self._again(frames, kind, _TELLING)
            if sign is None:
                break
        return sign

    async def _last_that_does(self, trail: Sequence[Case], kind: str) -> Case:
        """The smallest on the way that still does: what came behind one that does not, does not either."""
        does, beyond = 0, len(trail)
        while beyond - does > 1:
            middle = (does + beyond) // 2
            if await self._again(trail[middle], kind, _TELLING):
                does = middle
            else:
                beyond = middle
        return trail[does]

    def told(self, seed: int, lost: int) -> list[str]:
        """What was done, in words; `lost` frames found no room on their way."""
        notes = [
            f"seed {seed}: {self.sent} frames in {self.tried} cases, put back {self.rounds} times; {self.skipped} "
            f"more, like those of a death that is known, were not sent; {self.judged} of the guest's were judged"
        ]
        notes += self.guide.told() if self.guide else []
        notes += [f"not all was tried: {self.ended}"] if self.ended else []
        if self.unexplained:
            notes.append(f"{self.unexplained} times {UNEXPLAINED}")
        notes += [f"not each time when the same frames were sent again: {how}" for how in self.unsure.values()]
        notes += [self.meter.trouble] if self.meter and self.meter.trouble else []
        if lost or self.refused:
            notes.append(f"frames that found no room on their way, ours or the guest's: {lost + self.refused}")
        return notes


def _in(seconds: float) -> float:
    """So many seconds from now, by the event loop's clock."""
    return current_time() + seconds
