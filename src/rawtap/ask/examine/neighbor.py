"""A neighbour of the guest's that no host stands behind: its frames go to the guest's TAP and come from it.

The kernel's own stack sees these frames as any bridge does, and none of the neighbour's addresses are its.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from rawtap.blocking import in_thread
from rawtap.examine import manners
from rawtap.network import links, transmit

_LARGEST = 65536


class Neighbor:
    """One on the link of a guest; see `rawtap.examine.trial.Wire`. It tells who asks where its `stations` are, and that
    nobody listens there.

    Attributes:
        frames: What the guest has sent.
        gone: The guest's TAP went away, or down.
    """

    def __init__(self, opened: socket.socket, interface: str) -> None:
        self.frames: list[bytes] = []
        self.stations: dict[bytes, bytes] = {}
        self.gone = False
        self._socket = opened
        self._interface = interface
        self._unanswered = 0  # questions for where it is
        self._missed = self._dropped = 0
        self._came = asyncio.Event()

    def lives_at(self, address: str, mac: str) -> None:
        """Have one more address."""
        self.stations[ip_address(address).packed] = bytes.fromhex(mac.replace(":", ""))

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
            self._has_gone()

    async def more(self, than: int, patience: float) -> bool:
        """Wait until there are more frames than that."""
        try:
            async with asyncio.timeout(patience):
                while len(self.frames) <= than and not self.gone:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass
        return len(self.frames) > than

    def lost(self) -> int:
        """How many frames found no room in the TAP, whoever sent them, or here; what qemu_link drops is not counted."""
        self._missed += transmit.missed(self._socket)
        if (dropped := links.dropped(self._interface)) is not None:  # else the TAP has gone, and what it counted counts
            self._dropped = dropped
        return self._missed + self._unanswered + self._dropped

    def read(self) -> None:
        """Take what has come; the event loop calls this."""
        while True:
            try:
                frame = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._has_gone()
                return
            self.frames.append(frame)
            self._came.set()
            if reply := self._reply(frame):
                try:
                    self._socket.send(reply)
                except OSError as error:
                    if transmit.is_gone(error):
                        self._has_gone()
                        return
                    self._unanswered += 1

    def _reply(self, frame: bytes) -> bytes | None:
        known = self.stations
        return manners.arp_reply(frame, known) or manners.advertisement(frame, known) or manners.reset(frame, known)

    def _has_gone(self) -> None:
        self.gone = True
        asyncio.get_running_loop().remove_reader(self._socket)
        self._came.set()


@asynccontextmanager
async def neighbor(interface: str) -> AsyncIterator[Neighbor]:
    """Open one on a guest's TAP.

    Raises:
        NetworkPermission: This process lacks CAP_NET_RAW.
        NetworkFailed: There is no such interface.
    """
    loop = asyncio.get_running_loop()
    async with in_thread(transmit.both_ways(interface)) as opened:
        made = Neighbor(opened, interface)
        loop.add_reader(opened, made.read)
        try:
            yield made
        finally:
            loop.remove_reader(opened)
