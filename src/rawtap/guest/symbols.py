"""Which files have a guest's symbols: those that its profile names, else what is built beside its kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rawtap.errors import GuestNotFound, PathNotAllowed
from rawtap.guest.files import Find
from rawtap.guest.paths import holds
from rawtap.guest.profile import SymbolFile

_ELF = b"\x7fELF"


def found(named: Iterable[SymbolFile], find: Find, software: Path | None) -> tuple[tuple[Path, int], ...]:
    """Files, resolved and allowed, with their offsets; those of `software`, a kernel or firmware, where none is named.

    Raises:
        PathNotAllowed: One that is named is none of the project's, nor of the operator's.
        GuestNotFound: One that is named is not there.
    """
    if said := tuple((find(each.file, "symbol file"), each.offset) for each in named):
        return said
    for path in _beside(software) if software else ():
        if holds(path, _is_elf):
            try:
                return ((find(str(path), "symbol file"), 0),)
            except (PathNotAllowed, GuestNotFound):  # a link that leads away: nobody asked for it
                continue
    return ()


def _beside(software: Path) -> Iterator[Path]:
    """Where an ELF file may be from which that was made."""
    yield software
    yield software.with_suffix(".elf")
    if software.suffix:
        yield software.with_suffix("")
    if software.parent.name == "boot" and software.parent.parent.parent.name == "arch":  # Linux: arch/x86/boot/bzImage
        yield software.parents[3] / "vmlinux"


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF
