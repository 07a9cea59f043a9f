"""A guest's frames through QEMU itself: copies of all that pass its network card, and frames of ours put among them.

Theory of operation. QEMU's network filters (net/filter.c) sit in a row between a guest's card and its back end. A
filter-mirror writes a copy of each frame to a character device; a filter-redirector reads frames from one. Both get a
socket of ours by QMP: `getfd` hands it over, `chardev-add` wraps it, `object-add` puts the filter into the row. In the
socket each frame follows its length, four bytes, the most significant first. What goes to the guest passes the row from
its head, so what comes from a redirector at the head is seen by every mirror; what the guest sends passes it from its
tail, and comes to the head last. QEMU waits for a mirror whose socket is full, and the guest with it.

What a redirector writes goes no further. So two of them at the head take the back end's place: one has what the guest
sends, the other one writes what the back end sends to nowhere, and reads frames of ours instead. One for both
directions would give each of our frames to the back end as well (redirector_to_filter, net/filter-mirror.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from rawtap.errors import GuestError, ServerExhausted
from rawtap.guest.devices import netdev
from rawtap.guest.machine import Machine

# What may be on its way before QEMU waits; the kernel gives as much of it as it gives anybody (net.core.wmem_max).
_BUFFER = 4 << 20
_CUT_SECONDS = 4.0  # what QEMU had to say is in the socket by then, whether it answers or not

_numbers = itertools.count(1)


class Filter:
    """A network filter of one guest, and the socket that it reads or writes; ours is `near`."""

    def __init__(
        self,
        machine: Machine,
        card: int,
        kind: str,
        socket_property: str,
        properties: Mapping[str, str],
        *,
        alone: bool = False,
    ) -> None:
        """Make the sockets; `add` puts it in. `alone`: what comes to it by the row goes nowhere.

        Raises:
            ServerExhausted: There are too many descriptors.
        """
        number = next(_numbers)
        self._machine = machine
        self.id = f"{kind}{number}"
        self._chardev = f"{self.id}-socket"
        self._nowhere = f"{self.id}-nowhere" if alone else None
        self._options = {
            "qom-type": kind,
            "id": self.id,
            "netdev": netdev(card),
            socket_property: self._chardev,
            **properties,
            **({"outdev": self._nowhere} if self._nowhere else {}),
        }
        try:
            self.near, self._far = socket.socketpair()
        except OSError as error:
            raise ServerExhausted.of(error) or error from error
        self._turn = anyio.Lock()  # nothing is taken out that is being put in
        self._wrapped = False
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    async def add(self) -> None:
        """Put the filter into the row. Where that fails, `remove` takes back what was done of it.

        Raises:
            GuestError: The guest is gone, or QEMU refused.
        """
        address = {"type": "fd", "data": {"str": self._chardev}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        async with self._turn:
            with self._far:
                await self._machine.get_fd(self._far.fileno(), self._chardev)
            await self._machine.execute("chardev-add", {"id": self._chardev, "backend": backend})
            self._wrapped = True
            if self._nowhere:
                nowhere = {"type": "null", "data": {}}
                await self._machine.execute("chardev-add", {"id": self._nowhere, "backend": nowhere})
            await self._machine.execute("object-add", self._options)

    async def remove(self) -> None:
        """Take the filter out; it writes no more. Nothing is done if the guest is gone or does not answer."""
        async with self._turn:
            self._far.close()
            with anyio.move_on_after(_CUT_SECONDS):
                await self._take_out()

    def close(self) -> None:
        """Close the sockets."""
        self.near.close()
        self._far.close()

    async def _take_out(self) -> None:
        if not self._wrapped:
            await self._try("closefd", {"fdname": self._chardev})
            return
        # All are on their way at once, in this order: a QEMU that does not answer does them when it wakes up.
        chardevs = filter(None, (self._chardev, self._nowhere))
        await asyncio.gather(
            self._try("object-del", {"id": self.id}), *(self._try("chardev-remove", {"id": each}) for each in chardevs)
        )

    async def _try(self, command: str, which: dict[str, str]) -> None:
        if self._machine.running:
            with contextlib.suppress(GuestError):  # it was not added, or went with the guest
                await self._machine.execute(command, which)


def mirror(machine: Machine, card: int = 0) -> Filter:
    """A filter that copies every frame of the card of that number, both ways."""
    return Filter(machine, card, "filter-mirror", "outdev", {"queue": "all"})


def way_out(machine: Machine, card: int = 0) -> Filter:
    """A filter at the row's head that is given what the guest sends, in the back end's place."""
    return Filter(machine, card, "filter-redirector", "outdev", {"queue": "rx", "position": "head"})


def only_way_in(machine: Machine, card: int = 0) -> Filter:
    """A filter at the row's head whose frames go to the guest, in the back end's place."""
    place = {"queue": "tx", "position": "head"}
    return Filter(machine, card, "filter-redirector", "indev", place, alone=True)


@asynccontextmanager
async def way_in(machine: Machine, card: int = 0, behind: str | None = None) -> AsyncIterator[Filter]:
    """A filter whose frames go to the guest: at the row's head, or behind the filter of that id, which is there.

    Raises:
        GuestError: The guest is gone, or QEMU refused.
        ServerExhausted: There are too many descriptors.
    """
    where = {"position": f"id={behind}", "insert": "behind"} if behind else {"position": "head"}
    redirector = Filter(machine, card, "filter-redirector", "indev", {"queue": "tx", **where})
    async with _opened(redirector):
        yield redirector


@asynccontextmanager
async def echo(machine: Machine, card: int = 0) -> AsyncIterator[Filter]:
    """A mirror of what goes to the guest. Raises as `way_in`."""
    async with _opened(Filter(machine, card, "filter-mirror", "outdev", {"queue": "tx"})) as opened:
        yield opened


@asynccontextmanager
async def added(filter_: Filter) -> AsyncIterator[None]:
    """Have a filter in the row; its sockets stay open. Neither its way in nor its way out is cancelled.

    Raises:
        GuestError: The guest is gone, or QEMU refused.
    """
    try:
        with anyio.CancelScope(shield=True):  # what is half done could not be told from what is not
            await filter_.add()
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await filter_.remove()


@asynccontextmanager
async def _opened(filter_: Filter) -> AsyncIterator[Filter]:
    with contextlib.closing(filter_):
        async with added(filter_):
            yield filter_


def packed(frame: bytes) -> bytes:
    """A frame as the sockets carry it."""
    return struct.pack(">I", len(frame)) + frame


class Frames:
    """Frames out of a stream of bytes as the sockets carry them."""

    def __init__(self) -> None:
        self._pending = b""

    def fed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes."""
        data = self._pending + data
        found, at = [], 0
        while len(data) >= at + 4 and len(data) >= at + 4 + (size := int.from_bytes(data[at : at + 4])):
            found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        self._pending = data[at:]
        return found
