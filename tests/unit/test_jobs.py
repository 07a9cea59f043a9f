"""QMP's jobs, against a QEMU that does as the test wants: what a real one does is in test_snapshots."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.errors import GuestFailed
from rawtap.guest import snapshots
from rawtap.guest.monitor import EventLog, Monitor, MonitorLost, connected
from rawtap.guest.profile import MachineSpec, Profile
from support import PATIENCE

Answer = Callable[[dict[str, Any]], list[dict[str, Any]] | None]


@asynccontextmanager
async def qemu(answer: Answer) -> AsyncIterator[Monitor]:
    """A monitor of something that greets as QEMU and sends what `answer` says; None ends it."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=theirs)

    async def speak() -> None:
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        said: list[dict[str, Any]] | None = [{"QMP": {"version": version, "capabilities": []}}]
        while said is not None:
            for each in said:
                writer.write(json.dumps(each).encode() + b"\n")
            if not (text := await reader.read(65536)):
                break
            asked = json.loads(text)  # the client waits for each answer, so it is one message
            handled = {"return": {}, "id": asked.get("id")}
            said = [handled] if asked["execute"] == "qmp_capabilities" else answer(asked)
        writer.close()

    speaking = asyncio.create_task(speak())
    try:
        async with connected(ours, "fake", os.getpid(), EventLog()) as monitor:
            yield monitor
    finally:
        speaking.cancel()
        writer.close()
        ours.close()


def changed(job: str, status: str) -> dict[str, Any]:
    stamp = {"seconds": 1, "microseconds": 0}
    return {"event": "JOB_STATUS_CHANGE", "data": {"id": job, "status": status}, "timestamp": stamp}


def run(answer: Answer, timeout: float = 5.0) -> None:
    async def scenario() -> None:
        async with qemu(answer) as monitor:
            await monitor.run_job("snapshot-save", {"job-id": "j"}, timeout)

    anyio.run(scenario)


def job_that_ends(**how: Any) -> tuple[Answer, list[str]]:
    asked: list[str] = []

    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(message["execute"])
        if message["execute"] == "query-jobs":
            return [{"return": [{"id": "other", "error": "not ours"}, {"id": "j"} | how], "id": message["id"]}]
        events = [changed("other", "concluded"), changed("j", "running"), changed("j", "concluded")]
        return [{"return": {}, "id": message["id"]}, *(events if message["execute"] == "snapshot-save" else [])]

    return answer, asked


def test_a_job_is_over_when_its_own_end_was_told_and_is_dismissed() -> None:
    answer, asked = job_that_ends()
    run(answer)
    assert asked == ["snapshot-save", "query-jobs", "job-dismiss"]


def test_a_job_that_failed_says_why_and_is_dismissed() -> None:
    answer, asked = job_that_ends(error="no\x1broom")
    with pytest.raises(GuestFailed, match=r"could not do snapshot-save \(no\\x1broom\)"):
        run(answer)
    assert asked[-1] == "job-dismiss"


def test_a_job_that_does_not_end_in_time_is_told() -> None:
    with pytest.raises(GuestFailed, match="did not finish snapshot-save within"):
        run(lambda message: [{"return": {}, "id": message["id"]}, changed("j", "running")], timeout=0.05)


def test_whoever_waits_for_a_job_is_woken_by_the_end_of_qemu() -> None:
    """It ends when it is asked for anything else, with the job under way."""

    begun = anyio.Event()

    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        begun.set()
        return [{"return": {}, "id": message["id"]}] if message["execute"] == "snapshot-save" else None

    async def scenario() -> None:
        async with qemu(answer) as monitor, anyio.create_task_group() as group:

            async def end() -> None:
                await begun.wait()
                with pytest.raises(MonitorLost):
                    await monitor.execute("quit")

            group.start_soon(end)
            with anyio.fail_after(PATIENCE), pytest.raises(MonitorLost):
                await monitor.run_job("snapshot-save", {"job-id": "j"}, 600)

    anyio.run(scenario)


class Remembered:
    """A machine that has had a cancelled call, and remembers what it is asked."""

    name = "fake"
    spec = MachineSpec(Profile(), None)
    scratch = Path("/nowhere")

    def __init__(self) -> None:
        self.state_lock = anyio.Lock()
        self.asked: list[tuple[str, Any]] = []

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        self.asked.append((command, arguments))
        if command == "query-named-block-nodes":
            kept = {"name": "a", "vm-state-size": 1, "date-sec": 2, "date-nsec": 500_000_000}
            return [{"node-name": "drive0"}, {"node-name": "snapshots", "image": {"snapshots": [kept]}}]
        ours, status = "rawtap-snapshot-", "concluded"
        jobs = [(f"{ours}0", status), (f"{ours}1", "running"), ("somebody's", status)]
        return [{"id": job, "status": status} for job, status in jobs]

    async def run_job(self, command: str, arguments: dict[str, Any], timeout: float) -> None:
        self.asked.append((command, arguments | {"timeout": timeout}))


def test_what_a_cancelled_call_left_is_dismissed_by_the_next() -> None:
    machine = Remembered()
    kept = anyio.run(snapshots.perform, machine, "save", "b", 5.0)
    assert kept == [snapshots.Snapshot("a", 1, 2.5)]
    dismissed = [arguments for command, arguments in machine.asked if command == "job-dismiss"]
    assert dismissed == [{"id": "rawtap-snapshot-0"}]
    (saved,) = [arguments for command, arguments in machine.asked if command == "snapshot-save"]
    assert (saved["devices"], saved["vmstate"], saved["tag"]) == (["snapshots"], "snapshots", "b")
