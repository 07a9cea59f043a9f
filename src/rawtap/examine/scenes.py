"""What is looked for in a connection that we spoil: each scene opens one to the guest's port, and says what it found.

Most need a service there that sends back what it gets, so that the guest has data to send: then its TCP's timers,
windows and sizes show on the wire, and whether its bytes are right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from random import Random
from typing import Literal

from rawtap.examine.rules import Converse, Spoil
from rawtap.examine.segments import ACK, DEFAULT_SIZE, PSH
from rawtap.examine.talk import Came, Table, Talk
from rawtap.examine.values import Names

_SOON = 3.0  # seconds for what comes at once, also from a slow guest
_TIMER = 6.0  # for what a timer sends: it may be 3 s long before anything was measured (RFC 6298, Appendix A)
_GREETING = b"rawtap is here.\n"
_LEAST_TIMEOUT = 0.95  # of the second of RFC 6298, 2.4: clocks differ
_WAITS = 3  # of a lost segment that is sent again
_GROWN = 2  # from the first of them to the last, which should be four times as long: a busy machine blurs it
_DOUBLES = 3  # RFC 5681, 3.2
_FULL = 616  # bytes; with half of a larger window than 536 bytes Linux sends segments as large as they may be
_LOST_AT = 500  # bytes; before them some segments are acknowledged, so that enough may be on their way
_PAUSE = 0.3  # seconds
_NO_TIMER = 0.1  # seconds, which no timer is as short as; a process that has the socket may hold up its segments
_ERRORS = 4
_PATH = 1000  # bytes that a packet may have on the way; Linux takes no less than 552
_OPEN = 8192  # bytes of a window
_SHOWN = 16
_NOBODY = "no SYN and ACK came: nobody listens on that port any more"


@dataclass(frozen=True)
class Found:
    """What came of a scene; as `trial.Outcome` has it. `figures` are those of a transfer."""

    verdict: Literal["kept", "violated", "silent", "cannot tell"]
    reason: str = ""
    field: str = ""
    found: str = ""
    expected: str = ""
    figures: str = ""


class _Ends(Exception):
    """A scene comes to this before its end."""

    def __init__(self, found: Found) -> None:
        super().__init__(found)
        self.found = found


_KEPT = Found("kept")


def _violated(field: str, found: str, expected: str) -> Found:
    return Found("violated", f"{field}: {found}, and should be {expected}", field, found, expected)


def _silent(reason: str) -> Found:
    return Found("silent", f"{reason}, while the guest answered health checks before and after")


def _untold(reason: str) -> _Ends:
    return _Ends(Found("cannot tell", reason))


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
    except _Ends as ends:
        return ends.found
    finally:
        await talk.closed()


def data_of(size: int) -> bytes:
    """So many bytes, the same each time, of which no part is like another; they mean nothing to a terminal."""
    letters = b"abcdefghijklmnopqrstuvwxyz0123456789"
    return bytes(Random(size).choices(letters, k=size))  # noqa: S311 - it guards nothing


# ------------------------------------------------------------------------------ beginnings


async def _with_echo(talk: Talk) -> None:
    """Open it, and see that the service sends back what it gets."""
    if not await talk.opened():
        raise _untold(_NOBODY)
    if await talk.exchange(_GREETING, _SOON, begin=0) and talk.heard == _GREETING:
        return
    came = f"{len(talk.heard)} other bytes" if talk.heard else "a reset" if talk.is_reset else "nothing"
    raise _untold(
        f"it needs a service that sends back what it gets: {len(_GREETING)} bytes were sent, and {came} came back. "
        "Start one there and give its port; on Linux: nc -ll -p 7 -e cat &"
    )


async def _first(talk: Talk, data: bytes) -> Came:
    """Have data sent back, and do not acknowledge it: the first segment."""
    have = len(talk.heard)
    await talk.send(ACK | PSH, data, talk.unacknowledged)
    until = talk.table.now() + _SOON
    while (came := await talk.next(until)) is not None:
        if came.segment.data and came.place == have:
            return came
    raise _untold("what was sent did not come back")


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
        raise _untold(_NOBODY)
    until = talk.table.now() + _TIMER
    while (came := await talk.next(until)) is not None:
        if came.segment.flags == first.segment.flags:
            wanted, got = first.segment.sequence, came.segment.sequence
            return _KEPT if wanted == got else _violated("TCP.seq", str(got), str(wanted))
    return _silent(f"the SYN and ACK was not sent again in {_TIMER:g} s, though nothing acknowledged it")


async def _lost(talk: Talk, step: Converse) -> Found:
    await _with_echo(talk)
    first = await _first(talk, data_of(step.size))
    came = await _again(talk, first, talk.table.now() + _TIMER)
    if came is None:
        return _silent(f"data that nothing acknowledged were not sent again in {_TIMER:g} s")
    size = min(len(first.segment.data), len(came.segment.data))
    wanted, got = (each.segment.data[:size] for each in (first, came))
    return _KEPT if wanted == got else _differing(got, wanted)


async def _timeout_least(talk: Talk, step: Converse) -> Found:
    await _with_echo(talk)
    first = await _first(talk, data_of(step.size))
    came = await _again(talk, first, talk.table.now() + _TIMER)
    if came is None:
        raise _untold(f"nothing was sent again in {_TIMER:g} s")
    waited = came.at - first.at
    if waited < _LEAST_TIMEOUT:
        return _violated("seconds", f"sent again after {waited:.2f} s", "1 s at least")
    return _KEPT


async def _backoff(talk: Talk, step: Converse) -> Found:
    await _with_echo(talk)
    first = await _first(talk, data_of(step.size))
    times = [first.at]
    until = talk.table.now() + step.seconds
    while len(times) <= _WAITS and (came := await _again(talk, first, until)):
        times.append(came.at)
    return _grown(times)


def _grown(times: list[float]) -> Found:
    """Whether the waits between these times grow, as those do that double."""
    waits = [later - earlier for earlier, later in pairwise(times)]
    if len(waits) < _WAITS:
        raise _untold(f"it was sent {len(times)} times only, and it takes {_WAITS + 1}")
    told = ", ".join(f"{each:.2f}" for each in waits)
    if waits[-1] < _GROWN * waits[0]:
        return _violated("seconds", f"sent again after {told} s", "each wait twice the one before")
    return _KEPT


async def _delay(talk: Talk, step: Converse) -> Found:
    """All that we send is late, by less than the guest's timer has to be after the first measurement."""
    await _with_echo(talk)
    seen: set[int] = set()
    again: list[int] = []

    def hears(came: Came) -> bool:
        again.extend({came.place} & seen)
        seen.add(came.place)
        return True

    for _ in range(2):
        if not await talk.exchange(data_of(step.size), step.seconds, hears):
            return _silent(f"the exchange did not end in {step.seconds:g} s")
    if again:
        return _violated("frames", f"{len(again)} sent again", f"none, as all is late by {step.spoil.delay:g} s")
    return _KEPT


