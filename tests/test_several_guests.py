"""Guests beside each other on one bridge, each called by its name, from outside."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import Any

import anyio

from support import PATIENCE, Account, Session, Wire, eventually_async, link_names, serving

A, B = "10.0.2.75", "10.0.2.76"


async def say(session: Session, name: str, command: str, **arguments: Any) -> str:
    return str((await session.call("qemu_send", name=name, command=command, **arguments))["output"])


async def while_it_listens(session: Session, name: str, done: asyncio.Event) -> None:
    """U-Boot answers ARP and ICMP only while it is in its network loop: while it pings somebody who is not there."""
    await session.call("qemu_send", name=name, command="ping 10.0.2.99", wait_for="Using", timeout=PATIENCE)
    await done.wait()
    # The interrupt and its Enter bring a prompt each: the last one is what an answer ends with.
    await session.call("qemu_send", name=name, command="\x03", timeout=PATIENCE)
    await say(session, name, "echo stopped", wait_for="\nstopped\r\n=> ", timeout=PATIENCE)


def test_two_guests_reach_each_other_and_a_captured_tap_shows_one_of_them_only(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = {name: await session.boot(name=name) for name in ("a", "b")}
            nets = {name: each["network"] for name, each in booted.items()}
            assert nets["a"]["bridge"] == nets["b"]["bridge"]
            assert nets["a"]["tap"] != nets["b"]["tap"]
            assert nets["a"]["mac"] != nets["b"]["mac"]
            taps = {
                name: (await session.call("qemu_pcap_start", interface=net["tap"]))["capture"]
                for name, net in nets.items()
            }
            await say(session, "a", f"setenv ipaddr {A}; setenv who guest-a")
            await say(session, "b", f"setenv ipaddr {B}; setenv who guest-b")
            assert "guest-a" in await say(session, "a", "echo $who")
            assert "guest-b" in await say(session, "b", "echo $who")

            done = asyncio.Event()
            listening = asyncio.create_task(while_it_listens(session, "b", done))
            await session.call("qemu_pcap_wait", capture=taps["a"], filter="arp", since="start", timeout=PATIENCE)
            assert f"host {B} is alive" in await say(session, "a", f"ping {B}")
            done.set()
            await listening
            assert "is alive" in await say(session, "b", "ping 10.0.2.2")

            for name, net in nets.items():
                await session.call("qemu_pcap_stop", capture=taps[name])

                async def matched(filter_: str, capture: str = taps[name]) -> int:
                    return int((await session.call("qemu_pcap_read", capture=capture, filter=filter_))["matched"])

                assert await matched(f"icmp and host {A} and host {B}") == 2
                assert await matched(f"icmp and host {B} and host 10.0.2.2") == (0 if name == "a" else 2)
                assert await matched(f"not (ether host {net['mac']} or ether broadcast)") == 0
            page = await session.call("qemu_pcap_read", capture=taps["a"], filter="icmp")
            assert [each["direction"] for each in page["packets"]] == ["from a to b", "from b to a"]

            status = await session.call("qemu_status")
            assert status["networks"][0]["guests"] == ["a", "b"]
            assert [each["name"] for each in (await session.call("qemu_status", name="b"))["guests"]] == ["b"]
            ended = await session.call("qemu_shutdown", name="a", timeout=0)
            assert ended["left_standing"] == [f"bridge {nets['b']['bridge']}"]
            assert "guest-b" in await say(session, "b", "echo $who")
            assert "is alive" in await say(session, "b", "ping 10.0.2.2")

    anyio.run(scenario)
    assert link_names() == set()


def test_a_cable_that_is_pulled_is_one_guests(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            for name, address in (("a", A), ("b", B)):
                await session.boot(name=name)
                await say(session, name, f"setenv ipaddr {address}")
            pulled = await session.call("qemu_link", name="a", up=False)
            assert not pulled["carrier"]
            assert "is alive" in await say(session, "b", "ping 10.0.2.2")
            assert "is alive" not in await say(session, "a", "ping 10.0.2.2", timeout=0.5)

    anyio.run(scenario)


def test_a_bridge_that_somebody_removed_is_made_anew_for_the_next_guest(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            first = await session.boot(name="a")
            await anyio.to_thread.run_sync(Wire.remove, first["network"]["bridge"])
            second = await session.boot(name="b")
            assert second["network"]["bridge"] == first["network"]["bridge"]
            assert "is alive" in await say(session, "b", f"setenv ipaddr {B}; ping 10.0.2.2")
            await session.call("qemu_shutdown", name="a", timeout=0)
            assert "is alive" in await say(session, "b", "ping 10.0.2.2")

    anyio.run(scenario)
    assert link_names() == set()


def test_no_server_touches_a_bridge_while_another_one_does(user: Account) -> None:
    """Each looks whether the bridge is there, or empty, and acts on it: between the two nobody else may."""

    async def scenario() -> None:
        async with serving(user) as session:
            with Path("/proc/thread-self/ns/net").open("rb") as namespace:
                fcntl.flock(namespace, fcntl.LOCK_EX)  # as another server of this namespace holds it
                async with anyio.create_task_group() as group:
                    group.start_soon(session.boot)
                    assert await eventually_async(lambda: "making the network" in session.progress)
                    await session.call("qemu_status")
                    assert link_names() == set()
                    fcntl.flock(namespace, fcntl.LOCK_UN)
            assert link_names() != set()
            assert (await session.call("qemu_status"))["guests"][0]["state"] == "running"

    anyio.run(scenario)
