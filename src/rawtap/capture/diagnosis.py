"""Why a capture saw nothing, from evidence that was gathered while it ran. Pure.

Each rule looks for one cause and says it with the next step, or says nothing. Several causes may hold: they are told
in the order of the rules, the most decisive first. Names of interfaces and protocols and the filter are quoted,
for they are somebody else's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from rawtap.capture.outages import LinkEvent, LinkState, Outage, after_start, event_warning, outages

_LIMIT = 600  # characters of a diagnosis
_SHOWN_FILTER = 80
_SHOWN_KINDS = 5
_SHOWN_KIND = 40
_SHOWN_NAMES = 3  # guests, interfaces, outages


@dataclass(frozen=True)
class GuestTraffic:
    """A guest on the captured network: packets that passed its card during the capture, and when it ended.

    Its TAP counted them; where it has none (""), QEMU's mirror.
    """

    guest: str
    tap: str
    sent: int
    received: int
    ended: float | None = None


@dataclass(frozen=True)
class Elsewhere:
    """Another interface that may be captured, and the packets that passed it during the capture."""

    interface: str
    frames: int
    guests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What is known of an empty capture.

    Attributes:
        interface: The name.
        filter: The capture filter, "" for none.
        duration: Seconds.
        dropped: Frames that the kernel had no room for.
        before: The interface when the capture was armed.
        after: The interface when the capture ended, None where it is gone or `unknown` says why it was not asked.
        error: What ended the capture, None where nothing failed.
        frames_seen: Frames that passed, whatever the filter; counted by the kernel while nothing had matched.
        kinds: Protocols among `kinds_sampled` of them, with how many there were of each.
        events: What happened to the interface, oldest first.
        guests: Those on the captured network.
        elsewhere: Where there was traffic, the likeliest first.
        unknown: Why the interfaces could not be asked at the end.
        full_at: The size that the file may have, where the capture ended because the first packet does not fit into it.
        mirrored: It is no interface but a guest's card on QEMU's own network, of which QEMU gave each frame.
    """

    interface: str
    filter: str
    duration: float
    dropped: int
    before: LinkState | None
    after: LinkState | None
    error: str | None
    frames_seen: int = 0
    kinds: tuple[tuple[str, int], ...] = ()
    kinds_sampled: int = 0
    events: tuple[LinkEvent, ...] = ()
    guests: tuple[GuestTraffic, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    unknown: str | None = None
    mirrored: bool = False
    full_at: int | None = None

    @property
    def removed(self) -> bool:
        """Whether the interface is gone."""
        return any(event.what == "removed" for event in self.events) or (self.after is None and self.unknown is None)

    @property
    def counted(self) -> int | None:
        """Packets by the interface's own counters, which were read a moment before and after; None if unknown."""
        if self.before is None or self.after is None:
            return None
        gained = (self.after.received - self.before.received, self.after.sent - self.before.sent)
        return sum(max(0, each) for each in gained)


def explain_empty(evidence: Evidence) -> str:
    """Say why no packet is in the file, and what to do next, in at most 600 characters."""
    rules = _rules_for(evidence)
    text, *further = [cause for rule in rules for cause in rule(evidence)]
    text = _cut(text, _LIMIT)
    for cause in further:
        if len(text) + 1 + len(cause) <= _LIMIT:
            text += f" {cause}"
    return text


def _rules_for(evidence: Evidence) -> tuple[_Rule, ...]:
    if evidence.error and not evidence.removed:
        return _AFTER_FAILURE
    if evidence.full_at is not None:
        return _AFTER_LIMIT
    return _AFTER_DROPS if evidence.dropped else _RULES


# ---------------------------------------------------------------- the rules


def _limit(evidence: Evidence) -> list[str]:
    return [
        f"The first packet that matched does not fit into a file of max_bytes={evidence.full_at}, which ended the "
        "capture. Capture again with a larger max_bytes, or a snaplen that cuts packets."
    ]


def _failure(evidence: Evidence) -> list[str]:
    return [f"The capture failed before it saved a packet: {evidence.error}"]


def _drops(evidence: Evidence) -> list[str]:
    return [
        f"All {evidence.dropped} packets that matched were dropped by the kernel for want of room in the "
        "ring. Use a narrower filter."
    ]


def _removal(evidence: Evidence) -> list[str]:
    if not evidence.removed:
        return []
    when = next((after_start(each.at) for each in evidence.events if each.what == "removed"), "during the capture")
    if evidence.mirrored:
        return [f"The guest of {evidence.interface!r} ended {when}. Boot it again, then start a new capture."]
    whose = next((f" with its guest {each.guest!r}" for each in evidence.guests if each.tap == evidence.interface), "")
    return [
        f"The interface {evidence.interface!r} was removed{whose} {when}, and the capture could see nothing more. "
        "Boot the guest again, then start a new capture."
    ]


def _outage_to_the_end(evidence: Evidence) -> list[str]:
    steps = {
        "down": "Bring it up, then capture again.",
        "no_carrier": "Nothing that runs is attached to it: boot a guest with network=true, or see to its other end.",
    }
    if evidence.mirrored:
        steps["no_carrier"] = "Its cable is pulled: qemu_link(up=true) plugs it in."
    open_ones = [each for each in _outages_of(evidence) if each.end is None]
    return [f"The interface {evidence.interface!r} {each.told}. {steps[each.what]}" for each in open_ones]


def _unmatched(evidence: Evidence) -> list[str]:
    frames = evidence.frames_seen or evidence.counted or 0
    if not frames or not evidence.filter:
        return []
    about = "" if evidence.frames_seen else "about "
    kinds = _kinds(evidence)
    step = "Capture without a filter, or with one for these." if kinds else "Capture without a filter to see them."
    return [
        f"The filter {_cut(evidence.filter, _SHOWN_FILTER)!r} matched none of {about}{_frames(frames)} that "
        f"{evidence.interface!r} carried in {_duration(evidence)}{kinds}. {step}"
    ]


def _kinds(evidence: Evidence) -> str:
    if not evidence.kinds:
        return ""
    named = [f"{count} {_cut(name, _SHOWN_KIND)!r}" for name, count in evidence.kinds]
    listed = ", ".join(named[:_SHOWN_KINDS]) + (", and others" if len(named) > _SHOWN_KINDS else "")
    sample = f" (of {evidence.kinds_sampled} looked at)" if evidence.kinds_sampled < evidence.frames_seen else ""
    return f": {listed}{sample}"


def _uncaught(evidence: Evidence) -> list[str]:
    frames = evidence.frames_seen or evidence.counted
    if evidence.filter or not frames:
        return []
    return [
        f"{evidence.interface!r} counted {_frames(frames)} in {_duration(evidence)}, but none was seen by the "
        "capture: its counter is read a moment before the capture is armed and a moment after it ends. Capture again."
    ]


def _outages_in_between(evidence: Evidence) -> list[str]:
    told = [each.told for each in _outages_of(evidence) if each.end is not None]
    if not told:
        return []
    more = f" and {len(told) - _SHOWN_NAMES} more times" if len(told) > _SHOWN_NAMES else ""
    return [
        f"The interface {evidence.interface!r} {', '.join(told[:_SHOWN_NAMES])}{more}: what was sent then is lost. "
        "Send it again."
    ]


def _silence(evidence: Evidence) -> list[str]:
    if evidence.frames_seen or evidence.counted or evidence.removed:
        return []
    if evidence.counted is None:
        return [f"No packet matched on {evidence.interface!r} in {_duration(evidence)}."]
    explained = evidence.guests or evidence.elsewhere or _outages_of(evidence)
    step = (
        "" if explained else " Make the guest send something while a capture runs, and check that it uses this network."
    )
    return [f"{evidence.interface!r} carried no frame at all in {_duration(evidence)}.{step}"]


def _outages_of(evidence: Evidence) -> list[Outage]:
    ended = [each.ended for each in evidence.guests if each.ended is not None]
    found = outages(evidence.before, evidence.events, ended)
    trouble = evidence.after.trouble if evidence.after else None
    known = any(each.end is None for each in found) or (trouble == "no_carrier" and ended)
    return found if trouble is None or known else [*found, Outage(trouble, None, None)]


def _mute_guests(evidence: Evidence) -> list[str]:
    mute = [each for each in evidence.guests if not each.sent]
    return [_mute(each, alone=len(mute) == len(evidence.guests)) for each in mute[:_SHOWN_NAMES]]


def _mute(traffic: GuestTraffic, *, alone: bool) -> str:
    ended = f" before it ended {after_start(traffic.ended)}" if traffic.ended is not None else ""
    tap = f" (its TAP is {traffic.tap!r})" if traffic.tap else ""
    if traffic.received and alone:
        return (
            f"Only the host's side transmitted: {_frames(traffic.received)} went to the guest {traffic.guest!r}, which "
            f"sent none{ended}. See on its console (qemu_read) whether it found its network card and has an address."
        )
    return (
        f"The guest {traffic.guest!r} transmitted no frame{ended}{tap}. "
        "Make it send something while a capture runs (qemu_send)."
    )


def _traffic_elsewhere(evidence: Evidence) -> list[str]:
    shown = evidence.elsewhere[:_SHOWN_NAMES]
    if not shown or evidence.frames_seen or evidence.counted:
        return []
    told = " and ".join(f"{_frames(each.frames)} passed {each.interface!r}{_whose(each)}" for each in shown)
    return [f"Meanwhile {told}: qemu_pcap_start(interface={json.dumps(shown[0].interface)}) captures there."]


def _whose(elsewhere: Elsewhere) -> str:
    guests = ", ".join(repr(guest) for guest in elsewhere.guests[:_SHOWN_NAMES])
    return f" (guest {guests})" if guests else ""


def _renames(evidence: Evidence) -> list[str]:
    renames = [each for each in evidence.events if each.what == "renamed"]
    if not renames:
        return []
    last = renames[-1]
    return [
        f"The interface {evidence.interface!r} was renamed to {last.new_name!r} {after_start(last.at)}; the capture "
        "stayed with it. Use the new name from now on."
    ]


def _missing(evidence: Evidence) -> list[str]:
    missed = [each for each in evidence.events if each.what == "missed"]
    return event_warning(evidence.interface, missed[0]) if missed else []


def _not_asked(evidence: Evidence) -> list[str]:
    return [f"The interfaces cannot be asked: {evidence.unknown}"] if evidence.unknown else []


_Rule = Callable[[Evidence], list[str]]

# What matched was lost: what else passed is beside the point.
_AFTER_DROPS: tuple[_Rule, ...] = (_drops, _outage_to_the_end)
_AFTER_LIMIT: tuple[_Rule, ...] = (_limit,)
_AFTER_FAILURE: tuple[_Rule, ...] = (_failure, _outage_to_the_end, _outages_in_between)
_RULES: tuple[_Rule, ...] = (
    _removal,
    _outage_to_the_end,
    _unmatched,
    _uncaught,
    _outages_in_between,
    _silence,
    _mute_guests,
    _traffic_elsewhere,
    _renames,
    _missing,
    _not_asked,
)


# --------------------------------------------------------------- words


def _duration(evidence: Evidence) -> str:
    return f"{evidence.duration:.{1 if evidence.duration >= 1 else 2}f} s"


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
