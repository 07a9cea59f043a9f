"""A guest on QEMU's own network is examined with no privilege whatever: the neighbour is in QEMU's place meanwhile.

What is judged is what is judged on a bridge (test_examine.py), by the same rules on other wires.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.examine import catalogue
from support import PATIENCE, Account, Session, descendants_of, eventually, eventually_async, exists, serving
from test_broken_guests import tree_with
from test_endings import raw_client
from test_examine import (
    ADDRESS,
    DIES_OF_TYPE,
    HEALTHY,
    SOURCE,
    blames_no_frame_for_a_shutdown,
    examined,
    free_memory_is_zero,
    leaves_nothing_when_it_is_cancelled,
    stack,
    tells_nothing_of_a_wire_that_changed,
    verdicts,
)
from test_linux_guest import IMAGES, linux_tree

ECHO_CUT, KERNEL_DIES = 32, 56
QEMUS_MAC, OUR_MAC = "52:55:0a:00:02:02", "02:72:61:77:74:01"
QEMUS = {"10.0.2.2", "10.0.2.3", ADDRESS}
PORT = 47123
LOOP = "while true; do ping 10.0.2.2; done"


async def parts(session: Session) -> set[str]:
    """What QEMU has of filters, and of sockets and the like."""
    found = set()
    for path in ("/objects", "/chardevs"):
        told = await session.call("qemu_monitor", command="qom-list", arguments={"path": path})
        found |= {each["name"] for each in json.loads(told["answer"])}
    assert "console" in found  # it is the right place
    return found


def senders(path: str) -> list[str]:
    """Whose frames are in a file, in its order."""
    from scapy.utils import RawPcapReader

    with RawPcapReader(path) as reader:
        return [data[6:12].hex(":") for data, _ in reader]


async def qemu_answers(session: Session) -> None:
    """QEMU's own host does, a Linux guest."""
    assert " 0% packet loss" in (said := await session.typed("ping -c 3 -W 20 10.0.2.2")), said


def with_stack(account: Account, tmp_path: Path, scenario: Callable[[Session], Awaitable[None]]) -> None:
    """A Linux guest with the tests' own stack in it, that can be kept in snapshots."""

    async def whole() -> None:
        tree = tree_with(account, tmp_path, SOURCE)
        free_memory_is_zero(tree)
        async with serving(account, "--open-monitor", "--image-dir", IMAGES, "--image-dir", account.home) as session:
            await session.call("qemu_boot", project_root=tree, network="user", timeout=PATIENCE)
            await session.typed("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up")
            await scenario(session)

    anyio.run(whole)


async def are_in_the_capture(session: Session, told: dict[str, Any]) -> None:
    """The frames of the only rule, both ways, where their numbers say."""
    (row,) = told["rules"]
    ways = set()
    for line in row["frames"]:
        number, way, _ = line.split(maxsplit=2)
        ways.add(way)
        page = await session.call("qemu_pcap_read", capture=told["capture"], first=int(number), limit=1)
        said = "from guest" if way == "<" else "to guest"
        assert page["packets"][0]["direction"].startswith(said), line
    assert ways == {"<", ">"}


def test_a_defect_is_named_with_its_packets_and_a_stack_without_one_keeps_the_rules(
    nowhere: Account, tmp_path: Path
) -> None:
    async def scenario(session: Session) -> None:
        before = await parts(session)
        async with stack(session, HEALTHY):
            for suite in ("arp", "icmp"):
                told = await session.call("qemu_examine", what=suite)
                assert (told["address"], told["snapshots"], verdicts(told)) == (ADDRESS, True, {})
                assert told["suites"][0]["kept"] == len(catalogue.SUITES[suite])
                assert told["neighbor"].startswith("10.0.2.")
                assert told["neighbor"] not in QEMUS
                assert await parts(session) == before
        async with stack(session, ECHO_CUT):
            told = await examined(session, "icmp.echo_data")
            (row,) = told["rules"]
            assert (row["verdict"], row["field"]) == ("violated", "Raw.load")
            await are_in_the_capture(session, told)
        async with stack(session, HEALTHY):
            await tells_nothing_of_a_wire_that_changed(session)
        assert await parts(session) == before
        await session.typed(f"ip addr add {ADDRESS}/24 dev eth0")
        await qemu_answers(session)
        await session.typed(f"ip addr del {ADDRESS}/24 dev eth0")  # the kernel's own stack would answer until it dies
        ready = await session.call("qemu_send", command=f"examined {KERNEL_DIES}", wait_for="ready", timeout=PATIENCE)
        assert ready["matched"]
        (row,) = (await examined(session, "icmp.unknown_type"))["rules"]
        assert row["verdict"] == "died"
        assert "ICMP type 200" in row["reason"]
        assert await parts(session) == before

    with_stack(nowhere, tmp_path, scenario)


