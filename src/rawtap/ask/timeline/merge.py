"""Merging streams of events by their times, a page at a time. Pure.

Theory of operation. Each stream keeps an order of its own, and has a place to go on from. A page takes, again and
again, the earliest of the streams' next events; where times are equal, that of the source that is first in `SOURCES`,
then that of the stream that was given first. So nothing is kept from one page to the next but each stream's place,
and the pages together are the same whatever their sizes were.

Times within a stream may go back: when the machine's clock is set, and by microseconds where several processors stamp
packets. An event that is younger in its stream and has an earlier time comes right behind the one before it: a
stream's own order is always kept, and nothing is lost or told twice.

A stream that is expensive to begin says before when it has nothing, and is left alone where the page ends before that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

SourceName = Literal["event", "console", "packet", "qmp"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)

Position = tuple[int, ...]

_FRAME = 90  # characters of an event's JSON beside its texts


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a stream, at a time (nanoseconds since 1970), and the stream's places before and after it."""

    at_ns: int
    source: SourceName
    text: str
    before: Position
    after: Position
    kind: str = ""
    guest: str | None = None
    capture: str | None = None
    unfinished: bool = False

    @property
    def size(self) -> int:
        """About how many characters it takes in an answer; a line feed or a quote is two of them."""
        return _FRAME + len(self.kind) + len(self.text) + sum(map(self.text.count, '"\\\t'))


class Stream(Protocol):
    """Events of one origin in their order."""

    @property
    def name(self) -> str:
        """The stream's, in the cursor."""

    @property
    def source(self) -> SourceName:
        """The source that all of its events are of."""

    @property
    def not_before_ns(self) -> int:
        """A time that none of its events is before."""

    @property
    def start(self) -> Position:
        """Where it goes on from."""

    @property
    def end(self) -> Position:
        """The place behind everything that it gave, once `items` has ended."""

    def items(self) -> Iterator[Item]:
        """What is there."""


@dataclass(frozen=True)
class Listed:
    """A stream whose events are at hand."""

    name: str
    source: SourceName
    listed: Sequence[Item]
    start: Position
    end: Position

    @property
    def not_before_ns(self) -> int:
        """See Stream."""
        return self.listed[0].at_ns if self.listed else 0

    def items(self) -> Iterator[Item]:
        """See Stream."""
        return iter(self.listed)


@dataclass(frozen=True)
class Merged:
    """A page, each stream's place after it, and whether something may be waiting already."""

    items: tuple[Item, ...]
    places: dict[str, Position]
    more: bool


def merge(streams: Sequence[Stream], limit: int, room: int) -> Merged:
    """The earliest events of all, `limit` at most, and no more than fit into `room` characters but for the first."""
    iterators: dict[int, Iterator[Item]] = {}
    heads: list[tuple[int, int, int, Item | None]] = []
    for index, stream in enumerate(streams):
        heapq.heappush(heads, (stream.not_before_ns, SOURCES.index(stream.source), index, None))
    page: list[Item] = []
    while heads and len(page) < limit:
        _, rank, index, item = heads[0]
        if item is not None:
            if page and item.size > room:
                break
            page.append(item)
            room -= item.size
        else:
            iterators[index] = streams[index].items()
        if (head := next(iterators[index], None)) is not None:
            heapq.heapreplace(heads, (head.at_ns, rank, index, head))
        else:
            heapq.heappop(heads)
    places = {stream.name: stream.end for stream in streams}
    for _, _, index, item in heads:
        places[streams[index].name] = item.before if item is not None else streams[index].start
    return Merged(tuple(page), places, bool(heads))
