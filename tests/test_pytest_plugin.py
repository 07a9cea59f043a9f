"""pytest's plugin, as a project of somebody else's uses it: run by an ordinary user, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pages import ROOT
from rawtap.pytest_plugin import _place
from support import PATIENCE, Account, read_back
from test_linux_guest import IMAGES

SETTINGS = "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\nrawtap_profile = u-boot-riscv64\n"


def run_tests(account: Account, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests as that account."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, account.uid, account.gid)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options]
    return subprocess.run(
        account.command(*command), cwd=folder, capture_output=True, text=True, check=False, timeout=4 * PATIENCE
    )


def project(account: Account, test: str, settings: str = SETTINGS) -> Path:
    """A project of one file."""
    folder = account.home / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text(settings, encoding="utf-8")
    (folder / "test_it.py").write_text("import pytest\n\n" + test, encoding="utf-8")
    return folder


@pytest.fixture
def example(user: Account) -> Path:
    """The example of the documentation, with what it leaves to its reader."""
    folder = user.home / "example"
    shutil.copytree(ROOT / "docs/example", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "u-boot/disk.img").write_bytes(bytes(1 << 20))
    for name in ("vmlinuz", "initrd"):
        shutil.copy(IMAGES / name, folder / "linux")
    return folder


def test_the_example_of_the_documentation_passes_in_two_processes(user: Account, example: Path) -> None:
    done = run_tests(user, example, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b5 passed\b", done.stdout)
    assert not (example / ".rawtap").exists()


FAILING = """
PING = "setenv ipaddr 10.0.2.15; ping 10.0.2.2"

@pytest.mark.parametrize("way", ["a/b", "a b", "é"])
def test_expect(guest, wire, way):
    guest.run(PING)
    wire.expect("udp port 53", within=0.1)

def test_quiet(guest, wire):
    guest.run(PING)
    wire.quiet("icmp")

def test_mark(guest, wire):
    guest.run(PING)
    wire.mark()
    wire.expect("icmp", within=0.1)

def test_command(guest):
    guest.run("version", timeout=0)

@pytest.mark.guest(overrides={"prompt": "never"}, timeout=1)
def test_prompt(guest):
    raise RuntimeError("unreachable")

@pytest.mark.guest(network=False)
def test_no_network(wire):
    raise RuntimeError("unreachable")

def test_call(guest):
    guest.capture.packets("udp prot")
"""


def test_a_test_that_fails_tells_what_was_on_the_wire_and_keeps_it(user: Account) -> None:
    folder = project(user, FAILING)
    done = run_tests(user, folder)
    assert done.returncode == 1, done.stdout + done.stderr
    for told in (
        "expected a packet 'udp port 53': 0 of ",
        "of ICMP: echo reply",
        "expected no packet 'icmp': 1 of ",
        "expected a packet 'icmp': 0 of 0 packets match",
        "'version' did not end well",
        "the guest did not come to its prompt",
        "the guest has no network to capture",
        "capture.bad_filter",
        "rawtap findings-c1",
        "rawtap console-guest",
        "host 10.0.2.2 is alive",
    ):
        assert told in done.stdout, (told, done.stdout)
    assert "unreachable" not in done.stdout
    kept = {path.name: path for path in (folder / ".rawtap").iterdir()}
    assert len(kept) == 9
    (capture,) = kept["test_it.py_test_quiet"].glob("*.pcap")
    assert read_back(capture) >= 4
    assert "is alive" in (kept["test_it.py_test_quiet"] / "console-guest.txt").read_text(encoding="utf-8")


def test_a_lab_that_is_gone_fails_its_own_test_only(user: Account) -> None:
    test = """
import os, signal
from pathlib import Path

def test_gone(guest, wire):
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    guest.run("version")

def test_there(guest):
    assert "U-Boot" in guest.run("version")
"""
    done = run_tests(user, project(user, test))
    assert done.returncode == 1, done.stdout
    assert re.search(r"\b1 failed, 1 passed\b", done.stdout), done.stdout
    assert "server.gone" in done.stdout


def test_who_does_not_use_it_does_not_pay_for_it(user: Account) -> None:
    test = "import sys\n\ndef test_it():\n    assert not {'rawtap.library', 'mcp', 'rich', 'anyio'} & {*sys.modules}\n"
    done = run_tests(user, project(user, test), "-p", "no:anyio", "-p", "no:hypothesispytest", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_kept_is_told_beside_what_the_test_says(user: Account) -> None:
    folder = project(user, "def test_it(guest):\n    raise RuntimeError('its own')\n")
    (folder / ".rawtap").write_text("in the way", encoding="utf-8")
    done = run_tests(user, folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "RuntimeError: its own" in done.stdout
    assert "not all of it could be kept: " in done.stdout


def test_a_lab_that_does_not_start_says_so_in_a_line(user: Account) -> None:
    settings = SETTINGS + "rawtap_serve = --no-such-option\n"
    done = run_tests(user, project(user, "def test_it(lab):\n    raise RuntimeError('unreachable')\n", settings))
    assert done.returncode == 1, done.stdout
    assert "server.gone: the server of this Lab ended before it answered" in done.stdout
    assert "ExceptionGroup" not in done.stdout


def test_files_of_like_names_have_folders_of_their_own() -> None:
    config = SimpleNamespace(rootpath=Path("/"), getini=lambda _: ".rawtap")
    names = ["x/y_test.py::test_it", "x_y_test.py::test_it", "x/y_test.py::test_it[/]", "x_y_test.py::test_it[_]"]
    places = {_place(cast("pytest.Item", SimpleNamespace(nodeid=name, config=config))) for name in names}
    assert len(places) == len(names)
