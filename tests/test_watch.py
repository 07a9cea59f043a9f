"""The watcher of interfaces on real ones: nothing is missed, and nothing is left of it."""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from rawtap.errors import NetworkFailed
from rawtap.network import links, taps, watch
from support import Wire, eventually


def index_of(name: str) -> int:
    return socket.if_nametoindex(name)


def changes(watcher: watch.Watcher, index: int) -> list[str]:
    return [change.what for change in watcher.changes(index, 0)]


def test_changes_are_known_as_soon_as_whoever_made_them_goes_on(wire: Wire) -> None:
    with watch.watch() as watcher, IPRoute() as netlink:
        index = index_of(wire.near)
        started = time.monotonic()
        wire.set_state(wire.near, "down")
        wire.set_state(wire.near, "up")
        netlink.link("set", index=index, ifname="other0")
        found = watcher.changes(index, started)
        assert [change.what for change in found] == ["down", "up", "renamed"]
        assert (found[-1].name, found[-1].new_name) == ("near0", "other0")
        assert started <= found[0].at <= found[-1].at <= time.monotonic()
        assert watcher.changes(index, time.monotonic()) == ()
        assert watcher.look().find("other0") is not None
        assert watcher.look().find("near0") is None


def test_a_change_gets_its_time_when_it_happens_and_not_when_somebody_asks(wire: Wire) -> None:
    with watch.watch() as watcher:
        wire.set_state(wire.near, "down")
        # Not asked through the watcher: that would read the message itself.
        record = watcher._records[index_of(wire.near)]
        assert eventually(lambda: bool(record.changes))
        noticed = time.monotonic()
        (change,) = watcher.changes(index_of(wire.near), 0)
        assert change.at <= noticed


@contextmanager
def tap(name: str) -> Iterator[Callable[[bool], None]]:
    """A TAP that is up, and what switches its carrier (TUNSETCARRIER, linux/if_tun.h)."""
    with taps.TUN_DEVICE.open("r+b", buffering=0) as device:
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF: a TAP, no header
        Wire.set_state(name, "up")

        def set_carrier(on: bool) -> None:
            fcntl.ioctl(device, 0x400454E2, struct.pack("i", on))

        yield set_carrier


@pytest.mark.usefixtures("_needs_root")
def test_a_carrier_is_known_when_the_kernel_is_asked() -> None:
    """It tells of no more than one lost carrier a second by itself."""
    with tap("watch0") as set_carrier, watch.watch() as watcher:
        index = index_of("watch0")
        for state in (False, True, False, True, False):
            set_carrier(state)
            watcher.refresh(index)
        assert changes(watcher, index) == ["no_carrier", "carrier", "no_carrier", "carrier", "no_carrier"]


def test_counters_are_those_of_the_moment_and_last_beyond_the_interface(wire: Wire) -> None:
    with watch.watch() as watcher:
        far = index_of(wire.far)
        before = watcher.look()
        wire.send(5)
        after = watcher.look()
        assert after.links[far].sent - before.links[far].sent == 5
        assert after.links == {link.index: link for link in links.all_links()}
        wire.set_state(wire.far, "down")
        wire.remove(wire.far)
        gone = watcher.look(after.at)
        assert far not in gone.links
        assert gone.gone[far].link.sent == after.links[far].sent
        assert after.at <= gone.gone[far].at <= gone.at
        assert watcher.look(gone.at).gone == {}
        assert changes(watcher, far) == ["down", "removed"]


def test_a_port_that_leaves_a_bridge_is_not_gone(wire: Wire) -> None:
    with watch.watch() as watcher, IPRoute() as netlink:
        index = index_of(wire.near)
        netlink.link("add", ifname="watch-br0", kind="bridge")
        bridge = index_of("watch-br0")
        try:
            netlink.link("set", index=index, master=bridge)
            netlink.link("set", index=index, master=0)
            assert changes(watcher, index) == []
            assert changes(watcher, bridge) == ["added"]
        finally:
            wire.remove("watch-br0")


def test_an_overrun_is_told_and_the_table_is_right_again(wire: Wire) -> None:
    with Wire.make("gone0", "gone1"), watch.watch() as watcher, IPRoute() as netlink:
        near, far, gone = map(index_of, (wire.near, wire.far, "gone0"))
        watcher._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        with watcher._lock:  # nobody reads
            for number in range(10):
                netlink.link("set", index=far, ifname=f"far{number + 1}")
            wire.set_state(wire.near, "down")
            netlink.link("set", index=far, ifname=wire.far)
            netlink.link("del", index=gone)
        assert changes(watcher, near) == ["missed", "down"]
        assert changes(watcher, gone) == ["missed", "removed"]
        assert gone in watcher.look(0).gone
        wire.set_state(wire.near, "up")
        assert changes(watcher, near)[2] == "up"
        watcher.refresh(far)
        assert watcher.look().links == {link.index: link for link in links.all_links()}


def test_what_could_not_be_listed_after_an_overrun_is_asked_for_again(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[links.Link]:
        raise NetworkFailed("no netlink today", cure="Call again")

    with watch.watch() as watcher:
        near = index_of(wire.near)
        monkeypatch.setattr(links, "all_links", fail)
        with watcher._lock:
            watcher._incomplete = True
        with pytest.raises(NetworkFailed):
            watcher.look()
        wire.set_state(wire.near, "down")
        assert eventually(lambda: "links" not in {thread.name for thread in threading.enumerate()})
        assert "no longer followed: network.failed: no netlink today" in caplog.text
        monkeypatch.undo()
        assert sorted(changes(watcher, near)) == ["down", "missed"]
        assert changes(watcher, near) == changes(watcher, near)


def test_nothing_is_left_of_a_watcher(wire: Wire) -> None:
    descriptors = {path.name for path in Path("/proc/self/fd").iterdir()}
    with watch.watch():
        assert "links" in {thread.name for thread in threading.enumerate()}
        wire.set_state(wire.near, "down")
    assert "links" not in {thread.name for thread in threading.enumerate()}
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == descriptors
