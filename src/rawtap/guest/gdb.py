"""A place for a debugger to connect to: a Unix socket that only this user can reach.

Its folder is locked for as long as its server lives (flock(2)): one that is not was left behind; `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rawtap.errors import GuestFailed

_LONGEST = 107  # sun_path of unix(7) has 108 bytes, the last of them a NUL
_PREFIX, _NAME = "rawtap-gdb-", "gdb.sock"


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
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(_folder()) / _NAME
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.bind(str(path))
            sock.listen(1)
        except OSError as error:
            raise _no_place(error) from error
        yield Listening(sock, path)


def backend(name: str) -> dict[str, object]:
    """The arguments of QMP's chardev-add for the device `gdb`: a listening socket that QEMU knows by that name."""
    address = {"type": "fd", "data": {"str": name}}
    return {"id": "gdb", "backend": {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}}


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder, locked."""
    while True:
        with contextlib.ExitStack() as stack:
            made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_base(), ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
            try:
                stack.enter_context(_locked(folder))
            except (FileNotFoundError, BlockingIOError):
                continue  # another server's sweep came between the two
            if folder.is_dir():
                yield folder
                return


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        BlockingIOError: Somebody else does.
        OSError: It is not there, or not ours.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def sweep() -> None:
    """Remove the sockets of servers that were killed."""
    for folder in _base().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # its server lives, it has gone meanwhile, or is another user's
            if folder.stat().st_uid == os.geteuid():
                with _locked(folder):
                    shutil.rmtree(folder)


def _base() -> Path:
    """The user's runtime folder (XDG Base Directory Specification), else the one for temporary files.

    That is also taken where the runtime folder is somebody else's, or its path too long for a socket's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    longest = len(os.fsencode(runtime)) + len(f"/{_PREFIX}12345678/") + len(_NAME)
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
