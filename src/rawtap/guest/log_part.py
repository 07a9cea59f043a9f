"""A kind of record in QEMU's log that is read while somebody wants it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class LogPart:
    """Takes its records out of what QEMU writes.

    Attributes:
        items: What QEMU is told to log for it.
        is_on: Whether the records are read; else they are taken out and dropped, as QEMU may have some on their way.
        why_ended: Why it ended by itself, in words; "" where it did not.
    """

    items: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self.is_on = False
        self.why_ended = ""
        self._on_end: Callable[[], None] = lambda: None
        self._rest = b""

    def begin(self, on_end: Callable[[], None]) -> None:
        """Read them from here on; `on_end` is called where it ends by itself."""
        self.is_on, self.why_ended, self._on_end = True, "", on_end

    def end(self) -> None:
        """Read none any more."""
        self.is_on = False

    def taken(self, data: bytes) -> bytes:
        """What was written but for these, in whole lines; the rest of it for b"", which is the end."""
        raise NotImplementedError

    def _end_by_itself(self, why: str) -> None:
        self.why_ended = why
        self.end()
        self._on_end()
