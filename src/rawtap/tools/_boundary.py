"""Where a tool's function becomes an MCP tool, and the only place where errors become what a client reads.

The SDK drops arguments that it does not know, in silence: an agent that writes ``filtr="icmp"`` would capture
everything. So every tool says that it takes no others, and `refuse_unknown` sees to it. The SDK also puts its own words
before an error's text; `error_for` gives back the text that starts with the code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Self

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from rawtap.ask.recording import Book
from rawtap.errors import RawtapError, RequestInvalid, ServerExhausted
from rawtap.tools._sdk import tool_of
from rawtap.tools._text import text_of
from rawtap.tools._tool import Function, Offer

if TYPE_CHECKING:
    from rawtap.lab.captures import Capture
    from rawtap.lab.lab import Lab


class Held:
    """A client's Lab, made when it is first asked for, since no client needs one to be greeted. Open it with
    ``async with``; leaving releases everything.

    Attributes:
        book: What the client did.
        on_change: Called with a capture that has started or ended, and whether it has ended.
    """

    def __init__(self, make: Callable[[], Lab]) -> None:
        self._make = make
        self._lab: Lab | None = None
        self.book = Book()
        self.on_change: Callable[[Capture, bool], object] | None = None

    @property
    def is_made(self) -> bool:
        """Whether it was asked for."""
        return self._lab is not None

    @property
    def lab(self) -> Lab:
        """The Lab."""
        if self._lab is None:
            self._lab = self._make()
            self._lab.captures.on_change = self._tell
        return self._lab

    def _tell(self, capture: Capture, ended: bool) -> None:
        if self.on_change:
            self.on_change(capture, ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lab is not None:
            await self._lab.__aexit__()


def made(offer: Offer) -> Tool:
    """The MCP tool of what is offered.

    It takes no further arguments (`refuse_unknown`). It is of an open world: what a guest prints and sends, and what
    comes to it by a way out, is of anybody's making.
    """
    made = Tool.from_function(
        _told(offer.function),
        title=offer.title,
        context_kwarg="context",
        annotations=ToolAnnotations(
            title=offer.title,
            read_only_hint=offer.read_only,
            destructive_hint=offer.destructive,
            idempotent_hint=offer.idempotent,
            open_world_hint=True,
        ),
    )
    made.fn_metadata.output_model = None  # else the SDK makes a model of each answer once more
    return made


def _told(function: Function) -> Callable[..., Awaitable[CallToolResult]]:
    """`function`, whose answer is text as well; one that makes a result of its own is left as it is."""

    @wraps(function)
    async def told(*args: Any, **kwargs: Any) -> CallToolResult:
        answer = await function(*args, **kwargs)
        if isinstance(answer, CallToolResult):
            return answer
        text = TextContent(type="text", text=text_of(answer))
        return CallToolResult(content=[text], structured_content=answer.model_dump(mode="json"))

    return told


def refuse_unknown(arguments: Collection[str], known: Sequence[str]) -> None:
    """Refuse arguments that are none of a tool's parameters, `known`.

    The argument model could be told to forbid them, but only after it is built: building each a second time takes the
    server's start 5 ms.
    """
    if unknown := [name for name in arguments if name not in known]:
        shown = ", ".join(map(repr, unknown[:3]))
        raise ToolError(str(_unfit(f"there is no parameter {shown[:200]}", known)))


def error_for(error: ToolError, parameters: dict[str, list[str]]) -> ToolError:
    """The error whose text starts with a code, for what a tool raised.

    `parameters` holds the names of each tool's parameters, for the cure of a wrong one.
    """
    cause = error.__cause__
    if isinstance(cause, RawtapError):
        return ToolError(str(cause))
    if isinstance(cause, ExceptionGroup) and all(isinstance(each, RawtapError) for each in cause.exceptions):
        return ToolError("\n".join(dict.fromkeys(map(str, cause.exceptions))))
    if exhausted := ServerExhausted.of(cause):
        return ToolError(str(exhausted))
    if isinstance(cause, ValidationError) and (known := parameters.get(tool_of(cause))) is not None:
        return ToolError(str(invalid_arguments(cause, known)))
    if isinstance(error, UnexpectedToolError):
        return UnexpectedToolError(
            f"server.bug: the call failed in a way that rawtap does not expect ({type(cause).__name__}). "
            "The server's stderr has the whole of it; please report it"
        )
    return error


def invalid_arguments(error: ValidationError, known: Sequence[str]) -> RequestInvalid:
    """That arguments do not fit, and which are known; what was given is not in it."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{'.'.join(map(str, item['loc']))[:100] or 'arguments'}: {item['msg']}" for item in found[:3]]
    return _unfit("; ".join(texts), known)


def _unfit(evidence: str, known: Sequence[str]) -> RequestInvalid:
    return RequestInvalid(
        "the arguments do not fit", evidence=evidence, cure=f"Parameters: {', '.join(known) or 'none'}"
    )
