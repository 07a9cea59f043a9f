"""What QEMU writes to stderr: its own words, and, on x86, what its log tells of a processor's resets.

QEMU's events do not tell a triple fault from a reset that was asked for. Its log does (`-d cpu_reset`), where it
emulates the processor: before the RESET event come "Triple fault" and the registers as they were (target/i386/tcg).
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import IO

_KEPT = 16384
_READ = 65536
_FAULT = b"Triple fault"
_DUMP = re.compile(rb"CPU Reset \(CPU \d+\)")
_REGISTERS = re.compile(rb"(?:[ER][A-Z0-9]{2}|R\d\d?|[C-GS]S|[LGI]DT|TR|CR0|DR\d|CCS|EFER|FCW|FPR\d|XMM\d\d) ?=")
_FIRMWARE = range(0xE0000, 0x100000)  # where SeaBIOS is, which resets a machine so when it is asked to
_PLACE = re.compile(rb"\b[ER]IP=([0-9a-f]+)")
_ADDRESS = re.compile(rb"\bCR2=([0-9a-f]+)")


class ProcessorLog:
    """Takes the log out of what QEMU writes. Pure.

    Attributes:
        faults: How many triple faults there were.
        place: Where the newest was, in words.
        words: The newest of what is no log.
    """

    def __init__(self) -> None:
        self.faults = 0
        self.place = ""
        self.words = bytearray()
        self._line = b""
        self._of_fault = self._of_place = False

    def feed(self, data: bytes) -> None:
        """What was written."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Nothing more comes. A fault at which QEMU ends has no registers, and so no place."""
        if self._line:
            self._take(self._line)
            self._line = b""
        if self._of_fault:
            self.faults, self.place, self._of_fault = self.faults + 1, "", False

    def _take(self, line: bytes) -> None:
        if line == _FAULT:
            self._of_fault = True
        elif _REGISTERS.match(line) or _DUMP.fullmatch(line):
            self._look(line)
        else:
            self.words += line + b"\n"
            del self.words[:-_KEPT]

    def _look(self, line: bytes) -> None:
        """The first dump behind a fault shows the registers as they were."""
        if self._of_fault and (match := _PLACE.search(line)):
            self._of_fault = False
            self._of_place = int(match[1], 16) not in _FIRMWARE
            self.faults += self._of_place
            self.place = f"at 0x{match[1].decode()}" if self._of_place else self.place
        elif self._of_place and (match := _ADDRESS.search(line)):
            self._of_place = False
            self.place += f", CR2 0x{match[1].decode()}" if match[1].strip(b"0") else ""


class Diagnostics:
    """Reads a child's stderr into a log, as it comes or when asked; closes the pipe at its end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.log = ProcessorLog()
        self.ended = asyncio.Event()
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe, self.drain)

    def drain(self) -> None:
        """Read all that is there by now."""
        while not self.ended.is_set():
            try:
                data = os.read(self._pipe.fileno(), _READ)
            except BlockingIOError:
                return
            self.log.feed(data)
            if not data:
                asyncio.get_running_loop().remove_reader(self._pipe)
                self._pipe.close()
                self.log.end()
                self.ended.set()
