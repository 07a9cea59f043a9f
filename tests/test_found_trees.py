"""Trees that are known by their files, booted: what they are taken for is what they are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anyio

from support import PATIENCE, Account, serving

IMAGES = Path(sys.prefix) / "linux"  # made by scripts/_linux_guest.sh


def test_a_linux_tree_without_an_initrd_starts_with_this_machines_busybox(user: Account) -> None:
    root = user.home / "linux"
    (root / "arch/x86/boot").mkdir(parents=True)
    shutil.copyfile(IMAGES / "vmlinuz", root / "arch/x86/boot/bzImage")
    (root / "Kbuild").write_text("", encoding="ascii")
    for path in (root, root / "Kbuild", root / "arch/x86/boot/bzImage"):
        shutil.chown(path, user.uid, user.gid)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), timeout=PATIENCE)
            assert (booted["profile"], booted["prompt_seen"], booted["warnings"]) == ("linux", True, [])
            answer = await session.call("qemu_send", command="cd /sys; busybox true; pwd", timeout=PATIENCE)
            assert (answer["matched"], answer["exit_status"]) == (True, 0)
            assert "/sys" in answer["output"].splitlines()
            ended = await session.call("qemu_shutdown", timeout=PATIENCE)
            assert ended["reason"] == "guest-shutdown"

    anyio.run(scenario)


def test_a_boot_tells_what_the_builds_own_line_says_and_the_guest_has_not(user: Account) -> None:
    root = user.home / "build"
    root.mkdir()
    shutil.copyfile(IMAGES / "vmlinuz", root / "bzImage")
    line = "exec qemu-system-x86_64 -M pc -kernel bzImage -append panic=-1 -smbios type=1 -S ${EXTRA_ARGS}"
    (root / "start-qemu.sh").write_text(f"#!/bin/sh\n{line}\n", encoding="ascii")
    for path in (root, *root.iterdir()):
        shutil.chown(path, user.uid, user.gid)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), wait_for_prompt=False)
            assert booted["profile"] == "buildroot"
            assert [each.partition(": ")[0] for each in booted["warnings"]] == [
                "start-qemu.sh, not carried",
                "start-qemu.sh, otherwise here",
            ]
            assert "-smbios type=1" in booted["warnings"][0]

    anyio.run(scenario)
