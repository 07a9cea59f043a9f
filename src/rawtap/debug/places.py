"""Addresses by the symbols of a guest: its files loaded into a gdb, and what is at an address."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rawtap.blocking import reading
from rawtap.debug import elf
from rawtap.debug import gdb as gdbs
from rawtap.debug.gdb import LOAD_SECONDS, Gdb
from rawtap.debug.stops import SHOWN_NAME, Place, shortened
from rawtap.errors import DebugRefused
from rawtap.untrusted import visible

_BARE = "(No debugging symbols found in "
_LINE = re.compile(r'Line ([0-9]+) of "([^"]*)"')
_ALL = (1 << 64) - 1  # addresses: an offset may go down
_HASH = re.compile(r"::h[0-9a-f]{16}$")  # of rustc's, behind a name in its older way of mangling
_NO_SYMBOLS = "no symbols: it is booted from no ELF file, and none is beside it; a profile can name one"


@dataclass(frozen=True)
class Symbols:
    """A file with symbols, and how far from its own addresses it was loaded."""

    file: Path
    offset: int = 0


async def start(symbols: Sequence[Symbols], source: Path | None, on_change: gdbs.OnChange) -> Gdb:
    """A gdb that may read those files, and the folder of the source. Raises as `gdb.start`."""
    files = tuple(each.file for each in symbols)
    return await gdbs.start((*files, source) if source else files, source or Path("/"), on_change)


async def load(gdb: Gdb, symbols: Sequence[Symbols]) -> list[str]:
    """Have gdb load them; what is to be known of them: that there are none, or that gdb cannot read one of them.

    Raises:
        DebugFailed: gdb has ended, or does not answer.
    """
    notes = [] if symbols else [_NO_SYMBOLS]
    for number, each in enumerate(symbols):
        path = str(each.file).replace("\\", "\\\\").replace('"', '\\"')
        word = "file" if number == 0 else "add-symbol-file"
        if each.offset:
            word = f"{'symbol-file' if number == 0 else word} -o {each.offset & _ALL:#x}"
        try:
            if _BARE in await gdb.say(f'{word} "{path}"', timeout=LOAD_SECONDS):
                notes.append(f"{each.file.name} has no debugging information: {await _lack(each.file)}")
        except DebugRefused as error:
            notes.append(f"no symbols of {each.file.name}: {shortened(error.evidence)}")
        except ValueError:
            notes.append(f"no symbols of {each.file.name!r}: its path has a control character")
    return list(dict.fromkeys(notes))  # a file that is there twice, at two places


async def _lack(path: Path) -> str:
    """What a file without debugging information does not tell."""
    lack = "no lines, no variables, no types"
    try:
        is_stripped = await reading(path, elf.exports_only, path)
    except (OSError, ValueError, struct.error):
        return lack
    more = "it is stripped but for names that it exports, and what is between two of them is told by the first"
    return f"{lack}; {more}" if is_stripped else lack


async def place_at(gdb: Gdb, address: int) -> Place:
    """What is at an address: a function, a file and a line, as far as symbols tell."""
    match = _LINE.match(await gdb.say(f"info line *{address:#x}"))
    symbol = (await gdb.say(f"info symbol {address:#x}")).partition(" in section")[0].partition(" + ")[0]
    name = "" if symbol.startswith("No symbol") else _shown(_HASH.sub("", symbol.strip()))
    return Place(f"{address:#x}", name, *((_shown(match[2].rpartition("/")[2]), match[1]) if match else ()))


def _shown(name: str) -> str:
    """A name out of a guest's file, which may say anything."""
    return shortened(visible(name), SHOWN_NAME)


async def places(
    symbols: Sequence[Symbols], source: Path | None, addresses: Iterable[int]
) -> tuple[dict[int, Place], list[str]]:
    """What is at those addresses, and what is to be known of the symbols; by a gdb that looks at no guest.

    Raises:
        DebugUnavailable, DebugFailed: There is no gdb, or it ended.
    """
    if not symbols:
        return {each: Place(f"{each:#x}") for each in addresses}, [_NO_SYMBOLS]
    gdb = await start(symbols, source, lambda _: None)
    try:
        notes = await load(gdb, symbols)
        return {each: await place_at(gdb, each) for each in addresses}, notes
    finally:
        await gdb.close()
