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


@dataclass(frozen=True, slots=True)
class Fault:
    """Triple faults of an x86's processors by then: how many, and where the newest was, in words."""

    count: int = 0
    place: str = ""


@dataclass
class Reboots:
    """Those of one guest, that it did itself: how many, and when the newest were, in nanoseconds.

    `how` is what the newest was, in words, as far as QEMU lets it be known. `fault` is the same where it was a triple
    fault, and no prompt came since.
    """

    count: int = 0
    how: str = "the guest reset itself"
    fault: str | None = None
    times: list[int] = field(default_factory=list)
    _faults: int | None = None  # by the newest one
    _last: int = 0
    _said: int = 0  # bytes on the console by then
    _silent: list[int] = field(default_factory=list)  # resets since it said something

    def of(self, fault: Fault) -> str:
        """What a reset is at which there were so many triple faults."""
        is_fault = fault.count > (self._faults or 0)
        return f"reset by the processor: a triple fault {fault.place}".rstrip() if is_fault else "a reboot"

    def note(self, at_ns: int, said: int, fault: Fault | None = None) -> bool:
        """A reset of the guest's own, when the console had said so much; whether it is another reboot.

        `fault` is None where QEMU cannot tell of triple faults.
        """
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
        if fault is not None:
            self.how = self.of(fault).replace("a reboot", "the guest reset itself")
            self.fault = self.how if fault.count > (self._faults or 0) else None
            self._faults = fault.count
        self.count += 1
        self.times = [*self.times[-_LOOP:], at_ns]
        return True

    def arrived(self) -> None:
        """The guest has come to a prompt: what follows is no part of a loop."""
        self.times.clear()
        self._silent.clear()
        self.fault = None

    @property
    def loop(self) -> str | None:
        """In words, if the newest came soon one after the other."""
        found = _told(self.times[-_LOOP:], _LOOP, "reboots") or _told(
            self._silent[-_SILENT_LOOP:], _SILENT_LOOP, "resets", ", with nothing on the console in between"
        )
        return f"{found} ({self._why})" if found else None

    @property
    def _why(self) -> str:
        if self._faults is None:
            return "on x86 a triple fault is one"
        return self.fault or "the guest asked for them"


def _told(newest: list[int], enough: int, what: str, more: str = "") -> str | None:
    if len(newest) < enough or newest[-1] - newest[0] > _LOOP_NS:
        return None
    seconds = (newest[-1] - newest[0]) / 1e9
    return f"reboot loop: the last {enough} {what} within {seconds:.2g} s{more}"
