"""Snapshots of a running guest: save its whole state under a tag, and return to it.

Theory of operation. QEMU keeps a snapshot of memory and devices in a qcow2 node, together with one in each disk that
the guest writes. The former goes into a scratch file that no device has: it is made at the first save, so a boot pays
nothing for it and a guest without a disk can be kept as well. Disks take part through the layers that overlay=true
lays over them. A disk that is written without one is the user's own: to go back in it would be to write it, and to
leave it out would tear the guest's memory from its disk, so such a guest is refused.

QEMU stops the guest while a job saves or restores, and lets it go on if it ran before (qapi/migration.json,
snapshot-save and its siblings).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from rawtap.blocking import on_disk
from rawtap.errors import GuestFailed, RequestInvalid, SnapshotRefused, SnapshotUnknown
from rawtap.guest.machine import Machine
from rawtap.guest.scratch import scratch_file
from rawtap.guest.storage import drive_node

MOST = 32
Action = Literal["save", "restore", "list", "delete"]

_NODE = "snapshots"
_JOB = "rawtap-snapshot-"
_COMMANDS = {"save": "snapshot-save", "restore": "snapshot-load", "delete": "snapshot-delete"}
_numbers = count()


@dataclass(frozen=True)
class Snapshot:
    """One that is kept: its tag, the bytes of its memory and devices, and when it was saved (Unix time, seconds)."""

    tag: str
    size: int
    saved_at: float


async def perform(machine: Machine, action: Action, tag: str, timeout: float) -> list[Snapshot]:
    """Do that, within `timeout` seconds, and return all snapshots that there are then, oldest first.

    Raises:
        SnapshotRefused: The guest writes to an image of the user's, or has enough snapshots.
        SnapshotUnknown: There is none of that tag.
        RequestInvalid: The tag is in use.
        GuestExited: The guest is gone.
        GuestFailed: QEMU cannot, with its own words.
    """
    _require_whole(machine)
    async with machine.state_lock:
        there = await _all(machine)
        if action == "list":
            return there
        _require_fitting(action, tag, there)
        if not await _node(machine):
            await _attach(machine)
        await _forget_old_jobs(machine)
        try:
            await machine.run_job(_COMMANDS[action], _arguments(machine, action, tag), timeout)
        except GuestFailed as error:
            raise await _told(machine, action, error) from error
        if action == "restore":
            machine.talk.began_anew("the restored state", owed=False)
        return await _all(machine)


async def _told(machine: Machine, action: Action, error: GuestFailed) -> GuestFailed:
    """The error of a job, with more than QEMU says: it calls a full disk an input/output error."""
    fs = await on_disk(machine.scratch, os.statvfs, machine.scratch)
    evidence = f"{error.evidence}; {fs.f_bavail * fs.f_frsize >> 20} MiB are free in {machine.scratch}"
    stands = "The guest stands still: restore another snapshot, or qemu_shutdown ends it"
    return GuestFailed(error.problem, evidence=evidence, cure=stands if action == "restore" else error.cure)


def _require_whole(machine: Machine) -> None:
    spec = machine.spec
    written = [drive.path for drive in spec.drives if spec.is_written(drive)]
    if written:
        raise SnapshotRefused(
            f"the guest {machine.name} cannot be kept in snapshots",
            evidence=f"it writes to {', '.join(written)}, and to return would be to change that file",
            cure="Boot it with overlay=true (its writes are thrown away at its end), or with readonly drives",
        )


def _require_fitting(action: Action, tag: str, there: list[Snapshot]) -> None:
    known = tag in {each.tag for each in there}
    if action == "save" and known:
        raise RequestInvalid(f"there is a snapshot {tag!r} already", cure="Delete it first, or use another tag")
    if action == "save" and len(there) >= MOST:
        raise SnapshotRefused(f"there are {MOST} snapshots", cure='Delete one first: action="delete"')
    if action != "save" and not known:
        tags = ", ".join(each.tag for each in there) or "none"
        raise SnapshotUnknown(f"there is no snapshot {tag!r}", evidence=f"there are: {tags}", cure="Save one first")


def _arguments(machine: Machine, action: Action, tag: str) -> dict[str, Any]:
    drives = [drive_node(number) for number, drive in enumerate(machine.spec.drives) if not drive.readonly]
    arguments: dict[str, Any] = {"job-id": f"{_JOB}{next(_numbers)}", "tag": tag, "devices": [_NODE, *drives]}
    return arguments if action == "delete" else arguments | {"vmstate": _NODE}


async def _node(machine: Machine) -> dict[str, Any] | None:
    """What QEMU says of the node that keeps memory and devices; None before the first save."""
    nodes: list[dict[str, Any]] = await machine.execute("query-named-block-nodes", {"flat": True})
    return next((node for node in nodes if node["node-name"] == _NODE), None)


async def _all(machine: Machine) -> list[Snapshot]:
    node = await _node(machine)
    kept = node["image"].get("snapshots", []) if node else []
    return [Snapshot(each["name"], each["vm-state-size"], each["date-sec"] + each["date-nsec"] / 1e9) for each in kept]


async def _attach(machine: Machine) -> None:
    with ExitStack() as stack:
        descriptor = await on_disk(machine.scratch, stack.enter_context, scratch_file(machine.scratch, 0))
        file = {"driver": "file", "filename": await machine.add_file(descriptor)}
        await machine.execute("blockdev-add", {"driver": "qcow2", "node-name": _NODE, "file": file})


async def _forget_old_jobs(machine: Machine) -> None:
    """Dismiss the jobs of cancelled calls. Such a job ends by itself, but QEMU keeps it until it is dismissed."""
    for job in await machine.execute("query-jobs"):
        if job["id"].startswith(_JOB) and job["status"] == "concluded":
            await machine.execute("job-dismiss", {"id": job["id"]})
