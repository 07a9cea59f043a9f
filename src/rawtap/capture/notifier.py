"""Waiting, in the event loop, for what a capture's own thread has saved."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rawtap.capture.session import CaptureSession, Reached
from rawtap.errors import CaptureFailed

_PATIENCE = 2.0  # seconds; a capture's thread answers within milliseconds, or waits for a disk


class Notifier:
    """Wakes tasks when a capture has saved packets, has caught up with the wire, or has ended.

    Everything here belongs to the event loop.
    """

    def __init__(self, session: CaptureSession) -> None:
        self._session = session
        self._listeners = 0
        self._turn = asyncio.Lock()
        self.changed = asyncio.Event()  # set, and replaced by a new one, when something has changed

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have `changed` set while this is open.

        Raises:
            OSError: There are too many descriptors.
        """
        fd = self._session.notify_fd()
        loop = asyncio.get_running_loop()
        if self._listeners == 0:
            loop.add_reader(fd, self._wake, fd)
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1
            if self._listeners == 0:
                loop.remove_reader(fd)
                self._session.end_notices()

    def _wake(self, fd: int) -> None:
        os.eventfd_read(fd)
        self.look()

    def look(self) -> None:
        """Have everybody who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def caught_up(self) -> Reached | None:
        """Wait until all that is on the wire by now is in the file, and tell where that was; None after the end.

        Raises:
            CaptureFailed: The capture's thread does not answer.
        """
        try:
            async with asyncio.timeout(_PATIENCE), self._turn:
                with self.listening():
                    return await self._answer(self._session.ask())
        except TimeoutError as error:
            raise CaptureFailed(
                f"the capture on {self._session.request.interface} does not get on",
                evidence=f"it saved nothing for {_PATIENCE:.0f} s of what it has",
                cure="See whether the disk of the capture's folder is stuck",
            ) from error

    async def _answer(self, question: int) -> Reached | None:
        while True:
            changed = self.changed
            if self._session.answered >= question:
                return self._session.place
            if not self._session.running:
                return None
            await changed.wait()
