"""QMP, QEMU's machine protocol: the only module that speaks to qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate, StateError
from qemu.qmp.events import EventListener

from rawtap.errors import GuestFailed
from rawtap.untrusted import visible

# It logs a lost connection, and a cancelled call, as an error or worse; both are told by the call that they concern.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

ANSWER_SECONDS = 10.0
_DRAIN_SECONDS = 1.0
_KEPT_EVENTS = 500
_SHOWN_DATA = 300  # characters


class MonitorLost(Exception):
    """QEMU closed the connection: it has ended, or is about to."""


class AddedFd(NamedTuple):
    """A descriptor's number in QEMU, and that of the set in which QEMU keeps it."""

    fd: int
    fdset: int


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """An event: when it happened by QEMU's own stamp, in nanoseconds since 1970, its name, its data as JSON."""

    at_ns: int
    name: str
    data: str


@dataclass
class EventLog:
    """The newest events of one QEMU, numbered from 0. What is in them is text from the guest, made visible."""

    _events: deque[QmpEvent] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    end: int = 0
    on_reset: Callable[[int, bool], None] | None = None  # when it was (nanoseconds), and whether the guest did it
    is_debugged: Callable[[], bool] = lambda: False

    @property
    def start(self) -> int:
        """Number of the oldest that is kept."""
        return self.end - len(self._events)

    def note(self, message: Mapping[str, Any]) -> None:
        """Keep an event as QMP tells it (qemu/docs/interop/qmp-spec.rst, section "Asynchronous events").

        A debugger stops and resumes a guest many times for one step, or where a condition does not hold: it tells by
        itself where it came to, and these would push out all others.
        """
        if message["event"] in {"STOP", "RESUME"} and self.is_debugged():
            return
        stamp = message.get("timestamp", {})
        seconds = stamp.get("seconds", -1)  # -1: QEMU could not ask the clock
        at_ns = seconds * 1_000_000_000 + stamp.get("microseconds", 0) * 1000 if seconds >= 0 else time.time_ns()
        data = visible(json.dumps(message["data"], separators=(",", ":"))) if "data" in message else ""
        shown = data if len(data) <= _SHOWN_DATA else data[: _SHOWN_DATA - 3] + "..."
        self._events.append(QmpEvent(at_ns, visible(str(message["event"]))[:100], shown))
        self.end += 1
        if message["event"] == "RESET" and self.on_reset:
            self.on_reset(at_ns, bool(message.get("data", {}).get("guest")))

    def since(self, number: int, limit: int) -> list[QmpEvent]:
        """At most `limit` events from `number` on, as far as they are kept."""
        first = max(0, number - self.start)
        return list(islice(self._events, first, first + limit))


