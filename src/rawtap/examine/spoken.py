"""How a conversation with the guest begins, what can come of it, and what both are told by."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal

from rawtap.examine.talk import Talk

SOON = 3.0  # seconds for what comes at once, also from a slow guest
TIMER = 6.0  # for what a timer sends: it may be 3 s long before anything was measured (RFC 6298, Appendix A)
GREETING = b"rawtap is here.\n"
WAITS = 3  # of a lost segment that is sent again
GROWN = 2  # from the first of them to the last, which should be four times as long: a busy machine blurs it
SHOWN = 16
NOBODY = "no SYN and ACK came: nobody listens on that port any more"


@dataclass(frozen=True)
class Found:
    """What came of a scene; as `trial.Outcome` has it. `figures` are those of a transfer."""

    verdict: Literal["kept", "violated", "silent", "cannot tell"]
    reason: str = ""
    field: str = ""
    found: str = ""
    expected: str = ""
    figures: str = ""


class Over(Exception):
    """A scene comes to this before its end."""

    def __init__(self, found: Found) -> None:
        super().__init__(found)
        self.found = found


KEPT = Found("kept")


def violated(field: str, found: str, expected: str) -> Found:
    """That a field was so, and should have been otherwise."""
    return Found("violated", f"{field}: {found}, and should be {expected}", field, found, expected)


def silent(reason: str) -> Found:
    """That something did not come; the examiner asks for the guest's health around it."""
    return Found("silent", f"{reason}, while the guest answered health checks before and after")


def untold(reason: str) -> Over:
    """What a scene is over by where it cannot be judged."""
    return Over(Found("cannot tell", reason))


def data_of(size: int) -> bytes:
    """So many bytes, the same each time, of which no part is like another; they mean nothing to a terminal."""
    letters = b"abcdefghijklmnopqrstuvwxyz0123456789"
    return bytes(Random(size).choices(letters, k=size))  # noqa: S311 - it guards nothing


async def with_echo(talk: Talk) -> None:
    """Open it, and see that the service sends back what it gets."""
    if not await talk.opened():
        raise untold(NOBODY)
    if await talk.exchange(GREETING, SOON, begin=0) and talk.heard == GREETING:
        return
    came = f"{len(talk.heard)} other bytes" if talk.heard else "a reset" if talk.is_reset else "nothing"
    raise untold(
        f"it needs a service that sends back what it gets: {len(GREETING)} bytes were sent, and {came} came back. "
        "Start one there and give its port; on Linux: nc -ll -p 7 -e cat &"
    )


def grown(times: list[float]) -> Found:
    """Whether the waits between these times grow, as those do that double."""
    waits = [later - earlier for earlier, later in pairwise(times)]
    if len(waits) < WAITS:
        raise untold(f"it was sent {len(times)} times only, and it takes {WAITS + 1}")
    told = ", ".join(f"{each:.2f}" for each in waits)
    if waits[-1] < GROWN * waits[0]:
        return violated("seconds", f"sent again after {told} s", "each wait twice the one before")
    return KEPT


def wrong_bytes(talk: Talk, data: bytes, seconds: float, *, is_done: bool) -> Found | None:
    """What is wrong with the bytes that came behind the greeting; None if they are right."""
    came = bytes(talk.heard[len(GREETING) :])
    if came[: len(data)] != data[: len(came)] or len(came) > len(data):
        return differing(came, data)
    if not is_done:
        why = "the guest reset the connection" if talk.is_reset else f"{seconds:g} s were over"
        return silent(f"{len(came)} of {len(data)} bytes had come back when {why}")
    return None


def differing(got: bytes, wanted: bytes) -> Found:
    """That bytes are others than they should be, and from where on."""
    pairs = zip(got, wanted, strict=False)
    at = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(got), len(wanted)))
    found, expected = (
        f"{len(each)} bytes, from {at} on {each[at : at + SHOWN].hex() or 'nothing'}" for each in (got, wanted)
    )
    return violated("data", found, expected)
