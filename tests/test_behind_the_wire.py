"""What becomes of frames behind the wire: taken by the guest, waiting for it, or nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, serving


async def card_of(session: Session) -> dict[str, Any]:
    (row,) = (await session.call("qemu_status"))["guests"]
    return dict(row["card"])


def test_a_guest_that_takes_no_more_is_told_with_what_waits_for_it(user: Account) -> None:
    """U-Boot reads its card while it waits for something of its own, and never at its prompt. Then it is deaf."""

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            assert "is alive" in await session.ping()
            before = await card_of(session)
            assert before["sent"] >= 2  # it asked by ARP, and pinged
            assert (before["waiting"], before["dropped"], before["trouble"], before["unknown"]) == (0, 0, None, {})
            capture = (await session.call("qemu_pcap_start"))["capture"]
            frame = "ff" * 6 + "02" + "00" * 5 + "88b5" + "00" * 46
            await session.call("qemu_packet_send", hex=frame, count=before["free"] + 7)
            after = await card_of(session)
            assert after["taken"] == before["taken"] + before["free"] + 1  # of which QEMU itself holds the last
            assert (after["waiting"], after["free"], after["given"]) == (6, 0, before["given"])
            assert after["trouble"].startswith(f"QEMU took {after['taken']} frames for the guest and takes no more: ")
            assert after["trouble"].endswith("; 6 wait in the TAP")
            (note, *_) = (await session.call("qemu_pcap_explain", capture=capture))["notes"]
            assert note == f"behind the wire of guest: {after['trouble']}"
            # It gives the buffers back without a word to QEMU, which waits for one.
            await session.call("qemu_send", command="ping 10.0.2.2", wait_for="Using")
            while (again := await card_of(session))["free"] == 0:
                pass
            assert (again["taken"], again["waiting"] >= 6) == (after["taken"], True)
            assert f"gave its card {again['free']} buffers and did not notify it" in again["trouble"]

    anyio.run(scenario)


def test_what_is_not_known_behind_the_wire_is_null_with_a_reason(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network="user")
            card = await card_of(session)
            unknown = {name for name, value in card.items() if value is None} - {"trouble"}
            assert unknown == set(card["unknown"]) == {"sent", "taken", "waiting", "dropped"}
            await session.call("qemu_shutdown")
            await session.boot()
            await session.call("qemu_link", up=True, rate=1_000_000)
            card = await card_of(session)
            assert (card["waiting"], set(card["unknown"])) == (None, {"waiting"})

    anyio.run(scenario)


@pytest.mark.parametrize("network", [True, "user"], ids=["bridge", "QEMU's"])
def test_who_is_beyond_a_network_without_a_way_out_is_not_at_fault(user: Account, network: bool | str) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            told = (await session.boot(network=network, capture=True))["network"]
            where = told["bridge"] or told["interface"]
            forwards = Path(f"/proc/sys/net/ipv4/conf/{where}/forwarding")
            if network is True:
                forwards.write_text("0", encoding="ascii")  # a new namespace has what the first one has
            setting = "setenv ipaddr 10.0.2.75; setenv netmask 255.255.255.0; setenv gatewayip 10.0.2.2"
            await session.call("qemu_send", command=f"{setting}; ping 203.0.113.5", wait_for="Using")
            await session.call("qemu_pcap_wait", filter="icmp", since="start", timeout=PATIENCE)
            await session.call("qemu_pcap_wait", filter="icmp", absent=True, timeout=1.1)  # the reply's time
            cause, missing = (await session.call("qemu_pcap_explain"))["findings"]
            assert (cause["what"], cause["host"]) == ("ip.no_way_out", where)
            assert f"{where} has no way out, so nothing gets to 203.0.113.5: " in cause["says"]
            assert (missing["what"], missing["host"]) == ("icmp.no_reply", where)
            assert missing["follows"].startswith("ip.no_way_out in packet ")
            if network is True:
                assert "boot with services=true" in cause["says"]
                forwards.write_text("1", encoding="ascii")  # as whoever runs another router on this machine has it
                assert "ip.no_way_out" not in str(await session.call("qemu_pcap_explain"))

    anyio.run(scenario)