class _Recorder(EventListener):
    """Keeps every event in a log, and none of them in the library's own lists, which grow without end."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def accept(self, event: Any) -> bool:
        self._log.note(event)
        return False


class Monitor:
    """One guest's QMP session."""

    def __init__(self, client: QMPClient, shutdowns: EventListener, pid: int) -> None:
        self._client = client
        self._pid = pid
        self._shutdowns = shutdowns
        self._passing = asyncio.Lock()  # a descriptor belongs to the next command that QEMU reads

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: float = ANSWER_SECONDS
    ) -> Any:
        """Run a QMP command and return its answer.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: It refused, or did not answer within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except (ExecInterruptedError, StateError) as error:
            raise MonitorLost from error
        except ExecuteError as error:
            raise GuestFailed(
                f"QEMU refused {command}",
                evidence=f"{error.error_class}: {visible(str(error))[:_SHOWN_DATA]}",
                cure="qemu_status shows the guest's state",
            ) from error
        except TimeoutError as error:
            raise _silent(command, timeout, self._pid) from error

    async def add_fd(self, fd: int) -> AddedFd:
        """Give QEMU a duplicate of a file descriptor, for its whole life.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: It did not take it.
        """
        answer = await self._pass(fd, "add-fd", {})
        return AddedFd(int(answer["fd"]), int(answer["fdset-id"]))

    async def get_fd(self, fd: int, name: str) -> None:
        """Give QEMU a duplicate of a file descriptor by a name, for one later command.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: It did not take it.
        """
        await self._pass(fd, "getfd", {"fdname": name})

    async def _pass(self, fd: int, command: str, arguments: dict[str, Any]) -> Any:
        """Run a command that a file descriptor goes with (SCM_RIGHTS, unix(7))."""
        async with self._passing:
            try:
                self._client.send_fd_scm(fd)
            except StateError as error:
                raise MonitorLost from error
            except BlockingIOError as error:
                raise _silent(command, 0, self._pid) from error
            except OSError as error:
                raise MonitorLost from error
            return await self.execute(command, arguments)

    async def run_job(self, command: str, arguments: dict[str, Any], timeout: float) -> None:
        """Run a command that starts the job of its argument "job-id", and wait for that job's end.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: QEMU refused, the job failed, or it did not end within `timeout` seconds.
        """
        job = arguments["job-id"]
        with self._client.listener(("JOB_STATUS_CHANGE",), lambda event: _job_of(event) == job) as changes:
            await self.execute(command, arguments)
            try:
                async with asyncio.timeout(timeout):
                    while (await self._next(changes))["data"]["status"] != "concluded":
                        pass
            except TimeoutError as error:
                raise GuestFailed(
                    f"QEMU did not finish {command} within {timeout:g} s", cure="It goes on: ask again later"
                ) from error
        errors = [each.get("error") for each in await self.execute("query-jobs") if each["id"] == job]
        await self.execute("job-dismiss", {"id": job})
        if any(errors):
            raise GuestFailed(
                f"QEMU could not do {command}", evidence=visible(str(errors[0])), cure="qemu_status shows the guest"
            )

    async def _next(self, events: EventListener) -> Any:
        """The next event of those; the connection's end wakes whoever waits as well."""
        coming = asyncio.ensure_future(events.get())
        lost = asyncio.ensure_future(self._client.runstate_changed())
        try:
            await asyncio.wait({coming, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise MonitorLost
            return coming.result()
        finally:
            coming.cancel()
            lost.cancel()

    async def shutdown_reason(self) -> str | None:
        """Why QEMU ended, in its own word (qapi/run-state.json, ShutdownCause), once its process has.

        Its last events may still be on their way then: they are there when the connection's end is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._client.runstate is Runstate.RUNNING:
                    await self._client.runstate_changed()
        reasons = [data.get("reason") for event in self._shutdowns.clear() if isinstance(data := event["data"], dict)]
        return reasons[-1] if reasons else None


def _job_of(event: Mapping[str, Any]) -> Any:
    return event["data"]["id"]


@asynccontextmanager
async def connected(sock: socket.socket, name: str, pid: int, log: EventLog) -> AsyncIterator[Monitor]:
    """A QMP session over `sock` with the QEMU of that `pid`, closed with the block; its events go to `log`.

    Raises:
        MonitorLost: QEMU ended before it greeted.
        GuestFailed: It did not greet within `ANSWER_SECONDS`.
    """
    client = QMPClient(name)
    client.events.event_filter = lambda _: False
    with client.listener(("SHUTDOWN",)) as shutdowns, client.listen(_Recorder(log)):
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.connect(sock)
        except ConnectError as error:
            raise MonitorLost from error
        except TimeoutError as error:
            raise _silent("with its greeting", ANSWER_SECONDS, pid) from error
        try:
            yield Monitor(client, shutdowns, pid)
        finally:
            # What broke the connection is told by the process's end; there is nothing to add here.
            with contextlib.suppress(EOFError, OSError, QMPError):
                await client.disconnect()


def _silent(what: str, timeout: float, pid: int) -> GuestFailed:
    is_stopped = state_of(pid) in {"T", "t"}
    return GuestFailed(
        f"QEMU did not answer {what} within {timeout:g} s",
        evidence=f"its process {pid} is stopped, by a signal or a debugger" if is_stopped else "",
        cure=f"kill -CONT {pid} lets it go on" if is_stopped else "qemu_shutdown ends it, by force where it must",
    )


def state_of(pid: int) -> str:
    """A process's state in a letter (proc(5), /proc/pid/stat); "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return ""
