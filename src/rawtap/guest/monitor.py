"""QMP, QEMU's machine protocol: the only module that speaks to qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate, StateError
from qemu.qmp.events import EventListener

from rawtap.errors import GuestFailed

# It logs a lost connection, and a cancelled call, as an error or worse; both are told by the call that they concern.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

_ANSWER_SECONDS = 10.0
_DRAIN_SECONDS = 1.0


class MonitorLost(Exception):
    """QEMU closed the connection: it has ended, or is about to."""


class Monitor:
    """One guest's QMP session."""

    def __init__(self, client: QMPClient, shutdowns: EventListener) -> None:
        self._client = client
        self._shutdowns = shutdowns

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a QMP command and return its answer.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: QEMU refused, or did not answer within 10 seconds.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._client.execute(command, arguments)
        except (ExecInterruptedError, StateError) as error:
            raise MonitorLost from error
        except ExecuteError as error:
            raise GuestFailed(
                f"QEMU refused {command}", evidence=str(error), cure="qemu_status shows the guest's state"
            ) from error
        except TimeoutError as error:
            raise _silent(command) from error

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


@asynccontextmanager
async def connected(sock: socket.socket, name: str) -> AsyncIterator[Monitor]:
    """A QMP session over `sock`, closed with the block.

    Raises:
        MonitorLost: QEMU ended before it greeted.
        GuestFailed: It did not greet within 10 seconds.
    """
    client = QMPClient(name)
    with client.listener(("SHUTDOWN",)) as shutdowns:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.connect(sock)
        except ConnectError as error:
            raise MonitorLost from error
        except TimeoutError as error:
            raise _silent("with its greeting") from error
        try:
            yield Monitor(client, shutdowns)
        finally:
            # What broke the connection is told by the process's end; there is nothing to add here.
            with contextlib.suppress(EOFError, OSError, QMPError):
                await client.disconnect()


def _silent(what: str) -> GuestFailed:
    return GuestFailed(
        f"QEMU did not answer {what} within {_ANSWER_SECONDS:.0f} s",
        cure="qemu_shutdown ends it, by force where it must",
    )
