"""A disk that stops to answer: a file system in memory over /dev/fuse, whose server can be stopped.

Run as a program this file is that server (linux/include/uapi/linux/fuse.h); imported, it is what mounts it. While the
server is stopped, whoever asks the file system waits; the kernel lets a killed process go. With `deaf` it takes what
it is asked and answers nothing: then not even SIGKILL ends who waits, as with a disk that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_IN = struct.Struct("<IIQQIIIxxxx")  # length, opcode, unique, node, uid, gid, pid
_OUT = struct.Struct("<IiQ")  # length, -errno, unique
_ATTR = struct.Struct("<6Q10I")
_ROOT = 1
_DIRECT_IO = 1
_ROOM = 1 << 16  # blocks of 4096 bytes

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RENAME = 1, 2, 3, 4, 9, 10, 12
OPEN, READ, WRITE, STATFS, RELEASE, INIT, OPENDIR, READDIR, RELEASEDIR = 14, 15, 16, 17, 18, 26, 27, 28, 29
CREATE, INTERRUPT, BATCH_FORGET, RENAME2 = 35, 36, 42, 45
_UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}


@dataclass
class Disk:
    """Where it is mounted, and its server's process."""

    folder: Path
    process: subprocess.Popen[bytes]

    def stall(self) -> None:
        """Answer nothing more."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_deaf(self) -> None:
        """Take what is asked, and answer nothing more."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"deaf\n"

    def until_asked(self) -> None:
        """Wait until a deaf server has been asked something."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"asked\n"

    def run_full(self) -> None:
        """Take no more bytes (ENOSPC), from when it answers again on."""
        self.process.send_signal(signal.SIGHUP)

    def hold_cuts(self) -> None:
        """Answer all but whoever makes a file shorter, from when this returns on."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"holds cuts\n"

    def resume(self) -> None:
        """Answer all that was asked meanwhile."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGUSR2)


@contextmanager
def mounted(folder: Path, uid: int, gid: int) -> Iterator[Disk]:
    """Mount it on `folder`, for that user."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={fuse},rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions"
        command = ["mount", "-i", "-t", "fuse", "-o", options, "stalling", str(folder)]
        subprocess.run(command, pass_fds=(fuse,), check=True)
        process = subprocess.Popen(
            ["python3", __file__, str(fuse), str(uid), str(gid)], pass_fds=(fuse,), stdout=subprocess.PIPE
        )
    finally:
        os.close(fuse)
    try:
        # A file that is closed once: the kernel learns that this file system wants no word of it (FUSE_FLUSH), which
        # else not even a process that is killed can leave out.
        (folder / "closed").write_bytes(b"")
        (folder / "closed").unlink()
        yield Disk(folder, process)
    finally:
        process.kill()  # whoever still waits gets ENOTCONN
        process.wait()
        if process.stdout:
            process.stdout.close()
        subprocess.run(["umount", "-l", folder], check=True)


@dataclass
class _Node:
    mode: int
    uid: int
    gid: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)


class _Refused(Exception):
    pass


