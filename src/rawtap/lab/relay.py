"""TCP ports of this server's loopback that lead to a guest on a bridge.

In a namespace of the server's own nobody else reaches the bridge. pasta leads the host's ports to the same ones of the
namespace's loopback; from there each connection is passed on to the guest, at the address that it has by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rawtap.errors import NetworkFailed
from rawtap.guest.hardware import Forward

_CHUNK = 1 << 16
_CONNECT_SECONDS = 10.0

Note = Callable[[str, str], None]


@asynccontextmanager
async def relayed(
    guest: str, ports: Iterable[Forward], address: Callable[[], Awaitable[str | None]], note: Note
) -> AsyncIterator[None]:
    """Listen on these ports, and pass on what connects, until the block's end; `address` is the guest's, if it has one.

    Raises:
        NetworkFailed: A port is in use.
    """
    relays: list[_Relay] = []
    try:
        for each in ports:
            relay = _Relay(guest, each, address, note)
            await relay.open()
            relays.append(relay)
        yield
    finally:
        for relay in relays:
            await relay.close()


@dataclass(eq=False)
class _Relay:
    guest: str
    port: Forward
    address: Callable[[], Awaitable[str | None]]
    note: Note
    _server: asyncio.Server | None = None
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        try:
            self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port.host)
        except OSError as error:
            raise NetworkFailed(
                f"the port {self.port.host} cannot lead to the guest {self.guest}",
                evidence=error.strerror or str(error),
                cure="Give another one, or end the guest that has it",
            ) from error

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._pass_on(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            to = await self.address()
            if to is None:
                self.note("forward", f"a connection to port {self.port.host}: {self.guest} has no address yet")
                return
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    near, far = await asyncio.open_connection(to, self.port.guest)
            except (OSError, TimeoutError) as error:
                why = str(error) or "it does not answer"
                self.note("forward", f"{self.guest} takes no connection at {to} port {self.port.guest}: {why}")
                return
            with contextlib.closing(far):
                await asyncio.gather(_pump(reader, far), _pump(near, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one end has said all that it will; a reset ends it as well."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
