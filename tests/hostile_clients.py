"""Clients that have no token and mean no good: ``hostile_clients.py HOST PORT NUMBER SEED``, until stdin ends.

Each connects, does one of what is below, waits until the server closes the connection or for some while, and begins
anew. It prints a line when each of them has connected once.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream

HOST = b"Host: %s:%d\r\n"
POST = b"POST /mcp HTTP/1.1\r\n"
Attack = Callable[[ByteStream, bytes, random.Random], Awaitable[None]]


async def silent(_stream: ByteStream, _host: bytes, _random: random.Random) -> None:
    """Say nothing."""


async def half(stream: ByteStream, _host: bytes, chosen: random.Random) -> None:
    """Begin a request."""
    await stream.send((POST + b"Host: localhost\r\nAuthorization: Bearer")[: chosen.randrange(1, 60)])


async def drip(stream: ByteStream, host: bytes, chosen: random.Random) -> None:
    """Send headers that do not end."""
    await stream.send(POST + host)
    while True:
        await stream.send(b"X-%d: y\r\n" % chosen.randrange(1000))
        await anyio.sleep(chosen.random())


async def garbage(stream: ByteStream, _host: bytes, chosen: random.Random) -> None:
    """Send what is no HTTP."""
    await stream.send(chosen.randbytes(chosen.randrange(1, 4000)))


async def guess(stream: ByteStream, host: bytes, chosen: random.Random) -> None:
    """Try tokens, one after another, and read no answer."""
    for _ in range(chosen.randrange(1, 50)):
        token = b"Authorization: Bearer %x\r\n" % chosen.getrandbits(128)
        await stream.send(POST + host + token + b"Content-Length: 2\r\n\r\n{}")


async def body(stream: ByteStream, host: bytes, chosen: random.Random) -> None:
    """Send a body without an end."""
    await stream.send(POST + host + b"Content-Length: 1000000000\r\n\r\n")
    while True:
        await stream.send(b" " * chosen.randrange(1, 65536))


async def long_headers(stream: ByteStream, host: bytes, chosen: random.Random) -> None:
    """Send more headers than anybody has."""
    await stream.send(POST + host + b"X: " + b"y" * chosen.randrange(1000, 200_000))


ATTACKS: list[Attack] = [silent, half, drip, garbage, guess, body, long_headers]


async def client(address: tuple[str, int], seed: int, connected: Callable[[], None]) -> None:
    """One of them, for ever."""
    chosen = random.Random(seed)
    while True:
        try:
            async with await anyio.connect_tcp(*address) as stream:
                connected()
                with anyio.move_on_after(chosen.random() * 8):
                    await chosen.choice(ATTACKS)(stream, HOST % (address[0].encode(), address[1]), chosen)
                    await stream.receive()
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            await anyio.sleep(chosen.random() / 10)


async def main(host: str, port: str, number: str, seed: str) -> None:
    """All of them."""
    waiting = set(range(int(number)))

    def connected(each: int) -> None:
        if each in waiting:
            waiting.discard(each)
            if not waiting:
                print("all have connected", flush=True)  # noqa: T201

    async with anyio.create_task_group() as group:
        for each in range(int(number)):
            group.start_soon(client, (host, int(port)), int(seed) + each, lambda each=each: connected(each))
        await anyio.to_thread.run_sync(sys.stdin.read)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
