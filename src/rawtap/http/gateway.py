"""The way in: every request is checked here, before it reaches a Lab, and handed to the client that it belongs to.

First who may come in (`gate`). Then the path: ``/mcp`` is for clients with a session, each of which gets a Lab of its
own; ``/mcp/NAME`` is the Lab of that name, for clients with a session or without. With a shared Lab both are that one.
"""

from __future__ import annotations

import re
import secrets

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from rawtap.errors import RawtapError, ServerLimit
from rawtap.http import downloads
from rawtap.http.answers import Held, Watched, refusal, rpc_error
from rawtap.http.client import SESSION_HEADER, Client, is_stream, knows_sessions, session_of
from rawtap.http.clients import Clients
from rawtap.http.connections import connection_of
from rawtap.http.options import HttpSettings

# Of the path as it was sent: decoded, /mcp/a%0a and /mcp/a%3F would come out as what they are not.
_PATH = re.compile(rb"/mcp(?:/(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,31}))?/?")
_OK, _NO_ROOM = 200, 503
_SHARED = ""  # the name of the Lab of all; no path has it


class Gateway:
    """The ASGI application."""

    def __init__(self, settings: HttpSettings, clients: Clients) -> None:
        self._settings, self._clients = settings, clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        answer = self._refusal(request)
        if answer is not None:
            await answer(scope, receive, send)
            return
        try:
            connection_of(scope).let_in(stream=is_stream(scope))
            if wanted := downloads.wanted(scope):
                await self._download(wanted, request, send)
                return
            path = _PATH.fullmatch(scope["raw_path"])
            if path is None:
                await PlainTextResponse("MCP is at /mcp\n", status_code=404)(scope, receive, send)
                return
            name = path["name"]
            await self._hand_over(name.decode("ascii") if name else None, request, send)
        except RawtapError as error:
            await refusal(error)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """What whoever may not come in gets."""
        headers = request.headers
        refusal = self._settings.gate.refusal(
            headers.get("host", ""), headers.getlist("origin"), headers.get("authorization", "")
        )
        return PlainTextResponse(refusal.text, refusal.status, refusal.headers) if refusal else None

    async def _hand_over(self, name: str | None, request: Request, send: Send) -> None:
        session = session_of(request.scope)
        if self._settings.shared:
            await self._to_lab(_SHARED, None, request, send)
        elif name is not None:
            await self._to_lab(name, f"lab-{name}", request, send)
        elif not knows_sessions(request.scope):
            await _needs_a_session(request)(request.scope, request.receive, send)
        elif session is None:
            await self._open(request, send)
        elif (client := self._clients.with_session(session)) is not None:
            await self._to_client(client, request, send)
        else:
            await rpc_error(404, "Session not found", INVALID_REQUEST)(request.scope, request.receive, send)

    async def _download(self, wanted: downloads.Wanted, request: Request, send: Send) -> None:
        """A capture of a Lab that is there: that of all, that of the name in the path, or the session's."""
        session = session_of(request.scope)
        if self._settings.shared:
            client = self._clients.there(_SHARED)
        elif wanted.lab:
            client = self._clients.there(wanted.lab)
        else:
            client = self._clients.with_session(session) if session else None
        if client is None:
            await downloads.NO_LAB(request.scope, request.receive, send)
            return
        await client.serve(request.scope, request.receive, Watched(send), downloads.answer(client.server, wanted))

    async def _to_lab(self, name: str, folder: str | None, request: Request, send: Send) -> None:
        client = await self._clients.named(name, folder, lasting=self._settings.shared)
        held = Held(send)
        watched = Watched(held if _may_open(request) else send)
        answered = await client.serve(request.scope, request.receive, watched)
        if answered and watched.status == _NO_ROOM and _may_open(request):
            held.messages.clear()
            await refusal(_too_many(self._settings.max_clients))(request.scope, request.receive, held)
        await held.release()

    async def _open(self, request: Request, send: Send) -> None:
        """A new client, if the request opens a session; else nothing of it is left."""
        if request.method != "POST":
            missing = rpc_error(400, "Bad Request: Missing session ID", INVALID_REQUEST)
            await missing(request.scope, request.receive, send)
            return
        client = await self._clients.open(f"client-{secrets.token_hex(8)}")
        try:
            await client.serve(request.scope, request.receive, Watched(send))
        finally:
            if not client.sessions:
                self._clients.drop(client)

    async def _to_client(self, client: Client, request: Request, send: Send) -> None:
        """A request of a session; the end of a session is answered when everything of it is released."""
        if request.method != "DELETE":
            await client.serve(request.scope, request.receive, Watched(send))
            return
        held = Held(send)
        answer = Watched(held)
        await client.serve(request.scope, request.receive, answer)
        if answer.status == _OK:
            client.end()
            await client.gone.wait()
        await held.release()


def _may_open(request: Request) -> bool:
    """Whether this may be a session's first request, of a client that knows sessions."""
    return request.method == "POST" and SESSION_HEADER not in request.headers and knows_sessions(request.scope)


def _too_many(most: int) -> ServerLimit:
    return ServerLimit(
        f"{most} sessions are open already",
        evidence=f"the limit is {most}",
        cure="End one, or wait until one is idle too long; the operator sets the limit (--max-clients)",
    )


def _needs_a_session(request: Request) -> Response:
    """A client that knows both eras goes on with a session; one that knows none needs a Lab with a name."""
    return rpc_error(
        400,
        "This address is for clients with a session. Without one, say whose Lab you mean: /mcp/NAME",
        UNSUPPORTED_PROTOCOL_VERSION,
        {
            "supported": list(HANDSHAKE_PROTOCOL_VERSIONS),
            "requested": request.headers[MCP_PROTOCOL_VERSION_HEADER],
        },
    )
