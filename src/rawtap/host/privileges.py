"""Capabilities: held by the process, in force only in the thread and the block that need one.

Theory of operation. `setcap.sh` gives a private copy of the interpreter, ``bin/python-rawtap``, the file
capabilities ``cap_net_raw,cap_net_admin,cap_net_bind_service+p``: permitted, not effective (capabilities(7)). The
``rawtap`` command replaces itself by that interpreter. From then on the process *may* raise the three, and nothing that
it runs has them until `raised` says so. Capabilities are an attribute of a thread: raising one in a worker thread gives
nothing to the others, and a thread starts with what its creator has at that moment, so the main thread
must hold none when it starts one: `lay_down` sees to that, for root as well.

A service manager may give the three as ambient capabilities instead (systemd's AmbientCapabilities=): then this
interpreter has them, with no-new-privileges as well, which would make those of a file void.

A container's bounding set may lack some of the three: execve(2) then leaves these out, and what needs them says so.

Children get nothing: file capabilities do not pass through execve(2), and all are started with no-new-privileges.
dnsmasq and nft are the exceptions: the three, or CAP_NET_ADMIN, as ambient capabilities (`children`).
"""

from __future__ import annotations

import ctypes
import enum
import grp
import os
import pwd
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rawtap.errors import RawtapError

PRIVATE_INTERPRETER = "python-rawtap"

_PR_CAPBSET_READ, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 23, 47, 4  # linux/prctl.h
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, linux/capability.h: two 32-bit words a set


class Capability(enum.IntEnum):
    """Those that rawtap uses; numbers from linux/capability.h."""

    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13

    def __str__(self) -> str:
        return f"CAP_{self.name}"


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class CapabilitySets:
    """One thread's capabilities as bit masks, bit N for capability N."""

    effective: int
    permitted: int
    inheritable: int

    def may(self, capability: Capability) -> bool:
        """Whether the thread holds `capability`, in force or not."""
        return bool(self.permitted >> capability & 1)


