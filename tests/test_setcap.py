"""setcap.sh on environments of the tests' own: what it makes, checks, removes and refuses, and what a copy may do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import RAWTAP, Account

SETCAP = Path(__file__).parent.parent / "setcap.sh"
HELD = "CapPrm:\t0000000000003400"
NOTHING = "CapEff:\t0000000000000000"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SETCAP, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment
    )


def make_environment(folder: Path) -> Path:
    """A bare environment; --without-pip keeps it quick."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder], check=True)
    return folder


@pytest.fixture
def environment(user: Account) -> Path:
    folder = make_environment(user.home / "env")
    user.home.chmod(0o711)  # others may pass through, as in an ordinary home
    return folder


@contextmanager
def mounted(kind: str, folder: Path, options: str = "") -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", kind, *(["-o", options] if options else []), kind, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def status(account: Account, interpreter: Path) -> subprocess.CompletedProcess[str]:
    program = "print(open('/proc/self/status').read())"
    return subprocess.run(
        account.command(interpreter, "-I", "-c", program), capture_output=True, text=True, check=False
    )


def test_it_makes_a_private_copy_with_permitted_capabilities_for_the_group(user: Account, environment: Path) -> None:
    done = run("--group", user.name, environment)
    assert done.returncode == 0, done.stderr
    private = environment / "bin/python-rawtap"
    found = private.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, user.gid, 0o750)
    assert f"made {private}" in done.stdout
    told = status(user, private)
    assert HELD in told.stdout
    assert NOTHING in told.stdout
    shared = status(user, environment / "bin/python")
    assert "CapPrm:\t0000000000000000" in shared.stdout


def test_a_user_outside_the_group_cannot_execute_it(user: Account, environment: Path) -> None:
    assert run("--group", "root", environment).returncode == 0
    told = status(user, environment / "bin/python-rawtap")
    assert told.returncode == 126
    assert "Permission denied" in told.stderr


def test_check_says_what_is_missing_and_then_that_all_is_well(user: Account, environment: Path) -> None:
    before = run("--check", environment)
    assert before.returncode == 1
    assert "FAIL" in before.stdout
    assert "python-rawtap is missing: run setcap.sh as root" in before.stdout
    assert run("--group", user.name, environment).returncode == 0
    after = run("--check", environment)
    assert (after.returncode, "FAIL" in after.stdout) == (0, False)


def test_check_sees_that_a_copy_lost_its_capabilities(user: Account, environment: Path) -> None:
    assert run("--group", user.name, environment).returncode == 0
    private = environment / "bin/python-rawtap"
    shutil.copy(private, private.with_name("other"))
    private.with_name("other").replace(private)
    told = run("--check", environment)
    assert told.returncode == 1
    assert "cp and chown drop them" in told.stdout


def test_remove_takes_the_copy_away_and_may_be_repeated(user: Account, environment: Path) -> None:
    assert run("--group", user.name, environment).returncode == 0
    assert f"removed {environment}/bin/python-rawtap" in run("--remove", environment).stdout
    assert not (environment / "bin/python-rawtap").exists()
    assert "was not there" in run("--remove", environment).stdout


def test_a_second_run_changes_nothing_that_is_seen(user: Account, environment: Path) -> None:
    assert run("--group", user.name, environment).returncode == 0
    assert run("--group", user.name, environment).returncode == 0
    assert HELD in status(user, environment / "bin/python-rawtap").stdout
    assert not (environment / "bin/python-rawtap.new").exists()


