"""Blocking resources in the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync as to_thread

T = TypeVar("T")


@asynccontextmanager
async def in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a blocking context manager in worker threads; leaving is shielded from cancellation."""
    async with AsyncExitStack() as stack:
        value = await to_thread(manager.__enter__)

        async def leave() -> None:
            with anyio.CancelScope(shield=True):
                await to_thread(manager.__exit__, None, None, None)

        stack.push_async_callback(leave)
        yield value
