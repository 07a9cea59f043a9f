"""Progress while a call waits: hosts give up on one that says nothing, some after a minute."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from rawtap.tools._boundary import LabContext

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
        """While the block runs, tell what `tail` gives; errors of the block leave it as they are."""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat, tail)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again outside of the group, which would wrap it
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _beat(self, tail: Callable[[], str]) -> None:
        began = anyio.current_time()
        while True:
            await anyio.sleep(_SECONDS)
            waited = f"{anyio.current_time() - began:.0f} s"
            line = tail()
            await self.report(f"{waited}: {line}" if line else waited)
