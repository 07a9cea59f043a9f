"""Who speaks to the server over HTTP, and the Lab of each.

Theory of operation. A client has an MCP server and a Lab of its own, which live in a task: it opens them, waits until
the client is over, and releases everything. A client is over when it ends its session (DELETE), when nothing of its
was in progress for some time (an open stream is), or when the server ends. A client without a session, as protocol
2026-07-28 has it, cannot be told from the next: its Lab has a name, which is in the URL.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.to_thread import run_sync as to_thread
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from rawtap.errors import RawtapError, ServerLimit, ServerStopping
from rawtap.http.answers import Watched, refusal
from rawtap.lab.bridges import Shares
from rawtap.limits import require_room
from rawtap.server import RawtapServer
from rawtap.settings import Settings

SESSION_HEADER = "mcp-session-id"
MAX_BODY = 1 << 20  # bytes of a request
_MAX_REQUESTS = 100  # in progress, of one client: its calls are limited more narrowly, this is for streams
_OK, _NOT_FOUND = 200, 404

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Client:
    """One client, or all where they share a Lab. `idle_seconds` is None for one that is never over by itself."""

    manager: StreamableHTTPSessionManager
    name: str | None  # of its Lab; without one it is its session's
    folder: Path | None  # of its captures alone
    idle_seconds: float | None
    sessions: set[str] = field(default_factory=set)
    opened: anyio.Event = field(default_factory=anyio.Event)  # or it cannot be
    gone: anyio.Event = field(default_factory=anyio.Event)
    over: bool = False
    _requests: set[anyio.CancelScope] = field(default_factory=set)  # in progress
    _turn: anyio.Event = field(default_factory=anyio.Event)  # set when any of this changes

    async def live(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Live until the client is ended; everything that it holds is released when this returns."""
        try:
            async with self.manager.run():
                self.opened.set()
                task_status.started()
                await self._until_over()
                await self._cut_short()
            if self.folder:
                await to_thread(_remove_if_empty, self.folder)
        except* (RawtapError, OSError) as errors:  # of the release: the others' Labs go on
            logger.error("a client's end: %s", "; ".join(map(str, errors.exceptions)))  # noqa: TRY400
        finally:
            self.over = True
            self.opened.set()
            self.gone.set()

    def end(self) -> None:
        """Have it over."""
        self.over = True
        self._tell()

    async def serve(self, scope: Scope, receive: Receive, send: Watched) -> bool:
        """Answer a request; it counts as in progress until its answer is sent. A client's end cuts it short.

        Returns:
            Whether the answer is the MCP server's, not a refusal of ours.
        """
        send.on_start = partial(self._learn, session_of(scope), scope["method"])
        try:
            if self.over:
                raise stopping()
            require_room(len(self._requests), _MAX_REQUESTS, "requests are in progress", "End one")
        except (ServerLimit, ServerStopping) as error:
            await refusal(error)(scope, receive, send)
            return False
        with anyio.CancelScope() as cut:
            self._requests.add(cut)
            self._tell()
            try:
                await self.manager.handle_request(scope, receive, send)
            finally:
                self._requests.discard(cut)
                self._tell()
        if cut.cancelled_caught:
            await send.cut_short(refusal(stopping()))
        return not cut.cancelled_caught

    def _tell(self) -> None:
        self._turn.set()
        self._turn = anyio.Event()

    async def _until_over(self) -> None:
        while not self.over:
            if self._requests or self.idle_seconds is None:
                await self._turn.wait()
                continue
            with anyio.move_on_after(self.idle_seconds) as idle:
                await self._turn.wait()
            self.over = self.over or (idle.cancelled_caught and not self._requests)

    def _learn(self, session: str | None, method: str, status: int, headers: dict[bytes, bytes]) -> None:
        """Of an answer that is about to be sent: which sessions there are."""
        if session is None and status == _OK and (opened := headers.get(SESSION_HEADER.encode())):
            self.sessions.add(opened.decode("latin-1"))
        elif session is not None and (status == _NOT_FOUND or (method, status) == ("DELETE", _OK)):
            self.sessions.discard(session)

    async def _cut_short(self) -> None:
        """End its sessions, and its requests that are in progress."""
        for session in list(self.sessions):
            headers = [(SESSION_HEADER.encode(), session.encode("latin-1"))]
            scope = {"type": "http", "method": "DELETE", "path": "/", "query_string": b"", "headers": headers}
            await self.manager.handle_request(scope, _nothing_more, _unheard)
        for request in list(self._requests):
            request.cancel()
        while self._requests:
            await self._turn.wait()


