"""A guest's TAP: made in steps by pyroute2 and by us, and nothing left of it by who is killed between two of them."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO

import pytest
from pyroute2 import IPRoute

from rawtap.errors import NetworkExists, TunMissing
from rawtap.network import links, network
from support import Account, Wire, link_names, next_start

CHILDREN = 6  # of each moment: 54 in all
MAKES_TAPS = f"""
import os

import pyroute2  # once, and not in every child

from rawtap.network import network

for _ in range({CHILDREN}):
    if (pid := os.fork()) == 0:
        with network.tap("any-br0", "guest", 0):
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


@pytest.mark.usefixtures("_needs_root")
def test_a_tap_that_is_there_is_not_taken_for_a_new_one() -> None:
    with persistent_tap("tap0"):
        with pytest.raises(NetworkExists):
            links.make_tap("tap0")
        assert link_names() == {"tap0"}


@pytest.mark.usefixtures("_needs_root")
def test_a_tap_that_cannot_be_attached_to_is_not_left() -> None:
    makes_one = "from rawtap.network import links; links.make_tap('tap0')"
    done = traced(makes_one, "ioctl:error=EBUSY:when=3")
    assert "NetworkFailed: network.failed: cannot make the TAP tap0 (Device or resource busy)" in done.stderr
    assert link_names() == set()


@pytest.mark.usefixtures("_needs_root")
def test_without_its_device_no_tap_is_begun() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    try:
        with pytest.raises(TunMissing):
            links.make_tap("tap0")
    finally:
        subprocess.run(["umount", "/dev/net"], check=True)
    assert link_names() == set()
