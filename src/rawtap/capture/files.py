"""Where capture files go: one private folder, new files only, never through a link."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rawtap.errors import NoSpace, OutputUnwritable, ServerExhausted

_FLOOR_BYTES = 64 << 20
_FLOOR_SHARE = 20  # a twentieth of a small file system
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_beside = itertools.count(1)


def free_floor(directory: Path) -> int:
    """Free bytes that a capture leaves on `directory`'s file system: 64 MiB, or 5 % of a small one."""
    fs = os.statvfs(directory)
    return min(_FLOOR_BYTES, fs.f_blocks * fs.f_frsize // _FLOOR_SHARE)


@dataclass(frozen=True)
class Segment:
    """One file of a capture, the `number`th from 1; what was saved before: packets, and their bytes on the wire."""

    number: int
    path: Path
    packets_before: int
    bytes_before: int
    size: int  # in bytes, once it is full
    device: int  # with `inode`, which file it is that was written
    inode: int

    def is_that(self, status: os.stat_result) -> bool:
        """Whether `status` is that of the file that was written."""
        return (status.st_dev, status.st_ino) == (self.device, self.inode)


class Series:
    """The files of one capture: one, or a ring of the newest `keep`. The capture's worker thread owns it.

    Their names tell time, `stem` and process, unless one is given: `named`.

    Attributes:
        segments: The files that are there, oldest first; replaced as a whole, so any thread may read it.
    """

    def __init__(self, directory: Path, stem: str, suffix: str, keep: int, named: Path | None = None) -> None:
        self._directory = directory
        self._stem, self._suffix = (named.stem, named.suffix) if named else (_told(stem), suffix)
        self._keep = keep
        self._made = 0
        self._fd = -1
        self.segments: tuple[Segment, ...] = ()

    def begin(self, packets: int = 0, bytes_: int = 0, header: bytes = b"") -> int:
        """Create the next file, mode 0600, and return its descriptor, which stays this object's.

        `packets` and `bytes_` are what the capture has saved so far. With its first name the file has its `header`:
        nobody ever finds one without, not even after SIGKILL.

        Raises:
            OutputUnwritable: The folder or the file cannot be made.
            NoSpace: The file system is below its free-space floor already.
        """
        path, fd = create(self._directory, self._name(), header)
        self.end()
        self._fd = fd
        self._made += 1
        status = os.fstat(fd)
        segment = Segment(self._made, path, packets, bytes_, 0, status.st_dev, status.st_ino)
        self.segments = (*self.segments, segment)
        return fd

    def _name(self) -> str:
        number = f"-{self._made + 1:05}" if self._keep > 1 else ""
        return f"{self._stem}{number}{self._suffix}"

    def end(self) -> None:
        """Close the newest file."""
        if self._fd < 0:
            return
        newest = self.segments[-1]
        self.segments = (*self.segments[:-1], replace(newest, size=os.fstat(self._fd).st_size))
        os.close(self._fd)
        self._fd = -1

    def retire(self) -> int:
        """Remove the oldest file where there are more than `keep`; a descriptor of what was removed, else -1.

        What has its name by now and is not what was written is left alone. A file that has another name as well (a
        hard link, by a backup) loses this one, and nothing of what is in it: then there is no descriptor.
        """
        if len(self.segments) <= self._keep:
            return -1
        oldest, *rest = self.segments
        self.segments = tuple(rest)
        try:
            fd = os.open(oldest.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # it is gone, or a link, or a pipe: nothing of what was written
            return -1
        if oldest.is_that(os.fstat(fd)):
            with contextlib.suppress(FileNotFoundError):
                oldest.path.unlink()
            if os.fstat(fd).st_nlink == 0:  # asked only now: no name can be added any more
                return fd
        os.close(fd)
        return -1

    def remove(self) -> None:
        """Remove all files that are still those that were written."""
        for segment in self.segments:
            with contextlib.suppress(FileNotFoundError):
                if segment.is_that(segment.path.stat(follow_symlinks=False)):
                    segment.path.unlink()


def trouble_of(segment: Segment, size: int) -> str | None:
    """What somebody else did to a file into which `size` bytes were written; None where it is as it was left."""
    try:
        status = segment.path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return f"{segment.path} was deleted or renamed"
    except OSError as error:
        return f"{segment.path} cannot be looked at: {error.strerror}"
    if not segment.is_that(status):
        return f"{segment.path} is no longer the file that was written"
    if status.st_size < size:
        return f"{segment.path} was truncated to {status.st_size} of {size} bytes"
    return None


def create_beside(directory: Path, kind: str, suffix: str, *, before: str = "", data: bytes = b"") -> tuple[Path, int]:
    """Create a new file of `data` that is no capture; its name tells time, `kind`, process and how many there were.

    Raises:
        OutputUnwritable, NoSpace: As `create`.
    """
    return create(directory, f"{before}{_told(kind)}-{next(_beside):04}{suffix}", data)


def _told(stem: str) -> str:
    """The beginning of a file's name: time, `stem` and process."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{_UNSAFE.sub('_', stem)}-{os.getpid()}"


def create(directory: Path, name: str, header: bytes) -> tuple[Path, int]:
    """Create a new file, mode 0600, that begins with `header`, and return its path and descriptor.

    Raises:
        OutputUnwritable: The folder or the file cannot be made.
        NoSpace: The file system is below its free-space floor already.
    """
    try:
        for folder in (directory.parent, directory):  # parents=True gives others access to what it makes on the way
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_space(directory)
        path = directory / name
        return path, _create_with(path, header)
    except OSError as error:
        if exhausted := ServerExhausted.of(error):
            raise exhausted from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise no_space(directory, f"{error.strerror}") from error
        raise OutputUnwritable(
            f"cannot create a capture file in {directory}",
            evidence=f"{error.strerror}: {error.filename}",
            cure="Make the folder writable for this user, or start the server with --capture-dir FOLDER",
        ) from error


def _create_with(path: Path, header: bytes) -> int:
    """Create a file that gets its name only after `header` was written to it.

    SIGKILL in between leaves a hidden file of that name with ".part" behind it, which is no capture. (O_TMPFILE would
    leave nothing, but then /proc/PID/fd and lsof(8) call the file deleted.)
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    part = path.with_name(f".{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write_whole(fd, header)
        part.rename(path)
    except BaseException:
        os.close(fd)
        part.unlink(missing_ok=True)  # the folder may be gone, and that is what is told
        raise
    return fd


def _write_whole(fd: int, data: bytes) -> None:
    """Write to a new file. A short write(2) means that the disk had room for a part only: it is full."""
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _require_space(directory: Path) -> None:
    fs = os.statvfs(directory)
    free, floor = fs.f_bavail * fs.f_frsize, free_floor(directory)
    if free < floor:
        raise no_space(directory, f"{free} bytes are free, the floor is {floor}")


def stalled(directory: Path, evidence: str) -> OutputUnwritable:
    """The error for a file system that does not answer."""
    return OutputUnwritable(
        f"the disk of {directory} does not answer",
        evidence=evidence,
        cure="See to that file system; what was asked of the capture happens when it answers",
    )


def no_space(directory: Path, evidence: str) -> NoSpace:
    """The error for a file system that is full, or below its floor."""
    return NoSpace(
        f"no space for a capture on the file system of {directory}",
        evidence=evidence,
        cure="Free some space, or start the server with --capture-dir on another file system",
    )
