"""What happened to an interface while it was captured: when it was down, removed, renamed. Pure.

Times are seconds after the capture's start. Names of interfaces are quoted: they are somebody else's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SHOWN_WARNINGS = 5

# Seconds. An interface that comes up gets its carrier a moment later; one that is removed goes down just before.
_SETTLING = 0.05
_LAST_MOMENT = 0.5

Trouble = Literal["down", "no_carrier"]


@dataclass(frozen=True)
class LinkState:
    """An interface at one moment: its carrier and its own packet counters (rtnetlink(7), IFLA_STATS64)."""

    up: bool
    carrier: bool
    received: int
    sent: int

    @property
    def trouble(self) -> Trouble | None:
        """What keeps frames from passing."""
        return "down" if not self.up else "no_carrier" if not self.carrier else None


@dataclass(frozen=True)
class LinkEvent:
    """A change of the captured interface; "missed" is a moment when changes were lost."""

    at: float
    what: Literal["added", "removed", "renamed", "up", "down", "carrier", "no_carrier", "missed"]
    new_name: str = ""


@dataclass(frozen=True)
class Outage:
    """A time without a link. `start` is None if it is not known, `end` if the link did not come back."""

    what: Trouble
    start: float | None
    end: float | None

    @property
    def told(self) -> str:
        """The rest of a sentence about the interface."""
        now, before, began = _WORDS[self.what]
        if self.start is None:
            return f"{now} at the end"
        if self.end is not None:
            return f"{before} from {self.start:.2f} s to {self.end:.2f} s after the start"
        return f"{began} {after_start(self.start)} and stayed so" if self.start else f"{before} all the time"


_WORDS = {
    "down": ("is down", "was down", "went down"),
    "no_carrier": ("has no carrier", "had no carrier", "lost its carrier"),
}


def outages(before: LinkState | None, events: Sequence[LinkEvent], guests_ended: Sequence[float]) -> list[Outage]:
    """When the interface was down or had no carrier. An outage that is part of another event is left out.

    `before` is its state at the start; at `guests_ended` a guest on it ended, which takes a bridge's carrier away.
    """
    found = _all_outages(before, events)
    removals = [event.at for event in events if event.what == "removed"]
    return [
        each
        for earlier, each in zip([None, *found], found, strict=False)
        if not _is_start_up(earlier, each)
        and not _is_part_of(each, removals)
        and not (each.what == "no_carrier" and _is_part_of(each, guests_ended))
    ]


def _all_outages(before: LinkState | None, events: Sequence[LinkEvent]) -> list[Outage]:
    found: list[Outage] = []
    trouble, start = before.trouble if before else None, 0.0
    for event in events:
        now: Trouble | None = None
        if event.what == "down" or event.what == "no_carrier":  # noqa: PLR1714 - mypy narrows this, and no set
            now = event.what
        elif event.what not in {"up", "carrier"}:
            continue
        if trouble and now != trouble:
            found.append(Outage(trouble, start, event.at))
        if now != trouble:
            trouble, start = now, event.at
    return [*found, Outage(trouble, start, None)] if trouble else found


def _is_start_up(earlier: Outage | None, outage: Outage) -> bool:
    """Whether the interface had just come up, and got its carrier a moment later."""
    if earlier is None or outage.start is None or outage.end is None:
        return False
    return earlier.end == outage.start and outage.end - outage.start < _SETTLING


def _is_part_of(outage: Outage, moments: Sequence[float]) -> bool:
    """Whether the outage began with one of the moments, or after it."""
    return any(outage.start is not None and outage.start > moment - _LAST_MOMENT for moment in moments)


def link_warnings(
    interface: str,
    before: LinkState | None,
    events: Sequence[LinkEvent],
    guests_ended: Sequence[float],
    *,
    of_card: bool = False,
) -> list[str]:
    """What happened to the interface while the capture ran, whether it saw packets or not.

    `of_card`: it is a guest's own, and it is no wonder that it went with its guest.
    """
    found = [f"{interface!r} {each.told}" for each in outages(before, events, guests_ended) if each.start]
    for event in events:
        if not (event.what == "removed" and of_card and guests_ended):
            found += event_warning(interface, event)
    if (more := len(found) - _SHOWN_WARNINGS) > 0:
        found[_SHOWN_WARNINGS:] = [f"{interface!r} changed {more} more times"]
    return found


def event_warning(interface: str, event: LinkEvent) -> list[str]:
    """An event that is no outage, as a warning."""
    when = after_start(event.at)
    match event.what:
        case "renamed":
            return [f"{interface!r} was renamed to {event.new_name!r} {when}"]
        case "removed":
            return [f"{interface!r} was removed {when}"]
        case "missed":
            return [f"interfaces changed {when} faster than could be followed: some changes are not told here"]
        case _:
            return []


def after_start(seconds: float) -> str:
    """A moment, in words."""
    return f"{seconds:.2f} s after the start"
