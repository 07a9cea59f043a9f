"""Folders that a guest mounts by virtiofs, each served by a daemon of its own (virtiofsd, as Debian 13 has it).

Theory of operation. The daemon is a child like any other: no capability, no new privileges, a Landlock ruleset that
lets it read that folder and write nothing, and its own seccomp filter. It is told to serve read-only as well, since
Landlock says nothing of a file's mode and times. So it needs no sandbox of its own, which would want the privilege to
make namespaces. QEMU's own daemon, of before 8.0, has no such option, and wants root's for everything it does.

It speaks vhost-user with QEMU over a connection that is made before either starts: both find it there, nobody else can
come first, and the daemon ends with it, however QEMU or the server end. What it serves it writes into the guest's
memory, which is therefore shared with it (memfd_create(2)).

One that ends before QEMU does leaves a guest that waits for ever, and nobody tells it: QEMU does not connect again. So
whoever asks for a guest's trouble has the daemons looked at. When QEMU ends, a daemon ends well (with 0).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rawtap.errors import GuestFailed, GuestNotFound
from rawtap.guest import gdb
from rawtap.host import children, programs
from rawtap.host.children import Child
from rawtap.host.landlock import Access
from rawtap.untrusted import visible

_PROGRAM = "virtiofsd"
_FOLDERS = "/usr/libexec:/usr/lib:/usr/lib/qemu"  # where it is on no PATH
_READONLY = "--readonly"
_OTHER_WAYS = 'Give it by = "9p", or as a drive with format = "folder"'
_OPTIONS = ("--sandbox=none", "--no-announce-submounts", "--log-level=error")
_OF_THE_KERNELS = (Path("/proc/sys/fs/nr_open"), Path("/proc/sys/fs/file-max"))  # by which it sets its limit
_TAIL = 1000  # bytes
_SHOWN = 200  # characters


@dataclass(frozen=True)
class _Daemon:
    folder: Path
    child: Child
    complaint: IO[bytes]  # closed once it was ended with its machine

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        size = os.fstat(self.complaint.fileno()).st_size
        return os.pread(self.complaint.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()


@dataclass
class Daemons:
    """The daemons of a machine, and the connections to them by the numbers of its shares."""

    connections: dict[int, socket.socket] = field(default_factory=dict)
    started: list[_Daemon] = field(default_factory=list)

    def words(self) -> str:
        """The end of what they wrote to stderr, while they are there."""
        said = [each.said() for each in self.started if not each.complaint.closed]
        return visible("\n".join(filter(None, said)))

    def lost(self) -> list[tuple[int, str]]:
        """Those that have ended by themselves: the exit code, as `Child.wait` has it, and what that means, in words."""
        there = [each for each in self.started if not each.complaint.closed]
        return [(code, _loss(each, code)) for each in there if (code := each.child.code()) is not None]


def _loss(daemon: _Daemon, code: int) -> str:
    how = f"ended with {code}" if code >= 0 else f"was killed by the signal {-code} ({signal.strsignal(-code)})"
    last = visible(daemon.said()[-_SHOWN:])
    said = f"; its last words (untrusted): {last}" if last else ""
    folder = visible(str(daemon.folder))
    return f"the folder {folder} is served no more, and hangs what uses it in the guest: virtiofsd {how}{said}"


def require() -> Path:
    """Where the daemon is.

    Raises:
        GuestNotFound: It is not installed, or cannot serve read-only.
        GuestFailed: It cannot be started; as root it never can (1.13: "can't apply the child capabilities").
    """
    lack = "no folder can be given by virtiofs"
    if os.geteuid() == 0:
        raise GuestFailed(
            lack,
            evidence="root's virtiofsd wants capabilities, and no program that serves a guest has any here",
            cure=f"Run the server as an ordinary user. {_OTHER_WAYS}",
        )
    folders = f"{os.environ.get('PATH', '')}:{_FOLDERS}"
    path = Path(programs.require(_PROGRAM, _PROGRAM, GuestNotFound, lack, folders))
    try:
        known = children.run([path, "--help"], "", Access(programs=(path,)))
    except OSError as error:
        raise GuestFailed(lack, evidence=f"{path}: {error}", cure=_OTHER_WAYS) from error
    if _READONLY not in known.out + known.complaint:
        said = visible(known.complaint.strip()[-_SHOWN:])
        failed = f"; asked for its options it ended with {known.code}: {said}" if known.code else ""
        own = "by an older one the guest could write; QEMU's own, as Debian 12 has it, can only be run by root"
        raise GuestNotFound(
            f"{lack}: {path} has no {_READONLY}",
            evidence=f"{own}{failed}",
            cure=f"Debian 13 has the newer one in its package {_PROGRAM}. {_OTHER_WAYS}",
        )
    return path


@contextmanager
def serving(folders: Mapping[int, Path], program: Path | None) -> Iterator[Daemons]:
    """A daemon for each folder, which is resolved; all have ended after the block.

    `program` is what `require` found; it may be None where there is no folder.

    It is to be called from the main thread, as QEMU is started.

    Raises:
        GuestFailed: It cannot be started.
    """
    found = Daemons()
    with contextlib.ExitStack() as stack:
        for number, folder in folders.items():
            if program is None:
                raise ValueError("folders, and no daemon that could serve them")
            try:
                found.connections[number], daemon = _start(program, folder, stack)
                found.started.append(daemon)
            except OSError as error:
                raise GuestFailed(
                    f"the folder {folder} cannot be given by virtiofs", evidence=str(error), cure=_OTHER_WAYS
                ) from error
        yield found


def _start(daemon: Path, folder: Path, stack: contextlib.ExitStack) -> tuple[socket.socket, _Daemon]:
    ours = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    complaint = stack.enter_context(os.fdopen(os.memfd_create("rawtap-virtiofsd"), "w+b", 0))
    with gdb.listening() as there:
        ours.connect(str(there.path))
        child = children.start(
            [daemon, f"--fd={there.socket.fileno()}", f"--shared-dir={folder}", _READONLY, *_OPTIONS],
            Access(programs=(daemon,), read=(folder, *_OF_THE_KERNELS)),
            streams=("null", "null", complaint.fileno()),
            passed=(there.socket.fileno(),),
            environment=children.PLAIN,
            session=True,
        )
    stack.callback(child.wait)
    stack.callback(child.kill)
    return ours, _Daemon(folder, child, complaint)
