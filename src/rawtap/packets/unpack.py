"""Compressed captures: the bytes of what a gzip, zstd or lz4 file unpacks to, read by their place and never kept.

Theory of operation. A reader asks for bytes in their order, so that unpacking goes on where it was; one that goes back
begins again at the file's start. Nothing is written anywhere, and no more is in memory than what is asked for and the
format's own window, whatever the file unpacks to.
"""

from __future__ import annotations

import gzip
import importlib
import io
import os
import zlib
from typing import BinaryIO, Protocol, cast

from typing_extensions import Buffer

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_MODULES = {"zstd": ("compression.zstd", "backports.zstd"), "lz4": ("lz4.frame",)}
_PACKAGES = {"zstd": "backports.zstd", "lz4": "lz4"}
# zstd's own default bound; a frame that wants a larger window of memory is refused.
_ZSTD_WINDOW = 27


class Missing(Exception):
    """What unpacks this format is not installed: the format, and the package's name."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"it is compressed with {kind}, and the Python package {_PACKAGES[kind]} is not installed")
        self.package = _PACKAGES[kind]


class _File(io.RawIOBase):
    """A file that ends with its last holder, as a `Savefile` does, without a word."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return os.readv(self._fd, [buffer])

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return os.lseek(self._fd, offset, whence)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


class _Unpacking(Protocol):
    def read1(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


class Unpacked:
    """What a compressed file unpacks to. Belongs to one thread.

    Attributes:
        place: Of the next byte that `read` returns.
        fault: Why there is nothing more, if that is not the end; "" while there is none.
    """

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._kind = kind
        self._opened = _open(file, kind)
        self._at = 0
        self.place = 0
        self.fault = ""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes from `place` on; none at the end, or where unpacking fails."""
        if self.fault:
            return b""
        try:
            if self.place != self._at:
                self._opened.seek(self.place)
            found = self._opened.read1(size)
        except EOFError:
            self.fault = f"its {self._kind} data ends in the middle"
            return b""
        except _failures(self._kind) as error:
            self.fault = f"its {self._kind} data is damaged: {str(error)[:80]}"
            return b""
        self.place += len(found)
        self._at = self.place
        return found


def kind_of(fd: int) -> str:
    """How a file is compressed, "" for not at all."""
    head = os.pread(fd, 4, 0)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def unpacked(fd: int) -> Unpacked | None:
    """What `fd` unpacks to, which is the object's from then on; None if it is not compressed.

    Raises:
        Missing: What unpacks it is not installed; `fd` is closed.
    """
    kind = kind_of(fd)
    if not kind:
        return None
    return Unpacked(cast("BinaryIO", _File(fd)), kind)


def _open(file: BinaryIO, kind: str) -> _Unpacking:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    module = _module(kind)
    if kind == "zstd":
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        return cast("_Unpacking", module.ZstdFile(file, options=options))
    return cast("_Unpacking", module.LZ4FrameFile(file))


def _module(kind: str):  # type: ignore[no-untyped-def]  # one of several modules, of which any may be absent
    for name in _MODULES[kind]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Missing(kind)


def _failures(kind: str) -> tuple[type[Exception], ...]:
    """What unpacking raises for bytes that are none of the format."""
    if kind == "zstd":
        return (OSError, _module(kind).ZstdError)
    return (OSError, zlib.error) if kind == "gzip" else (OSError, RuntimeError)
