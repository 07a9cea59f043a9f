"""The whole run lives in network and mount namespaces of its own: links and mounts of the machine are never touched,
and two runs side by side do not see each other."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from pyroute2 import IPRoute

from support import Account, Wire

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h


# A loaded machine decides no test; hypothesis drops its deadline by itself in CI only.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long tests at full length as well")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:  # noqa: ARG001
    """Bytes that are no text do not name a test: what packs them may write the time into them, and then the processes
    of one run have different names for it."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return argname
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long forms out of a plain run: deselected, not skipped, since nothing is missing."""
    if config.getoption("--soak"):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001
    _no_name_twice()
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.exit("the tests must run as root in CI: they make namespaces, links and mounts", returncode=3)
        return
    # Where mirrors can be reached, for what makes a system of its own. Worker processes start inside, and inherit it.
    os.environ.setdefault("RAWTAP_TEST_OUTSIDE", f"/proc/{os.getppid()}/ns/net")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        pytest.exit(f"cannot make namespaces: {os.strerror(ctypes.get_errno())}", returncode=3)
    made_private = libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    # In a chroot the root is no mount point (EINVAL); that is well where nothing is shared in the first place.
    if not made_private and "shared:" in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
        pytest.exit("cannot keep this run's mounts to itself", returncode=3)
    # libpcap reads the interface's counters there.
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    # A link that comes up would otherwise send frames of the kernel's own, at moments that no test can know: IPv6's,
    # and a bridge's report that it belongs to 224.0.0.106, all snoopers.
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
    Path("/proc/sys/net/ipv4/igmp_link_local_mcast_reports").write_text("0", encoding="ascii")
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


def _no_name_twice() -> None:
    """Test files are imported by their names alone: of two that share one, only the first is, and a run of many
    processes says so at its end. A run of any file says it at once."""
    names = Counter(file.name for file in Path(__file__).parent.rglob("test_*.py"))
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise pytest.UsageError(f"rename one of two test files: {', '.join(twice)}")


@pytest.fixture(scope="session")
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: run scripts/test.sh as root")


@pytest.fixture(params=["user", "root"])
def anyone(request: pytest.FixtureRequest, user: Account, root: Account) -> Account:
    """An ordinary user on the private interpreter, and root."""
    return user if request.param == "user" else root


@pytest.fixture
def user(_needs_root: None) -> Iterator[Account]:
    """An ordinary user on the private interpreter, with a home of its own for this test."""
    entry = pwd.getpwnam(os.environ["RAWTAP_TEST_USER"])
    with _home(entry.pw_uid, entry.pw_gid) as home:
        yield Account(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(home))


@pytest.fixture
def root(_needs_root: None) -> Iterator[Account]:
    """Root, with a home of its own for this test."""
    with _home(0, 0) as home:
        yield Account("root", 0, 0, Path(home))


def _home(uid: int, gid: int) -> tempfile.TemporaryDirectory[str]:
    home = tempfile.TemporaryDirectory(prefix="rawtap-test-", ignore_cleanup_errors=True)
    os.chown(home.name, uid, gid)
    return home


@pytest.fixture
def wire(_needs_root: None) -> Iterator[Wire]:
    """A veth pair: what is sent on one end is seen on the other, and nothing else is."""
    with Wire.make() as made:
        yield made


@pytest.fixture
def small_disk(user: Account) -> Iterator[Path]:
    """A tmpfs of 1 MiB that belongs to the ordinary user."""
    folder = user.home / "small"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=1m,uid={user.uid},gid={user.gid}", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def rvos_tree(user: Account) -> Path:
    """A tree of rvOS's shape: U-Boot under the kernel's name, with its prompt and shutdown command in rawtap.toml."""
    root = user.home / "rvos"
    kernel = root / "target/riscv64gc-unknown-none-elf/release/kernel.bin"
    kernel.parent.mkdir(parents=True)
    shutil.copy("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin", kernel)
    (root / "bin.img").write_bytes(bytes(1 << 20))
    (root / "rawtap.toml").write_text(
        'prompt = "=> "\n'
        'shutdown_command = "poweroff"\n'
        'interrupt = { wait_for = "Hit any key to stop autoboot", send = " " }\n',
        encoding="utf-8",
    )
    return root


@pytest.fixture
def outsider(user: Account) -> Account:
    """An ordinary user who is not in the group that may execute the private interpreter: goes the rootless way."""
    return replace(user, gid=65534, groups="--clear-groups")


@pytest.fixture(params=["rootless", "user", "root"])
def each_way(request: pytest.FixtureRequest, user: Account, root: Account, outsider: Account) -> Account:
    """Every way in which a server gets its privileges."""
    return {"rootless": outsider, "user": user, "root": root}[request.param]


@pytest.fixture
def nowhere(outsider: Account) -> Account:
    """An ordinary user to whom nothing is allowed: no capability, no new privileges, no namespace, no tun device."""
    # The limit belongs to a user namespace: to one of the test's own, in which it is 0 (user_namespaces(7)).
    inside = 'echo 0 > /proc/sys/user/max_user_namespaces; mount -t tmpfs none /dev/net; exec "$@"'
    confined = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh")
    dropped = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--")
    return replace(outsider, within=(*confined, *dropped))
