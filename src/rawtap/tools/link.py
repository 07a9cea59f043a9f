"""The tool that pulls a guest's cable, or makes its wire worse."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rawtap.ask.link import set_cable
from rawtap.network.impair import Impairment
from rawtap.tools._text import Answer
from rawtap.tools._tool import LabContext, Offer, lab_of, tool
from rawtap.tools.guest import GuestName

Percent = Annotated[float, Field(ge=0, le=100, description="Percent; netem.")]


class LinkState(Answer):
    """A guest's cable after the call."""

    name: str
    tap: str | None = Field(description="null on QEMU's own network.")
    up: bool = Field(description="What the guest's card was told.")
    carrier: bool = Field(description="The TAP's, as the host's kernel showed it afterwards; without one QEMU's.")
    delay: float = Field(description="Seconds, of each frame to the guest.")
    loss: float = Field(description="Percent of the frames to the guest; so are the next two.")
    corrupt: float
    duplicate: float
    rate: int | None = Field(description="Bits a second to the guest; null for as fast as it goes.")
    queue: str | None = Field(
        description="The TAP's queue, as the kernel showed it afterwards: netem, tbf, or its default."
    )


async def qemu_link(
    context: LabContext,
    up: Annotated[bool, Field(description="false: the guest loses its carrier.")],
    name: GuestName = "guest",
    delay: Annotated[float, Field(ge=0, le=60, description="Seconds more on the way; netem.")] = 0,
    loss: Percent = 0,
    corrupt: Percent = 0,
    duplicate: Percent = 0,
    rate: Annotated[int | None, Field(ge=8000, le=10_000_000_000, description="Bits a second; tbf.")] = None,
    interface: Annotated[str | None, Field(description="Which of several cards; the first if absent.")] = None,
) -> LinkState:
    """Pull a guest's cable or plug it in, and impair what goes to the guest (not what it sends).

    What is not given is off: qemu_link(up=true) gives a good wire again.
    """
    cable = await set_cable(lab_of(context), name, up, Impairment(delay, loss, corrupt, duplicate, rate), interface)
    return LinkState(
        name=name,
        tap=cable.tap,
        up=cable.up,
        carrier=cable.carrier,
        delay=delay,
        loss=loss,
        corrupt=corrupt,
        duplicate=duplicate,
        rate=rate,
        queue=cable.queue,
    )


TOOLS: tuple[Offer, ...] = (tool(qemu_link, "Pull or impair a guest's cable", destructive=True, idempotent=True),)
