"""What is known of a QEMU line so far, while its options are read one after another. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rawtap.guest import models
from rawtap.untrusted import visible

_SHOWN = 120
NO_KEY = "no key of a profile says it"
# Machines of QEMU's own where a line names none (hw/*/, mc->is_default; "none" is what most have).
_DEFAULT_MACHINES = {
    "x86_64": "pc", "i386": "pc", "riscv64": "spike", "riscv32": "spike", "ppc64": "pseries", "ppc": "g3beige",
    "mips": "malta", "mipsel": "malta", "mips64": "malta", "mips64el": "malta", "sparc": "SS-5", "sparc64": "sun4u",
    "s390x": "s390-ccw-virtio", "m68k": "mcf5208evb", "loongarch64": "virt", "or1k": "or1k-sim", "alpha": "clipper",
    "hppa": "hppa", "sh4": "shix", "sh4eb": "shix", "microblaze": "petalogix-s3adsp1800", "xtensa": "sim",
    "microblazeel": "petalogix-s3adsp1800", "xtensaeb": "sim", "nios2": "10m50-ghrd", "cris": "axis-dev88",
}  # fmt: skip
_ALIASES = {"virtio": "virtio-net", "virtio-net-pci": "virtio-net", "virtio-net-device": "virtio-net",
            "virtio-net-ccw": "virtio-net", "e1000-82540em": "e1000", "virtio-net-pci-non-transitional": "virtio-net",
            "virtio-net-pci-transitional": "virtio-net"}  # fmt: skip


def bus_of(model: str) -> str:
    """Where a virtio model goes, by its ending."""
    ending = model.removesuffix("-non-transitional").removesuffix("-transitional").rpartition("-")[2]
    return {"device": "mmio", "pci": "pci", "ccw": "ccw"}.get(ending, "pci")


@dataclass
class Ports:
    """What a line says of consoles: the ends of its serial ports, and of a debug port's."""

    serial: list[str] = field(default_factory=list)
    virtual: list[str] = field(default_factory=list)
    debugcon: str | None = None
    nographic: bool = False
    semihosting: bool = False


@dataclass
class Parts:
    """The line's parts, in a profile's words where they have some."""

    table: dict[str, Any]
    left: list[str] = field(default_factory=list)
    otherwise: list[str] = field(default_factory=list)
    option: tuple[str, ...] = ()  # the one that is being read, as words
    past: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what may be let past, as words for QEMU
    drives: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    disks: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # devices that have a drive: their words
    ends: dict[str, tuple[str, ...]] = field(default_factory=dict)  # chardevs as words, by how they are named
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    memories: dict[str, str] = field(default_factory=dict)
    all_memory: str = ""  # the one of them that -m tells the size of
    chardevs: dict[str, str] = field(default_factory=dict)
    folders: dict[str, dict[str, str]] = field(default_factory=dict)
    interfaces: dict[str, str] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)
    screen: str = ""
    forward: list[dict[str, Any]] = field(default_factory=list)
    network: bool = False
    dumped: bool = False
    gdb: bool = False

    @property
    def arch(self) -> str:
        """The emulator's."""
        return str(self.table["arch"])

    @property
    def machine(self) -> str:
        """The machine with its options."""
        default = _DEFAULT_MACHINES.get(self.arch, "virt")
        return str(self.table.get("machine", default))

    @machine.setter
    def machine(self, name: str) -> None:
        options = self.machine.partition(",")[1:]
        self.table["machine"] = name + "".join(options)

    @property
    def machine_name(self) -> str:
        """Without its options."""
        return self.machine.partition(",")[0]

    def machine_option(self, key: str, value: str) -> None:
        """Add one, where it can be carried."""
        try:
            self.table["machine"] = models.machine(f"{self.machine},{key}={value}")
        except ValueError as error:
            self.leave(f"-machine {key}={value}", str(error))

    def leave(self, option: str, reason: str, *, whole: bool = False) -> None:
        """Note what is not carried; `whole`, where it is all of the option that is being read."""
        said = visible(option)
        self.left.append(f"{said if len(said) <= _SHOWN else said[:_SHOWN] + '...'}: {visible(reason)}")
        if whole:
            self._let_past(self.left[-1])

    def _let_past(self, note: str) -> None:
        """Keep the option that is being read, of which `note` is told, for where options may go to QEMU as they are."""
        named = [self.ends[each] for each in self.option[-1].split(",") if each in self.ends]
        self.past[note] = (*(word for words in named for word in words), *self.option)

    def leave_rest(self, option: str, said: Mapping[str, str], known: Iterable[str] = ()) -> None:
        """Note of an option's keys those that nothing here knows."""
        if rest := {key: value for key, value in said.items() if key not in known}:
            self.leave(f"{option} {','.join(f'{key}={value}' for key, value in rest.items())}", NO_KEY)

    def carry_otherwise(self, what: str, *, whole: bool = False) -> None:
        """Note of an option that is carried how it differs here from what the line says; `whole` as in `leave`."""
        self.otherwise.append(visible(what))
        if whole:
            self._let_past(self.otherwise[-1])

    def checked(
        self,
        option: str,
        check: Callable[[Mapping[str, models.Value]], Mapping[str, models.Value]],
        given: dict[str, models.Value],
        into: dict[str, Any],
    ) -> None:
        """Put properties where they belong, if they may be set; else name them."""
        try:
            models.values(given)
            into.update(check(given))
        except ValueError as error:
            self.leave(option, str(error))

    @staticmethod
    def value(text: str) -> models.Value:
        """A property's value as a profile writes it."""
        if text in {"on", "off", "true", "false", "yes", "no"}:
            return text in {"on", "true", "yes"}
        return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) else text

    def default_card(self) -> str:
        """The model that this machine has where nobody names one."""
        name = self.machine_name
        if models.is_pc(self.arch, name):
            return "e1000e" if "q35" in name else "e1000"
        return "virtio-net" if name.startswith(("virt", "microvm", "pseries", "s390")) or name == "spike" else "board"

    def card(self, model: str | None, mac: str | None, named: dict[str, str]) -> None:
        """Note a network card."""
        found = _ALIASES.get(model or "", model) or self.default_card()
        if found not in models.NICS and self.default_card() == "board":
            found = "board"
        if found not in models.NICS:
            self.leave(f"network card {found}", f"rawtap has no such card{models.nearest(found, models.NICS)}")
            return
        into = self.table
        if "nic" in self.table:
            into = {}
            self.table.setdefault("cards", []).append(into)
        into["nic"] = found
        if mac:
            into["mac"] = mac
        if named.get("romfile") == "":  # there is none here either
            del named["romfile"]
        for key, said in named.items():
            self.checked(
                f"{found},{key}={said}", models.properties, {key: self.value(said)},
                into.setdefault("nic_options", {}),
            )  # fmt: skip
        if model and model.startswith("virtio-net-"):
            self.virtio(model)
            kind = {"pci-non-transitional": {"disable-legacy": True}, "pci-transitional": {"disable-legacy": False}}
            options = kind.get(model.removeprefix("virtio-net-"), {})
            if options:
                into.setdefault("nic_options", {}).update(options)

    def virtio(self, model: str) -> None:
        """Take a virtio model's ending for where virtio devices go; the first one says it."""
        bus = bus_of(model)
        there = self.table.setdefault("bus", bus)
        if there != bus:
            self.leave(model, f'virtio devices are on one bus, here "{there}"')
