"""Scenes of what the guest may send: into windows that are shut or tiny, in small segments, on a path of small ones."""

from __future__ import annotations

from functools import partial

from rawtap.examine.rules import Converse
from rawtap.examine.segments import DEFAULT_SIZE
from rawtap.examine.spoken import (
    GREETING,
    KEPT,
    SOON,
    TIMER,
    WAITS,
    Found,
    data_of,
    grown,
    silent,
    untold,
    violated,
    with_echo,
    wrong_bytes,
)
from rawtap.examine.talk import Came, Talk

_ERRORS = 4
_PATH = 1000  # bytes that a packet may have on the way; Linux takes no less than 552
_OPEN = 8192  # bytes of a window
_FULL = 616  # bytes; with half of a larger window than 536 bytes Linux sends segments as large as they may be


async def window_zero(talk: Talk, step: Converse) -> Found:
    """The window is full, and stays so until the guest asks about it."""
    data, begin = await _filled(talk, step)
    if await _probe(talk, talk.table.now() + TIMER) is None:
        why = "the guest reset the connection" if talk.is_reset else f"it was not asked about in {TIMER:g} s"
        return silent(f"with a window of 0, and data waiting, {why}")
    talk.edge, talk.window = None, _OPEN
    await talk.send()
    is_done = await talk.exchange(data, step.seconds, begin=begin)
    return wrong_bytes(talk, data, step.seconds, is_done=is_done) or KEPT


async def _filled(talk: Talk, step: Converse) -> tuple[bytes, int]:
    """Data of which the guest has sent what the window takes, and where they begin; `step.size` bytes of them wait.

    The window is not tiny from the start: lwIP makes segments of half of the largest that it saw, has room for eight of
    these, and takes no more of a program's data.
    """
    talk.edge = _FULL
    await with_echo(talk)
    data = data_of(_FULL - len(GREETING) + step.size)
    begin = talk.unacknowledged

    def is_full() -> bool:
        return talk.unacknowledged >= begin + len(data) and len(talk.heard) >= _FULL

    await talk.exchange(data, SOON, until=is_full)
    return data, begin


async def _probe(talk: Talk, until: float) -> Came | None:
    """A question about a window of 0: a byte beyond it, or the number before it (as Linux and BSD ask)."""
    while (came := await talk.next(until)) is not None:
        have = len(talk.heard)
        if came.place == have - 1 or (came.place == have and came.segment.data):
            return came
    return None


async def probes_apart(talk: Talk, step: Converse) -> Found:
    await _filled(talk, step)
    until = talk.table.now() + step.seconds
    times: list[float] = []
    while len(times) <= WAITS and (came := await _probe(talk, until)):
        times.append(came.at)
        await talk.send()
    return grown(times)


async def window_tiny(talk: Talk, step: Converse) -> Found:
    talk.edge = len(GREETING)
    await with_echo(talk)
    talk.edge, talk.window = None, step.window
    data = data_of(step.size)
    beyond: list[int] = []

    def hears(came: Came) -> bool:
        end = came.place + len(came.segment.data)
        beyond.extend([end - len(talk.heard)] if end > len(talk.heard) + step.window else [])
        return True

    is_done = await talk.exchange(data, step.seconds, hears, lambda: bool(beyond))
    if beyond:
        return violated("TCP.window", f"{beyond[0]} bytes sent into it", f"{step.window} at most")
    return wrong_bytes(talk, data, step.seconds, is_done=is_done) or KEPT


async def segment_size(talk: Talk, step: Converse) -> Found:
    await with_echo(talk)
    most = DEFAULT_SIZE if step.segment is None else step.segment
    data = data_of(step.size)
    larger: list[int] = []

    def hears(came: Came) -> bool:
        size = len(came.segment.data)
        larger.extend([size] if size > most else [])
        return True

    is_done = await talk.exchange(data, step.seconds, hears, lambda: bool(larger))
    if larger:
        return violated("bytes of data in a segment", str(larger[0]), f"{most} at most")
    return wrong_bytes(talk, data, step.seconds, is_done=is_done) or KEPT


def _is_longer(things: list[Came], size: int) -> bool:
    return len(things) > size


async def too_large(talk: Talk, step: Converse) -> Found:
    """Packets that are too large for a link behind us do not come, and a router says so."""
    await with_echo(talk)
    data = data_of(step.size)
    begin = talk.unacknowledged
    until = talk.table.now() + step.seconds
    large: list[Came] = []
    told = 0

    def hears(came: Came) -> bool:
        is_large = came.segment.is_whole and came.segment.size > _PATH
        large.extend([came] if is_large else [])
        return not is_large

    is_done = False
    while not is_done and (left := until - talk.table.now()) > 0 and not talk.is_reset:
        seen = len(large)
        is_done = await talk.exchange(data, left, hears, partial(_is_longer, large, seen), begin)
        if len(large) > seen:
            is_done = False
            if told < _ERRORS:
                told += 1
                await talk.error(large[-1].frame, _PATH)
    if not is_done and large and large[-1].at > until - step.seconds / 2:
        return violated("IP.len", f"{large[-1].segment.size}, after {told} errors", f"{_PATH} at most")
    if wrong := wrong_bytes(talk, data, step.seconds, is_done=is_done):
        return wrong
    if not large:
        raise untold(f"it sent no packet of more than {_PATH} bytes that may not be in fragments")
    return KEPT
