"""Whom to tell that a capture has started or ended.

From protocol 2026-07-28 on a client listens to what it names, and the SDK tells it. Clients of the protocols before
are told by the session that they opened: that the list of resources is another one, when a capture starts and when one
ends (its entry says which); and that a resource was updated, when a capture ends that they subscribed to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
from mcp.server import MCPServer, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from rawtap.errors import CaptureUnknown
from rawtap.tools import resources
from rawtap.tools._boundary import Held
from rawtap.tools._sdk import lowlevel

_MOST = 64  # sessions, the newest

_Context = ServerRequestContext[Held]


@dataclass(eq=False)
class _Session:
    session: ServerSession
    subscribed: set[str] = field(default_factory=set)  # to these URIs


@dataclass(eq=False)
class Notices:
    """The sessions that are told, by their ids; over stdio there is one, without."""

    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    _sessions: dict[str | None, _Session] = field(default_factory=dict)

    def serve(self, server: MCPServer[Held]) -> None:
        """Answer subscriptions to a capture; the SDK has no way for them above its lower server."""
        lowlevel(server).add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        lowlevel(server).add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    def remember(self, context: _Context) -> _Session:
        """Keep the session of a request."""
        session_id = getattr(context.request, "headers", {}).get("mcp-session-id")
        found = self._sessions.pop(session_id, None) or _Session(context.session)
        found.session = context.session
        self._sessions[session_id] = found
        if len(self._sessions) > _MOST:
            del self._sessions[next(iter(self._sessions))]
        return found

    async def _subscribe(self, context: _Context, params: SubscribeRequestParams) -> EmptyResult:
        """To a capture that is listed, so that there are never more than these."""
        try:
            capture = resources.capture_of(context.lifespan_context.lab, params.uri)
        except CaptureUnknown as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        self.remember(context).subscribed.add(resources.SCHEME + capture.id)
        return EmptyResult()

    async def _unsubscribe(self, context: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        self.remember(context).subscribed.discard(params.uri)
        return EmptyResult()

    async def tell(self, uri: str, *, ended: bool) -> None:
        """Tell all: each for itself, since one that does not read must not keep the others waiting."""
        await self.bus.publish(ResourceUpdated(uri=uri) if ended else ResourcesListChanged())
        async with anyio.create_task_group() as group:
            for session_id, each in list(self._sessions.items()):
                if ended and uri in each.subscribed:
                    each.subscribed.discard(uri)
                    group.start_soon(self._tell, session_id, partial(each.session.send_resource_updated, uri))
                group.start_soon(self._tell, session_id, each.session.send_resource_list_changed)

    async def _tell(self, session_id: str | None, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # it has ended
            self._sessions.pop(session_id, None)
