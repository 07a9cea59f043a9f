"""What it takes to start QEMU: programs, sockets, layers for its drives, and a process without capabilities."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from pathlib import Path

from rawtap.errors import GuestFailed, QemuMissing
from rawtap.guest.profile import MachineSpec
from rawtap.guest.scratch import layer_over


def require(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise QemuMissing(f"{program} is not installed", cure=f"Install Debian's package {package}")
    return path


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


def no_capabilities() -> list[str]:
    """setpriv's options: no capability.

    Only a process with CAP_SETPCAP can empty the bounding set; root must, since root's children would get every
    capability back at execve(2) otherwise.
    """
    options = ["--inh-caps=-all", "--ambient-caps=-all"]
    if os.geteuid() == 0:
        options.append("--bounding-set=-all")
    return options
