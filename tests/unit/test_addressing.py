"""Names, addresses, MACs and owner marks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rawtap.errors import NameInvalid, ProfileInvalid
from rawtap.network.addressing import Owner, checked_address, checked_name, mac_for
from rawtap.network.network import Station

# Its command name is as hostile to a reader of /proc/PID/stat as the kernel lets it be.
_CHILD = """
import pathlib, sys
from rawtap.network.addressing import Owner
pathlib.Path("/proc/self/comm").write_text("a) S 1 (b")
print(Owner.me().alias, flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process() -> Iterator[tuple[Owner, subprocess.Popen[str]]]:
    """A child that says who it is and lives until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        owner = Owner.of(child.stdout.readline().strip())
        assert owner is not None
        yield owner, child


@pytest.mark.parametrize("name", ["a", "rvos-br0", "eth0.100", "a_b", "...", "A" * 15])
def test_a_name_of_one_to_fifteen_plain_characters_is_kept(name: str) -> None:
    assert checked_name(name) == name


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(NameInvalid, match="0 characters"):
        checked_name("")


def test_a_name_of_sixteen_characters_is_refused() -> None:
    with pytest.raises(NameInvalid, match="16 characters"):
        checked_name("a" * 16)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_means_a_folder_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        checked_name(name)


@pytest.mark.parametrize(
    "name", ["tap%d", "a/b", "a:b", "a b", "a\n", "a\tb", "a\0b", "brücke", "br\u0660", "a,b", "'"]
)
def test_a_name_with_any_other_character_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid, match="only letters"):
        checked_name(name)


@pytest.mark.parametrize("text", ["10.0.2.2/24", "172.16.0.1/16", "192.168.7.1/30", "100.64.0.1/24"])
def test_an_address_keeps_its_host_part_and_its_prefix(text: str) -> None:
    assert checked_address(text).with_prefixlen == text


@pytest.mark.parametrize("text", ["10.0.2.2", "10.0.0.1/7", "10.0.2.2/31", "10.0.2.2/32", "10.0.2.2/0"])
def test_an_address_without_room_for_a_guest_or_without_a_bound_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid, match="16 to 30"):
        checked_address(text)


@pytest.mark.parametrize("text", ["", "/24", "10.0.2/24", "10.0.2.256/24", "fd00::1/64", "10.0.2.2/24 ", "a.b.c.d/24"])
def test_what_is_no_ipv4_address_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid, match="cannot have the address"):
        checked_address(text)


def test_a_mac_is_locally_administered_and_unicast() -> None:
    for number in range(50):
        octets = [int(octet, 16) for octet in mac_for("bridge", str(number)).split(":")]
        assert len(octets) == 6
        assert octets[0] & 0b11 == 0b10


def test_a_mac_is_the_same_for_the_same_parts() -> None:
    # A written value: a guest's address must be the same after an upgrade and in another process.
    assert mac_for("rvos-br0", "guest") == "52:54:00:5b:08:ed"


def test_a_mac_differs_for_other_parts_and_for_another_split_of_the_same_text() -> None:
    assert (
        len({mac_for("br0", "guest"), mac_for("br0", "other"), mac_for("br1", "guest"), mac_for("br0g", "uest")}) == 4
    )


def test_an_owner_is_read_back_from_its_alias() -> None:
    me = Owner.me()
    assert me.pid == os.getpid()
    assert Owner.of(me.alias) == me


@pytest.mark.parametrize(
    "alias",
    [
        None,
        "",
        "uplink",
        "rawtap",
        "rawtap pid=1 start=2",
        "rawtap pid=-1 start=2 pidns=3",
        " rawtap pid=1 start=2 pidns=3",
        "rawtap pid=1 start=2 pidns=3\n",
    ],
)
def test_an_alias_that_rawtap_did_not_write_names_no_owner(alias: str | None) -> None:
    assert Owner.of(alias) is None


def test_the_longest_alias_fits_the_kernels_256_bytes() -> None:
    longest = Owner(pid=1 << 22, start=(1 << 64) - 1, pidns=(1 << 64) - 1)
    assert len(longest.alias.encode()) < 256  # with its NUL


def test_this_process_is_not_gone() -> None:
    assert not Owner.me().gone()


def test_an_owners_start_is_when_its_process_began_in_clock_ticks_since_boot() -> None:
    def ticks() -> int:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

    earliest = ticks()
    with other_process() as (owner, _):
        assert earliest - 1 <= owner.start <= ticks() + 1


def test_a_child_is_not_gone_while_it_lives_and_gone_when_it_has_ended() -> None:
    with other_process() as (owner, child):
        assert owner.pid == child.pid
        assert not owner.gone()
        child.communicate()
        assert owner.gone()


def test_an_owner_is_gone_when_its_pid_has_another_bearer() -> None:
    me = Owner.me()
    assert replace(me, start=me.start - 1).gone()


def test_an_owner_in_another_pid_namespace_is_never_called_gone() -> None:
    me = Owner.me()
    assert not replace(me, start=me.start - 1, pidns=me.pidns + 1).gone()


@pytest.mark.parametrize("text", ["10.0.2.0/24", "10.0.2.255/24"])
def test_an_address_that_no_host_can_have_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        checked_address(text)


def test_a_zombie_is_a_gone_owner() -> None:
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    owner = Owner(child.pid, int(stat[19]), Owner.me().pidns)
    assert not owner.gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and left a zombie
    assert owner.gone()
    child.communicate()


@pytest.mark.parametrize("text", ["8.8.8.1/24", "127.0.0.1/16", "224.0.0.1/24", "169.254.1.1/16", "172.32.0.1/16"])
def test_an_address_that_would_draw_the_hosts_traffic_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid, match="it is public"):
        checked_address(text)


def test_libpcaps_name_for_all_interfaces_is_no_bridges() -> None:
    with pytest.raises(NameInvalid, match="all interfaces"):
        checked_name("any")


def test_an_owner_that_proc_hides_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under hidepid=2 another user's process has no folder in /proc, and lives."""
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    owner = Owner(child.pid, 1, Owner.me().pidns)
    assert owner.gone()  # its start time can be read, and is another
    monkeypatch.setattr("rawtap.network.addressing._start_time", lambda _: None)
    assert not owner.gone()
    child.communicate()
    assert owner.gone()  # no process of that pid at all


def test_a_card_has_an_address_of_its_own_by_all_that_it_is_and_the_same_after_each_start() -> None:
    stations = [Station("a"), Station("b"), Station("a", "/p"), Station("a", lab=1), Station("a", card=1)]
    addresses = [each.mac("x") for each in stations]
    assert addresses == [each.mac("x") for each in stations]
    assert len({*addresses, Station("a").mac("y")}) == 6


def test_where_its_address_is_in_use_a_card_gets_one_that_no_other_server_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stations = [Station("a"), Station("b"), Station("a", lab=1), Station("a", card=1)]
    ours = [each.other_mac("x") for each in stations]
    me = Owner.me()
    monkeypatch.setattr(Owner, "me", lambda: replace(me, pid=me.pid + 1))
    others = [each.other_mac("x") for each in stations]
    assert len({*ours, *others, *(each.mac("x") for each in stations)}) == 12
