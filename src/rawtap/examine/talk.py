"""The other end of a guest's connection: a small TCP of ours, whose frames are spoiled as a rule says.

It keeps order, acknowledges each segment at once, and sends again what is not acknowledged. It has no options but the
largest segment's: no SACK, no times, no window scale.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from rawtap.examine import segments
from rawtap.examine.rules import Converse, Spoil
from rawtap.examine.segments import ACK, DEFAULT_SIZE, PSH, RST, SYN, Ends, Segment
from rawtap.examine.values import Names

_OPENS_WITHIN = 4.0  # seconds
_AGAIN = 0.3  # from which on we send again
_AT_ONCE = 8  # segments of ours
_IDENTIFICATIONS = 0x4000
_NUMBERS, _HALF, _APART = 1 << 32, 1 << 31, 1 << 28
_SEED = 1


class Line(Protocol):
    """Where frames come from; see `trial.Wire`."""

    frames: list[bytes]

    async def more(self, than: int, patience: float) -> bool:
        """Wait until there are more `frames` than that."""


@dataclass(frozen=True)
class Table:
    """What a conversation has at hand.

    Attributes:
        say: Sends a frame.
        alive: Has a health check answered.
        now: Seconds, of a clock that does not go back.
    """

    line: Line
    say: Callable[[bytes], Awaitable[None]]
    alive: Callable[[], Awaitable[None]]
    now: Callable[[], float]


@dataclass(frozen=True)
class Came:
    """A segment of the guest's. `place` is its first byte's in all that the guest sends; negative before the first."""

    segment: Segment
    place: int
    at: float
    frame: bytes


Hears = Callable[[Came], bool]


class Talk:
    """One connection.

    Attributes:
        spoil: What becomes of its frames, from now on.
        heard: What came, in order and once.
        window: Bytes that we let the guest send behind what came.
        edge: Bytes that it may send in all, where that is not None.
        unacknowledged: From which of our bytes on the guest has acknowledged none.
        is_reset: The guest ended it.
    """

    def __init__(self, table: Table, names: Names, step: Converse, spoil: Spoil, number: int = 0) -> None:
        self.table = table
        self.spoil = spoil
        self.heard = bytearray()
        self.window = step.window
        self.edge: int | None = None
        self.unacknowledged = 0
        self.is_reset = False
        self._ends = Ends.of(names, number)
        self._largest, self._piece = step.segment, step.piece
        self._random = Random(_SEED)  # noqa: S311 - it has to be the same again, and guards nothing
        self._ours = (int(names["seq"]) + number * _APART + 1) % _NUMBERS  # of our first byte
        self._theirs = 0
        self._read = len(table.line.frames)
        self._identification = int(names["id"]) + _IDENTIFICATIONS * number
        self._late: list[tuple[float, int, bytes]] = []
        self._sent = -1  # bytes of ours; -1 before the SYN
        self._room = 0  # up to which the guest takes them
        self._size = DEFAULT_SIZE
        self._kept: dict[int, bytes] = {}  # what came before its time
        self._lost: set[tuple[bool, int]] = set()

    # ---------------------------------------------------------------------- frames of ours

    async def send(
        self, flags: int = ACK, data: bytes = b"", at: int | None = None, *, is_corrupt: bool = False
    ) -> None:
        """Send a segment that is spoiled by nothing but the delay; `at` is the place of its data."""
        place = self._sent if at is None else at
        self._sent = max(self._sent, place + len(data))
        await self._post(self._made(flags, data, place, is_corrupt=is_corrupt))

    def _made(self, flags: int, data: bytes, place: int, *, is_corrupt: bool = False) -> bytes:
        self._identification += 1
        have = len(self.heard)
        window = self.window if self.edge is None else max(0, self.edge - have)
        said = self._theirs + have if flags & ACK else 0
        largest = self._largest if flags & SYN else None
        segment = Segment(self._ours + place, said, flags, window, data, largest)
        return segments.made(self._ends, segment, self._identification, is_corrupt=is_corrupt)

    async def _post(self, frame: bytes) -> None:
        late = self.spoil.delay + self.spoil.jitter * self._random.random()
        if late:
            heapq.heappush(self._late, (self.table.now() + late, self._identification, frame))
        else:
            await self.table.say(frame)

    async def _spoiled(self, flags: int, data: bytes, place: int) -> None:
        """Send a segment, or not, as this wire has it."""
        if self._is_lost(place if data else None, is_ours=True):
            return
        await self._post(self._made(flags, data, place, is_corrupt=self._random.random() < self.spoil.corrupt))
        if self._random.random() < self.spoil.double:
            await self._post(self._made(flags, data, place))

    def _is_lost(self, place: int | None, *, is_ours: bool) -> bool:
        """Whether a segment is; `place` is that of its data, and None where it has none."""
        if self._random.random() < self.spoil.loss:
            return True
        if not self.spoil.first_lost or place is None or (is_ours, place) in self._lost:
            return False
        self._lost.add((is_ours, place))
        return True

    async def error(self, frame: bytes, most: int) -> None:
        """Say as a router does that this packet of the guest's was larger than that."""
        self._identification += 1
        await self.table.say(segments.too_large(self._ends, frame, most, self._identification))

    async def _flush(self) -> None:
        while self._late and self._late[0][0] <= self.table.now():
            await self.table.say(heapq.heappop(self._late)[2])

    # ---------------------------------------------------------------- frames of the guest's

    async def next(self, until: float) -> Came | None:
        """The next segment of the guest's in this connection; None if none comes until then."""
        frames = self.table.line.frames
        while True:
            await self._flush()
            while self._read < len(frames):
                frame = frames[self._read]
                self._read += 1
                if (segment := segments.read(frame, self._ends)) is not None:
                    return self._came(segment, frame)
            if (now := self.table.now()) >= until:
                return None
            due = min(until, self._late[0][0]) if self._late else until
            if not await self.table.line.more(self._read, max(due - now, 0)) and due == until:
                return None

    def _came(self, segment: Segment, frame: bytes) -> Came:
        if segment.flags & RST:
            self.is_reset = True
        if segment.flags & ACK:
            place = (segment.acknowledgment - self._ours) % _NUMBERS
            if self.unacknowledged <= place < _HALF:
                self.unacknowledged = place
                self._sent = max(self._sent, place)
                self._room = place + segment.window
        place = (segment.sequence - self._theirs) % _NUMBERS
        return Came(segment, place if place < _HALF else place - _NUMBERS, self.table.now(), frame)

    async def drained(self) -> None:
        """Take what has come by now."""
        while (came := await self.next(self.table.now())) is not None:
            await self.take(came)

    # ------------------------------------------------------------------------- connections

    async def asked(self) -> Came | None:
        """Ask for the connection: the guest's SYN and ACK; None if that does not come."""
        await self._post(self._made(SYN, b"", self._sent))
        until = self.table.now() + _OPENS_WITHIN
        while (came := await self.next(until)) is not None:
            if self.is_reset:
                return None
            if came.segment.flags & (SYN | ACK | RST) == SYN | ACK:
                self._theirs = (came.segment.sequence + 1) % _NUMBERS
                self._size = min(came.segment.largest or DEFAULT_SIZE, self._piece)
                return came
        return None

    async def opened(self) -> bool:
        """Ask for the connection, and take it."""
        if await self.asked() is None:
            return False
        await self.send()
        return True

    async def closed(self) -> None:
        """Leave the guest nothing to send again, whatever was on its way."""
        self._late.clear()
        for place in sorted({self.unacknowledged, max(self._sent, 0)}):
            await self.table.say(self._made(RST | ACK, b"", place))

    # -------------------------------------------------------------------------------- data

    async def take(self, came: Came) -> None:
        """Keep a segment's data where they belong, and acknowledge it."""
        data = came.segment.data
        if not data:
            return
        have = len(self.heard)
        room = self.window if self.edge is None else max(0, self.edge - have)
        if came.place + len(data) > have and came.place < have + room:
            known = self._kept.get(came.place, b"")
            self._kept[came.place] = max(known, data[: have + room - came.place], key=len)
        for place in sorted(self._kept):
            if place <= len(self.heard):
                self.heard += self._kept.pop(place)[len(self.heard) - place :]
        await self._spoiled(ACK, b"", self._sent)

    async def exchange(
        self,
        data: bytes,
        seconds: float,
        hears: Hears | None = None,
        until: Callable[[], bool] | None = None,
        begin: int | None = None,
    ) -> bool:
        """Send data, and hear them from a service that sends back all it gets: whether that was done in time.

        `hears`: whether we have a segment that came, or it is as if it had not come. `until`: what ends it as well.
        `begin`: the data's place in all that is sent; behind what was sent if None.
        """
        first = self._sent if begin is None else begin
        wanted = first + len(data)
        late = self.spoil.delay + self.spoil.jitter
        deadline = self.table.now() + seconds
        ours, again = first, self.table.now() + _AGAIN + late
        while not self.is_reset:
            if (until and until()) or min(self.unacknowledged, len(self.heard)) >= wanted:
                return True
            ours = await self._pumped(data, first, max(ours, self.unacknowledged))
            came = await self.next(min(deadline, again))
            if self.table.now() >= deadline:
                return False
            if came is None or self.table.now() >= again:
                again = self.table.now() + _AGAIN + late
                ours = max(first, self.unacknowledged)
            is_here = came is not None and came.segment.data and not self._is_lost(came.place, is_ours=False)
            if came and is_here and (hears is None or hears(came)):
                await self.take(came)
        return False

    async def _pumped(self, data: bytes, first: int, place: int) -> int:
        """Send on from that place, as far as the guest takes it, and some segments at most: how far that was."""
        end = min(first + len(data), self._room, self.unacknowledged + _AT_ONCE * self._size)
        while place < end:
            piece = data[place - first : min(place + self._size, end) - first]
            self._sent = max(self._sent, place + len(piece))
            await self._spoiled(ACK | PSH, piece, place)
            place += len(piece)
        return place
