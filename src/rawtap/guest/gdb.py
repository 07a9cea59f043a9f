"""A place for a debugger to connect to: a Unix socket that only this user can reach."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rawtap.errors import GuestFailed

_LONGEST = 107  # sun_path of unix(7) has 108 bytes, the last of them a NUL
_NAME = "gdb.sock"


@dataclass(frozen=True)
class Listening:
    """A socket that listens, and where."""

    socket: socket.socket
    path: Path


@contextmanager
def listening() -> Iterator[Listening]:
    """A listening socket in a folder of its own, mode 0700; both are gone with the block.

    Raises:
        GuestFailed: There is no place for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="rawtap-", dir=_base(), ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_place(error) from error
    with folder as made, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        path = Path(made) / _NAME
        try:
            sock.bind(str(path))
            sock.listen(1)
        except OSError as error:
            raise _no_place(error) from error
        yield Listening(sock, path)


def _base() -> Path:
    """The user's runtime folder (XDG Base Directory Specification), else the one for temporary files.

    That is also taken where the runtime folder is somebody else's, or its path too long for a socket's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    longest = len(os.fsencode(runtime)) + len("/rawtap-12345678/") + len(_NAME)
    if runtime.startswith("/") and longest <= _LONGEST:
        folder = Path(runtime)
        if folder.is_dir() and folder.stat().st_uid == os.geteuid():
            return folder
    return Path(tempfile.gettempdir())


def _no_place(error: OSError) -> GuestFailed:
    return GuestFailed(
        "no socket for a debugger can be made",
        evidence=str(error),
        cure="Set XDG_RUNTIME_DIR to the user's runtime folder",
    )
