"""Faults of the server and of its clients: it is killed, left alone in the middle of a call, overrun, worn out.

One row of the table is one test. The moments at which a server is killed are random, and the same in
every run. Rows that are elsewhere: a QEMU that exits at its start (test_error_codes); cancelled boots, two servers on
one bridge, every way to end a server (test_endings); captures (test_faults); hostile arguments and files
(test_hostile).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pyroute2 import IPRoute

import tiny_guest
from support import (
    PATIENCE,
    Account,
    Session,
    Wire,
    command_of,
    eventually,
    link_names,
    next_start,
    read_back,
    serving,
    status_of,
)
from test_endings import RawClient, end_by, raw_client

OTHERS = "others-br0"
_AT_ONCE = 3  # servers

soak = pytest.mark.soak


def guests_of_this_run() -> list[int]:
    """Every QEMU in this run's network namespace, whoever its parent is by now."""
    ours = Path("/proc/self/ns/net").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if "qemu-system" in command_of(int(folder.name)) and (folder / "ns/net").readlink() == ours:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@contextmanager
def somebody_elses_bridge() -> Iterator[None]:
    with IPRoute() as netlink:
        netlink.link("add", ifname=OTHERS, kind="bridge")
    try:
        yield
    finally:
        Wire.remove(OTHERS)


def boot(client: RawClient, **arguments: Any) -> dict[str, Any]:
    return client.call("qemu_boot", profile="u-boot-riscv64", network=True, **arguments)


def begin(client: RawClient, tool: str, /, **arguments: Any) -> None:
    client.request("tools/call", {"name": tool, "arguments": arguments})


def killed_at_boot(client: RawClient, moment: float) -> None:
    begin(client, "qemu_boot", profile="u-boot-riscv64", network=True, capture=True)
    kill_after(client, moment * 1.2)


def killed_in_a_capture(client: RawClient, moment: float) -> None:
    path = boot(client, capture=True, wait_for_prompt=False)["capture"]["path"]
    begin(client, "qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2", timeout=5)
    kill_after(client, moment)
    assert eventually(lambda: read_back(path) >= 0)  # tcpdump does not complain of it


def killed_at_shutdown(client: RawClient, moment: float) -> None:
    boot(client, wait_for_prompt=False)
    begin(client, "qemu_shutdown", timeout=0)
    kill_after(client, moment * 0.1)


def kill_after(client: RawClient, seconds: float) -> None:
    time.sleep(seconds)  # a moment that no event marks: that is what is tested
    client.process.kill()
    client.process.wait()


