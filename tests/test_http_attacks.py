"""Who would keep others out over HTTP, by being many, slow or forgetful: whoever has the token gets in all the same."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from anyio.to_thread import run_sync as to_thread

import tiny_guest
from http_support import HELLO, HandSession, HttpServer, connected, http_server
from support import PATIENCE, Account, Wire, children_of, eventually, eventually_async, guests_of, link_names

PER_PEER, ALL = 128, 256  # connections without a token
PATIENT = ("--header-seconds", "60")  # what is closed is not closed for its slowness
MODERN = "2026-07-28"
ATTACK_MINUTES = float(os.environ.get("RAWTAP_ATTACK_MINUTES", "60"))  # of a soak's whole attack, this is a part
T = TypeVar("T")


@pytest.fixture
def many_files() -> Iterator[None]:
    """The test itself has many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it, nor said anything on it."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        connection.setblocking(True)
    return False


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the server closes it."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(4096):
            said += data
    return said


# ------------------------------------------------------------- connections without a token


@pytest.mark.parametrize("start", [b"", b"POST /mcp HTTP/1.1\r\nHost: ", b"POST /mcp HTTP/1.1\r\nHost: x\r\n\r\n{"])
def test_half_open_connections_do_not_keep_out_who_has_the_token(user: Account, start: bytes, many_files: None) -> None:  # noqa: ARG001
    with http_server(user, *PATIENT) as server, ExitStack() as stack:
        half = [stack.enter_context(server.half_open(start)) for _ in range(300)]
        HandSession(server).call("qemu_status")
        if not start.endswith(b"{"):  # that is a request of its own, and refused
            # Those that had waited longest made room for it, and no other.
            assert [is_open(each) for each in half] == [False] * (301 - PER_PEER) + [True] * (PER_PEER - 1)


def test_the_connections_of_one_address_do_not_push_out_another(user: Account, many_files: None) -> None:  # noqa: ARG001
    with http_server(user, *PATIENT) as server, ExitStack() as stack:
        alone = stack.enter_context(server.half_open(source="127.0.0.9"))
        crowds = [
            [stack.enter_context(server.half_open(source=f"127.0.0.{last}")) for _ in range(200)] for last in (1, 2, 3)
        ]
        HandSession(server)
        assert is_open(alone)
        counts = [sum(map(is_open, crowd)) for crowd in crowds]
        assert sum(counts) == ALL - 2  # one is the lone one's, and one made room for whom has the token
        assert max(counts) <= PER_PEER


def test_a_thousand_connections_leave_descriptors_for_guests_and_captures(user: Account, many_files: None) -> None:  # noqa: ARG001
    with http_server(user, *PATIENT, before=("prlimit", "--nofile=1024:1024")) as server, ExitStack() as stack:
        session = HandSession(server)
        for _ in range(1000):
            stack.enter_context(server.half_open())
        booted = session.call("qemu_boot", profile="u-boot-riscv64", network=True, capture=True)
        assert booted["prompt_seen"]
        assert "is alive" in session.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        assert session.call("qemu_pcap_stop")["packets"] > 0
        assert len(os.listdir(f"/proc/{server.pid}/fd")) < ALL  # noqa: PTH208


def drips(connection: socket.socket) -> bool:
    """Send one byte more; whether the connection is still open."""
    try:
        connection.sendall(b"x")
    except ConnectionError:
        return False
    return is_open(connection)


def test_a_connection_has_some_seconds_for_its_headers_and_the_token(user: Account) -> None:
    with http_server(user, "--header-seconds", "1") as server:
        for start in (b"", b"POST /mcp HTTP/1.1\r\nHost: "):
            with server.half_open(start) as half:
                assert rest_of(half).startswith(b"HTTP/1.1 408 ")
        # Not even bytes that come one by one, nor requests without the token, let it go on.
        with server.half_open() as dripping:
            assert eventually(lambda: not drips(dripping))
        with server.half_open(b"") as asking:
            request = f"GET /mcp HTTP/1.1\r\nHost: {server.address[0]}:{server.address[1]}\r\n\r\n".encode()

            def ask() -> bytes:
                asking.sendall(request)
                return asking.recv(4096)

            assert ask().startswith(b"HTTP/1.1 401 ")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while ask():
                    pass
        # So has the next request of who has shown it.
        token = f"Authorization: Bearer {server.token}\r\n\r\n".encode()
        with server.half_open(request.removesuffix(b"\r\n") + token) as known:
            assert known.recv(4096).startswith(b"HTTP/1.1 400 ")
            known.sendall(b"GET /mcp HTTP/1.1\r\n")
            assert b"HTTP/1.1 408 " in rest_of(known)
        # A call may take longer.
        session = HandSession(server)
        session.call("qemu_boot", profile="u-boot-riscv64")
        session.call("qemu_send", command="sleep 2", timeout=10)


