"""What HTTP/1 carries: the contents of requests and answers, with the transfer coding taken off (RFC 9112).

A content coding, as gzip, is left as it is: these bytes are what was sent, and nobody here unpacks what a stranger
packed. Each side is read by itself; of the other one it must know only which request an answer is for (RFC 9112, 6.3).
A gap within a content whose length is known is kept as a gap. Where a gap hides the framing, the side is read again
from the next piece that begins as a message does.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container
from enum import Enum, auto

from rawtap.packets.conversation import Piece
from rawtap.packets.objects.body import About, Bodies, Body
from rawtap.untrusted import visible

_REQUEST = re.compile(rb"([A-Za-z][A-Za-z_-]{1,30}) (\S{1,8000}) HTTP/1\.[01]\r?\n")
_ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]{0,200})?\r?\n")
_SIZE = re.compile(rb"[0-9]{1,15}")
_CHUNK = re.compile(rb"0*([0-9a-fA-F]{1,12})[ \t]*(?:;[^\r\n]*)?\r?\n")
_ENDS = re.compile(rb"\r?\n\r?\n")
_LONGEST_HEAD = 1 << 16
_LONGEST_LINE = 1 << 12
_WAITING = 1000  # requests whose answers have not come
_TEXT = 300
_SWITCHED, _NO_CONTENT, _NOT_MODIFIED, _OK, _MULTIPLE = 101, 204, 304, 200, 300


class _Reads(Enum):
    NOTHING = auto()  # until a piece begins as a message does
    HEAD = auto()
    CONTENT = auto()  # of a length
    ALL = auto()  # until the end of the connection
    CHUNK = auto()  # its size
    DATA = auto()  # of a chunk
    TRAILER = auto()


class HttpObjects:
    """Takes a conversation's pieces in their order, and gives out what HTTP/1 carries."""

    def __init__(self, bodies: Bodies) -> None:
        asked: deque[tuple[str, str]] = deque(maxlen=_WAITING)
        self._sides = (_Side(0, bodies, asked), _Side(1, bodies, asked))

    def add(self, piece: Piece) -> None:
        """The next piece."""
        self._sides[piece.side].add(piece)

    def end(self, ended: Container[int], why: str = "") -> None:
        """Nothing more comes, for which `why` is the reason if it is not the conversation's own end. Sides that `ended`
        have told that they say no more, which is what a content without a length ends with (RFC 9112, 6.3)."""
        for number, side in enumerate(self._sides):
            side.end(is_whole=number in ended, why=why)


