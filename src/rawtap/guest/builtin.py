"""The built-in profiles. Pure.

To import this builds what checks a profile's values, which takes a good while: import it where a profile is asked for.
It is built here for all classes, since what two threads build at the same time may be half of it for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.dataclasses import rebuild_dataclass

from rawtap.guest.hardware import Arch, Drive, FirmwareFile, FurtherCard, Loader, NumaNode, Share
from rawtap.guest.paths import PUBLIC, RVOS_KERNEL
from rawtap.guest.patterns import Pattern
from rawtap.guest.profile import RVOS_BRIDGE, UBOOT_KERNEL, FixedHost, Interrupt, Login, Profile

for _each in (Drive, FirmwareFile, FixedHost, FurtherCard, Interrupt, Loader, Login, NumaNode, Pattern, Share, Profile):
    rebuild_dataclass(_each)  # type: ignore[arg-type]


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


def _xv6_riscv(name: str, **differences: Any) -> Profile:
    """Of MIT's teaching system; its driver knows only a disk that is not legacy, in the first place."""
    return Profile(
        name=name,
        bios="none",
        kernel="kernel/kernel",
        smp=3,
        prompt="$ ",
        globals={"virtio-mmio.force-legacy": False},
        drives=(Drive(path="fs.img", options={"bus": "virtio-mmio-bus.0"}),),
        **differences,
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
        bridge=RVOS_BRIDGE,
        services=True,
    ),
    "u-boot-riscv64": _u_boot("riscv64", bios="default", kernel=UBOOT_KERNEL),
    "u-boot-aarch64": _u_boot("aarch64", cpu="max", firmware=f"{PUBLIC}/qemu_arm64/u-boot.bin", bus="pci"),
    "u-boot-arm": _u_boot("arm", firmware=f"{PUBLIC}/qemu_arm/u-boot.bin", bus="pci"),
    # It knows no command that powers off: qemu_shutdown ends it over QMP.
    "u-boot-x86_64": _u_boot(
        "x86_64", machine="pc", firmware=f"{PUBLIC}/qemu-x86_64/u-boot.rom", bus="pci", shutdown_command=None
    ),
    "xv6-riscv": _xv6_riscv("xv6-riscv"),
    # Its driver gives the card that address, and sends from no other.
    "xv6-riscv-net": _xv6_riscv("xv6-riscv-net", nic="e1000", nic_options={"bus": "pcie.0"}, mac="52:54:00:12:34:56"),
    "xv6-x86": Profile(
        name="xv6-x86",
        arch="i386",
        machine="pc",
        memory="512M",
        smp=2,
        prompt="$ ",
        drives=(Drive(path="xv6.img", interface="ide"), Drive(path="fs.img", interface="ide")),
    ),
}
