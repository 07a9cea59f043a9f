"""A gdb of our own: started confined, given a command at a time, and heard.

Theory of operation. gdb can run programs, Python and what a file tells it to run, and it reads files that others made.
So it has the files of one guest to read and nothing else, starts no program, and reaches no TCP port: the kernel sees
to that (`landlock`; where there is none, gdb is not started). It loads nothing by itself: no start-up file, no script
beside or inside a program, no symbols from a server or from elsewhere on this machine. It calls no function of the
guest's and writes neither its memory nor its registers. Its memory, its time and its answers are bounded. A file that
brings it down brings down nothing else.

Commands are lines on its stdin, numbered, and come from `records.quoted` words only. It runs the guest while it takes
further commands ("mi-async"), so that an interrupt is one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from rawtap.debug.records import Record, Results, parse, quoted, text_at
from rawtap.errors import DebugFailed, DebugRefused, DebugUnavailable
from rawtap.host import children, landlock, programs
from rawtap.host.children import Child
from rawtap.host.landlock import Access
from rawtap.untrusted import visible

PROGRAM, PACKAGE = "gdb-multiarch", "gdb-multiarch"
ANSWER_SECONDS = 20.0
_PROMPT = "(gdb)"
_HEEDED_SECONDS = 1.0
LOAD_SECONDS = 120.0  # for symbols: a Linux kernel's take their time
_READ = 65536
_LONGEST_LINE = 8 << 20
_MOST_TEXT = 1 << 20  # characters of words to one command
_WORDS = 2000  # characters of what is no record
_MIB = 1 << 20
_LIMITS = {  # getrlimit(2)
    resource.RLIMIT_DATA: 3072 * _MIB,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CPU: 3600,  # seconds of a processor's: a gdb that an own command sent round in a circle
}
# Before anything is loaded, in this order. The manual has each by its name.
_FIRST = (
    "set auto-load off",
    "set debuginfod enabled off",
    "set debug-file-directory /nonexistent",
    "set may-call-functions off",
    "set may-write-memory off",
    "set may-write-registers off",
    "set history save off",
    "set style enabled off",
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set height 0",
    "set listsize 7",
    "set print elements 64",
    "set print repeats 8",
    "set print frame-arguments all",
    "set print entry-values if-needed",
    "set print max-depth 4",
    "set print symbol on",
    "set print asm-demangle on",
    "set max-value-size 65536",
    "set max-completions 0",
    "set backtrace limit 64",
    "set backtrace past-main on",
    "set breakpoint pending off",
    "set tcp auto-retry off",
    "set remotetimeout 10",
    "set sysroot /nonexistent",
)


OnChange = Callable[[Record], None]


@dataclass(frozen=True)
class Answer:
    """A command's: its results, what gdb said to its user meanwhile, and what it noted besides, like warnings."""

    results: Results
    text: str
    log: str


@dataclass
class _Asked:
    """A command whose result is to come."""

    answer: asyncio.Future[Record]
    said: dict[str, list[str]]  # by the kind of record
    left: int = _MOST_TEXT


