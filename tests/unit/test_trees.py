"""What a tree is taken for by its files, and what a kernel is for by its head."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from rawtap.errors import GuestNotFound, ProfileInvalid
from rawtap.guest import busybox
from rawtap.guest.choosing import chosen, of_layout
from rawtap.guest.hardware import Arch, Drive
from rawtap.guest.kernels import arch_of, arch_of_file, machine_for
from rawtap.guest.profile import laid
from rawtap.guest.projects import choose, overlay


def elf(machine: int, *, wide: bool = True, big: bool = False) -> bytes:
    """The head of an ELF file for that machine."""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if big else 1, 1]) + bytes(9)
    return ident + struct.pack(">HH" if big else "<HH", 2, machine) + bytes(600)


def image(**places: bytes) -> bytes:
    """A file with some bytes at places, like x202=b"HdrS"."""
    data = bytearray(0x280)
    for place, said in places.items():
        at = int(place.removeprefix("x"), 16)
        data[at : at + len(said)] = said
    return bytes(data)


@pytest.mark.parametrize(
    ("head", "arch"),
    [
        (elf(243), "riscv64"),
        (elf(243, wide=False), "riscv32"),
        (elf(62), "x86_64"),
        (elf(3, wide=False), "i386"),
        (elf(183), "aarch64"),
        (elf(40, wide=False), "arm"),
        (elf(8, wide=False, big=True), "mips"),
        (elf(8, wide=False), "mipsel"),
        (elf(8), "mips64el"),
        (elf(21, big=True), "ppc64"),
        (elf(22, big=True), "s390x"),
        (elf(258), "loongarch64"),
        (image(x202=b"HdrS", x206=b"\x0f\x02", x236=b"\x01"), "x86_64"),
        (image(x202=b"HdrS", x206=b"\x0f\x02"), "i386"),
        (image(x38=b"ARM\x64"), "aarch64"),
        (image(x38=b"RSC\x05"), "riscv64"),
        (image(x24=b"\x18\x28\x6f\x01"), "arm"),
        (elf(999), None),
        (b"\x7fELF", None),
        (b"", None),
        (bytes(0x280), None),
    ],
)
def test_the_head_of_a_kernel_tells_what_it_is_for(head: bytes, arch: str | None) -> None:
    assert arch_of(head) == arch
    for length in range(0, len(head), 3):
        assert arch_of(head[:length]) in {arch, "i386", None}


def written(root: Path, files: dict[str, bytes | str]) -> Path:
    """A tree with those files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


# Made as those systems' own builds make them, cut down to what is read.
_START_QEMU = """#!/bin/sh
cd "${BINARIES_DIR}"
if ${mode_serial}; then
    EXTRA_ARGS='-nographic'
fi
exec qemu-system-aarch64 -M virt -cpu cortex-a53 -smp 1 -kernel Image -append "rootwait root=/dev/vda console=ttyAMA0" \
 -netdev user,id=eth0 -device virtio-net-device,netdev=eth0 -drive file=rootfs.ext4,if=none,format=raw,id=hd0 \
 -device virtio-blk-device,drive=hd0  ${EXTRA_ARGS} "$@"
"""
_QEMUBOOT = """[config_bsp]
qb_system_name = qemu-system-aarch64
qb_machine = -machine virt
qb_cpu = -cpu cortex-a57
qb_smp = -smp 4
qb_mem = -m 256
qb_default_kernel = Image--6.6-r0-qemuarm64.bin/../Image
qb_kernel_cmdline_append = swiotlb=0
qb_network_device = -device virtio-net-pci,netdev=net0,mac=@MAC@
qb_rootfs_opt = -drive id=disk0,file=@ROOTFS@,if=none,format=raw -device virtio-blk-pci,drive=disk0
qb_serial_opt = -device virtio-serial-pci -chardev null,id=virtcon -device virtconsole,chardev=virtcon
qb_opt_append = -device qemu-xhci -device usb-tablet -device usb-kbd -device virtio-gpu-pci
qb_rng = -object rng-random,filename=/dev/urandom,id=rng0 -device virtio-rng-pci,rng=rng0
serial_consoles = 115200;ttyAMA0 115200;hvc0
"""
_NINJA = """build zephyr/CMakeFiles/run_qemu: CUSTOM_COMMAND
  COMMAND = cd /w/build && /opt/bin/qemu-system-arm -cpu cortex-m3 -machine lm3s6965evb -nographic -vga none -net none $
-pidfile qemu.pid -chardev stdio,id=con,mux=on -serial chardev$:con -mon chardev=con,mode=readline -icount shift=6 $
-rtc clock=vm -kernel /w/build/zephyr/zephyr.elf
  DESC = Booting
"""

