"""Blocks of code are counted out of QEMU's log, and what else QEMU says is left as it is."""

from __future__ import annotations

import pytest

from rawtap.guest import block_log
from rawtap.guest.block_log import BlockLog

# As QEMU 7.2 wrote them: riscv64, aarch64, arm, x86_64, and a guest without symbols.
LOG = b"""Trace 0: 0x7f0a4c000100 [0000000000000000/0000000080000132/00209003/ff000200] get
Trace 0: 0x7f68f0000100 [0000000000004000/0000000040080a10/00000021/ff000200] poll_card
virtio-net receive queue contains no in buffers
Trace 1: 0x7f1d24000100 [00000400/40010a10/00000120/ff000200] say
Trace 0: 0x7ff3e8000100 [0000000000000000/0000000000100965/0040c0b0/ff000200] put
Stopped execution of TB chain before 0x7ff3e8000100 [0000000000100965] put
cpu_io_recompile: rewound execution of TB to 0000000000100968
CPU Reset (CPU 0)
Trace 0: 0x7f0a4c000100 [0000000000000000/0000000080000132/00209003/ff000200] get
Trace 0: 0x7f0a4c000200 [00000000/0000fff0/00000040/ff000200] \n"""
WORDS = b"virtio-net receive queue contains no in buffers\nCPU Reset (CPU 0)\n"
COUNTS = {0x80000132: 2, 0x40080A10: 1, 0x40010A10: 1, 0xFFF0: 1}


def begun() -> tuple[BlockLog, list[str]]:
    log, ends = BlockLog(), list[str]()
    log.begin(lambda: ends.append(log.why_ended))
    return log, ends


@pytest.mark.parametrize("size", [1, 7, 80, 4096])
def test_blocks_are_counted_wherever_a_read_ends(size: int) -> None:
    log, ends = begun()
    words = b"".join(log.taken(LOG[at : at + size]) for at in range(0, len(LOG), size))
    assert words + log.taken(b"") == WORDS
    counts, _ = log.turn()
    assert counts == COUNTS
    assert list(counts) == list(COUNTS)
    assert log.turn()[0] == {}
    assert ends == []


def test_what_is_on_its_way_at_the_end_is_dropped() -> None:
    log, _ = begun()
    log.end()
    assert log.taken(LOG) == WORDS
    assert log.turn()[0] == {}


def test_a_line_that_is_cut_off_is_kept_as_it_is() -> None:
    log, _ = begun()
    assert log.taken(b"qemu-system-riscv64: terminating on signal 15") == b""
    assert log.taken(b"") == b"qemu-system-riscv64: terminating on signal 15"
    endless = b"x" * 100_000
    assert log.taken(endless) == endless


def test_a_flood_of_different_blocks_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_log, "MOST_BLOCKS", 100)
    log, ends = begun()
    line = b"Trace 0: 0x7f0a4c000100 [00000000/%016x/00000000/ff200001] \n"
    for at in range(1000):
        assert log.taken(line % at) == b""
    assert ends == ["more than 100 different blocks ran since the last call"]
    assert len(log.turn()[0]) == 101
    log.begin(lambda: None)
    log.taken(line % 1)
    assert (log.turn()[0], log.why_ended) == ({1: 1}, "")


def test_nobody_looks_and_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_log, "MOST_SECONDS", 0.0)
    log, ends = begun()
    log.taken(LOG)
    assert ends == ["nobody asked for 0 s"]
    assert not log.is_on
