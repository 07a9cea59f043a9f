"""Guests with several consoles, each read and written by its name, and with exits that tell a code."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from pathlib import Path

import anyio
import pytest

from support import Account, ToolFailed, serving
from tiny_guest import fail, powering_off

_ENOUGH = 120

# A boot sector that tells each of a PC's ports its name, gives back what comes on the second one, and ends at a "q".
_SECTOR = """
    .code16
    .globl _start
_start:
    ljmp $0x7c0, $1f
1:  mov %cs, %ax
    mov %ax, %ds
    mov $0x3f8, %dx
    mov $main, %si
    call say
    mov $0x2f8, %dx
    mov $second, %si
    call say
    mov $0xe9, %dx
    mov $debug, %si
    call say
2:  mov $0x2fd, %dx
    in %dx, %al
    test $1, %al
    jz 2b
    mov $0x2f8, %dx
    in %dx, %al
    cmp $'q', %al
    je 3f
    out %al, %dx
    out %al, %dx
    jmp 2b
3:  mov $0xf4, %dx
    mov $0x15, %al
    out %al, %dx
4:  hlt
    jmp 4b
say:
    lodsb
    test %al, %al
    jz 5f
    out %al, %dx
    jmp say
5:  ret
main: .asciz "this is the main one\\n"
second: .asciz "this is the second one\\n"
debug: .asciz "this is for debugging\\n"
    .org 510
    .word 0xaa55
