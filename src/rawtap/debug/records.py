"""gdb's machine interface, GDB/MI: what it writes, read; what it is given, quoted. Pure.

The grammar is in gdb's manual, "GDB/MI Output Syntax". pygdbmi reads the same, and never comes back from a list that
has no end, which is what a gdb leaves behind that a hostile file brought down in the middle of a line. Here that is an
error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rawtap.untrusted import visible

Value: TypeAlias = "str | list[Value] | Results"
Results: TypeAlias = "dict[str, Value]"

_DEEPEST = 40
_RECORD = re.compile(r"(\d*)([\^*=+])([a-z-]+)(?:,(.*))?", re.DOTALL)
_STREAM = re.compile(r'([~&@])("(?:[^"\\]|\\.)*")', re.DOTALL)
_NAME = re.compile(r"([A-Za-z_][\w-]*)=")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.:*-]+")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_KINDS: dict[str, Literal["result", "exec", "notify", "text", "log"]] = {
    "^": "result", "*": "exec", "=": "notify", "+": "notify", "~": "text", "&": "log", "@": "text",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A line of gdb's.

    Attributes:
        kind: A command's result; what the guest does; what else changed; gdb's words to its user; its log.
        word: Like "done", "error", "stopped".
        token: The command's number, where it is a result.
        results: By their names.
        text: Of words and of the log.
    """

    kind: Literal["result", "exec", "notify", "text", "log"]
    word: str = ""
    token: int | None = None
    results: Results = field(default_factory=dict)
    text: str = ""


def parse(line: str) -> Record | None:
    """The record in a line; None for one that has none, like gdb's "(gdb)".

    Raises:
        ValueError: It begins as a record and is none.
    """
    if match := _STREAM.fullmatch(line):
        return Record(_KINDS[match[1]], text=unquoted(match[2]))
    if (match := _RECORD.fullmatch(line)) is None:
        return None
    token, sign, word, rest = match.groups()
    results: Results = {}
    if rest is not None:
        end = _results(rest, 0, results, 0)
        if end != len(rest):
            raise ValueError(f"something follows at {end}")
    return Record(_KINDS[sign], word, int(token) if token else None, results)


def _results(text: str, at: int, into: Results, depth: int) -> int:
    """Read ``name=value,...``; where it ended."""
    while True:
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError(f"no name at {at}")
        into[name[1]], at = _value(text, name.end(), depth)
        if text[at : at + 1] != ",":
            return at
        at += 1


def _value(text: str, at: int, depth: int) -> tuple[Value, int]:
    if depth > _DEEPEST:
        raise ValueError(f"nested too deep at {at}")
    if string := _STRING.match(text, at):
        return unquoted(string[0]), string.end()
    opening = text[at : at + 1]
    if opening == "{":
        return _tuple(text, at + 1, depth + 1)
    if opening == "[":
        return _list(text, at + 1, depth + 1)
    raise ValueError(f"no value at {at}")


def _tuple(text: str, at: int, depth: int) -> tuple[Results, int]:
    found: Results = {}
    if text[at : at + 1] != "}":
        at = _results(text, at, found, depth)
    if text[at : at + 1] != "}":
        raise ValueError(f"no end of a tuple at {at}")
    return found, at + 1


def _list(text: str, at: int, depth: int) -> tuple[list[Value], int]:
    """A list's values; where they have names, which are all the same, those are left out."""
    found: list[Value] = []
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        name = _NAME.match(text, at)
        value, at = _value(text, name.end() if name else at, depth)
        found.append(value)
        sign = text[at : at + 1]
        if sign == "]":
            return found, at + 1
        if sign != ",":
            raise ValueError(f"no end of a list at {at}")
        at += 1


def unquoted(string: str) -> str:
    """What a C string of gdb's says; bytes that are no UTF-8 are replaced."""

    def of(match: re.Match[str]) -> str:
        what = match[1]
        return chr(int(what, 8) & 0xFF) if what[0] in "01234567" else _ESCAPED.get(what, what)

    inner = string[1:-1]
    if "\\" not in inner:
        return inner
    return _ESCAPE.sub(of, inner).encode("latin-1", "replace").decode("utf-8", "replace")


def quoted(word: str) -> str:
    """A parameter for a command, in quotes where it needs them. Nothing in it can end it, or the line.

    Raises:
        ValueError: It has a control character.
    """
    if not word.isprintable():
        raise ValueError("a control character")
    if _PLAIN.fullmatch(word):
        return word  # gdb knows options that all commands have, and addresses, without quotes only
    inner = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


def text_at(results: Results, *names: str) -> str:
    """The text behind those names, "" where there is none; made for reading."""
    found: Value = results
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return ""
        found = found[name]
    return visible(found) if isinstance(found, str) else ""


def rows_at(results: Results, *names: str) -> list[Results]:
    """The list of tuples behind those names; empty where there is none."""
    found: Value = results
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return []
        found = found[name]
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