@pytest.mark.parametrize("moments", [6, pytest.param(100, marks=soak)])
@pytest.mark.parametrize("fault", [killed_at_boot, killed_in_a_capture, killed_at_shutdown])
def test_a_server_that_is_killed_leaves_no_qemu_no_tap_and_readable_captures(
    user: Account, fault: Callable[[RawClient, float], None], moments: int
) -> None:
    """Its bridge goes with the next start, and nobody else's does."""
    chance = random.Random(fault.__name__)

    def one(moment: float) -> None:
        with raw_client(user) as client:
            fault(client, moment)

    with somebody_elses_bridge():
        for _ in range(moments // _AT_ONCE):
            with ThreadPoolExecutor(_AT_ONCE) as servers:
                list(servers.map(one, [chance.random() for _ in range(_AT_ONCE)]))
            began = time.monotonic()
            assert eventually(lambda: not guests_of_this_run())
            assert eventually(lambda: link_names() <= {OTHERS, "rawtap-br0"}), link_names()
            # A second is what is promised; other tests may take it from the kernel in the short form.
            assert moments == 6 or time.monotonic() - began < 1
        next_start(user, lambda: link_names() == {OTHERS})


WAITING: dict[str, dict[str, Any]] = {
    "qemu_send": {"command": "sleep 20", "timeout": 20},
    "qemu_read": {"wait_for": "never", "timeout": 20},
    "qemu_pcap_wait": {"filter": "tcp", "timeout": 20},
    "qemu_shutdown": {"name": "deaf", "timeout": 20},
    "qemu_boot": {"profile": "u-boot-riscv64", "network": True, "name": "second"},
}
QUICK: dict[str, dict[str, Any]] = {
    "qemu_pcap_explain": {},
    "qemu_timeline": {},
    "qemu_packet_send": {"interface": "rawtap-br0", "hex": "ff" * 60, "count": 1000},
    "qemu_pcap_read": {"detail": "layers"},
    "qemu_status": {},
    "qemu_doctor": {},
    "qemu_link": {"up": False},
    "qemu_pcap_status": {},
    "qemu_pcap_start": {},
    "qemu_pcap_stop": {},
}
EACH = [pytest.param([name], marks=soak, id=name) for name in (*WAITING, *QUICK)]


@pytest.mark.parametrize("tools", [pytest.param([*WAITING, *QUICK], id="all"), *EACH])
def test_a_client_that_goes_away_in_the_middle_of_calls_leaves_nothing(user: Account, tools: list[str]) -> None:
    """Its stdin closes; calls that wait are cancelled, and what they held is released."""
    deaf = tiny_guest.tree(user, tiny_guest.program(b"deaf\r\n"), 'shutdown_command = "halt"\n')
    with raw_client(user) as client:
        boot(client, capture=True)
        client.call("qemu_boot", project_root=deaf, name="deaf", wait_for_prompt=False)
        for name in tools:
            begin(client, name, **(WAITING | QUICK)[name])
        if set(tools) <= set(WAITING):
            client.call("qemu_doctor")  # answered first: those before it have begun, and wait
        end_by(client, "stdin")
        assert client.process.wait(timeout=PATIENCE) == 0
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""
    assert guests_of_this_run() == []
    assert link_names() == set()


@pytest.mark.parametrize("boots", [20, pytest.param(1000, marks=soak)])
def test_boot_after_boot_memory_descriptors_threads_and_links_stay_as_they_are(user: Account, boots: int) -> None:
    """Half of the boots are to the prompt in the long form; the short one ends each guest at once."""

    async def rounds(session: Session, count: int, *, prompt: bool) -> None:
        for number in range(count):
            booted = await session.boot(wait_for_prompt=prompt and number % 2 == 0, capture=number % 4 == 0)
            await session.call("qemu_shutdown", timeout=0)
            assert link_names() == set(), booted

    def held(session: Session) -> tuple[int, int, int]:
        status = status_of(session.pid)
        return (
            int(status["RssAnon"].split()[0]),
            int(status["Threads"]),
            len(list(Path(f"/proc/{session.pid}/fd").iterdir())),
        )

    async def scenario() -> None:
        async with serving(user) as session:
            await rounds(session, 8, prompt=True)
            memory, threads, files = held(session)
            await rounds(session, boots, prompt=boots > 20)
            after = held(session)
            assert after[0] - memory < 3000 + 10 * boots, "kB"
            assert after[1] <= threads + 2
            assert after[2] <= files + 2

    anyio.run(scenario)


def test_twenty_agents_at_once_on_one_server_all_get_their_answers(user: Account) -> None:
    """Each with calls of its own, all on the same two guests and the same bridge; a call takes a bounded time."""

    async def agent(session: Session, number: int, answers: list[str]) -> None:
        async def timed(name: str, /, **arguments: Any) -> dict[str, Any]:
            with anyio.fail_after(PATIENCE):
                answer = await session.call(name, **arguments)
            answers.append(name)
            return answer

        started = await timed("qemu_pcap_start", filter=f"udp port {4000 + number}")
        await timed("qemu_status")
        await timed("qemu_read", name="tiny", position=0)
        layers = [
            {"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"},
            {"layer": "IP", "src": "10.0.2.9", "dst": "10.0.2.255"},
            {"layer": "UDP", "sport": 4000 + number, "dport": 9},
        ]
        await timed("qemu_packet_send", interface="rawtap-br0", layers=layers, count=3)
        await timed("qemu_pcap_wait", capture=started["capture"], count=3, since="start", timeout=PATIENCE)
        await timed("qemu_timeline", limit=5)
        row = await timed("qemu_pcap_stop", capture=started["capture"])
        assert row["packets"] == 3
        page = await timed("qemu_pcap_read", capture=started["capture"])
        assert page["matched"] == 3
        assert (await timed("qemu_pcap_explain", capture=started["capture"]))["examined"] == 3

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            root = tiny_guest.tree(user, tiny_guest.program(b"tiny\r\n"))
            await session.call("qemu_boot", project_root=root, name="tiny", wait_for_prompt=False)
            answers: list[str] = []
            async with anyio.create_task_group() as agents:
                for number in range(20):
                    agents.start_soon(agent, session, number, answers)
            assert len(answers) == 20 * 9

    anyio.run(scenario)
    assert link_names() == set()