def current() -> CapabilitySets:
    """The calling thread's capability sets (capget(2))."""
    words = (_Word * 2)()
    _call(_libc.capget, words)
    low, high = words
    return CapabilitySets(
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def _set(sets: CapabilitySets) -> None:
    words = (_Word * 2)(
        *(
            _Word(*(mask >> shift & 0xFFFFFFFF for mask in (sets.effective, sets.permitted, sets.inheritable)))
            for shift in (0, 32)
        )
    )
    _call(_libc.capset, words)


def _call(function: ctypes._NamedFuncPointer, words: ctypes.Array[_Word]) -> None:
    """Call capget(2) or capset(2) for the calling thread (pid 0)."""
    if function(ctypes.byref(_Header(_VERSION_3, 0)), words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lay_down() -> None:
    """Take every capability of the calling thread out of force; the permitted ones can be raised again.

    Nor does a child get any, where a service manager gave them as ambient ones. Must run in the main thread before any
    other thread is started.
    """
    if _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _set(CapabilitySets(0, current().permitted, 0))


def keep_only(*capabilities: Capability) -> None:
    """Have this thread hold these capabilities, none of them in force, and no others."""
    _set(CapabilitySets(0, sum(1 << each for each in capabilities), 0))


@contextmanager
def raised(capability: Capability, purpose: str, refusal: type[RawtapError]) -> Iterator[None]:
    """Bring `capability` into force in this thread for this block, which opens something and does nothing else.

    Raises:
        refusal: The process does not hold the capability. `purpose` ("capture on rvos-br0") is in the text.
    """
    require({capability}, purpose, refusal)
    held = current()
    _set(CapabilitySets(held.effective | 1 << capability, held.permitted, held.inheritable))
    try:
        yield
    finally:
        _set(held)


def require(capabilities: Collection[Capability], purpose: str, refusal: type[RawtapError]) -> None:
    """See that this thread holds those capabilities: to raise one, or to give it to a child.

    Raises:
        refusal: It does not. `purpose` ("capture on rvos-br0") is in the text.
    """
    held = current()
    for capability in capabilities:
        if not held.may(capability):
            raise refusal(
                f"cannot {purpose}: this process lacks {capability}",
                evidence=explain_lack(capability),
                cure=cure_for_lack(capability),
            )


def private_interpreter() -> Path:
    """Where this environment's private interpreter is, or would be."""
    return Path(sys.prefix) / "bin" / PRIVATE_INTERPRETER


def setcap_script() -> Path:
    """The script that an administrator runs once, as the package brought it."""
    return Path(sys.prefix) / "share/rawtap/setcap.sh"


def setcap_command() -> str:
    """What an administrator runs to give this environment its capabilities."""
    if own := setcap_of_the_package():
        return f"sudo {own[0]}"
    return (
        f"sudo {setcap_script()}" if setcap_script().exists() else f"sudo ./setcap.sh {sys.prefix} (in rawtap's folder)"
    )


def setcap_of_the_package() -> tuple[str, str] | None:
    """The same where a package of the system's brought rawtap: for a person, and with no question asked."""
    path = setcap_script().with_name("setcap-command")
    if not path.exists():
        return None
    asking, unasked = path.read_text(encoding="utf-8").splitlines()
    return asking, unasked


# The way that is left where nothing is allowed.
WITHOUT_PRIVILEGE = 'qemu_boot(network="user") needs no privilege'


def out_of_bounds(capability: Capability) -> bool:
    """Whether the bounding set lacks it: no program that this process starts can get it (capabilities(7))."""
    return bool(_libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 0)


def cure_for_lack(capability: Capability) -> str:
    """The next step for a process without that capability."""
    if out_of_bounds(capability):
        step = f"Start the container with --cap-add {capability.name}"
    else:
        step = f"Run: {setcap_command()}, then start the server again"
    return f"{step}; or start it with --rootless; {WITHOUT_PRIVILEGE}"


def explain_lack(capability: Capability) -> str:
    """Why this process does not have that capability, in a few words, from what can be seen."""
    if out_of_bounds(capability):
        return f"the bounding set lacks {capability}, as in a container without --cap-add {capability.name}"
    path = private_interpreter()
    try:
        mode = path.stat()
    except FileNotFoundError:
        return f"{path} does not exist: setcap.sh was not run for this environment"
    except PermissionError as error:
        return f"{path} cannot be reached: {error.strerror}"
    if not os.access(path, os.X_OK):
        user, group = _user_name(os.geteuid()), _group_name(mode.st_gid)
        return f"{path} may be executed by group {group} only, and {user} is not in it; a new group needs a new login"
    if not _has_file_capability(path):
        return f"{path} has no file capabilities: a copy or chown drops them"
    return _explain_void(path)


def _explain_void(path: Path) -> str:
    """Why the capabilities of `path`, which are there and which this user may use, did not reach this process."""
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return f"{path} is on a file system mounted nosuid, where file capabilities are void"
    if _no_new_privileges():
        return "this process was started with no-new-privileges, which makes file capabilities void"
    if Path(sys.executable) == path:
        return f"{path} has other capabilities: an earlier setcap.sh made it"
    return f"this process runs {sys.executable}, not {path}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _has_file_capability(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        # ENODATA: there is none; ENOTSUP: the file system cannot hold one.
        return False


def _no_new_privileges() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return "NoNewPrivs:\t1" in status


def enter_private_interpreter(arguments: Sequence[str]) -> None:
    """Replace this process by the private interpreter running ``rawtap`` with `arguments`; return if it can't be.

    ``-I`` keeps the user's environment variables and working directory out of the module path of a process
    that may raise capabilities. Where this process holds capabilities already (root, or the private
    interpreter itself), there is nothing to gain and it returns.
    """
    path = private_interpreter()
    if current().may(Capability.NET_RAW) or not _is_private(path):
        return
    os.execv(path, [str(path), "-I", "-m", "rawtap", *arguments])


def _is_private(path: Path) -> bool:
    """Whether `path` is a regular file that this user may execute, with file capabilities, and not running now."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    running = Path(sys.executable).name == PRIVATE_INTERPRETER
    return stat.S_ISREG(mode) and os.access(path, os.X_OK) and _has_file_capability(path) and not running
