"""What a watcher is told: what happened since it asked last, and how everything stands.

Theory of operation. Nothing is kept for a watcher but its places in what the Lab keeps anyway, which is bounded: the
consoles, the journal, the files. It asks for a page when it has shown the one before. So one that is slow, or stands
still, holds nobody up; what the Lab forgot meanwhile, or what came too fast to be looked at, it is told the number of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rawtap.ask.newest import Newest
from rawtap.ask.timeline import gather
from rawtap.ask.timeline.merge import Item
from rawtap.errors import RawtapError, ServerStopping
from rawtap.lab.captures import Capture
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.packets.reader import Line
from rawtap.watched.calls import CallLog

_EVENTS = 200  # of a Lab in a page, and packets of all its captures
_BEHIND = 1000  # packets; nobody reads more in the time of a page
_LAST_PAGES = 10
_NANOSECONDS = 1_000_000_000
_OF_GUESTS: gather.Question = gather.Question(frozenset({"event", "console", "qmp"}))

Event = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What may be watched: a client's Lab, once there is one, and its calls; `name` is "" where it is the only one."""

    name: str
    lab: Callable[[], Lab | None]
    calls: CallLog


@dataclass(eq=False)
class _Follower:
    """One watcher's places in one Lab, and in its calls."""

    subject: Subject
    wanted: str | None  # a capture, whose packets alone are told, and what is noted of it
    expression: str
    calls: int = 0
    cursor: str | None = None
    packets: dict[str, Newest] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)  # captures of which nothing more comes
    more: bool = False

    async def look(self) -> list[Event]:
        """What happened since the last look, unordered."""
        self.more = False
        told = list(self._of_calls()) if self.wanted is None else []
        if (lab := self.subject.lab()) is not None:
            told += [*await self._noted(lab), *await self._packets(lab)]
        return told

    def tell_end(self) -> Event:
        """Of its client, when all is told."""
        return self._event("event", time.time_ns(), kind="client_ended", text="this client has ended")

    def _of_calls(self) -> Iterator[Event]:
        notes, lost = self.subject.calls.journal.since(self.calls)
        self.calls += lost + len(notes)
        if lost:
            yield self._event("lost", text=f"{lost} notes of calls were forgotten before they were asked for")
        for note in notes:
            yield self._event("call", note.at_ns, kind=note.kind, text=note.text)

    async def _noted(self, lab: Lab) -> list[Event]:
        try:
            page = await self._page(lab)
        except RawtapError as error:
            return [self._trouble(error)]
        self.cursor, self.more = page.next_cursor, page.more
        items = [each for each in page.items if self.wanted in {None, each.capture}]
        return [*map(self._item, items), *(self._event("lost", text=each) for each in page.warnings)]

    async def _page(self, lab: Lab) -> gather.TimelinePage:
        try:
            return await gather.page(lab, _OF_GUESTS, self.cursor, _EVENTS)
        except ServerStopping:
            return await gather.page(lab, _OF_GUESTS, self.cursor, _EVENTS, at_end=True)

    async def _packets(self, lab: Lab) -> list[Event]:
        found: list[Event] = []
        wanted = [each for each in lab.captures.all() if each.id not in self.done and self.wanted in {None, each.id}]
        for capture in wanted:
            found += await self._of(capture, max(1, _EVENTS // len(wanted)))
        return found

    async def _of(self, capture: Capture, limit: int) -> list[Event]:
        newest = self.packets.get(capture.id)
        if newest is None:
            newest = self.packets[capture.id] = Newest(capture, self.expression, _BEHIND)
        running = capture.session.running  # asked first: one that has ended by then is whole
        try:
            lines = await newest.take(limit)
        except RawtapError as error:
            self._leave(capture)
            lost = self._event("lost", capture=capture.id, text="no more packets of this capture are shown")
            return [self._trouble(error, capture=capture.id), lost]
        told = [self._packet(capture, line) for line in lines]
        if passed := newest.tell_passed():
            told.append(self._event("lost", capture=capture.id, text=f"{passed} packets came too fast to be looked at"))
        if len(lines) == limit:
            self.more = True
        elif not running:
            told += [self._event("lost", capture=capture.id, text=each) for each in newest.lacking]
            self._leave(capture)
        return told

    def _leave(self, capture: Capture) -> None:
        self.done.add(capture.id)
        del self.packets[capture.id]

    def _event(self, source: str, at_ns: int = 0, **told: object) -> Event:
        lab = {"lab": self.subject.name} if self.subject.name else {}
        at = {"time": round(at_ns / _NANOSECONDS, 6)} if at_ns else {}
        return {"source": source, **at, **lab, **{name: each for name, each in told.items() if each is not None}}

    def _trouble(self, error: RawtapError, capture: str | None = None) -> Event:
        return self._event("error", capture=capture, text=str(error))

    def _item(self, item: Item) -> Event:
        return self._event(
            item.source,
            item.at_ns,
            kind=item.kind or None,
            guest=item.guest,
            capture=item.capture,
            text=item.text,
            unfinished=item.unfinished or None,
            bytes=[item.before[0], item.after[0]] if item.source == "console" else None,
        )

    def _packet(self, capture: Capture, line: Line) -> Event:
        at_ns = capture.session.started_ns + round(line.time * _NANOSECONDS)
        text = str(line.summary)
        return self._event("packet", at_ns, capture=capture.id, number=line.number, length=line.length, text=text)


class Watch:
    """One watcher's view of a server: of all that it has, or of one capture's packets that pass `expression`."""

    def __init__(self, subjects: Callable[[], Sequence[Subject]], wanted: str | None, expression: str) -> None:
        self._subjects, self._wanted, self._expression = subjects, wanted, expression
        self._followers: dict[CallLog, _Follower] = {}

    async def page(self) -> dict[str, Any]:
        """What happened since the last page, in its order as far as it is known, and how all stands now. `more` tells
        that more is there already. Of a client that has ended all is told first."""
        subjects = self._subjects()
        there = {each.calls for each in subjects}
        for each in subjects:
            if each.calls not in self._followers:
                self._followers[each.calls] = _Follower(each, self._wanted, self._expression)
        events: list[Event] = []
        more = False
        for calls, follower in list(self._followers.items()):
            events += await follower.look()
            more = more or follower.more
            if calls not in there and not follower.more:
                events.append(follower.tell_end())
                del self._followers[calls]
        events.sort(key=lambda event: event.get("time", 0.0))
        return {"events": events, "labs": [state_of(each) for each in subjects], "more": more}

    async def last(self) -> dict[str, Any]:
        """All that is left to be told; where that is too much, it says so."""
        page = await self.page()
        for _ in range(_LAST_PAGES):
            if not page["more"]:
                break
            following = await self.page()
            page = following | {"events": page["events"] + following["events"]}
        if page["more"]:
            page["events"].append({"source": "lost", "text": "too much happened at the end: the rest is not shown"})
        return page


def state_of(subject: Subject) -> dict[str, Any]:
    """How a Lab stands: its guests, its captures. Nothing in it waits for a disk or a thread."""
    lab = subject.lab()
    guests = [_guest(name, each) for name, each in lab.guests.items()] if lab else []
    captures = [capture_state(each) for each in lab.captures.all()] if lab else []
    return {"name": subject.name, "guests": guests, "captures": captures}


def _guest(name: str, guest: Guest) -> dict[str, Any]:
    machine = guest.machine
    return {
        "name": name,
        "profile": machine.spec.profile.name,
        "pid": machine.pid,
        "state": "running" if machine.running else f"ended: {machine.exit}",
        "cards": [card.name for card in guest.cards],
    }


def capture_state(capture: Capture) -> dict[str, Any]:
    """How a capture stands; `dropped` is None where the kernel's count is not known. What the interface lost is in it
    where that is known."""
    session, now = capture.session, capture.session.snapshot()
    lost = None if now.dropped_kernel is None else now.dropped_kernel + (now.dropped_interface or 0)
    return {
        "id": capture.id,
        "interface": capture.interface,
        "filter": session.request.filter,
        "format": session.request.format,
        "link_type": session.link_type,
        "state": now.state,
        "packets": now.packets + now.packets_overwritten,
        "dropped": lost,
        "error": str(now.error) if now.error else None,
    }
