"""Captures without a packet on real links and with a real guest: each says why, from its own evidence."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pyroute2 import IPRoute

from support import PATIENCE, PCAP_HEADER, Account, Session, Wire, host_sends, serving

OURS = "ether proto 0x88b5"
TIME = r"\d+\.\d\d s"


@asynccontextmanager
async def capturing(user: Account, wire: Wire, **arguments: Any) -> AsyncIterator[Session]:
    """A server with a capture on the near end of the wire."""
    async with serving(user, "--allow-interface", wire.near) as session:
        await session.call("qemu_pcap_start", interface=wire.near, **arguments)
        yield session


async def stop_empty(session: Session, **arguments: str) -> str:
    """Stop a capture that saw nothing; its diagnosis."""
    row = await session.call("qemu_pcap_stop", **arguments)
    assert (row["packets"], row["size_bytes"]) == (0, PCAP_HEADER)
    assert len(row["diagnosis"]) <= 600
    return str(row["diagnosis"])


async def in_thread(function: Any, *arguments: Any) -> None:
    """What blocks, and loops of its own, in a worker thread."""
    await anyio.to_thread.run_sync(function, *arguments)


def rename(old: str, new: str) -> None:
    with IPRoute() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=old)[0], ifname=new)


# ------------------------------------------------------------ guests


def test_a_guest_that_never_transmitted_is_named(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            tap = (await session.boot())["network"]["tap"]
            await session.call("qemu_pcap_start")
            text = await stop_empty(session)
            assert "carried no frame at all" in text
            assert f"The guest 'guest' transmitted no frame (its TAP is '{tap}')." in text
            await session.call("qemu_pcap_start", interface=tap)
            assert "The guest 'guest' transmitted no frame" in await stop_empty(session)

    anyio.run(scenario)


def test_a_guest_that_does_not_answer_is_told_from_one_that_nobody_spoke_to(user: Account) -> None:
    """U-Boot at its prompt reads no network card: the host's ARP requests stay unanswered."""

    async def scenario() -> None:
        async with serving(user) as session:
            tap = (await session.boot())["network"]["tap"]
            await session.call("qemu_pcap_start", filter="udp port 5353")
            await session.call("qemu_pcap_start", interface=tap)
            host_sends(("10.0.2.75", 9))
            assert (await session.call("qemu_pcap_stop", capture="c2"))["packets"]
            text = await stop_empty(session, capture="c1")
            assert re.search(r"Only the host's side transmitted: [1-9]\d* frames? went to the guest 'guest'", text)
            assert "The filter 'udp port 5353' matched none of" in text

    anyio.run(scenario)


