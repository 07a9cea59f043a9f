"""A server of one's own: started, spoken to over a pipe, and ended with whoever started it.

Theory of operation. A Lab has capabilities or a network namespace, and threads; its QEMUs are tied to its main thread.
Nothing of that belongs into somebody else's program, so a Lab is a process of its own, `rawtap serve`, which gets its
privileges as for an agent. When this program ends, however it does, that process reads the end of its stdin, and
releases everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import TextContent
from pydantic import BaseModel

from rawtap.errors import ServerGone

A = TypeVar("A", bound=BaseModel)


class CallFailed(Exception):
    """A call's error: its text says what happened, the evidence, and the cure.

    Attributes:
        code: Stable, like "capture.bad_filter"; docs/troubleshooting.md has each.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(":")[0]


class Connection:
    """One server's client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool; what is None in `arguments` is left out.

        Raises:
            CallFailed: With the tool's error.
        """
        given = {key: each for key, each in arguments.items() if each is not None}
        try:
            result = await self._client.call_tool(tool, given)
        except MCPError as error:
            raise _gone("the server of this Lab does not answer any more", str(error)) from error
        if result.is_error or result.structured_content is None:
            raise CallFailed("\n".join(block.text for block in result.content if isinstance(block, TextContent)))
        return dict(result.structured_content)

    async def ask(self, answer: type[A], tool: str, **arguments: Any) -> A:
        """The same, with the answer as that model."""
        return answer.model_validate(await self.call(tool, arguments))


def _gone(problem: str, evidence: str) -> CallFailed:
    cure = "Its stderr says why, unless it was killed; open another Lab"
    return CallFailed(str(ServerGone(problem, evidence=evidence, cure=cure)))


@asynccontextmanager
async def connected(options: Sequence[str]) -> AsyncIterator[Connection]:
    """Start a server with these options of `rawtap serve`; at the end of the block it has released everything.

    Raises:
        CallFailed: It did not start.
    """
    command = ["-I", "-m", "rawtap", "serve", *options]
    server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    # Not sys.stderr: whoever replaces that for a while, as pytest does, may close it before the server ends.
    complaints = sys.__stderr__ or sys.stderr
    failure: Exception | None = None
    try:
        async with Client(stdio_client(server, complaints)) as client:
            try:
                yield Connection(client)
            except Exception as error:  # noqa: BLE001 - raised again outside of the client's task groups, which wrap it
                failure = error
    except* MCPError as errors:
        failure = failure or _gone("the server of this Lab ended before it answered", str(_first(errors)))
    if failure:
        raise failure


def _first(error: BaseException) -> BaseException:
    """Of a group of errors."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
