"""Faults of the places that a server uses: names that are taken, marks of the dead, folders that are not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from pyroute2 import IPRoute

from rawtap.network.addressing import Owner, mac_for
from support import Account, ToolFailed, Wire, eventually_async, link_names, serving


def make_bridge(name: str, alias: str | None) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="bridge")
        if alias:
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], ifalias=alias)


def test_a_bridge_whose_owners_pid_is_another_process_by_now_is_removed(user: Account) -> None:
    """The start time tells them apart; a bridge of a process that lives stays, and so does one in another namespace."""
    me = Owner.me()
    made = {
        "reused-br0": replace(me, start=me.start + 1).alias,
        "mine-br0": me.alias,
        "faraway-br0": replace(me, pid=1 << 22, pidns=me.pidns + 1).alias,
        "dead-br0": replace(me, pid=1 << 22).alias,  # beyond what pid_max may be, proc(5)
        "others-br0": None,
    }
    for name, alias in made.items():
        make_bridge(name, alias)

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_status")
            assert await eventually_async(lambda: not {"reused-br0", "dead-br0"} & link_names())
            assert link_names() == {"mine-br0", "faraway-br0", "others-br0"}

    try:
        anyio.run(scenario)
        assert link_names() == {"mine-br0", "faraway-br0", "others-br0"}
    finally:
        for name in made:
            Wire.remove(name)


def test_a_bridge_that_a_killed_server_had_only_begun_is_removed_or_made_anew(user: Account) -> None:
    """It has the MAC address that rawtap gives it, and no mark yet; another bridge without a mark is somebody's."""

    def begin() -> None:
        for name, mac in (("rawtap-br0", mac_for("bridge", "rawtap-br0")), ("others-br0", mac_for("bridge", "x"))):
            with IPRoute() as netlink:
                netlink.link("add", ifname=name, kind="bridge", address=mac)

    async def swept() -> None:
        async with serving(user) as session:
            await session.call("qemu_status")
            assert await eventually_async(lambda: link_names() == {"others-br0"})
            await anyio.to_thread.run_sync(Wire.remove, "others-br0")
            await anyio.to_thread.run_sync(begin)
            assert "is alive" in (await session.boot(), await session.ping())[1]
            await session.call("qemu_shutdown", timeout=0)
            assert link_names() == {"others-br0"}

    begin()
    try:
        anyio.run(swept)
    finally:
        Wire.remove("others-br0")


def test_a_tap_name_that_is_taken_is_left_to_its_owner(user: Account) -> None:
    def take(name: str) -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname=name, kind="tuntap", mode="tap")

    async def scenario() -> None:
        async with serving(user) as session:
            taken = f"rtap{session.pid}.0"
            await anyio.to_thread.run_sync(take, taken)
            try:
                booted = await session.boot()
                assert booted["network"]["tap"] == f"rtap{session.pid}.1"
                assert "is alive" in await session.ping()
                await session.call("qemu_shutdown", timeout=0)
                assert link_names() == {taken}
            finally:
                await anyio.to_thread.run_sync(Wire.remove, taken)

    anyio.run(scenario)


@pytest.mark.parametrize("home", ["missing", "read-only"])
def test_without_a_folder_for_captures_a_capture_says_so_and_all_else_works(user: Account, home: str) -> None:
    if home == "missing":
        placed = replace(user, home=Path("/nonexistent/home"))
    else:
        os.chown(user.home, 0, 0)
        user.home.chmod(0o555)
        placed = user

    async def scenario() -> None:
        async with serving(placed) as session:
            with pytest.raises(ToolFailed) as caught:
                await session.boot(capture=True)
            assert caught.value.code == "capture.output_unwritable"
            assert "--capture-dir" in str(caught.value)
            assert link_names() == set()
            await session.boot()
            assert "is alive" in await session.ping()
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_pcap_start")
            assert caught.value.code == "capture.output_unwritable"
            assert not all(check["ok"] for check in (await session.call("qemu_doctor"))["checks"])

    anyio.run(scenario)
    assert link_names() == set()
