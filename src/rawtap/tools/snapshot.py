"""The snapshot tool: save a guest's whole state, and return to it."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio
from pydantic import Field

from rawtap.errors import RequestInvalid
from rawtap.guest import snapshots
from rawtap.tools._text import Answer
from rawtap.tools._tool import LabContext, Offer, lab_of, tool
from rawtap.tools.guest import GuestName

_TAG = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class SnapshotRow(Answer):
    """A snapshot that is kept until the guest's end."""

    tag: str
    size_bytes: int = Field(description="Of memory and devices.")
    saved_at: float = Field(description="Unix time in seconds.")


class SnapshotState(Answer):
    """The guest's snapshots after what was done."""

    name: str
    action: Literal["save", "restore", "list", "delete"]
    tag: str | None
    elapsed: float = Field(description="Seconds.")
    snapshots: list[SnapshotRow] = Field(description="All there are now, oldest first.")


async def qemu_snapshot(
    context: LabContext,
    action: Annotated[Literal["save", "restore", "list", "delete"], Field(description="What to do.")],
    tag: Annotated[str | None, Field(pattern=_TAG, description="For all actions but list.")] = None,
    name: GuestName = "guest",
    timeout: Annotated[float, Field(gt=0, le=600, description="Seconds.")] = 60,
) -> SnapshotState:
    """Save a running guest's whole state (memory, devices, layers of drives), or return to it.

    Snapshots end with the guest. A guest that writes to an image of the user's must be booted with overlay=true.
    """
    lab = lab_of(context)
    guest = lab.guest(name)
    if (tag is None) != (action == "list"):
        raise RequestInvalid(
            f"action={action!r} {'takes no' if tag else 'needs a'} tag", cure='Like action="save", tag="booted"'
        )
    started_at = anyio.current_time()
    kept = await snapshots.perform(guest.machine, action, tag or "", timeout)
    if action == "restore" and tag:
        lab.chronicle.guest_restored(name, tag)
        await guest.debugging.refresh(f"the snapshot {tag!r} was restored")
    return SnapshotState(
        name=name,
        action=action,
        tag=tag,
        elapsed=round(anyio.current_time() - started_at, 3),
        snapshots=[SnapshotRow(tag=each.tag, size_bytes=each.size, saved_at=round(each.saved_at, 3)) for each in kept],
    )


TOOLS: tuple[Offer, ...] = (tool(qemu_snapshot, "Save or restore a guest's state", destructive=True),)
