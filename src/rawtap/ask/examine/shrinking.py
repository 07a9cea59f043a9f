"""Frames that a guest dies of, made as few, as short and as plain as kill: what may be left of them is sent, and
the guest says whether that kills.

What does not kill leaves the guest alive, so it is put back only behind what does: a try costs no more than a health
check, and many that hardly any of kill are sent in one. What kills a guest that has had other frames since it was put
back is believed only when it does so alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

from anyio import current_time

from rawtap.examine import smaller
from rawtap.examine.mutations import Case, cut

_TOGETHER = 16  # tries behind which is one health check
_BLOCK = 8
_LINK, _LEAST = 12, 14


@dataclass
class Shrinker:
    """One search for the smallest frames.

    Attributes:
        begin: Puts the guest back.
        strikes: Sends frames; whether the guest died of them, or did what is looked for.
        is_known: Whether a frame would be a death that is known: such ones are not tried.
        until: When to end, by the event loop's clock.
        trail: What killed, from the first to the smallest.
    """

    begin: Callable[[], Awaitable[None]]
    strikes: Callable[[list[bytes]], Awaitable[bool]]
    is_known: Callable[[bytes], bool]
    until: float
    trail: list[Case] = field(default_factory=list)
    _survived: set[Case] = field(default_factory=set)
    _is_struck: bool = True  # the guest has to be put back

    async def smallest(self, frames: Case) -> Case:
        """The fewest frames, and each of them as short and as plain as can be.

        Where they do not kill any more, as a guest was only slow before, it is not gone on with.
        """
        self.trail.append(frames)
        frames = await self._fewer(frames)
        self._is_struck = True
        if not await self._struck(frames):
            return frames
        before: Case = ()
        while before != frames and not self._is_over():
            before = frames
            for number in range(len(frames)):
                frames = await self._smaller(frames, number)
            if len(frames) > 1:
                frames = await self._fewer(frames)
        return frames

    async def bounds(self, frames: Case) -> tuple[frozenset[int], frozenset[int]]:
        """The places in the last frame whose bytes cannot be others; and those whose values may be higher, but as it
        seems not lower. What there was no time to try counts to the former."""
        last = frames[-1]
        free = set[int]()
        for at in range(_LINK, len(last), _BLOCK):
            free |= await self._free(frames, slice(at, min(at + _BLOCK, len(last))))
        of_sums = smaller.checksum_places(last)
        fixed = frozenset(range(_LINK, len(last))) - free - of_sums
        return fixed, frozenset(at for at in free - of_sums if last[at])

    async def _free(self, frames: Case, place: slice) -> set[int]:
        """Those places whose bytes may be others."""
        last = frames[-1]
        places = set(range(place.start, place.stop))
        if places <= smaller.checksum_places(last) or self._is_over():
            return set()
        others = smaller.variants(smaller.flipped(last, place))
        if await self._first([(*frames[:-1], other) for other in others if other != last]):
            return places
        if len(places) == 1:
            return set()
        middle = (place.start + place.stop) // 2
        first = await self._free(frames, slice(place.start, middle))
        return first | await self._free(frames, slice(middle, place.stop))

    # ------------------------------------------------------------- fewer frames

    async def _fewer(self, frames: Case) -> Case:
        """As few as kill: parts are left out, halves first."""
        size = len(frames) // 2
        while size and not self._is_over():
            at = 0
            while at < len(frames) and not self._is_over():
                rest = frames[:at] + frames[at + size :]
                if rest and (found := await self._first([rest])):
                    frames = found
                else:
                    at += size
            size = min(size // 2, len(frames) // 2) if size > 1 else 0
        return frames

    # ----------------------------------------------------------- a smaller frame

    async def _smaller(self, frames: Case, number: int) -> Case:
        """With that one as small as kills."""
        before: Case = ()
        while before != frames and not self._is_over():
            before = frames
            frames = await self._shorter(frames, number)
            for at in range(_LINK, len(frames[number]), _BLOCK):
                frames = await self._zeroed(frames, number, slice(at, min(at + _BLOCK, len(frames[number]))))
            frames = await self._shorter(frames, number)
            while found := await self._other(frames, number, smaller.pieces_out(frames[number]), _TOGETHER):
                frames = found
            for at in smaller.there(frames[number]):
                lower = smaller.values(frames[number], at)
                frames = await self._other(frames, number, lower, _TOGETHER) or frames
        return await self._plainer(frames, number)

    async def _plainer(self, frames: Case, number: int) -> Case:
        """With a higher value in one place, and less elsewhere for it; from there on it goes down again."""
        for at in smaller.there(frames[number]):
            was = frames[number]
            higher = smaller.raised(was, at)
            alike = (_with(frames, number, each) for each in smaller.variants(higher) if each != was)
            if self._is_over() or (up := await self._first(alike)) is None:
                continue
            less = smaller.fewer_bytes(up[number], was)
            if found := await self._first((_with(frames, number, each) for each in less), _TOGETHER):
                return await self._smaller(found, number)
        return frames

    async def _shorter(self, frames: Case, number: int) -> Case:
        """With less of that one's end: half of it first."""
        size = len(frames[number]) - _LEAST
        while size > 0 and not self._is_over():
            frame = frames[number]
            found = await self._other(frames, number, [cut(frame, max(_LEAST, len(frame) - size))])
            frames, size = (found, min(size, len(found[number]) - _LEAST)) if found else (frames, size // 2)
        return frames

    async def _zeroed(self, frames: Case, number: int, place: slice) -> Case:
        """With zeros wherever they do there: in all of it, or in its halves."""
        frame = frames[number]
        if not any(frame[place]) or self._is_over():
            return frames
        if found := await self._other(frames, number, [smaller.zeroed(frame, place)]):
            return found
        if place.stop - place.start == 1:
            return frames
        middle = (place.start + place.stop) // 2
        frames = await self._zeroed(frames, number, slice(place.start, middle))
        return await self._zeroed(frames, number, slice(middle, place.stop))

    async def _other(self, frames: Case, number: int, others: Iterable[bytes], together: int = 1) -> Case | None:
        """With the first other frame in that one's place that kills, of those that are less."""
        less = smaller.less(others, frames[number])
        return await self._first((_with(frames, number, each) for each in less), together)

    # ----------------------------------------------------------------- the tries

    async def _first(self, tries: Iterable[Case], together: int = 1) -> Case | None:
        """The first of them that kills by itself; so many are sent at once, which is good where hardly any does."""
        wanted = (each for each in tries if each not in self._survived and not any(map(self.is_known, each)))
        while group := list(islice(wanted, together)):
            if self._is_over():
                return None
            if len(group) == 1 or await self._struck(chain.from_iterable(group)):
                for each in group:
                    if await self._kills(each):
                        self.trail.append(each)
                        return each
            self._survived.update(group)
        return None

    async def _kills(self, frames: Case) -> bool:
        """Whether they do from the snapshot; a guest that lives may have had others before."""
        is_first = self._is_struck
        return await self._struck(frames) and (is_first or await self._struck(frames))

    async def _struck(self, frames: Iterable[bytes]) -> bool:
        if self._is_struck:
            await self.begin()
        self._is_struck = await self.strikes(list(frames))
        return self._is_struck

    def _is_over(self) -> bool:
        return current_time() > self.until


def _with(frames: Case, number: int, frame: bytes) -> Case:
    return (*frames[:number], frame, *frames[number + 1 :])
