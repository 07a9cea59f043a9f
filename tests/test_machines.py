"""A guest of each architecture, from Debian's u-boot-qemu: booted, on the wire, and ended."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from support import (
    PATIENCE,
    Account,
    ToolFailed,
    command_of,
    link_names,
    next_start,
    read_back,
    serving,
)
from test_endings import raw_client

ARCHITECTURES = ["riscv64", "aarch64", "arm", "x86_64"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_architecture_boots_pings_and_ends(user: Account, arch: str) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(profile=f"u-boot-{arch}")
            assert booted["prompt_seen"]
            assert f"qemu-system-{arch}" in command_of(booted["pid"])
            assert booted["accelerator"] == "tcg"
            if arch == "x86_64":  # this build looks for PCI devices only when it is told to
                await session.call("qemu_send", command="pci enum; virtio scan")
            await session.call("qemu_pcap_start", filter="icmp")
            assert "is alive" in await session.ping()
            stopped = await session.call("qemu_pcap_stop")
            assert stopped["packets"] == read_back(stopped["path"]) == 2
            await session.call("qemu_snapshot", action="save", tag="a")
            await session.call("qemu_send", command="setenv mark 5")
            await session.call("qemu_snapshot", action="restore", tag="a")
            assert "not defined" in (await session.call("qemu_send", command="printenv mark"))["output"]
            assert "is alive" in await session.ping()
            ended = await session.call("qemu_shutdown")
            assert ended["exit_code"] == 0
            expected = {"host-qmp-quit"} if arch == "x86_64" else {"guest-shutdown", "console command 'poweroff'"}
            assert ended["reason"] in expected

    anyio.run(scenario)
    assert link_names() == set()


def test_a_machine_starts_its_own_firmware_on_the_serial_console(user: Account) -> None:
    """With as much memory as QEMU gives it: pSeries takes none but a multiple of 256 MiB."""
    root = user.home / "machine"
    root.mkdir()
    (root / "rawtap.toml").write_text('bios = "default"\nprompt = "0 > "\n', encoding="utf-8")

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call(
                "qemu_boot", project_root=str(root), overrides={"arch": "ppc64"}, timeout=5 * PATIENCE
            )
            assert booted["prompt_seen"], booted
            assert "3  ok" in await session.typed("1 2 + .")

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("mode", "flags", "is_tried"), [(0o600, "vmx", False), (0o666, "svm", True), (0o666, "", False)]
)
def test_the_answer_says_what_runs_the_guest_whether_kvm_is_open_or_not(
    user: Account, tmp_path: Path, mode: int, flags: str, is_tried: bool
) -> None:
    """Files in the places of the device and of the processors' flags, in this run's own mount namespace.

    To the user the device is closed, or open and no KVM: then QEMU is told to try KVM first, cannot, and emulates.
    Where the processor cannot virtualize it is not tried, since such a KVM may let the guest stand still.
    """
    stand_ins = {"/dev/kvm": tmp_path / "kvm", "/proc/cpuinfo": tmp_path / "cpuinfo"}
    stand_ins["/dev/kvm"].touch()
    stand_ins["/dev/kvm"].chmod(mode)
    stand_ins["/proc/cpuinfo"].write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(profile=f"u-boot-{os.uname().machine}", network=False)
            assert booted["prompt_seen"]
            assert booted["accelerator"] == "tcg"
            assert ("-accel kvm" in command_of(booted["pid"])) == is_tried
            other = next(each for each in ARCHITECTURES if each != os.uname().machine)
            foreign = await session.boot(profile=f"u-boot-{other}", network=False, name="foreign")
            assert "-accel kvm" not in command_of(foreign["pid"])

    with ExitStack() as stack:
        for place, stand_in in stand_ins.items():
            subprocess.run(["mount", "--bind", stand_in, place], check=True)
            stack.callback(subprocess.run, ["umount", place], check=True)
        anyio.run(scenario)


def asked(path: str, packet: bytes) -> bytes:
    """A debugger's question and all that came up to the stub's answer (GDB Remote Serial Protocol, "Overview").

    The stub may tell unasked before that, that the guest has stopped.
    """
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.settimeout(PATIENCE)
        debugger.connect(path)
        debugger.sendall(b"$" + packet + b"#%02x" % (sum(packet) % 256))
        found = b""
        while not re.search(rb"\+\$[^#]*#..$", found):
            found += debugger.recv(4096)
    return found


def asks_as(account: Account, path: str) -> int:
    """Exit code of a connection to a socket, made by an account."""
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    return subprocess.run(
        account.command("/usr/bin/python3", "-c", code, path), check=False, stderr=subprocess.DEVNULL
    ).returncode


def test_a_debugger_can_connect_and_nobody_else(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(network=False, gdb=True)
            assert booted["prompt_seen"]
            scheme, _, path = booted["gdb"].partition(":")
            assert scheme == "unix"
            assert len(path) < 108
            folder = Path(path).parent
            assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, user.uid)
            assert await anyio.to_thread.run_sync(asks_as, Account("nobody", 65534, 65534, user.home), path) != 0
            answer = await anyio.to_thread.run_sync(asked, path, b"?")
            (row,) = (await session.call("qemu_status"))["guests"]
            assert (row["gdb"], row["accelerator"]) == (booted["gdb"], booted["accelerator"])
            assert b"+$T05" in answer  # SIGTRAP: a debugger that comes stops the guest
            again = await session.boot(network=False, gdb=False, name="plain")
            assert again["gdb"] is None
            ended = await session.call("qemu_shutdown", timeout=0)
            assert ended["exit_code"] == 0
            assert not folder.exists()

    anyio.run(scenario)


def test_the_debuggers_socket_goes_with_the_guest_however_it_ends(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(network=False, gdb=True)
            folder = Path(booted["gdb"].removeprefix("unix:")).parent
            os.kill(booted["pid"], 9)
            await session.call("qemu_read", wait_for="never")  # till its console closes, with its last thread
            assert not (await session.boot(network=False))["gdb"]  # of that name: what was left is released first
            assert not folder.exists()
            with pytest.raises(ToolFailed, match=r"guest\.exited"):
                await session.boot(network=False, gdb=True, name="x", memory="1K")

    anyio.run(scenario)


def test_a_runtime_folder_of_a_long_name_is_passed_over(user: Account) -> None:
    long = user.home / ("r" * 100)
    long.mkdir()
    os.chown(long, user.uid, user.gid)
    short = user.home / "run"
    short.mkdir()
    os.chown(short, user.uid, user.gid)

    async def scenario(runtime: Path) -> str:
        async with serving(replace(user, more=(f"XDG_RUNTIME_DIR={runtime}",))) as session:
            return str((await session.boot(network=False, gdb=True))["gdb"])

    assert anyio.run(scenario, short).startswith(f"unix:{short}/")
    assert not anyio.run(scenario, long).startswith(f"unix:{long}/")
    for runtime in (short, long):  # the folder in which watchers find servers stays
        assert [path.name for path in runtime.rglob("*")] in ([], ["rawtap"])


def test_the_servers_end_removes_the_debuggers_socket(user: Account) -> None:
    with raw_client(user) as client:
        booted = client.call("qemu_boot", profile="u-boot-riscv64", gdb=True)
        path = Path(booted["gdb"].removeprefix("unix:"))
        assert path.is_socket()
        client.process.terminate()
        assert client.process.wait(timeout=PATIENCE) == 0
    assert not path.parent.exists()


def test_a_killed_servers_debugger_socket_goes_with_the_next_start_and_a_living_ones_stays(user: Account) -> None:
    with raw_client(user) as living, raw_client(user) as killed:
        alive, left = (
            Path(client.call("qemu_boot", profile="u-boot-riscv64", gdb=True)["gdb"].removeprefix("unix:")).parent
            for client in (living, killed)
        )
        killed.process.kill()
        killed.process.wait()
        next_start(user, lambda: not left.exists())
        assert alive.exists()
