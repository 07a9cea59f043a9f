"""Whether what is in memory is the code that files with symbols have there, and where else it is."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import anyio
import pytest

from rawtap.debug import code
from rawtap.debug.code import Code, Piece
from rawtap.guest.peek import bytes_of

BASE = 0x80000000
CODE = random.Random(7).randbytes(16384)


class Memory:
    """Bytes at an address, and nothing elsewhere."""

    def __init__(self, start: int, data: bytes) -> None:
        self.start, self.data, self.reads = start, data, 0

    async def read(self, address: int, count: int) -> bytes:
        self.reads += 1
        at = address - self.start
        return self.data[at : at + count] if 0 <= at <= len(self.data) else b""


def known(*more: Piece) -> Code:
    return Code([Piece("kernel.elf", BASE, CODE), *more])


def look(files: Code, address: int, memory: Memory) -> code.Look:
    return anyio.run(files.look, address, memory.read)


def test_the_same_code_is_known_by_one_look() -> None:
    memory = Memory(BASE, CODE)
    assert {look(known(), BASE + at, memory) for at in (0, 1, 127, 128, 5000, len(CODE) - 1)} == {"same"}
    assert memory.reads == 6


def test_other_code_is_told_from_a_kernels_own_changes() -> None:
    changed = bytearray(CODE)
    changed[1024:1280] = bytes(256)
    assert look(known(), BASE + 1100, Memory(BASE, bytes(changed))) == "same"  # the rest of it is there
    for other in (bytes(len(CODE)), random.Random(8).randbytes(len(CODE)), CODE[2048:] + CODE[:2048]):
        assert look(known(), BASE + 1100, Memory(BASE, other)) == "other"
    half = CODE[:64] + bytes(64) + bytes(len(CODE) - 128)
    assert look(known(), BASE, Memory(BASE, half)) == "same"


def test_what_is_not_known_is_not_told() -> None:
    assert look(known(), BASE + len(CODE), Memory(BASE, CODE)) == "unknown"
    assert look(Code(), BASE, Memory(BASE, CODE)) == "unknown"
    assert look(known(), BASE, Memory(0, b"")) == "absent"
    assert look(Code([Piece("a", BASE, b"short")]), BASE, Memory(BASE, bytes(5))) == "unknown"
    # One of two files that have code there.
    two = Code([Piece("loader.elf", BASE, bytes(range(256)) * 4), Piece("kernel.elf", BASE, CODE)])
    assert look(two, BASE + 300, Memory(BASE, CODE)) == "same"
    assert look(two, BASE + 300, Memory(BASE, bytes(16384))) == "other"
    told = two.told(BASE + 300)
    assert told.startswith("in memory at 0x8000012c is other code than in loader.elf and kernel.elf, so no name")


@pytest.mark.parametrize("far", [0x1000, 0x1000000, -0x7FF00000])
def test_code_that_is_elsewhere_is_found_by_what_it_is(far: int) -> None:
    memory = Memory(BASE + far, CODE)
    found = anyio.run(known().moved, BASE + far + 1234, memory.read)
    assert found is not None
    assert (found.address, found.own) == (BASE + far + 1234, BASE + 1234)
    told = str(found)
    assert told.startswith(f"kernel.elf runs at other addresses than its symbols say, {abs(far):#x} ")
    assert ("higher" in told) == (far > 0)
    assert f"offset = {f'{far:#x}' if far > 0 else far} }}" in told
    # By symbols that were moved once already, and in a file that is named twice.
    moved = Code([Piece("kernel.elf", BASE + 0x3000, CODE, 0x3000), Piece("kernel.elf", BASE, CODE)])
    found = anyio.run(moved.moved, BASE + far + 1234, memory.read)
    assert found is not None
    assert found.piece.offset + found.address - found.own == far
    # Where one of two says it rightly, nothing is to be told.
    right = Code([Piece("kernel.elf", BASE + far, CODE, far), Piece("kernel.elf", BASE, CODE)])
    assert anyio.run(right.moved, BASE + far + 1234, memory.read) is None


def test_code_that_is_nowhere_or_anywhere_is_not_said_to_be_elsewhere() -> None:
    elsewhere = 0x90000000
    for data in (
        random.Random(8).randbytes(16384),  # other code
        bytes(16384),
        CODE[16:] + bytes(16),  # code does not move by bytes
    ):
        assert anyio.run(known().moved, elsewhere + 600, Memory(elsewhere, data).read) is None
    twice = known(Piece("other.elf", BASE + 0x100000, CODE))
    assert anyio.run(twice.moved, elsewhere + 600, Memory(elsewhere, CODE).read) is None
    assert anyio.run(known().moved, 0x70000000, Memory(elsewhere, CODE).read) is None
    assert anyio.run(Code().moved, elsewhere, Memory(elsewhere, CODE).read) is None


def elf(path: Path, size: int) -> Path:
    """A file with one section of code, and one of data."""
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 243, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 0)
    rows = ((0,) * 10, (0, 1, 6, BASE, 256, size, 0, 0, 4, 0), (0, 1, 3, BASE + 0x10000, 256, 64, 0, 0, 4, 0))
    table = b"".join(struct.pack("<IIQQQQIIQQ", *each) for each in rows)
    path.write_bytes(head + table + CODE)
    return path


def test_code_is_taken_from_sections_of_it_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, none = elf(tmp_path / "kernel.elf", 4096), tmp_path / "none.elf"
    (tmp_path / "broken.elf").write_bytes(file.read_bytes()[:100])

    async def read(*paths: Path) -> Code:
        return await Code.read((each, 0x2000) for each in paths)

    files = anyio.run(read, tmp_path / "broken.elf", none, file)
    (piece,) = files.around(BASE + 0x2000)
    assert piece == Piece("kernel.elf", BASE + 0x2000, CODE[:4096], 0x2000)
    assert files.around(BASE) == files.around(BASE + 0x12000) == []
    monkeypatch.setattr(code, "_MOST_BYTES", 4095)
    assert not anyio.run(read, file)


def test_what_the_monitor_shows_of_memory_is_read_up_to_its_end() -> None:
    lines = "0000000080200000: 0x97 0x02 0x00 0x00 0x93 0x82 0x02 0x01\n00000000802001f8: 0x13\n"
    assert bytes_of(lines) == bytes.fromhex("9702000093820201 13")
    assert bytes_of(f"{lines}Cannot access memory\n") == bytes_of(lines)
    assert bytes_of("Cannot access memory\r\n") == b""
