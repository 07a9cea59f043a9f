"""A capture's packets over HTTP: ``GET /captures/ID.pcap``, whole, or with ``?follow=1`` until it ends.

A Lab's name stands before the id, as in ``/mcp/NAME``; without one the session's header says whose it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import parse_qs

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rawtap.errors import CaptureUnknown, CaptureUnreadable, RawtapError
from rawtap.server import RawtapServer

logger = logging.getLogger(__name__)

_PATH = re.compile(
    rb"/captures/(?:(?P<lab>[A-Za-z0-9][A-Za-z0-9_-]{0,31})/)?(?P<capture>c[0-9]{1,9})\.(?P<format>pcap|pcapng)"
)
_KINDS = {"pcap": "application/vnd.tcpdump.pcap", "pcapng": "application/x-pcapng"}
_FOLLOW = {"": False, "0": False, "1": True}

NO_LAB = PlainTextResponse(
    "Whose capture? /captures/NAME/c1.pcap is that of the Lab at /mcp/NAME; a session's needs its Mcp-Session-Id\n",
    status_code=404,
)
# Its bodies end where the connection does, also where they are broken off.
NO_END = PlainTextResponse(
    "In HTTP/1.0 nobody can tell whether a capture is whole. Ask by HTTP/1.1 (nginx: proxy_http_version 1.1)\n",
    status_code=505,
)


@dataclass(frozen=True)
class Wanted:
    """What a request is for."""

    lab: str | None
    capture: str
    format: str
    follow: bool


def wanted(scope: Scope) -> Wanted | None:
    """What a request asks for, if it asks for a capture's packets."""
    path = _PATH.fullmatch(scope["raw_path"])
    follow = parse_qs(scope["query_string"].decode("latin-1")).get("follow", [""])[-1]
    if path is None or scope["method"] != "GET" or follow not in _FOLLOW:
        return None
    lab = path["lab"].decode("ascii") if path["lab"] else None
    return Wanted(lab, path["capture"].decode("ascii"), path["format"].decode("ascii"), _FOLLOW[follow])


def answer(server: RawtapServer, asked: Wanted) -> ASGIApp:
    """What answers that request of a client of `server`."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        from rawtap.ask.stream import stream

        if scope["http_version"] == "1.0":
            await NO_END(scope, receive, send)
            return
        try:
            capture = server.capture(asked.capture)
        except CaptureUnknown as error:
            await PlainTextResponse(f"{error}\n", status_code=404)(scope, receive, send)
            return
        if capture.session.request.format != asked.format:
            text = f"{asked.capture} is a {capture.session.request.format} file\n"
            await PlainTextResponse(text, status_code=404)(scope, receive, send)
            return
        async with aclosing(stream(capture, follow=asked.follow)) as packets, anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            try:
                first = await anext(packets, b"")  # a file's header: it is there as soon as the capture is
            except RawtapError as error:
                status = 410 if isinstance(error, CaptureUnreadable) else 503
                await PlainTextResponse(f"{error}\n", status)(scope, receive, send)
            else:
                await _send(first, packets, asked, send)
            group.cancel_scope.cancel()

    return respond


async def _send(first: bytes, packets: AsyncIterator[bytes], asked: Wanted, send: Send) -> None:
    named = f'attachment; filename="{asked.capture}.{asked.format}"'
    headers = [(b"content-type", _KINDS[asked.format].encode()), (b"content-disposition", named.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    try:
        async for data in packets:
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except RawtapError as error:  # its body has no end then: nobody takes it for the whole
        logger.warning("a download of %s was broken off: %s", asked.capture, error)
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """A capture that is quiet has nothing to send, by which a client that is gone would be noticed."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