class _Server:
    def __init__(self, fuse: int, uid: int, gid: int) -> None:
        self._fuse = fuse
        self._nodes = {_ROOT: _Node(stat.S_IFDIR | 0o755, uid, gid)}
        self._deaf = False
        self._full = False
        self._holds_cuts = False
        self._held: list[bytes] = []

    def serve(self) -> None:
        """Answer until it is unmounted. A signal ends the wait for a request, also one that comes just before it."""
        signals, wakes = os.pipe()
        for each in (wakes, self._fuse):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(wakes)
        while True:
            if signals in select.select([self._fuse, signals], [], [])[0]:
                os.read(signals, 1 << 10)
            with contextlib.suppress(BlockingIOError):
                try:
                    message = os.read(self._fuse, 1 << 20)
                except OSError as error:
                    if error.errno == errno.ENODEV:  # it was unmounted
                        return
                    raise
                if self._deaf or (self._holds_cuts and self._cuts(message)):
                    if not self._held:
                        os.write(1, b"asked\n")
                    self._held.append(message)
                else:
                    self._take(message)

    def go_deaf(self, *_: object) -> None:
        self._deaf = True
        os.write(1, b"deaf\n")

    def run_full(self, *_: object) -> None:
        self._full = True

    def hold_cuts(self, *_: object) -> None:
        self._holds_cuts = True
        os.write(1, b"holds cuts\n")

    def hear(self, *_: object) -> None:
        self._deaf = self._holds_cuts = False
        held, self._held = self._held, []
        for message in held:
            self._take(message)

    def _cuts(self, message: bytes) -> bool:
        _, opcode, _, number, *_ = _IN.unpack_from(message)
        valid, size = struct.unpack_from("<I12xQ", message, _IN.size) if opcode == SETATTR else (0, 0)
        return bool(valid & 8) and size < len(self._nodes[number].data)

    def _take(self, message: bytes) -> None:
        _, opcode, unique, node, uid, gid, _ = _IN.unpack_from(message)
        if opcode in _UNANSWERED:
            return
        try:
            body, status = self._answer(opcode, node, message[_IN.size :], uid, gid), 0
        except _Refused as error:
            body, status = b"", -int(error.args[0])
        with contextlib.suppress(FileNotFoundError):  # who asked was killed
            os.write(self._fuse, _OUT.pack(_OUT.size + len(body), status, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes, uid: int, gid: int) -> bytes:  # noqa: C901, PLR0911, PLR0912
        if opcode == INIT:
            return struct.pack("<4I2H2I2HI28x", 7, 31, 1 << 16, 0, 16, 16, 1 << 17, 1, 32, 0, 0)
        if opcode == LOOKUP:
            return self._entry(self._child(node, body[:-1]))
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attr(node)
        if opcode == SETATTR:
            return self._set(node, body)
        if opcode == MKDIR:
            mode, _ = struct.unpack_from("<II", body)
            return self._entry(self._new(node, body[8:-1], _Node(stat.S_IFDIR | mode, uid, gid)))
        if opcode == CREATE:
            mode = struct.unpack_from("<4I", body)[1]
            return self._entry(self._new(node, body[16:-1], _Node(mode, uid, gid))) + _opened()
        if opcode in {OPEN, OPENDIR}:
            return _opened()
        if opcode == READ:
            offset, size = struct.unpack_from("<8xQI", body)
            return bytes(self._nodes[node].data[offset : offset + size])
        if opcode == WRITE and self._full:
            raise _Refused(errno.ENOSPC)
        if opcode == WRITE:
            offset, size = struct.unpack_from("<8xQI", body)
            data = self._nodes[node].data
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + size] = body[40 : 40 + size]
            return struct.pack("<II", size, 0)
        if opcode in {RENAME, RENAME2}:
            start = 8 if opcode == RENAME else 16
            to = struct.unpack_from("<Q", body)[0]
            old, new = body[start:-1].split(b"\0")
            self._nodes[to].names[new] = self._nodes[node].names.pop(old)
            return b""
        if opcode == UNLINK:
            self._child(node, body[:-1])
            del self._nodes[node].names[body[:-1]]
            return b""
        if opcode == STATFS:
            return struct.pack("<5Q4I24x", _ROOM, _ROOM, _ROOM, 1000, 1000, 4096, 255, 4096, 0)
        if opcode == READDIR:
            return self._listed(node, *struct.unpack_from("<8xQI", body))
        if opcode in {RELEASE, RELEASEDIR}:
            return b""
        raise _Refused(errno.ENOSYS)

    def _child(self, node: int, name: bytes) -> int:
        if name not in self._nodes[node].names:
            raise _Refused(errno.ENOENT)
        return self._nodes[node].names[name]

    def _new(self, node: int, name: bytes, new: _Node) -> int:
        number = max(self._nodes) + 1
        self._nodes[number] = new
        self._nodes[node].names[name] = number
        return number

    def _attr(self, number: int) -> bytes:
        node = self._nodes[number]
        size = len(node.data)
        links = int(number == _ROOT) + sum(number in each.names.values() for each in self._nodes.values())
        return _ATTR.pack(number, size, size // 512, 0, 0, 0, 0, 0, 0, node.mode, links, node.uid, node.gid, 0, 4096, 0)

    def _entry(self, number: int) -> bytes:
        return struct.pack("<4QII", number, 0, 0, 0, 0, 0) + self._attr(number)

    def _set(self, number: int, body: bytes) -> bytes:
        valid, size, mode, uid, gid = struct.unpack_from("<I12xQ44xI4xII", body)
        node = self._nodes[number]
        if valid & 1:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.uid = uid if valid & 2 else node.uid
        node.gid = gid if valid & 4 else node.gid
        if valid & 8:
            node.data[:] = node.data[:size].ljust(size, b"\0")
        return struct.pack("<QII", 0, 0, 0) + self._attr(number)

    def _listed(self, node: int, offset: int, size: int) -> bytes:
        out = b""
        for at, (name, number) in enumerate(self._nodes[node].names.items()):
            entry = struct.pack("<QQII", number, at + 1, len(name), stat.S_IFMT(self._nodes[number].mode) >> 12) + name
            entry += bytes(-len(entry) % 8)
            if at >= offset and len(out) + len(entry) <= size:
                out += entry
        return out


def _opened() -> bytes:
    return struct.pack("<QII", 0, _DIRECT_IO, 0)


def main() -> None:
    server = _Server(*map(int, sys.argv[1:]))
    signal.signal(signal.SIGUSR1, server.go_deaf)
    signal.signal(signal.SIGUSR2, server.hear)
    signal.signal(signal.SIGHUP, server.run_full)
    signal.signal(signal.SIGINT, server.hold_cuts)
    server.serve()


if __name__ == "__main__":
    main()
