"""What a bridge passes on of what each guest on it sends, while a capture on the bridge runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from rawtap.capture.received import Received
from rawtap.packets.passage import Passage, compare


@dataclass(eq=False)
class Passages:
    """Counts and samples of a bridge and of its guests' TAPs; any thread may ask.

    The bridge is opened before the TAPs and looked at after them. So a frame on its way in that moment counts as
    passed, and none is called lost that is not.
    """

    bridge: Received
    taps: tuple[tuple[str, str, Received], ...]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, bridge: int, taps: Iterable[tuple[str, str, int]]) -> Passages:
        """Begin to count, on a bridge by its index, and on the TAPs on it: whose each is, its name, its index.

        Raises:
            CaptureError: One of its kinds; nothing is left open.
        """
        with contextlib.ExitStack() as undo:
            whole = Received(bridge)
            undo.callback(whole.close)
            opened = []
            for guest, tap, index in taps:
                opened.append((guest, tap, Received(index)))
                undo.callback(opened[-1][2].close)
            undo.pop_all()
        return cls(whole, tuple(opened))

    def look(self) -> list[Passage]:
        """The guests of whose frames some did not come by, or came by shortened, as things stand now."""
        with self._lock:
            for _, _, received in self.taps:
                received.look()
            self.bridge.look()
            found = [
                compare(guest, tap, each.count, each.sample, self.bridge.sample, whole=self.bridge.whole)
                for guest, tap, each in self.taps
            ]
        return [each for each in found if each.lost or each.trimmed]

    def close(self) -> None:
        """Count no more; what was found can still be asked for."""
        with self._lock:
            for _, _, received in self.taps:
                received.close()
            self.bridge.close()
