"""What a conversation carried as a whole: HTTP's contents and TFTP's files, byte by byte, with gaps and lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rawtap.packets.conversation import End, Piece
from rawtap.packets.objects.body import About
from rawtap.packets.objects.http import HttpObjects
from rawtap.packets.objects.tftp import Datagram, TftpObjects

CLIENT, SERVER, ANSWERS = End(b"\x0a\0\2\x0f", 4000), End(b"\x0a\0\2\2", 69), End(b"\x0a\0\2\2", 3333)


@dataclass
class Kept:
    """An object; `lacks` is None until it ended."""

    about: About
    data: bytes = b""
    lacks: str | None = None

    def add(self, data: bytes) -> None:
        self.data += data

    def skip(self, size: int) -> None:
        self.data += b"?" * size

    def end(self, lacks: str) -> None:
        assert self.lacks is None
        self.lacks = lacks


@dataclass
class Shelf:
    kept: list[Kept] = field(default_factory=list)

    def begin(self, about: About) -> Kept:
        self.kept.append(Kept(about))
        return self.kept[-1]


def web(*pieces: tuple[int, bytes | int], ended: Sequence[int] = (0, 1)) -> list[tuple[str, bytes, str | None]]:
    """The objects of what each side said, and `ended`; a number is a gap of so many bytes."""
    shelf = Shelf()
    objects = HttpObjects(shelf)
    for number, (side, said) in enumerate(pieces, 1):
        objects.add(Piece(side, number, 0, b"", said) if isinstance(said, int) else Piece(side, number, 0, said))
    objects.end(ended)
    return [(each.about.asked, each.data, each.lacks) for each in shelf.kept]


def request(target: bytes = b"/a", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def answer(*fields: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(each + b"\r\n" for each in fields) + b"\r\n"


SIZED = answer(b"Content-Length: 3") + b"abc"
CHUNKED = answer(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0002;x=1\r\nde\r\n0\r\nAfter: all\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        (((0, request()), (1, SIZED)), [("GET /a 200", b"abc", "")]),
        (((0, request()), (1, CHUNKED)), [("GET /a 200", b"abcde", "")]),
        (((0, request()), (1, answer() + b"until the end")), [("GET /a 200", b"until the end", "")]),
        (
            ((0, request() + request(b"/b")), (1, CHUNKED + SIZED)),
            [("GET /a 200", b"abcde", ""), ("GET /b 200", b"abc", "")],
        ),
        (
            ((0, request(b"/h", b"HEAD") + request()), (1, answer(b"Content-Length: 9") + SIZED)),
            [("GET /a 200", b"abc", "")],
        ),
        (
            ((0, request() + request()), (1, answer(b"Content-Length: 9", status=b"304 Not Modified") + SIZED)),
            [("GET /a 200", b"abc", "")],
        ),
        (((0, request()), (1, answer(status=b"100 Continue") + SIZED)), [("GET /a 200", b"abc", "")]),
        (
            ((0, b"POST /p HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"), (1, SIZED)),
            [("POST /p", b"hi", ""), ("POST /p 200", b"abc", "")],
        ),
        (((1, SIZED),), [("200", b"abc", "")]),
        (((1, answer(b"Transfer-Encoding:", b" chunked") + b"1\r\nx\r\n0\r\n\r\n"),), [("200", b"x", "")]),
        (((0, request()), (1, answer(b"Content-Length: 0"))), []),
        (((0, request(b"x:25", b"CONNECT")), (1, answer() + b"220 mail")), []),
        (((0, request()), (1, answer(status=b"101 Switching Protocols") + b"\x81\x05hello")), []),
        (((0, request()), (1, answer(b"Content-Length: 3", b"Content-Length: 4") + b"abcd")), []),
        (((0, request()), (1, answer(b"Content-Length: -3") + b"abc")), []),
        (((0, b"\x16\x03\x01 no HTTP"), (1, b"nothing")), []),
    ],
    ids=[
        "length",
        "chunks",
        "until the end",
        "pipelined",
        "HEAD",
        "not modified",
        "interim",
        "request",
        "no request",
        "folded",
        "empty",
        "tunnel",
        "switched",
        "two lengths",
        "negative",
        "another protocol",
    ],
)
def test_a_content_is_taken_out_however_it_is_framed(
    pieces: Sequence[tuple[int, bytes | int]], found: list[tuple[str, bytes, str]]
) -> None:
    assert web(*pieces) == found


def test_a_message_is_read_on_byte_by_byte_once_it_began() -> None:
    shelf = Shelf()
    objects = HttpObjects(shelf)
    for side, said in ((0, request()), (1, CHUNKED + SIZED)):
        head = said.index(b"\n") + 1
        objects.add(Piece(side, 1, 0, said[:head]))
        for each in said[head:]:
            objects.add(Piece(side, 2, 0, bytes([each])))
    objects.end((0, 1))
    assert [(each.data, each.lacks) for each in shelf.kept] == [(b"abcde", ""), (b"abc", "")]


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        (((1, answer(b"Content-Length: 6") + b"ab"), (1, 2), (1, b"ef")), [("200", b"ab??ef", "")]),
        (((1, answer(b"Content-Length: 4") + b"ab"), (1, 2), (1, SIZED)), [("200", b"ab??", ""), ("200", b"abc", "")]),
        (((1, answer() + b"ab"), (1, 1), (1, b"c")), [("200", b"ab?c", "")]),
        (
            ((1, answer(b"Content-Length: 4") + b"ab"), (1, 9), (1, b"rest"), (1, SIZED)),
            [("200", b"ab", "its end is not in the capture"), ("200", b"abc", "")],
        ),
        (
            ((1, answer(b"Transfer-Encoding: chunked") + b"4\r\nab"), (1, 4), (1, b"cd")),
            [("200", b"ab", "its end is not in the capture")],
        ),
        (((1, answer(b"Content-Length: 4") + b"ab"),), [("200", b"ab", "the conversation ends in it")]),
        (
            ((1, answer(b"Transfer-Encoding: chunked") + b"2\r\nab\r\nzz\r\n"),),
            [("200", b"ab", "what should be a chunk's size is none")],
        ),
    ],
    ids=["in it", "at its end", "until the end", "over its end", "in chunks", "cut", "no chunk"],
)
def test_what_is_not_whole_says_so(
    pieces: Sequence[tuple[int, bytes | int]], found: list[tuple[str, bytes, str]]
) -> None:
    assert web(*pieces) == found


def test_what_ends_with_its_connection_is_whole_only_where_that_end_is_in_the_capture() -> None:
    assert web((1, answer() + b"ab"), ended=(0,)) == [("200", b"ab", "its end is not in the capture")]
    assert web((1, SIZED), ended=()) == [("200", b"abc", "")]


def sent(*datagrams: tuple[End, End, bytes], cut: int | None = None) -> list[tuple[str, bytes, str | None, int]]:
    shelf = Shelf()
    objects = TftpObjects(shelf, {CLIENT})
    for number, (source, destination, data) in enumerate(datagrams, 1):
        objects.add(Datagram(number, source, destination, data[:cut], len(data)))
    objects.end()
    return [(each.about.asked, each.data, each.lacks, each.about.side) for each in shelf.kept]


def asks(operation: int = 1, name: bytes = b"a.img") -> tuple[End, End, bytes]:
    return CLIENT, SERVER, bytes([0, operation]) + name + b"\0octet\0"


def block(number: int, data: bytes) -> tuple[End, End, bytes]:
    return ANSWERS, CLIENT, b"\0\3" + number.to_bytes(2, "big") + data


FULL = b"x" * 512


@pytest.mark.parametrize(
    ("datagrams", "found"),
    [
        ((asks(), block(1, FULL), block(2, b"end")), [("RRQ a.img", FULL + b"end", "", 1)]),
        ((asks(), asks(), block(1, FULL), block(1, FULL), block(2, b"")), [("RRQ a.img", FULL, "", 1)]),
        ((asks(), block(2, b"end"), block(1, FULL)), [("RRQ a.img", FULL + b"end", "", 1)]),
        ((asks(), block(1, FULL)), [("RRQ a.img", FULL, "its last block is not in the capture", 1)]),
        (
            (asks(), block(1, FULL), (ANSWERS, CLIENT, b"\0\5\0\0no\0")),
            [("RRQ a.img", FULL, "an error ends it", 1)],
        ),
        (
            (asks(), (ANSWERS, CLIENT, b"\0\6blksize\x008\0"), block(1, b"12345678"), block(2, b"9")),
            [("RRQ a.img", b"123456789", "", 1)],
        ),
        (
            (asks(2), (ANSWERS, CLIENT, b"\0\4\0\0"), (CLIENT, ANSWERS, b"\0\3\0\1up")),
            [("WRQ a.img", b"up", "", 0)],
        ),
        (
            (asks(), block(1, b"one"), asks(name=b"b"), block(1, b"two")),
            [("RRQ a.img", b"one", "", 1), ("RRQ b", b"two", "", 1)],
        ),
        (((End(b"\x0a\0\2\x10", 1), SERVER, b"\0\1other\0octet\0"), block(1, b"x")), []),
        ((block(1, b"nobody asked"),), []),
    ],
    ids=["read", "again", "overtaken", "broken off", "error", "options", "write", "two", "another client", "unasked"],
)
def test_a_file_is_put_together_from_its_blocks(
    datagrams: Sequence[tuple[End, End, bytes]], found: list[tuple[str, bytes, str, int]]
) -> None:
    assert sent(*datagrams) == found


def test_a_block_that_was_cut_ends_no_file() -> None:
    assert sent(asks(), block(1, FULL), cut=100) == []


def test_blocks_are_counted_beyond_their_last_number() -> None:
    blocks = [block(number % 65536, b"12345678") for number in range(1, 65540)]
    ((_, data, lacks, _),) = sent(asks(), (ANSWERS, CLIENT, b"\0\6blksize\x008\0"), *blocks, block(65540 % 65536, b""))
    assert (len(data), lacks) == (65539 * 8, "")


def test_blocks_that_are_all_said_again_are_no_later_ones() -> None:
    blocks = [block(number, b"12345678") for number in range(1, 101)]
    options = (ANSWERS, CLIENT, b"\0\6blksize\x008\0")
    ((_, data, lacks, _),) = sent(asks(), options, *blocks, *blocks, block(101, b"end"))
    assert (data, lacks) == (b"12345678" * 100 + b"end", "")