def test_fuzzing_finds_frames_that_kill(nowhere: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        before = await parts(session)
        async with stack(session, DIES_OF_TYPE):
            told = await examined(session, "fuzz 1 1")
            row = told["rules"][0]
            assert (row["rule"], row["verdict"]) == ("fuzz.1", "died")
            assert "it answers no health check any more, 10 times of 10; " in row["reason"]
        assert await parts(session) == before

    with_stack(nowhere, tmp_path, scenario)


def test_linux_keeps_what_it_keeps_on_a_bridge_and_hears_nothing_of_qemus_meanwhile(nowhere: Account) -> None:
    async def scenario() -> None:
        tree = linux_tree(nowhere)
        free_memory_is_zero(tree)
        async with serving(nowhere, "--open-monitor", "--image-dir", IMAGES) as session:
            await session.call("qemu_boot", project_root=tree, network="user", timeout=PATIENCE)
            await session.typed("ip link set eth0 up; udhcpc -i eth0 -n -q -s /etc/udhcpc.sh")
            await session.typed("nc -ll -p 7777 -e cat &")
            before = await parts(session)
            told = await session.call("qemu_examine", what="all")
            assert (told["address"], told["port"], told["snapshots"]) == (ADDRESS, 7777, True)
            documented = {rule.name for rule in catalogue.chosen("all") if rule.linux}
            clients = {rule.name for suite in ("dns", "dhcp") for rule in catalogue.SUITES[suite]}
            assert set(verdicts(told)) - clients == documented
            await asks_qemu_in_vain(session)
            (row,) = (await session.call("qemu_examine", what="impairments.transfer_loss"))["rules"]
            assert row["verdict"] == "kept"
            await session.typed("udhcpc -i eth0 -f -t 9999 -T 1 -A 1 -s /bin/true >/dev/null 2>&1 &")
            for rule in ("dhcp.offer", "dhcp.request_address"):
                (row,) = (await session.call("qemu_examine", what=rule))["rules"]
                assert row["verdict"] == "kept", row
            assert await parts(session) == before
            await qemu_answers(session)

    anyio.run(scenario)


async def asks_qemu_in_vain(session: Session) -> None:
    await qemu_answers(session)
    await session.typed("for n in 1 2 3 4 5; do ping 10.0.2.2 >/dev/null 2>&1 & sleep 0.2; done")
    told = await session.call("qemu_examine", what="arp")
    assert verdicts(told) == {}
    found = senders(told["path"])
    found = found[found.index(OUR_MAC) : len(found) - found[::-1].index(OUR_MAC)]
    assert QEMUS_MAC not in found
    assert len(set(found)) == 3  # the guest, and the neighbour by its two addresses
    await session.typed("killall ping")
    await qemu_answers(session)


def test_a_call_that_ends_half_way_leaves_nothing_in_qemu(nowhere: Account) -> None:
    """Be it cancelled, or its guest shut down. Meanwhile others capture and send as ever, and QEMU's host does not."""

    async def scenario() -> None:
        forward = {"forward": [{"host": PORT, "guest": 7}]}
        async with serving(nowhere, "--open-monitor", "--allow-forward", f"{PORT}-{PORT}") as session:
            await session.boot(network="user", overrides=forward)
            before = await parts(session)
            assert "is alive" in await session.ping()
            await session.call("qemu_send", command=LOOP, wait_for="is alive", timeout=PATIENCE)
            await leaves_nothing_when_it_is_cancelled(session)
            assert await parts(session) == before
            await sends_beside_the_neighbor(session)
            with anyio.fail_after(PATIENCE):
                while await parts(session) != before:
                    pass
            alive = await session.call("qemu_read", wait_for="is alive", timeout=PATIENCE)
            assert alive["matched"]
            await blames_no_frame_for_a_shutdown(session)

    anyio.run(scenario)


async def sends_beside_the_neighbor(session: Session) -> None:
    session.progress.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(session.call, "qemu_examine", what="all"))
        assert await eventually_async(lambda: bool(session.progress))
        row = await session.call("qemu_pcap_start")
        with socket.create_connection(("127.0.0.1", PORT)):  # QEMU's host asks the guest, or would
            sent = await session.call("qemu_packet_send", hex="ffffffffffff02000000000188b5".ljust(120, "0"), count=3)
        assert sent["sent"] == 3
        found = senders((await session.call("qemu_pcap_stop", capture=row["capture"]))["path"])
        group.cancel_scope.cancel()
    assert (found.count("02:00:00:00:00:01"), found.count(QEMUS_MAC)) == (3, 0)


@pytest.mark.parametrize("how", ["server", "guest"])
def test_what_ends_half_way_leaves_no_process(nowhere: Account, how: str) -> None:
    with raw_client(nowhere) as client:
        booted = client.call("qemu_boot", profile="u-boot-riscv64", network="user")
        client.call("qemu_send", command=f"setenv ipaddr 10.0.2.75; {LOOP}", wait_for="is alive")
        below = descendants_of(client.process.pid)
        asked = {"name": "qemu_examine", "arguments": {"what": "all"}, "_meta": {"progressToken": 1}}
        client.request("tools/call", asked)
        assert client.process.stdout is not None
        while b"notifications/progress" not in client.process.stdout.readline():
            pass
        if how == "guest":
            os.kill(booted["pid"], signal.SIGKILL)
            said = client.answer()["content"][0]["text"]
            assert "the guest guest has exited" in said or "QEMU ended" in said
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(timeout=PATIENCE) == 0
        assert eventually(lambda: not any(exists(pid) for pid in below))
        assert client.process.stderr is not None
        assert b"Traceback" not in client.process.stderr.read()
