"""A capture as one stream of bytes: all its files one after the other, also those that are still to come.

Theory of operation. A stream is one file to whoever reads it: of a pcap ring the headers of all files but the first are
left out, and a pcapng file may hold sections (draft-ietf-opsawg-pcapng 3.2), so those are sent as they are. What is
sent of a running capture ends with a whole packet, where its thread says that it is. Where a ring is faster than the
reader, the stream is broken off, since nobody could see the gap in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable

from rawtap.blocking import reading
from rawtap.capture.files import Segment
from rawtap.errors import CaptureUnreadable
from rawtap.lab.captures import Capture

_CHUNK = 1 << 18  # bytes
_PCAP_HEADER = 24


class _Files:
    """The files of a capture as one, read by one thread at a time; without `follow` up to what is saved by now.

    Attributes:
        before: Packets that a ring had removed before the first byte that is read.
    """

    def __init__(self, capture: Capture, *, follow: bool) -> None:
        self._session = capture.session
        running = self._session.running  # asked first: what has ended by then is saved
        account = self._session.source.worker.account
        self._until = account if running and not follow else None
        self._skips = _PCAP_HEADER if self._session.request.format == "pcap" else 0
        self._size: int | None = None  # of the file that is read, once it was seen to be full
        self._number, self._at, self._fd = 0, 0, -1  # opened where it is read, so that who gives up leaves it to `take`
        self.before = 0
        self._lock = threading.Lock()
        self._is_read = self._is_over = False

    def _open(self, segment: Segment) -> int:
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._lost(segment.number) from error
        if not segment.is_that(os.fstat(fd)):
            os.close(fd)
            raise self._lost(segment.number)
        return fd

    def take(self) -> bytes:
        """The next bytes that are there, a chunk at most; none at the end of what is saved."""
        with self._lock:
            self._is_read = True
        try:
            return self._take()
        finally:
            self._let_go(is_read=False)

    def close(self) -> None:
        """Let go of the file, or have a read that was given up do so when it comes back."""
        self._is_over = True
        self._let_go()

    def _let_go(self, *, is_read: bool | None = None) -> None:
        with self._lock:
            self._is_read = self._is_read if is_read is None else is_read
            if self._is_over and not self._is_read and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _take(self) -> bytes:
        running = self._session.running  # asked first: one that has ended by then is whole
        account = self._until or self._session.source.worker.account
        if self._fd < 0:
            first = account.files[0]
            self._fd = self._open(first)
            self._number, self.before = first.number, first.packets_before
        newest = account.files[-1]
        while self._number < newest.number:
            self._size = next((each.size for each in account.files if each.number == self._number), self._size)
            if self._size is None:
                raise self._lost(self._number)
            if self._at < self._size:
                return self._read(self._size)
            self._go_on(account.files)
        # One that has ended has more behind its packets.
        end = account.file_bytes if running or self._until else os.fstat(self._fd).st_size
        return self._read(end) if self._at < end else b""

    def _read(self, end: int) -> bytes:
        try:
            data = os.pread(self._fd, min(_CHUNK, end - self._at), self._at)
        except OSError as error:
            raise CaptureUnreadable(
                f"file {self._number} of this capture cannot be read", evidence=str(error), cure="See to its disk"
            ) from error
        if not data:
            raise self._lost(self._number)
        self._at += len(data)
        return data

    def _go_on(self, files: tuple[Segment, ...]) -> None:
        """Open the next file, and leave this one."""
        following = next((each for each in files if each.number == self._number + 1), None)
        if following is None:
            raise self._lost(self._number + 1)
        fd = self._open(following)
        os.close(self._fd)
        self._fd, self._number, self._at, self._size = fd, following.number, self._skips, None

    def _lost(self, number: int) -> CaptureUnreadable:
        return CaptureUnreadable(
            "what comes next in this capture is not there any more",
            evidence=f"file {number} was overwritten by its ring, or removed",
            cure="Read faster, or give the ring more or larger files",
        )


async def stream(
    capture: Capture, *, follow: bool, begun: Callable[[int], object] | None = None
) -> AsyncGenerator[bytes, None]:
    """What a capture has saved by now, from the oldest file that is there; with `follow` all that comes until it ends.

    `begun` is told with the first bytes how many packets a ring had removed before them.

    Raises:
        CaptureUnreadable: The ring has overwritten what was next, or a file is gone, or its disk fails.
        CaptureFailed: The capture's thread does not answer.
        DiskStalled: The disk of its files does not answer.
    """
    session, notifier = capture.session, capture.notifier
    await notifier.caught_up()  # all that was on the wire before this call
    files = _Files(capture, follow=follow)
    try:
        with notifier.listening():
            while True:
                changed, running = notifier.changed, session.running
                while data := await reading(session.path, files.take):
                    if begun:
                        begun(files.before)
                        begun = None
                    yield data
                if not (follow and running):
                    return
                await changed.wait()
    finally:
        files.close()
