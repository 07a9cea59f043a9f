"""A QEMU command line, as a Makefile has it, made a profile; what is not carried is named, with why. Pure.

Theory of operation. A line is read as QEMU reads it (`line_words`), and each option has a handler that says in a
profile's own words what it means: nothing of the line is passed on. A profile is checked like any other, so a line can
ask for no more than a ``rawtap.toml`` can. Networks, consoles, screens and monitors are rawtap's own; whatever has no
word in a profile is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from rawtap.errors import RequestInvalid
from rawtap.guest import line_consoles, line_network, models
from rawtap.guest.hardware import Arch, LogItem, WatchdogAction
from rawtap.guest.line_devices import add_device, add_fsdev, add_sound, add_usb, add_virtfs, join_disks
from rawtap.guest.line_drives import DEFAULT, add_blockdev, add_drive, finished, image, is_read
from rawtap.guest.line_state import NO_KEY, Parts
from rawtap.guest.line_words import is_on, options, pairs, program_and_words, whole_number


@dataclass(frozen=True)
class Line:
    """What a line says.

    Attributes:
        table: A profile's keys and values.
        left: What is not carried: the option, and why.
        otherwise: How what is carried differs from what the line says.
        network: Whether it has a network card on a network.
        gdb: Whether it opens a debugger's stub.
        dumped: Whether it writes down what its card sends and gets.
        forward: Ports of this machine's that lead to the guest's, in a profile's words.
        past: Of `left` and `otherwise`, what is a whole option: its words, for QEMU.
    """

    table: dict[str, Any]
    left: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    network: bool = False
    gdb: bool = False
    dumped: bool = False
    past: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forward: tuple[Mapping[str, Any], ...] = ()

    def with_ports(self, ports: tuple[int, int] | None) -> Line:
        """The same with those of its forwarded ports that the operator gives; the others are named."""
        first, last = ports or (0, -1)
        there = [each for each in self.forward if first <= each["host"] <= last]
        why = f"the operator gives {first} to {last}" if ports else "the operator gives none (--allow-forward)"
        left = tuple(f"the forwarded port {each['host']}: {why}" for each in self.forward if each not in there)
        return replace(self, table=self.table | ({"forward": there} if there else {}), left=(*self.left, *left))

    def let_past(self) -> Line:
        """The same with all that can be passed on to QEMU as the line has it, where the operator allows it."""
        words = [word for each in self.past.values() for word in each]
        table = self.table | ({"qemu_args": words} if words else {})
        left, otherwise = (
            tuple(each for each in told if each not in self.past) for told in (self.left, self.otherwise)
        )
        return replace(self, table=table, left=left, otherwise=otherwise)

    def told(self) -> tuple[str, ...]:
        """What a reader must know of it: what there is not, and what is another way, in words."""
        return (
            *(f"not carried: {each}" for each in self.left),
            *(f"otherwise here: {each}" for each in self.otherwise),
        )


# Done by rawtap in its own way, so nothing is lost: no word of them.
_OURS = frozenset(
    {
        "accel", "enable-kvm", "no-kvm", "display", "monitor", "qmp", "qmp-pretty", "mon", "nodefaults",
        "no-user-config", "nodefconfig", "sandbox", "name", "show-cursor", "full-screen", "fullscreen", "no-frame",
        "no-quit", "alt-grab", "ctrl-grab", "curses", "sdl", "gtk", "vnc", "spice", "k", "audiodev",
        "audio", "pidfile", "daemonize", "msg", "runas", "no-kvm-irqchip", "overcommit", "mem-prealloc", "realtime",
        "chroot", "no-kvm-pit-reinjection", "tdf", "echr",
    }
)  # fmt: skip
_WHY_NOT = {
    **dict.fromkeys(("trace", "dfilter"), "QEMU's own trace would be a file of the host's"),
    "plugin": "it loads a program into QEMU",
    **dict.fromkeys(("incoming", "loadvm"), "a state from elsewhere is not loaded; qemu_snapshot has rawtap's own"),
    "tpmdev": "it is a part of the host's or of QEMU's that no profile names",
    **dict.fromkeys(("mem-path", "acpitable", "smbios", "compat", "set", "readconfig", "writeconfig",
                     "option-rom", "prom-env", "add-fd", "g", "no-fd-bootchk"), NO_KEY),
    "iscsi": "a disk elsewhere is not reached",
}  # fmt: skip


def read(text: str) -> Line:
    """What a line means.

    Raises:
        RequestInvalid: It cannot be read as one, with the word at which it ends.
    """
    found = program_and_words(text)
    if found.arch not in get_args(Arch):
        raise RequestInvalid(
            f"there is no emulator qemu-system-{found.arch}", cure=f"Known: {', '.join(get_args(Arch))}"
        )
    # Boards whose memory and processors are fixed refuse what is another's default.
    parts = Parts({"arch": found.arch, "memory": "", "smp": 0}, otherwise=list(found.told))
    for name, value in options(found.words, _KNOWN):
        _one(parts, name, value)
    join_disks(parts)
    line_consoles.settle(parts)
    finished(parts)
    if parts.all_memory and parts.all_memory not in parts.memories:
        parts.leave(
            f"-machine memory-backend={parts.all_memory}", "no memory of the line that is carried has that name"
        )
    _cards_default(parts)
    table = {key: value for key, value in parts.table.items() if key == "memory" or value not in ((), [], {}, "")}
    left, otherwise = (tuple(dict.fromkeys(each)) for each in (parts.left, parts.otherwise))
    return Line(table, left, otherwise, parts.network, parts.gdb, parts.dumped, parts.past, tuple(parts.forward))


def _one(parts: Parts, name: str, value: str | None) -> None:
    if value is None:
        parts.leave(f"-{name}", "no value comes after it")
        return
    parts.option = (f"-{name}", value) if value else (f"-{name}",)
    if (handler := _HANDLERS.get(name)) is not None:
        handler(parts, value)
    elif name in _WHY_NOT:
        parts.leave(f"-{name} {value}".strip(), _WHY_NOT[name], whole=True)
    elif name not in _OURS:
        parts.leave(f"-{name} {value}".strip(), "rawtap does not know this option", whole=True)


def _text(key: str) -> Callable[[Parts, str], None]:
    def handler(parts: Parts, value: str) -> None:
        parts.table[key] = value

    return handler


def _flag(key: str, value: Any) -> Callable[[Parts, str], None]:
    def handler(parts: Parts, _: str) -> None:
        parts.table[key] = value

    return handler


def _machine(parts: Parts, value: str) -> None:
    said = pairs(value, "type")
    if (name := said.pop("type", None)) is not None:
        parts.machine = {"raspi2": "raspi2b", "raspi3": "raspi3b"}.get(name, name)  # as they were until QEMU 6.2
    for written, option in said.items():
        key = written.replace("_", "-")  # they are the same to QEMU (softmmu/vl.c, keyval_dashify)
        if key in {"accel", "kernel-irqchip", "dump-guest-core", "mem-merge", "pcspk-audiodev"}:
            continue
        if re.fullmatch(r"pflash[01]", key):
            parts.interfaces[option] = "pflash"
        elif key == "dtb":
            parts.table["dtb"] = option
        elif key == "memory-backend":
            parts.all_memory = option
        else:
            parts.machine_option(key, option)


def _cpu(parts: Parts, value: str) -> None:
    name, *features = value.split(",")
    if name == "host":
        name = "max"  # the same with KVM, and it is there without
        features = [each for each in features if not each.startswith(("migratable", "kvm", "host-"))]
    parts.table["cpu"] = ",".join([name, *features])


def _memory(parts: Parts, value: str) -> None:
    said = pairs(value, "size")
    size = said.pop("size", "").upper().removesuffix("B")
    if match := re.fullmatch(r"([0-9]{1,6}\.[0-9]{1,9})G", size):
        size = f"{int(float(match[1]) * 1024)}M"
    parts.table["memory"] = size.removesuffix("I") if size[-1:] == "I" else size
    if {"slots", "maxmem"} <= set(said) and (count := whole_number(said["slots"])):
        slots = {"count": count, "most": said.pop("maxmem").upper().removesuffix("B"), "modules": []}
        parts.table["memory_slots"] = slots
        del said["slots"]
    if said:
        parts.leave(f"-m {','.join(f'{key}={said[key]}' for key in said)}", "slots and maxmem go together")


def _smp(parts: Parts, value: str) -> None:
    said: dict[str, int] = {}
    for key, each in pairs(value, "cpus").items():
        if key not in {"cpus", *get_args(models.TopologyKey)}:
            parts.leave(f"-smp {key}={each}", NO_KEY)
        elif (found := whole_number(each)) is None:
            parts.leave(f"-smp {key}={each}", "it is no number")
        else:
            said[key] = found
    topology = {key: each for key, each in said.items() if key in get_args(models.TopologyKey)}
    product = topology.get("sockets", 1) * topology.get("cores", 1) * topology.get("threads", 1)
    parts.table["smp"] = said.get("cpus", product)
    if set(topology) - {"maxcpus"} or topology.get("maxcpus", parts.table["smp"]) != parts.table["smp"]:
        parts.table["topology"] = topology


def _bios(parts: Parts, value: str) -> None:
    parts.table["bios" if value in {"default", "none"} else "firmware"] = value


def _boot(parts: Parts, value: str) -> None:
    said = pairs(value, "order")
    order = said.get("once", said.get("order", ""))
    if order:
        parts.table["boot"] = order
    if "once" in said:
        parts.carry_otherwise(f"-boot once={order}: that order holds after a reset as well")
    parts.leave_rest("-boot", said, {"order", "once"})


def _global(parts: Parts, value: str) -> None:
    match = re.fullmatch(r"([^.=,]+\.[^=,]+)=(.*)", value)
    if match is None:
        said = pairs(value)
        match = re.fullmatch(
            r"(.*)=(.*)", f"{said.get('driver', '')}.{said.get('property', '')}={said.get('value', '')}"
        )
    if match is None:
        parts.leave(f"-global {value}", "it is not like model.property=value")
        return
    parts.table.setdefault("globals", {})
    parts.checked(f"-global {value}", models.globals_, {match[1]: parts.value(match[2])}, parts.table["globals"])


def _rtc(parts: Parts, value: str) -> None:
    said = pairs(value)
    if said.get("base", "utc") != "utc":
        parts.table["rtc"] = said["base"]
    if said.get("clock", "host") == "vm":
        parts.leave("-rtc clock=vm", "the guest's clock follows the host's")
    parts.leave_rest("-rtc", said, {"base", "clock"})


def _icount(parts: Parts, value: str) -> None:
    """-icount. That the guest sleeps, and may be ahead of the host's clock, is QEMU's own default."""
    said = pairs(value, "shift")
    found = whole_number(said.pop("shift", "auto"))
    parts.table["icount"] = "auto" if found is None else found
    usual = {"align": "off", "sleep": "on"}
    parts.leave_rest("-icount", {key: each for key, each in said.items() if usual.get(key) != each})


def _fw_cfg(parts: Parts, value: str) -> None:
    said = pairs(value, "name")
    if not {"file", "string"} & set(said):
        parts.leave(f"-fw_cfg {value}", "only a file or a string is carried", whole=True)
        return
    entry = {"name": said.get("name", "")}
    entry |= {"path": said["file"]} if "file" in said else {"text": said.get("string", "")}
    parts.table.setdefault("fw_cfg", []).append(entry)


def _vga(parts: Parts, value: str) -> None:
    known = {"std": "VGA", "cirrus": "cirrus-vga", "virtio": "virtio-vga", "vmware": "vmware-svga", "none": "none"}
    if value in known:
        parts.screen = known[value]
    else:
        parts.leave(f"-vga {value}", "rawtap has no such screen", whole=True)


def _actions(parts: Parts, value: str) -> None:
    """-action, and what older options say of it."""
    keys = {"reboot": "on_reset", "shutdown": "on_shutdown", "watchdog": "watchdog_action"}
    words = {"reboot": {"reset": "reboot", "shutdown": "stop"}, "shutdown": {"poweroff": "end", "pause": "pause"}}
    for key, said in pairs(value).items():
        found = words.get(key, {}).get(said, said if said in get_args(WatchdogAction) else "")
        if key in keys and found:
            parts.table[keys[key]] = found
        else:
            parts.leave(f"-action {key}={said}", NO_KEY)


def _log(parts: Parts, value: str) -> None:
    """-d. What the processor does has a tool of its own, and is too much for a log that an answer could hold."""
    said = value.split(",")
    if "cpu_reset" in said:
        said.remove("cpu_reset")
        parts.carry_otherwise("-d cpu_reset: resets are counted and told of, without the registers")
    if "int" in said and parts.arch in {"i386", "x86_64"}:
        said.remove("int")
        parts.carry_otherwise('-d int: qemu_debug(action="crash") has exceptions logged, and tells of them')
    carried = [each for each in said if each in get_args(LogItem)]
    parts.table.setdefault("log", []).extend(each for each in carried if each not in parts.table["log"])
    if rest := [each for each in said if each not in carried]:
        parts.leave(f"-d {','.join(rest)}", "there would be too much of it; qemu_debug tells what the guest runs")


def _log_file(parts: Parts, value: str) -> None:
    parts.carry_otherwise(f"-D {value}: QEMU's log is in `stderr` at the guest's end", whole=True)


def _gdb(parts: Parts, _: str) -> None:
    parts.gdb = True


def _held(parts: Parts, _: str) -> None:
    parts.carry_otherwise("-S: the guest runs at once; a debugger that attaches stops it where it is by then")


def _firmware_folder(parts: Parts, value: str) -> None:
    """-L. QEMU looks into all of them, the first one first."""
    if (first := parts.table.setdefault("firmware_folder", value)) != value:
        parts.leave(f"-L {value}", f"{first} is the one such folder")


def _acpi(parts: Parts, _: str) -> None:
    parts.machine_option("acpi", "off")


def _hpet(parts: Parts, _: str) -> None:
    parts.machine_option("hpet", "off")


def _usb(parts: Parts, _: str) -> None:
    parts.machine_option("usb", "on")


def _numa(parts: Parts, value: str) -> None:
    """A node; its memory is a number of MiB, or that of an object which was named before."""
    said = pairs(value, "type")
    memory = parts.memories.get(said.get("memdev", ""), said.get("mem", "")).upper()
    if said.get("type") != "node" or not memory or set(said) - {"type", "nodeid", "cpus", "mem", "memdev"}:
        parts.leave(f"-numa {value}", "only nodes with memory are carried", whole=True)
        return
    node = {"memory": f"{memory}M" if memory.isdigit() else memory.removesuffix("B")}
    parts.table.setdefault("numa", []).append(node | ({"cpus": said["cpus"]} if "cpus" in said else {}))


def _object(parts: Parts, value: str) -> None:
    """A source of entropy is QEMU's own here (rng-builtin), memory is that of a node; all else is named."""
    said = pairs(value, "qom-type")
    if _is_memory(said):
        size = said.get("size", "")
        parts.memories[said.get("id", "")] = f"{int(size) >> 20}" if size.isdigit() else size
        if is_on(said.get("share")):
            parts.carry_otherwise(f"-object {said['qom-type']} share=on: the guest's memory is its own alone")
    elif pairs(value, "qom-type").get("qom-type") == "filter-dump":
        parts.dumped = True
    elif pairs(value, "qom-type").get("qom-type") not in {"rng-random", "rng-builtin", "iothread"}:
        parts.leave(f"-object {value}", "it is a part of the host's or of QEMU's that no profile names", whole=True)


