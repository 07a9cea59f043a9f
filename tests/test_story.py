"""The story, from outside: over stdio, with a real client, a real guest and a real wire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Literal

import anyio
import pytest
from pyroute2 import IPRoute

from support import (
    PCAP_HEADER,
    Account,
    ToolFailed,
    Wire,
    command_of,
    descendants_of,
    host_sends,
    link_names,
    open_files,
    read_back,
    serving,
    status_of,
)


async def story(account: Account, mode: Literal["auto", "legacy"]) -> None:
    async with serving(account, mode=mode) as session:
        booted = await session.boot()
        assert booted["prompt_seen"]
        assert booted["network"]["subnet"] == "10.0.2.0/24"
        assert link_names() == {booted["network"]["bridge"], booted["network"]["tap"]}
        assert session.progress[-1] == "interrupting the boot loader's countdown"

        qemu = status_of(booted["pid"])
        assert [int(qemu[each], 16) for each in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [0, 0, 0, 0]
        assert qemu["NoNewPrivs"] == "1"
        assert "qemu-system-riscv64" in command_of(booted["pid"])
        # The TAP's one descriptor is QEMU's.
        assert "/dev/net/tun" in open_files(booted["pid"])
        assert "/dev/net/tun" not in open_files(session.pid)

        started = await session.call("qemu_pcap_start", filter="icmp")
        assert started["interface"] == booted["network"]["tap"]
        assert started["link_type"] == "EN10MB"
        assert "is alive" in await session.ping()
        stopped = await session.call("qemu_pcap_stop")
        assert stopped["packets"] == 2
        assert stopped["bytes"] == 84
        assert stopped["size_bytes"] == Path(stopped["path"]).stat().st_size
        assert (stopped["warnings"], stopped["diagnosis"], stopped["error"]) == ([], None, None)
        assert (stopped["dropped_kernel"], stopped["dropped_interface"]) == (0, 0)
        assert Path(stopped["path"]).stat().st_mode & 0o777 == 0o600
        assert Path(stopped["path"]).stat().st_uid == account.uid
        assert read_back(stopped["path"]) == 2
        shown = subprocess.run(["tshark", "-r", stopped["path"]], capture_output=True, text=True, check=True)
        assert len(shown.stdout.splitlines()) == 2

        page = await session.call("qemu_pcap_read")
        said = [(each["direction"], each["protocol"], each["source"], each["summary"][:12]) for each in page["packets"]]
        assert said == [
            ("from guest", "ICMP", "10.0.2.75", "echo request"),
            ("to guest", "ICMP", "10.0.2.2", "echo reply i"),
        ]

        ended = await session.call("qemu_shutdown")
        assert ended["exit_code"] == 0
        assert len(ended["released"]) == 3
        assert ended["left_standing"] == []
        assert link_names() == set()
        assert not any("qemu" in command_of(pid) for pid in descendants_of(session.pid))


async def shared_story(account: Account, network: bool | Literal["user"], way: str) -> None:
    async with serving(account) as session:
        booted = await session.boot(network=network, capture=True, capture_filter="arp")
        assert booted["prompt_seen"]
        assert {key: booted["network"][key] for key in ("gateway", "subnet")} == {
            "gateway": "10.0.2.2",
            "subnet": "10.0.2.0/24",
        }
        started = await session.call("qemu_pcap_start", filter="icmp")
        assert (started["interface"], started["link_type"]) == (booted["network"]["interface"], "EN10MB")
        assert "is alive" in await session.ping()
        stopped = await session.call("qemu_pcap_stop")
        assert (stopped["packets"], stopped["bytes"], stopped["state"], stopped["reason"]) == (
            2,
            84,
            "stopped",
            "stopped",
        )
        assert (stopped["warnings"], stopped["diagnosis"], stopped["error"]) == ([], None, None)
        assert (stopped["dropped_kernel"], stopped["dropped_interface"]) == (0, 0)
        assert read_back(stopped["path"]) == 2
        page = await session.call("qemu_pcap_read", capture=stopped["capture"])
        said = [(each["direction"], each["protocol"], each["source"], each["summary"][:12]) for each in page["packets"]]
        assert said == [
            ("from guest", "ICMP", "10.0.2.75", "echo request"),
            ("to guest", "ICMP", "10.0.2.2", "echo reply i"),
        ]
        status = await session.call("qemu_status")
        place = booted["network"]
        assert [each["interface"] for each in status["networks"]] == [place["bridge"] or place["interface"]]
        assert (status["way"], status["rootless"]) == (way, way == "rootless")
        ended = await session.call("qemu_shutdown")
        assert (ended["exit_code"], ended["left_standing"]) == (0, [])
        assert [(each["capture"], each["packets"]) for each in ended["captures"]] == [("c1", 2)]
        assert not any("qemu" in command_of(pid) for pid in descendants_of(session.pid))


@pytest.mark.parametrize("way", ["privileged", "rootless", "user"])
def test_the_story_is_the_same_in_three_ways(way: str, user: Account, outsider: Account, nowhere: Account) -> None:
    account = {"privileged": user, "rootless": outsider, "user": nowhere}[way]
    anyio.run(shared_story, account, "user" if way == "user" else True, way)
    assert link_names() == set()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_story_works_for_a_user_without_root_and_for_root(anyone: Account, mode: Literal["auto", "legacy"]) -> None:
    anyio.run(story, anyone, mode)
    assert link_names() == set()


def test_no_sudo_tcpdump_dumpcap_or_ip_process_is_started(user: Account, tmp_path: Path) -> None:
    """strace sees every execve below the server; root may trace without making its file capabilities void."""
    log = tmp_path / "strace"

    async def scenario() -> None:
        trace = ("strace", "-f", "-qq", "-e", "trace=execve", "-s", "200", "-o", str(log))
        async with serving(user, before=trace) as session:
            await session.boot(capture=True, capture_filter="icmp")
            assert "is alive" in await session.ping()
            assert (await session.call("qemu_pcap_stop"))["packets"] == 2
            await session.call("qemu_shutdown")

    anyio.run(scenario)
    started = [Path(name).name for name in re.findall(r'execve\("([^"]+)".* = 0$', log.read_text(), re.MULTILINE)]
    assert "qemu-system-riscv64" in started
    # nft looks once for what dead servers left.
    assert set(started) <= {"env", "setpriv", "sh", "rawtap", "python-rawtap", "qemu-system-riscv64", "nft"}


def test_no_thread_of_the_server_has_a_capability_in_force_at_rest(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(capture=True)
            tasks = [path.name for path in Path(f"/proc/{session.pid}/task").iterdir()]
            assert len(tasks) > 2
            for task in tasks:
                found = status_of(f"{session.pid}/task/{task}")
                assert int(found["CapEff"], 16) == 0
                assert int(found["CapPrm"], 16) == 1 << 10 | 1 << 12 | 1 << 13
                assert int(found["CapAmb"], 16) == 0

    anyio.run(scenario)


def test_an_rvos_tree_boots_as_it_stands_on_its_own_bridge(user: Account, rvos_tree: Path) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(rvos_tree), network=True)
            assert booted["prompt_seen"]
            assert booted["network"]["bridge"] == "rvos-br0"
            started = await session.call("qemu_pcap_start", interface="rvos-br0", filter="udp port 53")
            assert started["filter"] == "udp port 53"
            # U-Boot has no resolver; a datagram to port 53 of the guest is traffic of that kind.
            assert "is alive" in await session.ping()
            host_sends(("10.0.2.75", 53))
            stopped = await session.call("qemu_pcap_stop")
            assert (stopped["packets"], stopped["diagnosis"]) == (1, None)
            drives = await session.call("qemu_send", command="virtio scan; virtio info")
            assert "Capacity: 1.0 MB" in drives["output"]
            ended = await session.call("qemu_shutdown")
            assert ended["reason"] in {"guest-shutdown", "console command 'poweroff'"}  # QEMU 7 says nothing

    anyio.run(scenario)
    assert link_names() == set()


def test_a_bridge_that_exists_is_used_and_left_standing(user: Account, rvos_tree: Path) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="rvos-br0", kind="bridge")
        index = netlink.link_lookup(ifname="rvos-br0")[0]
        netlink.addr("add", index=index, address="10.0.2.2", prefixlen=24)
        netlink.link("set", index=index, state="up")

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=str(rvos_tree), network=True)
            status = await session.call("qemu_status")
            assert status["networks"][0]["made_by_rawtap"] is False
            assert "is alive" in await session.ping()
            ended = await session.call("qemu_shutdown")
            assert ended["left_standing"] == ["bridge rvos-br0"]

    try:
        anyio.run(scenario)
        assert link_names() == {"rvos-br0"}
    finally:
        Wire.remove("rvos-br0")


def test_checksums_on_the_bridge_are_those_of_the_wire(user: Account) -> None:
    """Without transmit offload switched off the host's UDP checksums would be captured unfinished."""

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            assert "is alive" in await session.ping()
            await session.call("qemu_pcap_start", filter="udp port 4000")
            host_sends(("10.0.2.75", 4000))
            stopped = await session.call("qemu_pcap_stop")
            judge = ["tshark", "-r", stopped["path"], "-o", "udp.check_checksum:TRUE"]
            judge += ["-T", "fields", "-e", "udp.checksum.status"]
            shown = subprocess.run(judge, capture_output=True, text=True, check=True)
            assert shown.stdout.split() == ["1"]  # 1: good

    anyio.run(scenario)


