"""What is wrong on the wire: a capture's packets, or a file's, given to the examiner."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from anyio.to_thread import run_sync as to_thread

from rawtap.ask.behind import behind_the_wire
from rawtap.ask.beyond import bytes_of, dead_end
from rawtap.ask.packets import chosen, lost_told
from rawtap.blocking import on_disk, reading
from rawtap.capture import filters
from rawtap.lab.bridge_services import Outside
from rawtap.lab.captures import Capture
from rawtap.lab.card import Card
from rawtap.lab.lab import Lab
from rawtap.network import links
from rawtap.packets import ends, reader
from rawtap.packets._savefile import Savefile
from rawtap.packets.origin import Origin
from rawtap.packets.tags import ETHERNET, FrameFilter
from rawtap.packets.tail import Part, Start, Tail
from rawtap.packets.verdicts import Given, Subject, state_of

if TYPE_CHECKING:
    from rawtap.packets.explain import Examiner, Place

SECONDS = 30.0  # of one call; clients that hear of progress wait longer
_BATCH = 2000

# A packet: number, nanoseconds since 1970, bytes captured and on the wire, these, and where it was seen.
Seen = tuple[int, int, int, int, bytes, Origin]
Progress = Callable[[float, str], Awaitable[None]]


class Packets(Protocol):
    """Where packets come from; `points` are the interfaces that their file describes, once it was opened."""

    @property
    def points(self) -> tuple[Origin, ...]: ...

    def take(self, limit: int) -> Sequence[Seen]: ...


class _Around(NamedTuple):
    """What is known of where a capture stands, that its packets do not tell."""

    place: Place | None = None
    held_back: Mapping[str, frozenset[str]] | None = None


@dataclass(frozen=True)
class Explained:
    """A verdict on the packets of `source`, a capture's id or a path, and what holds behind the wire now."""

    source: str
    given: Given
    behind: tuple[str, ...] = ()


async def explain(
    lab: Lab,
    capture_id: str | None,
    path: Path | None,
    expression: str,
    before: tuple[int, int] | None,
    tell: Progress,
) -> Explained:
    """Examine the packets that pass `expression`, from the oldest on, as many as there is time for.

    `before` asks for the verdict that was given already, for its next page: how many packets it was on, and its
    `until_ns`. Else what is overdue by now would stand among the findings that were shown.

    Raises:
        CaptureUnknown: There is no such capture.
        CaptureUnreadable: No capture file, or not in a folder that may be read.
        BadFilter: With libpcap's text.
        RequestInvalid: Both, a capture and a path, are given.
        CaptureFailed: The capture's thread does not answer.
        DiskStalled: The file's disk does not answer.
    """
    lab.require_open()
    await to_thread(filters.checked, expression)
    capture, path = await chosen(lab, capture_id, path)
    subject = await on_disk(path or "the capture", _subject, capture, path, expression)
    # What came to a capture since is asked for with the first page.
    given = lab.verdicts.find(subject, before) if before or path else None
    if given is None:
        around = await _around(lab, capture) if capture else _Around()
        given = await _given(capture, path, expression, before, tell, around)
        lab.verdicts.keep(subject, given)
    behind = await behind_the_wire(lab, capture, given)
    if path and not given.verdict.examined and await on_disk(path, reader.has_no_interface, path):
        behind = (*behind, reader.no_interface_told(path.name))
    return Explained(subject.name, given, behind)


def _subject(capture: Capture | None, path: Path | None, expression: str) -> Subject:
    if path is None:
        return Subject(capture.id if capture else "", (), expression)
    try:
        return Subject(str(path), state_of(path), expression)
    except OSError as error:
        raise reader.unreadable(path, error.strerror or str(error)) from error


async def _given(
    capture: Capture | None,
    path: Path | None,
    expression: str,
    before: tuple[int, int] | None,
    tell: Progress,
    around: _Around,
) -> Given:
    if capture:
        await capture.notifier.caught_up()
    parts = capture.parts() if capture else []
    file = _file(capture, path)
    packets = await reading(file, _open, capture, path, expression)
    applied = {expression, capture.session.request.filter if capture else ""} - {""}
    live = capture is not None and capture.live
    # Then what came since the first page is no part of a next one.
    growing = bool(before) and capture is not None and capture.session.running
    load = partial(_examiner, applied, live, isinstance(packets, Tail), around)
    examiner, until_ns, more = await _examine(packets, file, load, before[0] if before else None, tell)
    if before:
        until_ns = before[1]
        more = more and not growing
    elif capture is not None and not more:
        until_ns = max(until_ns, capture.session.until_ns)
    verdict = examiner.result(until_ns, _lost(capture, packets) if capture else 0)
    lost = lost_told(capture, path) if capture and not growing else ()
    lacking = () if more or growing else await reading(file, _lacking, packets, capture, parts, path)
    return Given(verdict, until_ns, more, (*lost, *lacking), packets.tagged if isinstance(packets, Savefile) else 0)


