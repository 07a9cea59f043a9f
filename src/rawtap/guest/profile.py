"""What to boot, and how: profiles, and a tree's ``rawtap.toml``. Pure, but for looks at files.

Nothing in a profile can reach another option of QEMU's: values that QEMU parses at commas are matched against a narrow
pattern here, and `command_line` gives all else as JSON.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest.paths import CONFIG_FILE, PUBLIC, RVOS_KERNEL, Allowed, holds, require_lone
from rawtap.guest.patterns import Pattern

UBOOT_KERNEL = f"{PUBLIC}/qemu-riscv64_smode/uboot.elf"

SHELL = "prompt"  # the name of the prompt that is the profile's own
OnReset = Literal["reboot", "stop"]
Arch = Literal["riscv64", "x86_64", "aarch64", "arm"]

# Debian's packages for each emulator.
QEMU_PACKAGES: dict[Arch, str] = {
    "riscv64": "qemu-system-misc (Debian 13 and later: qemu-system-riscv)",
    "x86_64": "qemu-system-x86",
    "aarch64": "qemu-system-arm",
    "arm": "qemu-system-arm",
}

_CLOSED = ConfigDict(extra="forbid")  # not strict: TOML's arrays and tables become tuples and dataclasses
_Flag = Annotated[bool, Strict()]
_Path = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=64)]
_Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]?$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_Prompt = Annotated[str, StringConstraints(min_length=1, max_length=256)] | Pattern


@validated_dataclass(frozen=True, config=_CLOSED)
class Drive:
    """An image for a virtio block device. An optional one is left out where its file does not exist."""

    path: _Path
    format: Literal["raw", "qcow2"] = "raw"
    readonly: _Flag = False
    serial: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,20}$")] | None = None
    optional: _Flag = False


@validated_dataclass(frozen=True, config=_CLOSED)
class Interrupt:
    """What to type when the boot loader asks: `send` once `wait_for` was seen."""

    wait_for: _Text
    send: _Text


@validated_dataclass(frozen=True, config=_CLOSED)
class Login:
    """Who logs in where the console asks for a user."""

    user: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[str, StringConstraints(max_length=256)] = field(default="", repr=False)


@validated_dataclass(frozen=True, config=_CLOSED)
class FixedHost:
    """A name and an address that go together on the bridge: of that MAC address, or of the guest of that name."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    address: Annotated[str, StringConstraints(min_length=1, max_length=15)]
    mac: Annotated[str, StringConstraints(min_length=17, max_length=17)] | None = None


@validated_dataclass(frozen=True, config=_CLOSED)
class Profile:
    """A machine, its software and how to speak to it.

    Attributes:
        kernel: A path, relative to the project's root; "" for none, where there is firmware.
        initrd: A path likewise, to what a Linux kernel takes its first programs from; "" for none.
        firmware: A path likewise, to a boot loader that the machine starts by itself; it wins over `bios`.
        prompt: What the console shows when it waits for a command, as text or as a pattern; "" to have it learned.
        prompts: Further ones by their names: a loader's, a debugger's.
        login: For guests whose console asks for it.
        framing: Whether to try, once, if a shell reads the console, and to put signs around its commands then.
        on_reset: What a reset by the guest does: "reboot", or "stop", at which QEMU ends.
        interrupt: For boot loaders that count down.
        enter: What ends a command on the console.
        shutdown_command: The console command that powers the guest off; None for none.
        bridge: The bridge that network=true uses.
        address: The host's address on it.
        services: Whether the host answers DHCP and DNS on a bridge that it made.
        hosts: Who always gets the same address there.
        bus: Where virtio devices go: "mmio" (virt machines without PCI drivers) or "pci".
        overlay: Whether what the guest writes to its drives goes to a layer that is thrown away at its end.
    """

    name: _Word = "custom"
    arch: Arch = "riscv64"
    machine: _Word = "virt"
    cpu: _Word | None = None
    memory: _Size = "128M"
    smp: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    bios: Literal["default", "none"] | None = None
    kernel: str = ""
    initrd: str = ""
    firmware: str = ""
    bootargs: _Argument = ""
    drives: tuple[Drive, ...] = ()
    prompt: Annotated[str, StringConstraints(max_length=256)] | Pattern = ""
    prompts: Mapping[_Word, _Prompt] = field(default_factory=dict)
    login: Login | None = None
    framing: _Flag = True
    on_reset: OnReset = "reboot"
    interrupt: Interrupt | None = None
    enter: Literal["\n", "\r", "\r\n"] = "\n"
    shutdown_command: _Text | None = None
    bridge: str = "rawtap-br0"
    address: str = "10.0.2.2/24"
    services: _Flag = False
    hosts: tuple[FixedHost, ...] = ()
    bus: Literal["mmio", "pci"] = "mmio"
    overlay: _Flag = False

    @property
    def all_prompts(self) -> dict[str, str | Pattern]:
        """By their names; the shell's own first."""
        return ({SHELL: self.prompt} if self.prompt else {}) | dict(self.prompts)


