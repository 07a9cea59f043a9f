"""Which host files a guest may be given: those of its project, the operator's folders, and public boot loaders.

Theory of operation. A path comes from an agent, or from a project's file, which may be somebody else's work. It is
resolved first, links and all, held against the folders that are allowed, and only then asked whether it exists: a
refusal tells nothing about what is there. What QEMU gets is the resolved path.

A folder is no project because a call names it. It must say so itself, by a file that its user put there (the rule that
git(1) has in safe.directory), and it must not hold the user's home: keys and letters are no part of a project.
A qcow2 image can name further files for QEMU to open, anywhere; such an image is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rawtap.errors import GuestNotFound, PathNotAllowed

CONFIG_FILE = "rawtap.toml"
RVOS_KERNEL = "target/riscv64gc-unknown-none-elf/release/kernel.bin"
# Files by which a tree is known, once it is built, by the names of the built-in profiles that fit it, or of the systems
# in `trees`, behind which there is "@" and more where one has several. The first that fits is taken.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "rvos": (RVOS_KERNEL,),
    "xv6-riscv-net": ("kernel/kernel", "fs.img", "kernel/virtio_disk.c", "kernel/e1000.c"),
    "xv6-riscv": ("kernel/kernel", "fs.img", "kernel/virtio_disk.c"),
    "xv6-x86": ("xv6.img", "fs.img", "bootmain.c"),
    **{
        f"littlekernel@{target}": (f"build-{target}-test/lk.elf", "engine.mk")
        for target in (
            *("qemu-virt-riscv64", "qemu-virt-arm64", "qemu-virt-arm32", "qemu-virt-riscv32", "qemu-virt-m68k"),
            *("qemu-virt-riscv64-supervisor", "pc-x86-64", "pc-x86"),
        )
    },
    "linux@x86": ("arch/x86/boot/bzImage", "Kbuild"),
    "linux@arm64": ("arch/arm64/boot/Image", "Kbuild"),
    "linux@riscv": ("arch/riscv/boot/Image", "Kbuild"),
    "linux@arm": ("arch/arm/boot/zImage", "Kbuild"),
    "buildroot@line": ("output/images/start-qemu.sh",),
    "buildroot@line-images": ("images/start-qemu.sh",),
    "buildroot@line-here": ("start-qemu.sh",),
    "yocto": ("*.qemuboot.conf",),
    "yocto@build": ("tmp/deploy/images/*/*.qemuboot.conf",),
    "yocto@top": ("build/tmp/deploy/images/*/*.qemuboot.conf",),
    "buildroot@x86": ("output/images/bzImage", "output/images/rootfs.ext2"),
    "buildroot": ("output/images/Image", "output/images/rootfs.ext2"),
    "buildroot@x86-images": ("images/bzImage", "images/rootfs.ext2"),
    "buildroot@images": ("images/Image", "images/rootfs.ext2"),
    "zephyr": ("zephyr/zephyr.elf", "zephyr/.config"),
    "zephyr@build": ("build/zephyr/zephyr.elf", "build/zephyr/.config"),
    "nuttx": ("nuttx", ".config", "Make.defs"),
    "nuttx@board": ("nuttx", ".config", "tools/mkconfig.c"),  # its Make.defs is a link to a board elsewhere
    "nuttx@cmake": ("build/nuttx", "build/.config", "build/Make.defs"),
    "unikraft@x86_64": ("build/*_qemu-x86_64", "build/libkvmplat.o"),
    "unikraft@arm64": ("build/*_qemu-arm64", "build/libkvmplat.o"),
    "unikraft@kraft-x86_64": (".unikraft/build/*_qemu-x86_64",),
    "unikraft@kraft-arm64": (".unikraft/build/*_qemu-arm64",),
    "u-boot": ("u-boot", "u-boot.bin", ".config"),
}
# Their names, as an error tells them.
SYSTEMS = tuple(dict.fromkeys(name.partition("@")[0] for name in LAYOUTS))
VSOCK = Path("/dev/vhost-vsock")
PUBLIC = Path("/usr/lib/u-boot")  # Debian's u-boot-qemu: the built-in profiles' boot loaders
# What packages install for guests to start with: boot loaders, firmware, option ROMs.
PUBLIC_FOLDERS = (
    PUBLIC,
    *map(Path, ("/usr/share/OVMF", "/usr/share/ovmf", "/usr/share/AAVMF", "/usr/share/qemu-efi-aarch64")),
    *map(Path, ("/usr/share/qemu-efi-arm", "/usr/share/qemu-efi-riscv64", "/usr/share/seabios", "/usr/share/qemu")),
    *map(Path, ("/usr/lib/ipxe", "/usr/lib/riscv64-linux-gnu/opensbi")),
)

_FLAG = "--image-dir"
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEAD = struct.Struct(">4sIQ56xQ")  # magic, version, offset of the backing file's name; incompatible features
_WITH_FEATURES = 3  # the version from which on they are there
_EXTERNAL_DATA = 1 << 2


@dataclass(frozen=True)
class Allowed:
    """Folders whose files a guest may be given, all resolved; `note` says why the project's is none of them."""

    folders: tuple[Path, ...]
    note: str = ""

    def resolved(self, root: Path, text: str, what: str) -> Path:
        """The file that `text` means, seen from `root`, with every link followed. It may not exist.

        Raises:
            PathNotAllowed: It lies elsewhere.
            GuestNotFound: No file can have that path.
        """
        path = (root / text).absolute()
        try:
            real = Path(os.path.realpath(path))  # Path.resolve would tell of links in a circle, wherever they are
        except ValueError as error:  # a NUL
            raise GuestNotFound(
                f"the {what} {path} is not there", evidence=str(error), cure=f"Name another {what}"
            ) from error
        if self.has(real):
            return real
        raise PathNotAllowed(
            f"the {what} {path} may not be used",
            evidence=self._reason(path),
            cure=f"Name a {what} in the project, or have the operator start the server with {_FLAG} {path.parent}",
        )

    def has(self, path: Path) -> bool:
        """Whether that file, with every link followed, lies in one of them, or is a package's."""
        return is_public(path) or any(path.is_relative_to(folder) for folder in self.folders)

    def _reason(self, path: Path) -> str:
        said = [f"allowed folders: {', '.join(map(str, (*self.folders, PUBLIC)))} and other packages' firmware"]
        if self.has(Path(os.path.normpath(path))):
            said.append("a link leads out of them")
        if self.note:
            said.append(self.note)
        return "; ".join(said)


