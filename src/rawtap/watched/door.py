"""The socket of a running server by which its user watches it.

Theory of operation. Whoever connects has the same user, which the folder, the socket's mode and the kernel's word on
the peer say, each for itself. A watcher sends one line of JSON, soon and short, and nothing after it but empty lines.
It is answered by lines of JSON, or by frames of a capture; nothing that it sends changes anything. What it is sent
waits for it alone: a page is made when it asks for one, a capture is read from its files at its own pace.
What is said is in `rawtap.watched.protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from rawtap.errors import BadFilter, CaptureUnknown, RawtapError, RequestInvalid, ServerLimit
from rawtap.watched.protocol import LENGTH, full_name

if TYPE_CHECKING:
    from rawtap.lab.captures import Capture
    from rawtap.watched.pages import Subject, Watch
    from rawtap.watched.places import Place

    Subjects = Callable[[], Sequence[Subject]]

ENDED = "the server has ended in order, and released what it had"
_MOST_WATCHERS = 16
_LONGEST = 4096  # bytes of a request
_REQUEST_SECONDS = 5.0
_IDLE_SECONDS = 60.0  # without a question, or without room for the answer
_GRACE_SECONDS = 1.0  # for what is on its way out, when everything is released

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_to_watchers(subjects: Subjects, ready: anyio.Event | None = None) -> AsyncIterator[None]:
    """Be watched while the block runs, from when `ready` is set, or soon.

    What is on its way out at its end, as the last packets of captures, gets a little time. A server that cannot be
    watched says so in its log, and goes on.
    """
    door = _Door(subjects)
    opening = asyncio.create_task(door.open_when(ready))
    try:
        yield
    finally:
        opening.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([opening])
            await door.close()


class _Door:
    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects
        self._place: Place | None = None
        self._server: asyncio.Server | None = None
        self._watchers: dict[asyncio.Task[None], _Watcher] = {}

    async def open_when(self, ready: anyio.Event | None) -> None:
        if ready:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), _GRACE_SECONDS)
        from rawtap.watched import places

        try:
            self._place = places.of_this_process()  # first: in a folder that is not this user's nothing is removed
            places.sweep()
            listening = _listening_at(self._place)
            # It serves in a second step: a cancellation in the first would leave it open, and nobody would know of it.
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, limit=_LONGEST, start_serving=False
            )
            await self._server.start_serving()
        except (OSError, RuntimeError) as error:
            logger.warning("nobody can watch this server: %s", error)

    async def close(self) -> None:
        """Let nobody in; tell who is there, and give them a little time."""
        if self._server:
            self._server.close()
        if self._place:
            try:
                self._place.path.unlink(missing_ok=True)
            except OSError as error:  # nobody listens there any more, and the next server removes it
                logger.warning("a socket is left: %s", error)
        for each in self._watchers.values():
            each.be_told(ENDED)
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=_GRACE_SECONDS)
        for task in self._watchers:
            task.cancel()
        if self._watchers:
            await asyncio.wait(self._watchers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from rawtap.watched import places

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this in one
        watcher = _Watcher(reader, writer, self._subjects)
        try:
            if not places.is_of_this_user(writer.get_extra_info("socket")):
                logger.warning("a watcher of another user was sent away")
                return
            if len(self._watchers) >= _MOST_WATCHERS:
                await watcher.refuse(
                    ServerLimit(
                        f"{_MOST_WATCHERS} watch this server already",
                        evidence=f"the limit is {_MOST_WATCHERS}",
                        cure="End one of them",
                    )
                )
                return
            self._watchers[task] = watcher
            await watcher.serve()
        except (ConnectionError, EOFError) as error:
            logger.info("a watcher is gone: %r", error)
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:  # which the watcher says is here
            logger.warning("a watcher was let go, which asked for too much or nothing, or took no answer: %r", error)
        finally:
            self._watchers.pop(task, None)
            writer.transport.abort()


def _listening_at(place: Place) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place.path.unlink(missing_ok=True)
        listening.bind(str(place.path))
        place.path.chmod(0o600)
        listening.listen(_MOST_WATCHERS)
    except BaseException:
        listening.close()
        raise
    return listening


class _Watcher:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, subjects: Subjects) -> None:
        self._reader, self._writer, self._subjects = reader, writer, subjects
        writer.transport.set_write_buffer_limits(0)  # what was drained is with the kernel, and nothing else waits here
        self._bye: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def be_told(self, bye: str) -> None:
        """Say that at the next opportunity, and end."""
        if not self._bye.done():
            self._bye.set_result(bye)

    async def refuse(self, error: RawtapError) -> None:
        await self._say({"error": str(error)})

    async def serve(self) -> None:
        """Answer its request."""
        asked = await asyncio.wait_for(self._reader.readuntil(b"\n"), _REQUEST_SECONDS)
        try:
            await self._answer(_request(asked))
        except RawtapError as error:
            await self.refuse(error)

    async def _answer(self, asked: dict[str, Any]) -> None:
        from rawtap.watched import pages

        match asked:
            case {"do": "state"}:
                states = [pages.state_of(each) for each in self._subjects()]
                await self._say({"pid": os.getpid(), "command": sys.argv[1:2], "folder": _folder(), "labs": states})
            case {"do": "pages", "capture": None, "filter": str() as expression}:
                await self._pages(pages.Watch(self._subjects, None, await _checked(expression)))
            case {"do": "pages", "capture": str() as name, "filter": str() as expression}:
                lab, capture = self._find(name)
                subjects = partial(self._of, lab)
                await _require_fit(await _checked(expression), capture)
                await self._pages(pages.Watch(subjects, capture.id, expression))
            case {"do": "stream", "capture": str() as name}:
                await self._stream(self._find(name)[1])
            case _:
                raise RequestInvalid("a watcher asked for something unknown", cure="Use the same release on both sides")

    def _of(self, lab: str) -> list[Subject]:
        return [each for each in self._subjects() if each.name == lab]

    def _find(self, name: str) -> tuple[str, Capture]:
        """The capture of that id, as in c1, or of that Lab's, as in LAB/c1; and the Lab's name."""
        labs = [(each.name, lab) for each in self._subjects() if (lab := each.lab()) is not None]
        there = {full_name(lab, each.id): (lab, each) for lab, its in labs for each in its.captures.all()}
        found = [each for full, each in there.items() if name in {full, each[1].id}]
        if len(found) == 1:
            return found[0]
        raise CaptureUnknown(
            f"{len(found)} clients have a capture {name}" if found else f"there is no capture {name}",
            evidence=f"captures: {', '.join(there) or 'none'}",
            cure="Name one of them",
        )

    async def _pages(self, watch: Watch) -> None:
        while True:
            asking = asyncio.ensure_future(self._reader.readline())
            either: list[asyncio.Future[Any]] = [asking, self._bye]
            try:
                await asyncio.wait(either, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if self._bye.done():
                    await self._say(await watch.last() | {"bye": self._bye.result()})
                    return
                if not asking.done():
                    await self._say({"error": f"this watcher asked for nothing for {_IDLE_SECONDS:g} s"})
                    return
                if not asking.result():
                    return
            finally:
                asking.cancel()
            await self._say(await watch.page())

    async def _stream(self, capture: Capture) -> None:
        sending = asyncio.ensure_future(self._send(capture))
        gone = asyncio.ensure_future(self._until_gone(sending))
        try:
            await sending
        except asyncio.CancelledError:
            if not gone.done():
                raise
        finally:
            gone.cancel()

    async def _until_gone(self, sending: asyncio.Task[None]) -> None:
        """A capture that is quiet has nothing to send, by which a watcher that is gone would be noticed."""
        with contextlib.suppress(OSError):
            await self._reader.read(1)  # who watches says nothing more
        sending.cancel()

    async def _send(self, capture: Capture) -> None:
        from rawtap.ask.stream import stream
        from rawtap.watched import pages

        end: dict[str, Any] = {}
        before: list[int] = []
        await self._say({"format": capture.session.request.format})
        try:
            async with aclosing(stream(capture, follow=True, begun=before.append)) as data:
                async for each in data:
                    self._writer.write(LENGTH.pack(len(each)) + each)
                    await self._writer.drain()
        except RawtapError as error:
            end = {"error": str(error)}
        self._writer.write(LENGTH.pack(0))
        await self._say(end | {"capture": pages.capture_state(capture), "before": sum(before)})

    async def _say(self, line: dict[str, Any]) -> None:
        self._writer.write(json.dumps(line).encode() + b"\n")
        await asyncio.wait_for(self._writer.drain(), _IDLE_SECONDS)


def _folder() -> str:
    """Which of several servers this is, a person knows by where it was started."""
    try:
        return os.getcwd()  # noqa: PTH109 - a word of it, no path
    except OSError:  # it was removed
        return ""


def _request(line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):  # a few thousand brackets
        asked = None
    return asked if isinstance(asked, dict) else {}


async def _checked(expression: str) -> str:
    from anyio.to_thread import run_sync as to_thread

    from rawtap.capture import filters

    return await to_thread(filters.checked, expression)


async def _require_fit(expression: str, capture: Capture) -> None:
    """Who looks on at one capture hears at once of a filter that is none for its frames, and not with its first."""
    from anyio.to_thread import run_sync as to_thread

    from rawtap._bpf import FilterRefused
    from rawtap.packets.tags import FrameFilter

    link_type = capture.session.source.worker.link_type
    try:
        await to_thread(partial(FrameFilter, expression, link_type, live=capture.live))
    except FilterRefused as error:
        raise BadFilter.because(expression, f"libpcap: {error}") from error
