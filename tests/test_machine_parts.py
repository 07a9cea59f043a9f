"""What a machine has besides: memory in slots, watchdogs and what they do, an end at which QEMU stays, vsock."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import anyio
import pytest

from support import Account, serving
from tiny_guest import powering_off

_ENOUGH = 120

# A PC's boot sector that starts the watchdog ib700 with no time left (hw/watchdog/wdt_ib700.c).
_SECTOR = """
    .code16
    .globl _start
_start:
    mov $0x443, %dx
    mov $0xf, %al
    out %al, %dx
1:  hlt
    jmp 1b
    .org 510
    .word 0xaa55
"""


def pc(user: Account, toml: str) -> Path:
    root = user.home / "pc"
    root.mkdir()
    (root / "sector.s").write_text(_SECTOR, encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "sector.o", root / "sector.s"], check=True)
    link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext=0x7c00", "-e", "_start", "-o", root / "disk.img"]
    subprocess.run([*link, root / "sector.o"], check=True)
    with (root / "disk.img").open("ab") as image:
        image.truncate(1 << 20)
    drive = 'drives = [{ path = "disk.img", interface = "ide", overlay = true }]\n'
    (root / "rawtap.toml").write_text(f'arch = "x86_64"\nmachine = "pc"\n{drive}{toml}', encoding="utf-8")
    os.chown(root / "disk.img", user.uid, user.gid)
    return root


def board(user: Account) -> Path:
    """For a board with a Cortex-M3, whose own watchdog it starts (Arm DDI 0479, 4.7) and never feeds."""
    vectors = [0x20001000, 0x41, 0x4B, 0x4B]  # stack, start, NMI, hard fault
    code = [0x4802, 0x2101, 0x6001, 0x2103, 0x6081, 0xE7FE]  # LOAD = 1, CONTROL = interrupt and reset, stay
    root = user.home / "board"
    root.mkdir()
    image = struct.pack("<4I", *vectors).ljust(0x40, b"\0") + struct.pack("<6HI", *code, 0x40008000)
    (root / "kernel.bin").write_bytes(image)
    (root / "rawtap.toml").write_text(
        'arch = "arm"\nmachine = "mps2-an385"\nmemory = "16M"\nkernel = "kernel.bin"\n', encoding="utf-8"
    )
    return root


def test_memory_is_in_slots_and_modules_of_a_line(user: Account) -> None:
    root = pc(user, "")
    line = (
        "qemu-system-x86_64 -M pc -nographic -drive file=disk.img,format=raw -snapshot -m 128M,slots=3,maxmem=1G "
        "-object memory-backend-ram,id=a,size=128M -device pc-dimm,memdev=a"
    )

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            assert booted["warnings"] == []
            there = await session.call("qemu_monitor", command="query-memory-size-summary")
            assert str(128 << 20) in str(there)
            modules = await session.call("qemu_monitor", command="query-memory-devices")
            assert "rawtap-dimm0" in str(modules)
            await session.call("qemu_shutdown", timeout=0)
            slots = {"count": 1, "most": "1G", "modules": ["1M", "1M"]}
            failed = await session.refused("qemu_boot", project_root=str(root), overrides={"memory_slots": slots})
            assert "2 modules do not fit into 1 slots" in str(failed)

    anyio.run(scenario)


@pytest.mark.parametrize("of", ["pc", "board"])
def test_a_watchdog_that_fires_does_what_is_said_be_it_the_boards_own(user: Account, of: str) -> None:
    root = board(user) if of == "board" else pc(user, 'devices = [{ driver = "ib700" }]\n')

    async def scenario() -> None:
        async with serving(user) as session:
            asked = {"project_root": str(root), "timeout": _ENOUGH}
            failed = await session.refused("qemu_boot", **asked, overrides={"watchdog_action": "poweroff"})
            assert failed.code == "guest.exited"
            assert "watchdog poweroff" in str(failed)
            await session.call("qemu_shutdown")
            await session.call("qemu_boot", **asked | {"timeout": 0}, overrides={"watchdog_action": "pause"})
            with anyio.fail_after(_ENOUGH):
                while "watchdog pause" not in str((await session.call("qemu_status"))["guests"][0]["trouble"]):
                    await anyio.sleep(0.1)
            status = await session.call("qemu_monitor", command="query-status")
            assert "watchdog" in str(status)

    anyio.run(scenario)


def test_a_guest_that_powers_off_is_kept_where_it_is_wanted(user: Account) -> None:
    root = powering_off(user, "")
    line = "qemu-system-aarch64 -M virt -cpu cortex-a53 -nographic -no-shutdown -kernel kernel"

    async def scenario() -> None:
        async with serving(user) as session:
            asked = {"project_root": str(root), "qemu_command": line, "timeout": 0}
            booted = await session.call("qemu_boot", **asked)
            assert booted["warnings"] == []
            with anyio.fail_after(_ENOUGH):
                while "QEMU keeps it as it was" not in str((await session.call("qemu_status"))["guests"][0]["trouble"]):
                    await anyio.sleep(0.1)
            ended = await session.call("qemu_shutdown")
            assert ended["exit_code"] == 0

    anyio.run(scenario)


def test_a_machine_without_vsock_says_so_and_boots_nothing(user: Account) -> None:
    root = pc(user, "vsock = 3\n")

    async def scenario() -> None:
        async with serving(user) as session:
            if subprocess.run(user.command("test", "-w", "/dev/vhost-vsock"), check=False).returncode == 0:
                booted = await session.call("qemu_boot", project_root=str(root), timeout=0)
                assert b"vhost-vsock-pci" in Path(f"/proc/{booted['pid']}/cmdline").read_bytes()
            else:
                failed = await session.refused("qemu_boot", project_root=str(root))
                assert failed.code == "profile.invalid"
                assert "/dev/vhost-vsock" in str(failed)
                assert (await session.call("qemu_status"))["guests"] == []

    anyio.run(scenario)


def test_a_board_without_a_card_is_refused_where_a_network_is_wanted(user: Account) -> None:
    """QEMU only warns, and the guest would be on no network."""
    root = board(user)

    async def scenario() -> None:
        async with serving(user) as session:
            asked = {"project_root": str(root), "network": "user", "timeout": 0, "gdb": True}
            booted = await session.call("qemu_boot", **asked, overrides={"nic": "board"})
            assert booted["network"] is not None
            await session.call("qemu_shutdown", timeout=0)
            raspi = {"machine": "raspi2b", "memory": "", "smp": 0}
            failed = await session.refused("qemu_boot", **asked, overrides=raspi | {"nic": "board"})
            assert (failed.code, "netdev net0 has no peer" in str(failed)) == ("profile.invalid", True)
            second = {"nic": "board", "cards": [{"nic": "board"}]}
            assert "net1 has no peer" in str(await session.refused("qemu_boot", **asked, overrides=second))
            assert (await session.call("qemu_status"))["guests"] == []

    anyio.run(scenario)
