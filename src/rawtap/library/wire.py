"""What a test says of a guest's wire."""

from __future__ import annotations

from typing import Literal

from rawtap.library.blocking import Capture
from rawtap.tools.packets import PacketLine, Waited


class Wire:
    """A capture, and from where on its packets count: the test's start, or the last `mark`.

    So nothing is missed between a command and what is expected of it: a packet counts that came before the call.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self._marked = 0

    def mark(self) -> None:
        """Count packets from now on: what is on the wire by now was before."""
        self._marked = self.capture.packets(limit=1).scanned

    def expect(self, filter: str, *, within: float = 2.0, count: int = 1) -> list[PacketLine]:  # noqa: A002
        """Have `count` packets that pass `filter`, since the mark or within so many seconds; the first of them.

        Raises:
            AssertionError: They did not come. The text says what came instead.
        """
        __tracebackhide__ = True
        seen = self._wait(filter, within, count=count)
        if not seen.satisfied:
            came = "".join(f"\n  {each.packets} of {each.protocol}: {each.last.summary}" for each in seen.others)
            wanted = "a packet" if count == 1 else f"{count} packets"
            raise AssertionError(f"expected {wanted} {filter!r}: {seen.reason}" + (f"; instead{came}" if came else ""))
        return seen.packets

    def quiet(self, filter: str = "", *, within: float = 0.0) -> None:  # noqa: A002
        """Have no packet that passes `filter` since the mark, up to now and for so many seconds more.

        Raises:
            AssertionError: One came, or may have: packets were lost, or the capture has ended.
        """
        __tracebackhide__ = True
        seen = self._wait(filter, within, absent=True)
        if not seen.satisfied:
            came = "".join(f"\n  packet {each.number}: {each.summary}" for each in seen.packets)
            raise AssertionError(f"expected no packet {filter!r}: {seen.reason}{came}")

    def _wait(self, filter: str, within: float, *, count: int = 1, absent: bool = False) -> Waited:  # noqa: A002
        since: Literal["start"] | int = self._marked or "start"
        return self.capture.wait(filter, timeout=within, count=count, absent=absent, since=since)
