"""What each tool is made of, without the SDK: commands at a terminal call tools too, and would wait for its import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rawtap.tools._text import Answer

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from rawtap.ask.recording import Book
    from rawtap.lab.lab import Lab

Function = Callable[..., Awaitable["Answer | CallToolResult"]]
"""Of a tool: its first parameter is `context`, a `LabContext`, and the others are the tool's."""


class _HasLab(Protocol):
    @property
    def lab(self) -> Lab: ...
    @property
    def book(self) -> Book: ...


class _Request(Protocol):
    @property
    def lifespan_context(self) -> _HasLab: ...


class LabContext(Protocol):
    """What tools ask of a call's context, which is the SDK's: whose Lab it is, and whom to tell of progress."""

    @property
    def request_context(self) -> _Request: ...

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None: ...


@dataclass(frozen=True)
class Offer:
    """A tool that is offered to clients: its function, its title, and what it says it does to what is there."""

    function: Function
    title: str
    read_only: bool
    destructive: bool
    idempotent: bool


def tool(
    function: Function,
    title: str,
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
) -> Offer:
    """Offer `function` as a tool; `rawtap.tools._boundary.made` makes it one."""
    return Offer(function, title, read_only, destructive, idempotent)


def lab_of(context: LabContext) -> Lab:
    """The server's Lab."""
    return context.request_context.lifespan_context.lab


def book_of(context: LabContext) -> Book:
    """What the server's client did."""
    return context.request_context.lifespan_context.book


def is_none(value: object) -> bool:
    """Give this as a field's `exclude_if`: the field is left out of the answer if it is None."""
    return value is None


def is_empty(value: object) -> bool:
    """Likewise, if there is nothing in it."""
    return not value
