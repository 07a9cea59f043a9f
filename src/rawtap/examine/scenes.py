"""What is looked for in a connection that we spoil: each scene opens one to the guest's port, and says what it found.

Most need a service there that sends back what it gets, so that the guest has data to send: then its TCP's timers,
windows and sizes show on the wire, and whether its bytes are right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from rawtap.examine import windows
from rawtap.examine.rules import Converse, Spoil
from rawtap.examine.segments import ACK, PSH
from rawtap.examine.spoken import (
    KEPT,
    NOBODY,
    SOON,
    TIMER,
    WAITS,
    Found,
    Over,
    data_of,
    differing,
    grown,
    silent,
    untold,
    violated,
    with_echo,
    wrong_bytes,
)
from rawtap.examine.talk import Came, Table, Talk
from rawtap.examine.values import Names

_LEAST_TIMEOUT = 0.95  # of the second of RFC 6298, 2.4: clocks differ
_DOUBLES = 3  # RFC 5681, 3.2
_FULL = 616  # bytes; with half of a larger window than 536 bytes Linux sends segments as large as they may be
_LOST_AT = 500  # bytes; before them some segments are acknowledged, so that enough may be on their way
_PAUSE = 0.3  # seconds
_NO_TIMER = 0.1  # seconds, which no timer is as short as; a process that has the socket may hold up its segments


async def played(step: Converse, names: Names, table: Table) -> Found:
    """What came of a step's scene; its connections are reset behind it.

    Raises:
        Deaf: The guest answers no health check.
        RequestInvalid, NetworkFailed: A frame was not sent.
    """
    if step.scene == "transfer":
        return await _transfer(step, names, table)
    talk = Talk(table, names, step, step.spoil)
    try:
        return await SCENES[step.scene](talk, step)
    except Over as ends:
        return ends.found
    finally:
        await talk.closed()


# ------------------------------------------------------------------------------ beginnings


async def _first(talk: Talk, step: Converse) -> Came:
    """Have data sent back, and do not acknowledge it: the first segment."""
    await with_echo(talk)
    have = len(talk.heard)
    await talk.send(ACK | PSH, data_of(step.size), talk.unacknowledged)
    until = talk.table.now() + SOON
    while (came := await talk.next(until)) is not None:
        if came.segment.data and came.place == have:
            return came
    raise untold("what was sent did not come back")


async def _again(talk: Talk, first: Came, until: float) -> Came | None:
    """The same bytes, sent again; None if they are not until then."""
    while (came := await talk.next(until)) is not None:
        if came.segment.data and came.place == first.place:
            return came
    return None


async def _pause(talk: Talk) -> None:
    """Let a program of the guest's go on, which no frame tells of."""
    until = talk.table.now() + _PAUSE
    while await talk.next(until) is not None:
        continue


# ----------------------------------------------------------------------- what is sent again


async def _syn_ack_lost(talk: Talk, _: Converse) -> Found:
    first = await talk.asked()
    if first is None:
        raise untold(NOBODY)
    until = talk.table.now() + TIMER
    while (came := await talk.next(until)) is not None:
        if came.segment.flags == first.segment.flags:
            wanted, got = first.segment.sequence, came.segment.sequence
            return KEPT if wanted == got else violated("TCP.seq", str(got), str(wanted))
    return silent(f"the SYN and ACK was not sent again in {TIMER:g} s, though nothing acknowledged it")


async def _lost(talk: Talk, step: Converse) -> Found:
    first = await _first(talk, step)
    came = await _again(talk, first, talk.table.now() + TIMER)
    if came is None:
        return silent(f"data that nothing acknowledged were not sent again in {TIMER:g} s")
    size = min(len(first.segment.data), len(came.segment.data))
    wanted, got = (each.segment.data[:size] for each in (first, came))
    return KEPT if wanted == got else differing(got, wanted)


async def _timeout_least(talk: Talk, step: Converse) -> Found:
    first = await _first(talk, step)
    came = await _again(talk, first, talk.table.now() + TIMER)
    if came is None:
        raise untold(f"nothing was sent again in {TIMER:g} s")
    waited = came.at - first.at
    if waited < _LEAST_TIMEOUT:
        return violated("seconds", f"sent again after {waited:.2f} s", "1 s at least")
    return KEPT


async def _backoff(talk: Talk, step: Converse) -> Found:
    first = await _first(talk, step)
    times = [first.at]
    until = talk.table.now() + step.seconds
    while len(times) <= WAITS and (came := await _again(talk, first, until)):
        times.append(came.at)
    return grown(times)


