"""What it takes to start QEMU: programs, sockets, layers for its drives, and a process without capabilities."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from rawtap.errors import GuestFailed, QemuMissing
from rawtap.guest.profile import MachineSpec
from rawtap.guest.scratch import layer_over
from rawtap.host import programs


def require(program: str, package: str) -> str:
    """Where a program is, on the user's PATH: QEMU gets no capability."""
    return programs.require(program, package, QemuMissing, folders=None)


def pair(near: contextlib.ExitStack, far: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets: ours, and QEMU's, which is closed here once QEMU has inherited it."""
    ours, theirs = socket.socketpair()
    near.callback(ours.close)
    far.callback(theirs.close)
    return ours, theirs


def layers_of(spec: MachineSpec, scratch: Path, opening: contextlib.ExitStack) -> dict[int, Path]:
    """A layer for each drive that is written, where the guest's writes are thrown away."""
    return {
        number: opening.enter_context(layer_over(Path(drive.path), drive.format, scratch))
        for number, drive in enumerate(spec.drives)
        if spec.overlay and not drive.readonly
    }


async def start(command: list[str], descriptors: tuple[int, ...]) -> asyncio.subprocess.Process:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        return await asyncio.create_subprocess_exec(
            *command, pass_fds=descriptors, stdin=null, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise GuestFailed(
            "QEMU cannot be started", evidence=str(error), cure="qemu_doctor checks the set-up"
        ) from error
