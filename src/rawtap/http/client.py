"""One who speaks to the server over HTTP, and its Lab.

Theory of operation. A client has an MCP server and a Lab of its own, which live in a task: it opens them, waits until
the client is over, and releases everything. A client is over when it ends its session (DELETE), when nothing of its
was in progress for some time (an open stream is), or when the server ends. A client without a session, as protocol
2026-07-28 has it, cannot be told from the next: its Lab has a name, which is in the URL.

Hosts do not end their sessions; they come and go. So where several sessions share a Lab, the longest idle goes when its
place is needed. From then on its id is answered by 404, at which a host begins a new session (MCP, Session Management).

A call whose connection is closed is cancelled, since nobody can be given its answer any more. Without sessions the SDK
does that; for a session it waits for the notification that a host would send, so it is given one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync as to_thread
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope

from rawtap.errors import RawtapError, ServerLimit, ServerStopping
from rawtap.http.answers import Heard, Watched, refusal
from rawtap.limits import require_room
from rawtap.server import RawtapServer

SESSION_HEADER = "mcp-session-id"
MAX_BODY = 1 << 20  # bytes of a request
_MAX_REQUESTS = 100  # in progress, of one client; its tools' calls are limited more narrowly
_MORE_STREAMS = 32  # besides one of each session
_OK, _NOT_FOUND = 200, 404
_LISTEN = "subscriptions/listen"

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Use:
    """What is in progress of a client, or of one of its sessions; `since` is when that changed last."""

    requests: int = 0
    streams: int = 0
    since: float = field(default_factory=anyio.current_time)

    @contextmanager
    def counted(self, *, stream: bool) -> Iterator[None]:
        """Count a request for this block."""
        self._add(1, stream)
        try:
            yield
        finally:
            self._add(-1, stream)

    def _add(self, number: int, stream: bool) -> None:
        self.since = anyio.current_time()
        if stream:
            self.streams += number
        else:
            self.requests += number


@dataclass(eq=False)
class Client:
    """One client, or all where they share a Lab. `idle_seconds` is None for one that is never over by itself."""

    server: RawtapServer
    name: str | None  # of its Lab; without one it is its session's
    folder: Path | None  # of its captures alone
    idle_seconds: float | None
    most: int  # of sessions
    on_turn: Callable[[], object]  # called when what is in progress changes
    sessions: dict[str, Use] = field(default_factory=dict)
    opened: anyio.Event = field(default_factory=anyio.Event)  # or it cannot be
    gone: anyio.Event = field(default_factory=anyio.Event)
    over: bool = False
    evicted: bool = False  # over, and its place is taken
    manager: StreamableHTTPSessionManager = field(init=False)
    _use: Use = field(default_factory=Use)
    _asked: bool = False
    _requests: set[anyio.CancelScope] = field(default_factory=set)  # in progress
    _turn: anyio.Event = field(default_factory=anyio.Event)  # set when any of this changes

    def __post_init__(self) -> None:
        # The sessions of a Lab with a name, or of a lasting one, are more than one.
        self.manager = self.server.over_http(self.most, self.idle_seconds, MAX_BODY)

    @property
    def label(self) -> str:
        """What it is called by who watches this process: its Lab's name, or that of its folder."""
        return self.name or (self.folder.name if self.folder else "")

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

    @property
    def is_brief(self) -> bool:
        """Whether its requests, where there are any, are soon over: nothing of it runs."""
        return not self.over and self.idle_seconds is not None and not self.server.is_in_use

    def worth(self) -> tuple[bool, bool, float] | None:
        """What would be lost by its end, the least first: whether it listens, whether there is something ended that it
        could ask for, how long ago it was here. None where something runs, or it is lasting: it stays."""
        if not self.is_brief or self._use.requests or not self._asked:
            return None
        return self._use.streams > 0, self.server.has_past, self._use.since

    async def serve(self, scope: Scope, receive: Receive, send: Watched, instead: ASGIApp | None = None) -> bool:
        """Answer a request; it counts as in progress until its answer is sent. A client's end cuts it short.

        Returns:
            Whether the answer is the MCP server's, or that of what answers `instead`, not a refusal of ours.
        """
        session, stream = session_of(scope), is_stream(scope)
        send.on_start = partial(self._learn, session, scope["method"])
        self._asked = True
        try:
            self._require_room(stream=stream)
        except (ServerLimit, ServerStopping) as error:
            await refusal(error)(scope, receive, send)
            return False
        with ExitStack() as counted, anyio.CancelScope() as cut:
            for use in (self._use, self.sessions.get(session or "")):
                if use:
                    counted.enter_context(use.counted(stream=stream))
            self._requests.add(cut)
            self._tell()
            try:
                heard = Heard(receive, cut.cancel)
                await (instead(scope, heard, send) if instead else self._answer(session, scope, heard, send))
            finally:
                self._requests.discard(cut)
                self._tell()
        if cut.cancelled_caught and not (instead and send.status):  # what is broken off must not look whole
            await send.cut_short(refusal(stopping()))
        return not cut.cancelled_caught

    def _require_room(self, *, stream: bool) -> None:
        if self.over:
            raise stopping()
        if stream:
            require_room(self._use.streams, self.most + _MORE_STREAMS, "streams are open", "Close one")
        else:
            require_room(self._use.requests, _MAX_REQUESTS, "requests are in progress", "Await an answer first")

    async def _answer(self, session: str | None, scope: Scope, heard: Heard, send: Watched) -> None:
        if session is None and scope["method"] == "POST" and knows_sessions(scope):
            await self._make_room()
        await self.manager.handle_request(scope, heard, send)
        if session and scope["method"] == "POST" and send.status == _OK and not send.finished:
            await self._cancel(session, bytes(heard.body))

    async def _make_room(self) -> None:
        """Where there are as many sessions as there may be, end the longest idle, those that do not listen first. Where
        all are in calls, the SDK refuses the next."""
        while len(self.sessions) >= self.most:
            idle = [(use.streams > 0, use.since, each) for each, use in self.sessions.items() if not use.requests]
            if not idle:
                return
            await self._end_session(min(idle)[2])

    async def _cancel(self, session: str, body: bytes) -> None:
        """Have the call of that request cancelled."""
        cancelled = {"requestId": json.loads(body)["id"], "reason": "its connection was closed"}
        await self._say("POST", session, {"method": "notifications/cancelled", "params": cancelled})

    async def _end_session(self, session: str) -> None:
        await self._say("DELETE", session)
        self.sessions.pop(session, None)

    async def _say(self, method: str, session: str, message: Mapping[str, object] | None = None) -> None:
        """Tell the SDK's server what a host would."""
        headers = {SESSION_HEADER: session, "content-type": "application/json", "accept": "*/*"}
        body = json.dumps({"jsonrpc": "2.0", **message}).encode() if message else b""

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": raw}
        await self.manager.handle_request(scope, receive, _unheard)

    def _tell(self) -> None:
        self._turn.set()
        self._turn = anyio.Event()
        self.on_turn()

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
            self.sessions[opened.decode("latin-1")] = Use()
        elif session is not None and (status == _NOT_FOUND or (method, status) == ("DELETE", _OK)):
            self.sessions.pop(session, None)

    async def _cut_short(self) -> None:
        """End its sessions, and its requests that are in progress."""
        for session in list(self.sessions):
            await self._end_session(session)
        for request in list(self._requests):
            request.cancel()
        while self._requests:
            await self._turn.wait()


async def _unheard(_: Message) -> None:
    """An answer for nobody."""


def stopping() -> ServerStopping:
    """For a request that comes when its Lab, or the server, ends."""
    return ServerStopping("the server is ending what this client had", cure="Connect again, or start the server again")


def knows_sessions(scope: Scope) -> bool:
    """Whether a request is of a protocol with sessions; those before 2025-06-18 do not say their version."""
    version = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def is_stream(scope: Scope) -> bool:
    """Whether a request opens a stream of what happens: its answer has no end."""
    return bool(scope["method"] == "GET") or Headers(scope=scope).get(MCP_METHOD_HEADER) == _LISTEN


def session_of(scope: Scope) -> str | None:
    """The session that a request belongs to."""
    return Headers(scope=scope).get(SESSION_HEADER)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
