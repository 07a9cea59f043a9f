"""Packets that are sent to a guest, seen by a capture on its TAP."""

from __future__ import annotations

import anyio

from support import Account, Wire, serving


def test_a_packet_reaches_the_guests_wire_and_the_answer_shows_it(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            network = (await session.boot())["network"]
            mac = network["mac"].replace(":", "")
            await session.call("qemu_pcap_start", interface=network["tap"], filter="arp or ether proto 0x88b5")
            arp = await session.call(
                "qemu_packet_send", layers=[{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.75"}], count=3
            )
            assert (arp["interface"], arp["sent"], arp["bytes"]) == (network["bridge"], 3, 42)
            assert arp["summary"].endswith(" ARP who has 10.0.2.75? tell 10.0.2.2")
            assert arp["hex"].startswith(mac)
            raw = await session.call("qemu_packet_send", interface=network["tap"], hex=f"{mac} 020000000009 88b5 beef")
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == 4
            page = await session.call("qemu_pcap_read", detail="hex")
            found = ["".join(run["hex"] for run in packet["runs"]) for packet in page["packets"]]
            assert found == [arp["hex"]] * 3 + [raw["hex"]]
            await session.call("qemu_shutdown")

    anyio.run(scenario)


def test_what_cannot_be_sent_is_refused(user: Account, wire: Wire) -> None:
    frame = "ff" * 12 + "88b5"

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            assert (str(await session.refused("qemu_packet_send", hex=frame))).startswith("guest.not_running: ")
            text = str(await session.refused("qemu_packet_send", interface=wire.near, hex=frame))
            assert text.startswith(f"capture.interface_not_allowed: no guest of this server is on {wire.near}")
            network = (await session.boot())["network"]
            for arguments in ({}, {"hex": frame, "layers": [{"layer": "ARP"}]}):
                assert "a frame is given by hex or by layers" in str(
                    await session.refused("qemu_packet_send", **arguments)
                )
            text = str(await session.refused("qemu_packet_send", hex=frame + "00" * 3000))
            assert text.startswith(f"request.invalid: a frame of 3014 bytes is too long for {network['bridge']}")
            await anyio.to_thread.run_sync(Wire.set_state, network["tap"], "down")
            text = str(await session.refused("qemu_packet_send", interface=network["tap"], hex=frame))
            assert text.startswith(f"network.failed: {network['tap']} did not take the frame, after 0 that it took")
            await session.call("qemu_shutdown")

    anyio.run(scenario)
