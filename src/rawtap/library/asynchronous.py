"""A Lab for programs that await. Every answer is the tool's own: its model says what each field means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from rawtap.connection import CallFailed, Connection, connected
from rawtap.tools.capture import CaptureRow, StartedCapture
from rawtap.tools.explain import Explanation
from rawtap.tools.follow import FollowedPage
from rawtap.tools.guest import Boot, Checks, ConsoleOutput, Shutdown
from rawtap.tools.link import LinkState
from rawtap.tools.packets import Detail, PacketPage, Waited
from rawtap.tools.query import Rows
from rawtap.tools.timeline import Timeline

AnyPath = str | PathLike[str]


def _whole(path: AnyPath) -> str:
    """As the server has it, whose folder may be another."""
    return str(Path(path).absolute())


class AsyncCapture:
    """A running or finished capture.

    Attributes:
        id: What the Lab calls it, like "c1".
        path: Its file, or the first of a ring.
    """

    def __init__(self, connection: Connection, started: StartedCapture) -> None:
        self._connection = connection
        self.id = started.capture
        self.path = Path(started.path)

    async def wait(
        self,
        filter: str = "",  # noqa: A002 - the field's own word
        *,
        count: int = 1,
        timeout: float = 10.0,
        absent: bool = False,
        since: Literal["now", "start"] | int = "now",
    ) -> Waited:
        """Wait for `count` packets that pass `filter`, `timeout` seconds at most; whether they came is `satisfied`.

        `absent`: wait the whole time, to see that none comes. `since`: count them from this call on, from the capture's
        first packet, or behind the packet of that number.
        """
        return await self._connection.ask(
            Waited,
            "qemu_pcap_wait",
            capture=self.id,
            filter=filter,
            count=count,
            timeout=timeout,
            absent=absent,
            since=since,
        )

    async def packets(
        self,
        filter: str = "",  # noqa: A002
        *,
        limit: int = 20,
        first: int | None = None,
        cursor: str | None = None,
        detail: Detail = "summary",
        fields: Sequence[str] | None = None,
    ) -> PacketPage:
        """A page of packets, also while it runs: everything that was on the wire before this call is counted."""
        return await self._connection.ask(
            PacketPage,
            "qemu_pcap_read",
            capture=self.id,
            filter=filter,
            limit=limit,
            first=first,
            cursor=cursor,
            detail=detail,
            fields=list(fields) if fields else None,
        )

    async def explain(self, filter: str = "", *, limit: int = 100, cursor: str | None = None) -> Explanation:  # noqa: A002
        """What is wrong in it."""
        return await self._connection.ask(
            Explanation, "qemu_pcap_explain", capture=self.id, filter=filter, limit=limit, cursor=cursor
        )

    async def follow(
        self,
        *,
        packet: int | None = None,
        stream: int | None = None,
        search: str | None = None,
        offset: int = 0,
        limit: int = 16000,
    ) -> FollowedPage:
        """What both ends of a conversation said: that of a packet, or a stream of a query."""
        return await self._connection.ask(
            FollowedPage,
            "qemu_pcap_follow",
            capture=self.id,
            packet=packet,
            stream=stream,
            search=search,
            offset=offset,
            limit=limit,
        )

    async def query(self, sql: str, *, limit: int = 1000) -> Rows:
        """Ask it in SQL: one SELECT. Needs the extra ``rawtap[query]``."""
        return await self._connection.ask(Rows, "qemu_pcap_query", capture=self.id, sql=sql, limit=limit)

    async def status(self) -> CaptureRow:
        """Its counters as they are now."""
        answer = await self._connection.call("qemu_pcap_status", {"capture": self.id})
        return CaptureRow.model_validate(answer["captures"][0])

    async def stop(self) -> CaptureRow:
        """End it; everything that was on the wire is in its file. `diagnosis` says why nothing is."""
        return await self._connection.ask(CaptureRow, "qemu_pcap_stop", capture=self.id)


class AsyncGuest:
    """A booted guest.

    Attributes:
        name: What the Lab calls it.
        booted: How its boot went; `network` has its addresses, and whether its prompt was seen is `prompt_seen`.
        capture: The capture of its card from its first instruction on, where one was asked for.
    """

    def __init__(self, connection: Connection, booted: Boot) -> None:
        self._connection = connection
        self.name = booted.name
        self.booted = booted
        self.capture = AsyncCapture(connection, booted.capture) if booted.capture else None

    async def send(
        self,
        command: str,
        *,
        timeout: float = 30.0,
        wait_for: str | list[str] | None = None,
        enter: bool = True,
        regex: bool = False,
        console: str | None = None,
    ) -> ConsoleOutput:
        """Type a command; what came after it, up to the prompt or to one of `wait_for`."""
        return await self._connection.ask(
            ConsoleOutput,
            "qemu_send",
            name=self.name,
            command=command,
            timeout=timeout,
            wait_for=wait_for,
            enter=enter,
            regex=regex,
            console=console,
        )

    async def run(self, command: str, *, timeout: float = 30.0) -> str:
        """The same for a command that must end well: its output.

        Raises:
            AssertionError: Its prompt did not come in time, or a shell told another exit status than 0.
        """
        answer = await self.send(command, timeout=timeout)
        if not answer.matched or answer.exit_status:
            how = f"exit status {answer.exit_status}" if answer.exit_status else answer.next_step
            raise AssertionError(f"{command!r} did not end well: {how}\n{answer.output}")
        return answer.output

    async def read(
        self,
        *,
        timeout: float = 5.0,
        wait_for: str | list[str] | None = None,
        position: int | None = None,
        regex: bool = False,
        console: str | None = None,
    ) -> ConsoleOutput:
        """What its console showed since the last answer; 0 as `position` gives the oldest that is kept."""
        return await self._connection.ask(
            ConsoleOutput,
            "qemu_read",
            name=self.name,
            timeout=timeout,
            wait_for=wait_for,
            position=position,
            regex=regex,
            console=console,
        )

    async def start_capture(self, /, filter: str = "", **more: Any) -> AsyncCapture:  # noqa: A002
        """Start a capture of its card; armed when this returns. `more` are parameters of `qemu_pcap_start`."""
        answer = await self._connection.ask(StartedCapture, "qemu_pcap_start", name=self.name, filter=filter, **more)
        return AsyncCapture(self._connection, answer)

    async def link(
        self,
        *,
        up: bool = True,
        delay: float = 0.0,
        loss: float = 0.0,
        corrupt: float = 0.0,
        duplicate: float = 0.0,
        rate: int | None = None,
    ) -> LinkState:
        """Pull its cable or plug it in, and make its wire worse: seconds, percent, bits a second; see `qemu_link`."""
        worse = {"delay": delay, "loss": loss, "corrupt": corrupt, "duplicate": duplicate, "rate": rate}
        return await self._connection.ask(LinkState, "qemu_link", name=self.name, up=up, **worse)

    async def shutdown(self, *, timeout: float = 5.0) -> Shutdown:
        """End it, by its own command if that helps in time; its captures are completed."""
        return await self._connection.ask(Shutdown, "qemu_shutdown", name=self.name, timeout=timeout)


class AsyncLab:
    """Guests, networks and captures of this program's own. Open it with ``async with``; leaving releases everything.

    Args:
        capture_dir: Where capture files go.
        read_dirs: Further folders whose capture files may be read.
        image_dirs: Further folders whose kernels, firmware and drives guests may be given.
        allow_interfaces: Interfaces of this machine that may be captured.
        rootless: Whether to work in a network namespace; None where nothing else is possible.
        outside: Whether guests with services have a way out.
        options: Further options of ``rawtap serve``.
    """

    def __init__(
        self,
        *,
        capture_dir: AnyPath | None = None,
        read_dirs: Iterable[AnyPath] = (),
        image_dirs: Iterable[AnyPath] = (),
        allow_interfaces: Iterable[str] = (),
        rootless: bool | None = None,
        outside: bool | None = None,
        options: Sequence[str] = (),
    ) -> None:
        words = [f"--capture-dir={fspath(capture_dir)}"] if capture_dir else []
        words += [f"--read-dir={fspath(each)}" for each in read_dirs]
        words += [f"--image-dir={fspath(each)}" for each in image_dirs]
        words += [f"--allow-interface={each}" for each in allow_interfaces]
        for name, wanted in (("rootless", rootless), ("outside", outside)):
            words += [] if wanted is None else [f"--{'' if wanted else 'no-'}{name}"]
        self._options = [*words, *options]
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await self._stack.enter_async_context(connected(self._options))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._connection = None
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise CallFailed("server.stopping: the Lab is not open. Use it within its with block")
        return self._connection

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call any tool by its name, with its parameters: what has no method here."""
        return await self._open.call(tool, arguments)

    async def boot(
        self,
        /,
        project: AnyPath | None = None,
        *,
        profile: str | None = None,
        name: str = "guest",
        network: bool | Literal["user"] = False,
        capture: bool = False,
        capture_filter: str = "",
        drives: Sequence[Mapping[str, Any]] | None = None,
        overrides: Mapping[str, Any] | None = None,
        wait_for_prompt: bool = True,
        timeout: float = 50.0,
        **more: Any,
    ) -> AsyncGuest:
        """Boot a guest and wait for its prompt; see `AsyncGuest.booted` for what came instead.

        `project` is a folder with a rawtap.toml, `profile` a built-in one. `network`: True for its bridge, "user" for
        a network inside QEMU. `drives` are like ``{"path": "disk.img", "readonly": True}``, `overrides` are keys of
        rawtap.toml, and `more` are further parameters of `qemu_boot`.
        """
        booted = await self._open.ask(
            Boot,
            "qemu_boot",
            project_root=None if project is None else _whole(project),
            profile=profile,
            name=name,
            network=network,
            capture=capture,
            capture_filter=capture_filter,
            extra_drives=None if drives is None else [dict(each) for each in drives],
            overrides=None if overrides is None else dict(overrides),
            wait_for_prompt=wait_for_prompt,
            timeout=timeout,
            **more,
        )
        return AsyncGuest(self._open, booted)

    async def start_capture(self, /, interface: str, filter: str = "", **more: Any) -> AsyncCapture:  # noqa: A002
        """Start a capture of an interface; armed when this returns. `more` are parameters of `qemu_pcap_start`."""
        answer = await self._open.ask(StartedCapture, "qemu_pcap_start", interface=interface, filter=filter, **more)
        return AsyncCapture(self._open, answer)

    async def explain(self, path: AnyPath, filter: str = "") -> Explanation:  # noqa: A002
        """What is wrong in a capture file, of the Lab's folder or of `read_dirs`."""
        where = _whole(path)
        return await self._open.ask(Explanation, "qemu_pcap_explain", path=where, filter=filter, limit=100)

    async def query(self, sql: str, *paths: AnyPath, limit: int = 1000) -> Rows:
        """Ask capture files in SQL."""
        where = [_whole(each) for each in paths]
        return await self._open.ask(Rows, "qemu_pcap_query", sql=sql, paths=where, limit=limit)

    async def timeline(self, /, *, since: str | None = None, limit: int = 200, **more: Any) -> Timeline:
        """What happened, in order and on one clock; `more` are parameters of `qemu_timeline`."""
        return await self._open.ask(Timeline, "qemu_timeline", since=since, limit=limit, **more)

    async def doctor(self) -> Checks:
        """What works on this machine, and what to do about the rest."""
        return await self._open.ask(Checks, "qemu_doctor")
