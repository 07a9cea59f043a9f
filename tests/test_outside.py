"""The way out for guests: an "internet" in another namespace, reached or not, and that all is undone."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import tiny_guest
from internet import FILE, HOST, HOST6, SERVER, TEXT, UPLINK, Internet, internet, run
from support import (
    PATIENCE,
    Account,
    Session,
    Wire,
    command_of,
    descendants_of,
    eventually,
    eventually_async,
    exists,
    link_names,
    next_start,
    not_installed,
    serving,
    status_of,
)
from test_endings import raw_client
from test_services import BRIDGE, DHCP, events, tree

FORWARDING = Path(f"/proc/sys/net/ipv4/conf/{UPLINK}/forwarding")
OF_BRIDGE = Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding")
FORWARDING6 = Path(f"/proc/sys/net/ipv6/conf/{UPLINK}/force_forwarding")


@pytest.fixture
def beyond() -> Iterator[Internet]:
    """An internet of IPv4 alone."""
    with internet() as made:
        yield made


def is_rootless(account: Account) -> bool:
    return account.gid == 65534


def tables() -> list[str]:
    listing = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
    return [each["table"]["name"] for each in listing if "table" in each]


def says(switch: Path) -> str:
    return switch.read_text(encoding="ascii").strip()


async def outside_of(session: Session, bridge: str = BRIDGE) -> dict[str, Any]:
    rows = (await session.call("qemu_status"))["networks"]
    return dict(next(row for row in rows if row["bridge"] == bridge)["outside"])


async def fetches(session: Session, name: str = "guest") -> str:
    """Have U-Boot get its address, and a file from outside."""
    assert "bound to address" in await session.typed(DHCP, name)
    return await session.typed(f"tftpboot 84000000 {SERVER}:{FILE}", name)


def test_a_guest_reaches_the_outside_and_nothing_of_it_is_left(each_way: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(each_way, "--outside") as session:
            booted = await session.boot(services=True, capture=True)
            assert booted["warnings"] == []
            assert f"Bytes transferred = {len(TEXT)} " in await fetches(session)
            assert f"host {SERVER} is alive" in await session.typed(f"ping {SERVER}")
            found = await outside_of(session)
            assert (found["reachable"], found["ipv6"]) == (True, None)
            assert found["reason"] == "no IPv6 default route"
            assert found["ipv4"] == ("outside" if is_rootless(each_way) else UPLINK)
            row = await session.call("qemu_pcap_stop")
            lines = (await session.call("qemu_pcap_read", path=row["path"], filter=f"host {SERVER}"))["packets"]
            assert any("echo reply" in line["summary"] for line in lines)
            if not is_rootless(each_way):
                assert (len(tables()), says(FORWARDING)) == (1, "1")
            ended = await session.call("qemu_shutdown")
            assert f"way out of {BRIDGE}" in ended["released"]
            assert (tables(), says(FORWARDING)) == ([], "0")
            assert not any(is_pasta(each) for each in descendants_of(session.pid))
        assert beyond.queries() == []

    anyio.run(scenario)


def is_pasta(pid: int) -> bool:
    return Path(command_of(pid).split(" ")[0]).name.startswith("pasta")


def test_what_leaves_has_the_hosts_address_and_comes_from_the_bridges_subnet(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            await session.boot(services=True)
            await fetches(session)
            # An address that is not the bridge's does not get out, under whatever name.
            await session.typed(f"setenv ipaddr 10.9.9.9; setenv netmask 255.0.0.0; ping {SERVER}")
            sources = {frame[26:30] for frame in beyond.frames() if frame[12:14] == b"\x08\x00"}
            assert sources == {bytes(map(int, HOST.split(".")))}

    anyio.run(scenario)


@contextmanager
def whole_host_forwards() -> Iterator[None]:
    """As with a container engine."""
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    switch.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        switch.write_text("0", encoding="ascii")


def test_without_the_operators_word_nothing_leaves_a_host_that_forwards_everything(
    user: Account, beyond: Internet
) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.boot(services=True))["warnings"] == []
            await fetches_nothing(session)
        assert (beyond.frames(), beyond.queries()) == ([], [])
        async with serving(user, "--outside") as session:
            await session.boot(services=True)
            assert f"Bytes transferred = {len(TEXT)} " in await fetches(session)
        assert says(FORWARDING) == "1"  # which was not rawtap's

    with whole_host_forwards():
        anyio.run(scenario)


def test_without_the_operators_word_nothing_leaves_the_host(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.boot(services=True))["warnings"] == []
            await fetches_nothing(session)
            found = await outside_of(session)
            assert not found["reachable"]
            assert "rawtap serve --outside would" in found["reason"]
            assert (tables(), says(FORWARDING)) == ([], "0")
        assert (beyond.frames(), beyond.queries()) == ([], [])

    anyio.run(scenario)


def test_rootless_nothing_leaves_where_the_operator_forbids_it(outsider: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(outsider, "--no-outside") as session:
            assert (await session.boot(services=True))["warnings"] == []
            await fetches_nothing(session)
            assert "--no-outside" in (await outside_of(session))["reason"]
            assert not any("while read" in command_of(each) for each in descendants_of(session.pid))  # to start pasta
        assert (beyond.frames(), beyond.queries()) == ([], [])

    anyio.run(scenario)


async def fetches_nothing(session: Session) -> None:
    assert "bound to address" in await session.typed(DHCP)
    assert f"{SERVER} is alive" not in await session.typed(f"ping {SERVER}")


def test_rootless_it_is_the_default_and_where_it_is_not_wanted_nothing_is_started(outsider: Account) -> None:
    async def scenario() -> None:
        with internet():
            async with serving(outsider) as session:
                await session.boot()
                (waiting,) = [each for each in descendants_of(session.pid) if "while read" in command_of(each)]
                assert (int(status_of(waiting)["CapPrm"], 16), status_of(waiting)["NoNewPrivs"]) == (0, "1")
                assert not any(is_pasta(each) for each in descendants_of(session.pid))
                assert "no guest here wants services" in (await outside_of(session))["reason"]
                assert (await session.boot(services=True, name="second"))["warnings"] == []
                assert f"Bytes transferred = {len(TEXT)} " in await fetches(session, "second")
                (one,) = [each for each in descendants_of(session.pid) if is_pasta(each)]
                await session.call("qemu_shutdown", name="second", timeout=0)
                await session.call("qemu_shutdown", timeout=0)
                assert not exists(one)
                await session.boot(services=True)
                assert f"Bytes transferred = {len(TEXT)} " in await fetches(session)

    anyio.run(scenario)


def neighbours_network() -> None:
    """A second network of this machine: what arrives there is seen on lan1."""
    run("ip", "addr", "add", "203.0.113.1/24", "dev", "lan0")
    for address in ("203.0.113.2", "203.0.113.3"):
        run("ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:09", "dev", "lan0")


async def addressed(session: Session) -> str:
    """Boot, and have the guest get its address; the host knows its MAC address from then on, and need not ask."""
    booted = await session.boot(services=True)
    guest = (await session.typed(DHCP)).split("bound to address ")[1].split(" ")[0]
    run("ip", "neigh", "replace", guest, "lladdr", booted["network"]["mac"], "dev", BRIDGE)
    return guest


def sends_a_datagram(beyond: Internet, target: str) -> None:
    """Have the internet's host try to get one through this machine."""
    beyond.run("ip", "route", "add", f"{target}/32", "via", HOST)
    beyond.run("/usr/bin/python3", "-c", f"import socket; socket.socket(2, 2).sendto(b'x', ('{target}', 9))")


