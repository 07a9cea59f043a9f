"""Where the sockets of running servers are, and whose they are.

Each is in the user's runtime folder (XDG Base Directory Specification), or where there is none in one of /tmp. Its name
says which process it belongs to, so that one whose server was killed is known, and goes.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from rawtap.network.addressing import Owner

_NAME = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,20})-([0-9]{1,20})\.sock")
_CREDENTIALS = struct.Struct("iII")  # struct ucred (unix(7))
_WITHOUT_RUNTIME_FOLDER = Path("/tmp")  # noqa: S108 - not TMPDIR, which a server and its watcher may have been given apart
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")
_EVERY_USER = ["0", "0", "4294967295"]  # a namespace's map in which each has its own number (user_namespaces(7))


@dataclass(frozen=True)
class Place:
    """A socket, and the process that made it."""

    path: Path
    owner: Owner

    @property
    def pid(self) -> int:
        """The server's."""
        return self.owner.pid


def folder() -> Path:
    """The folder of the sockets; it need not be there.

    A server in a namespace of its own sees every other user as nobody, so whose the folders above are it cannot tell.
    """
    given = [each for each in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}") if each]
    ours = next((each for each in map(Path, given) if _is_ours(each)), None)
    return (ours or _WITHOUT_RUNTIME_FOLDER / f"runtime-{os.getuid()}") / "rawtap"


def _is_ours(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:  # it is not there, or is closed to us
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def made_folder() -> Path:
    """The folder, which is made where it is not there; it and what it is in are this user's alone.

    Raises:
        OSError: It cannot be made, or somebody else could put something into it, or nobody could tell.
    """
    _require_a_number_of_our_own()
    path = folder()
    for each in (path.parent, path):
        each.mkdir(mode=0o700, exist_ok=True)
        found = each.lstat()
        others = stat.S_IRWXG | stat.S_IRWXO if each == path else stat.S_IWGRP | stat.S_IWOTH
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & others:
            raise PermissionError(f"{each} is not this user's alone")
    return path


def _require_a_number_of_our_own() -> None:
    """In a user namespace everybody who has no number there has the same, which is `nobody`'s: who has that one cannot
    be told from all others (user_namespaces(7))."""
    if os.getuid() != int(_OVERFLOW.read_text(encoding="ascii")):
        return
    if Path("/proc/self/uid_map").read_text(encoding="ascii").split() != _EVERY_USER:
        raise PermissionError(f"the user {os.getuid()} cannot be told from all others in this user namespace")


def of_this_process() -> Place:
    """Where this process's socket goes.

    Raises:
        OSError: As `made_folder`.
    """
    owner = Owner.me()
    return Place(made_folder() / f"{owner.pid}-{owner.start}-{owner.pidns}.sock", owner)


def running() -> list[Place]:
    """The sockets whose servers have not certainly ended, in the order of their start."""
    found = [place for each in _entries() if (place := _place_of(each)) and not place.owner.gone()]
    return sorted(found, key=lambda each: (each.owner.start, each.pid))


def sweep() -> None:
    """Remove the sockets of servers that are gone: they were killed."""
    for each in _entries():
        if (place := _place_of(each)) and place.owner.gone():
            place.path.unlink(missing_ok=True)


def _entries() -> list[Path]:
    try:
        return list(folder().iterdir())
    except OSError:  # there is none, or it is not ours
        return []


def _place_of(path: Path) -> Place | None:
    match = _NAME.fullmatch(path.name)
    return Place(path, Owner(*map(int, match.groups()))) if match else None


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether who is at the other end has this process's user (SO_PEERCRED, unix(7))."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())
