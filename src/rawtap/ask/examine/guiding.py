"""A guest watched while it is fuzzed: which blocks of its code ran is told to what chooses the next cases.

QEMU tells each block as it translates it, once after each time that the guest was put back (`translation_log`): what
runs again costs nothing, and what a round reaches is told anew. Blocks that run without us are learnt first: behind
the snapshot, with health checks and a rest, nothing is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import anyio
from anyio import current_time

from rawtap.debug.functions import Functions
from rawtap.errors import GuestFailed
from rawtap.examine import guidance
from rawtap.examine.guidance import Corpus, Ran
from rawtap.examine.mutations import Case
from rawtap.guest.machine import Machine
from rawtap.lab.covering import functions_of
from rawtap.lab.guests import Guest

_MOST_SLOWER = 8  # times: a round that is begun, with it and without
_LEAST_SECONDS = 0.25  # for which nobody waits
_CHECKS = 4
_WATCHED = 4.0  # times: what the guest runs when it is put back is all new to QEMU, which tells all of it
_ALONE = 128  # cases that are tried by themselves in a round
_MOST_BATCHES, _MANY_WAIT = 60, 24  # of a round; cases, for which the next one begins
_COVERED = 'somebody has coverage on, and each would slow the other; qemu_debug(action="coverage", at="off") ends it'


class Watch(Protocol):
    """Tells which blocks a guest ran."""

    async def begin(self) -> None:
        """Have them told; raises GuestFailed where QEMU does not."""

    async def end(self) -> None:
        """Have nothing told any more; harmless where nothing is."""

    def ran(self) -> Ran:
        """Those that were told since it was asked last."""

    @property
    def why_ended(self) -> str:
        """Why nothing is told any more; "" where it is."""


class Translations:
    """Those of a machine's log; see `Watch`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def begin(self) -> None:
        """Have QEMU tell of each block that it translates."""
        await self._machine.log_translations()

    async def end(self) -> None:
        """Have it tell of none; a guest that has ended tells of none."""
        await self._machine.end_translations()

    def ran(self) -> Ran:
        """Those that were translated since."""
        log = self._machine.translations
        return log.turn() if log else {}

    @property
    def why_ended(self) -> str:
        """That there were too many."""
        log = self._machine.translations
        return log.why_ended if log else ""


@dataclass
class Guide:
    """Has cases made of those that reached something.

    Attributes:
        why: Why it does not, or no more; "" where it does.
        is_on: Whether it does. It is off until `learn`.
    """

    watch: Watch
    corpus: Corpus
    functions: Functions = field(default_factory=Functions)
    why: str = ""
    is_on: bool = False
    _is_watching: bool = False

    @property
    def patience(self) -> float:
        """How much longer it may take to put the guest back, since it is watched."""
        return _WATCHED if self._is_watching else 1.0

    def cases(self, blind: Iterator[Case]) -> Iterator[Case]:
        """Half of them made of what is kept; all of them as they would be without, where it is off."""
        guided = guidance.following(self.corpus, blind)
        while True:
            yield next(guided) if self.is_on else next(blind)

    async def learn(
        self,
        begin: Callable[[], Awaitable[None]],
        check: Callable[[], Awaitable[None]],
        rest: Callable[[], Awaitable[None]],
        seeds: Sequence[Case],
    ) -> None:
        """Begin, where it does not make the guest much slower, and learn what it runs by itself.

        `begin` puts the guest back, `check` is a health check, `rest` a pause. `seeds` are cases to begin with.

        Raises:
            GuestExited: It has ended. What the others raise comes through.
        """
        if self.why:
            return
        before = await _timed(begin, check)
        try:
            await self._watch()
        except GuestFailed as error:
            self.why = f"{error.problem}: {error.evidence}"
            return
        slower = await _timed(begin, check) / max(before, _LEAST_SECONDS)
        await rest()
        await check()
        self.corpus.note_idle(self.watch.ran())
        if slower > _MOST_SLOWER:
            self.why = f"watched, it takes {slower:.0f} times as long to put it back and have it answer"
        elif not self.corpus.idle:
            self.why = "QEMU's log told of no block that it ran"
        if self.why:
            await self.pause()
            return
        self.corpus.waiting += seeds
        self.is_on = True

    async def _watch(self) -> None:
        await self.watch.begin()
        self._is_watching = True

    async def pause(self) -> None:
        """Have nothing told until `go_on`: where the guest is put back again and again, that would take its time."""
        await self.watch.end()
        self._is_watching = False

    async def go_on(self) -> None:
        """A round is about to begin: what ran by now is of no interest. Raises as `Watch.begin`."""
        if self.is_on and not self._is_watching:
            await self._watch()
        self.watch.ran()

    def alone(self) -> Iterator[Case]:
        """Cases that are tried by themselves, when the guest has been put back: what ran by then is idle."""
        if self.is_on:
            self.corpus.note_idle(self.watch.ran())
            yield from self.corpus.alone(_ALONE)

    def note(self, cases: Sequence[Case], *, alone: bool) -> None:
        """These were sent, and the guest answered a health check behind them."""
        if not self.is_on:
            return
        ran = self.watch.ran()
        if alone:
            for case in cases:
                self.corpus.tried(case, ran)
        else:
            self.corpus.suspect(cases, ran)
        if why := self.watch.why_ended:
            self.why, self.is_on = why, False
        elif len(self.corpus.seen) > guidance.MOST_SEEN:
            self.why, self.is_on = f"more than {guidance.MOST_SEEN:,} different blocks ran", False

    def wants_more(self, batches: int) -> bool:
        """Whether a round of so many batches had better go on: putting the guest back takes longer when watched."""
        return self.is_on and batches < _MOST_BATCHES and len(self.corpus.waiting) < _MANY_WAIT

    def told(self) -> list[str]:
        """What came of it, in words."""
        notes = []
        reached = self.corpus.reached
        if self.is_on or reached:
            within = len(_starts(self.functions, reached))
            functions = f" of {within:,} functions" if within else ""
            notes.append(
                f"guided by what it ran: {len(reached):,} blocks{functions} were reached that it does not run by "
                f"itself; {self.corpus.found} cases reached some that none before did, and half of the later cases "
                "were made of these"
            )
        if self.why:
            notes.append(f"not guided{' to the end' if reached else ''} by what it ran: {self.why}")
        return notes


def _starts(functions: Functions, blocks: Iterable[int]) -> set[int]:
    return {found.start for each in blocks if (found := functions.at(each)) is not None}


async def _timed(begin: Callable[[], Awaitable[None]], check: Callable[[], Awaitable[None]]) -> float:
    """Seconds until it is back, and has answered some health checks."""
    began = current_time()
    await begin()
    for _ in range(_CHECKS):
        await check()
    return current_time() - began


@asynccontextmanager
async def guiding(guest: Guest, seed: int) -> AsyncIterator[Guide]:
    """A guide for as long; nothing is logged for it afterwards, whatever happens.

    Raises:
        DiskStalled: The disk of the guest's symbols does not answer.
    """
    machine = guest.machine
    why = _COVERED if guest.covering is not None else ""
    if machine.accelerator != "tcg":
        why = f'it runs by {machine.accelerator or "nothing yet"}; icount = "auto" in its profile has QEMU emulate it'
    found = [] if why else (await functions_of(machine.spec.symbols))[0]
    made = Guide(Translations(machine), Corpus(Random(seed)), Functions(found), why)  # noqa: S311 - it guards nothing
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.watch.end()