_TREES: list[tuple[dict[str, bytes | str], dict[str, object]]] = [
    (
        {"build-qemu-virt-riscv64-test/lk.elf": elf(243), "engine.mk": ""},
        {"name": "littlekernel", "arch": "riscv64", "machine": "virt", "bios": "none", "prompt": "] "},
    ),
    (
        {"build-qemu-virt-arm64-test/lk.elf": elf(183), "engine.mk": ""},
        {"name": "littlekernel", "arch": "aarch64", "cpu": "max", "bios": None},
    ),
    (
        {"arch/x86/boot/bzImage": image(x202=b"HdrS", x206=b"\x0f\x02", x236=b"\x01"), "Kbuild": ""},
        {"name": "linux", "arch": "x86_64", "machine": "pc", "kernel": "arch/x86/boot/bzImage", "initrd": "busybox"},
    ),
    (
        {"arch/arm64/boot/Image": image(x38=b"ARM\x64"), "Kbuild": "", "initramfs.cpio.gz": "x"},
        {"name": "linux", "arch": "aarch64", "initrd": "initramfs.cpio.gz", "bootargs": "console=ttyAMA0 panic=-1"},
    ),
    (
        {"output/images/Image": image(x38=b"RSC\x05"), "output/images/rootfs.ext2": "x"},
        {"name": "buildroot", "arch": "riscv64", "bootargs": "console=ttyS0 panic=-1 root=/dev/vda rw"},
    ),
    (
        {"zephyr/zephyr.elf": elf(40, wide=False), "zephyr/.config": 'CONFIG_BOARD="qemu_cortex_m3"\n'},
        {"name": "zephyr", "arch": "arm", "machine": "lm3s6965evb", "cpu": "cortex-m3"},
    ),
    (
        {"build/zephyr/zephyr.elf": elf(243), "build/zephyr/.config": 'CONFIG_BOARD="qemu_riscv64"\n'},
        {"name": "zephyr", "arch": "riscv64", "machine": "virt", "bios": "none"},
    ),
    (
        {"build-pc-x86-64-test/lk.elf": elf(62), "engine.mk": ""},
        {"name": "littlekernel", "arch": "x86_64", "machine": "q35", "bus": None},
    ),
    (
        {"build-qemu-virt-riscv64-supervisor-test/lk.elf": elf(243), "engine.mk": ""},
        {"name": "littlekernel", "arch": "riscv64", "bios": "default"},
    ),
    (
        {"output/images/start-qemu.sh": _START_QEMU, "output/images/Image": "x", "output/images/rootfs.ext4": "x"},
        {
            "name": "buildroot",
            "arch": "aarch64",
            "cpu": "cortex-a53",
            "kernel": "output/images/Image",
            "bus": "mmio",
            "overlay": True,
            "bootargs": "rootwait root=/dev/vda console=ttyAMA0",
            "drives": (Drive("output/images/rootfs.ext4", interface="virtio"),),
        },
    ),
    (
        {"a-b.qemuboot.conf": _QEMUBOOT, "Image": "x", "a-b.ext4": "x", "a-b.manifest": "x"},
        {
            "name": "yocto",
            "arch": "aarch64",
            "machine": "virt",
            "cpu": "cortex-a57",
            "kernel": "Image",
            "smp": 4,
            "memory": "256",
            "screen": "virtio-gpu-pci",
            "bus": "pci",
            "console": "serial0",
            "bootargs": "root=/dev/vda rw console=hvc0,115200 console=ttyAMA0,115200 swiotlb=0",
            "drives": (Drive("a-b.ext4", interface="virtio"),),
        },
    ),
    (
        {
            "tmp/deploy/images/m/c.qemuboot.conf": _QEMUBOOT,
            "tmp/deploy/images/m/Image": "x",
            "tmp/deploy/images/m/c.cpio.gz": "x",
        },
        {"name": "yocto", "initrd": "tmp/deploy/images/m/c.cpio.gz", "kernel": "tmp/deploy/images/m/Image"},
    ),
    (
        {"build/zephyr/zephyr.elf": elf(40, wide=False), "build/zephyr/.config": "", "build/build.ninja": _NINJA},
        {
            "name": "zephyr",
            "arch": "arm",
            "machine": "lm3s6965evb",
            "cpu": "cortex-m3",
            "icount": 6,
            "kernel": "build/zephyr/zephyr.elf",
            "prompt": "uart:~$ ",
        },
    ),
    (
        {"nuttx": elf(183), ".config": 'CONFIG_ARCH_BOARD="qemu-armv8a"\n', "Make.defs": ""},
        {"name": "nuttx", "machine": "virt,virtualization=on,gic-version=3", "cpu": "cortex-a53"},
    ),
    (
        {"nuttx": elf(243), ".config": "CONFIG_ARCH_USE_S_MODE=y\nCONFIG_SMP_NCPUS=4\n", "Make.defs": ""},
        {"name": "nuttx", "bios": "default", "smp": 4, "globals": {"virtio-mmio.force-legacy": False}},
    ),
    (
        {".unikraft/build/hello_qemu-x86_64": elf(62), "Kraftfile": ""},
        {"name": "unikraft", "arch": "x86_64", "machine": "q35", "kernel": ".unikraft/build/hello_qemu-x86_64"},
    ),
    (
        {"nuttx": elf(243), ".config": 'CONFIG_ARCH_BOARD="rv-virt"\n', "Make.defs": ""},
        {"name": "nuttx", "prompt": "nsh> ", "bios": "none", "shutdown_command": None},
    ),
    (
        {"nuttx": elf(243), ".config": "CONFIG_BOARDCTL_POWEROFF=y\n", "tools/mkconfig.c": ""},
        {"name": "nuttx", "shutdown_command": "poweroff"},
    ),
    (
        {"u-boot": elf(243), "u-boot.bin": "x", ".config": "CONFIG_RISCV_SMODE=y\n"},
        {"name": "u-boot", "kernel": "u-boot", "bios": "default"},
    ),
    (
        {"u-boot": elf(183), "u-boot.bin": "x", ".config": ""},
        {"name": "u-boot", "firmware": "u-boot.bin", "arch": "aarch64", "kernel": ""},
    ),
]


