"""Progress while a call waits: hosts give up on one that says nothing, some after a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rawtap.tools._tool import LabContext

_SECONDS = 4.0


class Heartbeat:
    """One call's: its steps, and every few seconds a sign of life with what the console shows."""

    def __init__(self, context: LabContext) -> None:
        self._context = context
        self._steps = 0

    async def report(self, message: str) -> None:
        """Tell of a step."""
        self._steps += 1
        await self._context.report_progress(self._steps, message=message)

    @asynccontextmanager
    async def every(self, tail: Callable[[], str]) -> AsyncIterator[None]:
        """While the block runs, tell what `tail` gives. Nothing is started for a block that is over before that."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        beats: list[asyncio.Task[None]] = []
        timer = loop.call_later(_SECONDS, lambda: beats.append(loop.create_task(self._beat(tail, began))))
        try:
            yield
        finally:
            timer.cancel()
            for beat in beats:
                beat.cancel()
                await asyncio.wait({beat})
        for beat in beats:
            if not beat.cancelled():
                beat.result()

    async def _beat(self, tail: Callable[[], str], began: float) -> None:
        while True:
            waited = f"{asyncio.get_running_loop().time() - began:.0f} s"
            line = tail()
            await self.report(f"{waited}: {line}" if line else waited)
            await asyncio.sleep(_SECONDS)
