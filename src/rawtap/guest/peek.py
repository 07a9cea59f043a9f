"""A guest's memory as its processor sees it, by QEMU's monitor for people: it needs no debugger, and the guest may run.

The monitor's command `x` (qemu/monitor/hmp-cmds-target.c) has eight bytes on a line, `0000000080200000: 0x97 0x02 ...`,
and ends with words at what cannot be read.
"""

from __future__ import annotations

import re

from rawtap.errors import GuestExited, GuestFailed, GuestNotRunning
from rawtap.guest.machine import Machine

_LINE = re.compile(r"[0-9a-f]+:((?: 0x[0-9a-f]{2})+)\s*")


async def peek(machine: Machine, address: int, count: int) -> bytes:
    """What is in memory there, up to what cannot be read; nothing of a guest that has ended."""
    try:
        line = f"x /{count}xb {address:#x}"
        return bytes_of(str(await machine.execute("human-monitor-command", {"command-line": line})))
    except (GuestExited, GuestFailed, GuestNotRunning):
        return b""


def bytes_of(text: str) -> bytes:
    """The bytes in what the monitor says."""
    found = bytearray()
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            break
        found += bytes.fromhex(match[1].replace("0x", ""))
    return bytes(found)
