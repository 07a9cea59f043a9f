"""What a wait may be for: literal text, or a regular expression of RE2's.

RE2 takes time in proportion to the text, whatever the pattern (its own documentation, "WhyRE2"): so no pattern that a
caller or a profile brings can hold the server up. Python's `re` cannot promise that.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as validated_dataclass

from rawtap.errors import RequestInvalid

_LONGEST = 1000  # characters of a pattern
_LOOK_BACK = 4096  # bytes of an earlier part that a match of a regular expression may begin in
_MEMORY = 8 << 20  # bytes for a pattern's automata


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))  # `builtin` builds it
class Pattern:
    """A regular expression, told from a text."""

    regex: str


@dataclass(frozen=True)
class Wanted:
    """Something to look for. `text` is what the caller gave."""

    text: str
    expression: Any
    reach: int  # bytes before new output in which a match may begin

    def find(self, data: bytearray, at: int) -> tuple[int, int] | None:
        """Where the first match at or after `at` begins and ends."""
        if isinstance(self.expression, re.Pattern):
            match = self.expression.search(data, at)
            return (match.start(), match.end()) if match else None
        base = max(0, at - 1)  # one byte before it: whether a line begins there
        match = self.expression.search(bytes(memoryview(data)[base:]), at - base)
        return (base + match.start(), base + match.end()) if match else None

    def covers(self, line: bytes) -> bool:
        """Whether the whole of that line is it."""
        return self.expression.fullmatch(line) is not None


@cache
def _re2() -> ModuleType:
    return importlib.import_module("re2")


def compiled(wanted: str | Pattern) -> Wanted:
    """What to look for, from a text or a pattern.

    Raises:
        RequestInvalid: It is no regular expression of RE2's, with RE2's own words.
    """
    if isinstance(wanted, str):
        literal = wanted.encode()
        return Wanted(wanted, re.compile(re.escape(literal)), len(literal))
    engine = _re2()
    options = engine.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    if len(wanted.regex) > _LONGEST:
        raise RequestInvalid(f"a regex has {len(wanted.regex)} characters", cure=f"At most {_LONGEST}")
    try:
        return Wanted(wanted.regex, engine.compile(f"(?m){wanted.regex}".encode(), options), _LOOK_BACK)
    except engine.error as error:
        words = error.args[0] if error.args else ""
        raise RequestInvalid(
            f"regex {wanted.regex[:100]!r} cannot be used",
            evidence=words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words),
            cure="The syntax is RE2's (https://github.com/google/re2/wiki/Syntax): no back-references, no look-around",
        ) from error