def test_it_opens_the_tun_device_and_says_so(user: Account, environment: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    try:
        os.mknod("/dev/net/tun", 0o020600, os.makedev(10, 200))
        done = run("--group", user.name, environment)
        assert "changed the mode of /dev/net/tun from 600 to 666" in done.stdout
        assert Path("/dev/net/tun").stat().st_mode & 0o777 == 0o666
        assert "open to users already" in run("--group", user.name, environment).stdout
    finally:
        subprocess.run(["umount", "/dev/net"], check=True)


def test_it_makes_a_udev_rule_where_there_is_udev_and_removes_it(user: Account, environment: Path) -> None:
    """A copy of /etc with udev's folder in it, over /etc."""
    etc = user.home / "etc"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    (etc / "udev/rules.d").mkdir(parents=True, exist_ok=True)
    rule = Path("/etc/udev/rules.d/60-rawtap-tun.rules")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"], check=True)
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    try:
        os.mknod("/dev/net/tun", 0o020600, os.makedev(10, 200))
        assert f"made {rule}" in run("--group", user.name, environment).stdout
        assert 'MODE="0666"' in rule.read_text(encoding="utf-8")
        assert f"removed {rule}" in run("--remove", environment).stdout
        assert not rule.exists()
    finally:
        subprocess.run(["umount", "/etc"], check=True)
        subprocess.run(["umount", "/dev/net"], check=True)


def refusal(*arguments: str | Path, **environment: str) -> str:
    done = run(*arguments, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("setcap.sh: ")
    return done.stderr


def test_it_refuses_a_symbolic_link(environment: Path) -> None:
    (environment / "bin/python-rawtap").symlink_to("/usr/bin/python3")
    assert "is a symbolic link" in refusal("--group", "root", environment)
    assert os.listxattr("/usr/bin/python3") == []


def test_it_refuses_a_nosuid_mount(user: Account) -> None:
    with mounted("tmpfs", user.home / "nosuid", "nosuid") as folder:
        environment = make_environment(folder / "env")
        assert "mounted nosuid" in refusal("--group", "root", environment)
        assert not (environment / "bin/python-rawtap").exists()


def test_it_refuses_a_file_system_without_extended_attributes(user: Account) -> None:
    with mounted("ramfs", user.home / "ramfs") as folder:
        environment = make_environment(folder / "env")
        assert "lacks extended attributes" in refusal("--group", "root", environment)
        assert sorted(path.name for path in (environment / "bin").glob("python-rawtap*")) == []


def test_it_refuses_where_setcap_is_missing(environment: Path) -> None:
    """A file that cannot be executed over the program, in this run's own mount namespace."""
    program = shutil.which("setcap", path="/usr/sbin:/sbin")
    assert program is not None
    subprocess.run(["mount", "--bind", "/dev/null", program], check=True)
    try:
        assert "install Debian's package libcap2-bin" in refusal("--group", "root", environment)
    finally:
        subprocess.run(["umount", program], check=True)


def test_it_refuses_what_is_no_environment_and_a_group_that_is_none(user: Account, environment: Path) -> None:
    assert "no pyvenv.cfg" in refusal(user.home)
    assert "There is no environment" in refusal(user.home / "none")
    assert "groupadd no-such-group" in refusal("--group", "no-such-group", environment)


def test_it_refuses_without_root(user: Account, environment: Path) -> None:
    done = subprocess.run(user.command(SETCAP, environment), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "This needs root" in done.stderr


def test_it_runs_nothing_of_the_environments_as_root(user: Account, environment: Path) -> None:
    """A .pth file's code runs when the interpreter starts, -I or not."""
    witness = environment / "witness"
    (pth,) = environment.glob("lib/python*/site-packages")
    line = f"import os; open({str(witness)!r}, 'a').write(str(os.geteuid()) + ' ')\n"
    (pth / "x.pth").write_text(line, encoding="utf-8")
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", environment], check=True)
    assert run("--group", user.name, environment).returncode == 0
    assert set(witness.read_text(encoding="utf-8").split()) == {str(user.uid)}


def test_it_refuses_an_interpreter_that_its_users_cannot_start(user: Account, environment: Path) -> None:
    """A pyvenv.cfg that the environment's owner may not read: the copy does not know where its library is."""
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", environment], check=True)
    os.chown(environment / "pyvenv.cfg", 0, 0)
    (environment / "pyvenv.cfg").chmod(0o600)
    assert "does not start by itself" in refusal("--group", user.name, environment)
    assert list((environment / "bin").glob("python-rawtap*")) == []


def test_the_group_is_by_default_that_of_the_user_who_called_sudo(user: Account, environment: Path) -> None:
    caller = {"SUDO_UID": str(user.uid), "SUDO_GID": str(user.gid), "SUDO_USER": user.name}
    assert run(environment, **caller).returncode == 0
    assert (environment / "bin/python-rawtap").stat().st_gid == user.gid


def test_installed_with_rawtap_it_is_about_its_own_environment(user: Account, environment: Path) -> None:
    script = environment / "share/rawtap/setcap.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(SETCAP, script)
    done = subprocess.run([script, "--group", user.name], capture_output=True, text=True, check=True)
    assert f"made {environment}/bin/python-rawtap" in done.stdout


def test_rawtap_itself_hands_over_to_it(user: Account) -> None:
    def rawtap(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = user.command(RAWTAP, "setcap", *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    checked = rawtap("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"{sys.prefix}/bin/python-rawtap is root:" in checked.stdout
    refused = rawtap()
    assert refused.returncode == 1
    assert f"An administrator must run, once: sudo {sys.prefix}/share/rawtap/setcap.sh" in refused.stderr
    assert "--check [VENV]" in rawtap("--help").stdout
