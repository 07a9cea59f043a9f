"""Blocks of code as QEMU translates them, out of its log (`-d in_asm`). Pure.

QEMU translates a block when a processor comes to it for the first time, and keeps what it made of it. So each is told
once, and runs as fast as ever from then on; until QEMU drops all of them, as it does where a snapshot is restored
(cpu_common_post_load, cpu.c of QEMU 7.2). A record (translator_loop, accel/tcg/translator.c) has a line for each
instruction, and ends with an empty one. What the lines before are depends on the processor:

    ----------------
    IN: take_udp
    Priv: 3; Virt: 0
    0x0000000080000132:  05200793          addi            a5,zero,82
    0x0000000080000136:  00f51463          bne             a0,a5,8                 # 0x8000013e

The first address is that of the block, as the guest's processor sees it. A record is written in one piece (under a lock
of its file), so that words of QEMU's own are in front of it or behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rawtap.guest.log_part import LogPart

MOST_BLOCKS = 100_000  # different ones between two looks: some 30 MB

_LONGEST = 1 << 18  # bytes of a record: a block has 512 instructions at most
_KEPT = 4096  # bytes of a record
_RULE = b"-" * 16 + b"\n"
_RECORD = re.compile(rb"^-{16}\nIN:.*\n((?:.+\n)*)\n", re.MULTILINE)
_ADDRESS = re.compile(rb"^0x([0-9a-f]+):", re.MULTILINE)


class TranslationLog(LogPart):
    """Keeps the records of blocks until somebody looks. It ends where there are too many."""

    items = ("in_asm",)

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[int, bytes] = {}

    def begin(self, on_end: Callable[[], None]) -> None:
        """Keep them from here on."""
        super().begin(on_end)
        self.turn()

    def end(self) -> None:
        """Keep none any more."""
        super().end()
        self.turn()

    def turn(self) -> dict[int, bytes]:
        """The blocks that were translated since the last turn, by their addresses: the lines of their instructions."""
        blocks, self._blocks = self._blocks, {}
        return blocks

    def taken(self, data: bytes) -> bytes:
        """What was written but for these, in whole lines; the rest of it for b"", which is the end."""
        whole, self._rest = self._rest + data, b""
        if not data:
            return whole
        cut = _begun(whole)
        if len(whole) - cut <= _LONGEST:
            whole, self._rest = whole[:cut], whole[cut:]
        if _RULE not in whole:
            return whole
        others = _RECORD.sub(self._noted, whole)
        if self.is_on and len(self._blocks) > MOST_BLOCKS:
            self._end_by_itself(f"more than {MOST_BLOCKS:,} different blocks ran between two looks")
        return others

    def _noted(self, record: re.Match[bytes]) -> bytes:
        """Keep a record, if they are kept; what is left of it, which is nothing."""
        if self.is_on and (address := _ADDRESS.search(record[1])):
            self._blocks.setdefault(int(address[1], 16), record[1][:_KEPT])
        return b""


def _begun(whole: bytes) -> int:
    """Where a record, or else a line, begins that is not whole yet."""
    cut = whole.rfind(b"\n") + 1
    at = whole.rfind(_RULE, 0, cut)
    if at < 0 or (at and whole[at - 1 : at] != b"\n"):
        return cut
    is_record = whole.startswith(b"IN:"[: cut - at - len(_RULE)], at + len(_RULE))
    return at if is_record and not _RECORD.match(whole, at) else cut
