"""Typing on a console: a line is typed, looked for in the echo, and only then ended by Enter.

Theory of operation. A UART, a driver or a line editor may take less than is typed, and a line that is cut short is
another command. So where a prompt stands the echo is waited for before Enter. Where characters are missing the line is
taken back by Ctrl-C and typed once more, a few characters at a time, each awaited. A guest that gives no echo at all is
known after its first line, and is typed to as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio

from rawtap.guest.console import Console
from rawtap.guest.echo import Echo, came_back, echo_of, has_all, is_scrolled

_PATIENCE = 1.0  # seconds without more of the echo
_TAKING_SECONDS = 1.5
_STEP = 8  # bytes at a time when it is typed slowly
_SLOW_SECONDS = 10.0
_QUICK_SECONDS = 0.5  # a call of less time than that has none for an echo
INTERRUPT = b"\x03"
_BELL = b"\x07"


@dataclass(frozen=True, slots=True)
class Typed:
    """How a line was typed: where its echo ends, and what was wrong with it, in words; then no Enter was typed."""

    echo_end: int
    wrong: str = ""


class Typist:
    """Types on one console. `echoes` is whether the guest gives back what is typed; None until that is known."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.echoes: bool | None = None

    async def line(self, text: bytes, enter: bytes, timeout: float) -> Typed:
        """Type a line at a prompt, and Enter where all of it came back.

        Raises:
            TimeoutError: The guest does not take it.
            ConnectionError: The guest is gone.
        """
        start = self._console.history.end
        if self.echoes is False or timeout < _QUICK_SECONDS or not text:
            await self._write(text + enter)
            return Typed(start)
        await self._write(text)
        try:
            echo = await self._echo(start, text, min(_PATIENCE, timeout / 2))
        except asyncio.CancelledError:  # half a line would be the beginning of the next one
            await self._write(enter)
            raise
        if self._console.history.end == start:
            self.echoes = False
        elif not self._is_there(start, text):
            start, echo, wrong = await self._again(start, text, echo, min(timeout, _SLOW_SECONDS))
            if wrong:
                return Typed(start, wrong)
        if echo.whole:
            self.echoes = True
        await self._write(enter)
        return Typed(start + echo.end if echo.whole else start)

    async def as_it_is(self, data: bytes) -> None:
        """Type bytes into whatever reads them. Raises as `line`."""
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        # What a guest takes at all it takes at once.
        with anyio.CancelScope(shield=True):
            async with asyncio.timeout(_TAKING_SECONDS):
                await self._console.write(data)

    async def _echo(self, start: int, text: bytes, patience: float) -> Echo:
        """Its echo, once it is whole, strange, or does not grow for `patience` seconds."""
        history = self._console.history
        began = asyncio.get_running_loop().time()

        def judge(quiet: float) -> Echo | float | None:
            echo = echo_of(history.since(start), text)
            left = patience - min(quiet, asyncio.get_running_loop().time() - began)
            return echo if self._is_there(start, text) or left <= 0 else left

        return await self._console.race(judge, _SLOW_SECONDS) or echo_of(history.since(start), text)

    async def _again(self, start: int, text: bytes, echo: Echo, timeout: float) -> tuple[int, Echo, str]:
        """Take the line back; type it slowly, unless the line editor said that it is full."""
        is_full = _BELL in self._console.history.since(start)
        short = self._short(start, text)
        if not await self._take_back():
            return start, echo, f"{short}; Enter was not typed, and the line stands there still"
        if is_full:
            return start, echo, f"{short}: its line editor takes no more; nothing was run"
        start = self._console.history.end
        try:
            async with asyncio.timeout(timeout):
                for at in range(0, len(text), _STEP):
                    await self._write(text[at : at + _STEP])
                    echo = await self._echo(start, text[: at + _STEP], _PATIENCE)
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
        output = self._console.history.since(start)
        return echo_of(output, text).whole or has_all(output, text) or is_scrolled(output, text)

    def _short(self, start: int, text: bytes) -> str:
        count = came_back(self._console.history.since(start), text)
        return f"{count} of {len(text)} characters were echoed"

    async def _take_back(self) -> bool:
        """Whether Ctrl-C was answered by a new line."""
        before = self._console.history.end
        await self._write(INTERRUPT)

        def judge(quiet: float) -> bool | float | None:
            behind = self._console.history.since(before)
            if b"\n" not in behind and b"\r" not in behind:
                return None
            left = 0.1 - quiet
            return left if left > 0 else True

        return bool(await self._console.race(judge, _PATIENCE))
