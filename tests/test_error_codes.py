"""Each error code, made for real, from outside: the call at fault raises it, with evidence and cure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool

from rawtap.errors import NetworkFailed
from rawtap.network import links, taps
from support import RAWTAP, Account, Session, ToolFailed, Wire, link_names, serving

Steps = Callable[[Session], Awaitable[Any]]


def failure_of(account: Account, steps: Steps, *options: str | Path, before: tuple[str, ...] = ()) -> ToolFailed:
    """Run `steps` against a server and return the error that they end in; nothing may be left by it."""

    async def scenario() -> ToolFailed:
        async with serving(account, *options, before=before) as session:
            links = link_names()
            with pytest.raises(ToolFailed) as caught:
                await steps(session)
            assert link_names() >= links
            return caught.value

    found = anyio.run(scenario)
    # code: what happened (evidence). The next step
    assert re.match(r"[a-z]+\.[a-z_]+: .+\. \S.+", str(found), re.DOTALL), str(found)
    return found


# The private interpreter's file capabilities are void under no-new-privileges.
CAPABILITIES_VOID = ("setpriv", "--no-new-privs", "--")


def capture_on(interface: str, **arguments: Any) -> Steps:
    return lambda session: session.call("qemu_pcap_start", interface=interface, **arguments)


def test_capture_permission(user: Account, wire: Wire) -> None:
    found = failure_of(user, capture_on(wire.near), "--allow-interface", wire.near, before=CAPABILITIES_VOID)
    assert found.code == "capture.permission"
    assert "lacks CAP_NET_RAW" in str(found)
    assert "no-new-privileges" in str(found)
    assert "setcap.sh" in str(found)
    assert list(user.home.rglob("*.pcap")) == []


def test_capture_no_such_interface(user: Account) -> None:
    found = failure_of(user, capture_on("rvos-br0"))
    assert found.code == "capture.no_such_interface"
    assert "qemu_boot(network=true)" in str(found)


def test_capture_interface_down(user: Account, wire: Wire) -> None:
    wire.set_state(wire.near, "down")
    found = failure_of(user, capture_on(wire.near), "--allow-interface", wire.near)
    assert found.code == "capture.interface_down"
    assert list(user.home.rglob("*.pcap")) == []


@pytest.mark.parametrize("name", ["lo", "near0"])
def test_capture_interface_not_allowed(user: Account, wire: Wire, name: str) -> None:  # noqa: ARG001
    found = failure_of(user, capture_on(name))
    assert found.code == "capture.interface_not_allowed"
    assert f"--allow-interface {name}" in str(found)


def test_capture_bad_filter_has_libpcaps_text_and_the_filter(user: Account, wire: Wire) -> None:
    found = failure_of(user, capture_on(wire.near, filter="udp prot 53"), "--allow-interface", wire.near)
    assert found.code == "capture.bad_filter"
    assert "'udp prot 53'" in str(found)
    assert "libpcap: can't parse filter expression: syntax error" in str(found)
    assert list(user.home.rglob("*.pcap")) == []


@pytest.mark.parametrize("text", ["udp\0port 53", "tcp or " * 1000 + "udp", "größer 5"])
def test_a_filter_that_libpcap_may_not_be_given_is_bad(user: Account, wire: Wire, text: str) -> None:
    found = failure_of(user, capture_on(wire.near, filter=text), "--allow-interface", wire.near)
    assert found.code == "capture.bad_filter"


def test_capture_output_unwritable(user: Account, wire: Wire) -> None:
    folder = user.home / "closed"
    folder.mkdir(mode=0o755)  # root's
    found = failure_of(user, capture_on(wire.near), "--allow-interface", wire.near, "--capture-dir", folder)
    assert found.code == "capture.output_unwritable"
    assert "Permission denied" in str(found)


def test_capture_no_space_at_the_start(user: Account, wire: Wire, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1020 << 10))
    found = failure_of(user, capture_on(wire.near), "--allow-interface", wire.near, "--capture-dir", small_disk)
    assert found.code == "capture.no_space"


@pytest.mark.parametrize("arguments", [{}, {"capture": "c9"}])
def test_capture_unknown(user: Account, arguments: dict[str, str]) -> None:
    found = failure_of(user, lambda session: session.call("qemu_pcap_stop", **arguments))
    assert found.code == "capture.unknown"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../../../etc/passwd"])
def test_a_file_outside_the_allowed_folders_is_not_read(user: Account, path: str) -> None:
    found = failure_of(user, lambda session: session.call("qemu_pcap_read", path=path))
    assert found.code == "capture.unreadable"
    assert "--read-dir" in str(found)


def test_a_link_out_of_the_capture_folder_is_not_followed(user: Account) -> None:
    user.captures.mkdir(parents=True)
    (user.captures / "x.pcap").symlink_to("/etc/passwd")
    found = failure_of(user, lambda session: session.call("qemu_pcap_read", path=str(user.captures / "x.pcap")))
    assert found.code == "capture.unreadable"
    assert "--read-dir" in str(found)


def test_a_link_that_leads_in_a_circle_is_unreadable(user: Account) -> None:
    user.captures.mkdir(parents=True)
    (user.captures / "x.pcap").symlink_to("x.pcap")
    found = failure_of(user, lambda session: session.call("qemu_pcap_read", path=str(user.captures / "x.pcap")))
    assert found.code == "capture.unreadable"


def test_a_file_that_is_no_capture_is_unreadable(user: Account) -> None:
    folder = user.home / "more"
    folder.mkdir()
    (folder / "x.pcap").write_bytes(b"no capture, and long enough for a header")
    found = failure_of(
        user, lambda session: session.call("qemu_pcap_read", path=str(folder / "x.pcap")), "--read-dir", folder
    )
    assert found.code == "capture.unreadable"
    assert "libpcap: unknown file format" in str(found)


def test_network_permission(user: Account) -> None:
    found = failure_of(user, lambda session: session.boot(), "--no-rootless", before=CAPABILITIES_VOID)
    assert found.code == "network.permission"
    assert "lacks CAP_NET_ADMIN" in str(found)
    assert "--rootless" in str(found)
    assert link_names() == set()


def test_network_tun_missing(user: Account) -> None:
    """A tmpfs over /dev/net, in this run's own mount namespace."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    try:
        found = failure_of(user, lambda session: session.boot())
    finally:
        subprocess.run(["umount", "/dev/net"], check=True)
    assert found.code == "network.tun_missing"
    assert link_names() == set()


