"""A page of a conversation: who said what in turn, from any byte on, and where a text is in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rawtap.packets.conversation import Piece

MOST_TURNS = 200
_MOST_FOUND = 20

Find = Callable[[bytearray, int], tuple[int, int] | None]


class Watcher(Protocol):
    """What goes through a conversation."""

    def add(self, piece: Piece) -> None:
        """The next piece."""


@dataclass
class Turn:
    """What one side said until the other spoke, from byte `at` of the conversation on; or a gap of `gap` bytes.

    Side 0 is who began. `number` is the first packet of it. Bytes of gaps are counted as well.
    """

    side: int
    number: int
    time_ns: int
    at: int
    data: bytearray = field(default_factory=bytearray)
    gap: int = 0


@dataclass(frozen=True)
class Match:
    """Where a text ended: the packet, its side, and the byte of the conversation that this packet's begin at."""

    side: int
    number: int
    at: int
    text: bytes


@dataclass
class TurnPage:
    """Turns from byte `offset` on, up to `room` bytes, while the whole conversation is counted.

    Attributes:
        asked: The room that there was.
        sizes: Bytes that each side said, gaps apart.
        missing: Bytes of gaps.
        end: The byte behind the last one of the page.
    """

    offset: int
    room: int
    turns: list[Turn] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    missing: int = 0
    end: int = 0
    more: bool = False
    asked: int = field(init=False)

    def __post_init__(self) -> None:
        self.asked = self.room

    @property
    def length(self) -> int:
        """Bytes of the conversation so far, gaps among them."""
        return sum(self.sizes) + self.missing

    def add(self, piece: Piece) -> None:
        """The next piece."""
        at = max(self.length, self.offset)
        known = at - self.length
        self.sizes[piece.side] += len(piece.data)
        self.missing += piece.gap
        if self.more or self.length <= at:  # all of it is before the page, or it says nothing
            return
        if not self._has_room(piece):
            self.more = True
            return
        data = piece.data[known:]
        taken = data[: self.room]
        self.room -= len(taken)
        self.more = len(taken) < len(data)
        self._turn(piece._replace(gap=max(0, piece.gap - known)), at).data.extend(taken)
        self.end = at + len(taken) + self.turns[-1].gap

    def _has_room(self, piece: Piece) -> bool:
        return self.room > 0 and (len(self.turns) < MOST_TURNS or self._goes_on(piece))

    def _goes_on(self, piece: Piece) -> bool:
        last = self.turns[-1] if self.turns else None
        return last is not None and last.side == piece.side and not last.gap and not piece.gap

    def _turn(self, piece: Piece, at: int) -> Turn:
        if not self._goes_on(piece):
            self.turns.append(Turn(piece.side, piece.number, piece.time_ns, at, gap=piece.gap))
        return self.turns[-1]


class Search:
    """Where a text is, in each side's bytes; a match may begin `reach` bytes before the piece that it ends in."""

    def __init__(self, find: Find, reach: int) -> None:
        self._find, self._reach = find, reach
        self._before = (bytearray(), bytearray())
        self._begin = 0
        self.found: list[Match] = []

    def anew(self) -> Search:
        """One for the same, in other bytes."""
        return Search(self._find, self._reach)

    def add(self, piece: Piece) -> None:
        """The next piece."""
        window = self._before[piece.side]
        if piece.gap:
            window.clear()
            self._begin += piece.gap
            return
        known = len(window)
        window += piece.data
        at = 0
        while len(self.found) < _MOST_FOUND and (match := self._find(window, at)):
            if match[1] > known:
                self.found.append(Match(piece.side, piece.number, self._begin, bytes(window[match[0] : match[1]])))
            at = max(match[1], match[0] + 1)
        del window[: max(0, len(window) - self._reach)]
        self._begin += len(piece.data)


def collect(pieces: Iterable[Piece], watchers: Sequence[Watcher]) -> None:
    """Go through a whole conversation."""
    for piece in pieces:
        for each in watchers:
            each.add(piece)
