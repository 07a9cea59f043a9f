"""Machines for trees that are known by what a build leaves in them. Looks at files of the tree.

Each is as the system's own scripts and manuals start it. `paths.LAYOUTS` has the files by which a tree is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rawtap.guest import busybox, tree_lines
from rawtap.guest.hardware import Arch, Drive
from rawtap.guest.kernels import arch_of_file, machine_for
from rawtap.guest.paths import holds
from rawtap.guest.profile import Login, Profile, Tree

_MOST = 1 << 20  # bytes of a build's configuration
_INITRDS = ("initrd", "initrd.img", "initramfs.cpio.gz", "rootfs.cpio.gz")  # beside a kernel's tree
_LINUX_CONSOLES: dict[Arch, str] = {"aarch64": "ttyAMA0", "arm": "ttyAMA0"}


def _for_arch(arch: Arch, name: str, kernel: str) -> Profile:
    machine, cpu = machine_for(arch)
    return Profile(name=name, arch=arch, machine=machine, cpu=cpu, memory="512M", kernel=kernel)


def _bios(arch: Arch) -> Literal["none"] | None:
    """None of QEMU's own, for a RISC-V kernel that begins in machine mode."""
    return "none" if arch.startswith("riscv") else None


def _littlekernel(root: Path, files: tuple[str, ...]) -> Profile:
    arch = arch_of_file(root / files[0]) or "riscv64"
    found = replace(_for_arch(arch, "littlekernel", files[0]), prompt="] ")
    if arch in {"x86_64", "i386"}:
        return replace(found, machine="q35")
    bios = "default" if "supervisor" in files[0] else _bios(arch)
    return replace(found, bios=bios, bus="mmio")


def _linux(root: Path, files: tuple[str, ...]) -> Profile:
    found = _linux_kernel(root, files)
    if found.initrd or busybox.lack(found.arch):
        return found
    return replace(found, initrd=busybox.NAME, prompt=busybox.PROMPT, shutdown_command="poweroff -f")


def _linux_kernel(root: Path, files: tuple[str, ...]) -> Profile:
    arch = arch_of_file(root / files[0]) or "x86_64"
    found = _for_arch(arch, "linux", files[0])
    initrd = next((name for name in _INITRDS if holds(root / name, Path.is_file)), "")
    console = _LINUX_CONSOLES.get(arch, "ttyS0")
    return replace(found, initrd=initrd, bootargs=f"console={console} panic=-1", bus=found.virtio_bus)


def _buildroot(root: Path, files: tuple[str, ...]) -> Profile | Tree:
    if files[0].endswith(".sh"):
        return tree_lines.buildroot(root, files[0])
    kernel, disk = files
    found = _linux_kernel(root, files)
    return replace(
        found,
        name="buildroot",
        kernel=kernel,
        bootargs=f"{found.bootargs} root=/dev/vda rw",
        drives=(Drive(path=disk, overlay=True),),
        login=Login(user="root"),
        shutdown_command="poweroff",
    )


def _yocto(root: Path, files: tuple[str, ...]) -> Tree:
    return tree_lines.yocto(root, files[0])


def _unikraft(_: Path, files: tuple[str, ...]) -> Profile:
    """As its own support/scripts/qemu-guest has it."""
    arch: Arch = "x86_64" if files[0].endswith("x86_64") else "aarch64"
    found = replace(_for_arch(arch, "unikraft", files[0]), framing=False)
    if arch == "x86_64":
        return replace(found, machine="q35", cpu="qemu64,-vmx,-svm,+x2apic,+pdpe1gb,+rdrand,+rdseed")
    return replace(found, cpu="cortex-a53", bus="mmio")


def _zephyr(root: Path, files: tuple[str, ...]) -> Profile | Tree:
    """As its build's own rules say; else by the board that it was built for: names of Zephyr's boards/qemu."""
    ninja = f"{files[0].removesuffix('zephyr/zephyr.elf')}build.ninja"
    if (said := tree_lines.zephyr(root, ninja, files[0])) is not None:
        return said
    board = _setting(root / files[1], "CONFIG_BOARD")
    arch = arch_of_file(root / files[0]) or "riscv32"
    found = _for_arch(arch, "zephyr", files[0])
    machine, cpu = {
        "qemu_x86": ("q35", "qemu32,+nx,+pae"),
        "qemu_x86_64": ("q35", "qemu64,+x2apic"),
        "qemu_cortex_a53": ("virt,secure=on,gic-version=3", "cortex-a53"),
        "qemu_cortex_m3": ("lm3s6965evb", "cortex-m3"),
        "qemu_cortex_m0": ("microbit", "cortex-m0"),
        "qemu_cortex_a9": ("xilinx-zynq-a9", "cortex-a9"),
    }.get(board, (found.machine, found.cpu))
    return replace(found, machine=machine, cpu=cpu, bios=_bios(arch), memory="256M", prompt="uart:~$ ", framing=False)


