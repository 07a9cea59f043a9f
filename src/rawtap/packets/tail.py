"""The packets of a capture that pass a filter, over all its files, as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rawtap.errors import CaptureUnreadable
from rawtap.packets import ends, reader
from rawtap.packets._savefile import Savefile
from rawtap.packets.origin import Origin
from rawtap.packets.reader import Raw


class Part(NamedTuple):
    """One of a capture's files, the `number`th from 1, and the packets that were saved before it.

    `live`: the kernel filtered them, and a filter means now what it meant then (see `reader.open_file`). `packets` are
    in it at least, if that is known: what its capture had saved in it when it was asked.
    """

    number: int
    path: Path
    packets_before: int
    live: bool = False
    packets: int | None = None


class Start(NamedTuple):
    """Where to begin: `offset` bytes into a file, or at its first packet, with what was saved before, in all files.

    Packets up to the number `after` are passed over.
    """

    file: int
    offset: int | None
    packets: int
    after: int


def behind(parts: Sequence[Part], packets: int, offset: int | None) -> Start:
    """Behind that many packets of a capture, and `offset` bytes into the file of the last of them, if that is known."""
    part = next((each for each in reversed(parts) if each.packets_before <= packets), parts[0])
    return Start(part.number, offset if part.packets_before < packets else None, packets, packets)


class Tail:
    """Follows a capture of this server's. Belongs to one thread at a time.

    A file that a ring has removed is read on as far as it is still there; what was removed unread is `missed`.

    Attributes:
        reached: The number of the last packet that was looked at.
        missed: Packets before that which were gone when their turn came.
        points: The interfaces that the newest file describes of those that were opened.
    """

    def __init__(self, parts: Callable[[], Sequence[Part]], expression: str, start: Start) -> None:
        self._parts = parts
        self._expression = expression
        self._start = start
        self._number = start.file - 1  # of the file that is open, or was the last
        self._file: Savefile | None = None
        self._before = 0  # packets saved before it
        self._lacking: dict[int, str] = {}  # by the file's number
        self.reached = start.packets
        self.missed = 0
        self.points: tuple[Origin, ...] = ()

    @property
    def offset(self) -> int | None:
        """Where the packets behind `reached` begin in its file; None where only its beginning is known."""
        return self._file.offset if self._file and self._file.seekable else None

    @property
    def lacking(self) -> tuple[str, ...]:
        """The files that lacked what its capture had saved in them, in words."""
        return tuple(self._lacking.values())

    @property
    def before(self) -> int | None:
        """Where the last packet that was taken begins in its file."""
        return self._file.before if self._file and self._file.seekable else None

    def take(self, limit: int) -> list[Raw]:
        """Up to `limit` packets more; fewer where the newest file ends.

        Raises:
            BadFilter: The filter does not fit the packets; with libpcap's text.
            CaptureUnreadable: A file is none of a capture, or not to be read.
        """
        found: list[Raw] = []
        while len(found) < limit:
            parts = self._parts()  # asked before the file is read: what is not the newest by then is complete
            file = self._file or self._open_next(parts)
            if file is None:
                break
            wanted = limit - len(found)
            taken = self._take_from(file, wanted)
            found += [raw for raw in taken if raw.number > self._start.after]
            if len(taken) == wanted:
                continue
            self._note_end(file, parts)
            if not any(part.number > self._number for part in parts):
                break
            self._file = None
        return found

    def _take_from(self, file: Savefile, wanted: int) -> list[Raw]:
        file.go_on()
        taken = [Raw(self._before + each[0], *each[1:]) for each in file.take(wanted)]
        self.reached = self._before + file.scanned
        return taken

    def _note_end(self, file: Savefile, parts: Sequence[Part]) -> None:
        part = next((each for each in parts if each.number == self._number), None)
        if part is None or part.packets is None or file.scanned >= part.packets or not part.path.exists():
            return  # one that a ring has removed is overwritten, not cut
        self._lacking[part.number] = ends.told(file.scanned, file.damage, part.packets, part.path.name)

    def _open_next(self, parts: Sequence[Part]) -> Savefile | None:
        """The file that follows, if there is one."""
        for part in sorted(parts):
            if part.number <= self._number:
                continue
            self._number = part.number
            try:
                file = reader.open_file(part.path, self._expression, live=part.live)
            except CaptureUnreadable as error:
                if isinstance(error.__cause__, FileNotFoundError):  # removed by the ring, or by somebody else
                    continue
                raise
            self._place(file, part)
            return file
        return None

    def _place(self, file: Savefile, part: Part) -> None:
        start = self._start
        self._file, self._before, self.points = file, part.packets_before, file.points
        if part.number == start.file and start.offset is not None:
            file.seek(start.offset, 0, start.packets - part.packets_before, 0, 0)
        gone_from = max(self.reached, start.after)
        self.missed += max(0, part.packets_before - gone_from)
        self.reached = max(self.reached, part.packets_before)
