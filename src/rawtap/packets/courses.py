"""Where the messages of TCP connections end: a segment in the middle of one says nothing, the one that ends it does.

Each way of a connection is followed from a segment that says what it is, in the order in which packets came. It is lost
where bytes are missing that a message's length would be in, and found again by the next segment that says what it is.
Pure; what is kept of a way is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rawtap.packets.says import Said, lengths
from rawtap.packets.transport import FIN, RST, SYN, Named, Tcp

_ROUND = 1 << 32  # sequence numbers
_PARTS = 1000  # of messages in one segment; who sends more of them costs too much
_SWITCHED = ("HTTP2", "WebSocket")  # for both ways, once one of them begins with it
_End = tuple[bytes, int]
_Way = tuple[int, _End, _End]  # the interface, who sends, who gets


class _Lost(Exception):
    """What comes is not what must come now."""


class _Taken(NamedTuple):
    """The packet in which a message began that a segment ends, and what begins in it behind that; None for none."""

    began: int | None
    words: str | None


@dataclass(slots=True)
class _Course:
    """One way, up to `at`, where a part of `kind` begins; `held` are the first bytes of it, too few to tell its length.
    The message that it is of began in packet `began`, None between two; `method` is that of the last request."""

    name: str
    kind: str
    at: int
    began: int | None
    held: bytes = b""
    method: bytes = b""

    def take(self, number: int, header: Tcp, payload: bytes, asked: bytes) -> _Taken:
        """Go on with a segment of these captured bytes, in packet `number`; `asked` is what is answered.

        Raises:
            _Lost: It does not go on so.
        """
        if self.kind == lengths.REST:
            return _Taken(self.began if header.flags & FIN else None, None)
        behind = (self.at + len(self.held) - header.sequence) % _ROUND
        if behind > _ROUND // 2 or (self.held and behind) or len(payload) <= behind < header.size:
            raise _Lost
        if behind >= header.size:
            is_end = behind == header.size > 0 and self.kind in lengths.NEW
            return _Taken(self._ended() if is_end else None, None)
        # What began before ends here; or it did so in bytes of the segment before that were not captured.
        ended = self._ended() if self.kind in lengths.NEW and not self.held else None
        data, self.held = self.held + payload[behind:], b""
        taken = self._read(number, data, asked, ended if behind else None)
        if self.held and len(payload) < header.size:
            raise _Lost
        return taken

    def _read(self, number: int, data: bytes, asked: bytes, began: int | None) -> _Taken:
        """Go over the parts of messages that begin in these bytes, which are from `at` on."""
        words: str | None = None
        for _ in range(_PARTS):
            if not data or self.kind == lengths.REST:
                return _Taken(began, words)
            if self.kind in lengths.NEW and self.began is None:
                self.began = number
            step = self._step(data, asked)
            if step is None:
                self.held = data
                return _Taken(began, words)
            if self.kind in lengths.NEW and self.began == number and words is None:
                words = lengths.words(self.kind, data)
            size, self.kind = step
            if size >= _ROUND // 2:  # no sequence number is told from that before it
                raise _Lost
            self.at = (self.at + size) % _ROUND
            if self.kind in lengths.NEW and size <= len(data):
                before = self._ended()
                began = began if began is not None or before == number else before
            data = data[size:]
        raise _Lost

    def _ended(self) -> int | None:
        began, self.began = self.began, None
        return began

    def _step(self, data: bytes, asked: bytes) -> lengths.Step | None:
        is_http = self.kind == "HTTP"
        is_bodiless = asked == b"HEAD" or (asked == b"CONNECT" and data[8:10] == b" 2")
        try:
            if is_http and is_bodiless and data.startswith(b"HTTP/"):
                return lengths.bodiless(data)
            step = lengths.KINDS[self.kind](data)
        except ValueError as error:
            raise _Lost from error
        if is_http and step is not None:  # a line's end behind a request is not one
            self.method = data[:8].split(b" ")[0]
        return step


class Courses:
    """Knows the ways of the connections whose segments it was given."""

    def __init__(self) -> None:
        self._ways: dict[_Way, _Course] = {}

    def look(self, number: int, header: Tcp, payload: bytes, way: _Way, said: Said | None) -> Named | None:
        """Follow a segment of these captured bytes, which says `said` by itself. Its name, if it says nothing, but ends
        a message or begins with one where one must."""
        back = (way[0], way[2], way[1])
        if header.flags & SYN:
            self._ways.pop(way, None)
            self._ways.pop(back, None)
            return None
        course, other = self._ways.get(way), self._ways.get(back)
        before = course.kind if course else ""
        asked = other.method if other else b""
        taken = self._taken(course, way, number, header, payload, asked) if course else None
        if taken is None or (said is not None and taken == (None, None)):
            kind = lengths.OF_NAME.get(said[0]) if said is not None and header.size else None
            if said is None or kind is None:
                return None
            course = self._ways[way] = _Course(said[0], kind, header.sequence, number)
            self._taken(course, way, number, header, payload, asked)
            taken = None
        elif course is not None and said is not None and lengths.OF_NAME.get(said[0]) == course.kind:
            course.name = said[0]
        if course is not None and course.kind in _SWITCHED and course.kind != before:
            course.name = course.kind
            self._ways[back] = _Course(course.kind, course.kind, header.acknowledgment, None)
        if header.flags & (FIN | RST):
            self._ways.pop(way, None)
        return _named(course.name, taken) if course and taken and said is None else None

    def _taken(
        self, course: _Course, way: _Way, number: int, header: Tcp, payload: bytes, asked: bytes
    ) -> _Taken | None:
        try:
            return course.take(number, header, payload, asked)
        except _Lost:
            self._ways.pop(way, None)
            return None


def _named(name: str, taken: _Taken) -> Named | None:
    told = [f"the end of what began in #{taken.began}"] if taken.began is not None else []
    told += [taken.words] if taken.words else []
    return Named(name, ", ".join(told)) if told or taken.words is not None else None
