"""A person who watches a running server from another terminal: what is seen, what is lost, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from http_support import HandSession, HttpServer, http_server
from rawtap.network.addressing import Owner
from support import PATIENCE, RAWTAP, Account, Wire, eventually, numbers_in, read_back, serving
from test_verbs import Screen, rawtap

RING = {"files": 3, "max_bytes": 65536}
HEAD = b"\xff" * 6 + b"\x02\0\0\0\0\1" + (0x88B5).to_bytes(2, "big")
NOBODY = 65534
GOODBYE = "rawtap: the server has ended in order, and released what it had\n"


@pytest.fixture
def watched(user: Account) -> Iterator[Account]:
    """A user with a runtime folder of its own: what other tests' servers have is not in it."""
    with TemporaryDirectory(prefix="rawtap-") as folder:  # short: a socket's path has 107 bytes at the most
        os.chown(folder, user.uid, user.gid)
        yield replace(user, more=(f"XDG_RUNTIME_DIR={folder}",))


def folder_of(account: Account) -> Path:
    """Of the sockets."""
    return Path(account.more[0].partition("=")[2]) / "rawtap"


def sockets_of(account: Account) -> list[Path]:
    return list(folder_of(account).glob("*.sock"))


@contextmanager
def server_of(account: Account, *options: str) -> Iterator[HttpServer]:
    """One that can be watched."""
    with http_server(account, *options) as server:
        assert eventually(lambda: any(each.name.startswith(f"{server.pid}-") for each in sockets_of(account)))
        yield server


@dataclass
class Watching:
    """`rawtap watch --json`, and what it has said."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(cls, account: Account, *words: str) -> Iterator[Watching]:
        command = account.command(RAWTAP, "watch", "--json", *words)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield cls(process)
            finally:
                process.kill()

    def until(self, source: str, text: str) -> dict[str, Any]:
        """Read until there was such an event."""
        assert self.process.stdout
        while not (found := [each for each in self.events if each["source"] == source and text in each["text"]]):
            line = self.process.stdout.readline()
            assert line, self.events
            self.events.append({"text": "", **json.loads(line)})
        return found[0]

    def rest(self) -> tuple[int, str]:
        """Read to its end: its exit code, and what it said on stderr."""
        out, said = self.process.communicate(timeout=PATIENCE)
        self.events += [{"text": "", **json.loads(each)} for each in out.splitlines()]
        return self.process.returncode, said

    def texts(self, source: str) -> list[str]:
        return [each["text"] for each in self.events if each["source"] == source]


def test_guests_consoles_packets_and_calls_are_told_as_they_happen(watched: Account) -> None:
    """Over stdio, by two watchers; the server's end is told, with what happened up to it."""

    async def scenario(seen: list[Watching]) -> None:
        async with serving(watched) as session:
            await session.call("qemu_status")
            with Watching.of(watched) as watching:
                await anyio.to_thread.run_sync(watching.until, "call", "qemu_status after")
                await session.boot(network="user", capture=True)
                await session.typed("setenv ipaddr 10.0.2.15; ping 10.0.2.2")
                refused = await session.refused("qemu_send", command="x", nam=1)
                await anyio.to_thread.run_sync(watching.until, "call", str(refused)[:60])
                await anyio.to_thread.run_sync(watching.until, "packet", "ICMP echo reply")
                seen.append(watching)
                for words in (("--write", "-"), ("--json",)):
                    lines = rawtap(watched, "watch", "c9", *words)
                    assert (lines.returncode, lines.stdout) == (1, "")
                    assert "capture.unknown: there is no capture c9 (captures: c1)" in lines.stderr
                await session.client.__aexit__(None, None, None)
                assert await anyio.to_thread.run_sync(watching.rest) == (0, GOODBYE)

    seen: list[Watching] = []
    anyio.run(scenario, seen)
    (watching,) = seen
    assert any("host 10.0.2.2 is alive" in each for each in watching.texts("console"))
    assert any('"profile": "u-boot-riscv64"' in each for each in watching.texts("call"))
    assert any("ended: exit code 0" in each for each in watching.texts("event"))
    states = [each["labs"][0] for each in watching.events if each["source"] == "state"]
    assert [states[-2]["guests"][0][key] for key in ("name", "profile", "cards")] == [
        "guest",
        "u-boot-riscv64",
        ["user:guest"],
    ]
    assert not sockets_of(watched)


def count_in(path: Path) -> int:
    return path.read_bytes().count(HEAD) if path.exists() else 0