async def _fast_retransmit(talk: Talk, step: Converse) -> Found:
    """The window is full until all data wait in the guest's TCP: a program that writes meanwhile could hold it up."""
    talk.edge = _FULL
    await _with_echo(talk)
    begin = talk.unacknowledged
    data = data_of(step.size)

    def is_full() -> bool:
        return talk.unacknowledged >= begin + len(data) and len(talk.heard) >= _FULL

    await talk.exchange(data, _SOON, until=is_full)
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
        raise _untold(f"{len(behind)} segments came behind one that was lost, and it takes {_DOUBLES}")
    await talk.table.alive()  # the acknowledgments were sent before it
    until = talk.table.now() + _NO_TIMER
    while (came := await talk.next(until)) is not None:
        if came.place == lost[0]:
            return _KEPT
    return _silent("what was lost did not come at once, behind the third acknowledgment of what is in front of it")


# ------------------------------------------------------------------------------------ bytes


async def _pieces(talk: Talk, step: Converse) -> Found:
    """Pieces of the data in any order; then what is not acknowledged is sent in order."""
    await _with_echo(talk)
    data = data_of(step.size)
    begin = talk.unacknowledged
    for at, size, is_corrupt in step.pieces:
        await talk.send(ACK | PSH, data[at : at + size], begin + at, is_corrupt=is_corrupt)
    await talk.table.alive()
    await talk.drained()
    is_done = await talk.exchange(data, step.seconds, begin=begin)
    await talk.table.alive()
    await talk.drained()
    return _wrong(talk, data, step.seconds, is_done=is_done) or _KEPT


def _wrong(talk: Talk, data: bytes, seconds: float, *, is_done: bool) -> Found | None:
    """What is wrong with the bytes that came behind the greeting; None if they are right."""
    came = bytes(talk.heard[len(_GREETING) :])
    if came[: len(data)] != data[: len(came)] or len(came) > len(data):
        return _differing(came, data)
    if not is_done:
        why = "the guest reset the connection" if talk.is_reset else f"{seconds:g} s were over"
        return _silent(f"{len(came)} of {len(data)} bytes had come back when {why}")
    return None


def _differing(got: bytes, wanted: bytes) -> Found:
    pairs = zip(got, wanted, strict=False)
    at = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(got), len(wanted)))
    found, expected = (
        f"{len(each)} bytes, from {at} on {each[at : at + _SHOWN].hex() or 'nothing'}" for each in (got, wanted)
    )
    return _violated("data", found, expected)


