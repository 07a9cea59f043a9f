"""The files and folders that a machine's parts name, besides its kernel and drives: resolved, and told to who confines
QEMU. Debian's UEFI builds are found here as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest.hardware import Arch, Drive
from rawtap.guest.profile import Profile
from rawtap.host import landlock

# Code and variables of each build, the best first, and the package that has them.
_UEFI: dict[Arch, tuple[str, tuple[tuple[str, str], ...]]] = {
    "x86_64": (
        "ovmf",
        (
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ),
    ),
    "aarch64": ("qemu-efi-aarch64", (("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),)),
    "arm": ("qemu-efi-arm", (("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),)),
    "riscv64": (
        "qemu-efi-riscv64",
        (("/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd", "/usr/share/qemu-efi-riscv64/RISCV_VIRT_VARS.fd"),),
    ),
}


class Find(Protocol):
    """What resolves a path of a profile's, and refuses one that may not be used."""

    def __call__(self, text: str, what: str, *, folder: bool = False) -> Path: ...


def resolved(profile: Profile, find: Find) -> Profile:
    """The profile with each such path absolute and allowed.

    Raises:
        PathNotAllowed: As `find` does; or a folder, of which nothing keeps what links lead to from the guest, or whose
            name dnsmasq would take for two.
    """
    if profile.shares or profile.tftp or profile.firmware_folder:
        require_landlock()
    if profile.by_virtiofs and not profile.memory:
        raise ProfileInvalid(
            "virtiofs shares the guest's memory, and no memory is said", cure='Set memory = "256M", or what it needs'
        )
    return replace(
        profile,
        dtb=str(find(profile.dtb, "dtb")) if profile.dtb else "",
        loaders=tuple(
            replace(each, path=str(find(each.path, "loader's file"))) if each.path is not None else each
            for each in profile.loaders
        ),
        fw_cfg=tuple(
            replace(each, path=str(find(each.path, "fw_cfg file"))) if each.path is not None else each
            for each in profile.fw_cfg
        ),
        shares=tuple(replace(each, path=str(find(each.path, "shared folder", folder=True))) for each in profile.shares),
        tftp=_without_comma(find(profile.tftp, "tftp folder", folder=True)) if profile.tftp else "",
        firmware_folder=str(find(profile.firmware_folder, "firmware folder", folder=True))
        if profile.firmware_folder
        else "",
    )


def require_landlock(what: Literal["folder", "semihosting"] = "folder") -> None:
    """Refuse a way to files of the host's where nothing keeps the guest to its own."""
    if lack := landlock.lack():
        how = "a link in it could lead anywhere" if what == "folder" else "by it a guest opens files"
        folder = "Make an image of it, and give that as a drive"
        raise PathNotAllowed(
            f"no {what} can be given to a guest here",
            evidence=f"{how}, and the kernel does not see to it: {lack}",
            cure=folder if what == "folder" else "Have the program speak on a serial port",
        )


def _without_comma(folder: Path) -> str:
    if "," in str(folder):
        raise PathNotAllowed(
            f"the tftp folder {folder} cannot be used",
            evidence="there is a comma in its path, where dnsmasq would take it for two",
            cure="Rename it",
        )
    return str(folder)


def of(profile: Profile) -> Iterator[Path]:
    """What QEMU reads of that; the profile is a resolved one."""
    named = [profile.dtb, profile.tftp, profile.firmware_folder, *(each.path or "" for each in profile.loaders)]
    named += [each.path or "" for each in profile.fw_cfg]
    named += [each.path for each in profile.shares if each.by == "9p"]
    return (Path(name) for name in named if name)


def bootfile(profile: Profile) -> str:
    """What this machine's own network boot begins with, "" for nothing."""
    if isinstance(profile.bootfile, str):
        return profile.bootfile
    return next((name for client, name in profile.bootfile.items() if client == _client(profile)), "")


def _client(profile: Profile) -> str:
    return f"uefi-{profile.arch}" if profile.uefi else "bios"


def uefi(profile: Profile) -> tuple[Drive, ...]:
    """The flash that UEFI is in: its code, and variables that the guest writes to a layer; none where it has no UEFI.

    Raises:
        ProfileInvalid: There is no build for that architecture.
        GuestNotFound: It is not installed.
    """
    if not profile.uefi:
        return ()
    if (known := _UEFI.get(profile.arch)) is None:
        raise ProfileInvalid(
            f"there is no UEFI for {profile.arch}",
            evidence=f"known for {', '.join(_UEFI)}",
            cure="Leave uefi out, or name a build of your own as pflash drives",
        )
    package, builds = known
    found = next((each for each in builds if all(Path(path).is_file() for path in each)), None)
    if found is None:
        raise GuestNotFound(
            f"UEFI for {profile.arch} is not installed",
            evidence=f"{builds[0][0]} is not there",
            cure=f"Install it: apt install {package}",
        )
    code, variables = found
    return (
        Drive(path=code, readonly=True, interface="pflash"),
        Drive(path=variables, interface="pflash", overlay=True),
    )
