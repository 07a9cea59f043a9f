"""Which files and ports a child may reach: Landlock rulesets (landlock(7)), made here and taken on by `_spawn`.

Theory of operation. A child reads what others wrote: a guest's disk, a project's paths, frames off a wire. Whatever
that makes it want, the kernel has the last word: a process in a Landlock domain opens what its ruleset names and
nothing else, whoever it runs as. A ruleset names what was found to be the child's before it starts, by descriptors of
the files themselves, so a name that means another file by then opens nothing.

What is open already is not asked about: sockets, TAPs, pipes and memory that the child inherits stay as they are. So is
what has no file system to stand in (memfd_create(2), pipes by /proc/self/fd). Landlock says nothing of stat(2),
chmod(2) and connect(2) to a socket that has a path.

Kernels know more of it from version to version; what one does not know is left out, and `limits` says so. Where there
is no Landlock at all the checks before the start are what is left, and `lack` says why.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NONE = -1  # in place of a ruleset's descriptor

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture but alpha
_VERSION = 1  # flag of the former: tell which version this kernel has
_PATH_BENEATH, _NET_PORT = 1, 2

# linux/landlock.h
_EXECUTE, _WRITE, _READ, _READ_FOLDER = (1 << bit for bit in range(4))
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE, _IOCTL = 1 << 5, 1 << 8, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL  # the others are of folders only
_LOOK = _READ | _READ_FOLDER
_BIND, _CONNECT = 1, 2

_PT_INTERP = 3  # elf(5)

# What each version added: bits of the file system, of TCP, of what a domain keeps to itself.
_FIRST = 1 << 13
_FILES_SINCE = {2: 1 << 14, 3: 1 << 15, 5: 1 << 16}  # all bits below
_TCP_SINCE, _TCP = 4, _BIND | _CONNECT
_SCOPE_SINCE, _SCOPE = 6, 3  # abstract Unix sockets, and signals

# What packages put there. No user's file is in it, so a program's libraries and data need no list of their own.
_BREW = "/home/linuxbrew/.linuxbrew"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", _BREW)
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime")
_BESIDE_BIN = ("lib", "lib64", "libexec", "share/qemu", "share/seabios")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Access:
    """What a child may reach besides what it inherits.

    Attributes:
        programs: What it is, and what it starts: read and executed, with what belongs to them.
        read: Files, with every link followed; of folders all that is in them.
        write: Files likewise, read and written; in folders files may be made and removed as well.
        devices: Read, written and given their own commands (ioctl(2)).
        listen: TCP ports that it may listen on.
        connect: TCP ports that it may connect to, wherever they are.
        alone: Whether it may start no further program: of `programs` and their loaders alone anything is executed.
    """

    programs: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    listen: tuple[int, ...] = ()
    connect: tuple[int, ...] = ()
    alone: bool = False


class PathMoved(OSError):
    """A path that was resolved means another file by now."""


@cache
def version() -> int:
    """This kernel's version of Landlock; 0 where there is none."""
    return max(0, _ask_version())


def _ask_version() -> int:
    return int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def lack() -> str | None:
    """Why children are not confined here, None where they are."""
    if _ask_version() > 0:
        return None
    number = ctypes.get_errno()
    if number == errno.EOPNOTSUPP:
        return "this kernel has Landlock and did not switch it on: its boot parameter lsm= lacks landlock"
    if number == errno.ENOSYS:
        return "this kernel has no Landlock (Linux 5.13 and later can have it), or a seccomp filter hides it"
    return f"Landlock cannot be used: {os.strerror(number)}, as by a seccomp filter"


def limits() -> str:
    """What this kernel's version leaves out, "" for nothing."""
    since = {
        3: "truncating a file",
        _TCP_SINCE: "TCP ports",
        5: "commands to devices",
        _SCOPE_SINCE: "signals and abstract Unix sockets",
    }
    return ", ".join(what for first, what in since.items() if version() < first)


@contextmanager
def ruleset(access: Access) -> Iterator[int]:
    """The descriptor of a ruleset, closed with the block; `NONE` where this kernel has no Landlock.

    Raises:
        PathMoved: A file of `read`, `write` or `devices` is not the one that was resolved.
        OSError: The kernel refuses.
    """
    if version() == 0:
        yield NONE
        return
    files = _files_known()
    with ExitStack() as stack:
        fd = _created(files, _TCP if version() >= _TCP_SINCE else 0, _SCOPE if version() >= _SCOPE_SINCE else 0)
        stack.callback(os.close, fd)
        for path, rights in _system(access):
            _allow(fd, path, rights & files, exactly=False)
        for path, rights in _granted(access):
            _allow(fd, path, rights & files, exactly=True)
        if version() >= _TCP_SINCE:
            for right, ports in ((_BIND, access.listen), (_CONNECT, access.connect)):
                for port in ports:
                    _add(fd, _NET_PORT, struct.pack("=QQ", right, port))
        yield fd


