"""Runs the HTTP server until a signal says so, and releases everything before it is gone.

The event loop is the main thread's: QEMU lives as long as the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import anyio
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from rawtap.host.pasta import Pasta
from rawtap.http.clients import SESSION_HEADER, Clients
from rawtap.http.gateway import Gateway
from rawtap.http.options import HttpSettings
from rawtap.lab import outside
from rawtap.lab.bridges import Shares
from rawtap.server import ENDING_SIGNALS
from rawtap.settings import Settings

_CONNECTIONS = 256  # at once, with a token or without
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
        await super().startup(sockets)
        _say(f"the bearer token is {self._settings.token.origin}")
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
        clients = Clients(settings, http.max_clients, http.idle_seconds, group, shares)
        server = _Uvicorn(_config(Gateway(http, clients), http), http)
        group.start_soon(server.serve, [http.listening])
        await ended.wait()
        await clients.close()
        server.should_exit = True


def _config(gateway: Gateway, http: HttpSettings) -> uvicorn.Config:
    return uvicorn.Config(
        _for_pages(gateway, http.origins) if http.origins else gateway,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _for_pages(gateway: Gateway, origins: tuple[str, ...]) -> ASGIApp:
    """What browsers ask first, and want to hear, before they let a page of these origins call (Fetch, CORS)."""
    return CORSMiddleware(
        gateway,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Last-Event-ID", "MCP-Protocol-Version", SESSION_HEADER),
        expose_headers=(SESSION_HEADER,),
    )
