"""What a TLS conversation says, by the secrets that the operator gave: decrypted by tshark, in a process of its own.

Theory of operation. tshark reads what anybody may have sent. Its process has no capability, no file but the system's
and that of the secrets (Landlock), its packets as memory, and a home that does not exist: no configuration, no plug-in.
Memory and processor time are bounded by the kernel, its time and answer here.
"""

from __future__ import annotations

import os
from pathlib import Path

from anyio.to_thread import run_sync as to_thread

from rawtap.ask import aside
from rawtap.blocking import on_disk
from rawtap.host import programs
from rawtap.host.landlock import Access
from rawtap.packets.conversation import Piece
from rawtap.packets.decrypted import MOST_BYTES, Copy

_BOUNDS = aside.Bounds(seconds=20.0, answer=2 * MOST_BYTES, memory_mib=1536)  # the answer has it in base64


async def decrypted(copy: Copy, keys: Path) -> tuple[list[Piece], str]:
    """What the packets of `copy` say, and "", or why there is nothing to be had."""
    program = programs.find("tshark")
    if program is None:
        return [], "TLS is not decrypted: tshark is not installed (Debian's package tshark)"
    if copy.is_full:
        return [], f"TLS is not decrypted: the conversation has more than {MOST_BYTES >> 20} MiB"
    if why := await on_disk(keys, _unreadable, keys):
        return [], f"TLS is not decrypted: {keys} cannot be read: {why}"
    found, lack = await _asked(program, copy, await on_disk(keys, _resolved, keys))
    if lack:
        return [], f"TLS is not decrypted: {lack}"
    pieces = [piece for piece in copy.pieces(found) if piece.data]
    return pieces, "" if pieces else f"TLS is not decrypted: no secret in {keys} is of this conversation"


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _unreadable(keys: Path) -> str:
    try:
        os.close(os.open(keys, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _asked(program: str, copy: Copy, keys: Path) -> tuple[bytes, str]:
    """tshark's answer, or what is wrong with it."""
    async with aside.turn("tshark"):
        ended = await aside.run(
            [program, "-n", "-r", "-", "-o", f"tls.keylog_file:{keys}", "-q", "-z", "follow,tls,yaml,0"],
            Access(programs=(Path(program),), read=(keys,)),
            await to_thread(copy.file),
            _BOUNDS,
            environment=aside.IMPERSONAL,
        )
    if ended.is_late:
        return b"", f"tshark did not answer in {_BOUNDS.seconds:g} s"
    if ended.code or len(ended.output) >= _BOUNDS.answer:
        return b"", f"tshark ended without a whole answer: {ended.how}: {ended.complaint[-300:]}"
    return ended.output, ""