@cache
def _adapter() -> TypeAdapter[Profile]:
    return TypeAdapter(Profile)


def _u_boot(arch: Arch, **differences: Any) -> Profile:
    """One of Debian's package u-boot-qemu."""
    return Profile(
        name=f"u-boot-{arch}",
        arch=arch,
        prompt="=> ",
        framing=False,
        interrupt=Interrupt(wait_for="Hit any key to stop autoboot", send=" "),
        **({"shutdown_command": "poweroff"} | differences),
    )


BUILTIN: Mapping[str, Profile] = {
    "rvos": Profile(
        name="rvos",
        bios="default",
        kernel=RVOS_KERNEL,
        drives=(
            Drive(path="bin.img", readonly=True, serial="bin", optional=True),
            Drive(path="persist.img", serial="persist", optional=True),
        ),
        prompt="rvos>",
        framing=False,
        shutdown_command="shutdown",
        bridge="rvos-br0",
        services=True,
    ),
    "u-boot-riscv64": _u_boot("riscv64", bios="default", kernel=UBOOT_KERNEL),
    "u-boot-aarch64": _u_boot("aarch64", cpu="max", firmware=f"{PUBLIC}/qemu_arm64/u-boot.bin", bus="pci"),
    "u-boot-arm": _u_boot("arm", firmware=f"{PUBLIC}/qemu_arm/u-boot.bin", bus="pci"),
    # It knows no command that powers off: qemu_shutdown ends it over QMP.
    "u-boot-x86_64": _u_boot(
        "x86_64", machine="pc", firmware=f"{PUBLIC}/qemu-x86_64/u-boot.rom", bus="pci", shutdown_command=None
    ),
}

TRUSTED_BRIDGES = frozenset(profile.bridge for profile in BUILTIN.values())


@dataclass(frozen=True)
class BootOptions:
    """What a boot call says itself; it wins over ``rawtap.toml``, which wins over the built-in profile."""

    memory: str | None = None
    bootargs: str | None = None
    kernel: str | None = None
    extra_drives: tuple[Drive, ...] = ()
    gpu: bool = False
    overlay: bool | None = None
    on_reset: OnReset | None = None
    gdb: bool = False


@dataclass(frozen=True)
class MachineSpec:
    """A profile with every path resolved and every call option applied: ready to run.

    `reach` are folders that QEMU may read and write besides: what the operator opened with the monitor.
    """

    profile: Profile
    kernel: Path | None
    drives: tuple[Drive, ...] = field(default=())
    gpu: bool = False
    firmware: Path | None = None
    gdb: bool = False
    initrd: Path | None = None
    reach: tuple[Path, ...] = ()

    @property
    def overlay(self) -> bool:
        """Whether its drives are written to layers that are thrown away."""
        return self.profile.overlay

    @property
    def qemu(self) -> str:
        """The emulator's name."""
        return f"qemu-system-{self.profile.arch}"


