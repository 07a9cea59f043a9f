"""QEMU's log of resets, told apart from what else it writes to stderr. Pure.

With ``-d cpu_reset`` QEMU writes each processor's registers when it is reset, and the line "Triple fault" before, where
an x86 that it emulates was (target/i386/tcg/excp_helper.c): no event of QMP's tells that. The registers are those that
it had then, so they say where. SeaBIOS restarts a PC by a triple fault of its own, where nothing else does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MOST = 4096  # bytes of a line; QEMU's own are shorter
_FAULT = b"Triple fault"
_HEAD = re.compile(rb"CPU Reset \(CPU \d+\)")
_REGISTER = re.compile(rb"[A-Z][A-Z0-9]{1,4} *=")
_PLACE = re.compile(rb"[ER]IP=([0-9a-f]+)")
_FIRMWARE = range(0xE0000, 0x100000)


@dataclass
class ResetLog:
    """One QEMU's. `faults` are the places of its triple faults that nobody has taken yet, "" where it tells none."""

    faults: list[str] = field(default_factory=list)
    _line: bytes = b""
    _awaited: bool = False  # whether the registers to come are those of a fault

    def fed(self, data: bytes) -> bytes:
        """What came, but for that log."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MOST:
            lines, self._line = [*lines, self._line], b""
        return b"".join(line + b"\n" for line in lines if not self._is_log(line))

    def rest(self) -> bytes:
        """The line without an end, which is the last one. A QEMU that ends at a reset tells no registers."""
        self.faults += [""] if self._awaited else []
        return b"" if self._is_log(self._line) else self._line

    def _is_log(self, line: bytes) -> bool:
        if line == _FAULT:
            self._awaited = True
        elif self._awaited and (place := _PLACE.match(line)):
            self.faults += [place[0].decode("ascii")] if int(place[1], 16) not in _FIRMWARE else []
            self._awaited = False
        return line == _FAULT or _HEAD.fullmatch(line) is not None or _REGISTER.match(line) is not None
