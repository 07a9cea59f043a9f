"""What comes over stdin and is no message: whoever sent it gets an error for an answer.

The SDK passes over what it cannot read, and who asked waits for ever. That happens to honest clients: JSON can write
half of a surrogate pair ("\\ud800"), which is no character, and a text that is cut in its middle holds one.
"""

from __future__ import annotations

import json
from contextvars import Context
from typing import Protocol, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

_SHOWN = 300


class _Incoming(Protocol):
    """A stream of the SDK's."""

    last_context: Context | None

    async def receive(self) -> SessionMessage | Exception: ...
    async def aclose(self) -> None: ...


class _Outgoing(Protocol):
    async def send(self, item: SessionMessage, /) -> None: ...
    async def aclose(self) -> None: ...


class Answered:
    """A stream of messages, as the SDK reads it; what is none is answered here."""

    def __init__(self, incoming: _Incoming, outgoing: _Outgoing) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    @property
    def last_context(self) -> Context | None:
        """Of who sent the last message."""
        return self._incoming.last_context

    async def receive(self) -> SessionMessage | Exception:
        """The next message."""
        while isinstance(item := await self._incoming.receive(), ValidationError):
            if (answer := answer_to(item)) is not None:
                await self._outgoing.send(SessionMessage(answer))
        return item

    async def aclose(self) -> None:
        """Close the stream."""
        await self._incoming.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Greeting:
    """A stream of messages, as the SDK writes it.

    `greeted` is set by the second message. The first is the greeting, and the next is most often the list of tools.
    """

    def __init__(self, outgoing: _Outgoing, greeted: anyio.Event) -> None:
        self._outgoing, self._greeted = outgoing, greeted
        self._is_first = True

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        await self._outgoing.send(item)
        if self._is_first:
            self._is_first = False
        else:
            self._greeted.set()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._outgoing.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def answer_to(error: ValidationError) -> JSONRPCError | None:
    """What the sender of that is told, by the id of its request where it can be made out; None for an empty line."""
    found = error.errors(include_url=False, include_context=False)
    first, unread = found[0], found[0]["type"] == "json_invalid"
    if unread and not str(first["input"]).strip():
        return None
    # What lacks something is in the error as a whole; of what is wrong only that part is.
    whole = next((each["input"] for each in found if isinstance(each["input"], dict)), None)
    given = _less_strictly(first["input"]) if unread else whole
    message = f"request.invalid: this is no message: {first['msg'][:_SHOWN]}. Send a JSON-RPC 2.0 request, in UTF-8"
    error_data = ErrorData(code=PARSE_ERROR if unread else INVALID_REQUEST, message=message)
    return JSONRPCError(jsonrpc="2.0", id=_id_in(given), error=error_data)


def _less_strictly(text: str) -> object:
    """What a line says to a reader that knows halves of pairs, and NaN; None where it says nothing to that either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _id_in(given: object) -> int | str | None:
    number = given.get("id") if isinstance(given, dict) else None
    return number if isinstance(number, int | str) and not isinstance(number, bool) and _is_text(str(number)) else None


def _is_text(text: str) -> bool:
    return text.isascii() and len(text) <= _SHOWN
