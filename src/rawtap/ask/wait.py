"""Waiting for packets: what a capture saves is looked at as it comes, and what came instead is told.

Theory of operation. Everything is counted in packets of the capture, never by time stamps: a clock may be set. The
capture's own thread says which packet was the last on the wire when the call came, and when its time was over; what is
between is what is judged, be it in the file at once or some milliseconds later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import reading
from rawtap.capture import filters
from rawtap.errors import RequestInvalid
from rawtap.lab import halts
from rawtap.lab.captures import Capture
from rawtap.lab.lab import Lab
from rawtap.packets import lines, reader
from rawtap.packets.reader import Detail, Line, Raw
from rawtap.packets.tail import Start, Tail, behind

Since = Literal["now", "start"] | int
Progress = Callable[[float, str], Awaitable[None]]

_PROGRESS_SECONDS = 1.0
_OTHERS = 2000  # packets that are looked at for what came instead
_PROTOCOLS = 8
_LOOK_BACK = 1_000_000  # packets, and what is in the file of the first of them; a quarter of a second
_EARLIER = 100
_SHOWN_NUMBERS = 5


@dataclass(frozen=True)
class Wish:
    """What is waited for: `count` packets that pass `expression`, for `timeout` seconds; `absent`: that there is none.

    `since` says from where on: this call, the capture's first packet, or behind the packet of that number. `stop`: the
    guest is stopped when they are there.
    """

    expression: str
    count: int
    timeout: float
    absent: bool
    since: Since
    stop: bool = False


@dataclass(frozen=True)
class Others:
    """Packets that did not match: how many there were of a protocol, and the last of them."""

    protocol: str
    packets: int
    last: Line


@dataclass(frozen=True)
class Evidence:
    """What is known when a wait ends.

    Attributes:
        matched: Packets that match.
        looked_at: Packets of the capture that were.
        overwritten: Packets that a ring removed before they could be looked at.
        dropped: Packets that the kernel dropped meanwhile; None where that is not known.
        ended: Why the capture ended, None while it runs.
        whole: It had ended before the wait began: there is nothing to wait for.
        earlier: The numbers of packets that match and came before this call, where it was in vain; not all of many.
        lacking: What files lack of what was saved in them, in words.
        halted: That a debugger holds the guest, in words, where the wait ended for it.
    """

    matched: int
    looked_at: int
    overwritten: int
    dropped: int | None
    ended: str | None
    whole: bool
    earlier: tuple[int, ...] = ()
    lacking: tuple[str, ...] = ()
    halted: str | None = None

    @property
    def told_earlier(self) -> str:
        """What came before the call, in words; empty where nothing did."""
        if not self.earlier:
            return ""
        count = f"{_EARLIER} or more" if len(self.earlier) == _EARLIER else str(len(self.earlier))
        shown = ", ".join(map(str, self.earlier[:_SHOWN_NUMBERS]))
        more = ", ..." if len(self.earlier) > _SHOWN_NUMBERS else ""
        return f'; {count} matched before this call ({shown}{more}): since="start" counts them'

    @property
    def lost(self) -> str:
        """What was lost, in words; empty where nothing was."""
        found = [f"the kernel dropped {_packets(self.dropped)}"] if self.dropped else []
        found += ["what the kernel dropped is not known"] if self.dropped is None else []
        found += [f"{_packets(self.overwritten)} overwritten unread"] if self.overwritten else []
        return " and ".join([*found, *self.lacking])


@dataclass(frozen=True)
class Waited:
    """How a wait ended.

    `packets` are the first of the `matched` ones that fit into an answer; `others` is what came instead, by protocol,
    the commonest first. `reached` is the number of the last packet that was looked at, or shown, if not all fitted.
    `stopped_after` are seconds from the last of the packets to the guest's standing still, None where it runs.
    """

    capture: Capture
    satisfied: bool
    reason: str
    packets: tuple[Line, ...]
    matched: int
    looked_at: int
    reached: int
    others: tuple[Others, ...]
    elapsed: float
    stopped_after: float | None = None


def _packets(number: int) -> str:
    return "1 packet" if number == 1 else f"{number} packets"


def judge(wish: Wish, seen: Evidence) -> tuple[bool, str]:
    """Whether the wish came true, and why so, or why not."""
    told = f"{seen.matched} of {seen.looked_at} packets match"
    when = "in the capture" if seen.whole else f"within {wish.timeout:g} s"
    if seen.ended and not seen.whole:
        when = f"before the capture ended ({seen.ended})"
    elif seen.halted:
        when = f"by now, and {seen.halted}"
    if not wish.absent:
        done = seen.matched >= wish.count
        doubt = "" if done else ": what was waited for may be among them"
        return done, f"{told} {when}" + (f"; {seen.lost}{doubt}" if seen.lost else "") + seen.told_earlier
    if seen.matched:
        return False, f"{told}: what should be absent came"
    if seen.lost:
        return False, f"{told} {when}, but {seen.lost}: what should be absent may be among them{seen.told_earlier}"
    if (seen.ended and not seen.whole) or seen.halted:
        return False, f"{told} {when}, and that was not the whole time{seen.told_earlier}"
    return True, f"{told} {when}{seen.told_earlier}"


async def wait(lab: Lab, capture_id: str | None, wish: Wish, detail: Detail, tell: Progress) -> Waited:
    """Wait for packets of a running capture, or look for them in one that has ended.

    Raises:
        CaptureUnknown: There is no such capture.
        RequestInvalid: The capture has ended and `since` is "now", or `since` is a packet that is not there yet.
        BadFilter: With libpcap's text.
        CaptureUnreadable: A file of it cannot be read.
        CaptureFailed: The capture's thread does not answer.
        DiskStalled: The disk of its files does not answer.
    """
    lab.require_open()
    await to_thread(filters.checked, wish.expression)
    capture = lab.captures.get(capture_id, running=wish.since == "now")
    if wish.stop:
        require_stoppable(lab, capture, wish)
    watch = _Watch(capture, wish, lambda: halts.halted_on(lab, capture.interface))
    with capture.notifier.listening():
        await watch.begin()
        await tell(0.0, "armed")
        with anyio.move_on_after(wish.timeout):
            await watch.follow(tell)
        stopped_after = await _stop(lab, capture, wish, watch.last)
        seen = await watch.end()
        if stopped_after is None:  # packets that were on the wire in time, and in the file some ms later
            stopped_after = await _stop(lab, capture, wish, watch.last)
    satisfied, reason = judge(wish, seen)
    if seen.halted and seen.halted in reason:
        halts.note_told(lab, capture.interface)
    if not seen.looked_at and (diagnosis := (await lab.captures.report(capture, at_once=True)).diagnosis):
        reason += f": {diagnosis}"
    waited = await reading(capture.session.path, watch.shown, satisfied, reason, detail)
    return replace(waited, stopped_after=stopped_after)


async def _stop(lab: Lab, capture: Capture, wish: Wish, last: Raw | None) -> float | None:
    """Stop the guest, if that is wished for and `last` is there; seconds from that packet on until it stood."""
    if not wish.stop or last is None:
        return None
    stood_ns = await halts.halt_at(lab, capture.interface, last.number)
    return round((stood_ns - last.time_ns) / 1e9, 6)


def require_stoppable(lab: Lab, capture: Capture, wish: Wish) -> None:
    """Refuse to stop a guest where that could mean none, or several, or nothing that comes.

    Raises:
        RequestInvalid: With what is wrong.
    """
    if wish.absent or wish.since != "now":
        raise RequestInvalid("stop=true is for packets to come", cure="Leave absent and since away")
    halts.require_one(lab, capture.interface)


class _Watch:
    """One wait for packets of a capture."""

    def __init__(self, capture: Capture, wish: Wish, halted: Callable[[], str | None]) -> None:
        self._capture, self._session, self._wish = capture, capture.session, wish
        self._halted = halted
        self._cut_short: str | None = None
        self._enough = 1 if wish.absent else wish.count
        self._started = anyio.current_time()
        self._whole = not self._session.running
        self._dropped = (self._session.snapshot().dropped_kernel or 0) if wish.since == "now" else 0
        self._found: list[Raw] = []
        self._elapsed = 0.0

    async def begin(self) -> None:
        """Find where to begin: where the capture says that it is now."""
        place = await self._capture.notifier.caught_up()
        if self._wish.since == "start":
            self._start = Start(1, None, 0, 0)
        elif self._wish.since != "now":
            self._start = self._behind(self._wish.since)
        elif place is not None:
            self._start = Start(place.file, place.offset, place.packets, place.promised)
        else:
            raise RequestInvalid(
                f"the capture {self._capture.id} has ended: nothing more comes",
                cure='since="start" looks at what it saved; qemu_pcap_start starts another',
            )
        self._tail = Tail(self._capture.parts, self._wish.expression, self._start)

    def _behind(self, number: int) -> Start:
        snapshot = self._session.snapshot()
        saved = snapshot.packets_overwritten + snapshot.packets
        if number > saved:
            raise RequestInvalid(
                f"since={number} is not there yet: the capture has saved {saved} packets",
                cure='Give the number of one of them, or since="now"',
            )
        return behind(self._capture.parts(), number, None)

    async def follow(self, tell: Progress) -> None:
        """Look at packets as they come, until there are enough of them or no more can come."""
        due = self._started + _PROGRESS_SECONDS
        while True:
            changed, running = self._capture.notifier.changed, self._session.running
            await self._look()
            if len(self._found) >= self._enough or not running:
                return
            self._cut_short = self._halted()
            if self._cut_short:
                return
            with anyio.move_on_at(due):
                await changed.wait()
            if anyio.current_time() >= due:
                await tell(due - self._started, f"{len(self._found)} of {self._enough}; {self._looked_at} looked at")
                due += _PROGRESS_SECONDS

    @property
    def last(self) -> Raw | None:
        """The packet with which the wish came true; None while it has not."""
        return self._found[-1] if len(self._found) >= self._enough else None

    async def _look(self) -> None:
        # A thread that has begun is not left alone by a cancellation: what it took is kept.
        with anyio.CancelScope(shield=True):
            self._found += await reading(self._session.path, self._tail.take, self._enough - len(self._found))

    @property
    def _looked_at(self) -> int:
        return max(0, self._tail.reached - self._start.after - self._tail.missed)

    async def end(self) -> Evidence:
        """What is known now. A packet counts if it was on the wire in time, even if it is in the file some ms later."""
        if len(self._found) < self._enough and self._session.running:
            place = await self._capture.notifier.caught_up()
            await self._look()
            if place:
                self._found = [raw for raw in self._found if raw.number <= place.promised]
        snapshot = self._session.snapshot()
        self._elapsed = anyio.current_time() - self._started
        return Evidence(
            matched=len(self._found),
            looked_at=self._looked_at,
            overwritten=self._tail.missed,
            dropped=None if snapshot.dropped_kernel is None else snapshot.dropped_kernel - self._dropped,
            ended=snapshot.reason,
            whole=self._whole,
            earlier=await reading(self._session.path, self._earlier),
            lacking=self._tail.lacking,
            halted=self._cut_short,
        )

    def _earlier(self) -> tuple[int, ...]:
        """What matched before a call that was in vain. Hosts call one after another: it may be what was waited for."""
        after = self._start.after
        if self._wish.since != "now" or len(self._found) >= self._enough or not after:
            return ()
        start = behind(self._capture.parts(), max(0, after - _LOOK_BACK), None)
        found = Tail(self._capture.parts, self._wish.expression, start).take(_EARLIER)
        return tuple(raw.number for raw in found if raw.number <= after)

    def shown(self, satisfied: bool, reason: str, detail: Detail) -> Waited:
        """The answer, with the packets decoded; blocks."""
        to_line = partial(reader.line_of, start_ns=self._session.started_ns, detail=detail)
        packets = reader.fitting((to_line(raw) for raw in self._found), self._enough)
        cut = len(packets) < len(self._found)
        return Waited(
            capture=self._capture,
            satisfied=satisfied,
            reason=reason,
            packets=tuple(packets),
            matched=len(self._found),
            looked_at=self._looked_at,
            reached=packets[-1].number if cut else max(self._tail.reached, self._start.after),
            others=() if len(self._found) >= self._enough else tuple(self._others()),
            elapsed=self._elapsed,
        )

    def _others(self) -> Iterator[Others]:
        """The last packets that did not match, by protocol: a line each, whatever `detail` is, to fit an answer."""
        found = {raw.number for raw in self._found}
        after = max(self._start.after, self._tail.reached - _OTHERS)
        packets = Tail(self._capture.parts, "", self._start._replace(after=after)).take(_OTHERS)
        by_protocol: dict[str, list[Raw]] = {}
        for raw in packets:
            if raw.number not in found:
                protocol = lines.describe(raw.data, raw.length, raw.origin.link_type).protocol
                by_protocol.setdefault(protocol, []).append(raw)
        commonest = sorted(by_protocol.items(), key=lambda each: -len(each[1]))
        for protocol, some in commonest[:_PROTOCOLS]:
            line = reader.line_of(some[-1], self._session.started_ns, "summary")
            yield Others(protocol, len(some), line)