class _Side:
    def __init__(self, side: int, bodies: Bodies, asked: deque[tuple[str, str]]) -> None:
        self._side, self._bodies, self._asked = side, bodies, asked
        self._reads = _Reads.NOTHING
        self._held = bytearray()  # what is not read yet
        self._left = 0  # bytes of the content, or of the chunk
        self._about: About | None = None  # of the content, and its place once it has a byte
        self._body: Body | None = None
        self._packet = 0

    def add(self, piece: Piece) -> None:
        self._packet = piece.number
        if piece.gap:
            self._skip(piece.gap)
            return
        if self._reads is _Reads.NOTHING:
            if not (_REQUEST.match(piece.data) or _ANSWER.match(piece.data)):
                return
            self._reads = _Reads.HEAD
        self._held += piece.data
        while self._held and self._step():
            pass

    def end(self, *, is_whole: bool, why: str) -> None:
        lacks = "the conversation ends in it"
        if self._reads is _Reads.ALL:
            lacks = "" if is_whole else "its end is not in the capture"
        self._close(lacks and (why or lacks), _Reads.NOTHING)

    def _skip(self, size: int) -> None:
        within = self._reads in {_Reads.CONTENT, _Reads.DATA} and size <= self._left
        if not within and self._reads is not _Reads.ALL:
            self._close("its end is not in the capture", _Reads.NOTHING)
            return
        self._left -= size
        if body := self._place():
            body.skip(size)
        if self._left == 0 and self._reads is _Reads.CONTENT:
            self._close("", _Reads.HEAD)

    def _close(self, lacks: str, then: _Reads) -> None:
        if self._body:
            self._body.end(lacks)
        self._about = self._body = None
        self._reads = then
        if then is _Reads.NOTHING:
            self._held.clear()

    def _step(self) -> bool:
        """Read on; whether there may be more to read in what is held."""
        if self._reads is _Reads.HEAD:
            return self._head()
        if self._reads is _Reads.CHUNK:
            return self._chunk()
        if self._reads is _Reads.TRAILER:
            return self._trailer()
        if self._reads is _Reads.NOTHING:
            self._held.clear()
            return False
        size = len(self._held) if self._reads is _Reads.ALL else min(self._left, len(self._held))
        if body := self._place():
            body.add(bytes(self._held[:size]))
        del self._held[:size]
        self._left -= size
        if self._left == 0 and self._reads is _Reads.CONTENT:
            self._close("", _Reads.HEAD)
        elif self._left == 0 and self._reads is _Reads.DATA:
            self._reads = _Reads.CHUNK
        return True

    def _head(self) -> bool:
        while self._held[:2] == b"\r\n":  # RFC 9112, 2.2: to be passed over
            del self._held[:2]
        found = _ENDS.search(self._held)
        if found is None:
            if len(self._held) > _LONGEST_HEAD:
                self._close("", _Reads.NOTHING)
            return False
        head = bytes(self._held[: found.end()])
        del self._held[: found.end()]
        request, answer = _REQUEST.match(head), _ANSWER.match(head)
        fields = _fields(head)
        if request:
            self._request(_text(request[1]), _text(request[2]), fields)
        elif answer:
            self._answer(int(answer[1]), fields)
        else:
            self._close("", _Reads.NOTHING)
        return True

    def _request(self, method: str, target: str, fields: dict[bytes, list[bytes]]) -> None:
        self._asked.append((method, target))
        self._content(f"{method} {target}", fields, until_end=False)

    def _answer(self, status: int, fields: dict[bytes, list[bytes]]) -> None:
        if status == _SWITCHED:
            self._close("", _Reads.NOTHING)  # another protocol begins
            return
        if status < _OK:
            return  # an interim answer: the one that counts follows
        method, target = self._asked.popleft() if self._asked else ("", "")
        if method == "CONNECT" and status < _MULTIPLE:
            self._close("", _Reads.NOTHING)
        elif method != "HEAD" and status not in {_NO_CONTENT, _NOT_MODIFIED}:
            self._content(f"{method} {target} {status}".strip(), fields, until_end=True)

    def _content(self, asked: str, fields: dict[bytes, list[bytes]], *, until_end: bool) -> None:
        """Begin what follows the head (RFC 9112, 6.3)."""
        codings = b",".join(fields.get(b"transfer-encoding", [])).lower().replace(b" ", b"").split(b",")
        sizes = {each for value in fields.get(b"content-length", []) for each in value.replace(b" ", b"").split(b",")}
        if codings[-1] == b"chunked":
            self._reads = _Reads.CHUNK
        elif codings != [b""]:
            self._reads = _Reads.ALL if until_end else _Reads.NOTHING
        elif sizes:
            (size, *others) = sizes
            if others or not _SIZE.fullmatch(size):
                self._close("", _Reads.NOTHING)
                return
            self._left = int(size)
            self._reads = _Reads.CONTENT if self._left else _Reads.HEAD
        else:
            self._reads = _Reads.ALL if until_end else _Reads.HEAD
        if self._reads in {_Reads.HEAD, _Reads.NOTHING}:
            return
        kind, encoding = (_text(b",".join(fields.get(name, []))) for name in (b"content-type", b"content-encoding"))
        self._about = About(asked[:_TEXT], kind, encoding, self._packet, self._side)

    def _place(self) -> Body | None:
        """Where the content goes: what has no byte is no object."""
        if self._about:
            self._body, self._about = self._bodies.begin(self._about), None
        return self._body

    def _chunk(self) -> bool:
        if self._held[:2] == b"\r\n":  # which ends the chunk before
            del self._held[:2]
        found = _CHUNK.match(self._held)
        if found is None:
            if len(self._held) > _LONGEST_LINE or b"\n" in self._held:
                self._close("what should be a chunk's size is none", _Reads.NOTHING)
            return False
        self._left = int(found[1], 16)
        del self._held[: found.end()]
        self._reads = _Reads.DATA if self._left else _Reads.TRAILER
        return True

    def _trailer(self) -> bool:
        line, found, _ = self._held.partition(b"\n")
        if not found:
            if len(self._held) > _LONGEST_HEAD:
                self._close("", _Reads.NOTHING)
            return False
        del self._held[: len(line) + 1]
        if not line.strip():
            self._close("", _Reads.HEAD)
        return True


def _fields(head: bytes) -> dict[bytes, list[bytes]]:
    """Values by their names in small letters; a line that begins with a space goes on with the one before (5.2)."""
    found: dict[bytes, list[bytes]] = {}
    values: list[bytes] = []
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if line[:1] in {b" ", b"\t"} and values:
            values[-1] += b" " + line.strip()
        elif colon:
            values = found.setdefault(name.lower(), [])
            values.append(value.strip())
    return found


def _text(raw: bytes) -> str:
    return visible(raw.decode("utf-8", "replace"))[:_TEXT]
