"""Guests that end by themselves, or die in a way that only QEMU sees: the answers say which, and with what code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import anyio
import pytest

from support import Account, link_names, serving

# A multiboot kernel for a PC. It says a line on its serial port, and goes on as it is told.
_KERNEL = """
    .section .text
    .align 4
    .long 0x1badb002, 0, -0x1badb002
    .globl _start
_start:
    mov $hello, %esi
1:  lodsb
    test %al, %al
    jz 2f
    mov $0x3f8, %dx
    out %al, %dx
    jmp 1b
2:  {then}
3:  hlt
    jmp 3b
hello: .asciz "here it is\\n"
none:  .word 0
    .long 0
"""
# It says a letter and has the keyboard's controller reset the processor.
_SECTOR = """
    .code16
    .globl _start
_start:
    mov $'x', %al
    mov $0x3f8, %dx
    out %al, %dx
    mov $0xfe, %al
    out %al, $0x64
1:  hlt
    jmp 1b
    .org 510
    .word 0xaa55
"""
_ENOUGH = 100
_FAULTS = "lidt none\n int3"
_ENDS = "mov $0xf4, %dx\n mov $0x10, %al\n out %al, %dx"
_DEBUG_EXIT = 'devices = [{ driver = "isa-debug-exit", iobase = "0xf4", iosize = 4 }]\n'


def kernel(user: Account, then: str, toml: str = "") -> Path:
    """A project with such a kernel."""
    root = user.home / "project"
    root.mkdir()
    (root / "kernel.s").write_text(_KERNEL.format(then=then), encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "kernel.o", root / "kernel.s"], check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext=0x100000", "-o", root / "kernel", root / "kernel.o"]
    subprocess.run(link, check=True)
    (root / "rawtap.toml").write_text(
        f'arch = "x86_64"\nmachine = "pc"\nkernel = "kernel"\nprompt = "never "\n{toml}', encoding="ascii"
    )
    os.chown(root / "rawtap.toml", user.uid, user.gid)
    return root


def test_a_triple_fault_is_told_as_one_with_its_place(user: Account) -> None:
    root = kernel(user, _FAULTS)
    names = subprocess.run(["nm", root / "kernel"], capture_output=True, text=True, check=True).stdout
    start = int(next(line.split()[0] for line in names.splitlines() if line.endswith(" _start")), 16)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), timeout=_ENOUGH)
            assert "a triple fault at 0x" in booted["next_step"]
            (row,) = (await session.call("qemu_status"))["guests"]
            assert (row["state"], row["resets"]) == ("running", 1)
            place = int(row["trouble"].partition(" at 0x")[2][:8], 16)
            assert start <= place < start + 64
            ended = await session.call("qemu_shutdown")
            told, pointer = row["trouble"].split("; ")
            assert pointer == 'qemu_debug(action="crash") explains the triple fault'
            assert ended["reason"] == f"{told}; host-qmp-quit"
            assert ended["stderr"] == "", "QEMU's log of resets is none of its words"

    anyio.run(scenario)


def test_a_triple_fault_at_which_qemu_ends_is_told_as_well(user: Account) -> None:
    root = kernel(user, _FAULTS, 'on_reset = "stop"\n')

    async def scenario() -> None:
        async with serving(user) as session:
            failed = await session.refused("qemu_boot", project_root=str(root), timeout=_ENOUGH)
            assert "guest-reset: reset by the processor: a triple fault, at which QEMU ends" in str(failed)

    anyio.run(scenario)


@pytest.mark.parametrize("network", [False, True])
def test_a_guest_that_ends_qemu_while_it_boots_can_be_asked_for_its_code_and_its_console(
    user: Account, network: bool
) -> None:
    root = kernel(user, _ENDS, _DEBUG_EXIT)

    async def scenario() -> None:
        async with serving(user) as session:
            failed = await session.refused("qemu_boot", project_root=str(root), timeout=_ENOUGH, network=network)
            assert failed.code == "guest.exited"
            assert "exit code 33, the guest ended QEMU: it wrote 0x10 to isa-debug-exit; " in str(failed)
            assert "here it is" in str(failed)
            assert link_names() == set()
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["state"] == "exited"
            assert "here it is" in (await session.call("qemu_read", position=0))["output"]
            assert (await session.call("qemu_shutdown"))["exit_code"] == 33
            assert (await session.call("qemu_status"))["guests"] == []
            failed = await session.refused("qemu_boot", project_root=str(root), timeout=_ENOUGH, network=network)
            assert failed.code == "guest.exited", "an ended guest's name is free"

    anyio.run(scenario)


def test_a_pc_that_its_firmware_restarts_had_no_triple_fault(user: Account) -> None:
    """SeaBIOS has one of its own where a guest asks the keyboard's controller for a reset, as Linux does."""
    root = kernel(user, "nop", 'drives = [{ path = "sector", interface = "ide" }]\noverlay = true\n')
    (root / "sector.s").write_text(_SECTOR, encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "sector.o", root / "sector.s"], check=True)
    link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext=0x7c00", "-e", "_start", "-o", root / "sector"]
    subprocess.run([*link, root / "sector.o"], check=True)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), timeout=_ENOUGH, overrides={"kernel": ""})
            assert "reboot loop" in booted["next_step"]
            (row,) = (await session.call("qemu_status"))["guests"]
            assert "triple fault at" not in row["trouble"]

    anyio.run(scenario)
