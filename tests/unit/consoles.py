"""A console without QEMU: the host's end is the real one, and a test is the guest at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rawtap.guest.console import Console, Output
from rawtap.guest.jobs import Ask
from rawtap.guest.patterns import compiled
from rawtap.guest.profile import Profile
from rawtap.guest.talk import Talk

SOON = 60.0  # far more than anything here needs; a test that comes to it has failed


@dataclass
class Line:
    """Both ends of a serial line, and the conversation on it."""

    talk: Talk
    guest: socket.socket
    heard: bytearray = field(default_factory=bytearray)

    @property
    def console(self) -> Console:
        """The host's end."""
        return self.talk.console

    async def hears(self, text: bytes) -> None:
        """The guest has got all of `text`, and nothing else."""
        while len(self.heard) < len(text):
            self.heard += await asyncio.get_running_loop().sock_recv(self.guest, 4096)
        assert bytes(self.heard) == text
        self.heard.clear()

    async def takes_slowly(self, command: bytes) -> None:
        """The guest gets `command` byte by byte, each once the one before is echoed, and then Enter."""
        for each in command:
            await self.hears(bytes([each]))
            await self.says(bytes([each]))
        await self.hears(b"\n")

    async def says(self, data: bytes) -> None:
        """The guest prints `data`, and the console has read it."""
        await asyncio.get_running_loop().sock_sendall(self.guest, data)
        self.console.drain()
        # A turn of the loop, so that whoever else waits has looked at it too.
        await asyncio.sleep(0)

    async def at_prompt(self, prompt: bytes = b"rvos>") -> None:
        """The prompt stands there, and the host knows it."""
        await self.says(prompt)
        await self.talk.settle(SOON)
        assert self.talk.ready

    def sends(self, command: str, *wanted: str, timeout: float = SOON, enter: bool = True) -> asyncio.Task[Output]:
        """A call that types that."""
        ask = Ask(command, timeout, tuple(map(compiled, wanted)), enter)
        return asyncio.create_task(self.talk.send(ask))

    async def takes(self, command: bytes, enter: bytes = b"\n") -> None:
        """The guest gets a line, and gives it back as it is typed."""
        await self.hears(command)
        await self.says(command)
        await self.hears(enter)
        await self.says(b"\r\n")


def on_a_line(scenario: Callable[[Line], Awaitable[None]], **profile: Any) -> None:
    """Run that on a new line, with a guest of that profile; it has no shell unless the profile says so."""

    async def run() -> None:
        ours, guest = socket.socketpair()
        guest.setblocking(False)
        console = Console(ours)
        try:
            async with asyncio.timeout(2 * SOON):
                await scenario(Line(Talk(console, Profile(**({"prompt": "rvos>", "framing": False} | profile))), guest))
        finally:
            console.close()
            guest.close()

    asyncio.run(run())
