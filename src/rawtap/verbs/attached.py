"""The other end of a running server's socket: which servers there are, and what is asked of one."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rawtap.errors import ServerGone, ServerUnknown
from rawtap.untrusted import visible
from rawtap.watched import places
from rawtap.watched.places import Place
from rawtap.watched.protocol import LENGTH

_LONGEST = 16 << 20  # bytes of a line
_STATE_SECONDS = 5.0
_END_SECONDS = 2.0


class Refused(Exception):
    """A server's error: its text says what happened, the evidence, and the cure."""


class Attached:
    """A connection to one server. Whatever reads raises `Refused`, and ServerGone where it was killed."""

    def __init__(self, place: Place, connection: socket.socket) -> None:
        self._place, self._connection = place, connection
        self._incoming = connection.makefile("rb")

    def ask(self, **request: object) -> None:
        """Say what is wanted."""
        self.send(json.dumps(request).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send it; a server that is gone has perhaps said why, which who reads is told."""
        try:
            self._connection.sendall(data, socket.MSG_NOSIGNAL)
        except OSError:
            return

    def line(self) -> dict[str, Any]:
        """The next line."""
        try:
            line = self._incoming.readline(_LONGEST)
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._gone()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise Refused(told["error"])
        return told

    def page(self) -> dict[str, Any]:
        """What happened since the last one; after `ask(do="pages", ...)`. One with "bye" is the last."""
        self.send(b"\n")
        return self.line()

    def frames(self) -> Iterator[bytes]:
        """What a capture has, and gets, until its end; then a line follows."""
        while size := LENGTH.unpack(self._exactly(LENGTH.size))[0]:
            yield self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._incoming.read(size)
        except ConnectionError:
            data = b""
        if len(data) < size:
            raise self._gone()
        return data

    def _gone(self) -> Exception:
        pid = self._place.pid
        if _has_ended(pid):
            cure = "It was killed, or crashed, or ended while this watcher was behind; its stderr says why"
            return ServerGone(f"the server {pid} is gone without a word", evidence="it has ended", cure=cure)
        return Refused(f"the server {pid} let this watcher go, in the middle of an answer: its stderr says why")


def _has_ended(pid: int) -> bool:
    """Whether a process whose socket was closed is over, or will be in a moment."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], _END_SECONDS)[0])
    finally:
        os.close(fd)


@contextmanager
def attached(place: Place, seconds: float | None = None) -> Iterator[Attached]:
    """A connection to that server, for as long as the block runs; `seconds` is the patience for each answer.

    Raises:
        ServerUnknown: It is not there any more, or somebody else listens there, and what it says would be a lie.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(place.path))
        except OSError as error:
            raise ServerUnknown(
                f"the server {place.pid} cannot be watched", evidence=str(error), cure="It has just ended: try again"
            ) from error
        if not places.is_of_this_user(connection):
            raise ServerUnknown(
                f"who listens at {place.path} is not this user",
                evidence="the kernel says so (SO_PEERCRED)",
                cure="Have it removed, or set XDG_RUNTIME_DIR to a folder of your own, for the server as well",
            )
        yield Attached(place, connection)


def states() -> list[tuple[Place, dict[str, Any]]]:
    """The user's servers that answer, and what each has."""
    found = []
    for place in places.running():
        try:
            with attached(place, _STATE_SECONDS) as server:
                server.ask(do="state")
                found.append((place, server.line()))
        except (ServerUnknown, ServerGone, Refused, TimeoutError):
            continue
    return found


def chosen(pid: int | None) -> Place:
    """The server of that pid, or the only one that runs.

    Raises:
        ServerUnknown: There is none, or there are several; with what each has.
    """
    found = [each for each in places.running() if pid in {None, each.pid}]
    if len(found) == 1:
        return found[0]
    if pid is not None and not found:
        raise ServerUnknown(
            f"no server of yours has the pid {pid}",
            evidence=f"those that run: {_pids() or 'none'}",
            cure="Name one of them: rawtap watch --server PID",
        )
    if not found:
        raise ServerUnknown(
            "no server of yours runs here",
            evidence=f"there is no socket in {places.folder()}",
            cure="An agent's host starts one, and so do rawtap boot and rawtap capture in another terminal",
        )
    answered = {place: in_words(state) for place, state in states()}
    told = "; ".join(answered.get(each, f"{each.pid}: it does not answer") for each in found)
    raise ServerUnknown(f"{len(found)} servers run", evidence=told, cure="Name one: rawtap watch --server PID")


def _pids() -> str:
    return ", ".join(str(each.pid) for each in places.running())


def in_words(state: dict[str, Any]) -> str:
    """A server, and what it has."""
    guests = [each["name"] for lab in state["labs"] for each in lab["guests"]]
    captures = [each["id"] for lab in state["labs"] for each in lab["captures"]]
    has = ", ".join([*(f"guest {each}" for each in guests), *captures]) or "nothing"
    return f"{state['pid']}: rawtap {' '.join(state['command'])} in {visible(state['folder'])} has {has}"
