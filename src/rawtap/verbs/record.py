"""`rawtap record`: the server, which also writes down what an agent does, as a pytest that does it again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult

from rawtap import options as server_options
from rawtap.blocking import leave_threads_behind
from rawtap.lab.bridges import Shares
from rawtap.recording import Call, as_test
from rawtap.server import RawtapServer, serve_stdio
from rawtap.settings import Settings
from rawtap.tools._boundary import Held
from rawtap.verbs.output import FAILED, WELL, complain


class Book:
    """The calls so far, in a file that is whole after each of them.

    Attributes:
        is_whole: Whether the last call is in it as well.
    """

    def __init__(self, path: Path) -> None:
        self.is_whole = True
        self._path = path
        self._calls: list[Call] = []
        with path.open("x", encoding="utf-8") as file:
            file.write(as_test(()))

    def add(self, call: Call) -> None:
        """Write down one more."""
        self._calls.append(call)
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            part.write_text(as_test(self._calls), encoding="utf-8")
            part.replace(self._path)
        except OSError as error:  # no call of the agent's fails for that
            self.is_whole = False
            with contextlib.suppress(OSError):
                part.unlink()
            complain(f"{self._path} cannot be written: {error.strerror}")
        else:
            self.is_whole = True


class _Recording(RawtapServer):
    """The server, with a book."""

    def __init__(self, settings: Settings, shares: Callable[[], Shares], *, book: Book) -> None:
        super().__init__(settings, shares)
        self._book = book

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Held, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the server's; then it is in the book."""
        try:
            result = await super().call_tool(name, arguments, context)
        except ToolError as error:
            self._book.add(Call(name, arguments, None, str(error).partition(":")[0]))
            raise
        if isinstance(result, CallToolResult):
            self._book.add(Call(name, arguments, result.structured_content or {}))
        return result


def run(options: argparse.Namespace) -> int:
    """Serve over stdin and stdout until stdin ends; returns the exit code."""
    try:
        book = Book(options.as_pytest)
    except OSError as error:
        complain(f"{options.as_pytest} cannot be written: {error.strerror}")
        return FAILED
    logging.basicConfig(stream=sys.stderr, level=options.log_level.upper(), format="rawtap: %(levelname)s: %(message)s")
    try:
        asyncio.run(serve_stdio(server_options.settings(options), options.pasta, partial(_Recording, book=book)))
    finally:
        if options.pasta:
            options.pasta.close()
    leave_threads_behind()
    return WELL if book.is_whole else FAILED