def choose(root: Path | None, name: str | None) -> tuple[Path, Profile]:
    """Find the profile for a project's root and a profile's name, either of which may be None.

    Returns the root that paths are relative to, and the profile.

    Raises:
        ProfileInvalid: No such profile, or a ``rawtap.toml`` that is none.
        GuestNotFound: The root is no folder, or nothing in it says what to boot.
    """
    if root is not None and not holds(root, Path.is_dir):
        raise GuestNotFound(f"there is no folder {root}", cure="Give project_root as an absolute path")
    if root is None and name is not None:
        return Path("/"), _builtin(name)
    root = root or Path.cwd()
    config = root / CONFIG_FILE
    if holds(config, Path.is_file):
        return root, _read_config(config, name)
    if name is not None:
        return root, _builtin(name)
    if holds(root / RVOS_KERNEL, Path.is_file):
        return root, BUILTIN["rvos"]
    raise GuestNotFound(
        f"nothing in {root} says what to boot",
        evidence=f"neither {CONFIG_FILE} nor {RVOS_KERNEL} exists there",
        cure=f"Build the kernel, write a {CONFIG_FILE}, or name a profile: {', '.join(BUILTIN)}",
    )


def _builtin(name: str) -> Profile:
    try:
        return BUILTIN[name]
    except KeyError:
        raise ProfileInvalid(f"there is no profile {name!r}", cure=f"Use one of: {', '.join(BUILTIN)}") from None


def _read_config(config: Path, name: str | None) -> Profile:
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
    return overlay(config, table, name)


def overlay(config: Path, table: dict[str, Any], name: str | None) -> Profile:
    """Lay a ``rawtap.toml`` over the profile that the call or its key ``profile`` names.

    Without either it is laid over ``rvos`` where the tree has that kernel, else over the defaults.
    """
    table = dict(table)
    base_name = name or table.pop("profile", None)
    table.pop("profile", None)
    if base_name is not None:
        base = _builtin(str(base_name))
    else:
        base = BUILTIN["rvos"] if holds(config.parent / RVOS_KERNEL, Path.is_file) else Profile()
    values = asdict(base) | table
    try:
        return _adapter().validate_python(values)
    except ValidationError as error:
        raise ProfileInvalid(
            f"{config} is not a valid profile",
            evidence=explain_validation(error),
            cure=f"Known keys: profile, {', '.join(asdict(base))}",
        ) from error


def explain_validation(error: ValidationError) -> str:
    """pydantic's findings in one line, the first three of them."""
    found = error.errors(include_url=False, include_context=False)
    lines = [f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in found[:3]]
    if len(found) > len(lines):
        lines.append(f"and {len(found) - len(lines)} more")
    return "; ".join(lines)


def resolve(root: Path, profile: Profile, options: BootOptions, allowed: Allowed) -> MachineSpec:
    """Apply a call's options and resolve every path.

    Raises:
        ProfileInvalid: An option that no machine could mean.
        PathNotAllowed: A kernel or a drive that is none of the project's and none of the operator's.
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
    firmware = _existing(allowed, root, profile.firmware, "firmware") if profile.firmware else None
    text = options.kernel or profile.kernel
    kernel = _existing(allowed, root, text, "kernel") if text or not firmware else None
    drives = [
        found
        for drive in (*profile.drives, *options.extra_drives)
        if (found := _found_drive(allowed, root, drive)) is not None
    ]
    initrd = _found_initrd(allowed, root, profile.initrd) if profile.initrd else None
    return MachineSpec(profile, kernel, tuple(drives), options.gpu, firmware, options.gdb, initrd)


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
    try:
        path = _existing(allowed, root, drive.path, "drive")
    except GuestNotFound:
        if drive.optional:
            return None
        raise
    if drive.format == "qcow2":
        require_lone(path)
    return replace(drive, path=str(path))


def _existing(allowed: Allowed, root: Path, text: str, what: str) -> Path:
    if not text:
        raise GuestNotFound(f"no {what} is named", cure=f'Give kernel="PATH", or set it in {CONFIG_FILE}')
    # That it is not built is no secret: `choose` tells it of any folder, and without it an rvOS tree is no project.
    unbuilt = text == RVOS_KERNEL and not holds(root / text, Path.is_file)
    path = root / text if unbuilt else allowed.resolved(root, text, what)
    if not unbuilt and holds(path, Path.is_file):
        return path
    hint = "Install it: apt install u-boot-qemu" if path.is_relative_to(PUBLIC) else f"Build it, or name another {what}"
    raise GuestNotFound(f"the {what} {path} is not there", cure=hint)
