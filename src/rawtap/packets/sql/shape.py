"""What is taken for a question, by the tree that DuckDB's own parser makes of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

_ONLY = "only SELECT is taken (also WITH ..., VALUES, DESCRIBE, SUMMARIZE): nothing is changed by a question"
_HARMLESS = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}


class NoQuestion(Exception):
    """It is not one SELECT; the text says why."""


def checked(tree: str) -> Node:
    """The root of the only statement in what json_serialize_sql made of a text.

    Raises:
        NoQuestion: It is no SQL, no SELECT, or several statements.
    """
    found = json.loads(tree)
    if found["error"]:
        raise NoQuestion(_said(found))
    statements = found["statements"]
    if len(statements) != 1:
        raise NoQuestion(f"{len(statements)} statements; one is taken")
    if statements[0]["named_param_map"]:
        raise NoQuestion("it has parameters, and there are no values for them")
    root: Node = statements[0]["node"]
    if others := _queries(root) - _HARMLESS:  # WITH x AS (COPY ...) is a SELECT as well
        raise NoQuestion(f"{_ONLY}, and it holds {', '.join(sorted(others))}")
    return root


def _said(found: Node) -> str:
    text = str(found["error_message"])
    if "Only SELECT" in text:
        return _ONLY
    return f"{text}, at character {int(found['position']) + 1}" if found.get("position") else text


def nodes(tree: object) -> Iterator[Node]:
    """Every node of a tree."""
    pending = [tree]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            yield each
            pending += each.values()
        elif isinstance(each, list):
            pending += each


def _queries(root: Node) -> set[str]:
    """The kinds of the queries in it."""
    return {str(node["type"]) for node in nodes(root) if str(node.get("type")).endswith("_NODE")}


def shows_lines(root: Node) -> bool:
    """Whether packets' lines, if they are in it at all, are only shown: nothing is compared with them or made of them.

    Then they need not be made before it is known which rows are shown. It is so for one SELECT of the packets alone
    whose list names them as they are, or has an asterisk, and which speaks of them nowhere else.
    """
    everywhere = [*nodes(root)]
    plain = (
        root.get("type") == "SELECT_NODE"
        and sum(str(each.get("type")).endswith("_NODE") for each in everywhere) == 1
        and root["from_table"].get("type") == "BASE_TABLE"
        and str(root["from_table"].get("table_name")).lower() == "packets"
        and not root["from_table"].get("column_name_alias")
        and not root["group_expressions"]
        and root["aggregate_handling"] == "STANDARD_HANDLING"
        and not any(each.get("type") == "DISTINCT_MODIFIER" for each in root["modifiers"])
    )
    if not plain:
        return False
    shown = [each for each in root["select_list"] if _is_plain_star(each) or _is_line(each)]
    aliases = {str(each.get("alias")).lower() for each in shown if _is_line(each)} - {""}
    speaks = [each for each in everywhere if _is_line(each) or _is_star(each) or _names(each) & aliases]
    odd = any(each.get("class") in {"POSITIONAL_REFERENCE", "SUBQUERY", "LAMBDA"} for each in everywhere)
    by_number = [each for each in _ordered(root) if each.get("class") == "CONSTANT"]
    whole_row = any(_names(each) & ({"packets"} | _alias(root)) for each in nodes(root["select_list"]))
    return not odd and not by_number and not whole_row and len(speaks) == len(shown)


def _ordered(root: Node) -> Iterator[Node]:
    for modifier in root["modifiers"]:
        yield from (each["expression"] for each in modifier.get("orders", ()))


def _alias(root: Node) -> set[str]:
    return {str(root["from_table"].get("alias")).lower()} - {""}


def _names(node: Node) -> set[str]:
    """The last part of what a column is called by."""
    parts = node.get("column_names") or [""]
    return {str(parts[-1]).lower()} - {""}


def _is_line(node: Node) -> bool:
    return node.get("class") == "COLUMN_REF" and _names(node) == {"info"}


def _is_star(node: Node) -> bool:
    return node.get("class") == "STAR"


def _is_plain_star(node: Node) -> bool:
    has = ("replace_list", "expr", "rename_list")
    return _is_star(node) and not node.get("columns") and not any(node.get(each) for each in has)


def columns_read(plan: str, every: frozenset[str]) -> frozenset[str]:
    """Which of the columns `every` DuckDB's plan reads of tables in memory; all where the plan does not say."""
    found: set[str] = set()
    for node in nodes(json.loads(plan)):
        if "ARROW_SCAN" not in str(node.get("name", "")):
            continue
        told = node.get("extra_info", {}).get("Projections")
        names = {told} if isinstance(told, str) else set(told or every)
        if not names <= every:
            return every
        found |= names
    return frozenset(found)
