"""A kernel for a debugger to look into, built by clang for five architectures."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support import Account

HERE = Path(__file__).parent
GUEST = HERE / "guest.c"


@dataclass(frozen=True)
class Target:
    """How the kernel is built for an architecture, and booted on it."""

    triple: str
    base: int
    options: tuple[str, ...]
    config: str


TARGETS = {
    "riscv64": Target(
        "riscv64-unknown-elf",
        0x80000000,
        ("-march=rv64imac", "-mabi=lp64", "-mcmodel=medany", "-mno-relax"),
        'bios = "none"',
    ),
    "aarch64": Target("aarch64-unknown-elf", 0x40080000, ("-mgeneral-regs-only",), 'cpu = "cortex-a57"'),
    "arm": Target("arm-none-eabi", 0x40010000, ("-mcpu=cortex-a15", "-mfloat-abi=soft"), 'cpu = "cortex-a15"'),
    "x86_64": Target("x86_64-unknown-elf", 0x100000, ("-mno-sse", "-mno-red-zone"), 'machine = "microvm"'),
    "i386": Target("i386-unknown-elf", 0x100000, ("-mno-sse",), 'machine = "microvm"'),
}


@cache
def line_of(text: str) -> int:
    """The number of the one line of the kernel's source that has `text`."""
    (found,) = [number for number, line in enumerate(GUEST.read_text("utf-8").splitlines(), 1) if text in line]
    return found


def built(folder: Path, arch: str = "riscv64", *more: str, name: str = "kernel.elf") -> Path:
    """The kernel, built in that folder from a copy of its source there; `more` are further files or options."""
    target = TARGETS[arch]
    for source in HERE.glob("*.[cSl]*"):
        (folder / source.name).write_bytes(source.read_bytes())
    kernel = folder / name
    flags = ["-g", "-O0", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-nostdlib", "-static", "-fuse-ld=lld"]
    linking = ["-Wl,-T,link.ld", f"-Wl,--defsym=BASE={target.base}", "-Wl,-z,max-page-size=4096", "-Wl,--build-id=none"]
    command = ["clang", f"--target={target.triple}", *flags, *target.options, *linking, "-o", kernel]
    subprocess.run([*command, "start.S", "guest.c", *more], cwd=folder, check=True)
    return kernel


def project(user: Account, arch: str = "riscv64", *more: str, keys: str = "", name: str = "looked-into") -> Path:
    """A project of the user's that boots the kernel, with its source."""
    root = user.home / name
    root.mkdir(exist_ok=True)
    built(root, arch, *more)
    config = f'arch = "{arch}"\nkernel = "kernel.elf"\nprompt = "> "\nframing = false\n{TARGETS[arch].config}\n{keys}'
    (root / "rawtap.toml").write_text(config, encoding="utf-8")
    for path in (root, *root.iterdir()):
        os.chown(path, user.uid, user.gid)
    return root