def test_the_host_routes_neither_for_its_neighbours_nor_to_its_other_networks(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            guest = await addressed(session)
            before = int(Path("/sys/class/net/lan1/statistics/rx_packets").read_text(encoding="ascii"))
            outside = await session.call("qemu_pcap_start", filter=f"host {SERVER}")
            for target in (guest, "203.0.113.2"):
                sends_a_datagram(beyond, target)
            await session.call("qemu_pcap_start", filter="icmp and host 203.0.113.3")
            await session.call("qemu_send", command="ping 203.0.113.3", wait_for="Using", timeout=PATIENCE)
            assert (await session.call("qemu_pcap_wait", since="start", timeout=PATIENCE))["satisfied"]
            assert (await session.call("qemu_send", command="ctrl-c", enter=False, timeout=PATIENCE))["matched"]
            assert "is alive" in await session.typed(f"ping {SERVER}")
            packets = (await session.call("qemu_pcap_read", capture=outside["capture"]))["packets"]
            assert {line["protocol"] for line in packets} == {"ICMP"}
            assert int(Path("/sys/class/net/lan1/statistics/rx_packets").read_text(encoding="ascii")) == before

    with Wire.make("lan0", "lan1"):
        neighbours_network()
        anyio.run(scenario)


def kill_with_a_way_out(user: Account) -> None:
    with raw_client(user, "--outside") as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        client.process.kill()
        client.process.wait()


def test_after_sigkill_the_next_start_undoes_it_and_nothing_of_anybody_elses(user: Account, beyond: Internet) -> None:
    strangers = ["other", "rawtap", "rawtap-of-mine"]
    with Wire.make("near1", "far1"):
        others = Path("/proc/sys/net/ipv4/conf/near1/forwarding")
        others.write_text("1", encoding="ascii")
        for name in strangers:
            run("nft", "add", "table", "inet", name)
        try:
            kill_with_a_way_out(user)
            assert (len(tables()), says(FORWARDING)) == (len(strangers) + 1, "1")
            next_start(user, lambda: link_names() == {UPLINK, "far1", "near1"} and says(FORWARDING) == "0")
            assert eventually(lambda: sorted(tables()) == strangers)
            assert says(others) == "1"
        finally:
            for name in strangers:
                run("nft", "delete", "table", "inet", name)
    assert beyond.queries() == []


def test_on_a_host_that_forwards_already_nothing_but_answers_comes_in_and_the_switch_stays_on(
    user: Account, beyond: Internet
) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            guest = await addressed(session)
            await session.call("qemu_pcap_start", filter=f"host {SERVER}")
            sends_a_datagram(beyond, guest)
            assert "is alive" in await session.typed(f"ping {SERVER}")
            packets = (await session.call("qemu_pcap_read"))["packets"]
            assert {line["protocol"] for line in packets} == {"ICMP"}
        assert (tables(), says(FORWARDING)) == ([], "1")

    FORWARDING.write_text("1", encoding="ascii")
    anyio.run(scenario)
    assert beyond.queries() == []


def test_two_servers_share_the_uplink_and_the_last_one_switches_it_off(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as first, serving(user, "--outside") as second:
            await first.boot(services=True)
            folder = tree(user, "services = true", 'bridge = "second-br0"', 'address = "10.0.3.2/24"')
            booted = await second.call("qemu_boot", project_root=folder, network=True)
            assert booted["warnings"] == []
            assert len(tables()) == 2
            await first.call("qemu_shutdown", timeout=0)
            assert (len(tables()), says(FORWARDING)) == (1, "1")
            assert f"Bytes transferred = {len(TEXT)} " in await fetches(second)
            await second.call("qemu_shutdown", timeout=0)
            assert (tables(), says(FORWARDING)) == ([], "0")
        assert beyond.queries() == []

    anyio.run(scenario)


def test_a_bridge_that_others_still_use_forwards_no_more(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user) as second:
            async with serving(user, "--outside") as first:
                await first.boot(services=True)
                assert says(OF_BRIDGE) == "1"
                await second.boot()
            assert (tables(), says(OF_BRIDGE)) == ([], "0")
        assert beyond.queries() == []

    anyio.run(scenario)


def test_a_cancelled_boot_leaves_no_way_out(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            async with anyio.create_task_group() as group:
                boot = {"project_root": tiny_guest.deaf(user), "network": True, "services": True}
                group.start_soon(lambda: session.call("qemu_boot", **boot))
                assert await eventually_async(lambda: tables() != [])
                group.cancel_scope.cancel()
            assert await eventually_async(lambda: tables() == [] and link_names() == {UPLINK})
            assert says(FORWARDING) == "0"
        assert beyond.queries() == []

    anyio.run(scenario)


def boots_without(account: Account, *options: str) -> tuple[list[str], str, str]:
    """Boot; the warnings, why there is no way out, and what the doctor says of it. The guest works."""

    async def scenario() -> tuple[list[str], str, str]:
        async with serving(account, *options) as session:
            warnings = (await session.boot(services=True))["warnings"]
            assert "is alive" in await session.ping()
            found = await outside_of(session)
            assert (found["reachable"], found["ipv4"], found["ipv6"]) == (False, None, None)
            checks = {each["name"]: each for each in (await session.call("qemu_doctor"))["checks"]}
            return list(warnings), str(found["reason"]), str(checks["way out"].get("cure"))

    return anyio.run(scenario)


def test_without_nft_the_boot_goes_on_and_names_the_package(each_way: Account, beyond: Internet) -> None:
    with not_installed("/usr/sbin/nft"):
        warnings, reason, doctor = boots_without(each_way, "--outside")
    assert warnings == [reason]
    assert reason.startswith("network.outside_unavailable: ")
    assert "nftables" in reason
    assert "apt-get install -y --no-install-recommends nftables" in doctor
    assert (says(FORWARDING), beyond.queries()) == ("0", [])


def test_without_pasta_the_boot_goes_on_and_names_the_package(outsider: Account, beyond: Internet) -> None:
    with not_installed("/usr/bin/pasta"):
        warnings, reason, doctor = boots_without(outsider, "--outside")
        assert warnings == [reason]
        assert reason.startswith("network.outside_unavailable: ")
        assert "passt" in reason
        assert "apt-get install -y --no-install-recommends passt" in doctor
        warnings, reason, _ = boots_without(outsider)
        assert warnings == []
        assert "passt" in reason
    assert beyond.queries() == []


def test_without_a_default_route_it_says_so(each_way: Account) -> None:
    with internet(route=False) as made:
        warnings, reason, _ = boots_without(each_way, "--outside")
        assert warnings == [reason]
        assert "route" in reason
        assert (tables(), says(FORWARDING), made.frames()) == ([], "0", [])
        if is_rootless(each_way):
            assert boots_without(each_way)[0] == []  # it was nobody's wish


def test_a_route_that_went_away_is_told(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            await session.boot(services=True)
            run("ip", "route", "del", "default")
            found = await outside_of(session)
            assert not found["reachable"]
            assert f"{UPLINK} has no default route any more" in found["reason"]
            run("ip", "route", "add", "default", "via", SERVER)
            assert (await outside_of(session))["reachable"]
        assert beyond.queries() == []

    anyio.run(scenario)


def test_somebody_elses_chain_that_drops_is_told(user: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            await session.boot(services=True)
            assert "chain guard of table ip wall" in (await outside_of(session))["reason"]
        assert beyond.queries() == []

    run("nft", "add table ip wall; add chain ip wall guard { type filter hook forward priority 0; policy drop; }")
    try:
        anyio.run(scenario)
    finally:
        run("nft", "delete", "table", "ip", "wall")


READ_ONLY = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'


def test_where_proc_sys_is_read_only_the_table_is_taken_back(root: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        before = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh")
        async with serving(root, "--outside", before=before) as session:
            told = (await session.boot(services=True))["warnings"]
            assert [each.partition(":")[0] for each in told] == ["network.failed", "network.failed"]
            assert all("Read-only file system" in each for each in told)
            assert tables() == []
            assert "is alive" in await session.ping()
        assert beyond.queries() == []

    anyio.run(scenario)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_however_the_server_ends_no_pasta_is_left(outsider: Account, beyond: Internet, how: signal.Signals) -> None:
    with raw_client(outsider) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        below = descendants_of(client.process.pid)
        assert any(is_pasta(pid) for pid in below)
        client.process.send_signal(how)
        client.process.wait()
        assert eventually(lambda: not any(exists(pid) for pid in below))
    assert beyond.queries() == []


def test_a_killed_pasta_is_told_and_the_next_bridge_has_another(outsider: Account, beyond: Internet) -> None:
    async def scenario() -> None:
        async with serving(outsider) as session:
            await session.boot(services=True)
            (one,) = [each for each in descendants_of(session.pid) if is_pasta(each)]
            subprocess.run(["kill", "-KILL", str(one)], check=True)
            with anyio.fail_after(PATIENCE):
                while (await outside_of(session))["reachable"]:
                    assert exists(session.pid)
                while not any(
                    "pasta has ended" in text for _, text in await events(session)
                ):  # its interface went first
                    assert exists(session.pid)
            await session.call("qemu_shutdown", timeout=0)
            await session.boot(services=True)
            assert (await outside_of(session))["reachable"]
        assert beyond.queries() == []

    anyio.run(scenario)


def test_ipv6_goes_out_by_its_own_switch_which_is_restored(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--outside") as session:
            await session.boot(services=True)
            found = await outside_of(session)
            assert (found["ipv4"], found["ipv6"], found["reason"]) == (UPLINK, UPLINK, None)
            assert (says(FORWARDING), says(FORWARDING6)) == ("1", "1")
            assert says(Path("/proc/sys/net/ipv6/conf/all/forwarding")) == "0"
        assert (says(FORWARDING), says(FORWARDING6)) == ("0", "0")

    with internet(ipv6=True):
        anyio.run(scenario)
    assert HOST6