@pytest.mark.parametrize(("files", "said"), _TREES)
def test_a_built_tree_is_known_and_init_writes_what_it_is(
    tmp_path: Path, files: dict[str, bytes | str], said: dict[str, object]
) -> None:
    root = written(tmp_path, files)
    profile = choose(root, None)[1].profile
    assert {key: getattr(profile, key) for key in said} == said
    (root / "rawtap.toml").write_text(of_layout(root)[0], encoding="utf-8")
    again = choose(root, None)[1].profile
    assert again == profile


_SMBIOS = "not carried: -smbios type=1: no key of a profile says it"
_IMAGES = "tmp/deploy/images/m/a.qemuboot.conf"
_LINES: list[tuple[dict[str, bytes | str], list[str]]] = [
    (
        {"start-qemu.sh": _START_QEMU.replace("-smp 1 ", "-s -smbios type=1 -netdev user,id=n,hostfwd=tcp::9-:8 ")},
        [
            f"start-qemu.sh, {_SMBIOS}",
            "start-qemu.sh, not carried: the port 9: `forward` says it",
            "start-qemu.sh, not carried: a debugger's stub: gdb=true opens one",
        ],
    ),
    (
        {_IMAGES: _QEMUBOOT.replace("qb_smp =", "qb_smp = -smbios type=1 -S")},
        [
            f"{_IMAGES}, {_SMBIOS}",
            f"{_IMAGES}, otherwise here: -S: the guest runs at once; "
            "a debugger that attaches stops it where it is by then",
        ],
    ),
    (
        {"build/zephyr/zephyr.elf": elf(40, wide=False), "build/zephyr/.config": "", "build/build.ninja": _NINJA},
        ["build/build.ninja, not carried: -rtc clock=vm: the guest's clock follows the host's"],
    ),
]


