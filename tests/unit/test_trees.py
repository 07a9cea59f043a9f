"""What a tree is taken for by its files, and what a kernel is for by its head."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rawtap.errors import ProfileInvalid
from rawtap.guest.choosing import of_layout
from rawtap.guest.kernels import arch_of, machine_for
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
        {"name": "linux", "arch": "x86_64", "machine": "pc", "kernel": "arch/x86/boot/bzImage", "initrd": ""},
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
        {"nuttx": elf(243), ".config": 'CONFIG_ARCH_BOARD="rv-virt"\n', "Make.defs": ""},
        {"name": "nuttx", "prompt": "nsh> ", "bios": "none"},
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
    _, profile = choose(root, None)
    assert {key: getattr(profile, key) for key in said} == said
    (root / "rawtap.toml").write_text(of_layout(root), encoding="utf-8")
    _, again = choose(root, None)
    assert again == profile


def test_a_kernel_says_for_which_processor_it_is_where_the_file_does_not(tmp_path: Path) -> None:
    root = written(tmp_path, {"k": elf(62), "rawtap.toml": 'kernel = "k"\n'})
    assert (choose(root, None)[1].arch, choose(root, None)[1].machine) == ("x86_64", "pc")
    assert overlay(root / "rawtap.toml", {"kernel": "k", "arch": "riscv64"}, None).arch == "riscv64"
    assert overlay(root / "rawtap.toml", {"kernel": "k", "machine": "q35"}, None).machine == "q35"
    (root / "arm").write_bytes(elf(183))
    assert overlay(root / "rawtap.toml", {"kernel": "arm"}, None).cpu == "max"
    outside = written(tmp_path.parent / "other", {"k": elf(62)})
    for name in (str(outside / "k"), "../other/k", "missing", ""):
        assert overlay(root / "rawtap.toml", {"kernel": name}, None).arch == "riscv64", "it is not looked at"
    with pytest.raises(ProfileInvalid):
        laid(choose(root, None)[1], {"arch": "vax"}, "x")


def test_a_copy_of_xv6_is_known_by_its_kernels_words(tmp_path: Path) -> None:
    root = written(tmp_path, {"kernel/kernel": elf(243) + b"\nxv6 kernel is booting\n\0", "fs.img": "x"})
    (root / "rawtap.toml").write_text('drives = [{ path = "fs.img", format = "raw" }]\n', encoding="utf-8")
    _, profile = choose(root, None)
    assert profile.globals == {"virtio-mmio.force-legacy": False}
    assert profile.drives[0].options == {"bus": "virtio-mmio-bus.0"}
    (root / "kernel/kernel").write_bytes(elf(243))
    assert choose(root, None)[1].globals == {}


def test_each_architecture_has_a_machine() -> None:
    assert machine_for("riscv64") == ("virt", None)
    assert machine_for("aarch64") == ("virt", "max")