def _nuttx(root: Path, files: tuple[str, ...]) -> Profile:
    arch = arch_of_file(root / files[0]) or "riscv64"
    found = _for_arch(arch, "nuttx", files[0])
    can_end = _setting(root / files[1], "CONFIG_BOARDCTL_POWEROFF") == "y"
    found = replace(found, prompt="nsh> ", framing=False, shutdown_command="poweroff" if can_end else None)
    board = _setting(root / files[1], "CONFIG_ARCH_BOARD")
    machine, cpu = {
        "qemu-armv8a": ("virt,virtualization=on,gic-version=3", "cortex-a53"),
        "qemu-armv7a": ("virt,highmem=off", "cortex-a7"),
        "lm3s6965-ek": ("lm3s6965evb", None),
        "mps2-an500": ("mps2-an500", None),
        "mps2-an521": ("mps2-an521", None),
        "mps3-an547": ("mps3-an547", None),
        "qemu-intel64": ("q35", "max"),
    }.get(board, (found.machine, found.cpu))
    if not arch.startswith("riscv"):
        return replace(found, machine=machine, cpu=cpu)
    # In supervisor mode OpenSBI starts it, or what it has itself for that.
    is_started = _setting(root / files[1], "CONFIG_ARCH_USE_S_MODE") == "y"
    has_own = _setting(root / files[1], "CONFIG_NUTTSBI") == "y"
    bios: Literal["default", "none"] = "default" if is_started and not has_own else "none"
    cpus = _setting(root / files[1], "CONFIG_SMP_NCPUS")
    found = replace(found, machine="virt,aclint=on", bios=bios, smp=int(cpus) if cpus.isdigit() and int(cpus) else 1)
    return replace(found, bus="mmio", globals={"virtio-mmio.force-legacy": False})  # its drivers know no other


def _u_boot(root: Path, files: tuple[str, ...]) -> Profile:
    """Firmware of a machine's, but for RISC-V's in supervisor mode, which OpenSBI starts."""
    arch = arch_of_file(root / files[0]) or "aarch64"
    found = replace(_for_arch(arch, "u-boot", ""), prompt="=> ", framing=False)
    if arch == "riscv64" and _setting(root / files[2], "CONFIG_RISCV_SMODE") == "y":
        return replace(found, bios="default", kernel=files[0])
    return replace(found, firmware="u-boot.rom" if arch in {"x86_64", "i386"} else files[1], bus=found.virtio_bus)


def as_its_driver_has_it(root: Path, found: Profile) -> Profile:
    """A built-in profile for that tree: xv6's driver knows either a legacy disk, as until 2021, or only others.

    It compares the device's version, which is 1 for a legacy one (virtio 1.0, 4.2.4).
    """
    if re.search(r"VIRTIO_MMIO_VERSION\)\s*!=\s*1\b", tree_lines.text_of(root / "kernel/virtio_disk.c", _MOST)):
        return replace(found, globals={})
    return found


_MAKERS: Mapping[str, Callable[[Path, tuple[str, ...]], Profile | Tree]] = {
    "littlekernel": _littlekernel,
    "linux": _linux,
    "buildroot": _buildroot,
    "yocto": _yocto,
    "unikraft": _unikraft,
    "zephyr": _zephyr,
    "nuttx": _nuttx,
    "u-boot": _u_boot,
}


def machine_of(layout: str, root: Path, files: tuple[str, ...]) -> Tree:
    """The machine for a tree of that layout, which has these files; KeyError where a built-in profile is the one.

    Raises:
        ProfileInvalid: Its own line for QEMU cannot be read.
    """
    found = _MAKERS[layout.partition("@")[0]](root, files)
    return found if isinstance(found, Tree) else Tree(found)


def _setting(file: Path, key: str) -> str:
    """The value of a key in a Kconfig file; "" where it has none."""
    match = re.search(rf'^{key}="?([^"\n]*)"?$', tree_lines.text_of(file, _MOST), re.MULTILINE)
    return match[1].partition("/")[0] if match else ""