def test_network_tun_permission(user: Account) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    try:
        os.mknod("/dev/net/tun", 0o020600, os.makedev(10, 200))
        found = failure_of(user, lambda session: session.boot())
    finally:
        subprocess.run(["umount", "/dev/net"], check=True)
    assert found.code == "network.tun_permission"
    assert "mode 0600" in str(found)
    assert link_names() == set()


def with_bridge(user: Account, text: str) -> Steps:
    root = user.home / "tree"
    root.mkdir()
    (root / "rawtap.toml").write_text(f'profile = "u-boot-riscv64"\nbridge = "{text}"\n', encoding="utf-8")
    return lambda session: session.call("qemu_boot", project_root=str(root), network=True)


@pytest.mark.parametrize("name", ["a-name-of-16-char", "br%d", "a/b", ""])
def test_network_name_invalid(user: Account, name: str) -> None:
    found = failure_of(user, with_bridge(user, name))
    assert found.code == "network.name_invalid"
    assert link_names() == set()


def test_network_exists_where_the_name_is_no_bridges(user: Account, wire: Wire) -> None:
    found = failure_of(user, with_bridge(user, wire.near))
    assert found.code == "network.exists"
    assert "its kind is veth" in str(found)


def test_network_exists_where_a_projects_file_names_a_bridge_of_the_hosts(user: Account) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="hosts-br0", kind="bridge")
    try:
        found = failure_of(user, with_bridge(user, "hosts-br0"))
        assert found.code == "network.exists"
        assert "--allow-interface hosts-br0" in str(found)
    finally:
        Wire.remove("hosts-br0")


def test_network_exists_where_the_subnet_is_in_use(user: Account, wire: Wire) -> None:
    with IPRoute() as netlink:
        netlink.addr("add", index=netlink.link_lookup(ifname=wire.near)[0], address="10.0.2.15", prefixlen=24)
    found = failure_of(user, lambda session: session.boot())
    assert found.code == "network.exists"
    assert "near0 has 10.0.2.15/24" in str(found)
    assert link_names() == {wire.near, wire.far}


def test_guest_not_found_names_the_kernel_path(user: Account) -> None:
    root = user.home / "tree"
    root.mkdir()
    (root / "rawtap.toml").write_text('kernel = "build/kernel.bin"\n', encoding="utf-8")
    found = failure_of(user, lambda session: session.call("qemu_boot", project_root=str(root)))
    assert found.code == "guest.not_found"
    assert f"{root}/build/kernel.bin" in str(found)
    empty = failure_of(user, lambda session: session.call("qemu_boot", project_root=str(user.home)))
    assert empty.code == "guest.not_found"
    assert "target/riscv64gc-unknown-none-elf/release/kernel.bin" in str(empty)


