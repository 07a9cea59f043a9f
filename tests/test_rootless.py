"""A network that needs no administrator: as an ordinary user, without the private interpreter's capabilities."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from support import (
    RAWTAP,
    Account,
    ToolFailed,
    Wire,
    descendants_of,
    eventually,
    exists,
    link_names,
    read_back,
    serving,
    status_of,
)
from test_endings import raw_client
from test_http import STORY


def namespace_of(pid: int | str) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


# A mount that hides a part of /sys: the kernel lets no user namespace have a fresh sysfs then, in which it would show
# (mount_too_revealing, fs/namespace.c). Container engines hide such parts.
HIDDEN_SYS = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel && exec "$@"', "sh")


def test_where_sys_shows_the_hosts_interfaces_a_capture_says_that_drops_are_not_known(outsider: Account) -> None:
    async def scenario() -> None:
        async with serving(outsider, before=HIDDEN_SYS) as session:
            await session.boot()
            await session.call("qemu_pcap_start", filter="icmp")
            assert "is alive" in await session.ping()
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == 2
            (warning,) = row["warnings"]
            assert "what the interface itself dropped is not known" in warning

    anyio.run(scenario)


# A memory limit as a container engine sets one, of which 24 MiB are left.
LIMITED = """mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup && echo $((64 << 20)) >memory.max &&
echo $((40 << 20)) >memory.current && echo 'inactive_file 0' >memory.stat && cd / && exec "$@"
"""


def test_a_limit_of_memory_outside_is_seen(outsider: Account) -> None:
    async def scenario() -> None:
        before = ("unshare", "--mount", "sh", "-c", LIMITED, "sh")
        async with serving(outsider, "--rootless", before=before) as session:
            await session.boot()
            row = await session.call("qemu_pcap_start")
            (row,) = (await session.call("qemu_pcap_status", capture=row["capture"]))["captures"]
            assert row["buffer_bytes"] == 6 << 20

    anyio.run(scenario)


@pytest.mark.parametrize("options", [(), ("--rootless",)], ids=["by itself", "asked for"])
def test_the_story_works_with_no_privilege_and_leaves_the_hosts_links_alone(
    outsider: Account, options: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with serving(outsider, *options) as session:
            booted = await session.boot()
            assert link_names() == set()
            assert namespace_of(session.pid) != namespace_of("self")
            assert (await session.call("qemu_status"))["rootless"]
            await session.call("qemu_pcap_start", filter=STORY)
            assert "is alive" in await session.ping()
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["dropped_kernel"], row["warnings"]) == (4, 0, [])
            assert read_back(row["path"]) == 4
            ended = await session.call("qemu_shutdown")
            assert ended["exit_code"] == 0
            held = {f"TAP {booted['network']['tap']}", f"bridge {booted['network']['bridge']}"}
            assert held <= set(ended["released"])

    anyio.run(scenario)


def test_a_member_of_the_group_goes_the_privileged_way_unless_asked(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot()
            assert not (await session.call("qemu_status"))["rootless"]
            assert link_names() != set()
        async with serving(user, "--rootless") as session:
            await session.boot()
            assert (await session.call("qemu_status"))["rootless"]
            assert link_names() == set()

    anyio.run(scenario)


def test_three_capabilities_are_held_in_there_and_none_is_in_force(outsider: Account) -> None:
    async def scenario() -> None:
        async with serving(outsider) as session:
            booted = await session.boot()
            server, guest = status_of(session.pid), status_of(booted["pid"])
            assert (int(server["CapPrm"], 16), int(server["CapEff"], 16)) == (1 << 10 | 1 << 12 | 1 << 13, 0)
            assert int(guest["CapPrm"], 16) == int(guest["CapEff"], 16) == 0
            assert guest["NoNewPrivs"] == "1"

    anyio.run(scenario)


def test_the_hosts_interfaces_are_not_there_and_the_error_says_why(outsider: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(outsider, "--rootless", "--allow-interface", wire.near) as session:
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_pcap_start", interface=wire.near)
            assert caught.value.code == "capture.no_such_interface"
            assert "rootless" in str(caught.value)

    anyio.run(scenario)


def test_after_sigkill_nothing_is_left_in_there(outsider: Account) -> None:
    with raw_client(outsider) as client:
        booted = client.call("qemu_boot", profile="u-boot-riscv64", network=True)
        started = client.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in client.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        below = descendants_of(client.process.pid)
        assert namespace_of(booted["pid"]) != namespace_of("self")
        client.process.kill()
        client.process.wait()
        assert eventually(lambda: not any(exists(pid) for pid in below))
        assert read_back(started["path"]) in {0, 2}  # whole, with what was written by then


def test_where_there_are_no_user_namespaces_the_error_names_the_switch(outsider: Account) -> None:
    # The limit belongs to a user namespace: to one of the test's own, in which it is 0 (user_namespaces(7)).
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", RAWTAP, "serve", "--rootless"]
    done = subprocess.run(
        outsider.command(*inside), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 1
    assert "network.rootless_unavailable" in done.stderr
    assert "/proc/sys/user/max_user_namespaces is 0" in done.stderr
    assert "sysctl" in done.stderr
    assert "rawtap boot --network user needs no privilege" in done.stderr


def test_a_server_that_can_be_neither_has_what_it_was_given_and_nothing_in_force(nowhere: Account) -> None:
    """Of what is missing each call tells."""
    some = {"--bounding-set=-all": "--bounding-set=-all,+net_raw"}
    account = replace(nowhere, within=tuple(some.get(each, each) for each in nowhere.within))

    async def scenario() -> None:
        async with serving(account) as session:
            server = status_of(session.pid)
            assert (int(server["CapPrm"], 16), int(server["CapEff"], 16)) == (1 << 13, 0)

    anyio.run(scenario)


def test_the_doctor_tells_which_way_and_that_the_other_would_work(user: Account, outsider: Account) -> None:
    def doctor(account: Account, *options: str) -> str:
        command = account.command(RAWTAP, "doctor", *options)
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert "ok    network: privileged" in doctor(user)
    assert "ok    way: privileged: works here" in doctor(user)
    assert "ok    way: rootless: works here" in doctor(user)
    assert "ok    network: rootless" in doctor(outsider)
    without = doctor(outsider, "--no-rootless")
    assert "ok    network: user" in without
    assert "ok    way: privileged: not possible here" in without
    assert "ok    way: rootless: works here" in without
    assert "ok    way: user: works here" in without
    assert "FAIL  cap_net_admin" in without
    assert "--rootless" in without


def test_bridges_in_the_namespace_pass_frames_as_they_are(outsider: Account) -> None:
    """br_netfilter is switched off there, where nobody else has a bridge, and stays as it is outside."""
    switches = sorted(Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"))
    if not switches:
        pytest.skip("this kernel has no br_netfilter")
    before = [each.read_text(encoding="utf-8") for each in switches]

    async def scenario() -> None:
        async with serving(outsider, "--rootless") as session:
            seen = ["nsenter", f"--net=/proc/{session.pid}/ns/net", "cat", *map(str, switches)]
            assert subprocess.run(seen, capture_output=True, text=True, check=True).stdout.split() == ["0"] * len(
                switches
            )
            checks = {each["name"]: each for each in (await session.call("qemu_doctor"))["checks"]}
            assert checks["br_netfilter"]["found"].startswith("off: ")

    anyio.run(scenario)
    assert [each.read_text(encoding="utf-8") for each in switches] == before
