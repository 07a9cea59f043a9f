"""Several servers on one bridge: each says who else is there; guests keep their services when the first one ends."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from ipaddress import IPv4Interface

import anyio
import pytest

from rawtap.lab.bridge_services import BridgeServices
from rawtap.lab.outside import Policy
from rawtap.network.addressing import Owner
from rawtap.network.dnsmasq_config import ServicesSpec
from rawtap.network.links import Link
from rawtap.network.network import Bridge
from support import PATIENCE, Account, eventually_async, link_names, serving
from test_endings import RawClient, raw_client

_BRIDGE = "rawtap-br0"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_guests_keep_dhcp_and_dns_when_the_server_that_made_the_bridge_ends(user: Account, how: signal.Signals) -> None:
    async def scenario(first: int) -> None:
        async with serving(user) as session:
            booted = await session.boot(services=True)
            told = " ".join(booted["warnings"])
            assert f"the server that did has the pid {first}" in told
            assert f"also on {_BRIDGE}: 1 card of others' guests (rtap{first}." in told
            (network,) = (await session.call("qemu_status"))["networks"]
            assert network["services"] is None
            await session.typed("setenv autoload no; dhcp")  # by the first server
            os.kill(first, how)

            async def served() -> bool:
                (network,) = (await session.call("qemu_status"))["networks"]
                return "running" in str(network["services"])

            with anyio.fail_after(60):
                while not await served():
                    await anyio.sleep(0.1)
            assert "DHCP client bound to address" in await session.typed("dhcp", timeout=60)
            (network,) = (await session.call("qemu_status"))["networks"]
            (lease,) = network["leases"]
            assert lease["mac"] == booted["network"]["mac"]
            events = (await session.call("qemu_timeline", sources=["event"], limit=200))["events"]
            assert any("is this server's, as its maker has no guest there any more" in str(each) for each in events)
            ended = await session.call("qemu_shutdown")
            assert f"bridge {_BRIDGE}" in ended["released"]
            assert await eventually_async(lambda: link_names() == set())

    with raw_client(user) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        anyio.run(scenario, client.process.pid)
        client.process.wait()


def test_guests_keep_dhcp_and_dns_when_the_last_guest_of_the_server_that_made_the_bridge_ends(user: Account) -> None:
    async def scenario(first: RawClient) -> None:
        async with serving(user) as session:
            booted = await session.boot(services=True)
            told = " ".join(booted["warnings"])
            assert f"the server that did has the pid {first.process.pid}" in told
            ended = await anyio.to_thread.run_sync(lambda: first.call("qemu_shutdown"))
            assert f"bridge {_BRIDGE}" in ended["left_standing"]

            async def served() -> bool:
                (network,) = (await session.call("qemu_status"))["networks"]
                return "running" in str(network["services"])

            with anyio.fail_after(PATIENCE):
                while not await served():
                    await anyio.sleep(0.1)
            assert "DHCP client bound to address" in await session.typed("setenv autoload no; dhcp", timeout=60)
            events = (await session.call("qemu_timeline", sources=["event"], limit=200))["events"]
            assert any("is this server's, as its maker has no guest there any more" in str(each) for each in events)
            # The first one is a guest there now, as the second was.
            boot = {"profile": "u-boot-riscv64", "network": True, "services": True}
            again = await anyio.to_thread.run_sync(lambda: first.call("qemu_boot", **boot))
            assert "also on rawtap-br0: 1 card of others' guests" in " ".join(again["warnings"])
            await session.call("qemu_shutdown")

            async def back() -> bool:
                status = await anyio.to_thread.run_sync(lambda: first.call("qemu_status"))
                return "running" in str(status["networks"][0]["services"])

            with anyio.fail_after(PATIENCE):
                while not await back():
                    await anyio.sleep(0.1)
            ended = await anyio.to_thread.run_sync(lambda: first.call("qemu_shutdown"))
            assert f"bridge {_BRIDGE}" in ended["released"]
            assert await eventually_async(lambda: link_names() == set())

    with raw_client(user) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        anyio.run(scenario, client)


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_server_that_cannot_watch_the_bridge_of_another_says_so() -> None:
    async def scenario() -> None:
        maker = Owner.of(Owner.me().alias.replace(f"pid={os.getpid()} ", f"pid={os.getppid()} "))
        assert maker is not None
        link = Link(1, _BRIDGE, "bridge", maker.alias, None, None, up=True, carrier=True, received=0, sent=0)
        address = IPv4Interface("10.0.2.2/24")
        told: list[tuple[str, str]] = []
        async with AsyncExitStack() as stack:
            policy = Policy("", asked=False, rootless=False)
            services = BridgeServices(Bridge(link, address, made=False), stack, policy, lambda *each: told.append(each))
            (warning,) = await services.provide(ServicesSpec(_BRIDGE, address))
            with no_more_descriptors(), anyio.fail_after(PATIENCE):
                while not told:
                    await anyio.sleep(0.01)
            assert f"the server that did has the pid {maker.pid}" in warning
        ((kind, text),) = told
        assert kind == "services_lost"
        assert text.startswith(f"nothing will serve {_BRIDGE} when its maker has left it: network.failed: cannot watch")

    anyio.run(scenario)
