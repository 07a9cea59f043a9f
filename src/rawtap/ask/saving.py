"""Objects of a conversation as new files in the capture folder. Nothing of their names comes from the wire."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rawtap.capture import files
from rawtap.packets.objects.body import About, Body

MOST_OBJECTS = 100  # of one call
MOST_BYTES = 256 << 20
_MOST_ZEROS = 16 << 20  # bytes of an object
_SUFFIXES = {"gzip": ".gz", "x-gzip": ".gz", "br": ".br", "zstd": ".zst"}


@dataclass(frozen=True)
class Saved:
    """An object in its file. `lacks` says why it is not whole, "" where it is; bytes that are not in the capture are
    zeros in the file."""

    about: About
    path: Path
    size: int
    sha256: str
    lacks: str


class Folder:
    """Saves objects. Whatever saves does so within a block of it, in any thread: if the block fails, or nobody waits
    for it any more (`abandon`), everything that was saved is taken away again.

    A call that is cancelled leaves its thread behind (`blocking.reading`): so the files are closed by that one alone.

    Attributes:
        saved: Objects, in the order of their ends.
        left: How many there was no room for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: set[_File] = set()
        self._begun = 0
        self.room = MOST_BYTES
        self.saved: list[Saved] = []
        self.left = 0
        self._lock = threading.Lock()
        self._is_used = self._is_abandoned = False

    def __enter__(self) -> Self:
        with self._lock:
            self._is_used = True
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self._lock:
            self._is_used = False
            if kind is not None or self._is_abandoned:
                self._drop()

    def abandon(self) -> None:
        """Nobody wants the files: they are taken away now, or when the block that saves is over."""
        with self._lock:
            self._is_abandoned = True
            if not self._is_used:
                self._drop()

    def _drop(self) -> None:
        for file in list(self._open):
            file.end("it was not read to its end")
        for each in self.saved:
            each.path.unlink(missing_ok=True)
        self.saved.clear()

    def begin(self, about: About) -> Body | None:
        """A new file; None where there is room for no more.

        Raises:
            OutputUnwritable, NoSpace: It cannot be made.
        """
        if self._begun >= MOST_OBJECTS or self.room <= 0:
            self.left += 1
            return None
        self._begun += 1
        suffix = _SUFFIXES.get(about.encoding.strip().lower(), ".bin")
        path, fd = files.create_beside(self._folder, "object", suffix)
        made = _File(self, about, path, fd)
        self._open.add(made)
        return made

    def close(self, file: _File, saved: Saved) -> None:
        """A file is complete."""
        self._open.discard(file)
        self.saved.append(saved)


class _File:
    def __init__(self, folder: Folder, about: About, path: Path, fd: int) -> None:
        self._folder, self._about, self._path, self._fd = folder, about, path, fd
        self._size = self._missing = 0
        self._sum = hashlib.sha256()
        self._cut = self._broken = False

    def add(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            NoSpace: The disk is full.
        """
        if self._broken:
            return
        data = data[: max(0, self._folder.room)] if self._room_ends(len(data)) else data
        self._folder.room -= len(data)
        self._size += len(data)
        self._sum.update(data)
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except OSError as error:
                self.end("the disk is full")
                raise files.no_space(self._path.parent, error.strerror or str(error)) from error

    def _room_ends(self, size: int) -> bool:
        self._cut = self._cut or size > self._folder.room
        return self._cut

    def skip(self, size: int) -> None:
        """So many bytes are not in the capture."""
        self._missing += size
        self._broken = self._broken or self._missing > _MOST_ZEROS
        self.add(b"" if self._broken else bytes(size))

    def end(self, lacks: str) -> None:
        """It is over."""
        os.close(self._fd)
        told = [
            lacks,
            f"{self._missing} bytes are not in the capture" if self._missing else "",
            "it ends at the gap" if self._broken else "zeros stand for them" if self._missing else "",
            f"cut: one call saves {MOST_BYTES >> 20} MiB" if self._cut else "",
        ]
        words = "; ".join(filter(None, told))
        self._folder.close(self, Saved(self._about, self._path, self._size, self._sum.hexdigest(), words))
