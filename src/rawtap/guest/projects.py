"""Which profile a project means: what its ``rawtap.toml`` says, over the one that fits its tree. Looks at files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest import models
from rawtap.guest.hardware import Arch
from rawtap.guest.kernels import arch_of_file, machine_for
from rawtap.guest.paths import CONFIG_FILE, LAYOUTS, RVOS_KERNEL, SYSTEMS, allowed_for, holds, layout_of, matching
from rawtap.guest.profile import Profile, Tree, laid
from rawtap.guest.trees import as_its_driver_has_it, machine_of

_MOST = 4 << 20  # bytes of a kernel that are looked through
_STARTS = frozenset({"kernel", "firmware", "bios", "uefi", "drives", "loaders", "boot"})  # keys that say what to boot


def choose(
    root: Path | None, name: str | None, said: Mapping[str, Any] | None = None, image_dirs: tuple[Path, ...] = ()
) -> tuple[Path, Tree]:
    """Find the profile for a project's root and a profile's name, either of which may be None.

    `said` are keys that will be laid over it: what it leaves open follows them as well, and where there is no profile
    they may say what to boot. A kernel in one of the operator's `image_dirs` is looked at too.

    Returns the root that paths are relative to, and the profile with what its reader should know of it.

    Raises:
        ProfileInvalid: No such profile, or a ``rawtap.toml`` that is none.
        GuestNotFound: The root is no folder, or nothing in it says what to boot.
    """
    from rawtap.guest.builtin import BUILTIN

    if root is not None and not holds(root, Path.is_dir):
        raise GuestNotFound(f"there is no folder {root}", cure="Give project_root as an absolute path")
    if root is None and name is not None:
        return Path("/"), Tree(_builtin(name))
    root = root or Path.cwd()
    config = root / CONFIG_FILE
    if holds(config, Path.is_file):
        return root, _read_config(config, name, said or {}, image_dirs)
    if name is not None:
        return root, Tree(_builtin(name))
    if (found := of_tree(root)) is not None:
        return root, found
    if said and not _STARTS.isdisjoint(said):
        return root, Tree(_plain(root, said, image_dirs))
    raise GuestNotFound(
        f"nothing in {root} says what to boot",
        evidence=f"neither {CONFIG_FILE} nor {RVOS_KERNEL} exists there, nor what {', '.join(SYSTEMS)} are known by",
        cure=f"Build the kernel, write a {CONFIG_FILE}, give qemu_command or overrides, or name a profile: "
        f"{', '.join(BUILTIN)}",
    )


def _builtin(name: str) -> Profile:
    from rawtap.guest.builtin import BUILTIN

    try:
        return BUILTIN[name]
    except KeyError:
        raise ProfileInvalid(f"there is no profile {name!r}", cure=f"Use one of: {', '.join(BUILTIN)}") from None


def _read_config(config: Path, name: str | None, said: Mapping[str, Any], image_dirs: tuple[Path, ...]) -> Tree:
    try:
        # A link to elsewhere could have an error's text tell what is there.
        if not config.resolve().is_relative_to(config.parent.resolve()):
            raise PathNotAllowed(
                f"{config} may not be read", evidence="it is a link out of its folder", cure="Put the file itself there"
            )
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProfileInvalid(
            f"{config} cannot be read", evidence=str(error), cure="It must be TOML, as docs/profiles.md shows"
        ) from error
    return overlay(config, table, name, said, image_dirs)


def overlay(
    config: Path,
    table: dict[str, Any],
    name: str | None,
    said: Mapping[str, Any] | None = None,
    image_dirs: tuple[Path, ...] = (),
) -> Tree:
    """Lay a ``rawtap.toml`` over the profile that the call or its key ``profile`` names.

    Without either it is laid over the profile that fits the tree by its files, else over the defaults. `said` and
    `image_dirs` are as in `choose`.
    """
    table = dict(table)
    base_name = name or table.pop("profile", None)
    table.pop("profile", None)
    if base_name is not None:
        base = Tree(_builtin(str(base_name)))
    elif (found := of_tree(config.parent)) is not None:
        base = found
    else:
        base = Tree(_plain(config.parent, table | dict(said or {}), image_dirs))
    return base._replace(profile=laid(base.profile, table, str(config)))


def of_tree(root: Path) -> Tree | None:
    """The profile that fits a tree by its files; None where none does."""
    from rawtap.guest.builtin import BUILTIN

    if (layout := layout_of(root)) is None:
        return Tree(BUILTIN["xv6-riscv"]) if _has_xv6(root) else None
    if layout in BUILTIN:
        return Tree(as_its_driver_has_it(root, BUILTIN[layout]))
    return machine_of(layout, root, tuple(str(matching(root, file).relative_to(root)) for file in LAYOUTS[layout]))


def _has_xv6(root: Path) -> bool:
    """Whether xv6 for RISC-V was built elsewhere and copied here: its kernel has its own words in it."""
    kernel = root / "kernel/kernel"
    if not holds(kernel, lambda each: each.resolve().is_relative_to(root.resolve()) and each.is_file()):
        return False
    if arch_of_file(kernel) != "riscv64" or not holds(root / "fs.img", Path.is_file):
        return False
    with kernel.open("rb") as file:
        return b"xv6 kernel is booting" in file.read(_MOST)


def _plain(root: Path, table: Mapping[str, Any], image_dirs: tuple[Path, ...]) -> Profile:
    """The defaults, as far as they follow from what is said.

    Where nothing says for which architecture, it is that of the kernel; where nothing says the machine, one of that
    architecture; and a board has the memory and the processors that QEMU gives it.
    """
    said = table.get("arch") or _arch_of_kernel(root, table.get("kernel"), image_dirs)
    arch: Arch = next((each for each in get_args(Arch) if each == said), Profile.arch)
    machine, cpu = machine_for(arch)
    found = Profile(arch=arch) if "machine" in table else Profile(arch=arch, machine=machine, cpu=cpu)
    return replace(found, memory="", smp=0) if models.is_board(arch, str(table.get("machine", machine))) else found


def _arch_of_kernel(root: Path, kernel: object, image_dirs: tuple[Path, ...]) -> Arch | None:
    """What lies elsewhere is refused later, and nothing is told of it."""
    if not isinstance(kernel, str) or not kernel:
        return None
    allowed = allowed_for(root, image_dirs)
    path = root / kernel
    return arch_of_file(path) if holds(path, lambda each: allowed.has(each.resolve())) else None
