"""Blocking calls and resources in the event loop, disks that do not answer, and releases of which one fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync as to_thread

from rawtap.errors import DiskStalled

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # each has the event loop release everything
DISK_SECONDS = 5.0  # a disk that answers nothing for so long is told of; one that was asleep takes less

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)

_WAITING = 64  # threads that wait for disks; those of other work are apart, and go on
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("_limiter")


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


async def on_disk(what: object, function: Callable[[*Ts], T], *args: *Ts, seconds: float = DISK_SECONDS) -> T:
    """Call what waits for a disk; a call that is cancelled, or takes too long, is left to itself in its thread.

    `what` is named in the error: a path, or what is done.

    Raises:
        DiskStalled: It took longer than `seconds`.
    """
    with anyio.move_on_after(seconds):
        return await to_thread(function, *args, abandon_on_cancel=True, limiter=_threads())
    raise DiskStalled(
        f"the disk of {what} does not answer",
        evidence=f"nothing came within {seconds:g} s",
        cure="See to that file system (is its server there?), then try again",
    )


async def reading(file: Path, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call what reads a file, or files beside it, for as long as it takes and their disk answers.

    A call that is cancelled, or whose disk does not answer, is left to itself in its thread.

    Raises:
        DiskStalled: The disk was asked for `file` beside it, and did not answer.
    """
    call = asyncio.ensure_future(to_thread(function, *args, abandon_on_cancel=True, limiter=_threads()))
    try:
        while not (await asyncio.wait([call], timeout=DISK_SECONDS))[0]:
            await on_disk(file, _ask_for, file)
        return call.result()
    finally:
        call.cancel()


def _ask_for(file: Path) -> None:
    with contextlib.suppress(OSError):  # that is an answer
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _threads() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(limiter := anyio.CapacityLimiter(_WAITING))
        return limiter


async def to_their_end(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once, each to its end whatever becomes of the others; then raise what failed.

    Raises:
        BaseException: The only one that failed.
        BaseExceptionGroup: Those that failed, one after the other in the order of `calls`.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    _raise([each for each in results if isinstance(each, BaseException)])
    return [each for each in results if not isinstance(each, BaseException)]


async def in_turn(*steps: Callable[[], Awaitable[object]]) -> None:
    """Take one step after the other, whatever becomes of those before; raises as `to_their_end`."""
    errors: list[BaseException] = []
    for step in steps:
        try:
            await step()
        except BaseException as error:  # noqa: BLE001 - raised when the last step is taken
            errors.append(error)
    _raise(errors)


def _raise(errors: list[BaseException]) -> None:
    flat = [
        each for error in errors for each in (error.exceptions if isinstance(error, BaseExceptionGroup) else (error,))
    ]
    if len(flat) > 1:
        raise BaseExceptionGroup("several things failed", flat)
    if flat:
        raise flat[0]


def leave_threads_behind() -> None:
    """End this process now if a thread of it waits for a disk that may never answer; the kernel has to see to that one.

    The interpreter would wait for it. Call this last: nothing that is left to do at the interpreter's end is done.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(1.0)
            if thread.is_alive():
                logger.warning("the server ends beside a disk that does not answer")
                sys.stderr.flush()
                os._exit(0)
