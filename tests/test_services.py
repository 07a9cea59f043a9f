"""DHCP and DNS on a bridge of ours, by a real dnsmasq: what a guest gets, what is told, and that nothing is left."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from pyroute2 import IPRoute

from support import (
    PATIENCE,
    Account,
    Session,
    ToolFailed,
    Wire,
    children_of,
    command_of,
    descendants_of,
    eventually,
    eventually_async,
    exists,
    link_names,
    not_installed,
    serving,
    status_of,
)
from test_endings import raw_client

BRIDGE = "rawtap-br0"
DNSMASQ = Path("/usr/sbin/dnsmasq")
DHCP = "setenv autoload no; dhcp"


def tree(account: Account, *lines: str) -> str:
    """A project's folder whose file lays `lines` over the demo guest's profile."""
    (account.home / "rawtap.toml").write_text("\n".join(['profile = "u-boot-riscv64"', *lines]), encoding="utf-8")
    return str(account.home)


def dnsmasq_below(pid: int) -> list[int]:
    return [each for each in children_of(pid) if "dnsmasq" in command_of(each)]


async def network_row(session: Session) -> dict[str, Any]:
    (row,) = (await session.call("qemu_status"))["networks"]
    return dict(row)


async def events(session: Session) -> list[tuple[str, str]]:
    told = (await session.call("qemu_timeline", sources=["event"], limit=100))["events"]
    return [(each["kind"], each["text"]) for each in told]


def test_a_guest_gets_an_address_which_status_capture_and_timeline_show(each_way: Account) -> None:
    async def scenario() -> None:
        async with serving(each_way) as session:
            booted = await session.boot(services=True, capture=True)
            assert booted["warnings"] == []
            said = (await session.call("qemu_send", command=DHCP))["output"]
            assert "DHCP client bound to address 10.0.2." in said
            row = await network_row(session)
            (lease,) = row["leases"]
            assert f"bound to address {lease['address']} " in said
            assert (lease["mac"], 3500 < lease["expires"] <= 3600) == (booted["network"]["mac"], True)
            assert row["services"].startswith("running")
            stopped = await session.call("qemu_pcap_stop")
            told = await session.call("qemu_pcap_explain", path=stopped["path"])
            assert told["findings"] == []
            exchanges = [(each["kind"], each["answered"], each["unanswered"]) for each in told["exchanges"]]
            assert exchanges == [("DHCP", 1, 0)] * 2
            seen = await events(session)
            assert ("dhcp", f"DHCPACK({BRIDGE}) {lease['address']} {lease['mac']}") in seen

    anyio.run(scenario)


def test_dnsmasq_has_three_capabilities_and_can_get_no_other(each_way: Account) -> None:
    async def scenario() -> None:
        async with serving(each_way) as session:
            booted = await session.boot(services=True)
            (pid,) = dnsmasq_below(session.pid)
            served, guest, server = status_of(pid), status_of(booted["pid"]), status_of(session.pid)
            assert int(served["CapPrm"], 16) == int(served["CapEff"], 16) == 1 << 10 | 1 << 12 | 1 << 13
            assert (served["NoNewPrivs"], served["Uid"]) == ("1", server["Uid"])
            assert int(guest["CapPrm"], 16) == 0
            assert {int(server[each], 16) for each in ("CapEff", "CapInh", "CapAmb")} == {0}

    anyio.run(scenario)


def test_a_fixed_host_gets_its_address_by_its_name_as_a_guest(outsider: Account) -> None:
    async def scenario() -> None:
        async with serving(outsider) as session:
            root = tree(outsider, "services = true", 'hosts = [{ name = "box", address = "10.0.2.15" }]')
            await session.call("qemu_boot", project_root=root, network=True, name="box")
            sent = await session.call("qemu_send", command=DHCP, name="box")
            assert "bound to address 10.0.2.15 " in sent["output"]
            (lease,) = (await network_row(session))["leases"]
            assert (lease["name"], lease["address"]) == ("box", "10.0.2.15")

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ('name = "a,b", address = "10.0.2.15"', "'a,b' is no name"),
        ('name = "a", address = "10.0.3.15"', "10.0.3.15 is no guest's address"),
        ('name = "a", address = "10.0.2.2"', "10.0.2.2 is no guest's address"),
        ('name = "gateway", address = "10.0.2.15"', "gateway is there twice"),
        ('name = "a", address = "10.0.2.15", mac = "52:54:00:00:00,01"', "is no MAC address"),
    ],
)
def test_a_fixed_host_that_cannot_be_is_refused_and_nothing_is_left(user: Account, host: str, why: str) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            with pytest.raises(ToolFailed) as caught:
                await session.call(
                    "qemu_boot", project_root=tree(user, "services = true", f"hosts = [{{ {host} }}]"), network=True
                )
            assert caught.value.code == "profile.invalid"
            assert why in str(caught.value)
            assert link_names() == set()

    anyio.run(scenario)


def query(name: str) -> bytes:
    """A question for a name's IPv4 address (RFC 1035 4)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def ask(name: str, server: str = "10.0.2.2") -> tuple[int, list[str]]:
    """Ask a name server for a name's IPv4 address: its response code, and the addresses."""
    asked = query(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(asked, (server, 53))
        answer = sock.recv(512)
    _, flags, _, count, _, _ = struct.unpack("!6H", answer[:12])
    records = answer[len(asked) :]
    return flags & 0xF, [socket.inet_ntoa(records[16 * n + 12 : 16 * n + 16]) for n in range(count)]


def test_names_of_the_bridge_are_answered_and_no_other_leaves(root: Account) -> None:
    async def scenario() -> None:
        async with serving(root) as session:
            folder = tree(root, 'hosts = [{ name = "box", address = "10.0.2.15", mac = "52:54:00:12:34:56" }]')
            booted = await session.call("qemu_boot", project_root=folder, network=True, services=True)
            assert booted["warnings"] == []
            refused = 5
            assert await anyio.to_thread.run_sync(ask, "gateway") == (0, ["10.0.2.2"])
            assert await anyio.to_thread.run_sync(ask, "box") == (0, ["10.0.2.15"])
            assert await anyio.to_thread.run_sync(ask, "example.com") == (refused, [])
            assert ("dns", "query[A] example.com from 10.0.2.2") in await events(session)

    anyio.run(scenario)


def test_a_flood_of_queries_does_not_drive_out_what_else_was_noted(root: Account) -> None:
    """It is a flood where more comes in a second than is noted: how often it is asked hangs on the machine."""

    def flood() -> None:
        """As fast as dnsmasq answers: by the hundred, which its socket holds."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            for portion in range(5):
                for number in range(100):
                    sock.sendto(query(f"n{portion}{number}"), ("10.0.2.2", 53))
                for _ in range(100):
                    sock.recv(512)

    async def told(session: Session) -> list[str]:
        found, more, since = list[str](), True, None
        while more:
            page = await session.call("qemu_timeline", sources=["event"], limit=200, since=since)
            found += [each["text"] for each in page["events"] if each["kind"] == "dns"]
            more, since = page["more"], page["next_cursor"]
        return found

    async def scenario() -> None:
        async with serving(root) as session:
            before = anyio.current_time()
            await session.boot(services=True)
            noted: list[str] = []
            with anyio.fail_after(PATIENCE):
                while not any("logs too much" in text for text in noted):
                    await anyio.to_thread.run_sync(flood)
                    noted = await told(session)
            seconds = int(anyio.current_time() - before) + 2  # in which a line may have come
            assert len(noted) <= 100 * seconds

    anyio.run(scenario)


def test_without_dnsmasq_the_boot_goes_on_and_names_the_package(each_way: Account) -> None:
    async def scenario() -> None:
        async with serving(each_way) as session:
            booted = await session.boot(services=True)
            (warning,) = booted["warnings"]
            assert warning.startswith("network.services_unavailable: ")
            assert "dnsmasq-base" in warning
            assert "is alive" in await session.ping()
            row = await network_row(session)
            assert (row["services"], row["leases"]) == (None, [])
            checks = {each["name"]: each for each in (await session.call("qemu_doctor"))["checks"]}
            assert "dnsmasq-base" in checks["dnsmasq"]["cure"]

    with not_installed(DNSMASQ):
        anyio.run(scenario)


def test_a_port_that_is_taken_is_told_in_dnsmasqs_words(root: Account) -> None:
    async def scenario() -> None:
        async with serving(root) as session:
            (warning,) = (await session.boot(services=True))["warnings"]
            assert warning.startswith("network.services_unavailable: ")
            assert "in use" in warning

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 53))  # noqa: S104
        anyio.run(scenario)


def test_a_killed_dnsmasq_is_told_and_the_next_guest_has_another(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(services=True)
            (pid,) = dnsmasq_below(session.pid)
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
            assert await eventually_async(lambda: not exists(pid) and dnsmasq_below(session.pid) == [])
            while (await network_row(session))["services"] != "ended: exit code -9":  # till the server is told
                assert (await network_row(session))["services"] in {f"running, pid {pid}", "ended: exit code -9"}
            assert ("services_ended", f"dnsmasq on {BRIDGE} ended: exit code -9") in await events(session)
            assert (await session.boot(services=True, name="second"))["warnings"] == []
            assert (await network_row(session))["services"].startswith("running")

    anyio.run(scenario)


def test_it_goes_with_the_last_guest_before_the_bridge_goes(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(services=True)
            assert (await session.boot(services=True, name="second"))["warnings"] == []
            (pid,) = dnsmasq_below(session.pid)
            first = await session.call("qemu_shutdown", timeout=0)
            assert exists(pid)
            last = await session.call("qemu_shutdown", name="second", timeout=0)
            assert [f"dnsmasq {pid}" in each["released"] for each in (first, last)] == [False, True]
            assert not exists(pid)
            kinds = [kind for kind, text in await events(session) if BRIDGE in text]
            assert kinds.index("services_ended") < kinds.index("link_removed")

    anyio.run(scenario)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_however_the_server_ends_no_dnsmasq_is_left(each_way: Account, how: signal.Signals) -> None:
    with raw_client(each_way) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        below = descendants_of(client.process.pid)
        assert any("dnsmasq" in command_of(pid) for pid in below)
        client.process.send_signal(how)
        client.process.wait()
        assert eventually(lambda: not any(exists(pid) for pid in below))
    Wire.remove(BRIDGE)  # after SIGKILL the next server would


def test_a_bridge_that_was_there_gets_none(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(services=True)
            (warning,) = booted["warnings"]
            assert "did not make that bridge" in warning
            assert dnsmasq_below(session.pid) == []

    with IPRoute() as netlink:
        netlink.link("add", ifname=BRIDGE, kind="bridge")
    try:
        anyio.run(scenario)
    finally:
        Wire.remove(BRIDGE)


def test_it_is_there_only_where_it_is_wanted(user: Account, rvos_tree: Path) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.boot())["warnings"] == []
            assert dnsmasq_below(session.pid) == []
            with pytest.raises(ToolFailed, match=r"request\.invalid: services=true needs a network"):
                await session.call("qemu_boot", profile="u-boot-riscv64", services=True, name="second")
            await session.call("qemu_shutdown", timeout=0)
            await session.call("qemu_boot", project_root=str(rvos_tree), network=True)
            assert len(dnsmasq_below(session.pid)) == 1

    anyio.run(scenario)
