"""The user's terminal as a guest's console, and given back as it was.

What the guest says goes to the terminal as it is, control sequences and all, as from any serial line: that is what a
console is for. The modes that it leaves behind are taken back at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from rawtap.guest.console import Console

LEAVE = b"\x1d"
"""Ctrl-], as in telnet(1)."""

_FOREVER = 1e9  # seconds
_PRIVATE_MODES = re.compile(rb"\x1b\[\?([0-9;]{1,40})([hl])")  # DECSET and DECRST (xterm's ctlseqs)
_LONGEST = 48  # bytes of such a sequence
_ON_BY_ITSELF = {7, 25}  # wrapping, the cursor


class Modes:
    """The private modes that a guest has changed, out of what it says. Pure."""

    def __init__(self) -> None:
        self._changed: dict[int, bool] = {}
        self._rest = b""

    def note(self, data: bytes) -> None:
        """Find what `data` changes; a sequence may have begun in what came before."""
        text = self._rest + data
        for found in _PRIVATE_MODES.finditer(text):
            for mode in filter(None, found[1].split(b";")):
                self._changed[int(mode)] = found[2] == b"h"
        start = text.rfind(b"\x1b", max(0, len(text) - _LONGEST))
        self._rest = text[start:] if start >= 0 and not _PRIVATE_MODES.match(text, start) else b""

    def undone(self) -> bytes:
        """What sets them back, and colours with them."""
        back = [
            b"\x1b[?%d%c" % (mode, b"h" if mode in _ON_BY_ITSELF else b"l")
            for mode, is_set in sorted(self._changed.items())
            if is_set != (mode in _ON_BY_ITSELF)
        ]
        return b"".join(back) + b"\x1b[0m"


class Terminal:
    """This process's terminal while it is a guest's."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self.modes = Modes()

    def show(self, data: bytes) -> None:
        """Write what the guest said; a terminal that is gone ends it."""
        self.modes.note(data)
        try:
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError:  # it was hung up
            self._leave()

    def readable(self) -> None:
        """Take what was typed."""
        try:
            data = os.read(sys.stdin.fileno(), 4096)
        except OSError:
            data = b""
        for_guest, key, _ = data.partition(LEAVE)
        self._typed.put_nowait(for_guest)
        if key or not data:
            self._leave()

    async def _type_into(self, console: Console) -> None:
        with contextlib.suppress(ConnectionError):  # the guest is gone, which its console tells
            while True:
                await console.write(await self._typed.get())

    async def be(self, console: Console, stopping: asyncio.Event) -> None:
        """Be that console's, until it ends, or `stopping` is set."""
        ends = [asyncio.ensure_future(console.wait(lambda: None, _FOREVER)), asyncio.ensure_future(stopping.wait())]
        typing = asyncio.ensure_future(self._type_into(console))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*ends, typing):
                each.cancel()
            await asyncio.wait((*ends, typing))


@contextlib.contextmanager
def attached(leave: Callable[[], None]) -> Iterator[Terminal]:
    """Have the terminal pass every key on, and its modes back at the end.

    `leave` is called for Ctrl-], and when the terminal is gone.
    """
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)
    terminal = Terminal(leave)
    try:
        tty.setraw(keyboard)
        now = termios.tcgetattr(keyboard)
        now[1] |= termios.OPOST  # a guest that ends lines by a line feed alone is read as well
        termios.tcsetattr(keyboard, termios.TCSADRAIN, now)
        loop.add_reader(keyboard, terminal.readable)
        yield terminal
    finally:
        loop.remove_reader(keyboard)
        with contextlib.suppress(OSError, termios.error):  # the terminal is gone
            os.write(sys.stdout.fileno(), terminal.modes.undone() + b"\r\n")
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
