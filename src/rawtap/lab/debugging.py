"""The debugger of one guest: attached, told of to whoever waits for the guest, and taken off with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from rawtap.debug.debugger import Debugger
from rawtap.debug.places import Symbols
from rawtap.debug.stops import Stop
from rawtap.errors import DebugNotAttached, GuestPaused
from rawtap.guest.machine import Machine

OnHalt = Callable[[str | None], None]


def symbols_of(machine: Machine) -> list[Symbols]:
    """The files with a guest's symbols."""
    return [Symbols(file, offset) for file, offset in machine.spec.symbols]


@dataclass(eq=False)
class Debugging:
    """What is known of a guest's debugger. Everything here belongs to the event loop.

    Attributes:
        told: The stop that an answer told of last; None since one told that the guest runs.
        marks: How far the console, and each capture by its id, had come when the guest stopped last.
    """

    told: Stop | None = None
    marks: dict[str, int] = field(default_factory=dict)
    _debugger: Debugger | None = None
    _end: asyncio.Task[None] | None = None
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def attach(self, machine: Machine, on_halt: OnHalt) -> Debugger:
        """A debugger on that guest, which stands from then on; the one that is there, where there is one.

        `on_halt` is told in words when the debugger holds the guest, and None when it runs.

        Raises:
            DebugError: One of its kinds; the guest runs on.
            GuestExited: It has ended.
            GuestFailed: QEMU does not answer.
        """
        async with self._lock:
            if (there := self.attached) is not None:
                return there
            await self._close()
            await machine.confirm()

            def tell(stop: Stop | None) -> None:
                on_halt(f"stopped by the debugger at {stop}" if stop else None)

            machine.events.is_debugged = lambda: self.attached is not None
            self._debugger = await Debugger.attached(
                await machine.debugger_socket(), symbols_of(machine), machine.spec.source, tell
            )
            self._end = asyncio.create_task(self._end_with(machine, self._debugger))
            return self._debugger

    @staticmethod
    async def _end_with(machine: Machine, debugger: Debugger) -> None:
        await machine.over()
        await debugger.abandon(f"the guest has ended: {machine.exit}")

    @property
    def attached(self) -> Debugger | None:
        """The one that looks into the guest, None where none does."""
        return None if self._debugger is None or self._debugger.gone else self._debugger

    def debugger(self, name: str) -> Debugger:
        """The one that was attached.

        Raises:
            DebugNotAttached: There is none.
        """
        if self._debugger is None:
            raise DebugNotAttached(
                f"no debugger looks into the guest {name}", cure='qemu_debug(action="attach") stops it and looks'
            )
        return self._debugger

    async def note_stop(self, at: str) -> bool:
        """QEMU has stopped the guest, where `at` says: whether there is a debugger, which has been told."""
        return self.attached is not None and await self.attached.stopped_at(at)

    async def refresh(self, why: str) -> None:
        """A guest's state was changed, as `why` says: a debugger that holds it reads it again. Raises DebugError."""
        if self._debugger is not None:
            await self._debugger.refresh(why)

    def require_released(self, name: str) -> None:
        """Raise GuestPaused where the debugger holds the guest: it is the debugger's to let go."""
        if self._debugger is not None and self._debugger.stop is not None:
            raise GuestPaused(
                f"the guest {name} is stopped by the debugger",
                cure='qemu_debug(action="continue", timeout=0) lets it run',
            )

    async def close(self) -> None:
        """Let the guest go, and end gdb; harmless where there is none."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        debugger, end, self._debugger, self._end = self._debugger, self._end, None, None
        if debugger is not None:
            await debugger.close()
        if end is not None:
            end.cancel()
            await asyncio.wait({end})