@pytest.mark.parametrize(("files", "told"), _LINES, ids=["buildroot", "yocto", "zephyr"])
def test_what_a_builds_own_line_says_and_its_profile_does_not_is_told_with_the_file(
    tmp_path: Path, files: dict[str, bytes | str], told: list[str]
) -> None:
    root = written(tmp_path, files)
    assert list(choose(root, None)[1].told) == list(of_layout(root)[1]) == told
    (root / "rawtap.toml").write_text('memory = "1G"\n', encoding="utf-8")
    _, (profile, still) = choose(root, None)
    assert (profile.memory, list(still)) == ("1G", told)


def test_a_kernel_says_for_which_processor_it_is_where_the_file_does_not(tmp_path: Path) -> None:
    root = written(tmp_path, {"k": elf(62), "rawtap.toml": 'kernel = "k"\n'})
    assert (choose(root, None)[1].profile.arch, choose(root, None)[1].profile.machine) == ("x86_64", "pc")
    assert overlay(root / "rawtap.toml", {"kernel": "k", "arch": "riscv64"}, None).profile.arch == "riscv64"
    assert overlay(root / "rawtap.toml", {"kernel": "k", "machine": "q35"}, None).profile.machine == "q35"
    (root / "arm").write_bytes(elf(183))
    assert overlay(root / "rawtap.toml", {"kernel": "arm"}, None).profile.cpu == "max"
    outside = written(tmp_path.parent / "other", {"k": elf(62)})
    for name in (str(outside / "k"), "../other/k", "missing", ""):
        assert overlay(root / "rawtap.toml", {"kernel": name}, None).profile.arch == "riscv64", "it is not looked at"
    with pytest.raises(ProfileInvalid):
        laid(choose(root, None)[1].profile, {"arch": "vax"}, "x")


@pytest.mark.parametrize("kernel", ["k", None])
def test_what_nobody_says_follows_from_what_is_said_wherever_it_is(tmp_path: Path, kernel: str | None) -> None:
    """In the file, by the call's overrides, by its kernel, which may lie in a folder of the operator's."""
    root = written(tmp_path / "project", {"rawtap.toml": ""})
    operators = written(tmp_path / "operators", {"k": elf(62)})

    def machine_of(overrides: dict[str, object], kernel: str | None = None) -> tuple[str, str, str, int]:
        found = chosen(root, None, None, overrides, kernel=kernel, image_dirs=(operators,))[1].profile
        return found.arch, found.machine, found.memory, found.smp

    assert machine_of({}) == ("riscv64", "virt", "128M", 1)
    elsewhere = str(operators / "k")
    assert machine_of({} if kernel else {"kernel": elsewhere}, kernel and elsewhere) == ("x86_64", "pc", "128M", 1)
    assert machine_of({"arch": "ppc64"}) == ("ppc64", "pseries", "", 0)
    assert machine_of({"arch": "arm", "machine": "mps2-an385"}) == ("arm", "mps2-an385", "", 0)
    assert machine_of({"arch": "sparc", "memory": "64M"}) == ("sparc", "SS-5", "64M", 0)
    assert machine_of({"arch": "loongarch64"}) == ("loongarch64", "virt", "", 0)
    (root / "rawtap.toml").write_text('arch = "mips"\n', encoding="utf-8")
    assert machine_of({"machine": "virt,gic-version=3", "arch": "aarch64"})[2:] == ("128M", 1)
    assert machine_of({})[:2] == ("mips", "malta")
    (root / "rawtap.toml").unlink()  # all of it may be said by the call
    assert machine_of({"arch": "ppc64", "bios": "default"}) == ("ppc64", "pseries", "", 0)
    assert machine_of({} if kernel else {"kernel": elsewhere}, kernel and elsewhere) == ("x86_64", "pc", "128M", 1)
    with pytest.raises(GuestNotFound, match="says what to boot"):
        machine_of({"arch": "ppc64"})


def test_overrides_take_the_files_key_for_a_built_in_profile(tmp_path: Path) -> None:
    root = written(tmp_path, {"rawtap.toml": 'profile = "rvos"\nmemory = "64M"\n'})
    found = chosen(root, None, None, {"profile": "u-boot-arm", "smp": 2})[1].profile
    assert (found.name, found.memory, found.smp) == ("u-boot-arm", "64M", 2)
    assert chosen(root, "u-boot-aarch64", None, {"profile": "u-boot-arm"})[1].profile.name == "u-boot-aarch64"
    with pytest.raises(ProfileInvalid, match="there is no profile 'rvoss'"):
        chosen(root, None, None, {"profile": "rvoss"})


