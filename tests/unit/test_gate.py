"""Who may come in, told from a connection's first bytes alone; nothing is parsed, and no task made, for who may not."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest
import uvicorn
from uvicorn.server import ServerState

from rawtap.http.connections import Connection, Crowd
from rawtap.http.door import Names, Token
from rawtap.http.gate import Gate

TOKEN = "a-token-of-the-tests-own"  # noqa: S105
GATE = Gate(Names(("127.0.0.1:80",), ("https://tool.example",)), Token(TOKEN.encode(), "here"))
KEY = f"Authorization: Bearer {TOKEN}\r\n"


def request(fields: str = "", start: str = "POST /mcp HTTP/1.1", host: str = "Host: 127.0.0.1:80\r\n") -> bytes:
    return f"{start}\r\n{host}{fields}\r\n".encode("latin-1")


def status(begun: bytes) -> int | None:
    turned = GATE.turned(begun)
    return int(turned.answer.split(b" ", 2)[1]) if turned else None


@pytest.mark.parametrize(
    ("begun", "answer"),
    [
        (request(), 401),
        (request("Authorization: Bearer wrong\r\n"), 401),
        (request(f"Authorization: Basic {TOKEN}\r\n"), 401),
        (request(f"X-Authorization: Bearer {TOKEN}\r\n"), 401),
        (request(f"X: y\r\nCookie: {KEY}"), 401),
        (request() + KEY.encode(), 401),
        (request(KEY, host="Host: rebound.example\r\n"), 421),
        (request(KEY + "Origin: https://rebound.example\r\n"), 403),
        (request(KEY + "Origin: https://tool.example\r\nOrigin: null\r\n"), 403),
        (b"\x16\x03\x01", 400),
        (b"post / HTTP/1.1\r\n\r\n", 400),
        (request("X: " + "y" * 20000), 431),
        (request("X: " + "y" * 20000)[:16384], 431),
    ],
)
def test_what_may_not_come_in_is_told_so(begun: bytes, answer: int) -> None:
    assert not GATE.is_to_be_continued(begun)
    assert status(begun) == answer


@pytest.mark.parametrize(
    "begun",
    [
        request(KEY),
        request(KEY.upper().replace(TOKEN.upper(), TOKEN)),
        request(f"authorization:bearer   {TOKEN} \t\r\n"),
        request(KEY + "Origin: https://tool.example\r\n"),
        # To be parsed, and refused then: what a browser asks before, and what it wants to hear why.
        request("Origin: https://tool.example\r\n"),
        request(start="OPTIONS /mcp HTTP/1.1"),
        request(start="POST /mcp HTTP/1.0"),
        request(host=""),
        request("Host: 127.0.0.1:80\r\n"),
        request(KEY + KEY),
        request("X: y\r\n folded\r\n"),
        request("X : y\r\n"),
        request(KEY).replace(b"\r\n", b"\n"),
        request().replace(b"\r\n", b"\n"),
    ],
)
def test_what_may_come_in_or_is_odd_is_parsed(begun: bytes) -> None:
    assert not GATE.is_to_be_continued(begun)
    assert status(begun) is None


def test_headers_that_are_not_all_here_are_waited_for() -> None:
    whole = request(KEY)
    assert all(GATE.is_to_be_continued(whole[:end]) for end in range(1, len(whole)))


@pytest.mark.parametrize(
    ("fields", "body", "is_whole"),
    [
        ("", b"", True),
        ("Content-Length: 2\r\n", b"{}", True),
        ("Content-Length: 3\r\n", b"{}", False),
        ("Content-Length: " + "9" * 5000 + "\r\n", b"{}", False),
        ("Content-Length: -1\r\n", b"{}", False),
        ("Transfer-Encoding: chunked\r\n", b"", False),
    ],
)
def test_whether_a_body_is_to_come_is_known(fields: str, body: bytes, is_whole: bool) -> None:
    turned = GATE.turned(request(fields) + body)
    assert turned is not None
    assert turned.is_whole is is_whole


class Transport(asyncio.Transport):
    """Keeps what is written, and what is done to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.9", 9)})
        self.written, self.did = b"", list[str]()

    def write(self, data: Any) -> None:
        self.written += data

    def __getattribute__(self, name: str) -> Any:
        if name in {"close", "abort", "write_eof", "pause_reading"}:
            return lambda: self.did.append(name)
        return super().__getattribute__(name)

    def is_closing(self) -> bool:
        return False


async def never(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("it came in")


@pytest.mark.parametrize(
    ("parts", "did"),
    [
        ([request()], ["close"]),
        ([request()[:9], request()[9:-1], b"\n"], ["close"]),
        ([request("Content-Length: 100\r\n") + b"{"], ["write_eof", "pause_reading"]),
        ([request() * 50], ["close"]),
        ([b"\x16\x03\x01"], ["write_eof", "pause_reading"]),
    ],
)
def test_a_request_that_is_refused_is_not_parsed_and_makes_no_task(parts: list[bytes], did: list[str]) -> None:
    async def scenario() -> None:
        crowd, state, transport = Crowd(5, GATE), ServerState(), Transport()
        config = uvicorn.Config(never, log_config=None)
        config.load()
        connection = Connection(crowd, config, state, {})
        connection.connection_made(transport)
        for part in parts:
            connection.data_received(part)
        assert transport.written.count(b"HTTP/1.1 4") == 1
        assert b"Connection: close\r\n" in transport.written
        assert (transport.did, state.tasks, connection.cycle) == (did, set(), None)
        assert (connection.conn.their_state, connection.conn.trailing_data) == (h11.IDLE, (b"", False))
        connection.connection_lost(None)

    asyncio.run(scenario())
