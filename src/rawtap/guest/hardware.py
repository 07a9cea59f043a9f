"""What a machine is made of, as a profile says it: cards, drives, further devices. Pure.

Nothing here is a text that QEMU reads as more than one value: names are matched against narrow patterns, devices
against a list (`models`), and files are paths, which `profile.resolve` holds against the folders that are allowed.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, Strict, StringConstraints
from pydantic.dataclasses import dataclass as validated_dataclass

from rawtap.guest import models

# Not strict: TOML's arrays and tables become tuples and dataclasses. What checks them is built by `builtin`.
CLOSED = ConfigDict(extra="forbid", defer_build=True)
Flag = Annotated[bool, Strict()]
HostPath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=64)]

Arch = Literal[
    "riscv64", "x86_64", "aarch64", "arm", "i386", "riscv32", "loongarch64", "s390x", "ppc64", "ppc", "mips", "mipsel",
    "mips64", "mips64el", "sparc", "sparc64", "m68k", "microblaze", "microblazeel", "or1k", "alpha", "hppa", "sh4",
    "sh4eb", "xtensa", "xtensaeb", "rx", "avr", "tricore", "nios2", "cris",
]  # fmt: skip

# Debian 13's packages for the emulators; those of all others come with _OTHERS. host/distribution.py translates them.
_PACKAGES: dict[Arch, str] = {
    "riscv64": "qemu-system-riscv",
    "riscv32": "qemu-system-riscv",
    "x86_64": "qemu-system-x86",
    "i386": "qemu-system-x86",
    "aarch64": "qemu-system-arm",
    "arm": "qemu-system-arm",
    "ppc": "qemu-system-ppc",
    "ppc64": "qemu-system-ppc",
    "mips": "qemu-system-mips",
    "mipsel": "qemu-system-mips",
    "mips64": "qemu-system-mips",
    "mips64el": "qemu-system-mips",
    "sparc": "qemu-system-sparc",
    "sparc64": "qemu-system-sparc",
}
_OTHERS = "qemu-system-misc"
QEMU_PACKAGES: dict[Arch, str] = {arch: _PACKAGES.get(arch, _OTHERS) for arch in get_args(Arch)}

Bus = Literal["mmio", "pci", "ccw"]
Interface = Literal[
    "virtio", "virtio-mmio", "virtio-pci", "ide", "ahci", "nvme", "scsi", "sd", "floppy", "usb", "pflash", "mtd"
]
ConsoleAt = Literal[
    "serial0", "serial1", "serial2", "serial3", "serial4", "serial5", "serial6", "serial7", "debugcon", "semihosting",
    "hvc0", "hvc1", "hvc2", "hvc3",
]  # fmt: skip
MOST_PORTS = 8
MOST_VIRTIO_PORTS = 4
# Emulators whose processors have semihosting (qemu/docs/about/emulation.rst).
SEMIHOSTING: tuple[Arch, ...] = ("arm", "aarch64", "m68k", "mips", "mipsel", "mips64", "mips64el", "nios2", "riscv32",
                                 "riscv64", "xtensa", "xtensaeb")  # fmt: skip


def _of_ports(names: tuple[str, ...]) -> tuple[str, ...]:
    said = [name for name in names if name]
    if twice := next((name for name in said if said.count(name) > 1 or name in {"debugcon", "semihosting"}), None):
        raise ValueError(f"{twice!r} names another console")
    return names


_Port = Annotated[str, StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9_.-]{0,31})?$")]
Ports = Annotated[tuple[_Port, ...], Field(max_length=MOST_PORTS), AfterValidator(_of_ports)]
VirtioPorts = Annotated[tuple[_Port, ...], Field(max_length=MOST_VIRTIO_PORTS), AfterValidator(_of_ports)]
LogItem = Literal["guest_errors", "unimp"]

# Kinds of network boot's clients, by their numbers (RFC 4578 2.1, and IANA's "Processor Architecture Types"): those of
# PXE, those of UEFI's HTTP boot, which take a URL, and iPXE whatever it runs on, which has none of its own.
Client = Literal[
    "bios", "uefi-i386", "uefi-x86_64", "uefi-arm", "uefi-aarch64", "uefi-riscv64", "http-i386", "http-x86_64",
    "http-arm", "http-aarch64", "http-riscv64", "ipxe",
]  # fmt: skip
CLIENTS: dict[Client, tuple[int, ...]] = {
    "bios": (0,),
    "uefi-i386": (6,),
    "uefi-x86_64": (7, 9),  # what most firmware says, and what RFC 4578 says
    "uefi-arm": (10,),
    "uefi-aarch64": (11,),
    "uefi-riscv64": (27,),
    "http-i386": (15,),
    "http-x86_64": (16,),
    "http-arm": (18,),
    "http-aarch64": (19,),
    "http-riscv64": (28,),
    "ipxe": (),
}
_BootFile = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./:+-]{0,127}$")]  # its field holds 128 bytes

WatchdogAction = Literal["reset", "shutdown", "poweroff", "inject-nmi", "pause", "debug", "none"]

_UUID = r"^([0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?$"
_MAC = r"^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$"  # of one station: RFC 9542 2.1
Mac = Annotated[str, StringConstraints(pattern=_MAC)]
Mtu = Annotated[int, Field(strict=True, ge=576, le=65521)]  # RFC 791, 3.1; and what a TAP takes
Machine = Annotated[str, StringConstraints(max_length=256), AfterValidator(models.machine)]
Processor = Annotated[str, StringConstraints(max_length=512), AfterValidator(models.processor)]
Arguments = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")], ...],
    Field(max_length=64),
    AfterValidator(models.arguments),
]
Properties = Annotated[dict[str, models.Value], AfterValidator(models.properties)]
Device = Annotated[dict[str, models.Value], AfterValidator(models.device)]
Globals = Annotated[dict[str, models.Value], AfterValidator(models.globals_)]


@validated_dataclass(frozen=True, config=CLOSED)
class Drive:
    """An image for a disk. An optional one is left out where its file does not exist.

    Attributes:
        interface: What the guest finds it on.
        media: Whether it is a disk, or a CD in a drive, which is read-only. None: a CD for an ISO that a PC starts
            from, else a disk.
        options: Properties of its device, as a place: {bus = "virtio-mmio-bus.0"}.
        overlay: Whether the guest's writes are thrown away at its end; as the profile says where it is None.
        format: How the image is written; "folder" for a folder, which the guest finds as a FAT disk that forgets
            writes, or as a CD.
    """

    path: HostPath
    format: Literal["raw", "qcow2", "folder"] = "raw"
    readonly: Flag = False
    serial: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,20}$")] | None = None
    optional: Flag = False
    interface: Interface = "virtio"
    media: Literal["disk", "cdrom"] | None = None
    options: Properties = field(default_factory=dict)
    overlay: Flag | None = None

    @property
    def is_cd_of_folder(self) -> bool:
        """Whether an ISO image is made of a folder for it."""
        return self.format == "folder" and self.media == "cdrom"


@validated_dataclass(frozen=True, config=CLOSED)
class Loader:
    """A file that is in the guest's memory at its start, at an address, or where the file itself says (an ELF).

    `cpu` is the processor that starts there; without a file that is all (qemu/docs/system/generic-loader.rst).
    """

    path: HostPath | None = None
    address: Annotated[int, Field(strict=True, ge=0, lt=1 << 64)] | None = None
    cpu: Annotated[int, Field(strict=True, ge=0, lt=512)] | None = None
    raw: Flag = False

    def __post_init__(self) -> None:
        if self.path is None and (self.address is None or self.cpu is None):
            raise ValueError("give a path, or an address and a cpu")


@validated_dataclass(frozen=True, config=CLOSED)
class FirmwareFile:
    """What the guest finds under a name in QEMU's firmware interface: a file, or a text."""

    name: Annotated[str, StringConstraints(pattern=r"^(opt|etc)/[A-Za-z0-9._/-]{1,50}$")]
    path: HostPath | None = None
    text: Annotated[str, StringConstraints(pattern=r"^[^\x00]{0,1024}$")] | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.text is None):
            raise ValueError("give one of path and text")


