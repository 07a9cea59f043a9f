"""From a profile and a call's options to a machine that can run: every path resolved, and held against what is allowed.

The one place where a profile's text becomes a file of the host's.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest import busybox, files, models, symbols
from rawtap.guest.folders import require_no_way_out
from rawtap.guest.hardware import SEMIHOSTING, Drive
from rawtap.guest.paths import (
    CONFIG_FILE,
    PUBLIC,
    PUBLIC_FOLDERS,
    RVOS_KERNEL,
    VSOCK,
    Allowed,
    holds,
    is_public,
    require_lone,
)
from rawtap.guest.profile import BootOptions, MachineSpec, Profile, explain_validation

_ALWAYS_WRITTEN = {"ide", "ahci"}


def resolve(root: Path, profile: Profile, options: BootOptions, allowed: Allowed) -> MachineSpec:
    """Apply a call's options and resolve every path.

    Raises:
        ProfileInvalid: An option that no machine could mean.
        PathNotAllowed: A file that is none of the project's, none of the operator's, and of no package of firmware.
        GuestNotFound: One that is not there, with its path.
    """
    keys = ("memory", "bootargs", "overlay", "on_reset")
    changes = {key: value for key in keys if (value := getattr(options, key)) is not None}
    try:
        profile = replace(profile, **changes)
    except ValidationError as error:
        raise ProfileInvalid(
            "the boot options are not valid", evidence=explain_validation(error), cure='memory is like "256M"'
        ) from error
    _require_semihosting(profile)
    _require_vsock(profile)
    find = partial(_existing, allowed, root)
    firmware = find(_firmware(root, profile.firmware), "firmware") if profile.firmware else None
    text = options.kernel or profile.kernel
    kernel = find(text, "kernel") if text else None
    named = (*profile.drives, *options.extra_drives)
    if not (kernel or firmware) and models.is_pc(profile.arch, profile.machine):
        named = tuple(map(_as_cd, named))
    drives = [found for drive in named if (found := _found_drive(allowed, root, drive)) is not None]
    # A debugger may load what there is to run.
    has_more = profile.is_startable or profile.bios == "default" or options.gdb
    if not (kernel or firmware or drives or has_more):
        raise GuestNotFound(
            "no kernel is named",
            evidence="and no firmware, disk, loader or network boot either",
            cure=f'Give kernel="PATH", or set it in {CONFIG_FILE}',
        )
    is_made = profile.initrd == busybox.NAME and not holds(root / busybox.NAME, Path.is_file)
    if is_made:
        busybox.require(profile.arch)
    return MachineSpec(
        profile=_with_files(profile, find),
        kernel=kernel,
        drives=(*files.uefi(profile), *drives),
        gpu=options.gpu or profile.screen not in {"", "none"},
        firmware=firmware,
        gdb=options.gdb,
        initrd=_found_initrd(allowed, root, profile.initrd) if profile.initrd and not is_made else None,
        busybox=is_made,
        symbols=symbols.found(profile.symbols, find, kernel or firmware),
        source=next((folder for folder in allowed.folders if folder == root.resolve()), None),
    )


def _require_semihosting(profile: Profile) -> None:
    """A program that has semihosting opens files by it, so QEMU must reach no other than the guest's own."""
    if not (profile.semihosting or profile.console == "semihosting"):
        return
    if profile.arch not in SEMIHOSTING:
        raise ProfileInvalid(
            f"{profile.arch} has no semihosting", evidence=f"these have: {', '.join(SEMIHOSTING)}", cure="Leave it out"
        )
    files.require_landlock("semihosting")


def _require_vsock(profile: Profile) -> None:
    if profile.vsock is None or os.access(VSOCK, os.R_OK | os.W_OK):
        return
    evidence = f"{VSOCK} is not open to this user" if VSOCK.exists() else f"there is no {VSOCK}"
    raise ProfileInvalid(
        f"vsock={profile.vsock}: this machine lends a guest no vsock",
        evidence=evidence,
        cure="The operator can change it: modprobe vhost_vsock, and rights to that file. Or leave it out",
    )


def _with_files(profile: Profile, find: files.Find) -> Profile:
    found = files.resolved(profile, find)
    if found.tftp:
        require_no_way_out(Path(found.tftp), "tftp folder", by_name=True)
    return found


def _as_cd(drive: Drive) -> Drive:
    """An ISO of which nothing more is said goes into a CD drive: few start as a disk as well."""
    if drive.media or drive.interface != "virtio" or not drive.path.lower().endswith(".iso"):
        return drive
    return replace(drive, interface="ide", media="cdrom")


def _firmware(root: Path, text: str) -> str:
    """Firmware's path; a bare name that is not in the project is one of a package's, as it is to QEMU's -bios."""
    if "/" in text or holds(root / text, Path.is_file):
        return text
    return next((str(folder / text) for folder in PUBLIC_FOLDERS if holds(folder / text, Path.is_file)), text)


def _found_initrd(allowed: Allowed, root: Path, text: str) -> Path:
    """The initrd's path. With a multiboot kernel QEMU takes it for a list: of files at commas, each up to a space."""
    path = _existing(allowed, root, text, "initrd")
    if found := re.search(r"[,\s]", str(path)):
        raise PathNotAllowed(
            f"the initrd {path} cannot be used",
            evidence=f"there is {found[0]!r} in its path, where QEMU can take it for the end of a file's name",
            cure="Rename it, or the folder",
        )
    return path


def _found_drive(allowed: Allowed, root: Path, drive: Drive) -> Drive | None:
    """The drive with its path resolved; None where it is optional and not there."""
    is_folder = drive.format == "folder"
    if is_folder:
        files.require_landlock()
    try:
        path = _existing(allowed, root, drive.path, "drive", folder=is_folder)
    except GuestNotFound:
        if drive.optional:
            return None
        raise
    if is_folder:
        require_no_way_out(path, "drive")
    if drive.format == "qcow2":
        require_lone(path)
    if drive.media == "cdrom":
        return replace(drive, path=str(path), readonly=True)
    # A folder and a package's own file stay as they are, and an IDE disk cannot say that it is not to be written.
    if is_folder or (drive.interface in _ALWAYS_WRITTEN if drive.readonly else is_public(path)):
        return replace(drive, path=str(path), readonly=False, overlay=True)
    return replace(drive, path=str(path))


def _existing(allowed: Allowed, root: Path, text: str, what: str, *, folder: bool = False) -> Path:
    # That it is not built is no secret: `choose` tells it of any folder, and without it an rvOS tree is no project.
    unbuilt = text == RVOS_KERNEL and not holds(root / text, Path.is_file)
    path = root / text if unbuilt else allowed.resolved(root, text, what)
    if not unbuilt and holds(path, Path.is_dir if folder else Path.is_file):
        return path
    hint = "Install it: apt install u-boot-qemu" if path.is_relative_to(PUBLIC) else f"Build it, or name another {what}"
    raise GuestNotFound(f"the {what} {path} is not there", cure=hint)