async def _nothing_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unheard(_: Message) -> None:
    """An answer for nobody."""


def stopping() -> ServerStopping:
    """For a request that comes when its Lab, or the server, ends."""
    return ServerStopping("the server is ending what this client had", cure="Connect again, or start the server again")


def knows_sessions(scope: Scope) -> bool:
    """Whether a request is of a protocol with sessions; those before 2025-06-18 do not say their version."""
    version = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def session_of(scope: Scope) -> str | None:
    """The session that a request belongs to."""
    return Headers(scope=scope).get(SESSION_HEADER)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@dataclass(eq=False)
class Clients:
    """All clients, and what they have in common."""

    settings: Settings
    most: int
    idle_seconds: float
    group: TaskGroup
    shares: Shares
    _all: set[Client] = field(default_factory=set)
    _stopping: bool = False

    async def open(self, folder: str) -> Client:
        """A new client, whose captures go into a folder of that name.

        Raises:
            ServerLimit: There are as many as there may be.
            ServerStopping: There are no new ones any more.
        """
        return await self._start(self._add(None, folder, lasting=False))

    async def named(self, name: str, folder: str | None, *, lasting: bool = False) -> Client:
        """The client of that name, there or new; its captures go where all go if no folder is given, and a `lasting`
        one is over only when the server ends. Raises what `open` raises."""
        while (client := self._of_name(name)) is not None:
            if client.over:
                await client.gone.wait()
                self._all.discard(client)
            elif not client.opened.is_set():
                await client.opened.wait()
            else:
                return client
        return await self._start(self._add(name, folder, lasting=lasting))

    def _of_name(self, name: str) -> Client | None:
        return next((each for each in self._all if each.name == name), None)

    async def _start(self, client: Client) -> Client:
        try:
            await self.group.start(client.live)
        except BaseException:
            self.drop(client)
            raise
        self.group.start_soon(self._forget_when_gone, client)
        return client

    def _add(self, name: str | None, folder: str | None, *, lasting: bool) -> Client:
        if self._stopping:
            raise stopping()
        require_room(len(self._all), self.most, "clients are connected", "End one, or wait until one is idle too long")
        settings = replace(self.settings, capture_dir=self.settings.capture_dir / folder) if folder else self.settings
        # The sessions of a Lab with a name, or of a lasting one, are more than one.
        manager = RawtapServer(settings, self.shares).over_http(self.most, self.idle_seconds, MAX_BODY)
        own = settings.capture_dir if folder else None
        client = Client(manager, name, own, None if lasting else self.idle_seconds)
        self._all.add(client)
        return client

    def drop(self, client: Client) -> None:
        """End a client whose first request opened no session; it no longer counts."""
        client.end()
        self._all.discard(client)

    async def _forget_when_gone(self, client: Client) -> None:
        await client.gone.wait()
        self._all.discard(client)

    def with_session(self, session_id: str) -> Client | None:
        """Whose session that is, None where there is none, or it is over, or it is a named Lab's."""
        return next(
            (each for each in self._all if session_id in each.sessions and each.name is None and not each.over), None
        )

    async def close(self) -> None:
        """End all, at once; returns when everything is released."""
        self._stopping = True
        there = list(self._all)
        for client in there:
            client.end()
        for client in there:
            await client.gone.wait()
