"""What becomes of frames behind the wire: taken by the guest, waiting for it, or nobody knows."""

from __future__ import annotations

from typing import Any

import anyio

from support import Account, Session, serving


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
