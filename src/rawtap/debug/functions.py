"""The functions of ELF files by their symbols, and which of them an address is in.

gdb would tell that of one address at a time. The format is that of the System V gABI, chapter "Symbol Table" (`elf` has
the rest). A file may say anything: what is read of it is bounded, and what does not fit is an error.

Labels of assembly code, which say neither that they are functions nor how long they are, count as far as the next
symbol in their section. Marks of assemblers (`$a`, `$x`, `.L1`) are none. A file that is stripped has the names only
that it exports (its dynamic symbols), so what follows a label there is not known to be of it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rawtap.debug import elf
from rawtap.untrusted import visible

MOST = 300_000  # symbols
_MOST_BYTES = 128 << 20  # of a table
_LONGEST_NAME = 500  # bytes
_BACK = 8  # symbols: how many functions may begin inside of another one, behind each other
_ALL = (1 << 64) - 1  # addresses

_NO_TYPE, _FUNCTION, _INDIRECT = 0, 2, 10
_MARKED = {8, 40}  # MIPS and Arm: an odd address says which instruction set it is
_RANKS = {1: 0, 2: 1, 0: 2}  # global, weak, local: which of several names for the same is told


@dataclass(frozen=True, slots=True)
class Function:
    """Where it begins and ends, and what it is called in its file, made visible."""

    start: int
    end: int
    name: str

    @property
    def is_mangled(self) -> bool:
        """Whether its name is one of a C++ or Rust compiler's."""
        return self.name.startswith(("_Z", "_R"))


@dataclass(frozen=True, slots=True)
class _Symbol:
    start: int
    size: int
    rank: int
    name: str
    limit: int  # the end of its section, where it has no size

    @property
    def end(self) -> int:
        return self.start + self.size if self.size else self.limit


class Functions:
    """Those of all files, by their addresses."""

    def __init__(self, found: Iterable[Function] = ()) -> None:
        self._all = sorted(found, key=lambda each: each.start)
        self._starts = [each.start for each in self._all]

    def __len__(self) -> int:
        return len(self._all)

    def at(self, address: int) -> Function | None:
        """The one that an address is in: the innermost, where one is inside another; None for none."""
        behind = bisect_right(self._starts, address)
        for each in reversed(self._all[max(0, behind - _BACK) : behind]):
            if address < each.end:
                return each
        return None


def read(path: Path, offset: int = 0) -> list[Function]:
    """The functions of a file that is loaded so far from its own addresses.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ELF file that is whole, is one to be linked, or has too many symbols.
    """
    with path.open("rb") as file:
        try:
            return list(_functions(_symbols(file), offset))
        except struct.error as error:
            raise ValueError("it is cut off") from error


def _functions(symbols: Iterable[_Symbol], offset: int) -> Iterator[Function]:
    """One for each address, the best name of it; a label inside of a function is none."""
    ordered = sorted(symbols, key=lambda each: (each.start, -each.size, each.rank, each.name))
    kept: list[_Symbol] = []
    until = 0
    for each in ordered:
        is_inside = not each.size and each.start < until
        if not is_inside and not (kept and kept[-1].start == each.start):
            kept.append(each)
            until = max(until, each.start + each.size)
    ends = [*(each.start for each in kept[1:]), None]
    for each, after in zip(kept, ends, strict=False):
        end = each.end if each.size or after is None else min(each.end, after)
        start = each.start + offset & _ALL
        yield Function(start, start + end - each.start, each.name)


def _symbols(file: BinaryIO) -> Iterator[_Symbol]:
    """Functions, and labels in code."""
    read = elf.headers(file)
    sections = read.sections
    table = next((each for wanted in (elf.SYMBOLS, elf.EXPORTED) for each in sections if each.kind == wanted), None)
    if table is None or table.link >= len(sections):
        return
    form = struct.Struct(f"{read.order}{'IBBHQQ' if read.is_64 else 'IIIBBH'}")
    if table.size // form.size > MOST * 4:
        raise ValueError(f"it has more than {MOST * 4:,} symbols")
    names = elf.contents(file, sections[table.link], _MOST_BYTES)
    data = elf.contents(file, table, _MOST_BYTES)
    mask = ~1 if read.machine in _MARKED else ~0
    is_whole = table.kind == elf.SYMBOLS
    left = MOST
    for each in form.iter_unpack(data[: len(data) // form.size * form.size]):
        name, info, number, value, size = (
            (each[0], each[1], each[3], each[4], each[5])
            if read.is_64
            else (each[0], each[3], each[5], each[1], each[2])
        )
        kind = info & 15
        if kind not in {_NO_TYPE, _FUNCTION, _INDIRECT} or not number:
            continue
        within = sections[number] if number < len(sections) else None
        is_code = within is not None and within.is_executable
        if kind == _NO_TYPE and not is_code:
            continue
        text = _name(names, name)
        if not text or (kind == _NO_TYPE and text.startswith(("$", ".L"))):
            continue
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {MOST:,} functions")
        start = value & mask
        limit = within.address + within.size if within is not None else start
        if not is_whole:
            limit = min(limit, start + 1)
        yield _Symbol(start, size if kind != _NO_TYPE else 0, _RANKS.get(info >> 4, 3), text, max(limit, start))


def _name(names: bytes, at: int) -> str:
    end = names.find(b"\0", at, at + _LONGEST_NAME)
    return visible(names[at : end if end >= 0 else at + _LONGEST_NAME].decode("utf-8", "replace"))