def test_every_packet_of_a_capture_is_written_while_its_ring_turns(watched: Account, wire: Wire) -> None:
    """Of both formats, with a filter and without."""
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        writing: dict[Path, subprocess.Popen[str]] = {}
        for capture, form in (("c1", "pcap"), ("c2", "pcapng")):
            session.call("qemu_pcap_start", interface=wire.near, format=form, **RING)
            for name, words in (("whole", ()), ("half", ("ether[17]", "&", "1", "=", "1"))):
                path = watched.home / f"{name}.{form}"
                command = watched.command(RAWTAP, "watch", capture, *words, "--write", path)
                writing[path] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert eventually(lambda: all(each.exists() for each in writing))
        for number in range(600):
            wire.send_bytes((HEAD + number.to_bytes(4, "big")).ljust(1000, b"\0"))
            if number % 50 == 49:  # watchers that keep up
                assert eventually(lambda sent=number: all(count_in(each) >= (sent - 50) // 2 for each in writing))  # type: ignore[misc]
        late = watched.home / "late.pcap"
        command = watched.command(RAWTAP, "watch", "c1", "--write", late)
        writing[late] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert eventually(lambda: count_in(late) > 0)
        rows = [session.call("qemu_pcap_stop", capture=capture) for capture in ("c1", "c2")]
        said = {path.name: each.communicate(timeout=PATIENCE)[1] for path, each in writing.items()}
    assert all(row["packets_overwritten"] > 0 for row in rows)
    before = rows[0]["packets_overwritten"]
    assert said == {
        "late.pcap": f"rawtap: c1 has ended: 600 packets, the first {before} of them removed by its ring before this "
        "began; dropped: 0\n",
        "whole.pcap": "rawtap: c1 has ended: 600 packets; dropped: 0\n",
        "half.pcap": "rawtap: c1 has ended: 600 packets, 300 of them pass the filter; dropped: 0\n",
        "whole.pcapng": "rawtap: c2 has ended: 600 packets; dropped: 0\n",
        "half.pcapng": "rawtap: c2 has ended: 600 packets, 300 of them pass the filter; dropped: 0\n",
    }
    assert [each.returncode for each in writing.values()] == [0, 0, 0, 0, 0]
    for path in writing:
        every = {"whole": range(600), "half": range(1, 600, 2), "late": range(before, 600)}[path.stem]
        assert numbers_in(path) == list(every)
        assert read_back(path) == len(every)


def asked(path: Path, request: bytes) -> socket.socket:
    """A watcher by hand, of the user whose socket that is."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    os.seteuid(path.stat().st_uid)
    try:
        connection.connect(str(path))
    finally:
        os.seteuid(0)
    with suppress(BrokenPipeError):  # it was answered, and let go, before it had asked
        connection.sendall(request)
    return connection


def line_of(connection: socket.socket) -> dict[str, Any]:
    """What it is answered; nothing where it is let go without an answer."""
    with connection, connection.makefile("rb") as incoming, suppress(ConnectionResetError):
        return dict(json.loads(incoming.readline() or b"{}"))
    return {}


def test_a_watcher_that_stands_still_holds_nobody_up_and_is_told_what_it_lost(watched: Account, wire: Wire) -> None:
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        session.call("qemu_pcap_start", interface=wire.near, **RING)
        (path,) = sockets_of(watched)
        with (
            asked(path, b'{"do": "stream", "capture": "c1"}\n') as stream,
            asked(path, b'{"do": "pages", "capture": null, "filter": ""}\n\n') as pages,
        ):
            assert json.loads(pages.makefile("rb").readline())["labs"]
            wire.send(6000, size=1000)
            row = session.call("qemu_pcap_stop")
            assert (row["packets"] + row["packets_overwritten"], row["dropped_kernel"]) == (6000, 0)
            incoming = stream.makefile("rb")
            assert json.loads(incoming.readline()) == {"format": "pcap"}
            while size := struct.unpack("!I", incoming.read(4))[0]:
                assert len(incoming.read(size)) == size
            end = json.loads(incoming.readline())
            events = [each for line in _all_pages(pages) for each in json.loads(line)["events"]]
    assert end["error"].startswith("capture.unreadable: what comes next in this capture is not there any more")
    assert end["capture"]["id"] == "c1"
    lost = [each["text"] for each in events if each["source"] == "lost"]
    assert lost
    shown = sum(each["source"] == "packet" for each in events)
    assert sum(int(each.split()[0]) for each in lost) + shown == 6000


def test_few_packets_are_shown_of_many_more_than_anybody_reads(watched: Account, wire: Wire) -> None:
    """A filter that selects most of them does not make anybody look at all of these."""
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        session.call("qemu_pcap_start", interface=wire.near)
        wire.send(1, protocol=0x88B6)
        wire.send(3000)
        wire.send(1, protocol=0x88B6)
        assert session.call("qemu_pcap_stop")["packets"] == 3002
        (path,) = sockets_of(watched)
        numbers = {}
        for chosen in ("ether proto 0x88b6", "ether proto 0x88b5"):
            question = json.dumps({"do": "pages", "capture": "c1", "filter": chosen}).encode()
            with asked(path, question + b"\n\n") as pages:
                first = json.loads(pages.makefile("rb").readline())["events"]
                events = first + [each for line in _all_pages(pages) for each in json.loads(line)["events"]]
            assert not [each for each in events if each["source"] == "error"]
            shown = [each["number"] for each in events if each["source"] == "packet"]
            lost = [each["text"] for each in events if each["source"] == "lost"]
            numbers[chosen] = (shown, lost)
    assert numbers["ether proto 0x88b6"] == ([1, 3002], [])
    shown, (lost,) = numbers["ether proto 0x88b5"]
    assert len(shown) < 3000
    assert lost.endswith(" packets came too fast to be looked at")


def _all_pages(connection: socket.socket) -> Iterator[bytes]:
    incoming, more = connection.makefile("rb"), True
    while more:
        connection.sendall(b"\n")
        yield (line := incoming.readline())
        more = json.loads(line)["more"]


def test_which_server_and_who_may(watched: Account) -> None:
    """None, several, another user's; and what is no request."""
    none = rawtap(watched, "watch", "--json")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("rawtap: server.unknown: no server of yours runs here")
    with server_of(watched) as first:
        (path,) = sockets_of(watched)
        assert [oct(each.stat().st_mode & 0o777) for each in (path.parent, path)] == ["0o700", "0o600"]
        with server_of(watched, "--rootless") as second:
            several = rawtap(watched, "watch", "--json")
            assert several.returncode == 1
            assert several.stderr.startswith("rawtap: server.unknown: 2 servers run (")
            assert all(f"{each.pid}: rawtap serve in " in several.stderr for each in (first, second))
            with Watching.of(watched, "--server", str(second.pid)) as watching:
                watching.until("state", "")
                second.process.terminate()
                assert watching.rest() == (0, GOODBYE)
        wrong = rawtap(watched, "watch", "--server", "1", "--json")
        assert f"server.unknown: no server of yours has the pid 1 (those that run: {first.pid})" in wrong.stderr
        stranger = rawtap(replace(watched, uid=NOBODY, gid=NOBODY, groups="--clear-groups"), "watch", "--json")
        assert stranger.stderr.startswith("rawtap: server.unknown: no server of yours runs here")
        _is_closed_to_others(path)
        for request, code in (
            (b'{"do": "boot"}\n', "request.invalid"),
            (b'{"do": "pages", "capture": 1, "filter": ""}\n', "request.invalid"),
            (b"\x00\xff\n", "request.invalid"),
            (b"[]\n", "request.invalid"),
            (b"[" * 4000 + b"\n", "request.invalid"),
            (b'{"do": "pages", "capture": null, "filter": "host a.example"}\n', "capture.bad_filter"),
        ):
            assert line_of(asked(path, request))["error"].startswith(f"{code}: ")
        assert line_of(asked(path, b"x" * 100_000)) == {}
        crowd = [asked(path, b'{"do": "pages", "capture": null, "filter": ""}\n\n') for _ in range(16)]
        assert all(json.loads(each.makefile("rb").readline())["labs"] == [] for each in crowd)
        assert line_of(asked(path, b"\n"))["error"].startswith("server.limit: 16 watch this server already")
        for each in crowd:
            each.close()
        assert eventually(lambda: line_of(asked(path, b'{"do": "state"}\n')).get("pid") == first.pid)


def _is_closed_to_others(path: Path) -> None:
    """Also where somebody has opened the folder and the socket to all."""
    path.parent.parent.chmod(0o755)
    path.parent.chmod(0o755)
    path.chmod(0o666)
    script = f"""import socket
s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})
try: s.sendall(b'{{"do": "state"}}\\n'); print(s.recv(100))
except ConnectionError as error: print(b"")"""
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c", script]
    done = subprocess.run(become, capture_output=True, text=True, check=True)
    assert done.stdout == "b''\n"
    path.parent.chmod(0o700)


def test_nobody_else_is_listened_to_and_in_a_namespace_nobody_is_everybody(watched: Account) -> None:
    """A folder of /tmp may have been another's first; and a user namespace has one number for all strangers."""
    folder = folder_of(watched)
    folder.mkdir()
    me = Owner.me()
    path = folder / f"{me.pid}-{me.start}-{me.pidns}.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        os.seteuid(NOBODY)  # the kernel notes who begins to listen
        listening.listen()
        os.seteuid(0)
        lied_to = rawtap(watched, "watch", "--json")
    assert (lied_to.returncode, lied_to.stdout) == (1, "")
    assert f"server.unknown: who listens at {path} is not this user" in lied_to.stderr
    path.unlink()
    for each in (folder, folder.parent):
        os.chown(each, NOBODY, NOBODY)
    folder.chmod(0o700)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", *watched.more]
    look = [sys.executable, "-I", "-c", "from rawtap.watched import places; print(places.of_this_process().path)"]
    unshared = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    plain, inside = (
        subprocess.run([*become, *way, *look], capture_output=True, text=True, check=False) for way in ([], unshared)
    )
    assert (plain.returncode, Path(plain.stdout).parent) == (0, folder), plain.stderr
    assert f"PermissionError: the user {NOBODY} cannot be told from all others" in inside.stderr


def test_a_watcher_that_is_killed_or_interrupted_leaves_nothing_in_the_server(watched: Account, wire: Wire) -> None:
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        capture = session.call("qemu_pcap_start", interface=wire.near)["path"]

        def held() -> int:
            files = [each.readlink() for each in Path(f"/proc/{server.pid}/fd").iterdir() if each.is_symlink()]
            return sum(str(each) == capture for each in files)

        unfit = rawtap(watched, "watch", "c1", "and", "and", "--json")
        assert (unfit.returncode, unfit.stdout) == (1, "")
        assert unfit.stderr.startswith("rawtap: capture.bad_filter: ")
        unwritten = watched.command("/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", RAWTAP, "watch", "--json")
        full = subprocess.run(unwritten, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (full.returncode, full.stderr) == (1, "rawtap: stdout cannot be written: No space left on device\n")
        before = held()
        for number in (signal.SIGKILL, signal.SIGINT):
            command = watched.command(RAWTAP, "watch", "c1", "--write", "-")
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writing:
                assert writing.stdout
                assert len(writing.stdout.read(24)) == 24
                assert eventually(lambda: held() == before + 1)
                writing.send_signal(number)
                assert writing.wait(PATIENCE) == -number
            assert eventually(lambda: held() == before)
        assert session.call("qemu_pcap_stop")["state"] == "stopped"
        other = HandSession(server)  # another client, with a capture of the same id
        other.call("qemu_pcap_start", interface=wire.near)
        both = rawtap(watched, "watch", "c1", "--json")
        assert both.returncode == 1
        assert "capture.unknown: 2 clients have a capture c1 (captures: " in both.stderr
        for name in re.findall(r"client-[0-9a-f]{16}/c1", both.stderr):
            with Watching.of(watched, name) as watching:
                (lab,) = watching.until("state", "")["labs"]
                assert name == f"{lab['name']}/c1"


def test_of_a_client_that_has_ended_everything_is_told(watched: Account, wire: Wire) -> None:
    """Also where it ends with the server."""
    with server_of(watched, "--allow-interface", wire.near) as server:
        sessions = [HandSession(server) for _ in range(2)]
        for each in sessions:
            each.call("qemu_pcap_start", interface=wire.near)
        with Watching.of(watched) as watching:
            there = [each["name"] for each in watching.until("state", "")["labs"]]
            sessions[0].end()
            watching.until("event", "this client has ended")
            server.process.terminate()
            assert watching.rest() == (0, GOODBYE)
    ended = [each["lab"] for each in watching.events if each["text"] == "this client has ended"]
    assert sorted(ended) == sorted(there)
    stopped = [each["lab"] for each in watching.events if each.get("kind") == "capture_ended"]
    assert stopped == ended


def test_a_server_that_was_killed_is_told_of_and_its_socket_goes_with_the_next_start(
    watched: Account, wire: Wire
) -> None:
    """In lines, and on the screen, which stays until the user leaves it."""
    account = replace(watched, more=(*watched.more, "TERM=xterm-256color"))
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        session.call("qemu_pcap_start", interface=wire.near)
        wire.send(3)
        with Screen.of(account, "watch") as screen, Watching.of(watched) as watching:
            fcntl.ioctl(screen.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
            os.kill(screen.process.pid, signal.SIGWINCH)
            screen.until(b"c1#3")
            screen.until(b"qemu_pcap_start")
            watching.until("packet", "")
            server.process.kill()
            code, said = watching.rest()
            assert (code, f"server.gone: the server {server.pid} is gone without a word" in said) == (1, True)
            screen.until(b"is gone without a word")
            screen.type(b"q")
            assert screen.end() == 1
    assert b"server.gone" in screen.said
    assert b"\x1b[?1049l" in screen.said  # the terminal's own screen is back
    (left,) = sockets_of(watched)
    assert rawtap(watched, "watch", "--json").stderr.startswith("rawtap: server.unknown: no server of yours runs")
    with server_of(watched):
        assert not left.exists()
    assert not sockets_of(watched)
