"""The tool that draws packets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mcp.server.mcpserver import Image
from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import Field

from rawtap.tools._text import Answer, Untrusted, text_of
from rawtap.tools._tool import LabContext, Offer, is_empty, is_none, lab_of, tool
from rawtap.tools.capture import CaptureId

_MOST = 1 << 48


class PictureMade(Answer):
    """What the picture shows that comes with it."""

    packets: int = Field(description="That are in it.")
    more: bool = Field(description="Whether others belong to it as well.")
    path: str | None = Field(None, exclude_if=is_none, description="Of an SVG.")
    size_bytes: int | None = Field(None, exclude_if=is_none)
    mermaid: Untrusted = Field("", exclude_if=is_empty, description="The diagram's text.")
    notes: list[str] = Field([], exclude_if=is_empty)


async def qemu_pcap_picture(
    context: LabContext,
    of: Annotated[
        Literal["sequence", "traffic", "tcp"],
        Field(description="Who said what, beside consoles; bits a second; a stream's round trips and windows."),
    ] = "sequence",
    format: Annotated[  # noqa: A002 - the interface's name for it
        Literal["png", "svg", "mermaid"], Field(description="svg: a new file; mermaid: text of a sequence.")
    ] = "png",
    capture: CaptureId = None,
    path: Annotated[str | None, Field(description="A file instead.")] = None,
    stream: Annotated[int | None, Field(ge=0, le=_MOST, description="As in qemu_pcap_query.")] = None,
    where: Annotated[str, Field(max_length=2000, description="In SQL, like protocol = 'DNS'.")] = "",
    limit: Annotated[int, Field(ge=1, le=100, description="Arrows.")] = 30,
) -> Annotated[CallToolResult, PictureMade]:
    """Draw packets for a person: who said what to whom, traffic over time, or how a TCP stream went."""
    from rawtap.ask.picture import Wish, picture

    wish = Wish(of, format, capture, Path(path) if path else None, stream, where, limit)
    done = await picture(lab_of(context), wish)
    about = PictureMade(
        packets=done.packets,
        more=done.more,
        path=str(done.path) if done.path else None,
        size_bytes=len(done.data) or None,
        mermaid=done.text,
        notes=list(done.notes),
    )
    content: list[TextContent | ImageContent] = [TextContent(type="text", text=text_of(about))]
    if format == "png":
        content.insert(0, Image(data=done.data, format="png").to_image_content())
    return CallToolResult(content=list(content), structured_content=about.model_dump(mode="json"))


TOOLS: tuple[Offer, ...] = (tool(qemu_pcap_picture, "Draw packets"),)