def test_what_is_no_http_is_no_news(user: Account) -> None:
    with http_server(user) as server:
        for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
            with server.half_open(garbage + b"\r\n\r\n") as half:
                assert rest_of(half).startswith(b"HTTP/1.1 400 ")
        token = f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        for rest in ("Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
            begun = f"POST /mcp HTTP/1.1\r\nHost: {server.address[0]}:{server.address[1]}\r\n{token}{rest}"
            with server.half_open(begun.encode()) as half:
                HandSession(server)  # what came before it has been read
                half.shutdown(socket.SHUT_WR)
                rest_of(half)
        server.request("GET", Host="rebound.example\x1b[2J")
        server.request("GET", Connection="upgrade", Upgrade="websocket")
        server.process.terminate()
        server.process.wait(timeout=PATIENCE)
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


# ------------------------------------------------------------ clients that do not say goodbye


def test_clients_that_come_and_go_without_goodbye_lock_nobody_out(user: Account) -> None:
    with http_server(user, "--max-clients", "4") as server:
        holder = HandSession(server)
        holder.call("qemu_boot", profile="u-boot-riscv64")
        others = [HandSession(server) for _ in range(20)]
        assert [each.is_there for each in others] == [False] * 17 + [True] * 3
        assert [guest["name"] for guest in holder.call("qemu_status")["guests"]] == ["guest"]


def test_who_has_least_to_lose_goes_first(user: Account, wire: Wire) -> None:
    with http_server(user, "--max-clients", "3", "--allow-interface", wire.near) as server, ExitStack() as stack:
        captured, listens, quiet = (HandSession(server) for _ in range(3))
        captured.call("qemu_pcap_start", interface=wire.near)
        captured.call("qemu_pcap_stop")
        stream = stack.enter_context(server.asked("GET", **listens.headers))
        assert stream.status == 200
        for next_to_go in (quiet, captured, listens):
            newcomer = HandSession(server)
            assert not next_to_go.is_there
            newcomer.call("qemu_pcap_start", interface=wire.near)
        assert stream.read() == b""
        assert server.request(body=HELLO)[0] == 503


def test_where_all_have_something_that_runs_the_next_is_told_when_to_ask_again(user: Account, wire: Wire) -> None:
    with http_server(user, "--max-clients", "2", "--allow-interface", wire.near) as server:
        sessions = [HandSession(server) for _ in range(2)]
        for each in sessions:
            each.call("qemu_pcap_start", interface=wire.near)
        for path in ("/mcp", "/mcp/a"):
            status, headers, body = server.request(body=HELLO, path=path)
            assert (status, headers["retry-after"], "server.limit" in body) == (503, "5", True)
        sessions[0].call("qemu_pcap_stop")
        HandSession(server)
        assert [each.is_there for each in sessions] == [False, True]


@pytest.mark.parametrize(("options", "path"), [(("--shared",), "/mcp"), ((), "/mcp/a")])
def test_sessions_of_one_lab_that_come_and_go_lock_nobody_out(
    user: Account, options: tuple[str, ...], path: str
) -> None:
    with http_server(user, "--max-clients", "4", *options) as server:
        HandSession(server, path).call("qemu_boot", profile="u-boot-riscv64")
        sessions = [HandSession(server, path) for _ in range(20)]
        assert [each.is_there for each in sessions] == [False] * 16 + [True] * 4
        assert [guest["name"] for guest in sessions[-1].call("qemu_status")["guests"]] == ["guest"]


def test_names_that_come_and_go_lock_nobody_out(user: Account) -> None:
    with http_server(user, "--max-clients", "4") as server:
        first = HandSession(server, "/mcp/first")
        first.call("qemu_boot", profile="u-boot-riscv64")
        for number in range(20):
            HandSession(server, f"/mcp/n{number}")
        assert len(first.call("qemu_status")["guests"]) == 1


def test_many_that_come_at_once_are_no_more_than_there_may_be(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        sessions: list[HandSession] = []
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(to_thread, lambda: sessions.append(HandSession(server)))
        there = [each for each in sessions if await to_thread(lambda each=each: each.is_there)]
        assert (len(sessions), len(there)) == (20, 4)

    with http_server(user, "--max-clients", "4") as server:
        anyio.run(scenario, server)


def test_nothing_is_made_for_a_client_before_its_first_call(user: Account) -> None:
    with http_server(user) as server:

        def files() -> int:
            return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208

        HandSession(server).end()
        before = files()
        for session in [HandSession(server) for _ in range(10)]:
            assert session.ask("tools/list")[0] == 200
        # The server closes a connection a moment after its client; `before` may have one that was about to be.
        assert eventually(lambda: files() <= before)
        assert eventually(lambda: children_of(server.pid) == [])  # what cleans up at the start is none of a client's
        assert not user.captures.exists()


# ------------------------------------------------------------------ streams, and closed connections


def test_streams_do_not_use_up_the_calls(user: Account, many_files: None) -> None:  # noqa: ARG001
    with http_server(user, "--shared", "--max-clients", "120") as server, ExitStack() as stack:
        sessions = [HandSession(server) for _ in range(110)]
        for each in sessions:
            assert stack.enter_context(server.asked("GET", **each.headers)).status == 200
        assert sessions[0].call("qemu_status")["guests"] == []


def modern(method: str, **params: object) -> tuple[dict[str, object], dict[str, str | None]]:
    """A request of protocol 2026-07-28, and its headers."""
    meta = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    named = {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": method, "Mcp_Name": params.get("name")}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": named}}
    return body, {key: str(value) for key, value in headers.items() if value}


def test_nor_do_those_that_listen_without_a_session(user: Account, many_files: None) -> None:  # noqa: ARG001
    with http_server(user, "--max-clients", "4") as server, ExitStack() as stack:
        body, headers = modern("subscriptions/listen", notifications={"resourcesListChanged": True})
        answers = [stack.enter_context(server.asked("POST", body, "/mcp/a", **headers)) for _ in range(110)]
        assert [each.status for each in answers] == [200] * 36 + [503] * 74  # a session's each, and 32
        body, headers = modern("tools/call", name="qemu_status", arguments={})
        status, _, text = server.request(body=body, path="/mcp/a", **headers)
        assert (status, '"guests":[]' in text) == (200, True), text


@pytest.mark.parametrize(("path", "with_session"), [("/mcp", True), ("/mcp/a", True), ("/mcp/a", False)])
def test_a_call_is_cancelled_when_its_connection_is_closed(user: Account, path: str, with_session: bool) -> None:
    boot: dict[str, object] = {"project_root": tiny_guest.deaf(user), "network": True, "capture": True}

    async def scenario(server: HttpServer) -> None:
        session = HandSession(server, path)
        body, headers = modern("tools/call", name="qemu_boot", arguments=boot)
        if with_session:
            body, headers = session.message("tools/call", name="qemu_boot", arguments=boot), session.headers
        with server.sent("POST", body, path, **headers):  # and the answer is not awaited
            assert await eventually_async(lambda: guests_of(server.pid) != [])
        assert await eventually_async(lambda: guests_of(server.pid) == [] and link_names() == set())
        assert session.call("qemu_status")["guests"] == []
        assert session.call("qemu_boot", profile="u-boot-riscv64", network=True)["prompt_seen"]

    with http_server(user) as server:
        anyio.run(scenario, server)


# ------------------------------------------------------------------------------------ all at once


@contextmanager
def hostile(server: HttpServer, number: int, seed: int) -> Iterator[None]:
    """So many clients without a token, who do what they can; each has connected when this begins."""
    script = Path(__file__).with_name("hostile_clients.py")
    host, port = server.address
    command = ["prlimit", "--nofile=4096", sys.executable, str(script), host, str(port), str(number), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "all have connected\n"
            yield
            assert process.poll() is None
        finally:
            process.stdin.close()


async def answer_throughout(server: HttpServer, rounds: int) -> float:
    """Boot, capture and ask, and come anew, while others do what they can; the longest that an answer took."""
    took: list[float] = []

    async def timed(ask: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        answer = await ask()
        took.append(time.monotonic() - began)
        return answer

    async with connected(server) as session:
        await session.boot(capture=True)
        for number in range(rounds):
            if number % 10 == 0:  # by connections of their own
                status, headers, _ = await timed(partial(to_thread, partial(server.request, body=HELLO)))
                assert status == 200
                end = partial(server.request, "DELETE", Mcp_Session_Id=headers["mcp-session-id"])
                assert (await timed(partial(to_thread, end)))[0] == 200
            else:
                assert len((await timed(partial(session.call, "qemu_status")))["guests"]) == 1
        assert "is alive" in await session.ping()
        row = await session.call("qemu_pcap_stop")
        assert (row["packets"] > 0, row["dropped_kernel"]) == (True, 0)
        await session.call("qemu_shutdown")
    return max(took)


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_who_has_the_token_is_answered_among_hostile_clients(user: Account, number: int) -> None:
    company = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # how many others want each processor
    with http_server(user, before=("prlimit", "--nofile=1024:1024")) as server:
        with hostile(server, number, seed=1):
            longest = anyio.run(answer_throughout, server, 100 if number < 1000 else round(50 * ATTACK_MINUTES))
            assert len(os.listdir(f"/proc/{server.pid}/fd")) < 2 * ALL  # noqa: PTH208
        if number == 1000:  # the one bound of time; a plain run has company
            assert longest < 1 * company
        server.process.terminate()
        assert server.process.wait(timeout=PATIENCE) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        assert link_names() == set()
