"""A page of a capture file's packets: selected in C, decoded only where they are shown."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from rawtap.errors import BadFilter, CaptureUnreadable, RequestInvalid
from rawtap.packets import decode
from rawtap.packets._savefile import FilterError, Savefile, SavefileError

MAX_LIMIT = 200


@dataclass(frozen=True)
class Line:
    """One packet: its number in the file from 1, seconds since the file's first packet, length on the wire in bytes,
    bytes that were captured of it, and what it says."""

    number: int
    time: float
    length: int
    captured: int
    summary: str


@dataclass(frozen=True)
class Page:
    """A page, and the truth about the rest.

    `matched` of `scanned` packets in the whole file, as it is now, pass the filter. `next_cursor` is None where
    nothing follows and nothing more can come. `damage` is libpcap's text where the file ends in a broken record.
    """

    path: Path
    packets: tuple[Line, ...]
    matched: int
    scanned: int
    next_cursor: str | None
    damage: str


@dataclass(frozen=True)
class _Cursor:
    """Where a page ended: offset in the file, the file's first time stamp, packets scanned and matched before."""

    offset: int
    first_ns: int
    scanned: int
    matched: int

    @classmethod
    def parse(cls, text: str, key: int) -> _Cursor:
        try:
            fields = [int(word) for word in text.split("-")]
            *place, found_key = fields
            cursor = cls(*place)
        except (TypeError, ValueError):
            raise RequestInvalid(f"{text[:80]!r} is no cursor", cure="Use next_cursor as it was given") from None
        if found_key != key or min(fields) < 0:
            raise RequestInvalid(
                "the cursor belongs to another file or filter",
                cure="Keep the filter while paging, or start again without a cursor",
            )
        return cursor

    def text(self, key: int) -> str:
        return f"{self.offset}-{self.first_ns}-{self.scanned}-{self.matched}-{key}"


def read_page(path: Path, expression: str, cursor: str | None, limit: int, *, growing: bool) -> Page:
    """Read `limit` packets that pass `expression`, from the start or from `cursor`.

    `growing` tells that the file is still written to: an unfinished record at its end is then no damage, and there
    is always a next cursor.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
        RequestInvalid: A cursor that is none, or a limit out of range.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise RequestInvalid(f"limit={limit} is out of range", cure=f"Use 1 to {MAX_LIMIT}")
    key = zlib.crc32(f"{path}\0{expression}".encode())
    savefile = _open(path, expression)
    if cursor is not None:
        place = _Cursor.parse(cursor, key)
        savefile.seek(place.offset, place.first_ns, place.scanned, place.matched)
    found = savefile.take(limit)
    end = _Cursor(savefile.offset, savefile.first_ns, savefile.scanned, savefile.matched)
    if not savefile.damage:
        savefile.count_rest()
    more = growing or savefile.matched > end.matched
    return Page(
        path=path,
        packets=tuple(
            Line(
                number,
                round((nanoseconds - end.first_ns) / 1e9, 6),
                length,
                captured,
                decode.summarize(data, savefile.link_type),
            )
            for number, nanoseconds, captured, length, data in found
        ),
        matched=savefile.matched,
        scanned=savefile.scanned,
        next_cursor=end.text(key) if more else None,
        damage="" if growing else savefile.damage,
    )


def _open(path: Path, expression: str) -> Savefile:
    try:
        return Savefile(os.fsencode(path), expression)
    except FilterError as error:
        raise BadFilter.because(expression, f"libpcap: {error}") from error
    except SavefileError as error:
        raise CaptureUnreadable(
            f"{path} cannot be read as a capture",
            evidence=f"libpcap: {error}",
            cure="qemu_pcap_status lists the captures and their files",
        ) from error
