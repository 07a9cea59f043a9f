"""pasta (Debian's passt): the way out of a network namespace of our own, with no privilege of the host.

Theory of operation. pasta stands in the host's network namespace, where it opens ordinary sockets for the user, and
holds an interface in ours. Once the server is in its own namespace it cannot start anything in the host's any more; so
a shell is left there beforehand, which waits on a pipe, and for each word on it starts a pasta that joins us. pasta
writes its pid when the interface is there, with its addresses and routes; the shell says when it has ended.

Both are tied, the shell to our main thread and pasta by setpriv(1) to the shell, so they end with us however we end.
Neither has a capability. On the host's ports pasta listens for guests only where the operator allows it, on its
loopback. The host's loopback is not reached, but for DNS: queries to `DNS` go to the host's first name server, which
may be on it.

Neither has a Landlock ruleset: pasta must look into our namespaces, and mount, which Landlock forbids. It does so to
confine itself, and keeps an empty root and a seccomp filter (passt's isolation.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO

import anyio

from rawtap.errors import OutsideUnavailable
from rawtap.host import children, programs
from rawtap.host.children import Child, Stream
from rawtap.untrusted import visible

PACKAGE = "passt"
INTERFACE = "outside"

# RFC 7335: for the near end of a translator, as this is one. No bridge's subnet and no host's network is there.
ADDRESS, GATEWAY, DNS, PREFIX = "192.0.0.2", "192.0.0.1", "192.0.0.3", "29"

Note = Callable[[str, str], None]

# For each line on stdin: a pasta, which ends with this shell; then its exit code.
_LOOP = """while read -r _; do
"$0" --pdeathsig KILL -- /bin/sh -c 'test "$PPID" = "$0" && exec "$@"' $$ "$@" </dev/null
echo "ended $?"
done"""
_READY_SECONDS = 5.0
_END_SECONDS = 2.0
_TAIL_LINES = 30
_NO_NEWS = ("Failed to send", "Couldn't connect to syslog")  # it has no other log than this one


def find() -> str | None:
    """Where pasta is, None where it is not installed."""
    return programs.find("pasta")


def _options(forward: tuple[int, int] | None) -> list[str]:
    """pasta's options; it joins the namespaces of the process that calls this.

    The ports from the first to the last of `forward`, of the host's loopback, lead to the same ones of ours.
    """
    namespaces = f"/proc/{os.getpid()}/ns"
    out = ["--foreground", "--stderr", "--pid", "/dev/stdout", "--config-net", "--no-map-gw"]
    ports = f"127.0.0.1/{forward[0]}-{forward[1]}" if forward else "none"
    out += ["-t", ports, "-u", ports, "-T", "none", "-U", "none"]
    out += ["--ns-ifname", INTERFACE, "-a", ADDRESS, "-n", PREFIX, "-g", GATEWAY, "--dns-forward", DNS]
    if os.geteuid() == 0:
        out += ["--runas", "0:0"]  # else it becomes nobody, who may not join us
    return [*out, "--userns", f"{namespaces}/user", "--netns", f"{namespaces}/net"]


def wait(forward: tuple[int, int] | None = None) -> Pasta | None:
    """Leave a shell behind that can start pasta; None where pasta is not installed.

    To be called from the main thread, before it enters a namespace of its own.
    """
    pasta, setpriv = find(), programs.find("setpriv")
    if pasta is None or setpriv is None:
        return None
    shell = ["/bin/sh", "-c", _LOOP, setpriv, pasta, *_options(forward)]
    pipes: tuple[Stream, Stream, Stream] = ("pipe", "pipe", "pipe")
    return Pasta(children.start(shell, None, streams=pipes, environment=children.PLAIN, folder="/", session=True))


@dataclass(eq=False)
class Pasta:
    """The shell that waits, and the pasta that it started, while anybody uses that."""

    shell: Child
    _users: int = 0
    _pidfd: int | None = None  # of the pasta that is ready
    _changed: asyncio.Event = field(default_factory=asyncio.Event)  # it is ready, or has ended
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    _rest: dict[int, bytes] = field(default_factory=dict)  # of each pipe: a line that is not whole yet
    _note: Note | None = None

    @property
    def running(self) -> bool:
        """Whether its interface is there."""
        return self._pidfd is not None

    @asynccontextmanager
    async def connected(self, note: Note) -> AsyncIterator[None]:
        """Have its interface in our namespace, with a default route; removed when the last user of it leaves.

        Raises:
            OutsideUnavailable: It does not start; its own words are inside.
        """
        async with self._lock:
            if not self.running:
                await self._start(note)
            self._users += 1
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._lock:
                    self._users -= 1
                    if self._users == 0:
                        await self._end()

    async def _start(self, note: Note) -> None:
        self._note = note
        self._tail.clear()
        self._changed.clear()
        self._listen()
        try:
            self._pipe("stdin").write(b"go\n")
            with anyio.move_on_after(_READY_SECONDS, shield=True):  # it takes some 50 ms, and has no other way to end
                await self._changed.wait()
        except BrokenPipeError:
            self._tail.append("the process that waited to start it is gone")
        if not self.running:
            await self._give_up()
            raise OutsideUnavailable(
                "no way out: pasta does not start",
                evidence="; ".join(self._tail) or "it said nothing",
                cure="pasta(1) says what it needs of this machine: a default route, before all",
            )
        note("outside", "pasta connects this server's namespace to the host's network")

    async def _give_up(self) -> None:
        """End what may have been started. If the shell told nothing it must end as well, and there is no second one."""
        with anyio.CancelScope(shield=True):
            if not self._changed.is_set():
                self.shell.kill()
            await self._end()

    async def _end(self) -> None:
        if self._pidfd is not None:
            self._changed.clear()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            with anyio.move_on_after(_END_SECONDS):
                await self._changed.wait()
            if self._pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                await self._changed.wait()
        self._silence()

    def _pipe(self, name: str) -> IO[bytes]:
        pipe: IO[bytes] | None = getattr(self.shell, name)
        if pipe is None:
            raise RuntimeError(f"no pipe for {name}")
        return pipe

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for name, tell in (("stdout", self._told), ("stderr", self._logged)):
            fd = self._pipe(name).fileno()
            self._rest[fd] = b""
            loop.add_reader(fd, self._read, fd, tell)

    def _silence(self) -> None:
        for name in ("stdout", "stderr"):
            asyncio.get_running_loop().remove_reader(self._pipe(name).fileno())

    def _read(self, fd: int, tell: Callable[[str], None]) -> None:
        """Read what is there and pass each line on. At its end, whoever waits is woken."""
        data = os.read(fd, 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(fd)
            tell("")
            return
        *lines, self._rest[fd] = (self._rest[fd] + data).split(b"\n")
        for line in lines:
            tell(visible(line.decode("utf-8", "replace").strip()))

    def _told(self, line: str) -> None:
        """pasta's pid, or "ended" and its exit code from the shell; "" when that has ended."""
        if line.isdecimal():
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(int(line))
                self._changed.set()
            return
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
            if self._note:
                self._note("outside", f"pasta has {line or 'ended'}: exit code {line.rpartition(' ')[2] or 'unknown'}")
        self._changed.set()

    def _logged(self, line: str) -> None:
        if line and not line.startswith(_NO_NEWS):
            self._tail.append(line)

    def close(self) -> None:
        """End the shell, and with it what it started."""
        for pipe in (self.shell.stdin, self.shell.stdout, self.shell.stderr):
            if pipe:
                pipe.close()
        self.shell.kill()
        self.shell.wait()
