"""GRUB's own rescue image, as `grub-mkrescue` makes it: a PC and UEFI start from it, be it a CD or a disk."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from support import Account, serving

CONFIG = 'serial\nterminal_output console serial\necho "grub on $grub_platform from $root"\n'


@cache
def image() -> bytes:
    """The image, whose menu tells what it was started by and from, and stays at its prompt."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "tree/boot/grub").mkdir(parents=True)
        (root / "tree/boot/grub/grub.cfg").write_text(CONFIG, encoding="ascii")
        subprocess.run(["grub-mkrescue", "-o", root / "rescue.iso", root / "tree"], check=True, capture_output=True)
        return (root / "rescue.iso").read_bytes()


@pytest.mark.parametrize(
    ("machine", "drive", "words"),
    [
        ({"machine": "pc"}, {}, "grub on pc from hd96"),
        ({"machine": "q35"}, {"interface": "ahci", "media": "disk"}, "grub on pc from hd0"),
        ({"machine": "q35", "uefi": True}, {}, "grub on efi from cd0"),
        ({"machine": "q35", "uefi": True}, {"interface": "nvme"}, "grub on efi from hd0"),
    ],
)
def test_a_rescue_image_starts_as_a_cd_and_as_a_disk(
    user: Account, machine: dict[str, object], drive: dict[str, object], words: str
) -> None:
    root = user.home / "project"
    root.mkdir()
    (root / "rescue.iso").write_bytes(image())
    (root / "rawtap.toml").write_text('arch = "x86_64"\nmemory = "256M"\n', encoding="utf-8")
    drives = [{"path": "rescue.iso", "readonly": True} | drive]

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call(
                "qemu_boot",
                project_root=str(root),
                wait_for_prompt=False,
                timeout=0,
                overrides=machine | {"drives": drives},
            )
            await session.until_said(words, seconds=600)

    anyio.run(scenario)