"""
_LINE = (
    "qemu-system-i386 -drive file=disk.img,format=raw -snapshot -m 64 -device isa-debug-exit,iobase=0xf4,iosize=0x04 "
    "-nographic -serial mon:stdio -chardev file,id=log,path=second.log -serial chardev:log -debugcon file:debug.log"
)


def project(user: Account) -> Path:
    root = user.home / "project"
    root.mkdir()
    (root / "sector.s").write_text(_SECTOR, encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "sector.o", root / "sector.s"], check=True)
    link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext=0", "-e", "_start", "-o", root / "disk.img"]
    subprocess.run([*link, root / "sector.o"], check=True)
    with (root / "disk.img").open("ab") as image:
        image.truncate(1 << 20)
    (root / "rawtap.toml").write_text("", encoding="utf-8")
    for path in (root, root / "disk.img"):
        os.chown(path, user.uid, user.gid)
    return root


def test_each_port_of_a_line_is_a_console_that_is_read_and_written_by_its_name(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=_LINE, timeout=0)
            assert booted["warnings"] == []
            assert 'serial = ["serial0", "log"]\n' in booted["rawtap_toml"]
            assert "debugcon = true\n" in booted["rawtap_toml"]
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["consoles"] == ["log", "debugcon"]
            for console, words in (("serial0", "main"), ("log", "second"), ("debugcon", "debugging")):
                said = await session.call("qemu_read", console=console, wait_for=f"{words}", timeout=_ENOUGH)
                assert said["matched"], said
            assert "second" not in (await session.call("qemu_read", position=0))["output"]
            echoed = await session.call("qemu_send", command="ab", console="log", enter=False, wait_for="aabb")
            assert echoed["matched"], echoed
            whole = await session.call("qemu_read", console="log", position=0)
            assert whole["output"] == "this is the second one\naabb"
            failed = await session.refused("qemu_read", console="logg")
            assert "did you mean 'log'" in str(failed)
            asked = {"command": "q", "console": "log", "enter": False, "timeout": _ENOUGH}
            with contextlib.suppress(ToolFailed):  # the call may be over before the end is seen
                await session.call("qemu_send", **asked)
            told = await session.until(lambda answer: answer["guests"][0]["exit"], "qemu_status")
            assert "exit code 43" in told["guests"][0]["exit"]
            assert (await session.call("qemu_shutdown"))["exit_code"] == 0x15 << 1 | 1

    anyio.run(scenario)


def _u_type(opcode: int, register: int, value: int) -> int:
    return value << 12 | register << 7 | opcode


def _i_type(function: int, to: int, source: int, value: int, opcode: int = 0x13) -> int:
    return (value & 0xFFF) << 20 | source << 15 | function << 12 | to << 7 | opcode


# The RISC-V semihosting calls: a number in a0, its argument in a1, and the three instructions that are one.
_A0, _A1, _T0, _T1 = 10, 11, 5, 6
_CALL = (0x01F01013, 0x00100073, 0x40705013)
_WRITE0, _EXIT = 0x04, 0x18


def by_semihosting(user: Account, code: int | None, *, stays: bool = False) -> Path:
    """A RISC-V kernel that speaks by semihosting and ends by it with that code, or by the test device with 9."""
    at = 0x80000000
    text, block = at + 0x100, at + 0x140
    words = [_u_type(0x17, _A1, 0), _i_type(0, _A1, _A1, text - at), _i_type(0, _A0, 0, _WRITE0)]
    words += [0x13] * (-len(words) % 4) + list(_CALL)  # on one page
    if stays:
        words.append(0x6F)  # a jump to itself
    if code is None:
        words += [_u_type(0x37, _T0, 0x100), _u_type(0x37, _T1, fail(9) >> 12), _i_type(0, _T1, _T1, fail(9) & 0xFFF)]
        words += [_T1 << 20 | _T0 << 15 | 2 << 12 | 0x23]
    here = at + len(words) * 4
    words += [_u_type(0x17, _A1, 0), _i_type(0, _A1, _A1, block - here), _i_type(0, _A0, 0, _EXIT), *_CALL]
    image = bytearray(struct.pack(f"<{len(words)}I", *words).ljust(0x100, b"\0"))
    image += b"said by semihosting\n\0".ljust(0x40, b"\0") + struct.pack("<QQ", 0x20026, code or 0)
    root = user.home / "semihosted"
    root.mkdir()
    (root / "kernel").write_bytes(image)
    (root / "rawtap.toml").write_text("", encoding="utf-8")
    return root


@pytest.mark.parametrize(("code", "told"), [(7, 7), (0, 0), (None, 9)])
def test_what_a_program_says_by_semihosting_is_a_console_and_its_code_is_told(
    user: Account, code: int | None, told: int
) -> None:
    root = by_semihosting(user, code)
    line = (
        "qemu-system-riscv64 -M virt -bios none -nographic -semihosting-config enable=on,target=native -kernel kernel"
    )

    async def scenario() -> None:
        async with serving(user) as session:
            failed = await session.refused(
                "qemu_boot", project_root=str(root), qemu_command=line, timeout=_ENOUGH, overrides={"prompt": "never"}
            )
            assert f"exit code {told}," in str(failed)
            assert "said by semihosting" in str(failed)
            assert (await session.call("qemu_shutdown"))["exit_code"] == told

    anyio.run(scenario)


def test_a_line_that_has_a_port_as_well_has_semihosting_beside_it(user: Account) -> None:
    root = by_semihosting(user, None, stays=True)
    line = "qemu-system-riscv64 -M virt -bios none -nographic -semihosting -serial mon:stdio -kernel kernel"

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            assert booted["warnings"] == []
            assert "semihosting = true\n" in booted["rawtap_toml"]
            said = await session.call("qemu_read", console="semihosting", wait_for="by semihosting", timeout=_ENOUGH)
            assert said["matched"], said

    anyio.run(scenario)


def test_a_processor_without_semihosting_is_refused_it(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            overrides = {"semihosting": True, "arch": "x86_64", "machine": "pc", "kernel": "disk.img"}
            failed = await session.refused("qemu_boot", project_root=str(root), overrides=overrides)
            assert failed.code == "profile.invalid"
            assert "x86_64 has no semihosting" in str(failed)

    anyio.run(scenario)


def test_a_guest_that_powers_off_by_psci_ends_well(user: Account) -> None:
    root = powering_off(user, 'arch = "aarch64"\ncpu = "cortex-a53"\nkernel = "kernel"\n')

    async def scenario() -> None:
        async with serving(user) as session:
            failed = await session.refused("qemu_boot", project_root=str(root), timeout=_ENOUGH)
            assert "exit code 0, guest-shutdown" in str(failed)
            assert (await session.call("qemu_shutdown"))["exit_code"] == 0

    anyio.run(scenario)


def test_options_that_no_key_says_are_passed_on_only_where_the_operator_allows_it(user: Account) -> None:
    root = project(user)
    line = f"{_LINE} -d guest_errors -D qemu.log -smbios type=1,manufacturer=ACME"

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            assert any("-smbios" in each and each.startswith("not carried") for each in booted["warnings"])
            await session.call("qemu_shutdown", timeout=0)
            asked = {"project_root": str(root), "overrides": {"qemu_args": ["-smbios", "type=1"]}}
            failed = await session.refused("qemu_boot", **asked)
            assert failed.code == "profile.invalid"
            assert "--allow-qemu-args" in str(failed)
        async with serving(user, "--allow-qemu-args") as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            (told,) = booted["warnings"]
            assert told.startswith("passed on to QEMU unread")
            assert "-smbios type=1,manufacturer=ACME" in told
            assert "qemu_args = [" in booted["rawtap_toml"]
            assert b"manufacturer=ACME" in Path(f"/proc/{booted['pid']}/cmdline").read_bytes()
            assert (root / "qemu.log").exists()
            assert not (user.home / "qemu.log").exists()
            await session.call("qemu_shutdown", timeout=0)
            for word in ("-daemonize", "--sandbox", "-qmp"):
                asked = {"project_root": str(root), "overrides": {"qemu_args": [word, "x"]}}
                failed = await session.refused("qemu_boot", **asked)
                assert "is the server's own to say" in str(failed)

    anyio.run(scenario)
