"""A user, network and mount namespace of the server's own, where bridges, TAPs and libpcap need no administrator.

Theory of operation. An ordinary user may make a user namespace, and holds every capability in it, over what belongs
to it: a network namespace that is made with it (user_namespaces(7), network_namespaces(7)). So `enter` moves this
process, before it has a second thread or has opened anything, and keeps of those capabilities the three that
`rawtap.host.privileges` raises, permitted and not in force. The rest of rawtap works as it does on the host. When the
last process in there is gone the kernel removes the namespace with all its links; there is nothing to sweep.

The host's interfaces cannot be seen from in there, and nobody outside can be reached, but by `rawtap.host.pasta`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from rawtap.errors import RootlessUnavailable
from rawtap.host import br_netfilter, privileges
from rawtap.host.privileges import Capability

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h

_CGROUPS = Path("/sys/fs/cgroup")
_LIMIT = Path("/proc/sys/user/max_user_namespaces")
_DEBIANS_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")
_APPARMORS_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")

_ELSE = f"Or start without --rootless: {privileges.WITHOUT_PRIVILEGE}"

_libc = ctypes.CDLL(None, use_errno=True)


def enter() -> None:
    """Move this process into namespaces of its own, and keep rawtap's three capabilities there, not in force.

    Must run in the only thread. A child tries it first, so that where it fails nothing has changed.

    Raises:
        RootlessUnavailable: What is in the way is in the text, and what an administrator would change.
    """
    if threading.active_count() != 1:
        raise RuntimeError("a process with threads cannot enter a user namespace")
    if number := _outcome_in_a_child():
        raise _refused(number)
    _enter()
    privileges.keep_only(*Capability)


def why_not() -> str | None:
    """Why there is no such namespace for this user, None where there is; asked of a fresh process, which tries it."""
    # Not of the private interpreter: who runs that may not write its own map (proc(5), on dumpable processes).
    program = [f"{sys.prefix}/bin/python", "-I", "-m", "rawtap.host.rootless"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stdout or done.stderr).strip()[-1000:]


def _outcome_in_a_child() -> int:
    """What `_enter` would come to: an errno, 0 for success."""
    child = os.fork()
    if child == 0:
        try:
            _enter()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or errno.EPERM)
        finally:
            os._exit(errno.EPERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS))
    # setgroups must be given up before an ordinary user may map a group (user_namespaces(7)).
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    _bring_up_loopback()
    br_netfilter.switch_off()  # what stays on the doctor tells, and each capture on a bridge what came of it
    # Have /sys show this namespace: libpcap reads there what an interface dropped. A container may forbid it; then
    # the host's stays, where our interfaces are missing: each capture then says that their own drops are not known.
    if _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0:
        _mount_sysfs()


def _mount_sysfs() -> None:
    """Mount this namespace's own, with the cgroups in it as before: their limits say how much memory there is."""
    cgroups = os.open(_CGROUPS, os.O_PATH | os.O_CLOEXEC) if _CGROUPS.is_dir() else -1
    if _libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None) == 0 and cgroups >= 0:
        _libc.mount(b"/proc/self/fd/%d" % cgroups, bytes(_CGROUPS), None, _MS_BIND | _MS_REC, None)
    if cgroups >= 0:
        os.close(cgroups)


def _bring_up_loopback() -> None:
    """Bring up the loopback. This is the first use of a capability in the namespace; AppArmor may leave none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _main() -> int:
    """Try it, for `why_not`."""
    try:
        enter()
    except RootlessUnavailable as error:
        print(error.evidence)  # noqa: T201
        return 1
    return 0


def _refused(number: int) -> RootlessUnavailable:
    why, cure = _explain(number)
    return RootlessUnavailable(
        "cannot make a network without privileges", evidence=f"{os.strerror(number)}: {why}", cure=f"{cure}. {_ELSE}"
    )


def _explain(number: int) -> tuple[str, str]:
    """What is in the way, from what can be seen, and what an administrator would do about it."""
    if _reads(_LIMIT, "0"):
        return f"{_LIMIT} is 0", "An administrator can allow it: sysctl user.max_user_namespaces=10000"
    if _reads(_DEBIANS_SWITCH, "0"):
        return f"{_DEBIANS_SWITCH} is 0", "An administrator can allow it: sysctl kernel.unprivileged_userns_clone=1"
    if number == errno.ENOSPC:
        return f"as many namespaces as {_LIMIT} allows exist", "End some, or have an administrator raise the limit"
    if is_kept_by_apparmor():
        return (
            f"{_APPARMORS_SWITCH} is 1: AppArmor keeps capabilities from user namespaces",
            "rawtap doctor --fix shows an AppArmor profile for rawtap, which an administrator can install",
        )
    if _is_filtered():
        return (
            "a seccomp filter is in force, as container engines set one",
            "Start the container with a seccomp profile that allows unshare(2) with CLONE_NEWUSER",
        )
    return "the kernel does not say more", f"An administrator can run instead: {privileges.setcap_command()}"


def is_kept_by_apparmor() -> bool:
    """Whether AppArmor lets only those make user namespaces whose profile says so, as on Ubuntu from 24.04 on."""
    return _reads(_APPARMORS_SWITCH, "1")


def _reads(switch: Path, value: str) -> bool:
    try:
        return switch.read_text(encoding="ascii").strip() == value
    except OSError:  # a kernel without it
        return False


def _is_filtered() -> bool:
    return "Seccomp:\t2" in Path("/proc/self/status").read_text(encoding="ascii")


if __name__ == "__main__":
    sys.exit(_main())
