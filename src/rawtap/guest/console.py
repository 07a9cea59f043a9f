"""A guest's serial console: the host's end of the line, and waiting for what comes on it.

What a guest prints is untrusted data. Its control sequences are taken out as it comes (`escapes`), and what is left is
kept as bytes, matched as bytes, and shown with every control character except line feed and tab made visible.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rawtap.guest.escapes import Plain
from rawtap.guest.history import History, printable
from rawtap.guest.signs import Signs

SHOWN_CHARACTERS = 8000
_READ = 65536
_KEPT_READS = 256
_HELD_SECONDS = 2.0  # a control sequence whose rest does not come for so long is none

T = TypeVar("T")

# Given the seconds since something came last: what a wait is for, or in how many seconds to look again, or None.
Judge = Callable[[float], T | float | None]


@dataclass(frozen=True)
class Output:
    """What a console showed: text for reading, and where in the stream it ended.

    `position` is where it ended in the stream; `truncated` tells that `text` is not the whole of what was asked for,
    and `cut_from` where that began, where its front was cut. `which` of what was waited for came, `exit_status` of a
    command where the shell told one, and `notes` are for the reader: what else
    ended it, and what to do. `how` it ended is a word of `endings`, None for a time-out.
    """

    text: str
    matched: bool
    truncated: bool
    position: int
    cut_from: int | None = None
    which: str | None = None
    exit_status: int | None = None
    notes: tuple[str, ...] = ()
    how: str | None = None


class _Waiting(Generic[T]):
    """Somebody who waits for what `judge` finds."""

    def __init__(self, judge: Judge[T], quiet: Callable[[], float]) -> None:
        self._judge = judge
        self._quiet = quiet
        self._timer: asyncio.TimerHandle | None = None
        self.answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

    def look(self, *, last: bool = False) -> None:
        """Judge what has come, unless the answer is there; nothing comes after the `last` look."""
        if self.answer.done():
            return
        found = self._judge(self._quiet())
        self.stop()
        if isinstance(found, float) and not last:
            self._timer = asyncio.get_running_loop().call_later(max(found, 0.001), self.look)
        elif (found is not None and not isinstance(found, float)) or last:
            self.answer.set_result(None if isinstance(found, float) else found)

    def stop(self) -> None:
        """Look no more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Console:
    """The host's end of a guest's serial line.

    Attributes:
        plain: What takes the control sequences out, and finds the frames' signs.
        signs: What the lines tell of trouble.
        halted: Why the guest stands still, in words, where somebody holds it; None where it runs.
        watcher: Is given what the guest says as it comes, with its control sequences.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.history = History()
        self.plain = Plain()
        self.signs = Signs()
        self.closed = False
        self.halted: str | None = None
        self.watcher: Callable[[bytes], object] | None = None
        self._secret = b""  # what of a password may come back yet
        self._waiting: list[_Waiting[object]] = []
        self.unread = 0
        self._held: asyncio.TimerHandle | None = None
        # Of those that took all that there was: when each began (Unix time, nanoseconds), and where it ended.
        self._reads: deque[tuple[int, int]] = deque(maxlen=_KEPT_READS)
        loop = asyncio.get_running_loop()
        self._last_at = loop.time()
        # A UART's output comes in bits of a few bytes, and each is read and judged in this one callback: a task that
        # woke up for every bit would take the guest's own time on a machine of few processors.
        loop.add_reader(sock, self._readable)

    def _readable(self) -> bool:
        """Read what there is; whether there may be more."""
        began_ns = time.time_ns()
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""  # QEMU was killed: as good as end of file
        if data:
            self._last_at = asyncio.get_running_loop().time()
            if self.watcher:
                self.watcher(data)
            self._keep(self.plain.feed(data))
            if len(data) < _READ:
                self._reads.append((began_ns, self.history.end))
        else:
            self._end()
        self.look()
        return bool(data)

    def _keep(self, text: bytes) -> None:
        text = self._masked(text)
        self.history.append(text)
        self.signs.feed(text)
        if self._held is not None:
            self._held.cancel()
        self._held = asyncio.get_running_loop().call_later(_HELD_SECONDS, self._give_back) if self.plain.holds else None

    def _give_back(self) -> None:
        """What looked like the beginning of a control sequence was text."""
        self._held = None
        self._keep(self.plain.give_back())
        self.look()

    def hide(self, secret: str) -> None:
        """What is typed next is nobody's to read: where a guest gives it back, it is kept as asterisks."""
        self._secret = secret.encode()

    def _masked(self, text: bytes) -> bytes:
        count = 0
        while self._secret and count < len(text):
            same = text[count] == self._secret[0]
            self._secret = self._secret[1:] if same else b""
            count += same
        return b"*" * count + text[count:]

    def drain(self) -> None:
        """Read all that is there by now."""
        while not self.closed and self._readable():
            pass

    def said_by(self, at_ns: int) -> int:
        """The position up to which what came may have been said by that time (Unix time, nanoseconds).

        What is behind it was said later: a read takes all that there is, so the next one finds what came since.
        """
        return next((end for began_ns, end in self._reads if began_ns >= at_ns), self.history.end)

    def _end(self) -> None:
        self.closed = True
        self._keep(self.plain.give_back())
        asyncio.get_running_loop().remove_reader(self._socket)

    def look(self) -> None:
        """Have everybody who waits look again: something else happened."""
        for waiting in [*self._waiting]:
            waiting.look(last=self.closed)

    @property
    def quiet(self) -> float:
        """Seconds since something came last."""
        return asyncio.get_running_loop().time() - self._last_at

    async def write(self, data: bytes) -> None:
        """Type `data`. The guest's UART takes it at its own pace.

        Raises:
            ConnectionError: The guest is gone.
        """
        self.history.marks.cut()  # what comes now is not a part of the prompt
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def race(self, judge: Judge[T], timeout: float) -> T | None:
        """Judge whenever something comes, or when the judge wants to; None on time-out or at the console's end."""
        waiting: _Waiting[T] = _Waiting(judge, lambda: self.quiet)
        self._waiting.append(waiting)  # type: ignore[arg-type]
        try:
            waiting.look(last=self.closed)
            async with asyncio.timeout(timeout):
                return await waiting.answer
        except TimeoutError:
            return waiting.answer.result() if waiting.answer.done() and not waiting.answer.cancelled() else None
        finally:
            waiting.stop()
            self._waiting.remove(waiting)  # type: ignore[arg-type]

    async def wait(self, test: Callable[[], int | None], timeout: float) -> int | None:
        """Try `test` whenever output comes; the position that it finds. None on time-out or at the console's end."""
        return await self.race(lambda _: test(), timeout)

    def page(self, position: int) -> Output:
        """What the console showed from `position` on, from the front: `truncated` tells that more follows."""
        raw = self.history.since(position, SHOWN_CHARACTERS)
        end = max(position, self.history.start) + len(raw)
        text = printable(self.history.shown(position, end))
        return Output(text, matched=False, truncated=end < self.history.end, position=end)

    def show(self, start: int, *, matched: bool = False, instead: str = "") -> Output:
        """What came since `start`, bounded, as an answer; a later read goes on behind it. `instead` goes before it."""
        self.unread = self.history.end
        text = instead + printable(self.history.shown(start))
        cut = len(text) > SHOWN_CHARACTERS or start < self.history.start
        return Output(text[-SHOWN_CHARACTERS:], matched, cut, self.history.end, cut_from=start if cut else None)

    def close(self) -> None:
        """Stop reading and close the socket; the history stays."""
        if not self.closed:
            self._end()
            self.look()
        self._socket.close()
