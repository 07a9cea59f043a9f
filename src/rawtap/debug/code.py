"""The code that files with symbols have, and whether it is what a guest has in memory where they say.

A kernel that moved itself (Linux by KASLR, U-Boot to the end of memory), an ELF file of another build, a program that
has the kernel's addresses: each has other code at an address than the file, and the file's name for it is wrong. What
is in memory is not the file's byte for byte: Linux puts other instructions into its own code as it starts. So blocks
are the same where half of their bytes are, and where one is not, others of the same file are looked at.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Literal, TypeAlias

from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import reading
from rawtap.debug import elf

Read: TypeAlias = Callable[[int, int], Awaitable[bytes]]  # so many bytes at an address, up to what cannot be read
Look: TypeAlias = Literal["same", "other", "absent", "unknown"]

_MOST_BYTES = 64 << 20  # of all files
_BLOCK = 128  # bytes, at a multiple of that: so it is within a page
_LEAST = 16  # bytes that tell anything
_SAMPLES = 8
_AROUND = 512  # bytes that are sought elsewhere
_PART = 16
_PLAIN = 6  # different bytes in a part, at least: padding is everywhere
_OFTEN = 4  # places of a part from which on it tells nothing
_VOTES = 3
_PAGE = 4096  # by which code moves
_ALL, _HALF = (1 << 64) - 1, (1 << 32) - 1  # addresses


@dataclass(frozen=True, slots=True)
class Piece:
    """Code of a file's, at the address at which it is by that and by the offset that is given for it.

    Attributes:
        file: Its name.
        offset: How far that is from the file's own addresses.
    """

    file: str
    start: int
    data: bytes
    offset: int = 0

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.start + len(self.data)

    def block(self, address: int) -> tuple[int, bytes]:
        """Where the block begins that an address is in, and what is in it."""
        base = address - address % _BLOCK
        first, last = max(self.start, base), min(self.end, base + _BLOCK)
        return first, self.data[first - self.start : last - self.start]

    def samples(self) -> Iterator[tuple[int, bytes]]:
        """Some blocks, from all of it."""
        for number in range(_SAMPLES):
            yield self.block(self.start + len(self.data) * number // _SAMPLES)


@dataclass(frozen=True)
class Moved:
    """Code that is elsewhere: at `address` in memory is what the symbols have at `own`."""

    piece: Piece
    address: int
    own: int

    def __str__(self) -> str:
        far = self.address - self.own
        file, offset = self.piece.file, self.piece.offset + far
        told = f"{offset:#x}" if offset >= 0 else f"{offset}"
        return (
            f"{file} runs at other addresses than its symbols say, {abs(far):#x} {'higher' if far > 0 else 'lower'}: "
            f"at {self.address:#x} in memory is its code of {self.own:#x}. "
            f"symbols = [{{ file = {file!r}, offset = {told} }}]"
            " in its profile has the names right; a Linux that moves at each boot wants nokaslr in its bootargs"
        )


class Code:
    """That of all files."""

    def __init__(self, pieces: Iterable[Piece] = (), *, is_whole: bool = False) -> None:
        self._pieces = tuple(pieces)
        self._is_whole = is_whole  # all code of all files is there

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @classmethod
    async def read(cls, files: Iterable[tuple[Path, int]]) -> Code:
        """That of those files, with their offsets; of one that cannot be read, or has too much of it, there is none.

        Raises:
            DiskStalled: The disk of one of them does not answer.
        """
        found: list[Piece] = []
        is_whole = True
        for path, offset in files:
            left = _MOST_BYTES - sum(len(each.data) for each in found)
            try:
                found += await reading(path, _pieces, path, offset, left)
            except (OSError, ValueError):  # gdb has said so
                is_whole = False
                continue
        return cls(found, is_whole=is_whole)

    def around(self, address: int) -> list[Piece]:
        """The pieces that say what is at an address."""
        return [each for each in self._pieces if each.start <= address < each.end]

    def has_none(self, address: int) -> bool:
        """Whether the files have no code there: a name for it is one of data, which gdb may tell all the same."""
        if not self._is_whole or not self._pieces:
            return False
        return not self.around(address) and not self.around(address & _HALF)  # gdb extends addresses of 32 bits by sign

    def told(self, address: int) -> str:
        """In words, that what is in memory there is other code."""
        names = " and ".join(dict.fromkeys(each.file for each in self.around(address)))
        return (
            f"in memory at {address:#x} is other code than in {names}, so no name is told: it is another program, or "
            "the file is not what was booted, or it was loaded elsewhere"
        )

    async def look(self, address: int, read: Read) -> Look:
        """Whether the code in memory there is that of the files.

        "absent": nothing can be read there. "unknown": the files have no code there, or too little of it.
        """
        pieces = self.around(address)
        looks: list[Look] = [await _compared(*each.block(address), read) for each in pieces]
        firm: tuple[Look, ...] = ("same", "unknown", "absent")
        for each in firm:
            if each in looks:
                return each
        for piece in pieces:  # a kernel may have put other instructions there by itself
            if await _is_there(piece, read):
                return "same"
        return "other" if pieces else "unknown"

    async def moved(self, address: int, read: Read) -> Moved | None:
        """What is in memory there, which is not where the files have code, sought in all of that."""
        base = address - address % _AROUND
        seen = await read(base, _AROUND)
        return await to_thread(self.sought, base, seen, address) if len(seen) == _AROUND and self._pieces else None

    def sought(self, base: int, seen: bytes, address: int) -> Moved | None:
        """Where the files have what is in memory from `base` on without saying so; None for nowhere, or for several."""
        parts = [(at, seen[at : at + _PART]) for at in range(0, len(seen), _PART)]
        telling = [(at, part) for at, part in parts if len(set(part)) >= _PLAIN]
        said = {(each.file, each.offset) for each in self._pieces}
        votes: Counter[tuple[str, int]] = Counter()
        pieces: dict[tuple[str, int], Piece] = {}
        for piece in self._pieces:
            for at, part in telling:
                for place in _places(piece.data, part):
                    far = base + at - piece.start - place
                    key = piece.file, piece.offset + far  # the same, where a file is named twice
                    if key not in said and far % _PAGE == 0:
                        votes[key] += 1
                        pieces.setdefault(key, piece)
        best = votes.most_common(2)
        if not best or best[0][1] < _VOTES or (len(best) > 1 and best[1][1] == best[0][1]):
            return None
        piece = pieces[best[0][0]]
        return Moved(piece, address, address - best[0][0][1] + piece.offset)


def _places(data: bytes, part: bytes) -> list[int]:
    """Where those bytes are, if that is not often."""
    found: list[int] = []
    at = data.find(part)
    while at >= 0:
        found.append(at)
        if len(found) >= _OFTEN:
            return []
        at = data.find(part, at + 1)
    return found


async def _compared(start: int, data: bytes, read: Read) -> Look:
    if len(data) < _LEAST:
        return "unknown"
    seen = await read(start, len(data))
    if len(seen) < len(data):
        return "absent"
    return "same" if sum(map(eq, data, seen)) * 2 >= len(data) else "other"


async def _is_there(piece: Piece, read: Read) -> bool:
    """Whether the most of it is, as far as it can be read."""
    looks = Counter([await _compared(*each, read) for each in piece.samples()])
    return looks["same"] > looks["other"] + looks["absent"]


def _pieces(path: Path, offset: int, most: int) -> list[Piece]:
    found: list[Piece] = []
    with path.open("rb") as file:
        try:
            for each in elf.headers(file).sections:
                if each.is_code and each.size:
                    found.append(Piece(path.name, each.address + offset & _ALL, elf.contents(file, each, most), offset))
                    most -= each.size
        except struct.error as error:
            raise ValueError("it is cut off") from error
    return found
