"""qemu_link, from outside: a cable is pulled on both ends, a wire is made worse, and a refusal changes nothing."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from support import PATIENCE, Account, Session, link_names, serving

CARD_STATUS = (
    "md.w 0x10008106 1"  # the status word of the first virtio-net device of QEMU's machine virt; bit 0: link up
)


def _queue(name: str) -> dict[str, Any]:
    """The root queue of an interface, as the kernel tells it."""
    with IPRoute() as netlink:
        (found,) = [
            each
            for each in netlink.get_qdiscs(index=netlink.link_lookup(ifname=name)[0])
            if each["parent"] == 0xFFFFFFFF
        ]
        parameters = (
            found.get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS") if found.get_attr("TCA_KIND") == "tbf" else {}
        )
        return {"kind": found.get_attr("TCA_KIND"), "rate": (parameters or {}).get("rate")}


async def queue(name: str) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(_queue, name)


def kernel_has_netem() -> bool:
    with IPRoute() as netlink:
        netlink.link("add", ifname="try0", kind="bridge")
        index = netlink.link_lookup(ifname="try0")[0]
        try:
            netlink.tc("add", kind="netem", index=index, delay=1000)
        except NetlinkError:
            return False
        finally:
            netlink.link("del", index=index)
    return True


async def card_is_up(session: Session) -> bool:
    said = await session.call("qemu_send", command=CARD_STATUS)
    word = said["output"].splitlines()[1].split()[1]
    return bool(int(word, 16) & 1)


def test_a_pulled_cable_is_seen_by_the_guest_and_by_the_host_and_works_again(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot()
            assert "is alive" in await session.ping()
            assert await card_is_up(session)
            await session.call("qemu_pcap_start")
            pulled = await session.call("qemu_link", up=False)
            assert (pulled["up"], pulled["carrier"], pulled["tap"]) == (False, False, booted["network"]["tap"])
            assert not await card_is_up(session)
            said = await session.call("qemu_send", command="ping 10.0.2.2", wait_for="alive", timeout=0.5)
            assert not said["matched"]
            await session.call("qemu_send", command="\x03", timeout=PATIENCE)
            stopped = await session.call("qemu_pcap_stop")
            assert stopped["packets"] == 0
            assert any("carrier" in warning for warning in stopped["warnings"]), stopped
            plugged = await session.call("qemu_link", up=True)
            assert (plugged["up"], plugged["carrier"]) == (True, True)
            assert await card_is_up(session)
            assert "is alive" in await session.ping()
            events = (await session.call("qemu_timeline", sources=["event"]))["events"]
            told = [each["text"] for each in events if each.get("kind") == "cable_set"]
            assert told == ["the cable of guest guest is pulled", "the cable of guest guest is plugged in"]
            assert any(each.get("kind") == "link_no_carrier" for each in events)

    anyio.run(scenario)
    assert link_names() == set()


def test_a_rate_slows_what_goes_to_the_guest_and_is_gone_with_the_next_call(user: Account) -> None:
    """12 frames of 1000 bytes at 100 kbit/s, of which a bucket of 4096 bytes passes at once: 0.6 s."""

    async def spread(session: Session, tap: str) -> float:
        await session.call("qemu_pcap_start", interface=tap, filter="ether proto 0x88b5")
        frame = "525400000001" + "525400000002" + "88b5" + "00" * 986
        await session.call("qemu_packet_send", interface=tap, hex=frame, count=12)
        await session.call("qemu_pcap_wait", count=12, since="start", timeout=PATIENCE)
        await session.call("qemu_pcap_stop")
        times = [each["time"] for each in (await session.call("qemu_pcap_read"))["packets"]]
        assert len(times) == 12
        return float(times[-1] - times[0])

    async def scenario() -> None:
        async with serving(user) as session:
            tap = (await session.boot())["network"]["tap"]
            default = (await queue(tap))["kind"]
            slow = await session.call("qemu_link", up=True, rate=100_000)
            assert (slow["rate"], slow["queue"], slow["carrier"]) == (100_000, "tbf", True)
            assert (await queue(tap)) == {"kind": "tbf", "rate": 12_500}
            assert await spread(session, tap) > 0.5
            assert (await session.call("qemu_link", up=True, rate=200_000))["queue"] == "tbf"
            assert (await queue(tap))["rate"] == 25_000
            good = await session.call("qemu_link", up=True)
            assert (good["rate"], good["queue"]) == (None, default)
            assert (await session.call("qemu_link", up=True))["queue"] == default  # and again
            assert (await queue(tap))["kind"] == default
            events = (await session.call("qemu_timeline", sources=["event"]))["events"]
            told = [each["text"] for each in events if each.get("kind") == "cable_set"]
            assert told[0] == "the cable of guest guest is plugged in; to the guest: 100000 bits/s"
            assert len(told) == 3

    anyio.run(scenario)


def test_what_the_kernel_cannot_do_is_refused_and_nothing_has_changed(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            tap = (await session.boot())["network"]["tap"]
            await session.call("qemu_link", up=True, rate=100_000)
            if await anyio.to_thread.run_sync(kernel_has_netem):
                assert (await session.call("qemu_link", up=True, delay=0.1, loss=5))["queue"] == "netem"
                return
            found = await session.refused("qemu_link", up=False, delay=0.1, loss=5)
            assert found.code == "network.impairment_unavailable"
            assert "modprobe sch_netem" in str(found)
            assert (await queue(tap)) == {"kind": "tbf", "rate": 12_500}
            assert await card_is_up(session)
            assert "is alive" in await session.ping()

    anyio.run(scenario)


def test_a_guest_without_a_cable_says_so(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.refused("qemu_link", up=False)).code == "guest.not_running"
            booted = await session.boot(network=False, name="alone")
            found = await session.refused("qemu_link", up=False, name="alone")
            assert found.code == "request.invalid"
            assert "network=true" in str(found)
            assert (await session.refused("qemu_link", up=False, name="alone", loss=101)).code == "request.invalid"
            booted = await session.boot()
            os.kill(booted["pid"], signal.SIGKILL)
            assert (await session.refused("qemu_link", up=False)).code == "guest.exited"

    anyio.run(scenario)
    assert link_names() == set()