def test_each_emulator_has_a_machine(tmp_path: Path) -> None:
    root = written(tmp_path, {"rawtap.toml": ""})
    for arch in get_args(Arch):
        assert chosen(root, None, None, {"arch": arch})[1].profile.machine == machine_for(arch)[0]


def test_a_copy_of_xv6_is_known_by_its_kernels_words(tmp_path: Path) -> None:
    root = written(tmp_path, {"kernel/kernel": elf(243) + b"\nxv6 kernel is booting\n\0", "fs.img": "x"})
    (root / "rawtap.toml").write_text('drives = [{ path = "fs.img", format = "raw" }]\n', encoding="utf-8")
    profile = choose(root, None)[1].profile
    assert profile.globals == {"virtio-mmio.force-legacy": False}
    assert profile.drives[0].options == {"bus": "virtio-mmio-bus.0"}
    (root / "kernel/kernel").write_bytes(elf(243))
    assert choose(root, None)[1].profile.globals == {}


@pytest.mark.parametrize("name", ["xv6-riscv", "xv6-riscv-net"])
def test_xv6_gets_the_kind_of_disk_that_its_driver_knows(tmp_path: Path, name: str) -> None:
    """The first ones know only a legacy disk (version 1), and say that there is none where it is another."""
    files = {"kernel/kernel": elf(243), "fs.img": "x"} | ({"kernel/e1000.c": ""} if name.endswith("net") else {})
    check = "if(*R(VIRTIO_MMIO_VERSION) != {} ||\n   *R(VIRTIO_MMIO_DEVICE_ID) != 2)\n"
    for version, said in ((1, {}), (2, {"virtio-mmio.force-legacy": False}), (12, {"virtio-mmio.force-legacy": False})):
        root = written(tmp_path, files | {"kernel/virtio_disk.c": check.format(version)})
        _, (profile, told) = choose(root, None)
        assert (profile.name, profile.globals, told) == (name, said, ())
        # What is written down for it is the same machine.
        (root / "rawtap.toml").write_text(of_layout(root)[0], encoding="utf-8")
        assert choose(root, None)[1].profile == profile
        (root / "rawtap.toml").unlink()


def test_each_architecture_has_a_machine() -> None:
    assert machine_for("riscv64") == ("virt", None)
    assert machine_for("aarch64") == ("virt", "max")


def test_an_initrd_is_made_of_a_busybox_that_is_for_the_guest() -> None:
    assert busybox.lack(arch_of_file(busybox.PROGRAM) or "x86_64") == ""
    assert "the guest is riscv32" in busybox.lack("riscv32")
    with pytest.raises(GuestNotFound, match="cannot be made"):
        busybox.require("riscv32")
    whole = busybox.archive(b"program")
    listed = subprocess.run(
        [busybox.PROGRAM, "cpio", "-t"], input=whole, capture_output=True, check=True
    ).stdout.decode()
    assert {"bin/busybox", "init", "dev/console", "usr/share/udhcpc/default.script"} <= set(listed.split())
    with busybox.opened() as made:
        assert os.fstat(made).st_size == len(busybox.archive(busybox.PROGRAM.read_bytes()))


def test_a_build_whose_line_cannot_be_read_is_told(tmp_path: Path) -> None:
    root = written(tmp_path, {"start-qemu.sh": "exec true"})
    with pytest.raises(ProfileInvalid, match="no line for QEMU") as raised:
        choose(root, None)
    assert "no word like qemu-system-riscv64" in raised.value.evidence


def test_a_builds_line_that_cannot_be_read_is_not_guessed_at(tmp_path: Path) -> None:
    ninja = _NINJA.replace("-cpu cortex-m3", "-cpu cortex-m3,=")
    root = written(tmp_path, {"zephyr/zephyr.elf": elf(40, wide=False), "zephyr/.config": "", "build.ninja": ninja})
    with pytest.raises(ProfileInvalid, match=r"build\.ninja has no line for QEMU") as raised:
        choose(root, None)
    assert "is no feature" in raised.value.evidence


def test_a_list_of_settings_that_is_none_says_why(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.qemuboot.conf": "qb_mem = -m 1\n", "Image": "x"})
    with pytest.raises(ProfileInvalid, match="no line for QEMU") as raised:
        choose(root, None)
    assert "no section headers" in raised.value.evidence
