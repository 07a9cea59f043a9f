"""Who is measured: how each is started, how it says that it captures, how it is stopped, and what it reports."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from _bench.drivers import by_pylibpcap
from _bench.machine import CAPTURE_CPU, Wire, on_cpu
from _bench.plan import BenchError

_DRIVERS = Path(__file__).parent / "drivers"
_UNWILLING = 0.5  # seconds until a contender that needs a packet to notice its signal is sent one, and another one
_TRIES = 60


@dataclass(frozen=True)
class Reported:
    """A contender's own counters, None for what it does not tell.

    `overwritten` of the `saved` packets are gone again with the oldest files of a ring. `cpu` is the time from armed
    to closed in seconds, of those that measure themselves.
    """

    saved: int
    overwritten: int = 0
    dropped_kernel: int | None = None
    dropped_interface: int | None = None
    cpu: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Contender:
    """One way to capture an interface into a file.

    Attributes:
        command: Its command line, from the interface and the folder that the file goes to.
        armed: What it prints when it captures.
        report: Turns all that it printed into its counters.
        stop: By SIGINT, or by a line on its stdin.
        needs_waking: It notices the signal with the next packet only.
        slow: It gets a fraction of the packets.
        ours: Its counters must balance in every trial.
        keeps: It has a file of what it took.
        first_turn: Bytes that it is sent slowly before the load, for files that are used again under the load.
    """

    name: str
    command: Callable[[str, Path], list[str]]
    armed: str
    report: Callable[[str], Reported]
    stop: Literal["signal", "line"] = "signal"
    needs_waking: bool = False
    slow: bool = False
    ours: bool = False
    keeps: bool = True
    first_turn: int = 0


@dataclass(frozen=True)
class Finished:
    """How a capture ended; `cpu` is the process's time from armed to its end in seconds."""

    reported: Reported
    cpu: float
    woken: bool


class Running:
    """A contender that captures. Made by `capturing`."""

    def __init__(self, contender: Contender, process: subprocess.Popen[str], wire: Wire) -> None:
        self._contender = contender
        self._process = process
        self._wire = wire
        self._cpu_armed = 0.0

    def wait_armed(self) -> None:
        """Read what it prints until it says that it captures."""
        output = self._process.stdout
        said = []
        for line in output or ():
            if self._contender.armed in line:
                self._cpu_armed = self._cpu_seconds()
                return
            said.append(line)
        raise BenchError(f"{self._contender.name} did not start: {''.join(said).strip()}")

    def stop(self) -> Finished:
        """Stop it and wait for its end and its counters."""
        self._ask()
        woken = False
        for _ in range(_TRIES):
            if self._ends_within(_UNWILLING):
                break
            if self._contender.needs_waking:
                self._wire.wake()
                woken = True
        else:
            raise BenchError(f"{self._contender.name} did not stop in {_TRIES * _UNWILLING:.0f} s")
        output = self._process.stdout.read() if self._process.stdout else ""
        # wait4 and not Popen.wait: it tells what the process has used.
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise BenchError(f"{self._contender.name} failed ({self._process.returncode}): {output.strip()}")
        cpu = usage.ru_utime + usage.ru_stime - self._cpu_armed
        return Finished(self._contender.report(output), cpu, woken)

    def cpu_since_armed(self) -> float:
        """CPU seconds that it has used since then."""
        return self._cpu_seconds() - self._cpu_armed

    def _cpu_seconds(self) -> float:
        """The time that it has used so far; finer than /proc/PID/stat's ticks."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9

    def _ask(self) -> None:
        if self._contender.stop == "line" and self._process.stdin:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        else:
            self._process.send_signal(signal.SIGINT)

    def _ends_within(self, seconds: float) -> bool:
        fd = os.pidfd_open(self._process.pid)
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)


@contextmanager
def capturing(contender: Contender, wire: Wire, folder: Path) -> Iterator[Running]:
    """A contender that captures the near end of `wire`; it does not outlive the block."""
    with on_cpu(CAPTURE_CPU):
        process = subprocess.Popen(
            contender.command(wire.near, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            running = Running(contender, process, wire)
            running.wait_armed()
            yield running
        finally:
            process.kill()


def _tcpdump_report(output: str) -> Reported:
    def count(what: str) -> int:
        found = re.search(rf"(\d+) packets? {what}", output)
        return int(found[1]) if found else 0

    return Reported(
        count("captured"),
        dropped_kernel=count("dropped by kernel"),
        dropped_interface=count("dropped by interface"),
    )


def _dumpcap_report(output: str) -> Reported:
    found = re.search(r"Packets received/dropped on interface \S+ (\d+)/(\d+) \(.*ps_ifdrop:(\d+)\)", output)
    if not found:
        raise BenchError(f"dumpcap reported no counters: {output.strip()}")
    saved, dropped, dropped_interface = map(int, found.groups())
    return Reported(saved, dropped_kernel=dropped, dropped_interface=dropped_interface)


def from_json(output: str) -> Reported:
    """The counters that a driver prints as its last line."""
    counters: dict[str, Any] = json.loads(output.splitlines()[-1])
    return Reported(**counters)


def tcpdump(name: str, *options: str) -> Contender:
    """tcpdump into a file."""
    command = ["tcpdump", "-Z", "root", *options]
    return Contender(
        name,
        lambda interface, folder: [*command, "-i", interface, "-w", str(folder / "tcpdump.pcap")],
        "listening on",
        _tcpdump_report,
    )


def rawtap(name: str, *, first_turn: int = 0, **options: Any) -> Contender:
    """rawtap, with these of the driver's options besides the default ones."""
    driver = [sys.executable, str(_DRIVERS / "by_rawtap.py")]
    # The default limit of a file is below what these rows send.
    chosen = json.dumps({"max_bytes": 1 << 40, **options})
    return Contender(
        name,
        lambda interface, folder: [*driver, interface, str(folder), chosen],
        "armed",
        from_json,
        stop="line",
        ours=True,
        first_turn=first_turn,
    )


RAWTAP = rawtap("rawtap")
FILES = 4
RING_FILES_NAME = f"rawtap, {FILES} files reused"
TCPDUMP = tcpdump("tcpdump")
_DUMPCAP = ("dumpcap", "-q", "-P", "-B", "64")
DUMPCAP = Contender(
    "dumpcap -B 64",
    lambda interface, folder: [*_DUMPCAP, "-i", interface, "-w", str(folder / "dumpcap.pcap")],
    "File: ",
    _dumpcap_report,
)
PYLIBPCAP = Contender(
    f"python-libpcap timeout={by_pylibpcap.TIMEOUT_MS}",
    lambda interface, folder: [
        sys.executable,
        str(_DRIVERS / "by_pylibpcap.py"),
        interface,
        str(folder / "pylibpcap.pcap"),
    ],
    "armed",
    from_json,
    needs_waking=True,
)
SCAPY = Contender(
    "scapy",
    lambda interface, folder: [sys.executable, str(_DRIVERS / "by_scapy.py"), interface, str(folder / "scapy.pcap")],
    "armed",
    from_json,
    stop="line",
    slow=True,
)
LEAST_LOSSES = (TCPDUMP, tcpdump("tcpdump -B 65536", "-B", "65536"), DUMPCAP)
PEERS = (*LEAST_LOSSES, PYLIBPCAP)


def ring_of_files(file_bytes: int) -> Contender:
    """rawtap with a ring of files of that size, which has gone round before the load."""
    first_turn = (FILES + 1) * file_bytes  # the oldest gives way when the file after the last begins
    return rawtap(RING_FILES_NAME, first_turn=first_turn, files=FILES, max_bytes=file_bytes)
