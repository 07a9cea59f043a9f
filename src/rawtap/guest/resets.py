"""Reboots, from the resets that QEMU tells of. Pure.

One reboot of a PC is several resets: each processor asks for its own (Linux on q35 with two of them: five within 60
ms), and the firmware for one more before it says anything. So a reset is another reboot only where the guest has said
something since the one before, or where that was long ago. Resets that go on in silence are a loop of their own kind,
and a guest that came to its prompt in between is in none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_TOGETHER_NS = 100_000_000
_SILENT_NS = 3_000_000_000  # a guest that says nothing for so long has booted in silence
_LOOP = 3  # reboots, each soon after the one before, are no restart that somebody asked for
_SILENT_LOOP = 6  # resets, none of them together with the one before, and not a word in between
_LOOP_NS = 120_000_000_000


@dataclass
class Reboots:
    """Those of one guest, that it did itself: how many, and when the newest were, in nanoseconds.

    `fault` is where its processor had its last triple fault, as far as QEMU tells, "" where it does not tell the place.
    """

    count: int = 0
    times: list[int] = field(default_factory=list)
    fault: str | None = None
    _last: int = 0
    _said: int = 0  # bytes on the console by then
    _silent: list[int] = field(default_factory=list)  # resets since it said something

    def note(self, at_ns: int, said: int) -> bool:
        """A reset of the guest's own, when the console had said so much; whether it is another reboot."""
        gap, spoke = at_ns - self._last, said > self._said
        first = not self._last
        self._last, self._said = at_ns, said
        if first or spoke:
            self._silent.clear()
        if first or spoke or gap >= _TOGETHER_NS:
            self._silent.append(at_ns)
            del self._silent[:-_SILENT_LOOP]
        if not first and not spoke and gap < _SILENT_NS:
            return False
        self.count += 1
        self.times = [*self.times[-_LOOP:], at_ns]
        return True

    def arrived(self) -> None:
        """The guest has come to a prompt: what follows is no part of a loop."""
        self.times.clear()
        self._silent.clear()
        self.fault = None

    @property
    def triple_fault(self) -> str | None:
        """In words, if there was one since its last prompt."""
        if self.fault is None:
            return None
        return f"triple fault at {self.fault}" if self.fault else "triple fault"

    @property
    def loop(self) -> str | None:
        """In words, if the newest came soon one after the other."""
        cause = f"the last by a {self.triple_fault}" if self.triple_fault else "on x86 a triple fault is one"
        return _told(self.times[-_LOOP:], _LOOP, "reboots", cause) or _told(
            self._silent[-_SILENT_LOOP:], _SILENT_LOOP, "resets", cause, ", with nothing on the console in between"
        )


def _told(newest: list[int], enough: int, what: str, cause: str, more: str = "") -> str | None:
    if len(newest) < enough or newest[-1] - newest[0] > _LOOP_NS:
        return None
    seconds = (newest[-1] - newest[0]) / 1e9
    return f"reboot loop: the last {enough} {what} within {seconds:.2g} s{more} ({cause})"
