"""A capture's packets over HTTP: whole, and followed while its ring turns."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from http_support import HandSession, HttpServer, http_server
from support import Account, Wire, eventually, numbers_in, open_files, read_back

RING = {"files": 3, "max_bytes": 65536}
HEAD = b"\xff" * 6 + b"\x02\0\0\0\0\1" + (0x88B5).to_bytes(2, "big")


@pytest.fixture
def server(user: Account, wire: Wire) -> Iterator[HttpServer]:
    """One that may capture the wire."""
    with http_server(user, "--allow-interface", wire.near) as running:
        yield running


@dataclass
class Reader:
    """Somebody who reads a download as it comes."""

    answer: http.client.HTTPResponse
    body: bytearray = field(default_factory=bytearray)

    def read(self) -> None:
        while data := self.answer.read1(65536):
            self.body += data

    def has(self, number: int) -> bool:
        """Whether so many of the wire's frames are there."""
        return self.body.count(HEAD) >= number


@contextmanager
def following(server: HttpServer, session: HandSession, path: str) -> Iterator[tuple[Reader, threading.Thread]]:
    with server.asked("GET", path=path, **session.headers) as answer:
        assert answer.status == 200
        reader = Reader(answer)
        thread = threading.Thread(target=reader.read)
        thread.start()
        yield reader, thread
        thread.join()


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_capture_is_given_whole(server: HttpServer, wire: Wire, form: str) -> None:
    session = HandSession(server)
    session.call("qemu_pcap_start", interface=wire.near, format=form)
    wire.send(50)
    path = f"/captures/c1.{form}"
    with server.asked("GET", path=path, **session.headers) as answer:
        assert answer.headers["Content-Disposition"] == f'attachment; filename="c1.{form}"'
        running = answer.read()
    row = session.call("qemu_pcap_stop")
    with server.asked("GET", path=f"{path}?follow=1", **session.headers) as answer:
        ended = answer.read()
    file = Path(row["path"]).read_bytes()
    assert (row["packets"], ended) == (50, file)
    assert running.count(HEAD) == 50
    assert file.startswith(running)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_every_packet_is_in_what_is_followed_while_a_ring_turns(
    server: HttpServer, wire: Wire, form: str, tmp_path: Path
) -> None:
    session = HandSession(server)
    session.call("qemu_pcap_start", interface=wire.near, format=form, **RING)
    with following(server, session, f"/captures/c1.{form}?follow=1") as (reader, thread):
        for number in range(4000):
            wire.send_bytes((HEAD + number.to_bytes(4, "big")).ljust(60, b"\0"))
            if number % 100 == 99:  # a reader that keeps up
                assert eventually(lambda sent=number: reader.has(sent - 200))  # type: ignore[misc]
        row = session.call("qemu_pcap_stop")
        thread.join()
    assert row["packets_overwritten"] > 0
    copy = tmp_path / f"copy.{form}"
    copy.write_bytes(reader.body)
    assert read_back(copy) == 4000
    assert numbers_in(copy) == list(range(4000))


def test_a_reader_that_the_ring_has_overtaken_is_broken_off(server: HttpServer, wire: Wire) -> None:
    session = HandSession(server)
    session.call("qemu_pcap_start", interface=wire.near, **RING)
    with server.asked("GET", path="/captures/c1.pcap?follow=1", **session.headers) as answer:
        wire.send(40_000, size=1000)
        session.call("qemu_pcap_stop")
        with pytest.raises(http.client.IncompleteRead):
            answer.read()


@pytest.mark.parametrize("running", [True, False], ids=["runs", "ended"])
def test_a_file_that_is_gone_is_an_error_from_the_first_byte_on(server: HttpServer, wire: Wire, running: bool) -> None:
    session = HandSession(server)
    path = session.call("qemu_pcap_start", interface=wire.near)["path"]
    wire.send(3)
    if not running:
        session.call("qemu_pcap_stop")
    Path(path).unlink()
    with server.asked("GET", path="/captures/c1.pcap", **session.headers) as answer:
        assert answer.status == 410
        assert b"capture.unreadable: what comes next in this capture is not there any more" in answer.read()


def test_who_could_not_see_that_it_was_broken_off_is_refused(
    server: HttpServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = HandSession(server)
    session.call("qemu_pcap_start", interface=wire.near)
    monkeypatch.setattr(http.client.HTTPConnection, "_http_vsn_str", "HTTP/1.0")
    with server.asked("GET", path="/captures/c1.pcap", **session.headers) as answer:
        assert answer.status == 505
        assert b"proxy_http_version 1.1" in answer.read()


def test_who_goes_away_from_a_quiet_capture_leaves_nothing_open(server: HttpServer, wire: Wire) -> None:
    session = HandSession(server)
    path = session.call("qemu_pcap_start", interface=wire.near)["path"]

    def count() -> int:
        files = Path(f"/proc/{server.pid}/fd")
        return sum(str(each.readlink()) == path for each in files.iterdir() if each.is_symlink())

    assert path in open_files(server.pid)
    before = count()
    with server.asked("GET", path="/captures/c1.pcap?follow=1", **session.headers) as answer:
        assert len(answer.read(24)) == 24
        assert eventually(lambda: count() == before + 1)
    assert eventually(lambda: count() == before)
    assert session.call("qemu_pcap_stop")["state"] == "stopped"


def test_it_is_its_clients_alone(server: HttpServer, wire: Wire) -> None:
    session, other = HandSession(server), HandSession(server)
    named = HandSession(server, path="/mcp/mine")
    session.call("qemu_pcap_start", interface=wire.near)
    named.call("qemu_pcap_start", interface=wire.near)

    def status(path: str, **headers: str | None) -> int:
        with server.asked("GET", path=path, **headers) as answer:
            return answer.status

    assert status("/captures/c1.pcap", **session.headers) == 200
    assert status("/captures/mine/c1.pcap") == 200
    assert status("/captures/c1.pcap", **session.headers, Authorization=None) == 401
    for path, headers in (
        ("/captures/c1.pcap", other.headers),
        ("/captures/c1.pcap", {}),
        ("/captures/other/c1.pcap", {}),
        ("/captures/c2.pcap", session.headers),
        ("/captures/c1.pcapng", session.headers),
        ("/captures/../c1.pcap", session.headers),
        ("/captures/c1.pcap?follow=yes", session.headers),
    ):
        assert status(path, **headers) == 404, path