def test_guest_qemu_missing_names_the_package(user: Account) -> None:
    """A PATH with setpriv and without QEMU."""
    folder = user.home / "bin"
    folder.mkdir()
    (folder / "setpriv").symlink_to("/usr/bin/setpriv")

    narrow = replace(user, path=f"{folder}")
    found = failure_of(narrow, lambda session: session.boot(network=False))
    assert found.code == "guest.qemu_missing"
    assert "qemu-system-misc" in str(found)


def test_guest_exited_at_the_start_has_exit_code_and_stderr(user: Account) -> None:
    root = user.home / "tree"
    root.mkdir()
    (root / "rawtap.toml").write_text('profile = "u-boot-riscv64"\ncpu = "no-such-cpu"\n', encoding="utf-8")
    found = failure_of(user, lambda session: session.call("qemu_boot", project_root=str(root), network=True))
    assert found.code == "guest.exited"
    assert "exit code 1" in str(found)
    assert "no-such-cpu" in str(found)
    assert link_names() == set()


def test_a_qemu_that_ends_before_its_network_is_made_says_so_itself(user: Account) -> None:
    """Its TAP goes with it, at any moment on the way of that to the bridge."""
    program = user.home / "bin/qemu-system-riscv64"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n", encoding="ascii")
    program.chmod(0o755)
    broken = replace(user, path=f"{program.parent}:{user.path}")
    found = failure_of(broken, lambda session: session.boot())
    assert found.code == "guest.exited", str(found)
    assert "exit code 3" in str(found)
    assert "no memory" in str(found)
    assert link_names() == set()


def test_an_interface_that_goes_between_two_questions_is_a_network_error(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a boot then asks QEMU about: its TAP goes at any moment when it ends."""
    ask = IoctlEthtool.get_stringset

    def ask_and_lose(self: IoctlEthtool, **which: int) -> object:
        found = ask(self, **which)
        wire.remove(wire.near)
        return found

    bridge = links.all_links()[0]
    monkeypatch.setattr(IoctlEthtool, "get_stringset", ask_and_lose)
    with pytest.raises(NetworkFailed, match=r"cannot turn the transmit offloads of near0 off \(NoSuchDevice near0"):
        taps.plug(wire.near, bridge)


def test_guest_not_running(user: Account) -> None:
    found = failure_of(user, lambda session: session.call("qemu_send", command="help"))
    assert found.code == "guest.not_running"


def test_guest_already_running(user: Account) -> None:
    async def twice(session: Session) -> None:
        await session.boot(network=False)
        await session.boot(network=False)

    assert failure_of(user, twice).code == "guest.already_running"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bridge = 5", "bridge"),
        ("unknown_key = 1", "unknown_key"),
        ("not toml", "Expected '='"),
        ('machine = "virt,dumpdtb=/tmp/x"', "machine"),
        ('profile = "none"', "'none'"),
    ],
)
def test_profile_invalid_names_what_is_wrong(user: Account, text: str, expected: str) -> None:
    root = user.home / "tree"
    root.mkdir()
    (root / "rawtap.toml").write_text(text + "\n", encoding="utf-8")
    found = failure_of(user, lambda session: session.call("qemu_boot", project_root=str(root)))
    assert found.code == "profile.invalid"
    assert expected in str(found)


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("qemu_pcap_start", {"filtr": "icmp"}, "filtr"),
        ("qemu_pcap_start", {"interface": "lo", "snaplen": 0}, "snaplen"),
        ("qemu_pcap_read", {"limit": "many"}, "limit"),
        ("qemu_boot", {"name": "../x"}, "name"),
        ("qemu_boot", {"extra_drives": [{"path": "x", "driver": "nbd"}]}, "driver"),
    ],
)
def test_request_invalid_names_the_argument(user: Account, tool: str, arguments: dict[str, Any], expected: str) -> None:
    found = failure_of(user, lambda session: session.call(tool, **arguments))
    assert found.code == "request.invalid"
    assert expected in str(found)


def test_a_user_outside_the_group_is_told_so(user: Account) -> None:
    """The private interpreter is there and closed to this user: nobody."""
    nobody = Account("nobody", 65534, 65534, user.home)
    shutil.chown(user.home, 65534, 65534)
    found = failure_of(nobody, lambda session: session.boot(), "--no-rootless")
    assert found.code == "network.permission"
    assert "may be executed by group" in str(found)
    assert "nobody is not in it" in str(found)


def test_the_doctor_names_each_cure(user: Account) -> None:
    nobody = Account("nobody", 65534, 65534, user.home)
    command = nobody.command(RAWTAP, "doctor", "--no-rootless")
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "FAIL  cap_net_raw" in told.stdout
    assert "setcap.sh" in told.stdout
    well = subprocess.run(user.command(RAWTAP, "doctor"), capture_output=True, text=True, check=False)
    assert (well.returncode, well.stderr) == (0, "")
    assert "FAIL" not in well.stdout
