"""A capture file's packets, selected in C: a page of them, decoded where they are shown, or a file of their own."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rawtap.errors import BadFilter, CaptureError, CaptureUnreadable, NoSpace, OutputUnwritable, RequestInvalid
from rawtap.packets import layers, lines
from rawtap.packets._savefile import FilterError, Savefile, SavefileError
from rawtap.packets.layers import Layer, Run, Value
from rawtap.packets.lines import Line as Said

MAX_LIMIT = 200
Detail = Literal["summary", "layers", "hex"]
_USUAL_LIMIT = 20
_CHARACTERS = 400  # of an answer's JSON for each packet that is asked for
_PCAPNG = bytes.fromhex("0a0d0d0a")  # the Section Header Block's type, pcapng, section 4.1


@dataclass(frozen=True)
class Line:
    """One packet: its number in the file from 1, seconds since the file's first packet, length on the wire in bytes,
    bytes that were captured of it, what it says, and where reading it stopped early. In a detailed page also its
    layers, or its bytes by fields, or the fields that were asked for."""

    number: int
    time: float
    length: int
    captured: int
    said: Said
    layers: tuple[Layer, ...] | None
    runs: tuple[Run, ...] | None
    fields: dict[str, Value] | None
    stopped: str | None


@dataclass(frozen=True)
class Page:
    """A page, and the truth about the rest.

    `cut` says that it holds fewer packets than were asked for, since more would have been too large an answer.

    `matched` of `scanned` packets in the whole file, as it is now, pass the filter. `next_cursor` is None where
    nothing follows and nothing more can come. `damage` is libpcap's text where the file ends in a broken record.
    """

    path: Path
    packets: tuple[Line, ...]
    matched: int
    scanned: int
    next_cursor: str | None
    damage: str
    cut: bool


@dataclass(frozen=True)
class Selected:
    """What passed a filter: `matched` of the `scanned` packets, in a new file of `size_bytes` if one was asked for.

    `damage` is libpcap's text where the file ends in a broken record.
    """

    matched: int
    scanned: int
    size_bytes: int | None
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
        if found_key != key or not all(0 <= each < 1 << 62 for each in fields):
            raise RequestInvalid(
                "the cursor belongs to another file or filter",
                cure="Keep the filter while paging, or start again without a cursor",
            )
        return cursor

    def text(self, key: int) -> str:
        return f"{self.offset}-{self.first_ns}-{self.scanned}-{self.matched}-{key}"


def read_page(
    path: Path,
    expression: str,
    cursor: str | None,
    limit: int,
    *,
    growing: bool,
    detail: Detail = "summary",
    fields: tuple[str, ...] = (),
) -> Page:
    """Read `limit` packets that pass `expression`, from the start or from `cursor`; fewer where they say too much.

    With `fields` (like ``IP.src``) these are picked from each packet.

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
    place = _Cursor.parse(cursor, key) if cursor is not None else None
    savefile = _open(path, expression, place)
    lines = fitting(_lines(savefile, detail, fields), limit)
    end = _Cursor(savefile.offset, savefile.first_ns, savefile.scanned, savefile.matched)
    if not savefile.damage:
        savefile.count_rest()
    more = growing or savefile.matched > end.matched
    return Page(
        path=path,
        packets=tuple(lines),
        matched=savefile.matched,
        scanned=savefile.scanned,
        next_cursor=end.text(key) if more else None,
        damage="" if growing else savefile.damage,
        cut=len(lines) < limit and savefile.matched > end.matched,
    )


def _lines(savefile: Savefile, detail: Detail, fields: tuple[str, ...]) -> Iterator[Line]:
    """The packets that follow, each read when it is asked for."""
    while found := savefile.take(1):
        yield line_of(savefile.link_type, savefile.first_ns, detail, fields, *found[0])


def fitting(all_lines: Iterator[Line], limit: int) -> list[Line]:
    """Up to `limit` lines, the first of them in any case, and then until they say enough for one answer."""
    found: list[Line] = []
    room = _CHARACTERS * max(limit, _USUAL_LIMIT)
    while len(found) < limit and room > 0 and (line := next(all_lines, None)):
        found.append(line)
        room -= len(json.dumps(dataclasses.asdict(line)))
    return found


def line_of(
    link_type: int,
    first_ns: int,
    detail: Detail,
    fields: tuple[str, ...],
    number: int,
    nanoseconds: int,
    captured: int,
    length: int,
    data: bytes,
) -> Line:
    """One packet as a line, its time counted from `first_ns`, nanoseconds since 1970."""
    said = lines.describe(data, length, link_type)
    frame = layers.take_apart(data, link_type) if detail != "summary" or fields else None
    runs = layers.runs(frame, data) if frame and detail == "hex" else None
    return Line(
        number,
        round((nanoseconds - first_ns) / 1e9, 6),
        length,
        captured,
        said,
        layers=frame.layers if frame and detail == "layers" else None,
        runs=runs,
        fields=layers.picked(frame, fields) if frame and fields else None,
        stopped=frame.stopped if frame else said.stopped,
    )


def select(path: Path, expression: str, out: Path | None) -> Selected:
    """Count the packets of a file that pass `expression`, and copy them to the new pcap file `out` if that is given.

    The copy has the precision, link type and snaplen of the file, and mode 0600; where this fails it is removed.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
        OutputUnwritable: `out` is there already, or cannot be made or written.
        NoSpace: `out` does not fit.
    """
    savefile = _open(path, expression, None)
    size_bytes = None
    if out is None:
        savefile.count_rest()
    else:
        size_bytes = _copy(savefile, path, out)
    return Selected(savefile.matched, savefile.scanned, size_bytes, savefile.damage)


def _copy(savefile: Savefile, path: Path, out: Path) -> int:
    try:
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:  # a NUL in the path
        raise _unwritable(out, error) from error
    try:
        with os.fdopen(fd, "wb", buffering=0):
            return savefile.copy_rest(fd)
    except BaseException as error:
        out.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(out, error) from error
        if isinstance(error, SavefileError):
            raise _unreadable(path, f"libpcap: {error}") from error
        raise


def _unwritable(out: Path, error: OSError | ValueError) -> CaptureError:
    number = error.errno if isinstance(error, OSError) else 0
    text = os.strerror(number) if number else str(error)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"{out} does not fit", evidence=text, cure="Free some space, or select fewer packets")
    return OutputUnwritable(f"{out} cannot be written", evidence=text, cure="Give the path of a new file")


def open_file(path: Path, expression: str) -> Savefile:
    """Open a capture file for its packets that pass `expression`.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
    """
    return _open(path, expression, None)


def _open(path: Path, expression: str, place: _Cursor | None) -> Savefile:
    try:
        fd, is_pcapng = _open_regular(path)
        savefile = Savefile(fd, expression)
        if place is not None and is_pcapng:
            savefile.skip(place.scanned)
        elif place is not None:
            savefile.seek(place.offset, place.first_ns, place.scanned, place.matched)
    except FilterError as error:
        raise BadFilter.because(expression, f"libpcap: {error}") from error
    except SavefileError as error:
        raise _unreadable(path, f"libpcap: {error}") from error
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    return savefile


def _open_regular(path: Path) -> tuple[int, bool]:
    """Open a regular file and tell whether it is pcapng; opening a FIFO or a device could wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _unreadable(path, "it is no regular file")
    return fd, os.pread(fd, 4, 0) == _PCAPNG


def _unreadable(path: Path, evidence: str) -> CaptureUnreadable:
    return CaptureUnreadable(
        f"{path} cannot be read as a capture",
        evidence=evidence,
        cure="qemu_pcap_status lists the captures and their files",
    )
