"""Empty qcow2 files that live as long as the QEMU that has them open, and hold what a guest must not write elsewhere.

Theory of operation. Such a file has a name, in a folder of the user's own, only while it is made. QEMU gets the open
file, and the kernel frees it when QEMU ends, however it ends. Nobody else can open it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rawtap.errors import GuestFailed

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_COVERED = _CLUSTER // 8 * _CLUSTER  # bytes of the disk for an entry of the L1 table: a cluster of 8-byte entries
_MOST_BYTES = 1 << 45  # far below the L1 table's limit of 32 MiB
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ QQQII")  # qemu/docs/interop/qcow2.txt, section "Header"
_SIZE_OFFSET = 24
_SECTOR = 512
_FOLDER_BYTES = 1024 * 16 * 63 * _SECTOR  # cylinders, heads, sectors of qemu/block/vvfat.c


def empty_qcow2(size: int) -> bytes:
    """The whole of an empty qcow2 file, version 3, for a disk of `size` bytes rounded up to sectors. Pure.

    Four parts, each a cluster or more: header, refcount table, refcount block, L1 table. The first is padded with
    zeros, which end the list of its extensions as well. It names no backing file: who opens it says what lies below.

    Raises:
        ValueError: The disk is too large, or negative.
    """
    if not 0 <= size <= _MOST_BYTES:
        raise ValueError(f"a disk of {size} bytes")
    size = -(-size // _SECTOR) * _SECTOR
    entries = max(1, -(-size // _COVERED))
    l1_clusters = -(-entries * 8 // _CLUSTER)
    header = _HEADER.pack(
        b"QFI\xfb", 3, 0, 0, _CLUSTER_BITS, size, 0, entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0, 0, 4, _HEADER.size
    )
    table = struct.pack(">Q", 2 * _CLUSTER)  # one refcount block, in the third cluster
    block = struct.pack(">H", 1) * (3 + l1_clusters)  # each cluster so far is used once; 16 bits each (order 4)
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in (header, table, block)) + bytes(l1_clusters * _CLUSTER)


def disk_bytes(image: Path, image_format: str) -> int:
    """How large the disk in an image file is, in bytes; or the one that QEMU makes of a folder.

    Raises:
        OSError: The file cannot be read.
    """
    if image_format == "folder":
        return _FOLDER_BYTES
    if image_format == "raw":
        return image.stat().st_size
    with image.open("rb") as file:
        file.seek(_SIZE_OFFSET)
        return int.from_bytes(file.read(8), "big")


@contextmanager
def scratch_file(folder: Path, size: int) -> Iterator[int]:
    """The descriptor of an empty qcow2 file on the disk of `folder`, which is made where it is missing.

    Raises:
        GuestFailed: It cannot be made.
    """
    with ExitStack() as stack:
        try:
            content = empty_qcow2(size)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            file.write(content)
        except (OSError, ValueError) as error:
            raise _unmade(folder, error) from error
        yield file.fileno()


@contextmanager
def layer_over(image: Path, image_format: str, folder: Path) -> Iterator[int]:
    """A scratch file of the size of the disk in `image`, to be laid over it.

    Raises:
        GuestFailed: It cannot be made.
    """
    try:
        size = disk_bytes(image, image_format)
    except OSError as error:
        raise _unmade(folder, error) from error
    with scratch_file(folder, size) as descriptor:
        yield descriptor


def _unmade(folder: Path, error: Exception) -> GuestFailed:
    return GuestFailed(
        f"no layer for a guest's disk can be made in {folder}",
        evidence=str(error),
        cure="That folder must be writable for the server's user, on a disk with room",
    )
