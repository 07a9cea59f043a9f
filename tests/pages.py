"""Markdown as far as the tests of the documentation read it: fenced blocks, links, anchors, tables, code in a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block: the words after its backticks, and its text."""

    page: Path
    info: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        """Of the block, for people: the page and its first line."""
        return f"{self.page.relative_to(ROOT)}: {self.text.partition(chr(10))[0][:60]}"

    def commands(self) -> list[str]:
        """A shell block's commands, a line each, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for each in lines if (line := re.sub(r"(^|\s)#.*", "", each).strip())]


@dataclass(frozen=True)
class Page:
    """One file of Markdown."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        found = _FENCE.finditer(self.text)
        return [Block(self.path, tuple(each["info"].split()), each["text"]) for each in found]

    @cached_property
    def prose(self) -> str:
        """All but the fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def code(self) -> list[str]:
        """What stands in backticks within a line; a break in it is a space."""
        return [" ".join(each.split()) for each in _CODE.findall(self.prose)]

    @cached_property
    def links(self) -> list[str]:
        return _LINK.findall(_CODE.sub("code", self.prose))

    @cached_property
    def anchors(self) -> set[str]:
        """The headings as a URL's fragment names them (GitHub's rule): of two that are alike the second ends in -1."""
        seen: Counter[str] = Counter()
        found = set()
        for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE):
            name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return found

    def tables(self, first: str) -> Iterator[list[list[str]]]:
        """The rows of each table whose first column is headed so; a cell each, without the heading."""
        for found in re.finditer(rf"^\| {re.escape(first)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", self.prose, re.MULTILINE):
            yield [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]

    def listed(self, first: str) -> list[str]:
        """Of those tables, what stands in backticks in the first column."""
        return [code for table in self.tables(first) for row in table for code in _CODE.findall(row[0])]


def all_pages() -> list[Page]:
    """The documentation: what is at the root, and docs/."""
    return [Page(path) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]


def codes_in(cell: str) -> list[str]:
    """What stands in backticks in a cell of a table."""
    return _CODE.findall(cell)
