"""Answers to HTTP requests that rawtap gives itself, and answers of the SDK's on their way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from mcp_types import ErrorData, JSONRPCError
from starlette.responses import Response
from starlette.types import Message, Receive, Send

from rawtap.errors import RawtapError

_RETRY_SECONDS = "5"  # RFC 9110 10.2.3; when there is room again nobody knows
_SERVER_ERROR = -32000  # JSON-RPC 2.0 5.1: implementation-defined


def rpc_error(status: int, text: str, code: int = _SERVER_ERROR, data: object = None) -> Response:
    """A JSON-RPC error for a request whose id was not looked at, with that HTTP status."""
    error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=code, message=text, data=data))
    body = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, status_code=status, media_type="application/json")


def refusal(error: RawtapError) -> Response:
    """That the server cannot take the request now, and when to ask again; the text starts with the error's code."""
    response = rpc_error(503, str(error))
    response.headers["Retry-After"] = _RETRY_SECONDS
    return response


@dataclass(eq=False)
class Watched:
    """A response on its way out: how far it is. `on_start` is told its status and headers before they are sent."""

    send: Send
    on_start: Callable[[int, dict[bytes, bytes]], None] | None = None
    status: int | None = None
    finished: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.on_start:
                self.on_start(message["status"], dict(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            self.finished = not message.get("more_body", False)
        await self.send(message)

    async def cut_short(self, instead: Response) -> None:
        """End it: by `instead` where nothing was sent yet, else as it is."""
        if self.status is None:
            await instead({"type": "http"}, _nothing, self)
        elif not self.finished:
            await self({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(eq=False)
class Heard:
    """A request on its way in, and what came of its body. `give_up` is called when its rest cannot come any more: then
    there is nothing to answer, and whoever reads it waits until it is cancelled. The SDK would call that an error."""

    receive: Receive
    give_up: Callable[[], None]
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False

    async def __call__(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.disconnect" and not self.is_whole:
            self.give_up()
            await anyio.sleep_forever()
        self.body += message.get("body", b"")
        self.is_whole = self.is_whole or not message.get("more_body", False)
        return message


@dataclass(eq=False)
class Held:
    """A response that is kept back until what it says is true."""

    send: Send
    messages: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    async def release(self) -> None:
        """Send it."""
        for message in self.messages:
            await self.send(message)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
