"""QEMU's gdb stub without a gdb: to let a guest go that a debugger left standing.

QEMU stops a guest when a debugger connects, and when one is gone its breakpoints stay, and so does a guest that stands
(qemu/gdbstub.c). The packet "?" has it forget all breakpoints, "D" lets the guest go on (gdb's manual, "Packets"): its
process 1, which all processors are but on machines of several clusters, and which it wants named by whom it takes for
the gdb before.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

_SECONDS = 5.0


async def let_go(path: Path) -> bool:
    """Let the guest behind that socket run without breakpoints; False: it may stand there, with them.

    One that has ended does neither.
    """
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(_SECONDS):
            try:
                reader, writer = await asyncio.open_unix_connection(path)
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            try:
                await _ask(reader, writer, b"?")
                return await _ask(reader, writer, b"D;1") == b"OK"
            finally:
                writer.close()
    return False


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packet: bytes) -> bytes:
    """Send a packet; what is in the answer's."""
    writer.write(b"$%b#%02x" % (packet, sum(packet) & 0xFF))
    await writer.drain()
    await reader.readuntil(b"$")
    answer = (await reader.readuntil(b"#"))[:-1]
    await reader.readexactly(2)
    writer.write(b"+")
    return answer
