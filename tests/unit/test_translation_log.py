"""Blocks are taken out of QEMU's log of what it translates, and what else QEMU says is left as it is."""

from __future__ import annotations

import os
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as some

from rawtap.guest import translation_log
from rawtap.guest.block_log import BlockLog
from rawtap.guest.processor_log import Diagnostics
from rawtap.guest.translation_log import TranslationLog

X86 = b"""----------------
IN: take_udp
0x00401136:  80 3f 52                 cmpb     $0x52, (%rdi)
0x00401139:  75 05                    jne      0x401140

"""
RISCV = b"""----------------
IN: get
Priv: 3; Virt: 0
0x0000000080000132:  05200793          addi            a5,zero,82
0x0000000080000136:  00f51463          bne             a0,a5,8                 # 0x8000013e

"""
NAMELESS = b"""----------------
IN: \n0xffffffff81000000:  48 b8 11 22 33 44 55 66  movabsq  $0x8877665544332211, %rax
0xffffffff81000008:  77 88

"""
LOG = b"".join(
    [
        *(b"virtio-net receive queue contains no in buffers\n", X86, RISCV),
        *(b"----------------\nand so on\n", b"CPU Reset (CPU 0)\n\n", NAMELESS, X86),
    ]
)
WORDS = b"virtio-net receive queue contains no in buffers\n----------------\nand so on\nCPU Reset (CPU 0)\n\n"


def lines(record: bytes) -> bytes:
    """Those behind its first two."""
    return record.split(b"\n", 2)[2][:-1]


BLOCKS = {0x401136: lines(X86), 0x80000132: lines(RISCV), 0xFFFFFFFF81000000: lines(NAMELESS)}


def begun() -> tuple[TranslationLog, list[str]]:
    log, ends = TranslationLog(), list[str]()
    log.begin(lambda: ends.append(log.why_ended))
    return log, ends


@given(some.lists(some.integers(0, len(LOG)), max_size=30))
def test_blocks_are_told_wherever_a_read_ends(cuts: list[int]) -> None:
    log, ends = begun()
    places = sorted({0, len(LOG), *cuts})
    words = b"".join(log.taken(LOG[at:end]) for at, end in pairwise(places))
    assert words + log.taken(b"") == WORDS
    assert log.turn() == BLOCKS
    assert log.turn() == {}
    assert ends == []


def test_each_byte_by_itself_is_the_same() -> None:
    log, _ = begun()
    words = b"".join(log.taken(LOG[at : at + 1]) for at in range(len(LOG)))
    assert words + log.taken(b"") == WORDS
    assert log.turn() == BLOCKS


def test_what_is_on_its_way_at_the_end_is_dropped() -> None:
    log, _ = begun()
    log.taken(X86)
    log.end()
    assert log.taken(LOG) == WORDS
    assert log.turn() == {}


def test_what_is_no_record_is_kept_as_it_is() -> None:
    log, _ = begun()
    for text in (b"x" * 1_000_000, b"----------------\nIN: x\n" + b"0x1:  \n" * 100_000):
        assert log.taken(text) + log.taken(b"") == text
    assert log.taken(b"qemu: terminating on signal 15") + log.taken(b"") == b"qemu: terminating on signal 15"


def test_a_flood_of_different_blocks_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation_log, "MOST_BLOCKS", 100)
    log, ends = begun()
    record = b"----------------\nIN: \n0x%08x:  90  nop\n\n"
    for at in range(1000):
        assert log.taken(record % at) == b""
    assert ends == ["more than 100 different blocks ran between two looks"]
    assert not log.is_on
    assert log.turn() == {}


def test_both_logs_of_blocks_are_taken_out_of_what_qemu_writes() -> None:
    async def scenario() -> None:
        read, write = os.pipe()
        told = Diagnostics(os.fdopen(read, "rb", buffering=0))
        told.blocks, told.translations = BlockLog(), TranslationLog()
        told.blocks.begin(lambda: None)
        told.translations.begin(lambda: None)
        ran = b"Trace 0: 0x7f0a4c000100 [0000000000000000/0000000080000132/00209003/ff000200] get\n"
        os.write(write, X86 + ran + b"some word\n" + RISCV)
        told.drain()
        assert list(told.translations.turn()) == [0x401136, 0x80000132]
        assert told.blocks.turn()[0] == {0x80000132: 1}
        os.write(write, X86[:60])  # nothing whole
        told.drain()
        os.write(write, X86[60:] + b"half a")
        os.close(write)
        told.drain()
        assert told.ended.is_set()
        assert list(told.translations.turn()) == [0x401136]
        assert bytes(told.log.words) == b"some word\nhalf a\n"

    anyio.run(scenario)
