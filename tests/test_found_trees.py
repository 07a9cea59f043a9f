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
