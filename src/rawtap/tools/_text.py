"""An answer as a person reads it, which is also what an agent reads where its host does not show the structured one.

Short values first, as ``name=value`` on a line; then what has spaces, a line each; then blocks. What is null is left
out, as is an empty text; an empty list is told. Text of several lines is marked with ``|``, so nothing that a guest
prints can pass for a line of rawtap's, and what comes from the guest or the wire is called untrusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

PARTIAL = "Whether not everything was looked at; notes say what was not."
"""Of the field `partial` of an answer that tells what was found."""

UNTRUSTED = "untrusted"
"""In the annotation of a field: it holds text from the guest or the wire."""

Untrusted = Annotated[str, UNTRUSTED]
_WIDE = 100  # characters


class Answer(BaseModel):
    """What every tool's answer is: a closed, typed object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def is_said_elsewhere(self, field: str) -> bool:  # noqa: ARG002 - for those who know better
        """Whether the text needs no line for `field`."""
        return False

    def lines(self) -> list[str]:
        """Its lines of text; none of them ends with a line feed."""
        facts: list[str] = []
        sentences: list[str] = []
        blocks: list[str] = []
        for name, value in self:
            about = type(self).model_fields[name]
            if value is None or value in ("", {}) or self.is_said_elsewhere(name) or (about.exclude_if and not value):
                continue
            untrusted = UNTRUSTED in about.metadata
            label = f"{name} (untrusted)" if untrusted else name
            if isinstance(value, Answer) or _has_lines(value):
                blocks += block(label, value)
            elif " " in (told := shown(value)) or untrusted:
                sentences.append(f"{label}: {told}")
            else:
                facts.append(f"{label}={told}")
        return [" ".join(facts), *sentences, *blocks] if facts else [*sentences, *blocks]


def text_of(answer: Answer) -> str:
    """The whole answer."""
    return "\n".join(answer.lines())


def block(label: str, value: Any) -> list[str]:
    """A value that takes several lines, below its label; one that fits into a line, beside it."""
    if isinstance(value, str):
        return [f"{label}:", *(f"|{line}" for line in value.splitlines())]
    if isinstance(value, Answer):
        first, *rest = value.lines() or [""]
        return [f"{label}: {first}", *indented(rest)]
    return [f"{label}:", *indented(line for item in value for line in _item(item))]


def indented(lines: Iterable[str]) -> list[str]:
    """Lines that belong to the one before."""
    return [f"  {line}" for line in lines]


def one_line(text: str) -> str:
    """`text` without its line breaks, whichever they are."""
    return " ".join(text.splitlines())


def shown(value: Any) -> str:
    """A value within a line."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return one_line(str(value))


def _has_lines(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.splitlines()) > 1
    if not isinstance(value, list):
        return False
    words = [each for each in value if isinstance(each, str)]
    return (bool(value) and not words) or any(" " in each for each in words) or sum(map(len, words)) > _WIDE


def _item(item: Any) -> list[str]:
    first, *rest = item.lines() if isinstance(item, Answer) else str(item).splitlines()
    return [first, *indented(rest)]
