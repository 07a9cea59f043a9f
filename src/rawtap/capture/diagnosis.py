"""Why a capture saw nothing, from evidence that was gathered while it ran. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkState:
    """An interface at one moment: its carrier and its own packet counters (rtnetlink(7), IFLA_STATS64)."""

    up: bool
    carrier: bool
    packets: int


@dataclass(frozen=True)
class Evidence:
    """What is known of an empty capture.

    Attributes:
        interface: The name.
        filter: The capture filter, "" for none.
        duration: Seconds.
        dropped: Frames that the kernel had no room for.
        before: The interface when the capture was armed, None where it could not be asked.
        after: The interface when the capture ended, None where it is gone.
        error: What ended the capture, None where nothing failed.
    """

    interface: str
    filter: str
    duration: float
    dropped: int
    before: LinkState | None
    after: LinkState | None
    error: str | None


def explain_empty(evidence: Evidence) -> str:
    """Say why no packet is in the file, and what to look at next."""
    name, seconds = evidence.interface, f"{evidence.duration:.1f} s"
    if evidence.error:
        return f"The capture failed before it saw a packet: {evidence.error}"
    if evidence.dropped:
        return (
            f"All {evidence.dropped} packets that matched were dropped by the kernel for want of room in the "
            "ring. Use a narrower filter."
        )
    if evidence.after is None:
        return f"The interface {name} is gone: it was removed during the capture. Boot the guest again."
    if not evidence.after.up:
        return f"The interface {name} is down, and was so at the end of the {seconds}. Bring it up."
    if not evidence.after.carrier:
        return f"The interface {name} has no carrier: nothing is attached to it. Is the guest running?"
    return _explain_quiet(evidence, name, seconds)


def _explain_quiet(evidence: Evidence, name: str, seconds: str) -> str:
    if evidence.before is None or evidence.after is None:
        return f"No packet matched on {name} in {seconds}."
    frames = evidence.after.packets - evidence.before.packets
    if frames <= 0:
        return (
            f"The interface {name} carried no frame at all in {seconds}. Make the guest send something "
            "while a capture runs, and check that it uses this network."
        )
    if evidence.filter:
        return (
            f"The filter {evidence.filter!r} matched none of about {frames} frames that {name} carried in "
            f"{seconds}. Capture without a filter to see what they are."
        )
    return (
        f"The interface {name} counted {frames} frames in {seconds}, but none was seen by the capture: its counter is "
        "read a moment before the capture is armed and a moment after it ends."
    )