@validated_dataclass(frozen=True, config=CLOSED)
class Share:
    """A folder of the project's that the guest can mount under its tag, and read."""

    path: HostPath
    tag: Word
    by: Literal["9p", "virtiofs"] = "9p"


@validated_dataclass(frozen=True, config=CLOSED)
class Forward:
    """A port of this machine's loopback that leads to a port of the guest's, where the operator allows it."""

    host: Annotated[int, Field(strict=True, ge=1, le=65535)]
    guest: Annotated[int, Field(strict=True, ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"

    def __str__(self) -> str:
        return f"127.0.0.1:{self.host}/{self.protocol} leads to its port {self.guest}"


@validated_dataclass(frozen=True, config=CLOSED)
class NumaNode:
    """A node of a machine whose memory is not equally far from all processors; all nodes' sizes make up `memory`."""

    memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]?$")]
    cpus: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,3}(-[0-9]{1,3})?)?$")] = ""


_Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]?$")]


@validated_dataclass(frozen=True, config=CLOSED)
class MemorySlots:
    """Places for further memory: how many, how much the machine can have at most, and what is in the first ones."""

    count: Annotated[int, Field(strict=True, ge=1, le=256)]
    most: _Size
    modules: tuple[_Size, ...] = ()

    def __post_init__(self) -> None:
        if len(self.modules) > self.count:
            raise ValueError(f"{len(self.modules)} modules do not fit into {self.count} slots")