def test_a_guest_that_transmitted_is_not_blamed(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            await session.call("qemu_pcap_start", filter="udp port 53")
            assert "is alive" in await session.ping()
            text = await stop_empty(session)
            assert text.startswith("The filter 'udp port 53' matched none of")
            assert "'guest'" not in text

    anyio.run(scenario)


def test_traffic_on_another_interface_is_told_with_the_call_that_captures_it(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            network = (await session.boot())["network"]
            await session.call("qemu_pcap_start", interface=wire.near)
            assert "is alive" in await session.ping()
            text = await stop_empty(session)
            assert text.startswith(f"'{wire.near}' carried no frame at all")
            assert re.search(rf"Meanwhile [1-9]\d* frames passed '{network['bridge']}' \(guest 'guest'\)", text)
            assert f"frames passed '{network['tap']}'" in text
            assert f'qemu_pcap_start(interface="{network["bridge"]}")' in text

    anyio.run(scenario)


def test_an_empty_capture_that_ends_with_its_guest_tells_of_the_guest_and_not_of_the_bridge(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            tap = (await session.boot())["network"]["tap"]
            await session.call("qemu_pcap_start")
            await session.call("qemu_pcap_start", interface=tap)
            await session.call("qemu_shutdown")
            bridge_row, tap_row = (await session.call("qemu_pcap_status"))["captures"]
            assert re.search(rf"'guest' transmitted no frame before it ended {TIME}", bridge_row["diagnosis"])
            assert "carrier" not in bridge_row["diagnosis"]
            assert bridge_row["warnings"] == []
            assert tap_row["diagnosis"].startswith(f"The interface '{tap}' was removed with its guest 'guest'")

    anyio.run(scenario)


# ------------------------------------------------------------ links


def test_an_interface_without_a_carrier(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire) as session:
            text = await stop_empty(session)
            assert text.startswith(f"The interface '{wire.near}' had no carrier all the time.")

    wire.set_state(wire.far, "down")
    anyio.run(scenario)


def test_a_carrier_that_was_lost_at_the_last_moment(user: Account, wire: Wire) -> None:
    """The kernel takes up to a second to tell; the interface is asked."""

    async def scenario() -> None:
        async with capturing(user, wire) as session:
            await in_thread(wire.set_state, wire.far, "down")
            text = await stop_empty(session)
            assert re.match(
                rf"The interface '{wire.near}' lost its carrier {TIME} after the start and stayed so\.", text
            )

    anyio.run(scenario)


def test_an_interface_that_is_down(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire) as session:
            await in_thread(wire.set_state, wire.near, "down")
            row = await session.call("qemu_pcap_stop")
            told = rf"'{wire.near}' went down {TIME} after the start and stayed so"
            assert re.match(rf"The interface {told}\. Bring it up", row["diagnosis"])
            assert re.fullmatch(told, row["warnings"][0])

    anyio.run(scenario)


def test_an_interface_that_was_down_for_a_while_and_its_times(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire, filter=OURS) as session:
            await anyio.sleep(0.3)
            await in_thread(wire.set_state, wire.near, "down")
            await anyio.sleep(0.2)
            await in_thread(wire.set_state, wire.near, "up")
            text = await stop_empty(session)
            found = re.search(rf"'{wire.near}' was down from ([\d.]+) s to ([\d.]+) s after the start", text)
            assert found
            assert 0.3 <= float(found[1]) < float(found[2])
            assert float(found[2]) >= 0.5

    anyio.run(scenario)


def test_an_interface_that_was_removed(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire) as session:
            await in_thread(wire.remove, wire.near)
            row = await session.call("qemu_pcap_stop")
            assert row["state"] == "stopped"
            assert re.match(rf"The interface '{wire.near}' was removed {TIME} after the start", row["diagnosis"])
            assert re.fullmatch(rf"'{wire.near}' was removed {TIME} after the start", row["warnings"][0])
            assert len(row["warnings"]) == 1

    anyio.run(scenario)


@pytest.mark.parametrize("frames", [0, 3])
def test_an_interface_that_got_another_name(user: Account, wire: Wire, frames: int) -> None:
    """The capture stays with it; Linux renames an interface that is up since 6.2."""

    async def scenario() -> None:
        async with capturing(user, wire) as session:
            await in_thread(rename, wire.near, "other0")
            wire.send(frames)
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == frames
            assert re.fullmatch(rf"'{wire.near}' was renamed to 'other0' {TIME} after the start", row["warnings"][0])
            assert (row["diagnosis"] is None) == bool(frames)
            assert frames or f"'{wire.near}' was renamed to 'other0'" in row["diagnosis"]

    anyio.run(scenario)


# ------------------------------------------------------------ when


def test_a_capture_that_ended_by_itself_tells_what_was_so_then(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire, max_seconds=0.1) as session:
            ended = await session.ended()
            assert (ended["reason"], ended["warnings"]) == ("max_seconds", [])
            assert re.search(rf"carried no frame at all in {TIME}", ended["diagnosis"])
            wire.send(5)
            await in_thread(wire.remove, wire.near)
            assert await session.ended() == ended
            assert await session.call("qemu_pcap_stop") == ended

    anyio.run(scenario)


def test_a_running_capture_that_sees_nothing_says_why_after_a_second(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with capturing(user, wire) as session:

            async def row() -> dict[str, Any]:
                return dict((await session.call("qemu_pcap_status"))["captures"][0])

            told = await session.until(lambda answer: answer["captures"][0]["diagnosis"], "qemu_pcap_status")
            (running,) = told["captures"]
            assert (running["state"], running["duration"] > 0.9) == ("running", True)
            assert "carried no frame at all" in running["diagnosis"]
            await in_thread(wire.set_state, wire.near, "down")
            assert "went down" in (await row())["diagnosis"]
            await in_thread(wire.set_state, wire.near, "up")
            with anyio.fail_after(PATIENCE):  # the far end sends only once the kernel has noticed its carrier
                while not (running := await row())["packets"]:
                    wire.send(1)
            assert running["diagnosis"] is None

    anyio.run(scenario)


def test_a_file_that_took_no_packet_is_blamed_on_the_disk(user: Account, wire: Wire, small_disk: Path) -> None:
    """A frame that does not fit into the rest of the page that the file's header is in."""

    async def scenario() -> None:
        options = ("--allow-interface", wire.near, "--capture-dir", small_disk)
        async with serving(user, *options) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter=OURS)
            with pytest.raises(OSError, match="No space"):
                (small_disk / "filler").write_bytes(bytes(2 << 20))
            wire.send(1, size=8000)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["state"]) == (0, "failed")
            assert row["diagnosis"].startswith("The capture failed before it saved a packet: capture.no_space: ")

    with IPRoute() as netlink:
        for name in (wire.near, wire.far):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], mtu=9000)
    anyio.run(scenario)
