"""Who speaks to the server over HTTP, and the Lab of each.

Theory of operation. A client has an MCP server and a Lab of its own, which live in a task: it opens them, waits until
the client is over, and releases everything. A client is over when it ends its session (DELETE), when nothing of its
was in progress for some time (an open stream is), or when the server ends. A client without a session, as protocol
2026-07-28 has it, cannot be told from the next: its Lab has a name, which is in the URL.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.to_thread import run_sync as to_thread
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope

from rawtap.bridges import Shares
from rawtap.errors import RawtapError, ServerLimit, ServerStopping
from rawtap.http.answers import Watched, refusal
from rawtap.limits import require_room
from rawtap.server import RawtapServer
from rawtap.settings import Settings

MAX_BODY = 1 << 20  # bytes of a request
_MAX_REQUESTS = 100  # in progress, of one client: its calls are limited more narrowly, this is for streams

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Client:
    """One client, or all where they share a Lab. `idle_seconds` is None for one that is never over by itself."""

    manager: StreamableHTTPSessionManager
    folder: Path | None  # of its captures alone
    idle_seconds: float | None
    opened: anyio.Event = field(default_factory=anyio.Event)  # or it cannot be
    gone: anyio.Event = field(default_factory=anyio.Event)
    over: bool = False
    _requests: set[anyio.CancelScope] = field(default_factory=set)
    _turn: anyio.Event = field(default_factory=anyio.Event)  # set when any of this changes

    async def live(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Be there until it is over; everything of it is released when this returns."""
        try:
            async with self.manager.run():
                self.opened.set()
                task_status.started()
                await self._until_over()
                await self._drop_requests()
        except* (RawtapError, OSError) as errors:  # of the release: the others' Labs go on
            logger.error("a client's end: %s", "; ".join(map(str, errors.exceptions)))  # noqa: TRY400
        finally:
            self.over = True
            if self.folder:
                await to_thread(_remove_if_empty, self.folder)
            self.opened.set()
            self.gone.set()

    def end(self) -> None:
        """Have it over."""
        self.over = True
        self._tell()

    async def serve(self, scope: Scope, receive: Receive, send: Watched) -> None:
        """Answer a request; it counts as in progress until its answer is sent. A client's end cuts it short."""
        try:
            require_room(len(self._requests), _MAX_REQUESTS, "requests are in progress", "End one")
        except ServerLimit as error:
            await refusal(error)(scope, receive, send)
            return
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

    async def _drop_requests(self) -> None:
        """Those of sessions end with them; the others run in tasks of their own, and use the Lab."""
        for request in self._requests:
            request.cancel()
        while self._requests:
            await self._turn.wait()


def stopping() -> ServerStopping:
    """For a request that comes when its Lab, or the server, ends."""
    return ServerStopping("the server is ending what this client had", cure="Connect again, or start the server again")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@dataclass(eq=False)
class Clients:
    """All clients: those with a session by its id, those of a named Lab by that name."""

    settings: Settings
    most: int
    idle_seconds: float
    group: TaskGroup
    shares: Shares = field(default_factory=Shares)
    _all: set[Client] = field(default_factory=set)
    _by_session: dict[str, Client] = field(default_factory=dict)
    _by_name: dict[str, Client] = field(default_factory=dict)
    _stopping: bool = False

    async def open(self, folder: str) -> Client:
        """A new client, whose captures go into a folder of that name.

        Raises:
            ServerLimit: There are as many as there may be.
            ServerStopping: There are no new ones any more.
        """
        return await self._start(self._add(folder, lasting=False))

    async def named(self, name: str, folder: str | None, *, lasting: bool = False) -> Client:
        """The client of that name, there or new; its captures go where all go if no folder is given, and a `lasting`
        one is over only when the server ends. Raises what `open` raises."""
        while (client := self._by_name.get(name)) is not None:
            if client.over:
                await client.gone.wait()
                self._forget(client)
            elif not client.opened.is_set():
                await client.opened.wait()
            else:
                return client
        client = self._by_name[name] = self._add(folder, lasting=lasting)
        return await self._start(client)

    async def _start(self, client: Client) -> Client:
        try:
            await self.group.start(client.live)
        except BaseException:
            client.end()
            self._forget(client)
            raise
        self.group.start_soon(self._forget_when_gone, client)
        return client

    def _add(self, folder: str | None, *, lasting: bool) -> Client:
        if self._stopping:
            raise stopping()
        require_room(len(self._all), self.most, "clients are connected", "End one, or wait until one is idle too long")
        settings = replace(self.settings, capture_dir=self.settings.capture_dir / folder) if folder else self.settings
        # The sessions of a Lab with a name, or of a lasting one, are more than one.
        manager = RawtapServer(settings, self.shares).over_http(self.most, self.idle_seconds, MAX_BODY)
        own = settings.capture_dir if folder else None
        client = Client(manager, own, None if lasting else self.idle_seconds)
        self._all.add(client)
        return client

    async def _forget_when_gone(self, client: Client) -> None:
        await client.gone.wait()
        self._forget(client)

    def _forget(self, client: Client) -> None:
        self._all.discard(client)
        for known in (self._by_session, self._by_name):
            for key in [key for key, each in known.items() if each is client]:
                del known[key]

    def with_session(self, session_id: str) -> Client | None:
        """Whose session that is, None where there is none, or it is over."""
        client = self._by_session.get(session_id)
        return None if client is None or client.over else client

    def remember(self, session_id: str, client: Client) -> None:
        """That is the client's session."""
        self._by_session[session_id] = client

    async def close(self) -> None:
        """End all, at once; returns when everything is released."""
        self._stopping = True
        there = list(self._all)
        for client in there:
            client.end()
        for client in there:
            await client.gone.wait()