async def _delay(talk: Talk, step: Converse) -> Found:
    """All that we send is late, by less than the guest's timer has to be after the first measurement."""
    await with_echo(talk)
    seen: set[int] = set()
    again: list[int] = []

    def hears(came: Came) -> bool:
        again.extend({came.place} & seen)
        seen.add(came.place)
        return True

    for _ in range(2):
        if not await talk.exchange(data_of(step.size), step.seconds, hears):
            return silent(f"the exchange did not end in {step.seconds:g} s")
    if again:
        return violated("frames", f"{len(again)} sent again", f"none, as all is late by {step.spoil.delay:g} s")
    return KEPT


async def _fast_retransmit(talk: Talk, step: Converse) -> Found:
    """The window is full until all data wait in the guest's TCP: a program that writes meanwhile could hold it up."""
    talk.edge = _FULL
    await with_echo(talk)
    begin = talk.unacknowledged
    data = data_of(step.size)

    def is_full() -> bool:
        return talk.unacknowledged >= begin + len(data) and len(talk.heard) >= _FULL

    await talk.exchange(data, SOON, until=is_full)
    await _pause(talk)
    talk.edge = None
    await talk.send()
    at = len(talk.heard) + _LOST_AT
    lost: list[int] = []
    behind: list[int] = []
    early: list[int] = []

    def hears(came: Came) -> bool:
        if not lost and came.place <= at < came.place + len(came.segment.data):
            lost.append(came.place)
            return False
        if lost:
            (behind if came.place > lost[0] else early).append(came.place)
        return True

    def is_enough() -> bool:
        return len(behind) >= _DOUBLES or bool(early)

    await talk.exchange(data, step.seconds, hears, is_enough, begin)
    if len(behind) < _DOUBLES:
        raise untold(f"{len(behind)} segments came behind one that was lost, and it takes {_DOUBLES}")
    await talk.table.alive()  # the acknowledgments were sent before it
    until = talk.table.now() + _NO_TIMER
    while (came := await talk.next(until)) is not None:
        if came.place == lost[0]:
            return KEPT
    return silent("what was lost did not come at once, behind the third acknowledgment of what is in front of it")


# ------------------------------------------------------------------------------------ bytes


async def _pieces(talk: Talk, step: Converse) -> Found:
    """Pieces of the data in any order; then what is not acknowledged is sent in order."""
    await with_echo(talk)
    data = data_of(step.size)
    begin = talk.unacknowledged
    for at, size, is_corrupt in step.pieces:
        await talk.send(ACK | PSH, data[at : at + size], begin + at, is_corrupt=is_corrupt)
    await talk.table.alive()
    await talk.drained()
    is_done = await talk.exchange(data, step.seconds, begin=begin)
    await talk.table.alive()
    await talk.drained()
    return wrong_bytes(talk, data, step.seconds, is_done=is_done) or KEPT


async def _transfer(step: Converse, names: Names, table: Table) -> Found:
    """The same transfer on a wire that spoils nothing, and on one that does."""
    data = data_of(step.size)
    took: list[float] = []
    for number, spoil in enumerate((Spoil(), step.spoil)):
        talk = Talk(table, names, step, Spoil(), number)
        try:
            await with_echo(talk)
            talk.spoil = spoil
            began = table.now()
            is_done = await talk.exchange(data, step.seconds)
            took.append(table.now() - began)
            talk.spoil = Spoil()
            await table.alive()
            await talk.drained()
        except Over as ends:
            return ends.found
        finally:
            await talk.closed()
        if wrong := wrong_bytes(talk, data, step.seconds, is_done=is_done):
            return wrong if number else Found("cannot tell", f"on a good wire as well: {wrong.reason}")
    plain, spoilt = took
    share = f"{100 * plain / spoilt:.1f} % of its speed" if spoilt else "too fast to tell its speed"
    figures = f"{step.size} bytes each way, all right, in {spoilt:.2f} s; on a good wire in {plain:.3f} s: {share}"
    return replace(KEPT, figures=figures)


SCENES: dict[str, Callable[[Talk, Converse], Awaitable[Found]]] = {
    "syn_ack_lost": _syn_ack_lost,
    "lost": _lost,
    "timeout_least": _timeout_least,
    "backoff": _backoff,
    "delay": _delay,
    "fast_retransmit": _fast_retransmit,
    "pieces": _pieces,
    "window_zero": windows.window_zero,
    "probes_apart": windows.probes_apart,
    "window_tiny": windows.window_tiny,
    "segment_size": windows.segment_size,
    "too_large": windows.too_large,
}
"""By the names that `rules.Converse` has; "transfer" is one as well."""
