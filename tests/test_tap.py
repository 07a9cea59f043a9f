"""A guest's TAP: made in steps by pyroute2 and by us, and nothing left of it by who is killed between two of them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from ipaddress import IPv4Interface

import pytest
from pyroute2 import IPRoute

from rawtap.errors import NetworkExists, NetworkFailed, TunMissing
from rawtap.network import links, network, taps, watch
from support import PATIENCE, PROTOCOL, Account, Wire, eventually, link_names, next_start

CHILDREN = 6  # of each moment: 54 in all
MAKES_TAPS = f"""
import os

import pyroute2  # once, and not in every child

from rawtap.network import network

for _ in range({CHILDREN}):
    if (pid := os.fork()) == 0:
        with network.tap("any-br0", network.Station("guest")):
            os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

# What a child does to /dev/net/tun, in order: each of its system calls by its kind and its number among that kind.
NOTHING_YET = (("openat", 1), ("close", 1), ("openat", 2), ("ioctl", 1), ("ioctl", 2))
PERSISTENT = (("close", 2), ("openat", 3), ("ioctl", 3), ("ioctl", 4))


def traced(program: str, injection: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program, and have strace put something into its calls on /dev/net/tun."""
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", "/dev/net/tun", "-e", "trace=openat,ioctl,close")
    command = [*trace, "-e", f"inject={injection}", sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def killed_at(call: str, number: int) -> list[str]:
    """Make TAPs, each in a child that is killed before that system call is done; how they ended."""
    return traced(MAKES_TAPS, f"{call}:signal=SIGKILL:when={number}").stdout.split()


def test_who_is_killed_while_it_makes_a_tap_leaves_none_after_the_next_start(user: Account) -> None:
    try:
        for call, number in NOTHING_YET:
            assert killed_at(call, number) == ["-9"] * CHILDREN
            assert link_names() == set()
        for rounds, (call, number) in enumerate(PERSISTENT, 1):
            assert killed_at(call, number) == ["-9"] * CHILDREN
            assert len(link_names()) == rounds * CHILDREN
        assert killed_at("ioctl", 5) == ["0"] * CHILDREN  # there is no further moment
        next_start(user, lambda: link_names() == set())
    finally:
        for name in link_names():
            Wire.remove(name)


@contextmanager
def persistent_tap(name: str) -> Iterator[None]:
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="tuntap", mode="tap")
    try:
        yield
    finally:
        Wire.remove(name)


def attached_to(name: str) -> FileIO:
    device = FileIO("/dev/net/tun", "r+")
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF, linux/if_tun.h
    return device


@pytest.mark.usefixtures("_needs_root")
def test_the_sweep_takes_no_tap_that_somebody_may_have() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    left_behind = {f"rtap{gone.pid}.0", f"rtap{zombie.pid}.0"}
    in_use, running, others = f"rtap{gone.pid}.1", f"rtap{os.getpid()}.0", "tap0"
    with ExitStack() as stack:
        for name in (*left_behind, in_use, running, others):
            stack.enter_context(persistent_tap(name))
        stack.enter_context(attached_to(in_use))
        assert set(network.sweep()) == left_behind
        assert link_names() == {in_use, running, others}
        zombie.wait()


def until_the_link_watch_has_looked() -> None:
    """It looks at lost carriers once a second: from now on nothing that does not press is seen for so long."""
    with attached_to("looked0") as device, watch.watch() as watcher:
        index = socket.if_nametoindex("looked0")
        Wire.set_state("looked0", "up")
        fcntl.ioctl(device, 0x400454E2, struct.pack("i", 0))  # TUNSETCARRIER, linux/if_tun.h
        assert eventually(lambda: "no_carrier" in {change.what for change in watcher.changes(index, 0)})


@pytest.mark.usefixtures("_needs_root")
def test_a_bridge_passes_the_first_frame_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the kernel saw the TAP while nobody had it open, and will not look again for a second."""
    attach = taps._attached

    def seen_and_attached(name: str, purpose: str) -> int:
        assert (
            links.find(name) is not None
        )  # the link watch looks at what is asked for, rtnl_getlink, from Linux 6.8 on
        return attach(name, purpose)

    monkeypatch.setattr(taps, "_attached", seen_and_attached)
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\1" + PROTOCOL.to_bytes(2, "big") + bytes(46)
    spec = network.BridgeSpec("tried0", IPv4Interface("10.255.0.1/24"), trusted=True)
    with network.bridge(spec) as bridge, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as receiver:
        receiver.bind((bridge.name, PROTOCOL))
        receiver.settimeout(PATIENCE)
        until_the_link_watch_has_looked()
        with network.tap(bridge.name, network.Station("guest")) as tap:
            network.plug(tap, bridge)
            tap.device.write(frame)
            assert receiver.recv(100) == frame


@pytest.mark.usefixtures("_needs_root")
@pytest.mark.parametrize(("lost", "evidence"), [(True, "No such device"), (False, "timed out")])
def test_a_tap_that_does_not_come_up_on_its_bridge_is_an_error(
    monkeypatch: pytest.MonkeyPatch, lost: bool, evidence: str
) -> None:
    """It ends with QEMU at any moment; or nothing is told of it."""
    waits = taps._until_operational

    def wait_for_more(told: socket.socket, index: int) -> None:
        if lost:
            Wire.remove(tap.name)
        while True:
            waits(told, index)

    monkeypatch.setattr(taps, "_until_operational", wait_for_more)
    monkeypatch.setattr(taps, "_LONG_FOR_LINKWATCH", PATIENCE if lost else 0.1)
    spec = network.BridgeSpec("tried0", IPv4Interface("10.255.0.1/24"), trusted=True)
    with (
        network.bridge(spec) as bridge,
        network.tap(bridge.name, network.Station("guest")) as tap,
        pytest.raises(NetworkFailed, match=f"cannot put {tap.name} on tried0 .{evidence}"),
    ):
        network.plug(tap, bridge)


@pytest.mark.usefixtures("_needs_root")
def test_a_tap_that_is_there_is_not_taken_for_a_new_one() -> None:
    with persistent_tap("tap0"):
        with pytest.raises(NetworkExists):
            taps.make("tap0")
        assert link_names() == {"tap0"}


@pytest.mark.usefixtures("_needs_root")
def test_a_tap_that_cannot_be_attached_to_is_not_left() -> None:
    makes_one = "from rawtap.network import taps; taps.make('tap0')"
    done = traced(makes_one, "ioctl:error=EBUSY:when=3")
    assert "NetworkFailed: network.failed: cannot make the TAP tap0 (Device or resource busy)" in done.stderr
    assert link_names() == set()


@pytest.mark.usefixtures("_needs_root")
def test_without_its_device_no_tap_is_begun() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    try:
        with pytest.raises(TunMissing):
            taps.make("tap0")
    finally:
        subprocess.run(["umount", "/dev/net"], check=True)
    assert link_names() == set()
