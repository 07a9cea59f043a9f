"""The sections of ELF files. The format is that of the System V gABI, chapters "ELF Header" and "Sections".

A file may say anything: what is read of it is bounded, and what does not fit is an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MOST_SECTIONS = 65536
_CLASS_64 = 2
_RELOCATABLE = 1
_PROGRAM = 1  # a section with bytes of the program's
SYMBOLS, EXPORTED = 2, 11  # tables of them
_ALLOCATED, _EXECUTABLE = 0x2, 0x4


@dataclass(frozen=True, slots=True)
class Section:
    """One, by its header."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def is_executable(self) -> bool:
        """Whether there may be code in it."""
        return bool(self.flags & _EXECUTABLE)

    @property
    def is_code(self) -> bool:
        """Whether the file has the code that is in it, and a machine has that in memory."""
        return self.kind == _PROGRAM and self.is_executable and bool(self.flags & _ALLOCATED)


@dataclass(frozen=True)
class Elf:
    """What a file's headers say.

    Attributes:
        is_64: Whether its words are of 64 bits, and not of 32.
        order: Of bytes, as `struct` has it.
        machine: The kind of processor.
        sections: All; none where the file has no headers of them.
    """

    is_64: bool
    order: str
    machine: int
    sections: list[Section]


def headers(file: BinaryIO) -> Elf:
    """What the headers of a file say.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ELF file that is whole, or one that is to be linked yet.
        struct.error: It is cut off.
    """
    head = _at(file, 0, 64)
    if head[:4] != b"\x7fELF" or head[4] not in {1, 2} or head[5] not in {1, 2}:
        raise ValueError("it is no ELF file")
    is_64, order = head[4] == _CLASS_64, "<" if head[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    if kind == _RELOCATABLE:
        raise ValueError("it is one that is to be linked yet")
    return Elf(is_64, order, machine, _sections(file, head, order, is_64=is_64))


def contents(file: BinaryIO, section: Section, most: int) -> bytes:
    """The bytes of a section. Raises as `headers`, and ValueError where they are more than so many."""
    if section.size > most:
        raise ValueError(f"a table of it has {section.size:,} bytes")
    return _at(file, section.offset, section.size)


def _sections(file: BinaryIO, head: bytes, order: str, *, is_64: bool) -> list[Section]:
    offset, size, count = (
        (*struct.unpack_from(f"{order}Q", head, 40), *struct.unpack_from(f"{order}HH", head, 58))
        if is_64
        else (*struct.unpack_from(f"{order}I", head, 32), *struct.unpack_from(f"{order}HH", head, 46))
    )
    form = struct.Struct(f"{order}{'IIQQQQIIQQ' if is_64 else '10I'}")
    if not offset or size != form.size:
        return []
    if not count:  # there are too many for that field: it is in the first one
        count = form.unpack(_at(file, offset, form.size))[5]
    if count > _MOST_SECTIONS:
        raise ValueError(f"it has more than {_MOST_SECTIONS:,} sections")
    rows = form.iter_unpack(_at(file, offset, count * form.size))
    return [Section(row[1], row[2], row[3], row[4], row[5], row[6]) for row in rows]


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    try:
        file.seek(offset)
    except (OSError, OverflowError, ValueError) as error:
        raise ValueError("a place in it is none") from error
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it is cut off")
    return data


def exports_only(path: Path) -> bool:
    """Whether a file is stripped of its names, but for those that it exports. Raises as `headers`, but no OSError."""
    with path.open("rb") as file:
        kinds = {each.kind for each in headers(file).sections}
    return EXPORTED in kinds and SYMBOLS not in kinds
