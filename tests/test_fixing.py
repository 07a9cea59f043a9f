"""`rawtap doctor --fix`, which shows what would bring what is missing; and what is said where libpcap itself is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from support import PATIENCE, RAWTAP, Account, not_installed

LIBPCAP = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/libpcap.so.0.8")


def rawtap(account: Account, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = account.command(RAWTAP, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_where_nothing_is_missing_nothing_is_shown(anyone: Account) -> None:
    done = rawtap(anyone, "doctor", "--fix")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("#") for line in done.stdout.splitlines())


def test_who_is_no_administrator_is_shown_commands_that_a_shell_takes(user: Account) -> None:
    with not_installed("/usr/sbin/nft"), not_installed("/usr/sbin/dnsmasq"):
        done = rawtap(user, "doctor", "--fix")
    assert done.stdout.splitlines() == [
        "# an administrator runs these, or: rawtap doctor --fix | sudo sh -e",
        "# which packages there are",
        "apt-get update",
        *[line for line in done.stdout.splitlines() if line.startswith("# packages of ")],
        "apt-get install -y --no-install-recommends dnsmasq-base nftables",
    ]
    subprocess.run(["/bin/sh", "-n"], input=done.stdout, text=True, check=True)


def test_for_root_each_step_is_carried_out_and_the_first_that_fails_is_the_last(root: Account) -> None:
    private = Path(sys.prefix, "bin/python-rawtap")
    with not_installed("/usr/sbin/nft"), not_installed("/usr/bin/apt-get"):
        done = rawtap(root, "doctor", "--fix")
    assert done.returncode == 1
    assert "apt-get: Permission denied" in done.stderr
    assert "this did not succeed, and what comes after it was not begun" in done.stderr
    assert "apt-get install" not in done.stdout
    assert private.exists()


def test_capabilities_that_were_lost_are_given_again(user: Account) -> None:
    private = Path(sys.prefix, "bin/python-rawtap")
    script = Path(sys.prefix, "share/rawtap/setcap.sh")
    with not_installed(private):
        done = rawtap(user, "doctor", "--fix")
    assert f"bash {script}" in done.stdout.splitlines()


@pytest.mark.parametrize("command", ["doctor", "serve", "demo"])
def test_without_libpcap_a_command_says_so_and_which_package_has_it(user: Account, command: str) -> None:
    with (
        not_installed(LIBPCAP),
        subprocess.Popen(user.command(RAWTAP, command), stdin=PIPE, stderr=PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        told = process.stderr.read()  # its input stays open meanwhile
        assert process.wait(PATIENCE) == 1
    assert "libpcap.so.0.8 is not on this machine. Run: sudo apt-get install" in told
    assert "libpcap0.8" in told
    assert "Traceback" not in told
