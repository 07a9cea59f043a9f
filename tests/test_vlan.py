"""Frames in a VLAN: a filter selects the same of them live, in the file, and where packets are waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from support import Account, Session, Wire, serving

HEAD = bytes.fromhex("ffffffffffff020000000001")
ARP = bytes.fromhex("0806 0001 0800 0604 0001 020000000001 0a00020f 000000000000 0a000202".replace(" ", ""))
UDP = bytes.fromhex("0800 4500001d0000000040110000 0a00020f 0a000202 9c40 0035 0009 0000 21".replace(" ", ""))


def tag(vlan: int, kind: int = 0x8100) -> bytes:
    return kind.to_bytes(2, "big") + vlan.to_bytes(2, "big")


FRAMES = {
    "ARP": ARP,
    "ARP in 10": tag(10) + ARP,
    "ARP in 20": tag(20) + ARP,
    "DNS in 10": tag(10) + UDP,
    "ARP by priority alone": tag(0xE000) + ARP,
    "ARP in 10 in a provider's 7": tag(7, 0x88A8) + tag(10) + ARP,
    "ARP in 20 in 10": tag(10) + tag(20) + ARP,
    "ARP in an old provider's 10": tag(10, 0x9100) + ARP,
    "DNS": UDP,
    "a long one in 10": tag(10) + UDP + bytes(200),
}  # fmt: skip
FILTERS = (
    "arp", "vlan", "vlan 10", "vlan 0", "vlan and arp", "vlan or arp", "arp or vlan 10", "arp and vlan 10",
    "not arp and vlan 10", "not vlan", "not vlan or arp", "arp and not vlan 10", "vlan 10 or vlan 20",
    "vlan and vlan and arp", "vlan 7 and vlan 10 and arp", "arp and (vlan 10 or vlan 20)", "vlan (10) and arp",
    "(vlan (0x00a)) && arp", "udp port 53", "len < 45", "ether[12:2] = 0x8100", "ether proto 0x88a8", "vlan 012",
    "udp port 53 and vlan and not arp",
)  # fmt: skip

NOTHING = {"ether proto 0x88a8"}  # its frames come without


def run(user: Account, wire: Wire, scenario: Callable[[Session], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving(user, "--allow-interface", wire.near, "--read-dir", user.home) as session:
            await scenario(session)

    anyio.run(whole)


def send(wire: Wire, *names: str) -> None:
    for name in names or FRAMES:
        wire.send_bytes(HEAD + FRAMES[name])


async def hexes(session: Session, **arguments: Any) -> list[str]:
    """The frames of a page, by their bytes."""
    page = await session.call("qemu_pcap_read", limit=50, detail="hex", **arguments)
    assert page["matched"] == len(page["packets"])
    return ["".join(run["hex"] for run in packet["runs"]) for packet in page["packets"]]


@pytest.mark.parametrize("capture_format", ["pcap", "pcapng"])
def test_a_filter_selects_later_what_it_selects_live(user: Account, wire: Wire, capture_format: str) -> None:
    async def scenario(session: Session) -> None:
        start = {"interface": wire.near, "format": capture_format}
        every = (await session.call("qemu_pcap_start", **start))["capture"]
        filtered = {each: (await session.call("qemu_pcap_start", **start, filter=each))["capture"] for each in FILTERS}
        send(wire)
        for expression, some in filtered.items():
            live = await hexes(session, capture=some)
            assert await hexes(session, capture=every, filter=expression) == live, expression
            assert await hexes(session, capture=some, filter=expression) == live, expression
            wish = {"filter": expression, "count": len(live) + 1, "since": "start", "timeout": 0}
            assert (await session.call("qemu_pcap_wait", capture=every, **wish))["matched"] == len(live), expression
            assert bool(live) == (expression not in NOTHING), expression

    run(user, wire, scenario)


def test_what_came_in_a_vlan_is_not_absent(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await session.call("qemu_pcap_start", interface=wire.near)
        send(wire, "ARP in 10")
        answer = await session.call("qemu_pcap_wait", filter="arp", absent=True, since="start", timeout=0.2)
        assert (answer["satisfied"], answer["matched"]) == (False, 1)
        answer = await session.call("qemu_pcap_wait", filter="arp and vlan 20", absent=True, since="start", timeout=0.2)
        assert (answer["satisfied"], answer["looked_at"]) == (True, 1)

    run(user, wire, scenario)


def test_timeline_and_explain_select_in_a_vlan_too(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await session.call("qemu_pcap_start", interface=wire.near)
        send(wire, "ARP in 10", "DNS in 10", "ARP")
        page = await session.call("qemu_timeline", sources=["packet"], filter="arp")
        assert ["VLAN 10" in event["text"] for event in page["events"]] == [True, False]
        assert (await session.call("qemu_pcap_explain", filter="udp"))["examined"] == 1

    run(user, wire, scenario)


def test_a_strangers_file_is_read_as_tcpdump_reads_it_and_the_rest_is_told(user: Account, wire: Wire) -> None:
    """A copy of a capture is nobody's: what its frames were filtered by is not known."""

    async def scenario(session: Session) -> None:
        started = await session.call("qemu_pcap_start", interface=wire.near)
        send(wire)
        stopped = await session.call("qemu_pcap_stop")
        own = await session.call("qemu_pcap_read", path=started["path"], filter="arp")
        assert (own["matched"], own["warnings"]) == (4, [])
        copy = user.home / "copy.pcap"
        copy.write_bytes(await anyio.Path(stopped["path"]).read_bytes())
        page = await session.call("qemu_pcap_read", path=str(copy), filter="arp")
        assert page["matched"] == 1
        (warning,) = page["warnings"]
        assert warning.startswith("3 packets match but for a VLAN tag")
        assert "'vlan and (arp)'" in warning
        behind = await session.call("qemu_pcap_read", path=str(copy), filter="vlan and (arp)")
        assert (behind["matched"], behind["warnings"]) == (4, [])
        explained = await session.call("qemu_pcap_explain", path=str(copy), filter="arp")
        assert (explained["examined"], warning in explained["notes"]) == (1, True)

    run(user, wire, scenario)
