"""What to boot, and how: profiles, and a tree's ``rawtap.toml``. Pure, but for looks at files.

Nothing in a profile can reach another option of QEMU's: values that QEMU parses at commas are matched against a narrow
pattern here, and `command_line` gives all else as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from rawtap.errors import ProfileInvalid
from rawtap.guest import models, wrong_keys
from rawtap.guest.hardware import (
    CLOSED,
    Arch,
    Bus,
    Drive,
    FirmwareFile,
    Flag,
    Forward,
    FurtherCard,
    Hardware,
    Loader,
    Machine,
    MemorySlots,
    NumaNode,
    Processor,
    Share,
    Text,
    Word,
)
from rawtap.guest.paths import PUBLIC
from rawtap.guest.patterns import Pattern

RVOS_BRIDGE, USUAL_BRIDGE = "rvos-br0", "rawtap-br0"
TRUSTED_BRIDGES = frozenset({RVOS_BRIDGE, USUAL_BRIDGE})  # those of the built-in profiles
UBOOT_KERNEL = f"{PUBLIC}/qemu-riscv64_smode/uboot.elf"

BUILTIN_NAMES = (
    *("rvos", "u-boot-riscv64", "u-boot-aarch64", "u-boot-arm", "u-boot-x86_64"),
    *("xv6-riscv", "xv6-riscv-net", "xv6-x86"),
)  # of builtin.py, whose import takes long

SHELL = "prompt"  # the name of the prompt that is the profile's own
OnReset = Literal["reboot", "stop"]
_Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]?$")]
_Prompt = Annotated[str, StringConstraints(min_length=1, max_length=256)] | Pattern


@validated_dataclass(frozen=True, config=CLOSED)
class Interrupt:
    """What to type when the boot loader asks: `send` once `wait_for` was seen."""

    wait_for: Text
    send: Text


@validated_dataclass(frozen=True, config=CLOSED)
class Login:
    """Who logs in where the console asks for a user."""

    user: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[str, StringConstraints(max_length=256)] = field(default="", repr=False)


@validated_dataclass(frozen=True, config=CLOSED)
class FixedHost:
    """A name and an address that go together on the bridge: of that MAC address, or of the guest of that name."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    address: Annotated[str, StringConstraints(min_length=1, max_length=15)]
    mac: Annotated[str, StringConstraints(min_length=17, max_length=17)] | None = None


@validated_dataclass(frozen=True, config=CLOSED)
class SymbolFile:
    """An ELF file with symbols, for a debugger; `offset` is how far from its own addresses it is loaded, in bytes."""

    file: Text
    offset: Annotated[int, Field(strict=True, ge=-(1 << 63), lt=1 << 64)] = 0


@validated_dataclass(frozen=True, config=CLOSED)
class Profile(Hardware):
    """A machine, its software and how to speak to it.

    Attributes:
        kernel: A path, relative to the project's root; "" for none, where there is firmware.
        initrd: A path likewise, to what a Linux kernel takes its first programs from; "busybox" for one that is made of
            this machine's; "" for none.
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
        overlay: Whether what the guest writes to its drives goes to a layer that is thrown away at its end.
        symbols: For a debugger; none for the kernel's own, or those of the ELF file beside it.
    """

    name: Word = "custom"
    arch: Arch = "riscv64"
    machine: Machine = "virt"
    cpu: Processor | None = None
    memory: _Size | Literal[""] = "128M"
    smp: Annotated[int, Field(strict=True, ge=0, le=64)] = 1
    bios: Literal["default", "none"] | None = None
    kernel: str = ""
    initrd: str = ""
    firmware: str = ""
    bootargs: _Argument = ""
    drives: tuple[Drive, ...] = ()
    prompt: Annotated[str, StringConstraints(max_length=256)] | Pattern = ""
    prompts: Mapping[Word, _Prompt] = field(default_factory=dict)
    login: Login | None = None
    framing: Flag = True
    on_reset: OnReset = "reboot"
    interrupt: Interrupt | None = None
    enter: Literal["\n", "\r", "\r\n"] | None = None
    shutdown_command: Text | None = None
    bridge: str = USUAL_BRIDGE
    address: str = "10.0.2.2/24"
    services: Flag = False
    hosts: tuple[FixedHost, ...] = ()
    overlay: Flag = False
    symbols: Annotated[tuple[SymbolFile, ...], Field(max_length=16)] = ()

    @property
    def virtio_bus(self) -> Bus:
        """Where virtio devices go: as is said, else as the machine has it."""
        return self.bus or models.default_bus(self.arch, self.machine.partition(",")[0])

    @property
    def has_pci(self) -> bool:
        """Whether a PCI device can be given to it."""
        return self.virtio_bus == "pci" or models.has_pci(self.arch, self.machine.partition(",")[0])

    @property
    def by_virtiofs(self) -> dict[int, Path]:
        """Folders that the guest mounts by virtiofs, by their numbers among the shares."""
        return {number: Path(each.path) for number, each in enumerate(self.shares) if each.by == "virtiofs"}

    def of_card(self, number: int) -> Profile:
        """The same with the card of that number, from 0, as its only one."""
        if number == 0:
            return replace(self, cards=()) if self.cards else self
        card = self.cards[number - 1]
        one = replace(self, cards=(), nic=card.nic, nic_options=card.nic_options, mac=card.mac, mtu=card.mtu)
        if card.bridge is None or card.address is None:
            return one
        return replace(one, bridge=card.bridge, address=card.address, hosts=())

    @property
    def ends_command(self) -> str:
        """What is typed behind a command: UEFI's shell and pSeries' firmware want a CR, everything else takes an LF."""
        return self.enter or ("\r" if self.uefi or self.arch == "ppc64" else "\n")

    @property
    def all_prompts(self) -> dict[str, str | Pattern]:
        """By their names; the shell's own first."""
        return ({SHELL: self.prompt} if self.prompt else {}) | dict(self.prompts)


