"""What rawtap relies on of the MCP SDK without its promise: where one of these fails, look at tools/_sdk.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import ValidationError

from rawtap.tools._sdk import give_tools, lowlevel, say_that_resources_change, tool_of


async def some_tool(number: int) -> int:
    """A tool."""
    return number


def test_the_server_has_one_below_it() -> None:
    assert isinstance(lowlevel(MCPServer("test")), Server)


@pytest.mark.parametrize("told", [True, False])
def test_older_clients_are_told_that_resources_change_only_where_they_are(told: bool) -> None:
    async def scenario() -> None:
        server = MCPServer("test")
        if told:
            say_that_resources_change(server)
        async with Client(server, mode="legacy") as client:
            assert client.server_capabilities.resources is not None
            assert bool(client.server_capabilities.resources.list_changed) is told

    anyio.run(scenario)


def test_tools_may_come_after_the_server_was_made() -> None:
    async def scenario() -> None:
        server = MCPServer("test")
        give_tools(server, [Tool.from_function(some_tool)])
        async with Client(server) as client:
            assert [each.name for each in (await client.list_tools()).tools] == ["some_tool"]
            assert (await client.call_tool("some_tool", {"number": 3})).structured_content == {"result": 3}

    anyio.run(scenario)


def test_arguments_that_do_not_fit_name_their_tool() -> None:
    async def scenario() -> None:
        server = MCPServer("test", tools=[Tool.from_function(some_tool)])
        with pytest.raises(ToolError) as caught:
            await server.call_tool("some_tool", {"number": "x"})
        assert isinstance(caught.value.__cause__, ValidationError)
        assert tool_of(caught.value.__cause__) == "some_tool"

    anyio.run(scenario)


def private_names() -> Iterator[tuple[str, str]]:
    """Where which private name of another module or object is used in rawtap: modules and names."""
    (package,) = (find_spec("rawtap") or pytest.fail("no rawtap")).submodule_search_locations or ()
    for file in Path(package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("mcp.", "mcp_types.", "starlette")):
                names = [*(node.module or "").split("."), *(each.name for each in node.names)]
                yield from ((file.name, name) for name in names if name.startswith("_"))
            elif isinstance(node, ast.Attribute) and node.attr in PRIVATE_OF_SDK:
                yield file.name, node.attr


PRIVATE_OF_SDK = {name for name in vars(MCPServer("test")) if name.startswith("_")}


def test_no_other_module_uses_a_private_name_of_the_sdk() -> None:
    assert {"_lowlevel_server", "_tool_manager"} <= PRIVATE_OF_SDK
    assert set(private_names()) == {("_sdk.py", "_lowlevel_server"), ("_sdk.py", "_tool_manager")}
