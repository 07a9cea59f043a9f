"""Two healthy Linux guests on one bridge: leases, names, IPv6 and a bulk transfer between them give no finding."""

from __future__ import annotations

from typing import Any

import anyio

from support import PATIENCE, Account, Session, serving
from test_linux_guest import IMAGES, linux_tree

MEBIBYTES = 4
PORT = 5000


async def typed_to(session: Session, name: str, command: str) -> str:
    answer = await session.call("qemu_send", name=name, command=command, timeout=PATIENCE)
    assert answer["matched"], answer
    return str(answer["output"])


async def configured(session: Session, name: str) -> str:
    """Bring its card up, take a lease, and wait for an address of IPv6; that of IPv4."""
    await typed_to(session, name, "ip link set eth0 up")
    said = await typed_to(session, name, "udhcpc -i eth0 -n -q -s /etc/udhcpc.sh")
    await typed_to(
        session, name, "until ip -6 addr show dev eth0 | grep global | grep -qv tentative; do sleep 0.1; done"
    )
    return said.partition("lease of ")[2].split()[0]


async def talk(session: Session) -> dict[str, Any]:
    """What they say to each other and to the host, captured at all points."""
    capture: dict[str, Any] = await session.call("qemu_pcap_start", points="all", name="one")
    addresses = {name: await configured(session, name) for name in ("one", "two")}
    await typed_to(session, "one", f"nc -l -p {PORT} > /tmp/got &")
    sent = f"dd if=/dev/zero bs=1024 count={MEBIBYTES * 1024} | nc {addresses['one']} {PORT}"
    assert f"{MEBIBYTES * 1024}+0 records out" in await typed_to(session, "two", sent)
    size = "until [ $(wc -c < /tmp/got) = " + str(MEBIBYTES << 20) + " ]; do sleep 0.1; done; echo whole"
    assert "whole" in await typed_to(session, "one", size)
    assert "4 packets received" in await typed_to(session, "two", f"ping -c 4 -i 0.2 {addresses['one']}")
    await typed_to(session, "two", "nslookup gateway")
    await typed_to(session, "one", "ping -6 -c 2 fe80::1%eth0")
    return capture


def test_two_linux_guests_are_found_without_a_fault(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES, "--ring-mib", "64") as session:
            tree = linux_tree(user)
            cards = {}
            for name in ("one", "two"):
                booted = await session.call("qemu_boot", project_root=tree, network=True, name=name, timeout=PATIENCE)
                cards[name] = booted["network"]["tap"]
            started = await talk(session)
            row = await session.call("qemu_pcap_stop", capture=started["capture"])
            assert (row["dropped_kernel"], row["warnings"]) == (0, [])
            told = await session.call("qemu_pcap_explain", capture=started["capture"])
            assert told["findings"] == []
            kinds = {each["kind"] for each in told["exchanges"] if each["answered"] and not each["unanswered"]}
            assert {"ARP", "DHCP", "DNS", "ICMP echo", "NDP"} <= kinds
            (followed,) = (note for note in told["notes"] if "were followed from point to point" in note)
            assert int(followed.split()[0]) > MEBIBYTES << 20 >> 11
            assert any("requests were answered on the wire" in note for note in told["notes"])
            bulk = await session.call("qemu_pcap_explain", capture=started["capture"], filter=f"tcp port {PORT}")
            (row_of_bulk,) = bulk["exchanges"]
            assert (bulk["findings"], row_of_bulk["kind"], row_of_bulk["answered"]) == ([], "TCP", 1)
            # The transfer left the one card and came to the other.
            page = await session.call("qemu_pcap_read", path=row["path"], filter=f"tcp dst port {PORT}", limit=200)
            seen = [(each["point"], each["direction"]) for each in page["packets"]]
            assert (cards["two"], "from two to one") in seen
            assert (cards["one"], "from two to one") in seen

    anyio.run(scenario)
