"""An attack that lasts: an hour, or ``RAWTAP_ATTACK_MINUTES``. SIGKILL at any moment in each way in which a server has
its privileges, and the extension modules, built with sanitizers, under whatever anybody may give them. The hostile
clients of HTTP are in `test_http_attacks`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rawtap.network import addressing
from support import Account, descendants_of, eventually, exists, link_names, read_back, trimmers
from test_accounts import closes
from test_endings import RawClient, raw_client
from test_outside import beyond, tables

__all__ = ["beyond"]  # a fixture

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("RAWTAP_ATTACK_MINUTES", "60"))
MOMENTS = max(2, round(100 * MINUTES / 60))
FUZZ_SECONDS = round(MINUTES * 60 / 4)

BRIDGE = {"network": True, "services": True}
WAYS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "capabilities": ("user", ("--outside",), BRIDGE),
    "root": ("root", ("--outside",), BRIDGE),
    "namespaces": ("outsider", ("--rootless",), BRIDGE),
    "user network": ("nowhere", (), {"network": "user"}),
}


@dataclass
class Day:
    """What an agent does until the server is gone."""

    client: RawClient
    boot: dict[str, Any]
    rows: dict[str, int] = field(default_factory=dict)  # of each capture file: the packets that were said to be in it
    took: list[float] = field(default_factory=list)  # of each call that was answered, the seconds
    before: threading.Event = field(default_factory=threading.Event)  # the call of this number begins
    number: int = -1

    def _call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        if len(self.took) == self.number:
            self.before.set()
        began = time.monotonic()
        answer = self.client.call(name, **arguments)
        self.took.append(time.monotonic() - began)
        for row in [answer, *answer.get("captures", ())]:
            if "in_flight" in row:
                assert closes(row), row
                self.rows[row["path"]] = row["packets"]
        return answer

    def spend(self) -> None:
        """Boot, capture, ping, look, stop and shut down."""
        booted = self._call("qemu_boot", profile="u-boot-riscv64", capture=True, **self.boot)
        self.rows[booted["capture"]["path"]] = 0
        ring = self._call("qemu_pcap_start", format="pcapng", files=3, max_bytes=4096)
        for _ in range(2):
            assert "is alive" in self._call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
            self._call("qemu_pcap_status")
        self._call("qemu_pcap_stop", capture=ring["capture"])
        self._call("qemu_pcap_stop")
        self._call("qemu_shutdown")

    def until_killed(self) -> None:
        """The same, until there is no answer any more."""
        with contextlib.suppress(ValueError, BrokenPipeError):
            self.spend()


def is_for_the_next_start(link: str) -> bool:
    """Whether that may be left: the bridge, or a TAP that was half made."""
    return link == "rawtap-br0" or addressing.is_tap_of_the_dead(link)


def switches() -> dict[str, str]:
    """Who forwards."""
    found = Path("/proc/sys/net/ipv4/conf").glob("*/forwarding")
    return {path.parent.name: path.read_text(encoding="ascii") for path in found}


def capture_files(account: Account) -> list[Path]:
    return [path for path in account.captures.glob("*") if path.is_file()]


def other_files(account: Account) -> set[str]:
    return {str(path) for path in account.home.rglob("*") if path.is_file() and account.captures not in path.parents}


def killed_at(account: Account, options: tuple[str, ...], boot: dict[str, Any], call: int, after: float) -> None:
    """Kill a server so many seconds after that call of an agent's day began."""
    with raw_client(account, *options) as client:
        day = Day(client, boot, number=call)
        thread = threading.Thread(target=day.until_killed)
        thread.start()
        assert day.before.wait(60)
        time.sleep(after)
        # All that it has started must be known: so it is halted, and then killed where it stands.
        os.kill(client.process.pid, signal.SIGSTOP)
        below = descendants_of(client.process.pid)
        client.process.kill()
        client.process.wait()
        thread.join()
    assert eventually(lambda: not any(map(exists, below)))
    assert eventually(lambda: not trimmers())
    # What was said to be in a file is in it, and it is whole.
    found = {str(path): read_back(path) for path in capture_files(account)}
    assert all(found[path] >= packets for path, packets in day.rows.items() if path in found), (found, day.rows)
    assert set(day.rows) <= set(found)


@pytest.mark.usefixtures("beyond")
@pytest.mark.parametrize("way", list(WAYS))
def test_sigkill_at_any_moment_leaves_nothing_behind(way: str, request: pytest.FixtureRequest) -> None:
    whose, options, boot = WAYS[way]
    account: Account = request.getfixturevalue(whose)
    chance = random.Random(way)
    links, forwarding = link_names(), switches()
    with raw_client(account, *options) as client:
        day = Day(client, boot)
        day.spend()
    at_rest = other_files(account)
    for moment in range(MOMENTS):
        for path in capture_files(account):
            path.unlink()
        call = moment % len(day.took)
        killed_at(account, options, boot, call, chance.uniform(0, day.took[call]))
        assert eventually(lambda: all(map(is_for_the_next_start, link_names() - links))), link_names()
    with raw_client(account, *options) as client:
        client.call("qemu_status")
        assert eventually(lambda: link_names() == links)
    assert (tables(), switches(), other_files(account)) == ([], forwarding, at_rest)


def test_the_extension_modules_hold_under_sanitizers(root: Account, tmp_path: Path) -> None:
    folder = os.environ["RAWTAP_SANITIZED"]  # scripts/test.sh builds it
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {
        "PATH": root.path,
        "HOME": str(root.home),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": folder,
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": library.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # CPython keeps what it has
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    seed = random.SystemRandom().randrange(1 << 32)
    script = str(Path(__file__).with_name("fuzz_modules.py"))
    log = tmp_path / "log"
    with log.open("wb") as said:
        done = subprocess.run(
            [sys.executable, script, str(FUZZ_SECONDS), str(seed)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            check=False,
        )
    last = log.read_text(encoding="utf-8", errors="replace")[-6000:]
    assert done.returncode == 0, f"seed {seed}: {last}"
    assert "Sanitizer" not in last
    assert "runtime error" not in last
    outcomes = json.loads(done.stdout)
    assert outcomes.pop("modules") == folder
    for target in ("savefile", "filters", "explained", "live", "mirror", "spawned"):
        assert sum(count for what, count in outcomes.items() if what.startswith(target)) > 5, outcomes
