"""A server over HTTP, clients of it by the SDK, and requests by hand."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from support import PATIENCE, RAWTAP, Account, Session

TOKEN = "a-token-of-the-tests-own"  # noqa: S105
VERSION = "2025-06-18"
Mode = Literal["auto", "legacy"] | str


@dataclass
class HttpServer:
    """A running server; `said` is what it printed until it listened."""

    process: subprocess.Popen[str]
    url: str
    said: list[str]
    token: str = TOKEN

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def request(
        self, method: str = "POST", body: object = None, path: str = "/mcp", **headers: str | None
    ) -> tuple[int, dict[str, str], str]:
        """A request by hand: its status, headers and body. A header of None is left out; `_` stands for "-"."""
        with self.asked(method, body, path, **headers) as answer:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()

    @contextmanager
    def asked(
        self, method: str = "POST", body: object = None, path: str = "/mcp", **headers: str | None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request once its headers are here; leaving closes the connection, whatever is to come."""
        with self.sent(method, body, path, **headers) as connection:
            yield connection.getresponse()

    @contextmanager
    def sent(
        self, method: str = "POST", body: object = None, path: str = "/mcp", **headers: str | None
    ) -> Iterator[http.client.HTTPConnection]:
        """A connection on which a request was sent; leaving closes it."""
        sent: dict[str, str | None] = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {name: value for name, value in sent.items() if value is not None})
        try:
            yield connection
        finally:
            connection.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        place = urlsplit(self.url)
        return str(place.hostname), int(place.port or 0)

    def half_open(self, start: bytes = b"POST /mcp HTTP/1.1\r\nHost: ", source: str = "127.0.0.1") -> socket.socket:
        """A connection on which only the beginning of a request was sent."""
        half = socket.create_connection(self.address, timeout=30, source_address=(source, 0))
        half.sendall(start)
        return half


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
}


@dataclass
class HandSession:
    """A session by hand: it has no stream open, and ends only where the test says so."""

    server: HttpServer
    path: str = "/mcp"
    id: str = field(init=False)
    _number: int = 1

    def __post_init__(self) -> None:
        status, headers, body = self.server.request(body=HELLO, path=self.path)
        assert status == 200, body
        self.id = headers["mcp-session-id"]
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _post(self, message: Mapping[str, Any]) -> tuple[int, dict[str, str], str]:
        return self.server.request(body=message, path=self.path, **self.headers)

    def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool."""
        status, body = self.ask("tools/call", name=name, arguments=arguments)
        assert status == 200, body
        events = [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: {")]
        assert events, "no answer"
        result = events[-1]["result"]
        assert not result.get("isError"), result
        return dict(result["structuredContent"])

    def ask(self, method: str, /, **params: object) -> tuple[int, str]:
        """Ask anything; the answer's status and body."""
        status, _, body = self._post(self.message(method, **params))
        return status, body

    def message(self, method: str, /, **params: object) -> dict[str, object]:
        """A request of a number of its own."""
        self._number += 1
        return {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}

    @property
    def headers(self) -> dict[str, str | None]:
        """What each of its requests has."""
        return {"Mcp_Session_Id": self.id, "MCP_Protocol_Version": VERSION}

    @property
    def is_there(self) -> bool:
        """Whether the server still knows it."""
        status, body = self.ask("ping")
        assert status in {200, 404}, body
        return status == 200

    def end(self) -> int:
        """End it."""
        return self.server.request("DELETE", path=self.path, **self.headers)[0]


@contextmanager
def http_server(
    account: Account, *options: str, at: str = "127.0.0.1:0", before: tuple[str, ...] = (), token: str | None = TOKEN
) -> Iterator[HttpServer]:
    """A server run by `account`, with the token in its environment unless that is None."""
    command = account.command(RAWTAP, "serve", "--http", at, *options)
    if token is not None:
        where = command.index("-i") + 1
        command[where:where] = [f"RAWTAP_TOKEN={token}"]
    with started([*before, *command]) as server:
        server.token = token or ""
        yield server


@contextmanager
def started(command: list[str]) -> Iterator[HttpServer]:
    """The server that `command` starts, once it listens."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            said: list[str] = []
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line.rstrip("\n"))
                if "listening on " in line:
                    break
            else:
                raise AssertionError(f"it did not start: {said}")
            yield HttpServer(process, said[-1].rpartition(" ")[2], said)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@asynccontextmanager
async def connected(server: HttpServer, lab: str = "", mode: Mode = "auto") -> AsyncIterator[Session]:
    """A client of the SDK's, of that Lab if it is named."""
    notices: list[str] = []

    async def on_message(message: object) -> None:
        notices.append(str(getattr(message, "method", message)))

    url = f"{server.url}/{lab}" if lab else server.url
    failure = None
    async with create_mcp_http_client(headers={"Authorization": f"Bearer {server.token}"}) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, message_handler=on_message) as client:
            try:
                yield Session(client, server.pid, notices=notices)
            except Exception as error:  # noqa: BLE001 - any of a test's: raised again outside of the client's task groups
                failure = error
    if failure:
        raise failure
