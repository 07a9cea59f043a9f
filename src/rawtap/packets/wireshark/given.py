"""The packets that tshark is given: a pcapng file in memory, whatever files they come from.

Theory of operation. tshark never opens a capture. Rings, running captures, compressed files and files of several
interfaces are read as everywhere here, and handed on in one format; so a packet is the same one to both, and has the
same number as long as tshark is given them from the first one on. Of a long capture it is given a part, and `first`
tells with which packet that begins.

Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rawtap.packets import reader
from rawtap.packets._savefile import Savefile
from rawtap.packets.origin import number_in_files
from rawtap.packets.pages import PacketFiles, there
from rawtap.packets.reader import Raw
from rawtap.packets.tail import Part

MOST_PACKETS = 100_000  # some 3 s of tshark's time
MOST_BYTES = 64 << 20
_BEFORE = 20_000  # packets, of a longer capture: what conversations that are still open began with
_AT_ONCE = 1000
_WRITTEN = 1 << 20  # bytes at a time
_SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
_RESOLUTION = struct.pack("<HHBxxxHH", 9, 1, 9, 0, 0)  # if_tsresol: nanoseconds
_INTERFACE = struct.Struct("<IIHHI12sI")
_PACKET = struct.Struct("<IIIIIII")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Given:
    """What the memory holds: the packets with the numbers `first` to `last`, without a gap; none if `count` is 0."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def number(self, nth: int) -> int:
        """In the capture, of the packet that tshark calls `nth`."""
        return self.first + nth - 1

    def nth(self, number: int) -> int:
        """What tshark calls the packet of that number."""
        return number - self.first + 1


def give(source: PacketFiles, fd: int, *, after: int, last: int | None = None, before: int = MOST_PACKETS) -> Given:
    """Write to the memory `fd` the packets up to number `last`, or as many as it may hold; those behind `after` count.

    They begin with the first that is there, unless there are too many up to `last` or, without it, to the end. Then
    they begin 20,000 before `after`, or `before`, if that is less; and later where these are so large that they would
    leave no room for as many behind `after`.

    Raises:
        CaptureUnreadable: A file is none of a capture, or not to be read.
    """
    near = min(before, _BEFORE, after)
    if before >= MOST_PACKETS > after > near:
        given, is_full = _given(source, fd, 0, last)
        if not is_full:
            return given
    while True:
        given, is_full = _given(source, fd, after - near, last)
        if not is_full or not near or given.last >= (last or after + near):
            return given
        near //= 4


def _given(source: PacketFiles, fd: int, begin: int, last: int | None) -> tuple[Given, bool]:
    """Write the packets behind number `begin`; and whether there is no room for more."""
    writer = _Writer(fd)
    first = begin + 1
    reached = begin
    for part, savefile in there(source.parts, lambda part: reader.open_file(part.path, "", live=part.live)):
        for raw in _packets(part, savefile, reached):
            if raw.number > (last or raw.number) or writer.is_full:
                break
            if raw.number != reached + 1:  # a ring has removed what was between
                writer.begin()
                first = raw.number
            writer.add(raw)
            reached = raw.number
    writer.flush()
    os.lseek(fd, 0, os.SEEK_SET)
    return Given(first, reached), writer.is_full


def _packets(part: Part, savefile: Savefile, after: int) -> Iterator[Raw]:
    savefile.skip(max(0, after - part.packets_before))
    while found := savefile.take(_AT_ONCE):
        for each in found:
            raw = Raw(*each)
            yield raw._replace(number=part.packets_before + raw.number)


class _Writer:
    """Writes a file of packets of any link types."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.begin()

    def begin(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._blocks = [_SECTION]
        self._held = self._written = self._packets = 0
        self._interfaces: dict[int, int] = {}  # by the link type

    @property
    def is_full(self) -> bool:
        """Whether it may hold no more."""
        return self._packets >= MOST_PACKETS or self._written + self._held >= MOST_BYTES

    def add(self, raw: Raw) -> None:
        """Write a packet."""
        link_type = raw.origin.link_type
        if link_type not in self._interfaces:
            self._interfaces[link_type] = len(self._interfaces)
            self._blocks.append(_INTERFACE.pack(1, 32, number_in_files(link_type), 0, 0, _RESOLUTION, 32))
        padding = -raw.captured % 4
        size = 32 + raw.captured + padding
        self._blocks += (
            _PACKET.pack(
                6, size, self._interfaces[link_type], raw.time_ns >> 32 & 0xFFFFFFFF, raw.time_ns & 0xFFFFFFFF,
                raw.captured, raw.length,
            ),
            raw.data, bytes(padding), _LENGTH.pack(size),
        )  # fmt: skip
        self._held += size
        self._packets += 1
        if self._held > _WRITTEN:
            self.flush()

    def flush(self) -> None:
        """Have all of it in the memory."""
        data = memoryview(b"".join(self._blocks))
        while data:
            data = data[os.write(self._fd, data) :]
        self._written += self._held
        self._blocks, self._held = [], 0
