"""A guest that sends from a link address of its own making is known by its card."""

from __future__ import annotations

import anyio

from support import Account, serving

_OWN = "02:12:34:56:78:9a"


def test_a_guest_with_an_address_of_its_own_making_is_named_wherever_its_frames_are(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(network=True)
            tap = booted["network"]["interface"]
            for interface in (tap, booted["network"]["bridge"]):
                await session.call("qemu_pcap_start", interface=interface, filter="arp or icmp")
            await session.typed("setenv ipaddr 10.0.2.75")
            await session.typed(f"env set -f ethaddr {_OWN}")
            assert "is alive" in await session.typed("ping 10.0.2.2")
            for capture in ("c1", "c2"):
                page = await session.call("qemu_pcap_read", capture=capture, filter=f"ether src {_OWN}")
                assert page["packets"], page
                assert {each["direction"] for each in page["packets"]} == {"from guest"}
                answers = await session.call("qemu_pcap_read", capture=capture, filter=f"ether dst {_OWN}")
                assert {each["direction"] for each in answers["packets"]} == {"to guest"}
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["card"]["own_macs"] == [_OWN]
            told = await session.call("qemu_pcap_explain", capture="c1")
            (found,) = (each for each in told["findings"] if each["what"] == "ethernet.source")
            assert (found["host"], found["found"]) == ("guest", _OWN)
            await session.call("qemu_shutdown")
            page = await session.call("qemu_pcap_read", capture="c2", filter=f"ether src {_OWN}")
            assert {each["direction"] for each in page["packets"]} == {"from guest"}, "it is remembered"

    anyio.run(scenario)