class Tree(NamedTuple):
    """What to boot of a project, and `told`: what of it is not as its own build starts it, in words."""

    profile: Profile
    told: tuple[str, ...] = ()


@cache
def _adapter() -> TypeAdapter[Profile]:
    return TypeAdapter(Profile)


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

    With `busybox` its initrd is made of this machine's busybox when it starts.
    `project` tells it from those of other trees. `reach` are folders that QEMU may read and write besides: what the
    operator opened with the monitor. In `folder` QEMU runs, where something is passed on to it that may name files.
    `symbols` are files for a debugger, `source` is the folder of the project's source, None where there is no project.
    `told` is what its boot's reader should know of it. With `traps` QEMU logs each exception.
    """

    profile: Profile
    kernel: Path | None
    drives: tuple[Drive, ...] = field(default=())
    gpu: bool = False
    firmware: Path | None = None
    gdb: bool = False
    initrd: Path | None = None
    busybox: bool = False
    reach: tuple[Path, ...] = ()
    project: str = ""
    folder: Path | None = None
    symbols: tuple[tuple[Path, int], ...] = ()
    source: Path | None = None
    told: tuple[str, ...] = ()
    traps: bool = False

    @property
    def overlay(self) -> bool:
        """Whether its drives are written to layers that are thrown away, where a drive says nothing of it."""
        return self.profile.overlay

    def is_written(self, drive: Drive) -> bool:
        """Whether the guest's writes get into that drive's own image."""
        return not drive.readonly and not self.is_layered(drive)

    def is_layered(self, drive: Drive) -> bool:
        """Whether they go to a layer that is thrown away."""
        return not drive.readonly and (self.overlay if drive.overlay is None else drive.overlay)

    @property
    def is_x86(self) -> bool:
        """Whether QEMU's log tells of its processors' resets and exceptions."""
        return self.profile.arch in {"x86_64", "i386"}

    @property
    def tells_traps(self) -> bool:
        """Whether QEMU's log of its processors' exceptions is read."""
        return self.is_x86 or self.profile.arch in {"riscv64", "riscv32", "aarch64", "arm"}

    @property
    def qemu(self) -> str:
        """The emulator's name."""
        return f"qemu-system-{self.profile.arch}"


def laid(base: Profile, table: Mapping[str, Any], what: str) -> Profile:
    """A profile with a table's keys laid over it; `what` has them.

    A drive of the profile's, by its path, keeps what the table does not say of it.

    Raises:
        ProfileInvalid: A key that is none, or a value that it cannot have.
    """
    below = asdict(base)
    try:
        return _adapter().validate_python(below | dict(table) | _drives_over(below["drives"], table))
    except ValidationError as error:
        raise ProfileInvalid(
            f"{what} is not a valid profile",
            evidence=explain_validation(error),
            cure=f"Known keys: profile, {', '.join(asdict(base))}",
        ) from error


def _drives_over(below: Iterable[Mapping[str, Any]], table: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(drives := table.get("drives"), list | tuple):
        return {}
    known = {each["path"]: each for each in below}

    def over(drive: object) -> object:
        path = drive.get("path") if isinstance(drive, Mapping) else None
        return (
            {**known[path], **drive}
            if isinstance(drive, Mapping) and isinstance(path, str) and path in known
            else drive
        )

    return {"drives": [over(each) for each in drives]}


_TABLES: Mapping[str, type[Any]] = {
    "": Profile, "drives": Drive, "login": Login, "hosts": FixedHost, "interrupt": Interrupt, "cards": FurtherCard,
    "numa": NumaNode, "loaders": Loader, "fw_cfg": FirmwareFile, "shares": Share, "memory_slots": MemorySlots,
    "forward": Forward, "symbols": SymbolFile,
}  # fmt: skip


def explain_validation(error: ValidationError) -> str:
    """What is wrong with a profile's keys, in one line."""
    return wrong_keys.explain(error, {key: [each.name for each in fields(kind)] for key, kind in _TABLES.items()})
