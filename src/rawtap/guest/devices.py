"""A machine's board, console, card and further devices on QEMU's command line. Pure.

Every text that QEMU splits at commas is made of parts that hold none (`models`), or has them doubled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rawtap.guest import models
from rawtap.guest.profile import MachineSpec, Profile
from rawtap.guest.storage import device, virtio_suffix

NETDEV = "net0"  # of the first card


def netdev(number: int) -> str:
    """What carries the frames of the card of that number, to QEMU."""
    return f"net{number}"


_SILENT = "rawtap-silence"
_MEMORY = "rawtap-ram"


@dataclass(frozen=True)
class Nic:
    """A network card of the guest's.

    Attributes:
        mac: Its MAC address.
        backend: What carries its frames: the options of -netdev but for the id.
        listens: TCP ports that QEMU listens on for it.
        fd: A descriptor that these name, and that QEMU inherits.
    """

    mac: str
    backend: Mapping[str, str | bool | list[dict[str, str]]]
    fd: int | None = None
    listens: tuple[int, ...] = ()


def tap_nic(fd: int, mac: str) -> Nic:
    """A card whose frames go by the TAP of that descriptor."""
    return Nic(mac, {"type": "tap", "fd": str(fd)}, fd)


def board(spec: MachineSpec) -> list[str]:
    """The machine, its memory, processors and clock."""
    profile = spec.profile
    cpus = [*([str(profile.smp)] if profile.smp else []), *(f"{key}={n}" for key, n in profile.topology.items())]
    out = ["-machine", _machine(spec)]
    out += ["-m", memory] if (memory := _memory(profile)) else []
    if _is_one_shared_memory(profile):
        out += ["-object", f"{_kind_of_memory(profile)},id={_MEMORY},size={_in_bytes(profile.memory)}"]
    out += ["-smp", ",".join(cpus)] if cpus else []
    if profile.cpu:
        out += ["-cpu", profile.cpu]
    for number, node in enumerate(profile.numa):
        here = f",cpus={node.cpus}" if node.cpus else ""
        out += ["-object", f"{_kind_of_memory(profile)},id=rawtap-ram{number},size={_in_bytes(node.memory)}"]
        out += ["-numa", f"node,nodeid={number},memdev=rawtap-ram{number}{here}"]
    for number, size in enumerate(profile.memory_slots.modules if profile.memory_slots else ()):
        out += ["-object", f"{_kind_of_memory(profile)},id=rawtap-dimm{number},size={_in_bytes(size)}"]
        out += device({"driver": "pc-dimm", "memdev": f"rawtap-dimm{number}"})
    if profile.uuid:
        out += ["-uuid", profile.uuid]
    if profile.rtc != "utc":
        out += ["-rtc", f"base={profile.rtc}"]
    if profile.icount is not None:
        out += ["-icount", f"shift={profile.icount}"]
    if profile.boot:
        out += ["-boot", f"order={profile.boot}"]
    for key, value in profile.globals.items():
        model, _, name = key.rpartition(".")
        out += ["-global", f"driver={model},property={name},value={models.written(value)}"]
    return out


def _kind_of_memory(profile: Profile) -> str:
    """What it is made of: virtiofs wants it shared with its daemon."""
    return "memory-backend-memfd,share=on" if profile.by_virtiofs else "memory-backend-ram"


def _is_one_shared_memory(profile: Profile) -> bool:
    return bool(profile.by_virtiofs) and not profile.numa


def _in_bytes(size: str) -> str:
    """A size with its unit: that of -m is MiB where none is said, that of a part of memory is a byte."""
    return f"{size}M" if size.isdigit() else size


def _memory(profile: Profile) -> str:
    slots = profile.memory_slots
    places = (f"slots={slots.count}", f"maxmem={slots.most}") if slots else ()
    return ",".join(filter(None, (profile.memory, *places)))


def actions(profile: Profile) -> list[str]:
    """What QEMU does at a reset, at the guest's end, when a watchdog fires."""
    said = {"reboot": "shutdown"} if profile.on_reset == "stop" else {}
    said |= {"shutdown": "pause"} if profile.on_shutdown == "pause" else {}
    said |= {"watchdog": profile.watchdog_action} if profile.watchdog_action != "reset" else {}
    return [word for key, value in said.items() for word in ("-action", f"{key}={value}")]


def _machine(spec: MachineSpec) -> str:
    """With its firmware on the serial console, where there is no screen that it could draw on."""
    machine = spec.profile.machine
    mute = models.asks_for_a_screen(spec.profile.arch, machine) and not spec.gpu and ",graphics=" not in machine
    memory = f",memory-backend={_MEMORY}" if _is_one_shared_memory(spec.profile) else ""
    return f"{machine}{',graphics=off' if mute else ''}{memory}"


def consoles(profile: Profile, main: int, further: Mapping[str, int]) -> list[str]:
    """The ports that are spoken to, each on a socket of that descriptor; serial ports between them go nowhere."""
    out = ["-chardev", f"socket,id=console,fd={main}"]
    for number, name in enumerate(profile.ports):
        out += ["-chardev", f"socket,id=port{number},fd={further[name]}"]
    at = _ends(profile)
    serial = [int(port.removeprefix("serial")) for port in at if port.startswith("serial")]
    for number in range(max(serial, default=-1) + 1):
        out += ["-serial", f"chardev:{at[f'serial{number}']}" if f"serial{number}" in at else "null"]
    if "debugcon" in at:
        out += device({"driver": "isa-debugcon", "chardev": at["debugcon"]})
    if "semihosting" in at:
        out += ["-semihosting-config", f"enable=on,target=native,chardev={at['semihosting']}"]
    return out


