"""What tools/list tells of a tool: enough to call it and to check what comes back, in few bytes.

An agent pays for that list in every conversation, so it holds no word twice. A field's title is its name again. Null is
an argument's absence, and a default of null, false, 0 or "" is what anybody expects; so is that a number is not
negative, a text not endless and a name of plain characters, and that an argument which is not listed is refused. A
choice shows its type. Of an answer those fields are told that are never null, with their types, one level deep; all of
them, and what each means, are read from `schema://TOOL` by whoever wants to know.

The list is a file of the package, LISTED, which `scripts/manual.py` writes: to make the tools takes as long as half of
the server's start, and a client that asks what there is need not wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import ResourceTemplate, Tool, ToolAnnotations

SCHEME = "schema://"
LISTED = Path(__file__).with_name("listed.jsonl")  # a tool on each line

TEMPLATE = ResourceTemplate(
    name="schema",
    title="What a tool's answer means",
    uri_template=SCHEME + "{tool}",
    description="JSON Schema of a tool's answer: each field, its units, when it is null.",
    mime_type="application/schema+json",
)

_NULL = {"type": "null"}
_EXPECTED = (None, False, 0, "")  # as defaults
_NEVER = {"title", "maxLength", "maxItems", "minLength", "pattern", "additionalProperties"}
_LEAST = {"minimum", "exclusiveMinimum"}
_REACHED = 200  # a maximum from here on is hardly ever met, and then its refusal tells it


def listed() -> list[Tool]:
    """All tools as they are listed."""
    return [Tool.model_validate_json(line) for line in LISTED.read_bytes().splitlines()]


def brief(tool: Tool) -> Tool:
    """`tool` as it is listed."""
    return tool.model_copy(
        update={
            "description": cleandoc(tool.description or "").strip(),
            "input_schema": _arguments(tool.input_schema),
            "output_schema": _answer(tool.output_schema) if tool.output_schema else None,
            "annotations": _hints(tool.annotations),
        }
    )


def meaning(tools: Iterable[Tool], uri: str) -> ReadResourceContents:
    """What is behind a `schema://` URI: the whole schema of a tool's answer.

    Raises:
        ResourceNotFoundError: There is no tool of that name.
    """
    whole = {SCHEME + each.name: each.output_schema for each in tools}
    if uri not in whole:
        raise ResourceNotFoundError(f"{uri[:200]!r} names no tool; tools/list has their names")
    return ReadResourceContents(content=json.dumps(whole[uri]), mime_type=TEMPLATE.mime_type)


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """What a tool takes; what is said of a part that stands apart is said where it is referred to."""
    told = _argument(schema)
    for part in told.get("$defs", {}).values():
        part.pop("description", None)
    return told


def _argument(schema: dict[str, Any]) -> dict[str, Any]:
    """What an argument, or an object of arguments, may be."""
    told = {name: value for name, value in schema.items() if name not in _NEVER}
    if told.get("default") in _EXPECTED:
        told.pop("default", None)
    if any(told.get(name, 2) <= 1 for name in _LEAST):
        told = {name: value for name, value in told.items() if name not in _LEAST}
    if told.get("maximum", 0) >= _REACHED:
        del told["maximum"]
    if "enum" in told:
        told.pop("type", None)
    if "anyOf" in told:
        kinds = [_argument(each) for each in told["anyOf"] if each != _NULL]
        told = {**told, "anyOf": kinds}
        if len(kinds) == 1:
            del told["anyOf"]
            told = kinds[0] | told
    if isinstance(told.get("items"), dict):
        told["items"] = _argument(told["items"])
    for group in ("properties", "$defs"):
        if group in told:
            told[group] = {name: _argument(each) for name, each in told[group].items()}
    return told


def _answer(schema: dict[str, Any]) -> dict[str, Any]:
    """The fields that an answer has in any case, and their types; in pydantic's schema `$ref` and `anyOf` have none.

    What may be null has two types. Some clients refuse a list of them, and all others would pay for the longer `anyOf`.
    """
    shared = schema.get("$defs", {})

    def types(field: dict[str, Any]) -> list[str]:
        if "$ref" in field:
            return types(shared[field["$ref"].rpartition("/")[2]])
        if "anyOf" in field:
            return list(dict.fromkeys(each for kind in field["anyOf"] for each in types(kind)))
        return [field["type"]]

    told = {name: types(field) for name, field in schema["properties"].items()}
    return {"type": "object", "properties": {name: {"type": each[0]} for name, each in told.items() if len(each) == 1}}


def _hints(hints: ToolAnnotations | None) -> ToolAnnotations | None:
    """The hints that are not what the protocol takes for granted: a tool that writes, destroys, and reaches far.

    Of one that only reads it asks for no more.
    """
    if hints is None:
        return None
    granted = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
    own = {name: value for name, value in hints if name != "title" and value != getattr(granted, name)}
    if hints.read_only_hint:
        own = {"read_only_hint": True}
    return ToolAnnotations(**own) if own else None