def test_a_capture_asked_for_at_boot_is_armed_before_the_guest_runs(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(capture=True)
            assert booted["capture"]["interface"] == booted["network"]["tap"]
            assert "is alive" in await session.ping()
            ended = await session.call("qemu_shutdown")
            (row,) = ended["captures"]
            assert row["reason"] == "guest_ended"
            assert row["packets"] == read_back(row["path"]) >= 4

    anyio.run(scenario)


def test_two_guests_share_a_bridge_and_the_second_keeps_it(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            one = await session.boot(name="one")
            two = await session.boot(name="two")
            assert one["network"]["bridge"] == two["network"]["bridge"]
            assert one["network"]["mac"] != two["network"]["mac"]
            ended = await session.call("qemu_shutdown", name="one", timeout=0)
            assert (ended["reason"], ended["exit_code"]) == ("host-qmp-quit", 0)
            assert ended["left_standing"] == [f"bridge {two['network']['bridge']}"]
            assert link_names() == {two["network"]["bridge"], two["network"]["tap"]}

    anyio.run(scenario)
    assert link_names() == set()


def test_an_empty_capture_says_why(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            await session.call("qemu_pcap_start", filter="udp port 53")
            assert "is alive" in await session.ping()
            stopped = await session.call("qemu_pcap_stop")
            assert (stopped["packets"], stopped["size_bytes"]) == (0, PCAP_HEADER)
            assert "filter 'udp port 53' matched none of 4 frames" in stopped["diagnosis"]
            assert "2 'ARP', 2 'IPv4 ICMP'" in stopped["diagnosis"]
            await session.call("qemu_pcap_start")
            quiet = await session.call("qemu_pcap_stop")
            assert "carried no frame at all" in quiet["diagnosis"]

    anyio.run(scenario)


def test_a_guest_that_dies_tells_its_exit_code_in_the_same_answer(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_send", command="poweroff", wait_for="never")
            assert caught.value.code == "guest.exited"
            assert "exit code 0" in str(caught.value)
            read = await session.call("qemu_read", position=0)
            assert "poweroff" in read["output"]
            status = await session.call("qemu_status")
            assert status["guests"][0]["state"] == "exited"
            again = await session.boot()
            assert again["prompt_seen"]

    anyio.run(scenario)


def test_wait_for_matches_only_what_came_after_the_command(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            said = await session.call("qemu_send", command="echo one; sleep 1; echo two", wait_for="two")
            assert said["matched"]
            assert said["output"].splitlines()[1:3] == ["one", "two"]
            late = await session.call("qemu_send", command="version", wait_for="U-Boot SPL", timeout=0.3)
            assert not late["matched"]
            assert "did not come within 0.3 s" in late["next_step"]

    anyio.run(scenario)