async def _transfer(step: Converse, names: Names, table: Table) -> Found:
    """The same transfer on a wire that spoils nothing, and on one that does."""
    data = data_of(step.size)
    took: list[float] = []
    for number, spoil in enumerate((Spoil(), step.spoil)):
        talk = Talk(table, names, step, Spoil(), number)
        try:
            await _with_echo(talk)
            talk.spoil = spoil
            began = table.now()
            is_done = await talk.exchange(data, step.seconds)
            took.append(table.now() - began)
            talk.spoil = Spoil()
            await table.alive()
            await talk.drained()
        except _Ends as ends:
            return ends.found
        finally:
            await talk.closed()
        if wrong := _wrong(talk, data, step.seconds, is_done=is_done):
            return wrong if number else Found("cannot tell", f"on a good wire as well: {wrong.reason}")
    plain, spoilt = took
    share = f"{100 * plain / spoilt:.1f} % of its speed" if spoilt else "too fast to tell its speed"
    figures = f"{step.size} bytes each way, all right, in {spoilt:.2f} s; on a good wire in {plain:.3f} s: {share}"
    return replace(_KEPT, figures=figures)


# ------------------------------------------------------------------------ windows and sizes


async def _window_zero(talk: Talk, step: Converse) -> Found:
    """The window is full, and stays so until the guest asks about it."""
    talk.edge = len(_GREETING)
    await _with_echo(talk)
    data = data_of(step.size)
    begin = talk.unacknowledged
    await talk.send(ACK | PSH, data, begin)
    if await _probe(talk, talk.table.now() + _TIMER) is None:
        return _silent(f"a window of 0 was not asked about in {_TIMER:g} s, with data waiting")
    talk.edge, talk.window = None, _OPEN
    await talk.send()
    is_done = await talk.exchange(data, step.seconds, begin=begin)
    return _wrong(talk, data, step.seconds, is_done=is_done) or _KEPT


async def _probe(talk: Talk, until: float) -> Came | None:
    """A question about a window of 0: a byte beyond it, or the number before it (as Linux and BSD ask)."""
    while (came := await talk.next(until)) is not None:
        have = len(talk.heard)
        if came.place == have - 1 or (came.place == have and came.segment.data):
            return came
    return None


async def _probes_apart(talk: Talk, step: Converse) -> Found:
    talk.edge = len(_GREETING)
    await _with_echo(talk)
    await talk.send(ACK | PSH, data_of(step.size), talk.unacknowledged)
    until = talk.table.now() + step.seconds
    times: list[float] = []
    while len(times) <= _WAITS and (came := await _probe(talk, until)):
        times.append(came.at)
        await talk.send()
    return _grown(times)


async def _window_tiny(talk: Talk, step: Converse) -> Found:
    talk.edge = len(_GREETING)
    await _with_echo(talk)
    talk.edge, talk.window = None, step.window
    data = data_of(step.size)
    beyond: list[int] = []

    def hears(came: Came) -> bool:
        end = came.place + len(came.segment.data)
        beyond.extend([end - len(talk.heard)] if end > len(talk.heard) + step.window else [])
        return True

    is_done = await talk.exchange(data, step.seconds, hears, lambda: bool(beyond))
    if beyond:
        return _violated("TCP.window", f"{beyond[0]} bytes sent into it", f"{step.window} at most")
    return _wrong(talk, data, step.seconds, is_done=is_done) or _KEPT


async def _segment_size(talk: Talk, step: Converse) -> Found:
    await _with_echo(talk)
    most = DEFAULT_SIZE if step.segment is None else step.segment
    data = data_of(step.size)
    larger: list[int] = []

    def hears(came: Came) -> bool:
        size = len(came.segment.data)
        larger.extend([size] if size > most else [])
        return True

    is_done = await talk.exchange(data, step.seconds, hears, lambda: bool(larger))
    if larger:
        return _violated("bytes of data in a segment", str(larger[0]), f"{most} at most")
    return _wrong(talk, data, step.seconds, is_done=is_done) or _KEPT


def _is_longer(things: list[Came], size: int) -> bool:
    return len(things) > size


async def _too_large(talk: Talk, step: Converse) -> Found:
    """Packets that are too large for a link behind us do not come, and a router says so."""
    await _with_echo(talk)
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
        return _violated("IP.len", f"{large[-1].segment.size}, after {told} errors", f"{_PATH} at most")
    if wrong := _wrong(talk, data, step.seconds, is_done=is_done):
        return wrong
    if not large:
        raise _untold(f"it sent no packet of more than {_PATH} bytes that may not be in fragments")
    return _KEPT


SCENES: dict[str, Callable[[Talk, Converse], Awaitable[Found]]] = {
    "syn_ack_lost": _syn_ack_lost,
    "lost": _lost,
    "timeout_least": _timeout_least,
    "backoff": _backoff,
    "delay": _delay,
    "fast_retransmit": _fast_retransmit,
    "pieces": _pieces,
    "window_zero": _window_zero,
    "probes_apart": _probes_apart,
    "window_tiny": _window_tiny,
    "segment_size": _segment_size,
    "too_large": _too_large,
}
"""By the names that `rules.Converse` has; "transfer" is one as well."""
