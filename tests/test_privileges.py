"""Capabilities are in force in the thread and the block that asked, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import Account

PRIVATE = Path(sys.prefix) / "bin/python-rawtap"


def run_private(user: Account, program: str) -> str:
    """Run a program on the private interpreter as an ordinary user."""
    prelude = (
        "import threading\n"
        "from rawtap.host import privileges\n"
        "from rawtap.errors import CapturePermission\n"
        "from rawtap.host.privileges import Capability, current, raised\n"
        "NET_RAW = Capability.NET_RAW\n"
    )
    done = subprocess.run(
        user.command(PRIVATE, "-I", "-W", "error", "-c", prelude + program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_block_has_the_capability_it_raised_and_no_other_and_not_afterwards(user: Account) -> None:
    said = run_private(
        user,
        "print(current().effective)\n"
        "with raised(NET_RAW, 'test', CapturePermission):\n"
        "    print(current().effective == 1 << 13)\n"
        "print(current().effective)\n",
    )
    assert said.split() == ["0", "True", "0"]


def test_another_thread_does_not_get_it(user: Account) -> None:
    said = run_private(
        user,
        "inside, looked = threading.Event(), threading.Event()\n"
        "def worker():\n"
        "    with raised(NET_RAW, 'test', CapturePermission):\n"
        "        inside.set(); looked.wait()\n"
        "thread = threading.Thread(target=worker); thread.start(); inside.wait()\n"
        "print(current().effective); looked.set(); thread.join()\n",
    )
    assert said.split() == ["0"]


def test_it_is_laid_down_when_the_block_fails(user: Account) -> None:
    said = run_private(
        user,
        "try:\n"
        "    with raised(NET_RAW, 'test', CapturePermission):\n"
        "        raise KeyError\n"
        "except KeyError:\n"
        "    print(current().effective)\n",
    )
    assert said.split() == ["0"]


def test_a_child_process_has_none(user: Account) -> None:
    said = run_private(
        user,
        "import subprocess\n"
        "with raised(NET_RAW, 'test', CapturePermission):\n"
        "    subprocess.run(['/bin/grep', '-E', 'Cap(Prm|Eff|Amb)', '/proc/self/status'], check=True)\n",
    )
    assert [line.split()[1] for line in said.splitlines()] == ["0000000000000000"] * 3


def test_root_lays_down_what_it_has_and_keeps_it_permitted() -> None:
    program = (
        "from rawtap.host.privileges import Capability, current, lay_down, raised\n"
        "from rawtap.errors import CapturePermission\n"
        "lay_down(); print(current().effective, current().may(Capability.NET_ADMIN))\n"
        "with raised(Capability.NET_ADMIN, 'test', CapturePermission): print(current().effective == 1 << 12)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]
