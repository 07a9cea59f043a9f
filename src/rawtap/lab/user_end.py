"""The place of QEMU's own host on a guest's card, by two sockets that QEMU's filters read and write.

Nothing is lost on the way. What the guest sends waits in a socket, and where that is full QEMU waits, and the guest
with it. What goes to the guest waits here until QEMU reads it, and then in QEMU, which has room for 10,000 frames
(net/queue.c) until the guest's driver gives its card buffers: far more than go to a guest between two health checks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from rawtap.errors import NetworkFailed
from rawtap.guest.filter_mirror import Frames, packed
from rawtap.network import transmit

_CHUNK = 1 << 16
_ROOM = 1 << 20  # bytes of answers that may wait for a QEMU that does not read
_TAKES_SECONDS = 5.0
_HEADER, _LONGEST = 14, 1514
_TAG, _TAGGED = 4, b"\x81\x00"


class UserEnd:
    """See `rawtap.lab.card.WireEnd`: `way_in` leads to the guest, `way_out` from it."""

    def __init__(self, name: str, way_in: socket.socket, way_out: socket.socket) -> None:
        self._name = name
        self._in, self._out = way_in, way_out
        for each in (way_in, way_out):
            each.setblocking(False)
        self._frames = Frames()
        self._came: Callable[[bytes], object] = _unheard
        self._over: Callable[[], object] = _unheard
        self._waiting = bytearray()
        self._taken = asyncio.Event()
        self._is_gone = False
        self._unanswered = 0

    def listen(self, came: Callable[[bytes], object], over: Callable[[], object]) -> None:
        """Give each frame of the guest's to `came`, and call `over` once QEMU has ended."""
        self._came, self._over = came, over
        asyncio.get_running_loop().add_reader(self._out, self._read)

    async def send(self, frame: bytes) -> None:
        """Send a frame to the guest, and wait until QEMU has read it; that QEMU has ended is noticed by what does not
        come.

        Raises:
            RequestInvalid: It is longer than the card of a guest on a bridge would be given.
            NetworkFailed: It has no whole header, or QEMU does not read: it may come to the guest later.
        """
        if error := _unfit(frame):
            raise transmit.refusal(self._name, error, len(frame), 0) from error
        self._put(frame)
        try:
            async with asyncio.timeout(_TAKES_SECONDS):
                while self._waiting:
                    self._taken.clear()
                    await self._taken.wait()
        except TimeoutError as error:
            raise NetworkFailed(
                f"{self._name} did not take the frame",
                evidence=f"QEMU read none for {_TAKES_SECONDS:g} s",
                cure="qemu_status shows the guest's state",
            ) from error

    def answer(self, frame: bytes) -> None:
        """Send a frame without waiting."""
        if len(self._waiting) > _ROOM:
            self._unanswered += 1
        else:
            self._put(frame)

    def lost(self) -> int:
        """How many frames found no room here: neither QEMU's filters nor their sockets drop any."""
        return self._unanswered

    def close(self) -> None:
        """Listen no more, and send no more of what waits."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._out)
        loop.remove_writer(self._in)

    def _put(self, frame: bytes) -> None:
        if not self._is_gone:
            self._waiting += packed(frame)
            self._write()

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._waiting[: self._in.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        if self._waiting:
            loop.add_writer(self._in, self._write)
        else:
            loop.remove_writer(self._in)
            self._taken.set()

    def _read(self) -> None:
        try:
            data = self._out.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        for frame in self._frames.fed(data):
            self._came(frame)

    def _end(self) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._waiting.clear()
        self._taken.set()
        self.close()
        self._over()


def _unheard(*_: object) -> None:
    """Nobody listens yet."""


def _unfit(frame: bytes) -> OSError | None:
    """Why a TAP would not take it either: QEMU would, and give a card what no wire has.

    So is packet_snd, net/packet/af_packet.c: a whole header, 1500 bytes behind it, and four more for a tag.
    """
    longest = _LONGEST + (_TAG if frame[12:14] == _TAGGED else 0)
    code = errno.EINVAL if len(frame) < _HEADER else errno.EMSGSIZE if len(frame) > longest else 0
    return OSError(code, os.strerror(code)) if code else None
