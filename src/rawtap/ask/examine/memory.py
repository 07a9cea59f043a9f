"""Memory that frames take of a guest and that does not come back, where its console tells how much is free.

A kernel keeps some memory that it took once, for what comes next: that is no loss. So the same frames are sent once and
three times as many, each from the snapshot and with a pause behind: what is lost for each of them grows with them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rawtap.examine.mutations import Case

Console = Callable[[str], Awaitable[str | None]]
"""What a command prints; None where its end did not come."""

LEAST = 256 << 10  # bytes; what the console's own commands take varies by less
_TIMES = 3
_ALIKE = (2, 4)  # times as much is proportional
_NUMBER = re.compile(r"(?<![\w.])(\d+)(?:[ \t]*([kKmM])i?[bB]?)?\b")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def free_in(output: str, command: str) -> int | None:
    """Bytes: the first number behind the echo of the command, with its unit; None where there is none."""
    lines = output.splitlines()
    echoed = next((number for number, line in enumerate(lines) if command in line), -1)
    found = _NUMBER.search("\n".join(lines[echoed + 1 :]))
    return int(found[1]) * _UNITS[(found[2] or "").lower()] if found else None


@dataclass(frozen=True)
class Loss:
    """What did not come back, in bytes: of these frames, and of three times as many."""

    frames: Case
    once: int
    thrice: int

    @property
    def each(self) -> int:
        """Bytes for each frame."""
        return self.thrice // (_TIMES * len(self.frames))

    def __str__(self) -> str:
        size = len(self.frames)
        return (
            f"free memory does not come back: {self.once} bytes less after {size} frames and a pause, {self.thrice} "
            f"after {_TIMES} times as many"
        )


@dataclass
class Meter:
    """Asks a guest how much of its memory is free; `trouble` says why it was not told."""

    command: str
    console: Console
    trouble: str = ""

    async def free(self) -> int | None:
        """Bytes; None where it is not told, which is asked once."""
        if self.trouble:
            return None
        output = await self.console(self.command)
        found = None if output is None else free_in(output, self.command)
        if found is None:
            why = "its end did not come" if output is None else "it printed no number"
            self.trouble = f"free memory was not looked at: the console was given {self.command!r}, and {why}"
        return found

    async def loss(
        self, frames: Case, begin: Callable[[], Awaitable[None]], send: Callable[[Case], Awaitable[bool]]
    ) -> Loss | None:
        """What frames take for good; None if that is little, or does not grow with them.

        `begin` puts the guest back; `send` sends frames and waits a while, False if the guest died of them.
        """
        lost = []
        for times in (1, _TIMES):
            await begin()
            before = await self.free()
            after = await self.free() if await send(frames * times) else None
            if before is None or after is None:
                return None
            lost.append(before - after)
        once, thrice = lost
        is_lost = once >= LEAST and _ALIKE[0] * once <= thrice <= _ALIKE[1] * once
        return Loss(frames, once, thrice) if is_lost else None
