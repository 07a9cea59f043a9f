"""Which of QEMU's models a guest may have, and which of their properties, as narrow texts. Pure.

A model is one of a list: those that are all inside QEMU. What lends the guest a device, a file or a socket of the
host's is not on it (vfio-*, vhost-*, usb-host, usb-redir, ivshmem, passthrough of any kind), nor is a property by which
a model gets hold of something of the host's. Source: ``qemu-system-* -device help`` and ``-device MODEL,help``, 7.2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, get_args

from pydantic import Strict, StringConstraints

_VALUE = r"^[A-Za-z0-9_.:+()-]{1,64}$"
Value = Annotated[bool, Strict()] | Annotated[int, Strict()] | Annotated[str, StringConstraints(pattern=_VALUE)]

Nic = Literal[
    "virtio-net", "board", "e1000", "e1000-82544gc", "e1000-82545em", "e1000e", "igb", "rtl8139", "ne2k_pci",
    "ne2k_isa", "pcnet", "tulip", "vmxnet3", "usb-net", "i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a",
    "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801", "sungem", "sunhme", "spapr-vlan",
]  # fmt: skip
NICS: tuple[str, ...] = get_args(Nic)

Screen = Literal[
    "VGA", "bochs-display", "cirrus-vga", "ramfb", "virtio-vga", "virtio-gpu-pci", "virtio-gpu-device", "vmware-svga",
    "ati-vga", "isa-vga",
]  # fmt: skip
SCREENS: tuple[str, ...] = get_args(Screen)

TopologyKey = Literal["sockets", "dies", "clusters", "cores", "threads", "maxcpus"]

_USB = (
    "qemu-xhci", "nec-usb-xhci", "usb-ehci", "ich9-usb-ehci1", "ich9-usb-ehci2", "ich9-usb-uhci1", "ich9-usb-uhci2",
    "ich9-usb-uhci3", "ich9-usb-uhci4", "ich9-usb-uhci5", "ich9-usb-uhci6", "piix3-usb-uhci", "piix4-usb-uhci",
    "pci-ohci",
)  # fmt: skip
_VIRTIO = ("virtio-rng", "virtio-balloon", "virtio-keyboard", "virtio-mouse", "virtio-tablet", "virtio-scsi",
           "virtio-serial", "virtio-iommu")  # fmt: skip
_KINDS = ("", "-device", "-pci", "-ccw", "-pci-transitional", "-pci-non-transitional")
SOUNDS = frozenset({"hda-duplex", "hda-micro", "hda-output", "AC97", "ES1370", "sb16", "cs4231a", "adlib", "gus",
                    "usb-audio", "virtio-sound-device", "virtio-sound-pci"})  # fmt: skip
SCSI = frozenset({"lsi53c810", "lsi53c895a", "lsi", "megasas", "megasas-gen2", "mptsas1068", "pvscsi", "am53c974",
                  "dc390", "spapr-vscsi", *(f"virtio-scsi{kind}" for kind in _KINDS)})  # fmt: skip
DEVICES = frozenset(
    {
        *_USB, "usb-hub", "usb-kbd", "usb-mouse", "usb-tablet", "usb-wacom-tablet",
        *(model + kind for model in _VIRTIO for kind in _KINDS),
        *SCREENS, "secondary-vga", "virtio-gpu", "isa-cirrus-vga", "sga",
        *SOUNDS, "intel-hda", "ich9-intel-hda",
        *SCSI, "ahci", "ich9-ahci", "piix3-ide", "piix4-ide", "isa-ide", "sdhci-pci", "isa-fdc", "nvme-subsys",
        "pci-bridge", "pcie-root-port", "pcie-pci-bridge", "ioh3420", "i82801b11-bridge", "x3130-upstream",
        "xio3130-downstream", "pxb", "pxb-pcie",
        "isa-debug-exit", "pvpanic", "pvpanic-pci", "edu", "pc-testdev", "pci-testdev", "intel-iommu", "amd-iommu",
        "riscv-iommu-pci", "vmcoreinfo", "vmgenid", "i6300esb", "ib700", "mc146818rtc", "i8042", "vmmouse",
        "isa-applesmc", "ipmi-bmc-sim", "isa-ipmi-bt", "isa-ipmi-kcs", "tmp105", "tmp421", "ds1338", "cpu-cluster",
    }
)  # fmt: skip
USB_CONTROLLERS = frozenset(_USB)
_DISKS = {
    r"virtio-blk(-device|-pci|-ccw)?(-non-transitional|-transitional)?": "virtio",
    r"ide-(hd|drive|cd)": "ide",
    r"scsi-(hd|disk|cd)": "scsi",
    r"nvme": "nvme",
    r"usb-(storage|bot)": "usb",
    r"sd-card": "sd",
    r"floppy": "floppy",
}
_WHY_NOT = {
    rf"virtio-net.*|{'|'.join(NICS)}": "a network card is `nic`, a further one is an entry of `cards`",
    r"virtio-9p.*": "a folder is an entry of `shares`, by 9p",
    r"vhost-user-fs.*": 'a folder is an entry of `shares`, with by = "virtiofs"',
    r"vhost-vsock.*": "it is what `vsock` says",
    r"loader": "a file in memory is an entry of `loaders`",
    r"isa-debugcon": "it is what `debugcon` says",
    r"isa-serial": "a serial port is a name in `serial`",
    r"virtconsole": "a virtio console is a name in `hvc`",
    r"vhost-.*|vfio.*|virtio-input-host.*|usb-host|.*-passthru|.*passthrough": "it lends the guest what is the host's",
    r"usb-redir|ivshmem.*|tpm-.*|ccid-card.*|ipmi-bmc-extern|virtio-crypto.*": "it needs a part of the host's",
    r"virtserialport|pci-serial.*|usb-serial|usb-braille|isa-parallel": (
        "a console is a serial port of the machine's own, or a virtio console"
    ),
    r"pc-dimm|nvdimm|virtio-(mem|pmem).*": "memory is what `memory` says, and `memory_slots`",
    r"qxl.*|.*-gl.*": "this screen needs the host's; VGA or virtio-gpu-pci does not",
}

# By these a model gets hold of another part of QEMU, or of the host: what there is of that is rawtap's to say.
_NOT_HERS = frozenset(
    {
        "driver", "romfile", "netdev", "drive", "chardev", "fsdev", "memdev", "rng", "file", "filename", "audiodev",
        "tpmdev", "cryptodev", "iothread", "host", "hostbus", "hostaddr", "hostdevice", "hostport", "sysfsdev", "evdev",
        "rootdir", "kernel", "initrd", "bootargs", "append", "fd", "fds", "path", "shm", "failover_pair_id", "vhost",
        "vhostfd", "vhostfds", "vhostforce", "secret", "tls-creds", "socket", "mac", "macaddr", "canbus0", "canbus1",
        "hostmem", "display", "logfile", "sdrfile", "frudatafile",
    }
)  # fmt: skip
_SHORTEST = 3  # of a beginning that tells what was meant
_PROPERTY = re.compile(r"[a-z][A-Za-z0-9_-]{0,63}")
_DESCRIPTORS = re.compile(r".*(^|[-_])fds?")
_GLOBAL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})\.([^.]+)")  # a model may have a dot: cfi.pflash01

MACHINE_OPTIONS = frozenset(
    {
        "acpi", "aclint", "aia", "aia-guests", "aes-key-wrap", "auto-kernel-cmdline", "compact-highmem",
        "dea-key-wrap", "default-bus-bypass-iommu", "dtb-kaslr-seed", "dtb-randomness",
        "dump-guest-core", "fd-bootchk", "gic-version", "graphics", "highmem", "highmem-ecam", "highmem-mmio",
        "highmem-redists", "hmat", "hpet", "i8042", "ic-mode", "ioapic2", "iommu", "isa-serial", "its",
        "kernel-irqchip", "kernel_irqchip", "kvm-type", "loadparm", "max-cpu-compat", "max-ram-below-4g", "mem-merge",
        "msel", "mte",
        "nvdimm", "option-roms", "pcie", "pic", "pit", "ras", "rtc", "sata", "secure", "serial", "smbus", "smm",
        "start-in-flash", "suppress-vmdesc", "usb", "via", "virtualization", "vmport", "x-oem-id", "x-oem-table-id",
        "endianness", "x-vof", "execute-in-place", "g3beige-cuda", "vsmt", "xics", "secure-boot", "boot-mode",
        "hb-mode", "revb",
    }
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_OPTION_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_FEATURE = re.compile(r"[+-]?[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(=[A-Za-z0-9_.:-]{1,64})?")

_PCI_ARCHES = frozenset({"x86_64", "i386", "ppc", "ppc64", "mips", "mipsel", "mips64", "mips64el", "alpha", "sparc64",
                         "hppa", "loongarch64"})  # fmt: skip
_PCI_MACHINES = frozenset({"sbsa-ref", "versatilepb", "versatileab", "realview-eb", "raspi4b"})


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for an error: which of `known` may have been meant."""
    there = list(known)
    longer = [each for each in there if len(name) >= _SHORTEST and each.startswith(name)]
    close = difflib.get_close_matches(name, longer, 1, 0.3) or difflib.get_close_matches(name, there, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def interface_of(model: str) -> str | None:
    """What a disk of that model is on; None for none of a disk."""
    return _first(_DISKS, model)


def why_not(model: str) -> str:
    """Why a model is none of the further devices, and what says it instead, in words."""
    if interface := interface_of(model):
        return f'a disk is an entry of `drives`, with interface = "{interface}"'
    return _first(_WHY_NOT, model) or f"it is no model that a guest may have here{nearest(model, DEVICES)}"


def _first(known: Mapping[str, str], model: str) -> str | None:
    return next((found for pattern, found in known.items() if re.fullmatch(pattern, model)), None)


def machine(text: str) -> str:
    """A machine and its options, like "virt,gic-version=3".

    Raises:
        ValueError: There is one that it may not have.
    """
    name, *options = text.split(",")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no machine's name, like 'virt' or 'virt,gic-version=3'")
    for option in options:
        key, _, value = option.partition("=")
        if key not in MACHINE_OPTIONS:
            hint = "; the accelerator is rawtap's to choose" if key == "accel" else nearest(key, MACHINE_OPTIONS)
            raise ValueError(f"{key!r} is no machine option that is carried{hint}")
        if not _OPTION_VALUE.fullmatch(value):
            raise ValueError(f"{value!r} is no value of {key}")
    return text


def processor(text: str) -> str:
    """A processor's model and its features, like "rv64,v=true" or "max,-avx"."""
    name, *features = text.split(",")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no processor's name, like 'max' or 'rv64,v=true'")
    wrong = next((each for each in features if not _FEATURE.fullmatch(each)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no feature, like '+avx' or 'v=true'")
    return text


def properties(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Properties of a model's that say nothing of the host."""
    for key in given:
        if not _PROPERTY.fullmatch(key) or key in _NOT_HERS or _DESCRIPTORS.fullmatch(key):
            raise ValueError(f"the property {key!r} may not be set here")
    return given


def values(given: Mapping[str, Value]) -> None:
    """Refuse values that no profile takes."""
    for key, value in given.items():
        if isinstance(value, str) and not re.match(_VALUE, value):
            raise ValueError(f"{value!r} is no value of {key} that is carried")


# By these QEMU would not be the server's any more: its life, its monitor, what confines it, what it inherits.
_NOT_PAST = frozenset({"daemonize", "S", "sandbox", "runas", "chroot", "add-fd", "qmp", "qmp-pretty", "mon", "monitor",
                       "preconfig", "incoming", "help", "h", "version", "run-with"})  # fmt: skip


def arguments(given: tuple[str, ...]) -> tuple[str, ...]:
    """Words for QEMU's command line that nobody reads; the server keeps what makes QEMU its own."""
    for word in given:
        if word.startswith("-") and word.lstrip("-") in _NOT_PAST:
            raise ValueError(f"{word!r} is the server's own to say")
    return given


def device(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """A further device: a model of the list, and its properties."""
    model = str(given.get("driver"))
    if model not in DEVICES:
        raise ValueError(f"driver {model!r}: {why_not(model)}")
    properties({key: value for key, value in given.items() if key != "driver"})
    return given


def globals_(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Defaults of properties, by "model.property"."""
    for key in given:
        match = _GLOBAL.fullmatch(key)
        if match is None:
            raise ValueError(f"{key!r} is not like 'virtio-mmio.force-legacy'")
        properties({match[2]: given[key]})
    return given


def default_bus(arch: str, machine_name: str) -> Literal["mmio", "pci", "ccw"]:
    """Where that machine has its virtio devices."""
    if arch == "s390x":
        return "ccw"
    if machine_name == "microvm":
        return "mmio"
    return "pci" if arch in _PCI_ARCHES or machine_name in _PCI_MACHINES else "mmio"


def has_pci(arch: str, machine_name: str) -> bool:
    """Whether that machine has PCI, as far as it is known."""
    return _is_virt(arch, machine_name) or default_bus(arch, machine_name) == "pci"


def _is_virt(arch: str, machine_name: str) -> bool:
    return machine_name.startswith("virt") and arch in {"riscv64", "riscv32", "aarch64", "arm"}


def has_scsi(arch: str, machine_name: str) -> bool:
    """Whether that machine has a SCSI controller of its own, which takes the drives that name no other."""
    return arch in {"sparc", "hppa"} or machine_name in {"q800", "magnum", "pica61", "40p"}


def is_pc(arch: str, machine_name: str) -> bool:
    """Whether that is a PC, with a PC's firmware."""
    return arch in {"x86_64", "i386"} and re.match(r"pc(-|$)|q35$", machine_name.partition(",")[0]) is not None


def asks_for_a_screen(arch: str, machine_name: str) -> bool:
    """Whether its firmware looks for a screen and a keyboard first: a PC's, and Open Firmware."""
    return is_pc(arch, machine_name) or arch in {"ppc", "ppc64", "sparc", "sparc64"}


def is_board(arch: str, machine_name: str) -> bool:
    """Whether that is a board of somebody's, whose memory and processors are not for everybody to choose."""
    made_up = _is_virt(arch, machine_name) or machine_name.partition(",")[0] == "microvm"
    return not made_up and not is_pc(arch, machine_name)


def as_option(properties_: Mapping[str, Value]) -> str:
    """Properties as QEMU's options are written: their values hold no comma."""
    return ",".join(f"{key}={written(value)}" for key, value in properties_.items())


def written(value: Value) -> str:
    """A property's value as QEMU's options are written."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