def _lacking(packets: Packets, capture: Capture | None, parts: Sequence[Part], path: Path | None) -> tuple[str, ...]:
    """What the files lack that were read to their end; `parts` are the capture's, as they were before that."""
    if isinstance(packets, Tail):
        return packets.lacking
    if not isinstance(packets, Savefile):
        return ()
    growing = capture is not None and capture.session.running  # then an unfinished end is no damage
    part = next((each for each in parts if each.path.resolve() == path), None)
    told = ends.told(packets.scanned, "" if growing else packets.damage, part.packets if part else None)
    return (told,) if told else ()


def _file(capture: Capture | None, path: Path | None) -> Path:
    if path is not None:
        return path
    if capture is None:
        raise RuntimeError("neither a capture nor a path")
    return capture.session.path


def _open(capture: Capture | None, path: Path | None, expression: str) -> Packets:
    if path is not None:
        return reader.open_file(path, expression, live=capture is not None and capture.live)
    if capture is None:
        raise RuntimeError("neither a capture nor a path")
    return Tail(capture.parts, expression, Start(1, None, 0, 0))


async def _examine(
    packets: Packets, file: Path, load: Callable[[int, tuple[Origin, ...]], Examiner], most: int | None, tell: Progress
) -> tuple[Examiner, int, bool]:
    """An examiner that has seen them, when the youngest was captured, and whether more follow, for which there was
    no time.

    `most` packets are for the next page of a verdict that was on so many.
    """
    ends = time.monotonic() + SECONDS
    size = _BATCH if most is None else min(_BATCH, most)
    batch = await reading(file, packets.take, size)
    examiner = await to_thread(load, batch[0][5].link_type if batch else ETHERNET, packets.points)
    until, examined = 0, 0
    while batch:
        await to_thread(_add, examiner, batch)
        until, examined = max(until, batch[-1][1]), examined + len(batch)
        await tell(examined, f"{examined} packets examined")
        if most is None and time.monotonic() > ends:
            return examiner, until, bool(await reading(file, packets.take, 1))
        batch = await reading(file, packets.take, size if most is None else min(size, most - examined))
    return examiner, until, most is not None and bool(await reading(file, packets.take, 1))


def _lost(capture: Capture, packets: Packets) -> int:
    snapshot = capture.session.snapshot()
    missed = packets.missed if isinstance(packets, Tail) else 0
    return (snapshot.dropped_kernel or 0) + (snapshot.dropped_interface or 0) + missed


async def _around(lab: Lab, capture: Capture) -> _Around:
    cards = lab.cards_on(capture.interface)
    outside = cards[0].state().outside if cards else Outside()
    return await to_thread(_known_around, capture, cards, outside)


def _known_around(capture: Capture, cards: Sequence[Card], outside: Outside) -> _Around:
    """Where a capture of a guest's card stands; who else is on its network is known while the guest runs."""
    from rawtap.packets.explain import Place

    request, end = capture.session.request, dead_end(cards, outside)
    if request.more:
        names = [capture.interface, *(name for name, _ in request.more)]
        held_back = {name: reasons for name in names if (reasons := links.held_back(name))}
        return _Around(Place(Origin(ETHERNET), dead_end=end) if end else None, held_back)
    card = Origin(ETHERNET, 0, capture.interface, request.guest)
    if not card.guest:
        return _Around(Place(card, dead_end=end) if end else None)
    found = [link.mac for each in cards if (link := links.find(each.network)) and link.mac]
    return _Around(Place(card, frozenset(map(bytes_of, found)), end))


def _examiner(
    applied: set[str],
    live: bool,
    sees_all: bool,
    around: _Around,
    link_type: int,
    points: tuple[Origin, ...],
) -> Examiner:
    """One that knows which answers the filters would have let through; it is loaded when the first is needed."""
    from rawtap.packets.explain import Examiner

    wanted = [FrameFilter(each, link_type, live=live) for each in applied]
    passes = (lambda frame: all(each.passes(frame) for each in wanted)) if wanted else None
    return Examiner(
        link_type, answers_pass=passes, sees_all=sees_all, points=points, place=around.place, held_back=around.held_back
    )


def _add(examiner: Examiner, batch: Sequence[Seen]) -> None:
    for number, time_ns, _, length, data, origin in batch:
        examiner.add(number, time_ns, length, data, origin)
