"""The host's end of a guest's TAP, by a packet socket: what a neighbour on a bridge sends goes in, what the guest sends
comes out.

The kernel's own stack sees these frames as any bridge does, and none of the neighbour's addresses are its.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rawtap.blocking import in_thread
from rawtap.network import links, transmit

_LARGEST = 65536


class TapEnd:
    """See `rawtap.lab.card.WireEnd`."""

    def __init__(self, opened: socket.socket, interface: str) -> None:
        self._socket = opened
        self._interface = interface
        self._came: Callable[[bytes], object] = _unheard
        self._over: Callable[[], object] = _unheard
        self._is_gone = False
        self._unanswered = 0
        self._missed = self._dropped = 0

    def listen(self, came: Callable[[bytes], object], over: Callable[[], object]) -> None:
        """Give each frame of the guest's to `came`, and call `over` once the TAP is away, or down."""
        self._came, self._over = came, over
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    async def send(self, frame: bytes) -> None:
        """Send a frame to the guest; that its TAP has gone is noticed by what does not come.

        Raises:
            RequestInvalid, NetworkFailed: The TAP did not take this frame.
        """
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, frame)
        except OSError as error:
            if not transmit.is_gone(error):
                raise transmit.refusal(self._interface, error, len(frame), 0) from error
            self._end()

    def answer(self, frame: bytes) -> None:
        """Send a frame without waiting."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if transmit.is_gone(error):
                self._end()
            else:
                self._unanswered += 1

    def lost(self) -> int:
        """How many frames found no room in the TAP, whoever sent them, or here."""
        self._missed += transmit.missed(self._socket)
        if (dropped := links.dropped(self._interface)) is not None:  # else the TAP has gone, and what it counted counts
            self._dropped = dropped
        return self._missed + self._unanswered + self._dropped

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)

    def _read(self) -> None:
        while not self._is_gone:
            try:
                frame = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._end()
                return
            self._came(frame)

    def _end(self) -> None:
        self._is_gone = True
        self.close()
        self._over()


def _unheard(*_: object) -> None:
    """Nobody listens yet."""


@asynccontextmanager
async def tap_end(interface: str) -> AsyncIterator[TapEnd]:
    """Open that of a guest's TAP.

    Raises:
        NetworkPermission: This process lacks CAP_NET_RAW.
        NetworkFailed: There is no such interface.
    """
    async with in_thread(transmit.both_ways(interface)) as opened:
        end = TapEnd(opened, interface)
        try:
            yield end
        finally:
            end.close()
