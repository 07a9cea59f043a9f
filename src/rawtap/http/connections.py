"""Connections: how many there may be, and how long one may take to say who it is.

Theory of operation. A connection is a stranger's until a request on it brings the token, and known from then on. The
two are counted apart, so that strangers cannot take the room of those who know the token. Where there is a stranger too
many, the one that has waited longest goes, of that address or of the one that has the most: never the one that came
last. So whoever sends its headers at once has been read before others can push it out, however many they are.

What a request needs to be let in, its headers, must be here within some seconds of a stranger's connection, and of the
first byte of each request on a known one. What comes after them is counted for the client that it belongs to.

A connection's first request is refused, where it is to be, before uvicorn knows of it (`gate`). A client reads that
answer although it may not be done with sending: so its connection is not read any more, and closed when its seconds are
over, or the room is needed. To close it at once would have the kernel reset it, and the answer be lost.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import Any, cast

import h11
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from rawtap.errors import ServerLimit
from rawtap.http.gate import Gate

ACCEPTED_AT_ONCE = 32
WAITING = 1024  # in the kernel, until they are accepted

# The rest of the descriptors is for guests, captures and the server's own. Strangers have room for several times what
# is accepted at once: the event loop reads what the last ones sent in between.
_MOST_KNOWN, _MOST_STRANGERS, _MOST_OF_A_PEER = 512, 256, 128
_OURS = "rawtap.connection"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(H11Protocol):
    """One connection; uvicorn reads its requests and writes the answers."""

    def __init__(
        self,
        crowd: Crowd,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _OURS: self}, _loop)
        self._crowd = crowd
        self._deadline: asyncio.TimerHandle | None = None
        self._begun: bytes | None = b""  # of a first request that nobody has looked at yet
        self._is_refused = False
        self.in_a_call = False

    @property
    def peer(self) -> str:
        """The address that it comes from."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """As uvicorn's; then it has some seconds."""
        super().connection_made(transport)
        self._await_headers()
        self._crowd.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's, and forget it."""
        self._heard()
        self._crowd.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, for who is not refused before. The first bytes of a request are not awaited for ever by the
        rest of its headers."""
        if self._begun is not None:
            self._begun += data
            if self._crowd.gate.is_to_be_continued(self._begun) or self._turn_away(self._begun):
                return
            data, self._begun = self._begun, None
        super().data_received(data)
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._await_headers()

    def let_in(self, *, stream: bool) -> None:
        """A request brought the token; it is a call, or opens a stream of what happens.

        Raises:
            ServerLimit: As many are in calls as may be connected.
        """
        self._heard()
        self._crowd.know(self)
        self.in_a_call = not stream

    def on_response_complete(self) -> None:
        """As uvicorn's."""
        self.in_a_call = False
        super().on_response_complete()

    def _turn_away(self, begun: bytes) -> bool:
        """Refuse it, if that is to be."""
        turned = self._crowd.gate.turned(begun)
        if turned is None:
            return False
        self._is_refused = True
        self.transport.write(turned.answer)
        if turned.is_whole:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.transport.pause_reading()
        return True

    def close(self) -> None:
        """Close it now, whatever it has not read."""
        if self.conn.our_state is h11.IDLE and not self._is_refused:
            self.transport.write(_TOO_SLOW)
        self.transport.abort()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self._crowd.header_seconds, self.close)

    def _heard(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


@dataclass(eq=False)
class Crowd:
    """All connections, strangers' and known ones, each kind in the order in which they were heard of last."""

    header_seconds: float
    gate: Gate
    _strangers: dict[str, dict[Connection, None]] = field(default_factory=dict)  # of each address
    _number_of_strangers: int = 0
    _known: dict[Connection, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_known = min(_MOST_KNOWN, files // 2)
        self._most_strangers = min(_MOST_STRANGERS, files // 4)
        self._most_of_a_peer = min(_MOST_OF_A_PEER, files // 8)

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn makes one of for each connection."""
        crowd = self

        class Ours(Connection):
            def __init__(self, **of_uvicorn: Any) -> None:
                super().__init__(crowd, **of_uvicorn)

        return Ours

    def admit(self, connection: Connection) -> None:
        """A new one, of a stranger's; where it is one too many, another goes."""
        if len(self._strangers.get(connection.peer, ())) >= self._most_of_a_peer:
            self._drop_oldest(self._strangers[connection.peer])
        elif self._number_of_strangers >= self._most_strangers:
            self._drop_oldest(max(self._strangers.values(), key=len))
        self._strangers.setdefault(connection.peer, {})[connection] = None
        self._number_of_strangers += 1

    def know(self, connection: Connection) -> None:
        """It is no stranger's any more; where there are too many, one that is in no call goes.

        Raises:
            ServerLimit: All are.
        """
        if connection not in self._known and len(self._known) >= self._most_known:
            idle = next((each for each in self._known if not each.in_a_call), None)
            if idle is None:
                raise ServerLimit(
                    f"{len(self._known)} connections are in calls already",
                    evidence=f"the limit is {self._most_known}",
                    cure="Await an answer first",
                )
            self._drop(idle)
        self.forget(connection)
        self._known[connection] = None

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._known.pop(connection, None)
        of_its_address = self._strangers.get(connection.peer, {})
        if connection in of_its_address:
            del of_its_address[connection]
            self._number_of_strangers -= 1
            if not of_its_address:
                del self._strangers[connection.peer]

    def _drop_oldest(self, among: dict[Connection, None]) -> None:
        self._drop(next(iter(among)))

    def _drop(self, connection: Connection) -> None:
        self.forget(connection)
        connection.close()


def connection_of(scope: Scope) -> Connection:
    """Which one a request came by."""
    return cast("Connection", scope["state"][_OURS])
