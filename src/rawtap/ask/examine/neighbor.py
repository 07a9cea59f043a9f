"""A neighbour of the guest's that no host stands behind: its frames go to the guest's wire and come from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from rawtap.examine import manners
from rawtap.lab.card import Card, WireEnd


class Neighbor:
    """One on the link of a guest; see `rawtap.examine.trial.Wire`. It tells who asks where its `stations` are, and that
    nobody listens there.

    Attributes:
        frames: What the guest has sent.
        gone: The guest's wire went away, or down.
    """

    def __init__(self, end: WireEnd) -> None:
        self.frames: list[bytes] = []
        self.stations: dict[bytes, bytes] = {}
        self.gone = False
        self._end = end
        self._news = asyncio.Event()

    def lives_at(self, address: str, mac: str) -> None:
        """Have one more address."""
        self.stations[ip_address(address).packed] = bytes.fromhex(mac.replace(":", ""))

    async def send(self, frame: bytes) -> None:
        """Send a frame to the guest; that its wire has gone is noticed by what does not come.

        Raises:
            RequestInvalid, NetworkFailed: The wire did not take this frame.
        """
        await self._end.send(frame)

    async def more(self, than: int, patience: float) -> bool:
        """Wait until there are more frames than that."""
        try:
            async with asyncio.timeout(patience):
                while len(self.frames) <= than and not self.gone:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        return len(self.frames) > than

    def lost(self) -> int:
        """How many frames found no room on the wire, whoever sent them; what qemu_link drops is not counted."""
        return self._end.lost()

    def came(self, frame: bytes) -> None:
        """Take a frame of the guest's, and answer as every station does."""
        self.frames.append(frame)
        self._news.set()
        if reply := self._reply(frame):
            self._end.answer(reply)

    def went(self) -> None:
        """Take it that no more will come."""
        self.gone = True
        self._news.set()

    def _reply(self, frame: bytes) -> bytes | None:
        known = self.stations
        return manners.arp_reply(frame, known) or manners.advertisement(frame, known) or manners.reset(frame, known)


@asynccontextmanager
async def neighbor(card: Card) -> AsyncIterator[Neighbor]:
    """Make one of a guest's.

    Raises:
        NetworkError, GuestError: As `Card.wire_end`.
    """
    async with card.wire_end() as end:
        made = Neighbor(end)
        end.listen(made.came, made.went)
        yield made
