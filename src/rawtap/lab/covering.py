"""What is known of the code that a guest runs, while its blocks are counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rawtap.blocking import reading
from rawtap.debug import functions, points
from rawtap.debug.code import Code
from rawtap.debug.debugger import Debugger
from rawtap.debug.functions import Function, Functions
from rawtap.debug.stops import Place
from rawtap.errors import DebugRefused
from rawtap.guest.machine import Machine

_CURE = 'icount = "auto" in its profile has QEMU emulate it; then boot it again'
_NO_SYMBOLS = "no symbols: it is booted from no ELF file, and none is beside it; a profile can name one"


@dataclass(eq=False)
class Covering:
    """One, from `begin` to `end`.

    Attributes:
        functions: Those of the files with the guest's symbols.
        notes: What is to be known of these.
        idle: The addresses of blocks of theirs that ran while nothing of interest did, as somebody said.
        idle_functions: The addresses of the functions of these.
        places: The lines at which functions begin, by their addresses, as far as somebody asked.
        code: What the same files have for code.
    """

    functions: Functions
    notes: tuple[str, ...] = ()
    idle: set[int] = field(default_factory=set)
    idle_functions: set[int] = field(default_factory=set)
    places: dict[int, Place] = field(default_factory=dict)
    code: Code = field(default_factory=Code)

    @classmethod
    async def begin(cls, machine: Machine, debugger: Debugger | None) -> Covering:
        """Have each block counted that the guest runs from the end of this call on, and some before.

        Raises:
            DebugRefused: QEMU does not emulate its processors.
            DiskStalled: The disk of its symbols does not answer.
            GuestExited, GuestFailed, DebugError: It has ended; QEMU, or gdb, does not answer.
        """
        require_emulated(machine.name, machine.accelerator)
        found, notes = await functions_of(machine.spec.symbols)
        code = await Code.read(machine.spec.symbols)
        await machine.log_blocks()
        try:
            # Not by a stop of QEMU's, where there is a gdb: it would take that for one that it is to tell of.
            if debugger is None:
                await machine.leave_blocks()
            else:
                await points.rows(debugger)  # which holds a guest that runs for a moment
        except BaseException:
            await machine.end_blocks()
            raise
        return cls(Functions(found), notes, code=code)

    def note_idle(self, blocks: Iterable[int]) -> None:
        """Those blocks run when the guest is idle; those that are in no function are not noted."""
        for each in blocks:
            if (function := self.functions.at(each)) is not None:
                self.idle.add(each)
                self.idle_functions.add(function.start)


def require_emulated(name: str, accelerator: str | None) -> None:
    """Raise DebugRefused for a guest whose code a processor of the host's runs by itself."""
    if accelerator != "tcg":
        raise DebugRefused(
            f"what the guest {name} runs cannot be told: that takes a processor that QEMU emulates",
            evidence=f"it runs by {accelerator or 'nothing yet'}",
            cure=_CURE,
        )


async def functions_of(symbols: Sequence[tuple[Path, int]]) -> tuple[list[Function], tuple[str, ...]]:
    """The functions of all files; what is to be known of files that have none, or cannot be read.

    Raises:
        DiskStalled: The disk of one does not answer.
    """
    found: list[Function] = []
    notes = [] if symbols else [_NO_SYMBOLS]
    for path, offset in symbols:
        try:
            more = await reading(path, functions.read, path, offset)
        except (OSError, ValueError) as error:
            notes.append(f"no functions of {path.name}: {error}")
            continue
        found += more
        notes += [] if more else [f"no functions of {path.name}: it has no symbols of any"]
    return found, tuple(notes)
