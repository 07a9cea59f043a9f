"""QMP, QEMU's machine protocol: the only module that speaks to qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient
from qemu.qmp.events import EventListener

from rawtap.errors import GuestFailed

# It logs a lost connection as an error; here that is how a guest ends, and told as that.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

_ANSWER_SECONDS = 10.0


class MonitorLost(Exception):
    """QEMU closed the connection: it has ended, or is about to."""


class Monitor:
    """One guest's QMP session. `shutdown_reason` is QEMU's own word (qapi/run-state.json, ShutdownCause)."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client
        self.shutdown_reason: str | None = None

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a QMP command and return its answer.

        Raises:
            MonitorLost: QEMU has ended.
            GuestFailed: QEMU refused, or did not answer within 10 seconds.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._client.execute(command, arguments)
        except ExecInterruptedError as error:
            raise MonitorLost from error
        except ExecuteError as error:
            raise GuestFailed(
                f"QEMU refused {command}", evidence=str(error), cure="qemu_status shows the guest's state"
            ) from error
        except TimeoutError as error:
            raise GuestFailed(
                f"QEMU did not answer {command} within {_ANSWER_SECONDS:.0f} s",
                cure="qemu_shutdown ends it, by force where it must",
            ) from error

    async def watch(self, listener: EventListener) -> None:
        """Take note of events until cancelled."""
        async for event in listener:
            if event["event"] == "SHUTDOWN":
                data = event.get("data")
                self.shutdown_reason = data.get("reason") if isinstance(data, dict) else None


@asynccontextmanager
async def connected(sock: socket.socket, name: str) -> AsyncIterator[Monitor]:
    """A QMP session over `sock`, closed with the block.

    Raises:
        MonitorLost: QEMU ended before it greeted.
    """
    client = QMPClient(name)
    monitor = Monitor(client)
    with client.listener() as listener:
        try:
            await client.connect(sock)
        except ConnectError as error:
            raise MonitorLost from error
        watcher = asyncio.create_task(monitor.watch(listener))
        try:
            yield monitor
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            # What broke the connection is told by the process's end; there is nothing to add here.
            with contextlib.suppress(EOFError, OSError):
                await client.disconnect()
