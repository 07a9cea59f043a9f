"""Blocking resources in the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync as to_thread

T = TypeVar("T")


@asynccontextmanager
async def in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a blocking context manager in worker threads; leaving is shielded from cancellation.

    The manager is told of the body's error, or of its cancellation, and may end it there.
    """
    async with AsyncExitStack() as stack:
        value = await to_thread(manager.__enter__)

        async def leave(
            kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool | None:
            with anyio.CancelScope(shield=True):
                return await to_thread(manager.__exit__, kind, error, trace)
            return None

        stack.push_async_exit(leave)
        yield value
