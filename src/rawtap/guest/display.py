"""A guest's screen, keyboard and pointer, over QMP.

A screenshot goes into a file that is in no folder: memory of ours (memfd_create(2)) whose descriptor QEMU gets once.
QEMU opens it anew, by its own /proc/self/fd, for each picture: its `add-fd` sets would want a descriptor that is open
for writing only, and would keep a note of every picture. There is nothing to remove, and no path to choose.

QEMU runs one QMP command after the other, so a picture that nobody waits for any more is whole before the next begins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from rawtap.errors import GuestFailed, GuestPaused, RawtapError, ScreenTooLarge
from rawtap.guest.steps import Event, Step, still_held

logger = logging.getLogger(__name__)

Execute = Callable[[str, dict[str, Any] | None], Awaitable[Any]]

MAX_PICTURE_BYTES = 3 << 20  # 4 MiB as base64; models take up to 5
_TAKES_INPUT = {"running", "suspended"}  # qemu/ui/input.c drops or refuses it in any other state; a key may wake it
# https://www.w3.org/TR/png-3: the signature with the head of the first chunk, and the last chunk.
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


@dataclass(frozen=True)
class Picture:
    """A screen as a PNG file, and its size in pixels."""

    data: bytes
    width: int
    height: int


def picture(data: bytes) -> Picture:
    """Those bytes as a picture. Pure.

    Raises:
        GuestFailed: They are no whole PNG file.
    """
    size = data[len(_PNG_HEAD) : len(_PNG_HEAD) + 8]
    if not data.startswith(_PNG_HEAD) or not data.endswith(_PNG_END):
        raise GuestFailed(
            "QEMU wrote no whole picture", evidence=f"{len(data)} bytes", cure="Try again; qemu_status shows the guest"
        )
    return Picture(data, *struct.unpack(">II", size))


class Display:
    """One guest's, from its start to its end."""

    def __init__(self, execute: Execute, add_fd: Callable[[int], Awaitable[int]]) -> None:
        self._execute = execute
        self._add_fd = add_fd
        self._lock = asyncio.Lock()  # keys of two calls must not mingle, nor pictures
        self._memory: int | None = None
        self._path = ""  # of that memory, for QEMU

    def close(self) -> None:
        """Give back what pictures took."""
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    async def screenshot(self) -> Picture:
        """What the screen shows now.

        Raises:
            ScreenTooLarge: More than `MAX_PICTURE_BYTES`.
            GuestFailed: QEMU refused.
        """
        async with self._lock:
            memory = await self._shared_memory()
            await self._execute("screendump", {"filename": self._path, "format": "png"})
            data = os.pread(memory, MAX_PICTURE_BYTES + 1, 0)
            size = os.fstat(memory).st_size
            os.ftruncate(memory, 0)
        if size > MAX_PICTURE_BYTES:
            raise ScreenTooLarge(
                "the screenshot is larger than an answer may be",
                evidence=f"{size} bytes of PNG, at most {MAX_PICTURE_BYTES}",
                cure="Let the guest use a smaller screen or show less on it",
            )
        return picture(data)

    async def _shared_memory(self) -> int:
        if self._memory is None:
            memory = os.memfd_create("screenshot")
            try:
                self._path = f"/proc/self/fd/{await self._add_fd(memory)}"
            except BaseException:
                os.close(memory)
                raise
            self._memory = memory
        return self._memory

    async def perform(self, steps: Sequence[Step]) -> None:
        """Let keyboard and pointer do those steps, in order. What is pressed is let go of if it fails or is cancelled.

        Raises:
            GuestPaused: The guest does not run; nothing was sent.
            GuestFailed: QEMU refused a step; the text says which.
        """
        async with self._lock:
            await self._require_running()
            done: list[Step] = []
            whole = False
            try:
                for step in steps:
                    done.append(step)
                    await self._send(step.events)
                    # A guest says nowhere that it has taken a key, so this is time given, not an event awaited.
                    await anyio.sleep(step.pause)
                whole = True
            except GuestFailed as error:
                raise GuestFailed(
                    f"step {len(done)} of {len(steps)} failed, {done[-1].said!r}",
                    evidence=f"{error.problem}: {error.evidence}",
                    cure=error.cure,
                ) from error
            finally:
                if not whole:
                    await self._let_go(done)

    async def _require_running(self) -> None:
        status = str((await self._execute("query-status", None))["status"])
        if status not in _TAKES_INPUT:
            raise GuestPaused(
                "the guest takes no keys and clicks now, and nothing was sent",
                evidence=f"its state is {status}",
                cure='qemu_monitor(command="cont") lets it run on',
            )

    async def _send(self, events: Sequence[Event]) -> None:
        await self._execute("input-send-event", {"events": list(events)})

    async def _let_go(self, done: Sequence[Step]) -> None:
        """Release what is pressed, as far as QEMU still takes it; whoever gave up has an error of their own already."""
        with anyio.CancelScope(shield=True):
            try:
                for event in still_held(done):
                    await self._send([event])
            except RawtapError as error:
                logger.info("keys may be pressed still: %s", error)
