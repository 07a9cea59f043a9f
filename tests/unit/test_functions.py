"""Which function an address is in, by the symbols of ELF files of both sizes and byte orders."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rawtap.debug import functions
from rawtap.debug.functions import Function, Functions, read

_LOCAL, _GLOBAL = 0, 1
_NO_TYPE, _OBJECT, _FUNCTION = 0, 1, 2
_TEXT, _DATA = 1, 2  # sections
_DYNAMIC = 11  # a table of symbols
# Name, address, size, type, binding, section.
SYMBOLS = [
    ("start", 0x1000, 0, _NO_TYPE, _GLOBAL, _TEXT),
    (".L1", 0x1004, 0, _NO_TYPE, _LOCAL, _TEXT),
    ("$x", 0x1004, 0, _NO_TYPE, _LOCAL, _TEXT),
    ("trap", 0x1010, 0, _NO_TYPE, _LOCAL, _TEXT),
    ("send", 0x1020, 0x20, _FUNCTION, _GLOBAL, _TEXT),
    ("alias", 0x1020, 0x20, _FUNCTION, _LOCAL, _TEXT),
    ("inside", 0x1028, 0, _NO_TYPE, _LOCAL, _TEXT),
    ("nested", 0x1030, 0x8, _FUNCTION, _LOCAL, _TEXT),
    ("last", 0x1080, 0, _NO_TYPE, _LOCAL, _TEXT),
    ("table", 0x2000, 0x40, _OBJECT, _GLOBAL, _DATA),
    ("bottom", 0x2000, 0, _NO_TYPE, _GLOBAL, _DATA),
    ("elsewhere", 0, 0, _FUNCTION, _GLOBAL, 0),
]
AT = {
    0xFFF: None, 0x1000: "start", 0x100F: "start", 0x1010: "trap", 0x101F: "trap", 0x1020: "send", 0x1029: "send",
    0x1030: "nested", 0x1038: "send", 0x103F: "send", 0x1040: None, 0x1080: "last", 0x10FF: "last", 0x1100: None,
    0x2000: None,
}  # fmt: skip


def elf(
    symbols: list[tuple[str, int, int, int, int, int]],
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = 243,
    table_kind: int = 2,
) -> bytes:
    """A file that has these symbols and nothing else."""
    is_64 = bits == 64
    names, offsets = b"\0", []
    for name, *_ in symbols:
        offsets.append(len(names))
        names += name.encode() + b"\0"
    table = b""
    for offset, (_, value, size, kind, binding, section) in zip(offsets, symbols, strict=True):
        info = binding << 4 | kind
        table += (
            struct.pack(f"{order}IBBHQQ", offset, info, 0, section, value, size)
            if is_64
            else struct.pack(f"{order}IIIBBH", offset, value, size, info, 0, section)
        )
    at = 64 + len(names)
    form = f"{order}{'IIQQQQIIQQ' if is_64 else '10I'}"
    sections = [
        (0,) * 10,
        (0, 1, 6, 0x1000, 0, 0x100, 0, 0, 0, 0),
        (0, 1, 3, 0x2000, 0, 0x100, 0, 0, 0, 0),
        (0, table_kind, 0, 0, at, len(table), 4, 0, 0, 0),
        (0, 3, 0, 0, 64, len(names), 0, 0, 0, 0),
    ]
    ident = b"\x7fELF" + bytes([2 if is_64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    words, size = ("IQQQIHHHHHH", 64) if is_64 else ("IIIIIHHHHHH", 52)
    where = at + len(table)
    rest = (1, 0, 0, where, 0, size, 0, 0, struct.calcsize(form), len(sections), 0)
    head = ident + struct.pack(f"{order}HH{words}", 2, machine, *rest)
    return head.ljust(64, b"\0") + names + table + b"".join(struct.pack(form, *each) for each in sections)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kernel.elf"


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_an_address_is_in_the_innermost_function(file: Path, bits: int, order: str) -> None:
    file.write_bytes(elf(SYMBOLS, bits=bits, order=order))
    for offset in (0, 0x80000000):
        known = Functions(read(file, offset))
        found = {address: known.at(address + offset) for address in AT}
        assert {address: each.name if each else None for address, each in found.items()} == AT


def test_of_a_stripped_file_a_label_is_no_more_than_its_address(file: Path) -> None:
    """Names that it does not export are missing behind it."""
    file.write_bytes(elf(SYMBOLS, table_kind=_DYNAMIC))
    known = Functions(read(file))
    wanted = {0x1000: "start", 0x1001: None, 0x1010: "trap", 0x1011: None, 0x1020: "send", 0x103F: "send", 0x1081: None}
    found = {address: known.at(address) for address in wanted}
    assert {address: each.name if each else None for address, each in found.items()} == wanted


def test_odd_addresses_of_arm_are_even_ones(file: Path) -> None:
    file.write_bytes(elf([("thumb", 0x1021, 8, _FUNCTION, _GLOBAL, _TEXT)], bits=32, machine=40))
    assert read(file) == [Function(0x1020, 0x1028, "thumb")]


def test_a_file_that_says_anything_is_an_error_or_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = elf(SYMBOLS)
    for data in (b"", b"MZ" + bytes(100), whole[:40], whole[:-1], whole[:16] + b"\1\0" + whole[18:]):
        file.write_bytes(data)
        with pytest.raises(ValueError, match="it is"):
            read(file)
    file.write_bytes(whole[:40] + b"\xff" * 8 + whole[48:])
    with pytest.raises(ValueError, match="none"):
        read(file)
    file.write_bytes(whole[:40] + bytes(8) + whole[48:])
    assert read(file) == []
    for at in range(len(whole)):  # each byte once: no other kind of error, and no endless work
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read(file)
        except ValueError:
            continue
    monkeypatch.setattr(functions, "MOST", 3)
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="more than"):
        read(file)


def test_names_can_be_read(file: Path) -> None:
    file.write_bytes(elf([("a\x1b[2J\n", 0x1000, 8, _FUNCTION, _GLOBAL, _TEXT)]))
    assert read(file) == [Function(0x1000, 0x1008, "a\\x1b[2J\\n")]
