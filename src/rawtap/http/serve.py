"""Runs the HTTP server until a signal says so, and releases everything before it is gone.

The event loop is the main thread's: QEMU lives as long as the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Iterator

import anyio
import uvicorn
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER
from starlette.middleware.cors import CORSMiddleware

from rawtap.blocking import ENDING_SIGNALS
from rawtap.host.pasta import Pasta
from rawtap.http.client import SESSION_HEADER
from rawtap.http.clients import Clients
from rawtap.http.connections import ACCEPTED_AT_ONCE, WAITING, Crowd
from rawtap.http.door import Names
from rawtap.http.gateway import Gateway
from rawtap.http.options import HttpSettings
from rawtap.lab import outside
from rawtap.lab.bridges import Shares
from rawtap.server import prepare
from rawtap.settings import Settings
from rawtap.watched.door import open_to_watchers

_OF_HTTP = ("Authorization", "Content-Type", "Last-Event-ID")
_OF_MCP = (SESSION_HEADER, MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
_GRACE_SECONDS = 1  # for answers on their way out, when everything is released


class _Uvicorn(uvicorn.Server):
    """uvicorn without its way with signals, by which it would stop answering before everything is released."""

    def __init__(self, config: uvicorn.Config, settings: HttpSettings) -> None:
        super().__init__(config)
        self._settings = settings

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `serve_http`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then say where it is."""
        # Anybody can send what is no HTTP, as often as they like: that is no news.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        await super().startup(sockets)
        self._settings.listening.listen(WAITING)  # asyncio made it the number that it accepts at once
        _say(f"the bearer token is {self._settings.gate.token.origin}")
        _say(f"listening on {self._settings.url}")


def _say(text: str) -> None:
    print(f"rawtap: {text}", file=sys.stderr, flush=True)


async def serve_http(settings: Settings, http: HttpSettings, pasta: Pasta | None) -> None:
    """Serve until a signal ends it; everything is released when this returns."""
    ended = anyio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, ended.set)
    async with anyio.create_task_group() as group:
        shares = Shares(outside.policy(settings, pasta))
        group.start_soon(prepare, lambda: shares)  # what was left behind goes before a client comes
        clients = Clients(settings, http.max_clients, http.idle_seconds, group, shares)
        server = _Uvicorn(_config(Gateway(http, clients), http), http)
        group.start_soon(server.serve, [http.listening])
        async with open_to_watchers(clients.watched):
            await ended.wait()
            await clients.close()
        server.should_exit = True


def _config(gateway: Gateway, http: HttpSettings) -> uvicorn.Config:
    return uvicorn.Config(
        _ForPages(gateway, http.gate.names),
        lifespan="off",
        ws="none",
        http=Crowd(http.header_seconds, http.gate).protocol(),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class _ForPages(CORSMiddleware):
    """What browsers ask first, and want to hear, before they let a page of an allowed origin call (Fetch, CORS)."""

    def __init__(self, gateway: Gateway, names: Names) -> None:
        super().__init__(
            gateway,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=_OF_HTTP + _OF_MCP,
            expose_headers=(SESSION_HEADER, "Retry-After", "WWW-Authenticate"),
        )
        self._names = names

    def is_allowed_origin(self, origin: str) -> bool:
        """As the gateway has it."""
        return self._names.may_ask(origin)