def _is_memory(said: Mapping[str, str]) -> bool:
    """Whether that is memory of a guest's and nothing else: none that is kept in a file of somebody's."""
    kind, place = said.get("qom-type"), said.get("mem-path", "")
    return kind in {"memory-backend-ram", "memory-backend-memfd"} or (
        kind == "memory-backend-file" and re.fullmatch(r"/dev/(shm|hugepages[^/]*)/?", place) is not None
    )


def _disk(interface: str, index: int | None = None, media: str = "disk") -> Callable[[Parts, str], None]:
    def handler(parts: Parts, value: str) -> None:
        if value.startswith("fat:"):
            where = "" if interface == DEFAULT else f",if={interface}"
            add_drive(parts, f"file={value.replace(',', ',,')}{where},index={index}")
        elif is_read(parts, value):
            parts.drives.append(image(value, interface, index, media))

    return handler


_HANDLERS: Mapping[str, Callable[[Parts, str], None]] = {
    **dict.fromkeys(("M", "machine"), _machine),
    "cpu": _cpu,
    "m": _memory,
    "smp": _smp,
    "kernel": _text("kernel"),
    "initrd": _text("initrd"),
    "append": _text("bootargs"),
    "dtb": _text("dtb"),
    "bios": _bios,
    "boot": _boot,
    "global": _global,
    "rtc": _rtc,
    "numa": _numa,
    "uuid": _text("uuid"),
    "redir": line_network.add_redir,
    "tftp": _text("tftp"),
    "bootp": _text("bootfile"),
    "L": _firmware_folder,
    "d": _log,
    "D": _log_file,
    "localtime": _flag("rtc", "localtime"),
    "icount": _icount,
    "fw_cfg": _fw_cfg,
    "vga": _vga,
    "std-vga": _flag("screen", "VGA"),
    "usb": _usb,
    "usbdevice": add_usb,
    "soundhw": add_sound,
    "watchdog": add_device,
    "watchdog-action": lambda parts, value: _actions(parts, f"watchdog={value}"),
    "action": _actions,
    "no-shutdown": lambda parts, _value: _actions(parts, "shutdown=pause"),
    **dict.fromkeys(("s", "gdb"), _gdb),
    "S": _held,
    "parallel": line_consoles.add_parallel,
    "serial": line_consoles.add_serial,
    "debugcon": line_consoles.add_debugcon,
    "chardev": line_consoles.add_chardev,
    "nographic": lambda parts, _value: setattr(parts.ports, "nographic", True),
    **dict.fromkeys(("semihosting", "semihosting-config"), line_consoles.add_semihosting),
    "object": _object,
    "device": add_device,
    "netdev": line_network.add_netdev,
    "net": line_network.add_net,
    "nic": line_network.add_nic,
    "fsdev": add_fsdev,
    "virtfs": add_virtfs,
    "no-acpi": _acpi,
    "no-hpet": _hpet,
    "no-reboot": _flag("on_reset", "stop"),
    "snapshot": _flag("overlay", True),
    "drive": add_drive,
    "blockdev": add_blockdev,
    **{f"hd{letter}": _disk(DEFAULT, number) for number, letter in enumerate("abcd")},
    "cdrom": _disk(DEFAULT, 2, "cdrom"),
    "fda": _disk("floppy", 0),
    "fdb": _disk("floppy", 1),
    "sd": _disk("sd"),
    "mtdblock": _disk("mtd"),
    "pflash": _disk("pflash"),
}


_KNOWN = frozenset({*_HANDLERS, *_WHY_NOT, *_OURS})


def _cards_default(parts: Parts) -> None:
    """The card that QEMU gives where the line names none, for a boot with a network.

    A card gets the address that QEMU would give it (net/net.c, qemu_macaddr_default_if_unset): some guests have that
    one in their source.
    """
    parts.table["machine"] = parts.machine
    if "nic" not in parts.table:
        parts.table["nic"] = parts.default_card()
    cards = [parts.table, *parts.table.get("cards", ())]
    said = {str(each.get("mac")).lower() for each in cards}
    free = (mac for last in range(0x56, 0x96) if (mac := f"52:54:00:12:34:{last:02x}") not in said)
    for each in cards:
        if "mac" not in each:
            each["mac"] = next(free, None)
