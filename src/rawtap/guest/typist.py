"""Typing on a console: a line is typed, looked for in the echo, and only then ended by Enter.

Theory of operation. A UART, a driver or a line editor may take less than is typed, and a line that is cut short is
another command. So where a prompt stands the echo is waited for before Enter. Where characters are missing the line is
taken back by Ctrl-C and typed once more, a character at a time, each awaited. A guest that gives no echo at all is
known after its first line, and is typed to as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio

from rawtap.guest.console import Console
from rawtap.guest.echo import Echo, came_back, echo_in, has_all
from rawtap.guest.prompts import LONGEST, last_line

_PATIENCE = 1.0  # seconds without more of the echo
_SCROLLS = 3.0  # ... where all is well so far: a firmware's screen takes long to scroll
_PAUSE = 0.02
_MIXED = 0.15  # of silence, before an echo with other output in it is believed: it may be drawn anew
_TAKING_SECONDS = 1.5
_STEP = 1  # byte at a time when it is typed slowly: a UART without a queue holds no more
_SLOW_SECONDS = 10.0  # or half of what the call may take, where that is more
_QUICK_SECONDS = 0.5  # a call of less time than that has none for an echo
INTERRUPT = b"\x03"
_BELL = b"\x07"


@dataclass(frozen=True, slots=True)
class Typed:
    """How a line was typed: where its echo is, and what was wrong with it, in words; then no Enter was typed."""

    echo_start: int
    echo_end: int
    wrong: str = ""


class Typist:
    """Types on one console.

    Attributes:
        echoes: Whether the guest gives back what is typed; None until that is known.
        interrupted: Whether a line was taken back since this was looked at last: a shell's `$?` is 130 then.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._prompt = b""
        self.echoes: bool | None = None
        self.interrupted = False

    async def line(self, text: bytes, enter: bytes, timeout: float) -> Typed:
        """Type a line at a prompt, and Enter where all of it came back.

        Raises:
            TimeoutError: The guest does not take it.
            ConnectionError: The guest is gone.
        """
        start = self._console.history.end
        if self.echoes is False or timeout < _QUICK_SECONDS or not text:
            await self._write(text + enter)
            return Typed(start, start)
        self._prompt = last_line(self._console.history.tail(LONGEST))
        await self._write(text)
        try:
            echo = await self._first_echo(start, text, timeout)
        except asyncio.CancelledError:  # half a line would be the beginning of the next one
            await self._write(enter)
            raise
        if self._console.history.end == start and not self.echoes:
            self.echoes = False
        elif not self._is_there(start, text):
            start, echo, wrong = await self._again(start, text, echo, min(timeout, max(_SLOW_SECONDS, timeout / 2)))
            if wrong:
                return Typed(start, start, wrong)
        if echo.whole:
            self.echoes = True
        await self._write(enter)
        return Typed(start + echo.start, start + echo.end) if echo.whole else Typed(start, start)

    async def _first_echo(self, start: int, text: bytes, timeout: float) -> Echo:
        """A guest that has given an echo before, and gives none, does something else: its prompt was none."""
        echo = await self._echo(start, text, min(_PATIENCE, timeout / 2), timeout / 2)
        if self.echoes and not echo.count and not self._is_there(start, text):
            echo = await self._echo(start, text, min(_SLOW_SECONDS, timeout / 2), timeout / 2)
        return echo

    async def as_it_is(self, data: bytes) -> None:
        """Type bytes into whatever reads them. Raises as `line`."""
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        # What a guest takes at all it takes at once.
        with anyio.CancelScope(shield=True):
            async with asyncio.timeout(_TAKING_SECONDS):
                await self._console.write(data)

    async def _echo(self, start: int, text: bytes, patience: float, at_most: float) -> Echo:
        """Its echo, once it is whole, or does not grow for `patience` seconds."""
        history = self._console.history
        began = asyncio.get_running_loop().time()

        def judge(quiet: float) -> Echo | float | None:
            if self._console.halted:
                return self._seen(start, text)
            stood = min(quiet, asyncio.get_running_loop().time() - began)
            if history.end - start < len(text) and stood < _PAUSE:  # a line that is scrolled shows less than was typed
                return _PAUSE - stood
            left = patience - stood
            if (echo := self._seen(start, text)).whole or (stood >= _MIXED and self._is_there(start, text)):
                return echo
            if left <= 0 and stood < _SCROLLS and self._grows(start, text):
                left = _SCROLLS - stood
            return echo if left <= 0 else left if stood >= _MIXED else min(left, _MIXED - stood)

        return await self._console.race(judge, at_most) or self._seen(start, text)

    def _grows(self, start: int, text: bytes) -> bool:
        """Whether all that came is the beginning of its echo."""
        echo = self._seen(start, text)
        return echo.count > 0 and not echo.strange and _BELL not in self._console.history.since(start)

    def _seen(self, start: int, text: bytes) -> Echo:
        return echo_in(self._console.history.since(start), text, self._prompt)

    async def _again(self, start: int, text: bytes, echo: Echo, timeout: float) -> tuple[int, Echo, str]:
        """Take the line back; type it slowly, unless the line editor said that it is full."""
        is_full = _BELL in self._console.history.since(start)
        short = self._short(start, text)
        if halted := self._console.halted:
            return start, echo, f"{halted}: {short}; Enter was not typed, and the line stands there still"
        if not await self._take_back():
            return start, echo, f"{short}; Enter was not typed, and the line stands there still"
        if is_full:
            return start, echo, f"{short}: its line editor takes no more; nothing was run"
        start = self._console.history.end
        try:
            async with asyncio.timeout(timeout):
                for at in range(0, len(text), _STEP):
                    await self._write(text[at : at + _STEP])
                    echo = await self._echo(start, text[: at + _STEP], _PATIENCE, timeout)
                    if not self._is_there(start, text[: at + _STEP]):
                        break
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await self._write(INTERRUPT)
            raise
        if self._is_there(start, text):
            return start, echo, ""
        short = self._short(start, text)
        cleared = await self._take_back()
        ended = "nothing was run" if cleared else "Enter was not typed, and the line stands there still"
        return start, echo, f"{short}, though it was typed slowly the second time; {ended}"

    def _is_there(self, start: int, text: bytes) -> bool:
        """Whether all of it came back, be it with a line of the kernel's in between."""
        return self._seen(start, text).whole or has_all(self._console.history.since(start), text)

    def _short(self, start: int, text: bytes) -> str:
        count = came_back(self._console.history.since(start), text)
        return f"{count} of {len(text)} characters were echoed"

    async def _take_back(self) -> bool:
        """Whether Ctrl-C was answered by a new line."""
        before = self._console.history.end
        self.interrupted = True
        await self._write(INTERRUPT)

        def judge(quiet: float) -> bool | float | None:
            behind = self._console.history.since(before)
            if b"\n" not in behind and b"\r" not in behind:
                return None
            left = 0.1 - quiet
            return left if left > 0 else True

        return bool(await self._console.race(judge, _PATIENCE))
