"""Machines of trees that say themselves how QEMU starts them: Buildroot, Yocto, Zephyr. Looks at files of the tree.

Each build leaves a line, or the parts of one, beside its images. It is read like any other (`qemu_line`), so it can ask
for no more than a ``rawtap.toml`` can.
"""

from __future__ import annotations

import configparser
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from rawtap.errors import ProfileInvalid, RequestInvalid
from rawtap.guest.paths import holds
from rawtap.guest.profile import Login, Profile, Tree, laid
from rawtap.guest.qemu_line import read

_MOST = 4 << 20  # bytes of a build's script
_NAMED = ("kernel", "initrd", "dtb", "firmware")
# What a root file system can be that is read as it is, the best first (openembedded-core, QB_DEFAULT_FSTYPE).
_ROOTS = ("ext4", "ext3", "ext2", "wic", "wic.qcow2", "squashfs")
_INITRDS = ("cpio.gz", "cpio")


def buildroot(root: Path, script: str) -> Tree:
    """As its ``start-qemu.sh`` says with --serial-only (buildroot/board/qemu/start-qemu.sh.in).

    Raises:
        ProfileInvalid: It has no line that can be read, like all here.
    """
    text = text_of(root / script).replace("${EXTRA_ARGS}", "-nographic")
    return _logged_in(_machine(root, script, text, "buildroot"))


def zephyr(root: Path, ninja: str, kernel: str) -> Tree | None:
    """As `west build -t run` starts it, which the rules of its build have (zephyr/cmake/emu/qemu.cmake).

    None where they have no such rule, as for a board that QEMU has not. Raises as `buildroot`.
    """
    text = text_of(root / ninja).replace("$\n", "").replace("$:", ":").replace("$ ", " ")
    lines = [line for line in text.splitlines() if "qemu-system-" in line and " -kernel " in line]
    if not lines:
        return None
    profile, told = _machine(root, ninja, lines[0], "zephyr", from_root=True)
    return Tree(replace(profile, kernel=kernel, prompt="uart:~$ ", framing=False), told)


def yocto(root: Path, file: str) -> Tree:
    """As its ``*.qemuboot.conf`` says (openembedded-core, scripts/runqemu). Raises as `buildroot`."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text_of(root / file))
        said = dict(parser["config_bsp"])
    except (configparser.Error, KeyError) as error:
        raise _unreadable(file, str(error)) from error
    folder = root / PurePosixPath(file).parent
    name = PurePosixPath(file).name.removesuffix(".qemuboot.conf")
    line = _of_parts(said, *_root_of(said, folder, name))
    return _logged_in(_machine(root, file, line, "yocto"))


def _root_of(said: Mapping[str, str], folder: Path, name: str) -> tuple[str, str]:
    """The options for the root file system, and where the kernel finds it."""
    there = [f"{name}.{kind}" for kind in (*_ROOTS, *_INITRDS) if holds(folder / f"{name}.{kind}", Path.is_file)]
    image = there[0] if there else f"{name}.{_ROOTS[0]}"
    if image.endswith(_INITRDS):
        return f"-initrd {image}", "/dev/ram0 rw"
    where = said.get("qb_kernel_root", "/dev/vda")
    options = said.get("qb_rootfs_opt") or f"-drive file=@ROOTFS@,if=virtio,format={_format(image)}"
    return options.replace("@ROOTFS@", image), where if {"ro", "rw"} & set(where.split()) else f"{where} rw"


def _format(image: str) -> str:
    return "qcow2" if image.endswith(".qcow2") else "raw"


def _of_parts(said: Mapping[str, str], disk: str, where: str) -> str:
    keys = ("qb_system_name", "qb_machine", "qb_cpu", "qb_smp", "qb_mem", "qb_rng", "qb_opt_append", "qb_serial_opt")
    words = [said.get(key, "") for key in keys]
    card = said.get("qb_network_device", "-device virtio-net-pci,netdev=net0").replace(",mac=@MAC@", "")
    # The last one is what Linux takes for the console, and the main one is the first.
    consoles = [f"console={port},{speed}" for speed, _, port in _ports(said)]
    line = " ".join([f"root={where}", *reversed(consoles), said.get("qb_kernel_cmdline_append", "")])
    kernel = PurePosixPath(said.get("qb_default_kernel", "")).name
    bios = [f"-bios {PurePosixPath(said['qb_default_bios']).name}"] if said.get("qb_default_bios") else []
    dtb = [f"-dtb {PurePosixPath(said['qb_dtb']).name}"] if said.get("qb_dtb") else []
    return " ".join([*words, card, disk, *bios, *dtb, "-kernel", kernel, "-append", shlex.quote(line.strip())])


def _ports(said: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [each.partition(";") for each in said.get("serial_consoles", "").split()]


def text_of(file: Path, most: int = _MOST) -> str:
    """The first `most` characters of a file, "" where it cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(most)
    except OSError:
        return ""


def _machine(root: Path, file: str, text: str, name: str, *, from_root: bool = False) -> Tree:
    """What the line of that file says, with the paths of what is in its folder seen from the tree's root."""
    folder = "." if from_root else str(PurePosixPath(file).parent)
    try:
        line = read(text)
        profile = laid(Profile(name=name), _seen_from(root, folder, dict(line.table)), f"the line in {file}")
    except (RequestInvalid, ProfileInvalid) as error:
        raise _unreadable(file, error.evidence or error.problem) from error
    told = [*line.told(), *(f"not carried: the port {each['host']}: `forward` says it" for each in line.forward)]
    told += ["not carried: a debugger's stub: gdb=true opens one"] if line.gdb else []
    return Tree(profile, tuple(f"{file}, {each}" for each in told))


def _unreadable(file: str, why: str) -> ProfileInvalid:
    return ProfileInvalid(
        f"{file} has no line for QEMU that can be read", evidence=why, cure="Give the line as qemu_command"
    )


def _seen_from(root: Path, folder: str, table: dict[str, Any]) -> dict[str, Any]:
    def found(path: str) -> str:
        inside = path if PurePosixPath(path).is_absolute() or folder == "." else f"{folder}/{path}"
        return inside if holds(root / inside, Path.exists) or "/" in path else path

    table |= {key: found(table[key]) for key in _NAMED if key in table}
    drives = [each | {"path": found(each["path"])} for each in table.get("drives", ())]
    return table | ({"drives": drives} if drives else {})


def _logged_in(tree: Tree) -> Tree:
    """For an image whose superuser has no password; what the guest writes is thrown away."""
    profile = replace(tree.profile, overlay=True, login=Login(user="root"), shutdown_command="poweroff")
    return tree._replace(profile=profile)
