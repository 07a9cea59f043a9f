"""Which image files the guests of this process have, so that none reads as a map of files what another writes.

Theory of operation. A qcow2 image is looked at before QEMU opens it: it must name no other file (`paths.require_lone`).
That look holds only while nobody writes the image. A guest that has the same file as a raw drive writes every byte of
it, its header as well. So the two never have it at the same time: whoever comes first notes it here, the look is
repeated under that note, and whoever comes second is refused.

A file is one by its device and inode, whatever its name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rawtap.errors import GuestNotFound, PathNotAllowed
from rawtap.guest.hardware import Drive
from rawtap.guest.paths import is_qcow2, require_lone
from rawtap.guest.profile import MachineSpec


@dataclass(frozen=True)
class _Use:
    """A guest's use of a file: as a raw disk that it writes, as a qcow2 image, or as a raw disk that it only reads."""

    guest: str
    file: tuple[int, int]
    way: Literal["written", "mapped", "read"]


_IN_USE = "Is another process using the image"  # QEMU's block/file-posix.c, where it cannot lock one
_lock = threading.Lock()
_uses: list[_Use] = []


@contextmanager
def held(guest: str, spec: MachineSpec) -> Iterator[None]:
    """Note the drives of a guest while it has them, and look at its qcow2 images.

    Raises:
        PathNotAllowed: Another guest has one of them in the other way, or it names another file.
        GuestNotFound: One is not there any more.
    """
    images = [drive for drive in spec.drives if drive.format != "folder"]
    mapped = [drive for drive in images if drive.format == "qcow2"]
    mine = [_Use(guest, _file_of(drive), _way(spec, drive)) for drive in images]
    with _lock:
        for drive, use in zip(images, mine, strict=True):
            _require_free(drive, use)
        _uses.extend(mine)
    try:
        for drive in mapped:
            require_lone(Path(drive.path))
        yield
    finally:
        with _lock:
            for use in mine:
                _uses.remove(use)


def mistaken(spec: MachineSpec) -> tuple[str, ...]:
    """Images that are read as something else than they seem to be, in words.

    QEMU would look into one of which nothing is said. Nobody does here: what a guest wrote would say how it is read.
    """
    raw = [Path(drive.path) for drive in spec.drives if drive.format == "raw"]
    return tuple(
        f'{path} is given to the guest as it is, and begins as a qcow2 image: format = "qcow2" gives the disk in it'
        for path in raw
        if is_qcow2(path)
    )


def cure(guest: str, spec: MachineSpec, said: str) -> str:
    """What is to be done where QEMU did not even start, by what it `said`: the same call again ends in the same way."""
    if _IN_USE not in said:
        return "Change what QEMU complains of, in the profile or in the call, and boot again"
    mine = set[tuple[int, int]]()
    for drive in spec.drives:
        with suppress(GuestNotFound):  # it went meanwhile
            mine.add(_file_of(drive))
    with _lock:
        others = sorted({use.guest for use in _uses if use.file in mine and use.guest != guest})
    who = f"qemu_shutdown {', '.join(others)} first" if others else "End the other program that has that drive"
    return f"{who}, or boot each of them with overlay=true"


def _file_of(drive: Drive) -> tuple[int, int]:
    try:
        found = Path(drive.path).stat()
    except OSError as error:
        raise GuestNotFound(
            f"the drive {drive.path} is not there", evidence=str(error), cure="Name another drive"
        ) from error
    return found.st_dev, found.st_ino


def _way(spec: MachineSpec, drive: Drive) -> Literal["written", "mapped", "read"]:
    if drive.format == "qcow2":
        return "mapped"
    return "written" if spec.is_written(drive) else "read"


def _require_free(drive: Drive, use: _Use) -> None:
    ways = {"written": "a raw disk that it writes", "mapped": "a qcow2 image"}
    other = next((each for each in _uses if each.file == use.file and {each.way, use.way} == set(ways)), None)
    if other is not None:
        raise PathNotAllowed(
            f"the drive {drive.path} may not be used as {ways[use.way]}",
            evidence=f"the guest {other.guest} has it as {ways[other.way]}: what is written to the one decides "
            "which files QEMU opens for the other",
            cure=f"qemu_shutdown {other.guest} first, or give this guest a copy",
        )
