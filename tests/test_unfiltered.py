"""A capture whose filter matched nothing names what passed instead, from its own count of every frame."""

from __future__ import annotations

import re

import anyio
import pytest

from rawtap.capture import _native
from support import Account, Wire, serving

needs_the_captures_own_count = pytest.mark.skipif(
    not hasattr(_native.LiveCapture, "watch"), reason="this build does not count frames that the filter did not select"
)


@needs_the_captures_own_count
def test_a_filter_that_matched_nothing_is_told_with_the_protocols_that_passed(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter="udp port 53")
            wire.send(5, protocol=0x88CC)
            wire.send(2, protocol=0x0806)
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == 0
            # The row's duration is rounded otherwise, so it cannot be held against this one.
            assert re.sub(r"in \d+\.\d+ s:", "in N s:", row["diagnosis"]) == (
                f"The filter 'udp port 53' matched none of 7 frames that '{wire.near}' carried in "
                "N s: 5 'LLDP', 2 'ARP'. Capture without a filter, or with one for these."
            )

    anyio.run(scenario)


def test_a_filter_on_a_silent_wire_is_not_blamed(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter="udp port 53")
            row = await session.call("qemu_pcap_stop")
            assert "carried no frame at all" in row["diagnosis"]
            assert "filter" not in row["diagnosis"]

    anyio.run(scenario)


@needs_the_captures_own_count
def test_tags_and_later_fragments_are_told(user: Account, wire: Wire) -> None:
    """The kernel takes tags off, and a fragment's first bytes are no ports where it is not the first."""
    head = bytes.fromhex("ffffffffffff020000000001")
    arp, fragment = bytes.fromhex("0806") + bytes(28), bytes.fromhex("08004500001c000000b940110000" + "0a000002" * 2)

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, filter="vlan 20")
            for _ in range(3):
                wire.send_bytes(head + bytes.fromhex("8100000a") + arp)
            for _ in range(2):
                wire.send_bytes(head + bytes.fromhex("88a800078100000a") + fragment + bytes.fromhex("0035003500000000"))
            wire.send_bytes(head + fragment + bytes.fromhex("0035003500000000"))
            told = (await session.call("qemu_pcap_stop"))["diagnosis"]
            kinds = "3 'ARP with tag 10', 2 'IPv4 UDP later fragment with tag 7', 1 'IPv4 UDP later fragment'"
            assert kinds in told, told

    anyio.run(scenario)
