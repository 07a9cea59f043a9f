"""A page of the timeline: what the Lab's guests, captures and journal hold since a cursor, merged.

Theory of operation. *The clock* is CLOCK_REALTIME, since libpcap and QEMU stamp with it; console bytes and notes of the
journal are stamped with it when they come. The kernel tells of a changed interface without a time: it has the time at
which it was read, on a busy machine some milliseconds late. When the machine's clock is set, times jump with it, in all
sources.

*The horizon.* A page must not end behind a moment of which something may still come. Console, QMP and journal belong to
the event loop, or to a lock: what they hold at one moment of the loop, `at_ns`, is everything up to then. A packet gets
into its file some milliseconds after the wire, so each running capture is asked behind that moment to catch up with
the kernel's own count, and is waited for. Of the packets those belong to the page that were saved at `at_ns`, or are
stamped before it; the younger ones wait for the next page, like everything else that comes meanwhile.
Two things can come late, and then stand at the front of the next page with their true times: a QMP event, which QEMU
may hold back for up to a second (its rate limits, qemu/monitor/monitor.c), and a packet of a capture that did not
catch up in time, of which a warning tells.

*The cost.* Files are read from the place in the cursor on, and only as far as the page needs; a filter reads on to its
next match, once, since the place before that is in the cursor. A file is not even opened before the page comes to the
time when its capture began.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.ask.timeline import cursor
from rawtap.ask.timeline.merge import SOURCES, Item, Listed, Merged, Position, SourceName, Stream, merge
from rawtap.blocking import reading
from rawtap.capture import filters
from rawtap.errors import CaptureFailed, RequestInvalid
from rawtap.guest import log
from rawtap.guest.log import GuestLog
from rawtap.lab.captures import Capture
from rawtap.lab.lab import Lab
from rawtap.lab.observation import Scene
from rawtap.packets import lines
from rawtap.packets.reader import Raw
from rawtap.packets.tail import Tail, behind

_CHARACTERS = 160  # of an answer's JSON for each event that is asked for
_USUAL_LIMIT = 50
_EARLY_NS = 50_000_000  # that a capture's first packet may be older than its start


@dataclass(frozen=True)
class Question:
    """What is asked for; without a name or an id everything of its kind."""

    sources: frozenset[SourceName] = frozenset(SOURCES)
    filter: str = ""
    name: str | None = None
    capture: str | None = None

    def text(self, lab: Lab) -> str:
        """For the cursor: what must stay the same."""
        sources = ",".join(sorted(self.sources))
        return repr((lab.chronicle.started_ns, sources, self.filter, self.name, self.capture))


@dataclass(frozen=True)
class TimelinePage:
    """Events in their order, the cursor for what follows, whether something may be there already, and what is lost."""

    items: tuple[Item, ...]
    next_cursor: str
    more: bool
    warnings: tuple[str, ...]


async def page(lab: Lab, question: Question, since: str | None, limit: int, *, at_end: bool = False) -> TimelinePage:
    """What happened since a cursor, or since the server's start; `at_end` of a Lab that is being released, or is.

    Raises:
        RequestInvalid: A cursor that is none, or of another question.
        GuestNotRunning, CaptureUnknown: No such guest or capture.
        BadFilter: With libpcap's text.
        CaptureUnreadable: A capture's file cannot be read.
        DiskStalled: The disk of the captures' folder does not answer.
    """
    if not at_end:
        lab.require_open()
    if question.filter and "packet" not in question.sources:
        raise RequestInvalid("filter selects packets, and sources leaves them out", cure="Add packet to sources")
    places = cursor.decode(since, question.text(lab)) if since is not None else {}
    await to_thread(filters.checked, question.filter)
    if not at_end:
        await lab.interfaces.catch_up()
        await lab.interfaces.learn()
    wanted = _captures(lab, question)
    for capture in wanted:
        if capture.session.running:
            lab.chronicle.look_for_drops(capture.id, capture.session)
    # From here to the next await nothing else runs in the event loop: this is the page's moment.
    gathering = _Gathering(question, places, limit, time.time_ns())
    gathering.add_journal(lab)
    gathering.add_guests(lab)
    if "packet" in question.sources:
        gathering.add_captures(wanted, lab)
        await gathering.catch_up()
    return await reading(lab.settings.capture_dir, gathering.finish, question.text(lab))


def _captures(lab: Lab, question: Question) -> list[Capture]:
    if question.capture is not None:
        return [lab.captures.get(question.capture)]
    return lab.captures.all()


@dataclass
class _Gathering:
    """One page in the making. `add_…` run in the event loop, `finish` in a worker thread."""

    question: Question
    since: Mapping[str, Position]
    limit: int
    at_ns: int
    streams: list[Stream] = field(default_factory=list)
    packets: list[_Packets] = field(default_factory=list)
    kept: dict[str, Position] = field(default_factory=dict)  # places that are no stream's
    warnings: list[str] = field(default_factory=list)

    def add_journal(self, lab: Lab) -> None:
        """The server's own events."""
        if "event" not in self.question.sources:
            return
        (start,) = self.since.get("j", (0,))
        notes, lost = lab.chronicle.journal.since(start)
        end = notes[-1].number + 1 if notes else start + lost
        items = [
            Item(
                note.at_ns, "event", note.text, (note.number,), (note.number + 1,), note.kind, note.guest, note.capture
            )
            for note in notes
            if note.guest in {None, self.question.name or note.guest}
            and note.capture in {None, self.question.capture or note.capture}
        ]
        self._tell_lost(lost, "events of the server's own")
        self.streams.append(Listed("j", "event", items, (start,), (end,)))

    def add_guests(self, lab: Lab) -> None:
        """Consoles and QMP events; a name must be that of a guest that is known."""
        name = self.question.name
        logs = [each for each in lab.chronicle.logs.all() if name in {None, each.name}]
        if name is not None and not logs:
            lab.guest(name)
        (known,) = self.since.get("b", (0,))
        for number, tally in lab.chronicle.logs.forgotten().items():
            for stream, end, what in (("c", tally.console, "console bytes"), ("q", tally.events, "QMP events")):
                (start,) = self.since.get(f"g{number}{stream}", (end if number <= known else 0,))
                if name in {None, tally.name} and _SOURCE_OF[stream] in self.question.sources:
                    self._tell_lost(end - start, f"{what} of the guest {tally.name}, with its next boot,")
        for each in logs:
            self._add_console(each)
            self._add_qmp(each)
        self.kept["b"] = (lab.chronicle.logs.counter,)

    def _add_console(self, guest: GuestLog) -> None:
        if "console" not in self.question.sources:
            return
        stream, history = f"g{guest.number}c", guest.machine.console.history
        (start,) = self.since.get(stream, (0,))
        self._tell_lost(history.start - start, f"console bytes of the guest {guest.name}")
        found, end = log.pieces(history, start, self.limit + 1)
        items = [
            Item(
                each.at_ns,
                "console",
                each.text,
                (each.start,),
                (each.end,),
                guest=guest.name,
                unfinished=each.unfinished,
            )
            for each in found
        ]
        self.streams.append(Listed(stream, "console", items, (start,), (end,)))

    def _add_qmp(self, guest: GuestLog) -> None:
        if "qmp" not in self.question.sources:
            return
        stream, events = f"g{guest.number}q", guest.machine.events
        (start,) = self.since.get(stream, (0,))
        self._tell_lost(events.start - start, f"QMP events of the guest {guest.name}")
        first = max(start, events.start)
        items = [
            Item(each.at_ns, "qmp", each.data, (number,), (number + 1,), each.name, guest.name)
            for number, each in enumerate(events.since(first, self.limit + 1), first)
        ]
        self.streams.append(Listed(stream, "qmp", items, (start,), (first + len(items),)))

    def add_captures(self, captures: list[Capture], lab: Lab) -> None:
        """Add the captures' packets. A capture that was read to its end is not read again."""
        (done,) = self.since.get("d", (0,))
        self.kept["d"] = (done,)
        for each in captures:
            if (number := _number(each.id)) > done:
                place = self.since.get(each.id, (0, 0))
                self.packets.append(_Packets(each, number, self.question.filter, place, self.at_ns, lab.scene))
        gone = [name for name in self.since if name[0] == "c" and name not in lab.captures]
        self.warnings += [
            f"the capture {name} is no longer listed: its remaining packets are not told" for name in gone
        ]
        self.streams += self.packets

    async def catch_up(self) -> None:
        """Wait until the files have what was on the wire. A capture that does not answer gives a warning."""
        async with anyio.create_task_group() as group:
            for each in self.packets:
                if each.running:
                    group.start_soon(self._catch_up, each)

    async def _catch_up(self, packets: _Packets) -> None:
        try:
            await packets.capture.notifier.caught_up()
        except (CaptureFailed, OSError) as error:
            packets.late = True
            self.warnings.append(f"the newest packets of {packets.name} may come late, on a later page: {error}")

    def finish(self, question: str) -> TimelinePage:
        """Merge; reads files."""
        merged = merge(self.streams, self.limit, _CHARACTERS * max(self.limit, _USUAL_LIMIT))
        for each in self.packets:
            self._tell_lost(each.gone, f"packets of {each.name}, with their files,")
        places = {**merged.places, **self.kept}
        self._drop_done(merged, places)
        return TimelinePage(merged.items, cursor.encode(places, question), merged.more, tuple(self.warnings))

    def _drop_done(self, merged: Merged, places: dict[str, Position]) -> None:
        """Shorten the cursor: one number for all captures that were read to their end, nothing for those not begun."""
        all_before = True
        for each in sorted(self.packets, key=lambda packets: packets.number):
            all_before = all_before and each.is_done(merged.places[each.name])
            if all_before:
                places["d"] = (each.number,)
            if all_before or not any(places[each.name]):
                del places[each.name]

    def _tell_lost(self, count: int, what: str) -> None:
        if count > 0:
            self.warnings.append(f"{count} {what} were forgotten before they were asked for")


