"""A guest's serial console: a bounded history, and waiting for text in it.

What a guest prints is untrusted data. It is kept as bytes, matched as bytes, and shown with every control
character except line feed and tab made visible, so that nobody's terminal or prompt obeys it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from rawtap.guest.marks import Marks
from rawtap.untrusted import visible

HISTORY_BYTES = 1 << 20
SHOWN_CHARACTERS = 8000
_TYPING_SECONDS = 2.0
_ECHO_SLACK = 4096  # line breaks that a console puts into an echo


def printable(raw: bytes) -> str:
    """Console bytes as text: CR LF as LF; what is not printable, and bytes that are no UTF-8, as escapes."""
    text = re.sub(rb"\r+\n", b"\n", raw).decode("utf-8", errors="backslashreplace")
    return visible(text, keep="\n\t")


class History:
    """The last `limit` bytes of a stream, addressed by their position in the whole stream. Pure."""

    def __init__(self, limit: int = HISTORY_BYTES) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.start = 0  # position of the oldest byte that is kept
        self.marks = Marks()

    @property
    def end(self) -> int:
        """Position after the newest byte."""
        return self.start + len(self._bytes)

    def append(self, data: bytes) -> None:
        """Add what was read, forget what is too old. It may hold up to twice the limit in between."""
        self.marks.note(self.end, self._bytes[-1:], data)
        self._bytes += data
        if len(self._bytes) > 2 * self._limit:
            surplus = len(self._bytes) - self._limit
            del self._bytes[:surplus]
            self.start += surplus
            self.marks.forget(self.start)

    def since(self, position: int, limit: int | None = None) -> bytes:
        """What came from `position` on, as far as it is kept, `limit` bytes at most."""
        first = max(0, position - self.start)
        return bytes(self._bytes[first : None if limit is None else first + limit])

    def last_lines(self, limit: int) -> bytes:
        """The stream's end, `limit` bytes at most, from the beginning of a line on; b"" where none begins in it."""
        first = max(self.start, self.end - limit)
        tail = self.since(first)
        return tail if first == 0 else tail.partition(b"\n")[2]

    def line_end(self, position: int, stop: int) -> int:
        """Position after the line feed that ends the line at `position`, or `stop` where none comes before it."""
        found = self._bytes.find(b"\n", max(0, position - self.start), max(0, stop - self.start))
        return stop if found < 0 else self.start + found + 1

    def skip(self, pattern: re.Pattern[bytes], position: int) -> int:
        """Position after what matches at `position`."""
        match = pattern.match(self._bytes, max(0, position - self.start))
        return self.start + match.end() if match else position

    def find(self, pattern: re.Pattern[bytes], position: int) -> int | None:
        """Position after the first match at or after `position`, None where there is none."""
        # Where the beginning was cut off, the first byte that is kept starts no line for sure.
        first = 1 if self.start else 0
        match = pattern.search(self._bytes, max(first, position - self.start))
        return self.start + match.end() if match else None


@dataclass(frozen=True)
class Output:
    """What a console showed: text for reading, and where in the stream it ended.

    `position` is where it ended in the stream; `truncated` tells that `text` is not the whole of what was asked for,
    and `cut_from` where that began, where its front was cut.
    """

    text: str
    matched: bool
    truncated: bool
    position: int
    cut_from: int | None = None


def pattern_for(text: str, *, at_line_start: bool) -> re.Pattern[bytes]:
    """A pattern for literal `text`; a prompt counts at the start of a line only."""
    literal = re.escape(text.encode())
    return re.compile(rb"(?:\A|(?<=[\r\n]))" + literal if at_line_start else literal)


def echo_end(output: bytes, command: bytes) -> int | None:
    """Where the echo of `command` ends in what came after it was sent.

    None while it may still be coming; 0 where the guest does not echo. Carriage returns and line feeds are
    passed over: a console wraps long lines and ends an echo in its own way.
    """
    at = 0
    for byte in command:
        while at < len(output) and output[at] in b"\r\n" and output[at] != byte:
            at += 1
        if at == len(output):
            return None
        if output[at] != byte:
            return 0
        at += 1
    return at


@dataclass(eq=False)
class _Waiting:
    """Somebody who waits for what `test` finds in a console's output."""

    test: Callable[[], int | None]
    answer: asyncio.Future[int | None]

    def look(self, *, last: bool) -> None:
        """Try the test on what has come, unless the answer is there; nothing comes after the `last` look."""
        if not self.answer.done() and ((found := self.test()) is not None or last):
            self.answer.set_result(found)


