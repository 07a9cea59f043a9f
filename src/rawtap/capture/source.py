"""Where a capture's frames come from: the seam between a session, which saves and counts, and what reads the frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rawtap.capture._unfiltered import UnfilteredCount
from rawtap.capture._worker import Worker


class Source(Protocol):
    """Where the frames of one capture come from. Used once.

    Attributes:
        worker: What reads and writes them; the session's thread runs it.
        unfiltered: Counts what passes while nothing was selected.
        unknown: Which of a capture's counters cannot be known, by name, and why.
        tags_taken_off: The filter is the kernel's, which compares a frame without its outer VLAN tag.
    """

    @property
    def worker(self) -> Worker: ...

    @property
    def unfiltered(self) -> UnfilteredCount: ...

    @property
    def unknown(self) -> Mapping[str, str]: ...

    @property
    def tags_taken_off(self) -> bool: ...

    def open(self, name: str, *, filtered: bool) -> None:
        """Open what the frames come from, called `name`; in the capture's thread, like `close`.

        Raises:
            CaptureError: It cannot be captured; `close` is called all the same.
        """

    def close(self) -> None:
        """Give back what is held; the counters stay readable."""
