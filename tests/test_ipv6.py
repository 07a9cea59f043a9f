"""IPv6 on a bridge of ours: what a neighbour on it makes of the advertisements, gets by DHCPv6 and is told by name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from internet import run, started
from support import Account, eventually_async, serving, status_of
from test_services import BRIDGE, dnsmasq_below, network_row

DUID = "00030001020000000007"  # DUID-LL of that MAC address, RFC 8415 11.4
MAC = "02:00:00:00:00:07"

# A solicitation with the rapid commit option, so that its answer is the lease (RFC 8415 18.2.1): the transaction, the
# client's DUID, rapid commit, and an IA_NA of the number 7.
SOLICIT = "01abcdef" + "0001000a" + DUID + "000e0000" + "0003000c" + "00000007" + "00000000" * 2
CLIENT = """
import socket, sys
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.settimeout(120)
client.bind(("::", 546))
client.sendto(bytes.fromhex(sys.argv[1]), ("ff02::1:2", 547, 0, socket.if_nametoindex("far0")))
print(client.recv(2048).hex())
"""


@contextmanager
def neighbour() -> Iterator[tuple[str, ...]]:
    """A host on the bridge, in a namespace of its own; what runs a command in there."""
    with started("unshare", "--net", "sh", "-c", "echo up; exec cat", until="up") as pid:
        inside = ("nsenter", "-t", str(pid), "-n")
        run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", str(pid))
        try:
            run(*inside, "ip", "link", "set", "far0", "address", MAC, "up")
            run("ip", "link", "set", "near0", "master", BRIDGE, "up")
            yield inside
        finally:
            run("ip", "link", "del", "near0")


@pytest.fixture(params=["user", "root"])
def anyone(request: pytest.FixtureRequest, user: Account, root: Account) -> Account:
    return user if request.param == "user" else root


def test_a_neighbour_makes_an_address_and_no_default_route_where_there_is_no_way_out(anyone: Account) -> None:
    async def scenario() -> None:
        async with serving(anyone) as session:
            booted = (await session.boot(services=True))["network"]
            assert ipaddress.ip_address(booted["gateway6"]) in ipaddress.ip_network(booted["subnet6"])
            assert ipaddress.ip_network(booted["subnet6"]).subnet_of(ipaddress.IPv6Network("fd00::/8"))
            with neighbour() as inside:

                def addressed() -> bool:
                    shown = run(*inside, "ip", "-6", "addr", "show", "dev", "far0", "scope", "global", "-tentative")
                    return booted["subnet6"].removesuffix("::/64") in shown

                assert await eventually_async(addressed)
                assert run(*inside, "ip", "-6", "route", "show", "default") == ""

    anyio.run(scenario)


def test_dhcpv6_gives_an_address_that_status_shows(anyone: Account) -> None:
    async def scenario() -> None:
        async with serving(anyone) as session:
            booted = (await session.boot(services=True))["network"]
            with neighbour() as inside:
                assert await eventually_async(
                    lambda: "fe80" in run(*inside, "ip", "-6", "addr", "show", "dev", "far0", "-tentative")
                )
                answer = await anyio.to_thread.run_sync(run, *inside, "/usr/bin/python3", "-c", CLIENT, SOLICIT)
            (lease,) = (await network_row(session))["leases"]
            assert answer.startswith("07abcdef")  # a reply
            assert ipaddress.ip_address(lease["address"]).packed.hex() in answer
            assert lease["mac"] == MAC
            assert ipaddress.ip_address(lease["address"]) in ipaddress.ip_network(booted["subnet6"])

    anyio.run(scenario)


def test_where_the_kernel_has_no_ipv6_it_says_so_and_the_rest_is_there(anyone: Account) -> None:
    # What ipv6.disable=1 looks like, in the server's mounts: this machine's kernel has it.
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc/sys/net/ipv6 && exec "$@"', "sh")

    async def scenario() -> None:
        async with serving(anyone, before=hidden) as session:
            booted = await session.boot(services=True)
            (warning,) = booted["warnings"]
            assert warning.startswith(f"network.failed: no IPv6 on {BRIDGE}")
            assert (booted["network"]["gateway6"], booted["network"]["subnet6"]) == (None, None)
            (pid,) = dnsmasq_below(session.pid)
            assert int(status_of(pid)["CapPrm"], 16) == 1 << 10 | 1 << 12  # no raw socket without it
            sent = await session.call("qemu_send", command="setenv autoload no; dhcp")
            assert "bound to address" in sent["output"]
            # A later guest on that bridge has none either, and is told.
            assert (await session.boot(name="later", services=True))["warnings"] == [warning]

    anyio.run(scenario)
