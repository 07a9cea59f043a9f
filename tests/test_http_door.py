"""Who is let in over HTTP, how much one may have, how the server starts and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from mcp import MCPError

from http_support import HELLO, TOKEN, HandSession, HttpServer, connected, http_server, started
from support import (
    PATIENCE,
    RAWTAP,
    Account,
    ToolFailed,
    Wire,
    children_of,
    command_of,
    eventually,
    eventually_async,
    exists,
    link_names,
    next_start,
    read_back,
)

INITIALIZE = {"body": HELLO}


def token_file(account: Account) -> Path:
    return account.home / ".local/state/rawtap/http-token"


# ------------------------------------------------------------------------- the token


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, False),
        ("Bearer wrong", True),
        (f"Bearer {TOKEN}x", True),
        (f"Bearer {TOKEN[:-1]}", True),
        ("Bearer ", True),
        (f"Basic {TOKEN}", True),
        (TOKEN, True),
        ("Bearer \xe4", True),
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/a", "/"])
def test_without_the_token_nobody_comes_in(http: HttpServer, given: str | None, error: bool, path: str) -> None:
    for method in ("POST", "GET", "DELETE"):
        status, headers, body = http.request(method, body=HELLO, path=path, Authorization=given)
        assert status == 401
        assert headers["www-authenticate"] == 'Bearer realm="rawtap"' + (', error="invalid_token"' if error else "")
        assert "mcp-session-id" not in headers
        assert TOKEN not in body


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """One server for all who are not let in; root's, which shows nothing else than a user's here."""
    with http_server(Account("root", 0, 0, tmp_path_factory.mktemp("home"))) as server:
        yield server


def test_what_is_wrong_with_a_request_is_told_to_those_who_may_come_in(http: HttpServer) -> None:
    assert http.request(body=HELLO, Content_Type="text/plain", Authorization=None)[0] == 401
    assert http.request(body=HELLO, Content_Type="text/plain")[0] == 400
    assert http.request(body=HELLO, Accept="text/plain")[0] == 406


def test_with_the_token_the_scheme_may_be_written_in_any_case(http: HttpServer) -> None:
    status, headers, _ = http.request(body=HELLO, Authorization=f"bearer {TOKEN}")
    assert status == 200
    assert http.request("DELETE", Mcp_Session_Id=headers["mcp-session-id"])[0] == 200


def test_a_token_is_made_once_and_its_file_is_named_but_not_what_is_in_it(user: Account) -> None:
    tokens = []
    for _ in range(2):
        with http_server(user, token=None) as server:
            file = token_file(user)
            tokens.append(file.read_text(encoding="ascii"))
            assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid) == (0o600, user.uid)
            assert server.said[0] == f"rawtap: the bearer token is in {file}"
            assert tokens[-1].strip() not in "\n".join(server.said)
            server.token = tokens[-1].strip()
            assert len(server.token) == 43  # 256 bits
            HandSession(server).call("qemu_status")
    assert tokens[0] == tokens[1]
    assert [each.name for each in token_file(user).parent.iterdir() if "token" in each.name] == ["http-token"]


def test_a_file_that_is_named_counts_more_than_the_environment(user: Account) -> None:
    file = user.home / "token"
    with http_server(user, "--token-file", str(file)) as server:
        assert server.request(body=HELLO)[0] == 401
        server.token = file.read_text(encoding="ascii").strip()
        assert server.request(body=HELLO)[0] == 200


# ------------------------------------------------------------------- Host and Origin


def test_a_host_or_an_origin_that_is_not_allowed_is_refused(http: HttpServer) -> None:
    port = http.url.rpartition(":")[2].removesuffix("/mcp")
    for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert http.request(body=HELLO, Host=host)[0] == 421
    strange = [
        "http://rebound.example",
        f"http://rebound.example:{port}",
        f"ftp://127.0.0.1:{port}",
        "http://127.0.0.1:1",
    ]
    for origin in (*strange, f"127.0.0.1:{port}", "http://127.0.0.1", "null", ""):
        assert http.request(body=HELLO, Origin=origin)[0] == 403, origin


def test_the_server_is_known_by_its_names_in_any_case_and_its_own_pages_may_ask(http: HttpServer) -> None:
    port = http.url.rpartition(":")[2].removesuffix("/mcp")
    for host in (f"localhost:{port}", f"LocalHost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert http.request("GET", Host=host)[0] == 400  # no session
        assert http.request("GET", Host=host, Origin=f"http://{host}")[0] == 400
    assert http.request("GET", Origin=f"HTTP://LOCALHOST:{port}")[0] == 400


def test_the_operator_can_allow_hosts_and_origins(user: Account) -> None:
    options = ("--allow-host", "lab.example", "--allow-host", "x.example:8", "--allow-origin", "https://tool.example")
    with http_server(user, *options) as server:
        for host, expected in (
            ("lab.example", 200),
            ("lab.example:443", 200),
            ("x.example:8", 200),
            ("x.example", 421),
            ("x.example:9", 421),
        ):
            assert server.request(body=HELLO, Host=host)[0] == expected
        assert server.request("GET", Host="Lab.Example", Origin="https://lab.example")[0] == 400  # no session
        status, headers, _ = server.request(body=HELLO, Origin="https://tool.example")
        assert (status, headers["access-control-allow-origin"]) == (200, "https://tool.example")
        assert server.request(body=HELLO, Origin="https://other.example")[0] == 403
        # What a browser asks before; it sends no token with it.
        asked = {"Origin": "https://tool.example", "Access_Control_Request_Method": "POST", "Authorization": None}
        wanted = ["authorization", "content-type", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version"]
        wanted.append("mcp-session-id")
        status, headers, body = server.request("OPTIONS", Access_Control_Request_Headers=",".join(wanted), **asked)
        assert status == 200, body
        assert set(wanted) <= set(headers["access-control-allow-headers"].lower().split(", "))
        assert headers["access-control-allow-origin"] == "https://tool.example"
        assert server.request("OPTIONS", **(asked | {"Origin": "https://other.example"}))[0] == 400


# ----------------------------------------------------------------------------- limits


def test_a_client_too_many_is_told_so_while_the_others_have_guests(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        first = HandSession(server)
        first.call("qemu_boot", profile="u-boot-riscv64")
        text = r"server.limit: 1 clients are connected, and have guests or captures already \(the limit is 1\). End one"
        with pytest.RaisesGroup(pytest.RaisesExc(MCPError, match=text), flatten_subgroups=True):
            await connected(server).__aenter__()
        status, headers, body = server.request(body=HELLO, path="/mcp/a")
        assert (status, "server.limit" in body, headers["retry-after"]) == (503, True, "5")
        first.call("qemu_shutdown")
        async with connected(server) as second:
            assert (await second.call("qemu_status"))["guests"] == []

    with http_server(user, "--max-clients", "1") as server:
        anyio.run(scenario, server)


def test_so_is_a_session_too_many_of_a_shared_lab_while_the_others_are_in_calls(user: Account, wire: Wire) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, mode="legacy") as session, anyio.create_task_group() as group:
            await session.call("qemu_pcap_start", interface=wire.near)
            group.start_soon(lambda: session.call("qemu_pcap_wait", filter="udp port 9", timeout=600))
            assert await eventually_async(lambda: "armed" in session.progress)
            status, headers, body = server.request(body=HELLO)
            assert (status, headers["retry-after"]) == (503, "5")
            assert "server.limit: 1 sessions are open already (the limit is 1)" in body
            group.cancel_scope.cancel()
        HandSession(server)

    with http_server(user, "--max-clients", "1", "--shared", "--allow-interface", wire.near) as server:
        anyio.run(scenario, server)


def test_what_opens_no_session_leaves_no_client(user: Account) -> None:
    with http_server(user, "--max-clients", "1") as server:
        for body in ({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, {"x": 1}, b"no json", [HELLO, HELLO]):
            assert server.request(body=body)[0] == 400
        assert server.request("GET")[0] == 400
        assert server.request("PUT")[0] in {400, 405}
        assert server.request(body=HELLO, path="/other")[0] == 404
        for encoded in ("/..%2f..", "/a%0a", "/a%3F", "%0a", "%3Fx", "/%61", "/a%00", "%2fa"):
            assert server.request(body=HELLO, path=f"/mcp{encoded}")[0] == 404, encoded
        HandSession(server)
        assert not user.captures.exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--max-guests", "1 guests are running already (the limit is 1). qemu_shutdown ends one"),
        ("--max-captures", "1 captures are running already (the limit is 1). qemu_pcap_stop ends one"),
    ],
)
def test_each_client_has_its_share_of_guests_and_captures(user: Account, option: str, text: str) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as first, connected(server) as second:
            for each in (first, second):
                await each.boot(capture=True)
            too_many = first.boot(name="other") if option == "--max-guests" else first.call("qemu_pcap_start")
            with pytest.raises(ToolFailed) as caught:
                await too_many
            assert str(caught.value).startswith(f"server.limit: {text}")
            # To end one makes room.
            await first.call("qemu_shutdown")
            await first.boot(name="other", capture=True)

    with http_server(user, option, "1") as server:
        anyio.run(scenario, server)


def test_each_client_has_its_share_of_calls(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as first, connected(server) as second:
            await first.boot()
            async with anyio.create_task_group() as group:
                refused: list[str] = []

                async def read_for_long() -> None:
                    while True:  # until it is not the other call that was first
                        with contextlib.suppress(ToolFailed):
                            await first.call("qemu_read", timeout=600, wait_for="never")

                group.start_soon(read_for_long)

                async def until_refused() -> None:
                    while not refused:
                        try:
                            await first.call("qemu_status")
                        except ToolFailed as error:
                            refused.append(str(error))

                await until_refused()
                assert refused[0].startswith("server.limit: 1 calls are in progress already (the limit is 1)")
                assert (await second.call("qemu_status"))["guests"] == []
                group.cancel_scope.cancel()

    with http_server(user, "--max-calls", "1") as server:
        anyio.run(scenario, server)


def test_a_request_that_is_too_long_is_not_read(http: HttpServer) -> None:
    assert http.request(body=b" " * ((1 << 20) + 1))[0] == 413


# --------------------------------------------------------------------- start and end


def fails_to_start(account: Account, *options: str, variable: str | None = TOKEN) -> str:
    """The one line that a server which cannot start ends with."""
    command = account.command(RAWTAP, "serve", *options)
    if variable is not None:
        command.insert(command.index("-i") + 1, f"RAWTAP_TOKEN={variable}")
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("rawtap: server.cannot_start: ")
    assert not variable or variable not in line
    assert link_names() == set()
    return line


def test_an_address_that_cannot_be_had(user: Account) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = fails_to_start(user, "--http", address)
        assert f"cannot listen on {address} (Address already in use). Choose another address" in line
        assert "Address already in use" in fails_to_start(user, "--rootless", "--http", address)
    assert "Cannot assign requested address" in fails_to_start(user, "--http", "192.0.2.1:0")
    assert "Permission denied" in fails_to_start(user, "--http", "127.0.0.1:80")
    assert not token_file(user).exists()


def test_a_token_that_is_not_safe(user: Account) -> None:
    file = user.home / "token"
    file.write_text(TOKEN, encoding="ascii")
    options = ("--http", "0", "--token-file", str(file))
    assert "it belongs to user 0" in fails_to_start(user, *options)
    subprocess.run(["chown", str(user.uid), file], check=True)
    file.chmod(0o640)
    assert f"others can reach it: mode 0640). Run: chmod 600 {file}" in fails_to_start(user, *options)
    file.chmod(0o600)
    for text in ("", "short", "with a space in it, and long", "\xe4" * 20):
        file.write_bytes(text.encode())
        assert "holds no token" in fails_to_start(user, *options)
        if text.isascii():
            assert "RAWTAP_TOKEN holds no token" in fails_to_start(user, "--http", "0", variable=text)
    link = user.home / "link"
    link.symlink_to(file)
    assert "Too many levels of symbolic links" in fails_to_start(user, "--http", "0", "--token-file", str(link))
    os.mkfifo(user.home / "pipe", 0o600)
    os.chown(user.home / "pipe", user.uid, user.gid)
    assert "it is no regular file" in fails_to_start(user, "--http", "0", "--token-file", str(user.home / "pipe"))
    assert "Is a directory" in fails_to_start(user, "--http", "0", "--token-file", str(user.home))
    assert "cannot use the token file" in fails_to_start(user, "--http", "0", "--token-file", "/proc/token")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--http", "nonsense"), "no PORT, HOST:PORT or [IPV6]:PORT"),
        (("--http", "127.0.0.1:65536"), "no PORT, HOST:PORT or [IPV6]:PORT"),
        (("--shared",), "--shared needs --http"),
        (("--max-guests", "3"), "--max-guests needs --http"),
        (("--http", "0", "--max-clients", "0"), "no whole number"),
    ],
)
def test_wrong_usage_is_told(user: Account, options: tuple[str, ...], said: str) -> None:
    command = user.command(RAWTAP, "serve", *options)
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_address_that_others_reach_is_warned_of(user: Account) -> None:
    with http_server(user, at="0.0.0.0:0") as server:
        (warning, _, listening) = server.said
        assert "WARNING: 0.0.0.0:0 is not the loopback, and nothing is encrypted" in warning
        assert "TLS" in warning
        assert listening.startswith("rawtap: listening on http://0.0.0.0:")
        server.url = server.url.replace("//0.0.0.0", "//127.0.0.1")
        HandSession(server).call("qemu_status")
    with http_server(user) as server:
        assert len(server.said) == 2


@contextmanager
def busy(account: Account) -> Iterator[tuple[HttpServer, dict[str, object]]]:
    """A server with a guest, a finished ping in a running capture, and one session."""
    with http_server(account) as server:
        session = HandSession(server)
        booted = session.call("qemu_boot", profile="u-boot-riscv64", network=True)
        started = session.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in session.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        yield server, {**booted, "path": started["path"]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_everything_released(anyone: Account, number: signal.Signals) -> None:
    with busy(anyone) as (server, had):
        server.process.send_signal(number)
        assert server.process.wait(timeout=PATIENCE) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        assert read_back(str(had["path"])) == 2
        assert not exists(int(str(had["pid"])))
        assert link_names() == set()


@pytest.mark.parametrize("lab", ["", "a"])
@pytest.mark.parametrize("what", ["boot", "wait"])
def test_a_signal_during_a_call_ends_it_and_the_server(user: Account, lab: str, what: str) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, lab) as session, anyio.create_task_group() as group:

            def is_in_progress() -> bool:
                if what == "wait":
                    return "armed" in session.progress
                return any("qemu-system" in command_of(child) for child in children_of(server.pid))

            async def signal_then() -> None:
                assert await eventually_async(is_in_progress)
                server.process.terminate()

            if what == "wait":
                await session.boot(capture=True)
            group.start_soon(signal_then)
            if what == "wait":
                await session.call("qemu_pcap_wait", filter="udp port 9", timeout=600)
            else:
                await session.boot(capture=True)

    with http_server(user) as server:
        with pytest.RaisesGroup(MCPError, flatten_subgroups=True, allow_unwrapped=True):
            anyio.run(scenario, server)
        assert server.process.wait(timeout=PATIENCE) == 0
        assert link_names() == set()
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_sigkill_leaves_no_guest_and_the_next_start_removes_the_bridge(user: Account) -> None:
    with busy(user) as (server, had):
        server.process.kill()
        server.process.wait()
        assert eventually(lambda: not exists(int(str(had["pid"]))))
        assert eventually(lambda: link_names() == {"rawtap-br0"})
        assert read_back(str(had["path"])) in {0, 2}  # whole, with what was written by then

    next_start(user, lambda: link_names() == set())


def test_a_client_that_never_finishes_its_request_does_not_keep_it_from_ending(user: Account) -> None:
    with http_server(user, "--header-seconds", "60") as server, server.half_open():
        server.process.terminate()
        assert server.process.wait(timeout=50) == 0  # less than the request has


def test_started_is_told_only_once_it_answers(user: Account) -> None:
    command = user.command(RAWTAP, "serve", "--http", "127.0.0.1:0", "--token-file", user.home / "t")
    with started(command) as server:
        assert server.request(body=HELLO)[0] == 401