@validated_dataclass(frozen=True, config=CLOSED)
class FurtherCard:
    """A network card besides the first one, on a bridge of its own, or on the first one's where it names none."""

    nic: models.Nic = "virtio-net"
    nic_options: Properties = field(default_factory=dict)
    mac: Mac | None = None
    mtu: Mtu | None = None
    bridge: Annotated[str, StringConstraints(min_length=1, max_length=15)] | None = None
    address: Annotated[str, StringConstraints(min_length=1, max_length=18)] | None = None

    def __post_init__(self) -> None:
        if (self.bridge is None) != (self.address is None):
            raise ValueError("bridge and address go together: the host's address is another on each bridge")


@validated_dataclass(frozen=True, config=CLOSED)
class Hardware:
    """What a profile says of the machine's parts.

    Attributes:
        bus: Where virtio devices go; as the machine has it where None.
        uefi: Whether UEFI starts it: Debian's build for its architecture, with variables of the guest's own.
        nic: The network card's model; "board" for what the machine has on board.
        nic_options: Properties of the card.
        mac: The card's address; one made of project, bridge and guest's name where None.
        mtu: Bytes of a packet on its wire, at most; 1500 where None. A virtio card tells it to its driver.
        cards: Further cards.
        globals: Defaults of properties, by "model.property" (QEMU's -global).
        devices: Further devices: the model as `driver`, and its properties.
        console: Which port is the console where a call names none.
        serial: Names of the serial ports, in order: each is a console of that name; "" goes nowhere.
        hvc: Names of the virtio consoles, in order, in the same way (Linux has them as hvc0 and so on).
        debugcon: Whether a PC's debug port is a console of that name.
        semihosting: Whether what a program says by semihosting is a console of that name.
        boot: In which order PC firmware tries: letters of QEMU's -boot order.
        screen: Model of a graphics card that is there without being asked for.
        topology: Processors as sockets, cores, threads.
        numa: Nodes of memory and processors.
        memory_slots: For memory besides, as modules.
        vsock: Its address for vsock (a CID), by which programs of this machine's reach the guest without a network.
        watchdog_action: What QEMU does when a watchdog fires.
        on_shutdown: Whether QEMU ends when the guest powers off, or keeps it as it was.
        uuid: What its firmware says that it is.
        log: What QEMU notes of it on stderr: what of a device it used wrongly, and what QEMU does not have of one.
        icount: Instructions for a tick of the guest's clock, as a power of 2, or "auto".
        rtc: Where the guest's clock starts.
        firmware_folder: Where QEMU looks for firmware and option ROMs by their names, before its own.
        tftp: A folder whose files the guest may have by TFTP.
        forward: Ports of this machine's that lead to the guest's, with network="user" or a rootless server.
        qemu_args: Further words of QEMU's command line, where the operator lets them past.
        bootfile: Which of them network boot begins with; by the client's kind where it is a table (RFC 4578).
    """

    bus: Bus | None = None
    uefi: Flag = False
    nic: models.Nic = "virtio-net"
    nic_options: Properties = field(default_factory=dict)
    mac: Mac | None = None
    mtu: Mtu | None = None
    cards: Annotated[tuple[FurtherCard, ...], Field(max_length=7)] = ()
    globals: Globals = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    console: ConsoleAt = "serial0"
    serial: Ports = ()
    hvc: VirtioPorts = ()
    debugcon: Flag = False
    semihosting: Flag = False
    boot: Annotated[str, StringConstraints(pattern=r"^[a-dn-p]{0,8}$")] = ""
    screen: models.Screen | Literal["", "none"] = ""
    topology: dict[models.TopologyKey, Annotated[int, Field(strict=True, ge=1, le=64)]] = field(default_factory=dict)
    numa: Annotated[tuple[NumaNode, ...], Field(max_length=16)] = ()
    memory_slots: MemorySlots | None = None
    vsock: Annotated[int, Field(strict=True, ge=3, lt=(1 << 32) - 1)] | None = None  # vsock(7): those below are taken
    watchdog_action: WatchdogAction = "reset"
    on_shutdown: Literal["end", "pause"] = "end"
    uuid: Annotated[str, StringConstraints(pattern=_UUID)] = ""
    log: tuple[LogItem, ...] = ()
    icount: Annotated[int, Field(strict=True, ge=0, le=10)] | Literal["auto"] | None = None
    rtc: Annotated[str, StringConstraints(pattern=r"^(utc|localtime|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:]{8})?)$")] = "utc"
    dtb: str = ""
    firmware_folder: str = ""
    loaders: tuple[Loader, ...] = ()
    fw_cfg: tuple[FirmwareFile, ...] = ()
    shares: tuple[Share, ...] = ()
    tftp: str = ""
    bootfile: _BootFile | dict[Client, _BootFile] = ""
    forward: Annotated[tuple[Forward, ...], Field(max_length=32)] = ()
    qemu_args: Arguments = ()

    @property
    def ports(self) -> dict[str, str]:
        """The consoles besides the main one, by their names: which port each is."""
        found = {name: f"serial{number}" for number, name in enumerate(self.serial) if name}
        found |= {name: f"hvc{number}" for number, name in enumerate(self.hvc) if name}
        found |= {port: port for port in ("debugcon", "semihosting") if getattr(self, port)}
        return {name: port for name, port in found.items() if port != self.console}

    @property
    def main_names(self) -> set[str]:
        """What the main console is called."""
        named = {name for number, name in enumerate(self.serial) if name and self.console == f"serial{number}"}
        named |= {name for number, name in enumerate(self.hvc) if name and self.console == f"hvc{number}"}
        return {self.console, *named} - set(self.ports)

    @property
    def is_startable(self) -> bool:
        """Whether something of this could start a machine that has no kernel and no other firmware."""
        return self.uefi or bool(self.loaders or self.tftp or "n" in self.boot)
