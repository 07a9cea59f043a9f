"""What it takes to start QEMU: its program, sockets, layers for its drives, and what it may reach."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from rawtap.errors import GuestFailed, QemuMissing
from rawtap.guest import files
from rawtap.guest.accelerator import KVM_DEVICE
from rawtap.guest.paths import VSOCK
from rawtap.guest.profile import MachineSpec
from rawtap.guest.scratch import layer_over
from rawtap.host import children, programs
from rawtap.host.children import Child
from rawtap.host.landlock import Access


def require(program: str, package: str) -> str:
    """Where a program is, on the user's PATH: QEMU gets no capability."""
    return programs.require(program, package, QemuMissing, folders=None)


def pair(near: contextlib.ExitStack, far: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets: ours, and QEMU's, which is closed here once QEMU has inherited it."""
    ours, theirs = socket.socketpair()
    near.callback(ours.close)
    far.callback(theirs.close)
    return ours, theirs


def layers_of(spec: MachineSpec, scratch: Path, far: contextlib.ExitStack) -> dict[int, int]:
    """A layer for each drive that is written, where the guest's writes are thrown away."""
    return {
        number: far.enter_context(layer_over(Path(drive.path), drive.format, scratch))
        for number, drive in enumerate(spec.drives)
        if spec.is_layered(drive)
    }


def access_of(spec: MachineSpec, qemu: str, *, kvm: bool, listens: tuple[int, ...] = ()) -> Access:
    """The files that QEMU opens for this machine: those of the spec, and what packages put on the system.

    Of TCP only the ports that it listens on: what there is of networks it inherits, and its own network lets nothing
    out.
    """
    drives = [(Path(drive.path), spec.is_written(drive)) for drive in spec.drives if not drive.is_cd_of_folder]
    software = [path for path in (spec.kernel, spec.initrd, spec.firmware) if path]
    return Access(
        programs=(Path(qemu),),
        read=(*software, *files.of(spec.profile), *(path for path, written in drives if not written)),
        write=(*spec.reach, *(path for path, written in drives if written)),
        listen=listens,
        devices=(*((Path(KVM_DEVICE),) if kvm else ()), *((VSOCK,) if spec.profile.vsock is not None else ())),
    )


def start(command: list[str], access: Access, descriptors: tuple[int, ...], folder: Path | None = None) -> Child:
    """Start it, from this thread, to which its life is tied; in that folder, or in the server's own.

    Raises:
        GuestFailed: It cannot be started.
    """
    try:
        return children.start(
            command,
            access,
            streams=("null", "pipe", "stdout"),
            passed=descriptors,
            environment={**os.environ, "QEMU_AUDIO_DRV": "none"},  # a board's own sound looks for the host's
            folder=str(folder) if folder else None,
        )
    except OSError as error:
        raise GuestFailed(
            "QEMU cannot be started", evidence=str(error), cure="qemu_doctor checks the set-up"
        ) from error
