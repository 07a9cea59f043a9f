"""A capture file's packets, selected in C: a page of them, decoded where they are shown, or a file of their own."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rawtap.errors import BadFilter, CaptureError, CaptureUnreadable, NoSpace, OutputUnwritable
from rawtap.host import extras
from rawtap.packets import layers, lines, unpack
from rawtap.packets._savefile import FilterError, Savefile, SavefileError
from rawtap.packets.headers import parse
from rawtap.packets.layers import Budget, Layer, Run, Value
from rawtap.packets.lines import PacketSummary
from rawtap.packets.memory import Memory
from rawtap.packets.origin import Origin

MAX_LIMIT = 200
Detail = Literal["summary", "layers", "hex"]
_USUAL_LIMIT = 20
_NAMES = 60  # characters, of the fields of what a line says
_EMPTY = "the capture file has no Interface Description Blocks"  # and no packet: else it would say so
_PLACE = re.compile("byte ([0-9]{1,9}):")
_SHOWN_FILTER = 80
_LISTED = "qemu_pcap_status lists the captures and their files"
_CHARACTERS = 400  # of an answer's JSON for each packet that is asked for


class Raw(NamedTuple):
    """A packet: its number in the capture from 1, nanoseconds since 1970, bytes captured and on the wire, these, and
    where it was seen."""

    number: int
    time_ns: int
    captured: int
    length: int
    data: bytes
    origin: Origin


@dataclass(frozen=True)
class Line:
    """One packet: its number in the file or capture from 1, seconds from when time is counted, length on the wire in
    bytes, bytes that were captured of it, what it says, where it was seen, and where reading it stopped early. In a
    detailed page also its layers, or its bytes by fields, or the fields that were asked for; `undecoded` as in
    `layers.Frame`."""

    number: int
    time: float
    length: int
    captured: int
    summary: PacketSummary
    origin: Origin
    layers: tuple[Layer, ...] | None
    runs: tuple[Run, ...] | None
    fields: dict[str, Value] | None
    stopped: str | None
    data: bytes
    undecoded: int | None = None


@dataclass(frozen=True)
class Selected:
    """What passed a filter: `matched` of the `scanned` packets, in a new file of `size_bytes` if one was asked for.

    `tagged` packets did not pass, and would without their VLAN tag. `damage` is libpcap's text where the file ends in a
    broken record.
    """

    matched: int
    scanned: int
    tagged: int
    size_bytes: int | None
    damage: str


def fitting(all_lines: Iterable[Line], limit: int) -> list[Line]:
    """Up to `limit` lines, the first of them in any case, and then until they say enough for one answer."""
    all_lines = iter(all_lines)
    found: list[Line] = []
    room = _CHARACTERS * max(limit, _USUAL_LIMIT)
    while len(found) < limit and room > 0 and (line := next(all_lines, None)):
        found.append(line)
        room -= _weight(line)
    return found


def _weight(line: Line) -> int:
    """About how many characters it has in an answer, which leaves out what is None."""
    found = {name: value for name, value in dataclasses.asdict(line).items() if value is not None}
    del found["summary"], found["origin"], found["data"]
    return _NAMES + len(str(line.summary)) + len(json.dumps(found))


def line_of(
    raw: Raw,
    start_ns: int,
    detail: Detail,
    fields: tuple[str, ...] = (),
    memory: Memory | None = None,
    budget: Budget | None = None,
) -> Line:
    """A packet as a line, its time counted from `start_ns`, nanoseconds since 1970; `memory` has those before it, and
    `budget` what may be decoded."""
    link_type = raw.origin.link_type
    parsed = parse(raw.data, raw.length, link_type)
    mark = memory.mark(raw.number, parsed, raw.origin.interface) if memory else ""
    summary = lines.summarize(parsed, mark)
    frame = layers.take_apart(raw.data, link_type, budget) if detail != "summary" or fields else None
    # scapy takes much without a word
    stopped = frame.stopped if frame and frame.stopped else summary.stopped
    return Line(
        raw.number,
        round((raw.time_ns - start_ns) / 1e9, 6),
        raw.length,
        raw.captured,
        summary,
        raw.origin,
        layers=tuple(layers.worth_telling(frame, raw.data)) if frame and detail == "layers" else None,
        runs=layers.runs(frame, raw.data, place_of(stopped)) if frame and detail == "hex" else None,
        fields=layers.picked(frame, fields) if frame and fields else None,
        stopped=stopped,
        data=raw.data,
        undecoded=frame.undecoded if frame else None,
    )


def place_of(stopped: str | None) -> int | None:
    """The byte at which reading stopped."""
    found = _PLACE.match(stopped or "")
    return int(found[1]) if found else None


def select(path: Path, expression: str, out: Path | None) -> Selected:
    """Count the packets of a file that pass `expression`, and copy them to the new pcap file `out` if that is given.

    The copy has the precision, link type and snaplen of the file, and mode 0600; where this fails it is removed.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
        OutputUnwritable: `out` is there already, or cannot be made or written.
        NoSpace: `out` does not fit.
    """
    savefile = open_file(path, expression)
    size_bytes = None
    if out is None:
        savefile.count_rest()
    else:
        size_bytes = _copy(savefile, path, out)
    return Selected(savefile.matched, savefile.scanned, savefile.tagged, size_bytes, savefile.damage)


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
            raise unreadable(path, f"libpcap: {error}") from error
        raise


def _unwritable(out: Path, error: OSError | ValueError) -> CaptureError:
    number = error.errno if isinstance(error, OSError) else 0
    text = os.strerror(number) if number else str(error)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"{out} does not fit", evidence=text, cure="Free some space, or select fewer packets")
    return OutputUnwritable(f"{out} cannot be written", evidence=text, cure="Give the path of a new file")


def tags_told(tagged: int, expression: str) -> list[str]:
    """What is to be said of packets that `expression` passes over for their VLAN tag alone."""
    if not tagged:
        return []
    packets = "1 packet matches" if tagged == 1 else f"{tagged} packets match"
    behind = f"vlan and ({expression if len(expression) <= _SHOWN_FILTER else '...'})"
    return [f"{packets} but for a VLAN tag, which a file's frames have in them: {behind!r} looks behind it"]


def open_file(path: Path, expression: str, *, live: bool = False) -> Savefile:
    """Open a capture file for its packets that pass `expression`.

    `live` tells that the kernel filtered the file's frames: then `expression` selects what it would have selected as
    their capture's filter. Else it selects what it does for tcpdump. It makes a difference for frames in a VLAN.

    A file that gzip, zstd or lz4 compressed is unpacked while it is read.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
    """
    packed: unpack.Unpacked | None = None
    try:
        fd = open_regular(path)
        packed = unpack.unpacked(fd)
        return _savefile(fd, expression, packed, live=live)
    except unpack.Missing as error:
        raise unreadable(path, str(error), extras.cure(error.package)) from error
    except FilterError as error:
        raise BadFilter.because(expression, f"libpcap: {error}") from error
    except SavefileError as error:
        raise unreadable(path, packed.fault if packed and packed.fault else f"libpcap: {error}") from error
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def _savefile(fd: int, expression: str, packed: unpack.Unpacked | None, *, live: bool) -> Savefile:
    """The file; one without a packet in place of one that describes no interface, which libpcap takes for none."""
    try:
        return Savefile(fd, expression, live=live, unpacked=packed)
    except SavefileError as error:
        if _EMPTY not in str(error):
            raise
    empty = os.memfd_create("rawtap-empty")
    os.write(empty, struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
    os.lseek(empty, 0, os.SEEK_SET)
    return Savefile(empty, expression, live=live)


def descriptor(path: Path) -> int | None:
    """Open a capture file for who reads it by a descriptor, and whose complaint would come too late.

    None where the file has no packet because it describes no interface: whoever opens it by libpcap is refused.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
    """
    open_file(path, "")
    if has_no_interface(path):
        return None
    try:
        return open_regular(path)
    except OSError as error:  # it was removed just now
        raise unreadable(path, error.strerror or str(error)) from error


def has_no_interface(path: Path) -> bool:
    """Whether a file that can be read describes no interface, and so has no packet: an empty, but valid pcapng file."""
    try:
        fd = open_regular(path)
        Savefile(fd, "", unpacked=unpack.unpacked(fd))
    except SavefileError as error:
        return _EMPTY in str(error)
    except OSError:  # it was removed just now
        return False
    return False


def no_interface_told(name: str) -> str:
    """What is to be said of such a file."""
    return f"{name} has 0 packets: it describes no interface"


def open_regular(path: Path) -> int:
    """Open a regular file; opening a FIFO or a device could wait for ever.

    Raises:
        OSError: There is none.
        CaptureUnreadable: It is something else.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise unreadable(path, "it is no regular file")
    return fd


def unreadable(path: Path, evidence: str, cure: str = _LISTED) -> CaptureUnreadable:
    """The error for a file that cannot be read."""
    return CaptureUnreadable(f"{path} cannot be read as a capture", evidence=evidence, cure=cure)
