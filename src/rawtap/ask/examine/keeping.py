"""A guest kept as it was before an examination, if it can be, and put back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from rawtap.errors import GuestError, GuestFailed, SnapshotRefused
from rawtap.guest import snapshots
from rawtap.guest.machine import Machine
from rawtap.lab.chronicle import Chronicle

_SNAPSHOT_SECONDS = 60.0
_TAG = "examination"


class Kept:
    """A guest's state from before, if it could be kept; else `without` says why not.

    `trouble` says why the guest could not go back to it in the end; "" where it could, or has ended.
    """

    def __init__(self, machine: Machine, chronicle: Chronicle) -> None:
        self._machine = machine
        self._chronicle = chronicle
        self._tag = ""
        self.without = ""
        self.trouble = ""

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return bool(self._tag)

    async def save(self) -> None:
        """Keep it."""
        try:
            tags = {each.tag for each in await snapshots.perform(self._machine, "list", "", _SNAPSHOT_SECONDS)}
            tag = next(each for number in range(len(tags) + 1) if (each := f"{_TAG}-{number}") not in tags)
            await snapshots.perform(self._machine, "save", tag, _SNAPSHOT_SECONDS)
        except (SnapshotRefused, GuestFailed) as error:
            self.without = f"{error.problem}: {error.evidence}" if error.evidence else error.problem
            return
        self._tag = tag

    async def restore(self) -> None:
        """Go back to it; nothing where there is none.

        Raises:
            GuestError: QEMU has ended, or cannot.
        """
        if self._tag:
            await snapshots.perform(self._machine, "restore", self._tag, _SNAPSHOT_SECONDS)

    async def go_back(self) -> None:
        """Go back to it for good, and remove it from among the guest's snapshots. Raises as `restore`."""
        if self._tag:
            await self.restore()
            self._chronicle.guest_restored(self._machine.name, self._tag)
            await snapshots.perform(self._machine, "delete", self._tag, _SNAPSHOT_SECONDS)


@asynccontextmanager
async def keeping(machine: Machine, chronicle: Chronicle) -> AsyncIterator[Kept]:
    """Keep it meanwhile; it goes back in the end if QEMU is there, also when it is cancelled."""
    made = Kept(machine, chronicle)
    with anyio.CancelScope(shield=True):  # a job goes on without its caller, and nobody would remove what it saves
        await made.save()
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            if machine.running:
                try:
                    await made.go_back()
                except GuestError as error:
                    made.trouble = f"the guest could not be put back: {error.problem}"
