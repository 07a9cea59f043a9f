"""What the MCP SDK does not promise and rawtap relies on, all of it; tests/test_sdk.py fails where that changes."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from mcp.server import MCPServer, NotificationOptions
from mcp.server.lowlevel import Server
from mcp.server.mcpserver.tools import Tool, ToolManager
from pydantic import ValidationError

T = TypeVar("T")


def lowlevel(server: MCPServer[T]) -> Server[T]:
    """The SDK's server below its server: what answers each method, and what an HTTP transport is given."""
    return server._lowlevel_server  # noqa: SLF001


def give_tools(server: MCPServer[Any], tools: list[Tool]) -> None:
    """Have the server know these tools, and no others; the SDK takes whole ones only when it is made."""
    server._tool_manager = ToolManager(tools=tools)  # noqa: SLF001


def say_that_resources_change(server: MCPServer[Any]) -> None:
    """Have clients of protocols up to 2025-11-25 told so when they come; the SDK says no, and asks for no opinion."""
    below = lowlevel(server)
    below.create_initialization_options = partial(  # type: ignore[method-assign]
        below.create_initialization_options, NotificationOptions(resources_changed=True)
    )


def tool_of(error: ValidationError) -> str:
    """The tool whose arguments do not fit, by the name of the SDK's model of them; one of our own has another."""
    return error.title.removesuffix("Arguments")
