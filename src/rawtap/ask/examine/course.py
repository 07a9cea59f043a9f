"""The course of an examination: the guest is found and kept, each rule is tried, and what came is put together.

From a snapshot each rule begins in the same state. Where the guest cannot be kept in one, rules are tried in their
order, each with a health check before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import anyio
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync as to_thread

from rawtap.ask.examine import evidence, fuzzing, guiding
from rawtap.ask.examine.finding import Place, met
from rawtap.ask.examine.keeping import Kept, keeping
from rawtap.ask.examine.memory import Meter
from rawtap.ask.examine.neighbor import Neighbor, neighbor
from rawtap.blocking import reading
from rawtap.capture.session import CaptureRequest
from rawtap.errors import GuestBusy, GuestError, RawtapError, RequestInvalid
from rawtap.examine import catalogue, health, mutations
from rawtap.examine.mutations import Fuzz
from rawtap.examine.rules import Rule
from rawtap.examine.suites import dns
from rawtap.examine.trial import Deaf, Examiner, Outcome, Passed, Verdict
from rawtap.examine.values import needed, told
from rawtap.guest.machine import Machine, Mark
from rawtap.lab.captures import Capture
from rawtap.lab.card import Card
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.network.impair import Impairment, Plug
from rawtap.packets import decode

Report = Callable[[float, float, str], Awaitable[None]]

_REST = 1.1  # seconds; Linux lets an error more through each second, picoTCP one ARP reply
_TELL_EVERY = 1.0
_CONSOLE_SECONDS = 10.0
_LATE = (
    "RCU stall",
    "soft lockup",
    "hard lockup",
    "hung task",
)  # a busy machine makes these, or time that was left out
_ALONE = tuple(f"{each} was not tried: it waits for timers, and is asked for by its name" for each in catalogue.ALONE)
_NEEDED = {
    "port": "it needs a TCP port that the guest listens on: start a listener there, and give port=",
    "guest6": "no IPv6 was seen: nothing came from a link-local address of the guest's, though all nodes were asked "
    "for an echo and for their groups, and it for the address that its MAC makes. Perhaps IPv6 is off for this card",
    "dhcp_client": "no DHCPDISCOVER came for 8 s (16 s where only rules of DHCP are asked for): have a client ask "
    "again and again in the background, on a bridge without services (services=false), like busybox's: "
    "udhcpc -i eth0 -f -t 9999 -T 1 -A 1 -s /bin/true &",
    dns.RESOLVER: "no DNS query came to {server} for 8 s: make that its name server, and have it use one name after "
    "the other in the background, like: echo nameserver {server} >/etc/resolv.conf; n=0; while ping -4 -c 1 -W 1 "
    "$((n += 1)).rawtap.test; [ $? -lt 128 ]; do sleep 1; done >/dev/null 2>&1 &",
    "told": "its query was answered with {host}, and nothing was sent there: have it use the address, as ping does",
    dns.OTHER_NAMES: "it asked for no other name: have it ask for a new one each time, like $((n += 1)).rawtap.test; "
    "else a query that is repeated looks like one that is new",
}


@dataclass(frozen=True)
class Examination:
    """What came of the rules that were asked for.

    Attributes:
        address: The guest's.
        neighbor: The address that asked first.
        health: By what it was seen that the guest lives.
        answer_seconds: The longest that a health check took.
        port: The TCP port that was taken for an open one.
        without: Why there was no snapshot; "" where each rule began from one.
        trouble: Why the guest could not go back to it; "" where it could, or has ended.
        numbers: For each outcome the numbers of its frames in the capture; None for one that is not in it.
        told: What else is to be said.
    """

    address: str
    neighbor: str
    health: health.Kind
    answer_seconds: float
    port: int | None
    outcomes: tuple[Outcome, ...]
    capture: Capture
    path: Path
    without: str
    trouble: str
    elapsed: float
    numbers: tuple[tuple[int | None, ...], ...] = ()
    told: tuple[str, ...] = ()


async def examine(lab: Lab, name: str, what: str, place: Place, report: Report) -> Examination:
    """Try the rules that `what` names on a guest: "all", a suite, or one rule; or fuzz it (`Fuzz`).

    The guest goes back to its state from before where that can be kept; all frames are in a capture of its card.

    Raises:
        RequestInvalid: No such rules; or the wire spoils what is sent, or the network has no room for the neighbour.
        GuestSilent: The guest was not found by ARP, or answers no health check.
        GuestError: It has ended, or another examination of it is in progress.
        CaptureError, NetworkError: What the frames need cannot be opened.
    """
    fuzz = Fuzz.of(what)
    rules = mutations.sources(catalogue.chosen(catalogue.ALL)) if fuzz else catalogue.chosen(what)
    card = _card(lab, name)
    impairment = card.plug.impairment
    started = anyio.current_time()
    await to_thread(decode.load)
    guest = lab.guest(name)
    async with _alone(guest), _capturing(lab, card) as capture, neighbor(card) as wire:
        machine, path = guest.machine, capture.session.path
        wanted = set().union(*map(needed, rules))
        seen, kind, slowest, patience = await met(wire, card, place, wanted, machine.trouble)
        names = seen.names
        port = names.get("port")
        async with keeping(machine, lab.chronicle) as kept:
            examiner = Examiner(wire, names, seen.crowd, kind, patience, partial(anyio.sleep, _REST))
            course = _Course(examiner, guest, wire, kept, card.plug, impairment, report)
            outcomes = await (course.fuzzed(fuzz, rules, path) if fuzz else course.tried(rules))
    numbers = await reading(path, evidence.numbers, path, outcomes)
    return Examination(
        address=str(names["guest"]),
        neighbor=str(names["us"]),
        health=kind,
        answer_seconds=slowest,
        port=int(port) if port else None,
        outcomes=tuple(outcomes),
        capture=capture,
        path=path,
        without=kept.without,
        trouble=kept.trouble,
        elapsed=anyio.current_time() - started,
        numbers=numbers,
        told=(
            *course.notes,
            *([health.NO_ADDRESS] if kind == "dhcp" else ()),
            *(_ALONE if what == catalogue.ALL else ()),
        ),
    )


def _card(lab: Lab, name: str) -> Card:
    card = lab.card_of(name)
    plug = card.plug
    if not plug.up or not plug.impairment.is_faithful:
        raise RequestInvalid(
            f"not all that is sent to the guest {name} comes to it as it was sent",
            evidence=plug.impairment.words if plug.up else "its cable is pulled",
            cure="qemu_link(up=true) gives it a good wire again",
        )
    return card


@asynccontextmanager
async def _alone(guest: Guest) -> AsyncIterator[None]:
    name = guest.machine.name
    if guest.examination.locked():
        raise GuestBusy(f"the guest {name} is being examined", evidence="by another call", cure="Wait for its answer")
    async with guest.examination:
        yield


@asynccontextmanager
async def _capturing(lab: Lab, card: Card) -> AsyncIterator[Capture]:
    capture = await lab.start_capture(await to_thread(partial(CaptureRequest, card.name)))
    try:
        yield capture
    finally:
        await lab.captures.stop(capture)


@dataclass
class _Course:
    """The rules of one examination, one after the other. `impairment` is that of the guest's wire when it began."""

    examiner: Examiner
    guest: Guest
    wire: Neighbor
    kept: Kept
    plug: Plug
    impairment: Impairment
    report: Report
    notes: list[str] = field(default_factory=list)
    _lost: str = ""  # why nothing more can be tried
    _told: float = field(default=0.0, init=False)
    _mark: Mark = field(default=Mark(), init=False)  # what had been told when the guest was last put back

    @property
    def machine(self) -> Machine:
        """The guest's."""
        return self.guest.machine

    async def tried(self, rules: Sequence[Rule]) -> list[Outcome]:
        """What came of each."""
        outcomes = []
        for number, rule in enumerate(rules):
            await self._tell(number, len(rules), rule.name)
            is_left = rule.long and len(rules) > 1 and not self._lacking(rule)
            outcomes.append(_left(rule) if is_left else await self._try(rule))
        return outcomes

    async def _tell(self, done: float, total: float, message: str) -> None:
        if anyio.current_time() - self._told > _TELL_EVERY:
            self._told = anyio.current_time()
            await self.report(done, total, message)

    async def fuzzed(self, fuzz: Fuzz, rules: Sequence[Rule], capture: Path) -> list[Outcome]:
        """What kills it of frames that are made of the rules', each time from the snapshot; files beside the capture
        have what does.

        Raises:
            GuestExited: It was shut down.
        """
        if not self.kept.is_there:
            reason = f"frames that kill are looked for from a snapshot, and there is none: {self.kept.without}"
            return [Outcome(evidence.rule(0), Verdict.CANNOT_TELL, reason)]
        began = anyio.current_time()

        async def tell(message: str) -> None:
            await self._tell(min(anyio.current_time() - began, fuzz.seconds), fuzz.seconds, message)

        names = self.examiner.fresh()
        known = await to_thread(mutations.seeds, rules, names)
        lacking = Counter(chain.from_iterable(map(self._lacking, rules)))
        self.notes += [f"without the frames of {number} rules: {why}" for why, number in lacking.items()]
        lost = self.wire.lost()
        greeting = health.greeting(names)
        meter = Meter(fuzz.command, self._printed) if fuzz.command else None
        async with guiding.guiding(self.guest, fuzz.seed) as guide:
            cases = guide.cases(mutations.cases(known, fuzz.seed))
            parts = (self._afresh, self._wrong, tell, greeting, meter, guide, known)
            hunt = fuzzing.Hunt(self.examiner, self.wire, cases, *parts)
            try:
                await hunt.go(fuzz.seconds)
            except fuzzing.ENDS as error:
                await self._death()
                hunt.ended = self._why(error)
        self.notes += hunt.told(fuzz.seed, self.wire.lost() - lost)
        return await evidence.outcomes(hunt, capture)

    async def _printed(self, command: str) -> str | None:
        output = await self.machine.send(command, (), _CONSOLE_SECONDS)
        return output.text if output.matched else None

    def _why(self, error: Exception) -> str:
        """Why nothing more was tried, in words."""
        if self._has_other_wire():
            return "qemu_link changed the guest's wire meanwhile: frames may not have come"
        return error.problem if isinstance(error, RawtapError) else "put back, it answers nothing"

    async def _wrong(self) -> str:
        """How it died since it was put back, or what its console told of a fault.

        Raises:
            GuestExited: It was shut down.
            Deaf: Neither is known, and its silence would say nothing: qemu_link changed its wire.
        """
        told = self.machine.trouble_since(self._mark)[1]
        faults = "; ".join(each for each in told if not each.startswith(_LATE))
        wrong = await self._death() or (f"its console told of {faults}" if faults else "")
        if not wrong and self._has_other_wire():
            raise Deaf(None)
        return wrong

    def _lacking(self, rule: Rule) -> list[str]:
        """What it needs that is not there, in words."""
        lacking = needed(rule) & (_NEEDED.keys() - self.examiner.names.keys())
        if dns.RESOLVER in lacking:  # what it would do is not known
            lacking -= {"told", dns.OTHER_NAMES}
        return [_NEEDED[each].format(**self.examiner.names) for each in sorted(lacking)]

    async def _try(self, rule: Rule) -> Outcome:
        if lacking := self._lacking(rule):
            return Outcome(rule, Verdict.CANNOT_TELL, "; ".join(lacking))
        if self._lost:
            return Outcome(rule, Verdict.CANNOT_TELL, self._lost)
        outcome = await self._judged(rule)
        if self._has_other_wire():
            self._lost = f"qemu_link changed the guest's wire in {rule.name}: frames may not have come"
            return Outcome(rule, Verdict.CANNOT_TELL, self._lost)
        return outcome

    def _has_other_wire(self) -> bool:
        """Each call of qemu_link makes an impairment of its own, and has the lock until its wire is as it says."""
        return self.plug.lock.locked() or self.plug.impairment is not self.impairment

    async def _judged(self, rule: Rule) -> Outcome:
        try:
            await self._afresh()
            outcome = await self.examiner.judge(rule, afresh=self._once_more)
            await self._notice_death()
        except Deaf as deaf:
            return await self._silenced(rule, deaf)
        except GuestError as error:
            await self._death()
            self._lost = f"the guest could not be put back: {error.problem}"
            return Outcome(rule, Verdict.CANNOT_TELL, self._lost)
        return outcome

    async def _once_more(self) -> None:
        await self._notice_death()
        await self._afresh()

    async def _notice_death(self) -> None:
        """Of a guest without an address no health check tells.

        Raises:
            Deaf: It died since it was put back.
        """
        if self.examiner.kind == "dhcp" and await self._death():
            raise Deaf(self.examiner.last)

    async def _afresh(self) -> None:
        await self.kept.restore()
        self._mark = self.machine.mark()
        self.wire.frames.clear()

    async def _silenced(self, rule: Rule, deaf: Deaf) -> Outcome:
        """The guest answers nothing any more: whether it died, and of which frame."""
        death = await self._death()
        can_go_on = self.kept.is_there and self.machine.running
        if deaf.sent is None:  # no frame of this rule's is to blame
            of_what = f": {death}" if death else ""
            self._lost = "" if can_go_on else f"the guest {health.NOTHING[self.examiner.kind]}{of_what}"
            reason = f"the guest {health.NOTHING[self.examiner.kind]} before this rule{of_what}"
            return Outcome(rule, Verdict.CANNOT_TELL, reason)
        if can_go_on:
            return await self._again(rule, deaf, death)
        if death:
            self._lost = f"the guest died in {rule.name}: {death}"
            return _died(rule, death, deaf.sent)
        self._lost = f"the guest answers no health check since {rule.name}"
        reason = (
            f"{self._hanging()}, since this rule's frames. Its stack may hang; a program of its that answered, and "
            "ended, looks the same"
        )
        return replace(_died(rule, reason, deaf.sent), verdict=Verdict.CANNOT_TELL)

    async def _again(self, rule: Rule, deaf: Deaf, death: str) -> Outcome:
        """Play the rule again, frame by frame: which one is the guest's death?"""
        then = "did not when the same was played again, frame by frame"
        try:
            await self._afresh()
            await self.examiner.once(rule, careful=True)
            await self._notice_death()
        except Deaf as again:
            now = await self._death()
            if again.sent is not None:
                return _died(rule, now or death or self._hanging(), again.sent)
            then = "answered none either when it was put back, before the rule's first frame"
        except GuestError as error:
            await self._death()
            self._lost = f"the guest could not be put back: {error.problem}"
            then = "could not be put back to be asked again"
        if death:
            return _died(rule, f"{death}; it {then}", deaf.sent)
        reason = f"the guest stopped to answer health checks, and {then}"
        return replace(_died(rule, reason, deaf.sent), verdict=Verdict.CANNOT_TELL)

    async def _death(self) -> str:
        """How the guest died since it was put back, by QEMU or its console; "" where neither says so.

        Raises:
            GuestExited: It was shut down, and no frame is to blame.
        """
        if self.wire.gone:
            await self.machine.settle()
        await checkpoint()  # whoever shut it down goes on first
        if self.guest.lock.locked() or self.guest.ended:
            raise self.machine.exited()
        if self.machine.exit is not None:
            return f"QEMU ended: {self.machine.exit}"
        return self.machine.trouble_since(self._mark)[0]

    def _hanging(self) -> str:
        """That it answers nothing; with what its console told of faults that a kernel may go on after."""
        told = "; ".join(self.machine.trouble_since(self._mark)[1])
        return f"it answers nothing any more{told and f'; its console told of {told}'}"


def _left(rule: Rule) -> Outcome:
    reason = f"not run with others, since it may take {rule.long} s and more: ask for {rule.name} alone"
    return Outcome(rule, Verdict.CANNOT_TELL, reason)


def _died(rule: Rule, how: str, sent: bytes | None) -> Outcome:
    frames = (Passed(sent, from_guest=False),) if sent else ()
    behind = f", after {told(sent)}" if sent else ""
    return Outcome(rule, Verdict.DIED, f"{how}{behind}", frames=frames)
