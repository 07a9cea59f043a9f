"""Where capture files go: one private folder, new files only, never through a link."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from rawtap.errors import NoSpace, OutputUnwritable

_FLOOR_BYTES = 64 << 20
_FLOOR_SHARE = 20  # a twentieth of a small file system


def free_floor(directory: Path) -> int:
    """Free bytes that a capture leaves on `directory`'s file system: 64 MiB, or 5 % of a small one."""
    fs = os.statvfs(directory)
    return min(_FLOOR_BYTES, fs.f_blocks * fs.f_frsize // _FLOOR_SHARE)


def create(directory: Path, stem: str) -> tuple[Path, int]:
    """Create a new capture file, mode 0600, and return its path and descriptor.

    Raises:
        OutputUnwritable: The folder or the file cannot be made.
        NoSpace: The file system is below its free-space floor already.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_space(directory)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = directory / f"{stamp}-{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)}-{os.getpid()}.pcap"
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise no_space(directory, f"{error.strerror}") from error
        raise OutputUnwritable(
            f"cannot create a capture file in {directory}",
            evidence=f"{error.strerror}: {error.filename}",
            cure="Make the folder writable for this user, or start the server with --capture-dir FOLDER",
        ) from error


def _require_space(directory: Path) -> None:
    fs = os.statvfs(directory)
    free, floor = fs.f_bavail * fs.f_frsize, free_floor(directory)
    if free < floor:
        raise no_space(directory, f"{free} bytes are free, the floor is {floor}")


def no_space(directory: Path, evidence: str) -> NoSpace:
    """The error for a file system that is full, or below its floor."""
    return NoSpace(
        f"no space for a capture on the file system of {directory}",
        evidence=evidence,
        cure="Free some space, or start the server with --capture-dir on another file system",
    )
