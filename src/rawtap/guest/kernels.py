"""Which processor a kernel is for, by the head of its file. Pure, but for `arch_of_file`.

Sources: elf(5) and the ELF registry of machines; linux/Documentation/arch: x86/boot.rst, arm64/booting.rst,
riscv/boot-image-header.rst; arch/arm/boot/compressed/head.S.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import struct
from pathlib import Path

from rawtap.guest.hardware import Arch

_HEAD = 0x280  # bytes: as far as any of these headers goes

# By the machine of an ELF file's header; of several, that for 32 bits and that for 64.
_ELF: dict[int, tuple[Arch, Arch]] = {
    3: ("i386", "i386"),
    62: ("x86_64", "x86_64"),
    40: ("arm", "arm"),
    183: ("aarch64", "aarch64"),
    243: ("riscv32", "riscv64"),
    258: ("loongarch64", "loongarch64"),
    20: ("ppc", "ppc"),
    21: ("ppc64", "ppc64"),
    22: ("s390x", "s390x"),
    2: ("sparc", "sparc64"),
    43: ("sparc64", "sparc64"),
    4: ("m68k", "m68k"),
    42: ("sh4", "sh4"),
    83: ("avr", "avr"),
    92: ("or1k", "or1k"),
    173: ("rx", "rx"),
    0x9026: ("alpha", "alpha"),
    15: ("hppa", "hppa"),
}
# These have one emulator for each byte order: the first is for the most significant byte first.
_ELF_BY_ORDER: dict[int, tuple[tuple[Arch, Arch], tuple[Arch, Arch]]] = {
    8: (("mips", "mips64"), ("mipsel", "mips64el")),
    94: (("xtensaeb", "xtensaeb"), ("xtensa", "xtensa")),
    189: (("microblaze", "microblaze"), ("microblazeel", "microblazeel")),
}
_MACHINES: dict[Arch, tuple[str, str | None]] = {  # and the processor, where the machine's own is none for it
    "x86_64": ("pc", None),
    "i386": ("pc", None),
    "aarch64": ("virt", "max"),
    "arm": ("virt", None),
    "riscv64": ("virt", None),
    "riscv32": ("virt", None),
    "loongarch64": ("virt", None),
    "m68k": ("virt", None),
    "s390x": ("s390-ccw-virtio", None),
    "ppc64": ("pseries", None),
    "ppc": ("g3beige", None),
    "mips": ("malta", None),
    "mipsel": ("malta", None),
    "mips64": ("malta", None),
    "mips64el": ("malta", None),
    "sparc": ("SS-5", None),
    "sparc64": ("sun4u", None),
    "or1k": ("or1k-sim", None),
    "alpha": ("clipper", None),
    "hppa": ("hppa", None),
    "microblaze": ("petalogix-s3adsp1800", None),
    "microblazeel": ("petalogix-s3adsp1800", None),
    "sh4": ("r2d", None),
    "sh4eb": ("shix", None),
    "xtensa": ("sim", None),
    "xtensaeb": ("sim", None),
    "nios2": ("10m50-ghrd", None),
    "cris": ("axis-dev88", None),
    "avr": ("mega2560", None),
    "rx": ("gdbsim-r5f562n7", None),
    "tricore": ("tricore_testboard", None),
}


def arch_of(head: bytes) -> Arch | None:
    """The architecture that a kernel's file is for, by its first bytes; None where they do not tell."""
    if head.startswith(b"\x7fELF") and len(head) >= 20:
        return _of_elf(head)
    if head[0x202:0x206] == b"HdrS" and len(head) > 0x236:  # one that can be entered in 64 bits says so in xloadflags
        (version,) = struct.unpack_from("<H", head, 0x206)
        return "x86_64" if version >= 0x20C and head[0x236] & 1 else "i386"
    if head[0x38:0x3C] == b"ARM\x64":
        return "aarch64"
    if head[0x38:0x3C] == b"RSC\x05":
        return "riscv64"
    if head[0x24:0x28] in {b"\x18\x28\x6f\x01", b"\x01\x6f\x28\x18"}:
        return "arm"
    return None


def _of_elf(head: bytes) -> Arch | None:
    wide, order = head[4] == 2, ">" if head[5] == 2 else "<"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    if machine in _ELF_BY_ORDER:
        return _ELF_BY_ORDER[machine][order == "<"][wide]
    found = _ELF.get(machine)
    return found[wide] if found else None


def machine_for(arch: Arch) -> tuple[str, str | None]:
    """A machine with that architecture on which kernels commonly start, and the processor that it takes there."""
    return _MACHINES[arch]


def arch_of_file(path: Path) -> Arch | None:
    """The same for a file; None for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return arch_of(file.read(_HEAD))
    except OSError:
        return None