def close(files: Iterable[int]) -> None:
    """From now on this thread, and those that it starts, open nothing but, for reading, what these descriptors are of.

    It is for a process that may get no new privileges; nothing where this kernel has no Landlock.

    Raises:
        OSError: The kernel refuses.
    """
    if version() == 0:
        return
    fd = _created(_files_known(), _TCP if version() >= _TCP_SINCE else 0, _SCOPE if version() >= _SCOPE_SINCE else 0)
    try:
        for each in files:
            _add(fd, _PATH_BENEATH, struct.pack("=Qi", _READ, each))
        _call(_RESTRICT_SELF, fd, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _files_known() -> int:
    """The rights to files that this kernel's version knows, all of which are taken."""
    return max((bits for first, bits in _FILES_SINCE.items() if version() >= first), default=_FIRST) - 1


def _created(files: int, tcp: int, scope: int) -> int:
    """A new ruleset; a kernel takes a struct that is longer than its own where what it does not know is 0."""
    attributes = struct.pack("=QQQ", files, tcp, scope)
    return _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))


def _system(access: Access) -> Iterator[tuple[Path, int]]:
    """What every program needs, with its rights."""
    for path in (*map(Path, _SYSTEM), *homes_of(access.programs)):
        yield path, _LOOK if access.alone else _LOOK | _EXECUTE
    if access.alone:
        for program in access.programs:
            yield program, _LOOK | _EXECUTE
            yield _loader_of(program), _LOOK | _EXECUTE
    for name in _SYSTEM_FILES:
        yield Path(name), _LOOK
    for name in _DEVICES:
        yield Path(name), _READ | _WRITE


def _granted(access: Access) -> Iterator[tuple[Path, int]]:
    """What this one has, with its rights."""
    for paths, rights in (
        (access.read, _LOOK),
        (access.write, _LOOK | _WRITE | _TRUNCATE | _MAKE_FILE | _REMOVE_FILE),
        (access.devices, _READ | _WRITE | _IOCTL),
    ):
        for path in paths:
            yield path, rights


def homes_of(found: Iterable[Path]) -> Iterator[Path]:
    """Programs, and where their libraries and data are besides the system's folders.

    That is beside a folder bin, or in the tree in which a program was built. No more of such a place is named: ~/.local
    holds keys as well.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - which gives an error where there is none
    for program in found:
        for path in {program.absolute(), program.resolve()}:
            yield path
            folder, base = path.parent, path.parent.parent
            if folder.name in {"bin", "sbin"}:
                yield from (base / name for name in _BESIDE_BIN)
            elif not home.is_relative_to(folder):
                yield from (folder, base / "pc-bios")
    yield from (Path(each) for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each.startswith("/"))


def _loader_of(program: Path) -> Path:
    """What the kernel starts in a program's place to load its libraries, as an ELF file names it (elf(5), PT_INTERP).

    The program itself where it names none, or is none: a script is refused where the kernel starts its interpreter.
    """
    with program.open("rb") as file:
        head = file.read(64)
        if not head.startswith(b"\x7fELF"):
            return program
        is_wide = head[4:5] == b"\x02"
        table, size, count = (
            (*struct.unpack_from("=Q", head, 32), *struct.unpack_from("=HH", head, 54))
            if is_wide
            else (*struct.unpack_from("=I", head, 28), *struct.unpack_from("=HH", head, 42))
        )
        for number in range(count):
            file.seek(table + number * size)
            entry = file.read(size)
            if struct.unpack_from("=I", entry)[0] == _PT_INTERP:
                place, length = (
                    (struct.unpack_from("=Q", entry, 8)[0], struct.unpack_from("=Q", entry, 32)[0])
                    if is_wide
                    else (struct.unpack_from("=I", entry, 4)[0], struct.unpack_from("=I", entry, 16)[0])
                )
                file.seek(place)
                return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    return program


def _allow(ruleset_fd: int, path: Path, rights: int, *, exactly: bool) -> None:
    """Add a rule for what is there; what is not can be opened by nobody."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - no Path: it may end in " (deleted)"
        if exactly and found != str(path):
            raise PathMoved(errno.ESTALE, f"{path} was resolved, and is {found} by now")
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        _add(ruleset_fd, _PATH_BENEATH, struct.pack("=Qi", rights, fd))
    finally:
        os.close(fd)


def _add(ruleset_fd: int, kind: int, attributes: bytes) -> None:
    _call(_ADD_RULE, ruleset_fd, ctypes.c_int(kind), attributes, ctypes.c_uint32(0))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
