"""A guest's frames through QEMU itself: copies of all that pass its network card, and frames of ours put among them.

Theory of operation. QEMU's network filters (net/filter.c) sit in a row between a guest's card and its back end. A
filter-mirror writes a copy of each frame to a character device; a filter-redirector reads frames from one. Both get a
socket of ours by QMP: `getfd` hands it over, `chardev-add` wraps it, `object-add` puts the filter into the row. In the
socket each frame follows its length, four bytes, the most significant first. What goes to the guest passes the row from
its head, so what comes from a redirector at the head is seen by every mirror. QEMU waits for a mirror whose socket is
full, and the guest with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator
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

    def __init__(self, machine: Machine, card: int, kind: str, socket_property: str, **properties: str) -> None:
        """Make the sockets; `add` puts it in.

        Raises:
            ServerExhausted: There are too many descriptors.
        """
        number = next(_numbers)
        self._machine = machine
        self._id, self._chardev = f"{kind}{number}", f"{kind}{number}-socket"
        self._options = {
            "qom-type": kind,
            "id": self._id,
            "netdev": netdev(card),
            socket_property: self._chardev,
            **properties,
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
            await self._machine.execute("object-add", self._options)

    async def remove(self) -> None:
        """Take the filter out; it writes no more. Nothing is done if the guest is gone or does not answer."""
        async with self._turn:
            self._far.close()
            with anyio.move_on_after(_CUT_SECONDS):
                await self._take_out()

    async def _take_out(self) -> None:
        if not self._wrapped:
            await self._try("closefd", {"fdname": self._chardev})
            return
        # Both are on their way at once, in this order: a QEMU that does not answer does them when it wakes up.
        await asyncio.gather(
            self._try("object-del", {"id": self._id}), self._try("chardev-remove", {"id": self._chardev})
        )

    async def _try(self, command: str, which: dict[str, str]) -> None:
        if self._machine.running:
            with contextlib.suppress(GuestError):  # it was not added, or went with the guest
                await self._machine.execute(command, which)


def mirror(machine: Machine, card: int = 0) -> Filter:
    """A filter that copies every frame of the card of that number, both ways."""
    return Filter(machine, card, "filter-mirror", "outdev", queue="all")


@asynccontextmanager
async def way_in(machine: Machine, card: int = 0) -> AsyncIterator[Filter]:
    """A filter at the row's head whose frames go to the guest.

    Raises:
        GuestError: The guest is gone, or QEMU refused.
        ServerExhausted: There are too many descriptors.
    """
    async with _added(Filter(machine, card, "filter-redirector", "indev", queue="tx", position="head")) as redirector:
        yield redirector


@asynccontextmanager
async def echo(machine: Machine, card: int = 0) -> AsyncIterator[Filter]:
    """A mirror of what goes to the guest. Raises as `way_in`."""
    async with _added(Filter(machine, card, "filter-mirror", "outdev", queue="tx")) as added:
        yield added


@asynccontextmanager
async def _added(filter_: Filter) -> AsyncIterator[Filter]:
    with filter_.near:
        try:
            await filter_.add()
            yield filter_
        finally:
            with anyio.CancelScope(shield=True):
                await filter_.remove()


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
