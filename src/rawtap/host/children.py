"""Every program that rawtap starts: what it may reach, what it may do, and how its end is seen.

Theory of operation. `start` gives the child its Landlock ruleset (`landlock`), the capabilities that it needs and no
others, and no way to new privileges, before its first instruction (`_spawn` tells how). A child that is tied is killed
with the thread that started it, so that must be one that lives as long as the server: the main thread, where the event
loop runs.

A child is held by a pidfd (pidfd_open(2)), so that no signal can reach another process that got its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from rawtap.host import _spawn, landlock, programs
from rawtap.host.landlock import Access
from rawtap.host.privileges import Capability

PLAIN = {"PATH": programs.SYSTEM_FOLDERS, "LC_ALL": "C"}  # the environment of a program whose words are read

# A standard stream: nothing, a pipe to us, the same as stdout, or that descriptor.
Stream = Literal["null", "pipe", "stdout"] | int


@dataclass(eq=False)
class Child:
    """A program that was started. One at a time waits for it; any thread may send it a signal."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    _pidfd: int
    _code: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, number: signal.Signals) -> None:
        """Send it that; harmless where it has ended."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._code is None:
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send(signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, once it has ended; negative: the signal that ended it."""
        if self._code is None:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        return self._reaped()

    def code(self) -> int | None:
        """Its exit code, as `wait`; None while it runs."""
        if self._code is None and os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            return None
        return self._reaped()

    def _reaped(self) -> int:
        with self._lock:
            if self._code is None:
                self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                os.close(self._pidfd)
            return self._code

    async def ended(self) -> int:
        """Its exit code, as `wait`, for a task of the event loop."""
        if self._code is None:
            loop, over = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._pidfd, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(self._pidfd)
        return self._reaped()


async def stream_of(pipe: IO[bytes] | None) -> asyncio.StreamReader:
    """What comes out of a child's pipe, for the event loop, which closes the pipe at its end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def whole(child: Child, most: int) -> bytes:
    """All that a child writes until it closes its stdout, or the first `most` bytes of it."""
    stream = await stream_of(child.stdout)
    found = bytearray()
    while len(found) < most and (more := await stream.read(most - len(found))):
        found += more
    return bytes(found)


def start(
    command: Sequence[str | Path],
    access: Access | None,
    *,
    capabilities: Collection[Capability] = (),
    streams: tuple[Stream, Stream, Stream] = ("null", "null", "null"),
    passed: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    tied: bool = True,
    session: bool = False,
) -> Child:
    """Start a program, whose path is the first word of `command`.

    Args:
        command: Its arguments.
        access: The files and ports that it may reach, where this kernel has Landlock; None for one that confines
            itself, by what Landlock would forbid.
        capabilities: What it keeps of this thread's, which must hold them (`privileges.require`).
        streams: Its stdin, stdout and stderr.
        passed: Descriptors that it has by the same numbers.
        environment: This process's own where None.
        folder: Where it runs; None for where this process does.
        tied: Whether it is killed when the calling thread ends.
        session: Whether it is out of reach of a terminal's Ctrl-C, which is for the server: it ends things in order.

    Raises:
        OSError: It cannot be started; the step that failed is in the text.
    """
    variables = os.environb if environment is None else {os.fsencode(a): os.fsencode(b) for a, b in environment.items()}
    with contextlib.ExitStack() as near, contextlib.ExitStack() as far:
        ours_in, theirs_in = _stream(streams[0], near, far, write=True)
        ours_out, theirs_out = _stream(streams[1], near, far)
        ours_err, theirs_err = (None, theirs_out) if streams[2] == "stdout" else _stream(streams[2], near, far)
        with landlock.ruleset(access) if access else contextlib.nullcontext(landlock.NONE) as ruleset:
            pid = _spawn.spawn(
                [os.fsencode(word) for word in command],
                dict(variables),
                (theirs_in, theirs_out, theirs_err),
                passed,
                folder=os.fsencode(folder) if folder else None,
                ruleset=ruleset,
                capabilities=capabilities,
                tied=tied,
                session=session,
            )
        child = Child(pid, ours_in, ours_out, ours_err, _pidfd(pid))
        near.pop_all()
    return child


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # no descriptor is left: a child that nobody could end must not be
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _stream(
    stream: Stream, near: contextlib.ExitStack, far: contextlib.ExitStack, *, write: bool = False
) -> tuple[IO[bytes] | None, int]:
    """Our end of a stream, closed if the start fails, and the child's, closed here once it has been started."""
    if isinstance(stream, int):
        return None, stream
    if stream == "pipe":
        reading, writing = os.pipe()
        ours, theirs = (writing, reading) if write else (reading, writing)
        far.callback(os.close, theirs)
        return near.enter_context(os.fdopen(ours, "wb" if write else "rb", 0)), theirs
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    far.callback(os.close, null)
    return None, null


@dataclass(frozen=True)
class Finished:
    """A program's exit code, and all that it wrote."""

    code: int
    out: str
    complaint: str


def run(
    command: Sequence[str | Path], text: str, access: Access, *, capabilities: Collection[Capability] = ()
) -> Finished:
    """Run a program to its end with `text` as its input, in a plain environment. Raises as `start`.

    Its streams are memory of ours (memfd_create(2)): there is no pipe that could fill while nobody reads it.
    """
    with contextlib.ExitStack() as stack:
        given, out, complaint = (os.memfd_create("rawtap-stream") for _ in range(3))
        for memory in (given, out, complaint):
            stack.callback(os.close, memory)
        os.pwrite(given, text.encode(), 0)
        child = start(
            command,
            access,
            capabilities=capabilities,
            streams=(given, out, complaint),
            environment=PLAIN,
            tied=False,
            session=True,
        )
        code = child.wait()
        return Finished(code, _content(out), _content(complaint))


def _content(memory: int) -> str:
    return os.pread(memory, os.fstat(memory).st_size, 0).decode("utf-8", "replace")
