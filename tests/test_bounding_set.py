"""Where the bounding set lacks a capability, as in a container, the server starts and says which ability is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import anyio
import pytest

from support import RAWTAP, Account, ToolFailed, Wire, link_names, serving, status_of

NUMBERS = {"net_bind_service": 10, "net_admin": 12, "net_raw": 13}
WAYS = ("--no-rootless",)


def without(*names: str) -> tuple[str, ...]:
    """What goes before a command to start it with a bounding set that lacks those."""
    return ("setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in names), "--")


@pytest.fixture(params=["user", "root"])
def bounded(request: pytest.FixtureRequest, user: Account, root: Account) -> Iterator[Account]:
    """An ordinary user on the private interpreter, and root."""
    yield user if request.param == "user" else root
    assert link_names() == set()


@pytest.mark.parametrize("lacking", NUMBERS)
def test_the_others_are_held(bounded: Account, lacking: str) -> None:
    async def scenario() -> None:
        async with serving(bounded, *WAYS, before=without(lacking)) as session:
            permitted = int(status_of(session.pid)["CapPrm"], 16)
            held = {name for name, number in NUMBERS.items() if permitted >> number & 1}
            assert held == set(NUMBERS) - {lacking}
            assert int(status_of(session.pid)["CapEff"], 16) == 0

    anyio.run(scenario)


def lack_of(name: str) -> str:
    return f"the bounding set lacks CAP_{name.upper()}, as in a container without --cap-add {name.upper()}"


def test_without_net_raw_guests_run_and_a_capture_says_what_is_missing(bounded: Account) -> None:
    async def scenario() -> None:
        async with serving(bounded, *WAYS, before=without("net_raw")) as session:
            await session.boot(services=True)
            assert "is alive" in await session.ping()
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_pcap_start")
            assert caught.value.code == "capture.permission"
            assert lack_of("net_raw") in str(caught.value)
            assert "Start the container with --cap-add NET_RAW; or" in str(caught.value)

    anyio.run(scenario)


def test_without_net_admin_captures_run_and_a_boot_says_what_is_missing(bounded: Account) -> None:
    async def scenario(wire: Wire) -> None:
        options = ("--allow-interface", wire.near)
        async with serving(bounded, *options, before=without("net_admin")) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            wire.send(3)
            assert (await session.call("qemu_pcap_stop"))["packets"] == 3
            with pytest.raises(ToolFailed) as caught:
                await session.boot()
            assert caught.value.code == "network.permission"
            assert lack_of("net_admin") in str(caught.value)
            assert "Start the container with --cap-add NET_ADMIN; or" in str(caught.value)

    with Wire.make() as wire:
        anyio.run(scenario, wire)


def test_without_net_bind_service_all_but_dhcp_and_dns_is_there(bounded: Account) -> None:
    async def scenario() -> None:
        async with serving(bounded, *WAYS, before=without("net_bind_service")) as session:
            booted = await session.boot(services=True)
            (warning,) = booted["warnings"]
            assert warning.startswith("network.services_unavailable: ")
            assert lack_of("net_bind_service") in warning
            await session.call("qemu_pcap_start", filter="icmp")
            assert "is alive" in await session.ping()
            assert (await session.call("qemu_pcap_stop"))["packets"] == 2

    anyio.run(scenario)


@pytest.mark.parametrize("lacking", [["net_admin"], ["net_admin", "net_raw", "net_bind_service"]])
def test_without_net_admin_and_with_namespaces_it_goes_the_rootless_way_by_itself(
    user: Account, lacking: list[str]
) -> None:
    async def scenario() -> None:
        async with serving(user, before=without(*lacking)) as session:
            assert (await session.call("qemu_status"))["rootless"]
            await session.boot()
            await session.call("qemu_pcap_start", filter="icmp")
            assert "is alive" in await session.ping()
            assert (await session.call("qemu_pcap_stop"))["packets"] == 2

    anyio.run(scenario)


def test_the_doctor_names_each_that_is_missing(bounded: Account) -> None:
    for name, check in (("net_raw", "cap_net_raw"), ("net_admin", "cap_net_admin"), ("net_bind_service", "dnsmasq")):
        command = [*without(name), *bounded.command(RAWTAP, "doctor", *WAYS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (line,) = (line for line in done.stdout.splitlines() if f"  {check}: " in line)
        assert lack_of(name) in line
        assert (name == "net_bind_service") == line.startswith("ok")
        others = [line for line in done.stdout.splitlines() if "bounding set" in line and check not in line]
        assert [line.split()[1:3] for line in others] == ([["way:", "privileged:"]] if name == "net_admin" else [])