def _ends(profile: Profile) -> dict[str, str]:
    """The names of the chardevs that are spoken to, by their ports."""
    return {profile.console: "console"} | {port: f"port{n}" for n, port in enumerate(profile.ports.values())}


def _virtio_consoles(profile: Profile) -> list[str]:
    """Those before the last one that is spoken to are there as well: a kernel numbers them by their order."""
    at = {port: end for port, end in _ends(profile).items() if port.startswith("hvc")}
    if not at:
        return []
    drivers = {str(each["driver"]).removesuffix(f"-{virtio_suffix(profile)}") for each in profile.devices}
    out = [] if "virtio-serial" in drivers else _virtio(profile, "serial")
    for number in range(max(int(port.removeprefix("hvc")) for port in at) + 1):
        if (end := at.get(f"hvc{number}")) is None:
            end = f"hvc{number}"
            out += ["-chardev", f"null,id={end}"]
        out += device({"driver": "virtconsole", "chardev": end})
    return out


def card(whole: Profile, nic: Nic, number: int = 0) -> list[str]:
    """The network card of that number, on its netdev."""
    profile = whole.of_card(number)
    if profile.nic == "board":
        return ["-net", f"nic,netdev={netdev(number)},macaddr={nic.mac}"]
    found: dict[str, models.Value] = {"driver": profile.nic, "netdev": netdev(number), "mac": nic.mac}
    if profile.nic == "virtio-net":
        found["driver"] = f"virtio-net-{virtio_suffix(profile)}"
        found |= {"host_mtu": profile.mtu} if profile.mtu is not None else {}
    if _has_rom(profile) and ("n" not in profile.boot or (profile.uefi and profile.nic == "virtio-net")):
        # An option ROM is of another package, and boots from the network, which nobody asked for. UEFI has a driver of
        # its own for virtio, with PXE and HTTP boot: the ROM's iPXE would boot before either is tried.
        found["romfile"] = ""
    if profile.boot.startswith("n"):
        found["bootindex"] = number
    return device(found, profile.nic_options)


def _has_rom(profile: Profile) -> bool:
    if profile.nic == "virtio-net":
        return profile.virtio_bus == "pci"
    return profile.nic not in {"usb-net", "ne2k_isa", "spapr-vlan"}


def further(profile: Profile) -> list[str]:
    """Further devices, in the profile's order; sound goes nowhere."""
    out = list[str]()
    sounds = [each for each in profile.devices if each["driver"] in models.SOUNDS]
    if sounds:
        out += ["-audiodev", f"none,id={_SILENT}"]
    if profile.vsock is not None:
        out += device({"driver": f"vhost-vsock-{virtio_suffix(profile)}", "guest-cid": profile.vsock})
    for each in profile.devices:
        named = {key: value for key, value in each.items() if key != "driver"}
        silenced: dict[str, models.Value] = {"audiodev": _SILENT} if each in sounds else {}
        out += device({"driver": each["driver"]} | silenced, named)
    return out + _virtio_consoles(profile)


def contents(profile: Profile, connections: Mapping[int, int]) -> list[str]:
    """Files and folders that the guest has by other ways than a drive; their paths are resolved.

    `connections` are descriptors of those to the daemons of virtiofs, by the numbers of the shares.
    """
    out = ["-dtb", profile.dtb] if profile.dtb else []
    out += ["-L", profile.firmware_folder] if profile.firmware_folder else []
    for loader in profile.loaders:
        said = [f"file={_doubled(loader.path)}"] if loader.path is not None else []
        said += [f"addr={loader.address:#x}"] if loader.address is not None else []
        said += [f"cpu-num={loader.cpu}"] if loader.cpu is not None else []
        said += ["force-raw=on"] if loader.raw else []
        out += ["-device", ",".join(["loader", *said])]
    for file in profile.fw_cfg:
        what = f"file={_doubled(file.path)}" if file.path is not None else f"string={_doubled(file.text or '')}"
        out += ["-fw_cfg", f"name={file.name},{what}"]
    for number, share in enumerate(profile.shares):
        if share.by == "virtiofs":
            out += ["-chardev", f"socket,id=share{number},fd={connections[number]}"]
            model = f"vhost-user-fs-{virtio_suffix(profile)}"
            out += device({"driver": model, "chardev": f"share{number}", "tag": share.tag})
            continue
        folder = f"local,id=share{number},path={_doubled(share.path)},security_model=none,readonly=on"
        out += ["-fsdev", folder]
        out += device(
            {"driver": f"virtio-9p-{virtio_suffix(profile)}", "fsdev": f"share{number}", "mount_tag": share.tag}
        )
    return out


def screen(spec: MachineSpec) -> list[str]:
    """A screen, a keyboard, and a pointer that knows places.

    A PC has its own keyboard, and a VGA whether anybody looks at it or not: its firmware and many kernels draw on it
    without asking.
    """
    profile = spec.profile
    if profile.screen:
        return device({"driver": profile.screen}) if profile.screen != "none" else []
    if models.is_pc(profile.arch, profile.machine):
        return [*device({"driver": "VGA"}), *(_virtio(profile, "tablet") if spec.gpu else [])]
    kinds = ("gpu", "keyboard", "tablet") if spec.gpu else ()
    return [word for kind in kinds for word in _virtio(profile, kind)]


def _virtio(profile: Profile, kind: str) -> list[str]:
    return device({"driver": f"virtio-{kind}-{virtio_suffix(profile)}"})


def _doubled(text: str) -> str:
    """A value with its commas as QEMU's options want them."""
    return text.replace(",", ",,")
