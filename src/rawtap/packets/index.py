"""Where the packets of a file are that pass a filter, so that the last page costs what the first one does.

Theory of operation. An index is made by one scan of the file, in C, and holds a place for every so many packets: the
offset, packets scanned, packets that matched. A page begins at the last place before it. What a growing file has got
since is scanned when the next page is asked for. An index is a few hundred kilobytes at most and lives as long as the
server; a file that was replaced or rewritten gets another one: its inode, or bytes at the beginning and at the end of
what was scanned, differ.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rawtap.packets import reader
from rawtap.packets._savefile import Savefile

_EVERY = 4096  # packets from one place to the next, until there are too many
_PLACES = 4096
_INDEXES = 64
_SAMPLE = 1024  # bytes, at both ends; time stamps of packets are among them


class IndexEntry(NamedTuple):
    """A place between two packets: `offset` in the file, and how many were scanned and matched before.

    `tagged` more would have matched without their VLAN tag.
    """

    offset: int
    scanned: int
    matched: int
    tagged: int


class Survey(NamedTuple):
    """What is known of a file and a filter.

    Attributes:
        end: Behind the last whole packet.
        first_ns: When the first packet was on the wire, nanoseconds since 1970.
        damage: libpcap's text where the file ends in a broken record.
        places: In their order; none for where a scan could not go on.
    """

    end: IndexEntry = IndexEntry(0, 0, 0, 0)
    first_ns: int = 0
    damage: str = ""
    places: tuple[IndexEntry, ...] = ()

    def before(self, number: int) -> IndexEntry | None:
        """The last place that is not behind packet `number`; None for the file's beginning."""
        at = bisect_right(self.places, number, key=lambda place: place.scanned)
        return self.places[at - 1] if at else None


class Index:
    """Keeps the survey of one file and one filter. Any thread may ask for it."""

    def __init__(self, every: int = _EVERY, places: int = _PLACES) -> None:
        self._lock = threading.Lock()
        self._every, self._most = every, places
        self._survey = Survey()
        self._goes_on = False  # the next scan may begin at the end of this one
        self._size = -1
        self._sample = b""

    def survey(self, path: Path, open_file: Callable[[], Savefile]) -> Survey:
        """Scan what was not yet, or all of a file that is another one now.

        Raises:
            OSError: There is no such file.
            RawtapError: What `open_file` raises.
        """
        with self._lock, os.fdopen(reader.open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if self._sample != _sample(file.fileno(), self._survey.end.offset):
                self._survey, self._goes_on, self._size = Survey(), False, -1
            if size != self._size:
                self._scan(open_file())
                self._size, self._sample = size, _sample(file.fileno(), self._survey.end.offset)
            return self._survey

    def _scan(self, savefile: Savefile) -> None:
        before = self._survey
        places = list(before.places)
        start = before.end if self._goes_on else places[-1] if places else None
        if start:
            savefile.seek(start.offset, before.first_ns, start.scanned, start.matched, start.tagged)
        places += [IndexEntry(*each) for each in savefile.survey(self._every)]
        while len(places) > self._most:
            self._every *= 2
            places = [each for each in places if each.scanned % self._every == 0]
        end = IndexEntry(savefile.offset, savefile.scanned, savefile.matched, savefile.tagged)
        self._survey = Survey(end, savefile.first_ns, savefile.damage, tuple(places))
        self._goes_on = savefile.seekable


def _sample(fd: int, end: int) -> bytes:
    end = min(end, os.fstat(fd).st_size)  # of a compressed file it is a place in what that unpacks to
    return os.pread(fd, _SAMPLE, 0) + os.pread(fd, min(_SAMPLE, end), max(0, end - _SAMPLE))


class Indexes:
    """The indexes of the files and filters that were asked for last. Any thread may ask."""

    def __init__(self, most: int = _INDEXES) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._known: OrderedDict[tuple[int, int, str, bool], Index] = OrderedDict()

    def survey(self, path: Path, expression: str, *, live: bool = False) -> Survey:
        """What is known of a file as it is now; `live` as in `reader.open_file`.

        Raises:
            CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
            BadFilter: With libpcap's text.
        """
        try:
            index = self._index_of(path, expression, live)
            return index.survey(path, partial(reader.open_file, path, expression, live=live))
        except OSError as error:
            raise reader.unreadable(path, error.strerror or str(error)) from error

    def _index_of(self, path: Path, expression: str, live: bool) -> Index:
        status = path.stat()
        key = (status.st_dev, status.st_ino, expression, live)
        with self._lock:
            index = self._known.setdefault(key, Index())
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return index
