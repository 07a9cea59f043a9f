"""A Linux guest, of Debian's kernel and busybox, finds its own way: DHCP, SLAAC, a name, a file from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from internet import NAME, SERVER, SERVER6, TEXT, UPLINK, internet, resolver_on_loopback
from support import PATIENCE, Account, Session, serving

IMAGES = Path(sys.prefix) / "linux"  # made by scripts/_linux_guest.sh
PROMPT = "guest# "


def linux_tree(account: Account) -> str:
    """A project's folder whose file says how that guest is booted."""
    lines = [
        'arch = "x86_64"',
        'machine = "q35"',
        'bus = "pci"',
        'memory = "256M"',
        f'kernel = "{IMAGES}/vmlinuz"',
        f'initrd = "{IMAGES}/initrd"',
        'bootargs = "console=ttyS0 quiet"',
        f'prompt = "{PROMPT}"',
        "services = true",
    ]
    (account.home / "rawtap.toml").write_text("\n".join(lines), encoding="utf-8")
    return str(account.home)


@contextmanager
def surroundings(account: Account, *, rootless: bool) -> Iterator[None]:
    """An internet of IPv4 and IPv6; rootless with a resolver on the host's loopback, as systemd-resolved has it."""
    folder = account.home / "resolver"
    folder.mkdir()
    with internet(ipv6=True), resolver_on_loopback(folder) if rootless else nullcontext():
        yield


@pytest.mark.parametrize("rootless", [False, True], ids=["privileged", "rootless"])
def test_a_linux_guest_gets_addresses_a_name_and_a_file_and_the_capture_has_it_all(
    user: Account, outsider: Account, rootless: bool
) -> None:
    account = outsider if rootless else user

    async def scenario() -> None:
        async with serving(account, "--outside", "--image-dir", IMAGES) as session:
            booted = await session.call(
                "qemu_boot", project_root=linux_tree(account), network=True, capture=True, timeout=PATIENCE
            )
            assert (booted["prompt_seen"], booted["warnings"]) == (True, [])
            await finds_its_way(session, booted["network"])
            (row,) = (await session.call("qemu_status"))["networks"]
            uplink = "outside" if rootless else UPLINK
            assert row["outside"] == {"reachable": True, "ipv4": uplink, "ipv6": uplink, "reason": None}
            leased = [lease["address"] for lease in row["leases"] if lease["mac"] == booted["network"]["mac"]]
            path = (await session.call("qemu_pcap_stop"))["path"]
            await holds_the_exchange(session, path, leased[0], booted["network"]["gateway6"])

    with surroundings(account, rootless=rootless):
        anyio.run(scenario)


async def typed(session: Session, command: str) -> str:
    answer = await session.call("qemu_send", command=command, timeout=PATIENCE)
    assert answer["matched"], answer
    return str(answer["output"])


async def finds_its_way(session: Session, network: dict[str, Any]) -> None:
    await typed(session, "ip link set eth0 up")
    assert "lease of 10.0.2." in await typed(session, "udhcpc -i eth0 -n -q -s /etc/udhcpc.sh")
    prefix = network["subnet6"].removesuffix("::/64")
    slaac = f"until ip -6 addr show dev eth0 | grep 'inet6 {prefix}' | grep -v tentative; do sleep 0.1; done"
    assert f"inet6 {prefix}:" in await typed(session, slaac)
    assert "default via fe80::1 " in await typed(session, "ip -6 route show default")
    assert f"Address: {SERVER}" in (said := await typed(session, f"nslookup {NAME}")), said
    assert TEXT.strip() in (said := await typed(session, f"wget -q -O - http://{NAME}/hello.txt")), said
    assert TEXT.strip() in (said := await typed(session, f"wget -q -O - http://[{SERVER6}]/hello.txt")), said
    assert "Address" in (said := await typed(session, f"nslookup gateway {network['gateway6']}")), said


async def holds_the_exchange(session: Session, path: str, address: str, gateway6: str) -> None:
    async def count(expression: str) -> int:
        return int((await session.call("qemu_pcap_read", path=path, filter=expression, limit=1))["matched"])

    told = await session.call("qemu_pcap_explain", path=path)
    answered = [each["kind"] for each in told["exchanges"] if each["answered"] and not each["unanswered"]]
    assert answered.count("DHCP") == 2
    assert {"DNS", "TCP", "ARP", "NDP"} <= set(answered)
    assert await count(f"tcp port 80 and host {address} and host {SERVER} and tcp[tcpflags] & tcp-syn != 0") == 2
    assert await count(f"tcp port 80 and host {address} and host {SERVER} and tcp[tcpflags] & tcp-fin != 0") >= 2
    assert await count(f"ip6 and tcp port 80 and host {SERVER6}") >= 6
    assert await count("icmp6 and ip6[40] == 134") >= 1  # router advertisement
    # Neighbour advertisements with the router flag, without which a host forgets its default route (RFC 4861 7.2.5).
    advertised = await count(f"icmp6 and ip6[40] == 136 and src host {gateway6}")
    assert await count(f"icmp6 and ip6[40] == 136 and src host {gateway6} and ip6[44] & 0x80 != 0") == advertised > 0
    assert told["findings"] == []