_SOURCE_OF: dict[str, SourceName] = {"c": "console", "q": "qmp"}


def _number(capture_id: str) -> int:
    return int(capture_id[1:])


@dataclass
class _Packets:
    """The packets of one capture, as far as they belong to the page: a stream of the merge.

    Attributes:
        running: Whether more may come, at the page's moment.
        late: It has not caught up with the wire.
        gone: Packets that were removed with their files before they were read.
    """

    capture: Capture
    number: int
    expression: str
    start: Position
    at_ns: int
    scene: Scene
    late: bool = False
    gone: int = 0
    source: SourceName = "packet"

    def __post_init__(self) -> None:
        session = self.capture.session
        self.name = self.capture.id
        self.running = session.running
        self.end = self.start
        self.not_before_ns = 0 if self.start[0] else session.started_ns - _EARLY_NS
        self._saved = session.saved

    def items(self) -> Iterator[Item]:
        """See rawtap.ask.timeline.merge.Stream."""
        packets, offset = self.start
        tail = Tail(self.capture.parts, self.expression, behind(self.capture.parts(), packets, offset or None))
        while found := tail.take(1):
            raw = found[0]
            self.gone = tail.missed
            before = (raw.number - 1, tail.before or 0)
            if raw.time_ns > self.at_ns and raw.number > self._saved:
                self.end = before
                return
            text = self._text(lines.describe(raw.data, raw.length, raw.origin.link_type), raw)
            yield Item(raw.time_ns, "packet", text, before, (raw.number, tail.offset or 0), capture=self.name)
        self.end = (tail.reached, tail.offset or 0)
        self.gone = tail.missed
        if tail.reached < self._saved and not self.late:
            self.gone += self._saved - tail.reached
            self.end = (self._saved, 0)

    def _text(self, line: lines.PacketSummary, raw: Raw) -> str:
        direction = self.scene.direction(line.source_mac, line.destination_mac, raw.origin)
        return f"{f'{direction}: ' if direction else ''}{line} ({raw.length} bytes)"

    def is_done(self, place: Position) -> bool:
        """Whether nothing follows that place."""
        return not self.running and place[0] >= self._saved