class Gdb:
    """One gdb, from `start` to `close`. `on_change` is given what the guest does, and what else changes."""

    def __init__(self, child: Child, output: asyncio.StreamReader, on_change: OnChange) -> None:
        self._child, self._output, self._on_change = child, output, on_change
        self._numbers = count(1)
        self._asked: dict[int, _Asked] = {}
        self._lock = asyncio.Lock()
        self._words = ""
        self._going: Record | None = None  # "running", until the prompt
        self.ended: asyncio.Task[str] = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    async def command(self, name: str, *words: str, timeout: float = ANSWER_SECONDS) -> Answer:
        """Give it a command of the machine interface and await the result; one at a time.

        Raises:
            DebugRefused: gdb's own words are inside.
            DebugFailed: It has ended, or does not answer, and was ended.
        """
        line = " ".join((f"-{name}", *map(quoted, words)))
        async with self._lock:
            return await self._command(line, timeout)

    async def say(self, line: str, timeout: float = ANSWER_SECONDS) -> str:
        """Give it a command of its users', which the caller has built; what it said. Raises as `command`."""
        return (await self.command("interpreter-exec", "console", line, timeout=timeout)).text

    async def _command(self, line: str, timeout: float) -> Answer:
        number = next(self._numbers)
        asked = self._asked[number] = _Asked(asyncio.get_running_loop().create_future(), {"text": [], "log": []})
        try:
            self._write(f"{number}{line}\n".encode())
            coming: set[asyncio.Future[Any]] = {asked.answer, self.ended}
            await asyncio.wait(coming, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._asked[number]
        if not asked.answer.done():
            raise self._lost(timeout)
        record = asked.answer.result()
        if record.word == "error":
            log = visible(" ".join("".join(asked.said["log"]).split()))
            raise DebugRefused(
                "gdb refused",
                evidence=log or text_at(record.results, "msg"),  # which may be "Command aborted." and no more
                cure='qemu_debug(action="where") shows where it is, action="symbols" what names there are',
            )
        return Answer(record.results, "".join(asked.said["text"]), "".join(asked.said["log"]))

    def _write(self, data: bytes) -> None:
        if self._child.stdin is None:
            raise RuntimeError("gdb was started without a pipe for its commands")
        with contextlib.suppress(BrokenPipeError):  # its end is told by what it wrote last
            if self._child.stdin.write(data) != len(data):
                self._child.kill()  # it reads nothing any more

    def _lost(self, timeout: float) -> DebugFailed:
        if self.ended.done():
            return self.failure()
        self._child.kill()
        return DebugFailed(
            f"gdb did not answer within {timeout:g} s, and was ended",
            cure='The guest runs on; qemu_debug(action="attach") starts another gdb',
        )

    def failure(self) -> DebugFailed:
        """The error of a gdb that has ended."""
        return DebugFailed(
            "gdb has ended",
            evidence=self.ended.result(),
            cure='The guest runs on; qemu_debug(action="attach") starts another gdb. Are its symbols sound?',
        )

    async def _listen(self) -> str:
        """Read what it writes, to its end; how it ended, in words."""
        wrong = ""
        try:
            await self._read_lines()
        except ValueError as error:
            wrong = f"it wrote what is not GDB/MI: {error}; "
        self._child.kill()
        code = await self._child.ended()
        if self._child.stdin is not None:
            self._child.stdin.close()
        words = visible(" ".join(self._words.split()))
        said = f"; it said: {words}" if words else ""
        return f"{wrong}{f'the signal {-code}' if code < 0 else f'exit code {code}'}{said}"

    async def _read_lines(self) -> None:
        rest = b""
        while data := await self._output.read(_READ):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                raise ValueError("a line without an end")
            for line in lines:
                self._take(line.rstrip(b"\r").decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        if line.strip() == _PROMPT:
            if self._going is not None:
                self._answer(self._going)
        elif (record := parse(line)) is None:
            self._words = f"{self._words}{line}\n"[-_WORDS:]
        elif record.kind == "result" and record.word == "running":
            self._going = record  # it is to go; an error may follow, where a breakpoint cannot be put in
        elif record.kind == "result":
            self._answer(record)
        elif record.kind in {"text", "log"}:
            self._keep(record)
        else:
            self._on_change(record)

    def _answer(self, record: Record) -> None:
        self._going = None
        asked = self._asked.get(record.token or 0)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(record)

    def _keep(self, record: Record) -> None:
        for asked in self._asked.values():
            said = record.text[: asked.left]
            asked.left -= len(said)
            asked.said[record.kind].append(said)

    async def interrupt(self) -> None:
        """Have it stop the guest; that it has is told as a change. Raises as `command`.

        While it works through stops that mean nothing, as at a breakpoint whose condition does not hold, it may read no
        command; it heeds a signal then.
        """
        asking = asyncio.create_task(self.command("exec-interrupt"))
        try:
            await asyncio.wait({asking}, timeout=_HEEDED_SECONDS)
            if not asking.done():
                self._child.send(signal.SIGINT)
            await asking
        finally:
            asking.cancel()

    def kill(self) -> None:
        """End it, and wait for nothing."""
        self._child.kill()

    async def close(self) -> None:
        """End it now; harmless where it has ended."""
        self._child.kill()
        await asyncio.wait({self.ended})


async def start(read: tuple[Path, ...], folder: Path, on_change: OnChange) -> Gdb:
    """Start it with those files and folders to read; relative names are seen from `folder`.

    Call it from the thread of the event loop: gdb goes with it.

    Raises:
        DebugUnavailable: There is no gdb, or no Landlock to confine it by.
    """
    if lack := landlock.lack():
        raise DebugUnavailable(
            "gdb is not started where it cannot be confined", evidence=lack, cure="A kernel with Landlock has it"
        )
    program = programs.require(PROGRAM, PACKAGE, DebugUnavailable, "no debugger")
    command = [program, "-nx", "-nh", "--quiet", "--interpreter=mi3", *(f"-iex={each}" for each in _FIRST)]
    access = Access(programs=(Path(program),), read=read, alone=True)
    try:
        child = children.start(
            command,
            access,
            streams=("pipe", "pipe", "stdout"),
            environment=children.PLAIN,
            folder=str(folder),
            session=True,
        )
    except OSError as error:
        raise DebugUnavailable(
            "gdb cannot be started", evidence=str(error), cure="qemu_doctor checks the set-up"
        ) from error
    try:
        for limit, value in _LIMITS.items():
            resource.prlimit(child.pid, limit, (value, value))
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
        output = await children.stream_of(child.stdout)
    except BaseException:
        child.kill()
        child.wait()
        raise
    return Gdb(child, output, on_change)