class Console:
    """The host's end of a guest's serial line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.history = History()
        self.closed = False
        self._waiting: list[_Waiting] = []
        self._unread = 0
        # A UART's output comes in bits of a few bytes, and each is read and searched in this one callback: a task that
        # woke up for every bit would take the guest's own time on a machine of few processors.
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""  # QEMU was killed: as good as end of file
        if data:
            self.history.append(data)
        else:
            self._end()
        self._tell()

    def _end(self) -> None:
        self.closed = True
        asyncio.get_running_loop().remove_reader(self._socket)

    def _tell(self) -> None:
        for waiting in self._waiting:
            waiting.look(last=self.closed)

    async def write(self, data: bytes) -> None:
        """Type `data`. The guest's UART takes it at its own pace.

        Raises:
            ConnectionError: The guest is gone.
        """
        self.history.marks.cut()  # what comes now is not a part of the prompt
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def wait(self, test: Callable[[], int | None], timeout: float) -> int | None:
        """Try `test` whenever output comes; the position that it finds. None on time-out or at the console's end."""
        if (found := test()) is not None or self.closed:
            return found
        waiting = _Waiting(test, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await waiting.answer
        except TimeoutError:
            return waiting.answer.result() if waiting.answer.done() and not waiting.answer.cancelled() else None
        finally:
            self._waiting.remove(waiting)

    async def wait_for(self, pattern: re.Pattern[bytes], position: int, timeout: float) -> int | None:
        """Wait for `pattern` at or after `position` and return where it ended."""
        return await self.wait(self._search(pattern, position), timeout)

    def _search(self, pattern: re.Pattern[bytes], position: int) -> Callable[[], int | None]:
        """A test for `wait`. It looks at new output, and at older output only as far as a match could begin there."""
        at = position

        def search() -> int | None:
            nonlocal at
            found = self.history.find(pattern, at)
            at = max(at, self.history.end - len(pattern.pattern))
            return found

        return search

    async def command(self, command: str, enter: str, pattern: re.Pattern[bytes] | None, timeout: float) -> Output:
        """Type a command and wait for `pattern` in what comes after its echo; None waits for `timeout` seconds.

        Raises:
            TimeoutError: The guest did not even take the command.
            ConnectionError: The guest is gone.
        """
        typed = command.encode()
        sent_at = self.history.end
        deadline = asyncio.get_running_loop().time() + timeout
        # A command that a guest takes at all it takes at once; so a wait of 0 seconds still types it.
        async with asyncio.timeout(max(timeout, _TYPING_SECONDS)):
            await self.write(typed + enter.encode())

        search: Callable[[], int | None] | None = None

        def answered() -> int | None:
            nonlocal search
            if search is None:
                echo = echo_end(self.history.since(sent_at, len(typed) * 2 + _ECHO_SLACK), typed)
                if echo is None or pattern is None:
                    return None
                search = self._search(pattern, sent_at + echo)
            return search()

        left = max(0.0, deadline - asyncio.get_running_loop().time())
        return self.show(sent_at, await self.wait(answered, left))

    async def read(self, pattern: re.Pattern[bytes] | None, timeout: float) -> Output:
        """What came since the last answer; waits for `pattern`, or for anything at all."""
        start = self._unread
        if pattern is not None:
            end = await self.wait_for(pattern, start, timeout)
        else:
            await self.wait(lambda: self.history.end if self.history.end > start else None, timeout)
            end = None
        return self.show(start, end)

    def page(self, position: int) -> Output:
        """What the console showed from `position` on, from the front: `truncated` tells that more follows."""
        raw = self.history.since(position, SHOWN_CHARACTERS)
        end = max(position, self.history.start) + len(raw)
        return Output(printable(raw), matched=False, truncated=end < self.history.end, position=end)

    def show(self, start: int, matched_at: int | None) -> Output:
        """What came since `start`, bounded, as an answer; a later `read` goes on behind it."""
        self._unread = self.history.end
        text = printable(self.history.since(start))
        cut = len(text) > SHOWN_CHARACTERS or start < self.history.start
        return Output(
            text[-SHOWN_CHARACTERS:], matched_at is not None, cut, self.history.end, cut_from=start if cut else None
        )

    def close(self) -> None:
        """Stop reading and close the socket; the history stays."""
        if not self.closed:
            self._end()
            self._tell()
        self._socket.close()
