"""What became of every frame that a capture was given: an account that closes, and says where it does not. Pure."""

from __future__ import annotations

import os
from typing import NamedTuple

from rawtap.capture.files import Segment


class Account(NamedTuple):
    """A capture's counters at one moment: seen = filtered + saved + dropped + refused + in_flight.

    Attributes:
        seen: Frames by the count of where they come from: the kernel's, of what its filter selected, or the worker's,
            of what was in QEMU's socket.
        filtered: Of these, what the worker's own filter did not select.
        saved: Whole in the files, those included that a ring has removed again.
        dropped: What found no room in the kernel's ring.
        refused: What came when a limit was reached, or what the disk did not take.
        in_flight: What is in the kernel's ring, or in memory on its way to the disk. At the end nothing should be.
        from_guest: Of the seen ones, what the guest sent, where they come from QEMU.
        dropped_interface: What the interface lost before the capture could see it; in none of the others.
        stats_failed: The errno with which the kernel refused its counters, 0 where it gave them.
        wire_bytes: Length of the saved ones on the wire.
        file_bytes: Where the newest file's last whole record ends.
        error: The errno of the first failed write, or 0.
        granted: Bytes of memory that may be on their way to the disk, of all captures together.
        queued_most: Bytes that were, at once.
        reason: Why the capture ended, None while it runs.
        files: Those that are there, oldest first.
    """

    seen: int
    filtered: int
    saved: int
    dropped: int
    refused: int
    in_flight: int
    from_guest: int
    dropped_interface: int
    stats_failed: int
    wire_bytes: int
    file_bytes: int
    error: int
    granted: int
    queued_most: int
    reason: str | None
    files: tuple[Segment, ...]

    @property
    def gap(self) -> int:
        """Frames that were seen and are in none of the other counters; below 0: more than were seen."""
        return self.seen - self.filtered - self.saved - self.dropped - self.refused - self.in_flight

    def behind(self) -> str:
        """What else to say of packets that the kernel dropped, where the disk may be the cause; else nothing."""
        if self.queued_most * 2 < self.granted:
            return ""
        return (
            f". The disk was behind: {self.queued_most >> 20} MiB waited for it, of {self.granted >> 20} that all "
            "captures may fill (--buffer-mib)"
        )

    def unknown(self) -> dict[str, str]:
        """Which counters cannot be known, by the names that answers have for them, and why."""
        if not self.stats_failed:
            return {}
        why = f"the kernel does not give its counters: {os.strerror(self.stats_failed)}"
        return dict.fromkeys(("seen", "dropped_kernel", "in_flight", "dropped_interface"), why)

    def left_open(self) -> list[str]:
        """What the account of a capture that has ended leaves open, as warnings; nothing, where it closes."""
        found = []
        if self.in_flight:
            found.append(f"{self.in_flight} packets that the kernel counted never came out of its ring")
        if self.gap:
            found.append(
                f"the account does not close: of {self.seen} frames seen {self.filtered} were filtered, {self.saved} "
                f"saved, {self.dropped} dropped, {self.refused} refused, and {self.in_flight} did not come. "
                "This is a defect of rawtap: please report it"
            )
        return found
