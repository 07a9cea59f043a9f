"""The tool that speaks on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from rawtap.packets.craft import MAX_FRAME, MAX_LAYERS
from rawtap.tools._boundary import Answer, LabContext, lab_of, tool

_MAX_COUNT = 1000
_SHOWN = 1600  # bytes


class SentPacket(Answer):
    """What was put on the wire."""

    interface: str
    sent: int = Field(description="How often.")
    bytes: int = Field(description="Length of the frame.")
    summary: str = Field(description="What it says.")
    hex: str = Field(description="Its bytes, the first 1600 of them.")


async def qemu_packet_send(
    context: LabContext,
    interface: Annotated[
        str | None, Field(description="A guest's bridge or TAP; the guest's bridge if absent.")
    ] = None,
    hex: Annotated[  # noqa: A002 - the interface's name for it
        str | None, Field(max_length=4 * MAX_FRAME, description="A whole Ethernet frame in hexadecimal digits.")
    ] = None,
    layers: Annotated[
        list[dict[str, Any]] | None,
        Field(
            max_length=MAX_LAYERS,
            description='Its layers instead, like [{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}]; lengths, '
            'checksums and Ethernet addresses that are absent are filled in. Bytes are text or {"hex": "00ff"}.',
        ),
    ] = None,
    count: Annotated[int, Field(ge=1, le=_MAX_COUNT, description="How often; 1000 a second at most.")] = 1,
    name: Annotated[str, Field(description="The guest whose bridge is meant.")] = "guest",
) -> SentPacket:
    """Send a packet to a guest, from hexadecimal digits or from layers. A capture that runs there sees it."""
    lab = lab_of(context)
    chosen = interface or lab.interface_of(name)
    done = await lab.transmit(chosen, hex, layers, count)
    return SentPacket(
        interface=chosen,
        sent=done.count,
        bytes=len(done.frame),
        summary=done.summary,
        hex=done.frame[:_SHOWN].hex(),
    )


TOOLS: tuple[Tool, ...] = (tool(qemu_packet_send, "Send a packet"),)
