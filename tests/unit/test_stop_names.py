"""The names of a stop are told where its code is in memory, and left out where it is not."""

from __future__ import annotations

import random
from dataclasses import replace

import anyio

from rawtap.debug.code import Code, Piece
from rawtap.debug.names import Names
from rawtap.debug.stops import Place, Stop

BASE = 0x80000000
CODE = random.Random(7).randbytes(4096)
STOP = Stop("breakpoint 1", Place(f"{BASE + 300:#x}", "add", "guest.c", "7"), ("a=1",), "1", returned="2")
AGAIN = replace(STOP, why="breakpoint 2")


def names() -> Names:
    return Names(Code([Piece("kernel.elf", BASE, CODE)]))


def verified(known: Names, stop: Stop, data: bytes) -> Stop:
    async def read(address: int, count: int) -> bytes:
        return data[address - BASE : address - BASE + count]

    return anyio.run(known.verified, stop, read)


def test_names_that_are_right_are_told_as_they_are() -> None:
    known = names()
    assert known.sure(STOP) is STOP
    assert verified(known, STOP, CODE) is STOP
    assert known.sure(AGAIN) is AGAIN


def test_names_of_other_code_are_left_out_and_doubted_until_they_are_right_again() -> None:
    known = names()
    told = verified(known, STOP, bytes(4096))
    assert told == Stop("breakpoint 1", Place(f"{BASE + 300:#x}"), (), "1", unlike=told.unlike)
    assert "other code than in kernel.elf" in told.unlike
    assert verified(known, told, bytes(4096)) is told
    assert known.sure(told) is told
    assert str(known.sure(AGAIN)) == f"{BASE + 300:#x}: breakpoint 2"
    right = verified(known, AGAIN, CODE)
    assert right == AGAIN
    assert right is not AGAIN  # it was told without its names, and is to be told anew
    assert known.sure(right) is right
    assert known.sure(STOP) is STOP


def test_what_cannot_be_compared_keeps_its_names() -> None:
    for stop in (STOP, replace(STOP, place=replace(STOP.place, address="<unavailable>"))):
        assert verified(names(), stop, b"") is stop
        assert verified(Names(), stop, CODE) is stop


def test_a_name_of_data_is_none_of_code() -> None:
    """A processor that was reset is at an address where a Linux has the data of each processor."""
    piece = Piece("vmlinux", BASE, CODE)
    at_reset = replace(STOP, place=Place("0xfff0", "exception_stacks"))
    told = verified(Names(Code([piece], is_whole=True)), at_reset, CODE)
    assert (told.place, told.unlike) == (Place("0xfff0"), "")
    assert verified(Names(Code([piece])), at_reset, CODE) is at_reset  # of another file, which was not read
    extended = replace(STOP, place=Place(f"{0xFFFFFFFF00000000 + BASE + 300:#x}", "add"))
    assert verified(Names(Code([piece], is_whole=True)), extended, CODE) is extended