def allowed_for(root: Path, image_dirs: Iterable[Path]) -> Allowed:
    """What a boot from `root` may use: `root` itself where it is a project, and the operator's folders."""
    operators = tuple(folder.resolve() for folder in image_dirs)
    if lack := lack_of_project(root):
        return Allowed(operators, lack)
    return Allowed((root.resolve(), *operators))


def lack_of_project(root: Path) -> str:
    """Why that folder is no project, in words; "" where it is one."""
    home = Path(os.path.expanduser("~")).absolute()  # noqa: PTH111 - which gives an error where there is none
    if home.resolve().is_relative_to(root.resolve()):
        return f"{root} is no project: it holds the home of the server's user"
    is_ours = partial(_is_ours, root)
    if not holds(root / CONFIG_FILE, is_ours) and layout_of(root, is_ours) is None:
        return (
            f"{root} is no project: it has no {CONFIG_FILE} of the server's user or of root, which may be empty, nor "
            f"built files that are theirs, of {', '.join(SYSTEMS)}"
        )
    return ""


def layout_of(root: Path, is_there: Callable[[Path], bool] = Path.is_file) -> str | None:
    """The profile that fits a tree by its files; None where none does."""
    found = (name for name, files in LAYOUTS.items() if all(holds(matching(root, file), is_there) for file in files))
    return next(found, None)


def matching(root: Path, name: str) -> Path:
    """The file that a name of a layout means; where it has a "*", the first that fits."""
    try:
        return next(iter(sorted(root.glob(name))), root / name) if "*" in name else root / name
    except OSError:
        return root / name


def _is_ours(root: Path, path: Path) -> bool:
    """Whether that is a file of the user's, or of an administrator's, in `root` itself: anybody can link to one."""
    real = path.resolve()
    return real.is_relative_to(root.resolve()) and real.is_file() and real.stat().st_uid in {0, os.geteuid()}


def is_public(path: Path) -> bool:
    """Whether a package put that file there, for guests to start with."""
    return any(path.is_relative_to(folder) for folder in PUBLIC_FOLDERS)


def holds(path: Path, test: Callable[[Path], bool]) -> bool:
    """Whether `path` passes `test`; one that cannot even be asked (too long, behind a closed folder) does not."""
    try:
        return test(path)
    except (OSError, RuntimeError, ValueError):
        return False


def is_qcow2(image: Path) -> bool:
    """Whether a file begins as a qcow2 image does; not where it cannot be read."""
    try:
        with image.open("rb") as file:
            return file.read(len(_QCOW2_MAGIC)) == _QCOW2_MAGIC
    except OSError:
        return False


def require_lone(image: Path) -> None:
    """Refuse a qcow2 image that names further files (qemu/docs/interop/qcow2.txt, section "Header").

    What is no qcow2 image at all is left to QEMU's own words.

    Raises:
        PathNotAllowed: It has a backing file or an external data file.
        GuestNotFound: It cannot be read.
    """
    try:
        with image.open("rb") as file:
            head = file.read(_QCOW2_HEAD.size)
    except OSError as error:
        raise GuestNotFound(
            f"the drive {image} cannot be read", evidence=str(error), cure="Make it readable for the server's user"
        ) from error
    if len(head) < _QCOW2_HEAD.size or not head.startswith(_QCOW2_MAGIC):
        return
    _, version, backing, features = _QCOW2_HEAD.unpack(head)
    has_data_file = version >= _WITH_FEATURES and features & _EXTERNAL_DATA
    if backing or has_data_file:
        found = "a backing file" if backing else "an external data file"
        raise PathNotAllowed(
            f"the drive {image} may not be used",
            evidence=f"it names {found}, which QEMU would open wherever it is",
            cure="Make it whole: qemu-img convert -O qcow2 OLD NEW. overlay=true makes a layer that is thrown away",
        )
