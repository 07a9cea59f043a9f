"""A guest's memory, read by gdb while the guest stands."""

from __future__ import annotations

from rawtap.debug.gdb import Gdb
from rawtap.debug.records import rows_at, text_at
from rawtap.errors import DebugRefused


async def read(gdb: Gdb, address: int, count: int) -> bytes:
    """What is in memory there, up to what cannot be read."""
    try:
        answer = await gdb.command("data-read-memory-bytes", "--", f"{address:#x}", str(count))
    except DebugRefused:
        return b""
    blocks = rows_at(answer.results, "memory")
    is_there = bool(blocks) and int(text_at(blocks[0], "offset"), 16) == 0
    return bytes.fromhex(text_at(blocks[0], "contents")) if is_there else b""
