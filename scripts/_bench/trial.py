"""One trial: start a contender, send, stop it, and hold its counters against what was sent and what is in the file."""

from __future__ import annotations

import dataclasses
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _bench.contenders import Contender, Finished, capturing
from _bench.machine import Wire
from _bench.plan import Bench
from _bench.sender import Load, Sent
from _bench.stalls import watched

_LOOK = 0.05  # seconds between two looks at a file
_GENTLE = 50_000  # frames a second that any capture can take
_SMALL = 10_000  # packets up to which each one's number is looked at
_PCAP_HEADER, _RECORD_HEADER, _ETHERNET_HEADER = 24, 16, 14


@dataclass(frozen=True)
class Trial:
    """What came of one trial.

    `seconds`, `rate` and `retries` are the sender's under the load, `closed` the seconds from its first frame until the
    file was closed. `in_file` is what tcpdump counts in the files
    afterwards, `lost` what was sent and never saved, `cpu` the capture's CPU time in seconds, without its start-up,
    what it uses with no packets, and the `first_turn` frames. `stalled` is for how many seconds the capture's CPU stood
    still at the most under the load. `wrong` says what does not add up, "" if all does.
    """

    contender: str
    folder: str
    sent: int
    first_turn: int
    seconds: float
    rate: float
    retries: int
    closed: float
    in_file: int
    lost: int
    saved: int
    dropped_kernel: int | None
    dropped_interface: int | None
    cpu: float
    woken: bool
    stalled: float
    wrong: str

    @property
    def lost_share(self) -> float:
        """Of what was sent, in percent."""
        return 100 * self.lost / self.sent

    @property
    def cpu_ns(self) -> float:
        """Nanoseconds per saved packet of the load."""
        return self.cpu / max(1, self.saved - self.first_turn) * 1e9


def longest_stall(done: Sequence[Trial]) -> str:
    """For how long the CPU stood still in these trials, each of which may have lost what came meanwhile."""
    return "its CPU stood still for " + ", ".join(f"{trial.stalled * 1e3:.0f}" for trial in done) + " ms"


@dataclass(frozen=True)
class _Seen:
    """What one capture was given and left.

    `first_turn` frames came before those of `load` and cost `first_turn_cpu` seconds. `numbers` are those of the
    frames in the file, None where not looked at.
    """

    first_turn: int
    first_turn_cpu: float
    load: Sent
    stalled: float
    closed: float
    carried: int
    finished: Finished
    in_file: int
    numbers: list[int] | None

    @property
    def sent(self) -> int:
        """All frames."""
        return self.first_turn + self.load.count


def run(bench: Bench, row: int, contender: Contender, wire: Wire, folder: Path, load: Load, *, settle: bool) -> Trial:
    """Run one. With `settle` the contender may finish its file before it is stopped, else it is stopped at once."""
    seen = _capture(bench, contender, wire, folder, load, settle=settle)
    reported = seen.finished.reported
    saved = seen.in_file + reported.overwritten
    cpu = seen.finished.cpu - bench.idle_cpu[contender.name] if reported.cpu is None else reported.cpu
    trial = Trial(
        contender=contender.name,
        folder="tmpfs" if folder == bench.tmpfs else "disk",
        sent=seen.sent,
        first_turn=seen.first_turn,
        seconds=seen.load.seconds,
        rate=seen.load.rate,
        retries=seen.load.retries,
        closed=seen.closed,
        in_file=seen.in_file,
        lost=seen.sent - saved,
        saved=saved,
        dropped_kernel=reported.dropped_kernel,
        dropped_interface=reported.dropped_interface,
        cpu=cpu - seen.first_turn_cpu,
        woken=seen.finished.woken,
        stalled=seen.stalled,
        wrong=_wrong(contender, seen),
    )
    bench.record(row, trial)
    return trial


def _capture(bench: Bench, contender: Contender, wire: Wire, folder: Path, load: Load, *, settle: bool) -> _Seen:
    before = wire.carried()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        own = Path(name)
        with capturing(contender, wire, own) as running:
            first_turn = contender.first_turn // load.size
            first_turn_cpu = 0.0
            if first_turn:
                bench.sender.send(wire.far, Load(first_turn, load.size, _GENTLE))
                first_turn_cpu = running.cpu_since_armed()
            begun = time.perf_counter()
            with watched() as stall:
                sent = bench.sender.send(wire.far, load)
            carried = wire.carried() - before
            if settle:
                _wait_until_quiet(own, bench.plan.settle)
            finished = running.stop()
            closed = time.perf_counter() - begun
        files = list(own.iterdir())
        in_file = sum(count_frames(path) for path in files) if contender.keeps else finished.reported.saved
        small = contender.ours and sent.count <= _SMALL
        numbers = [number for path in files for number in _numbers(path)] if small else None
    return _Seen(first_turn, first_turn_cpu, sent, stall.longest, closed, carried, finished, in_file, numbers)


def interleaved(
    bench: Bench,
    row: int,
    contenders: Sequence[Contender],
    folder: Path,
    load: Load,
    *,
    rounds: int,
    pause: float = 0.0,
    settle: bool = True,
    first: int = 0,
) -> dict[str, list[Trial]]:
    """`rounds` trials of each contender by its name, in turns. The slow ones get a fraction of the load.

    Each round begins with another one, since the first has what the round before left to the disk; the first round
    begins with the contender of that number.
    """
    trials: dict[str, list[Trial]] = {contender.name: [] for contender in contenders}
    with Wire.make(mtu=load.mtu) as wire:
        for contender in contenders:
            _measure_idle(bench, contender, wire)
        for turn in range(first, first + rounds):
            begin = turn % len(contenders)
            for contender in (*contenders[begin:], *contenders[:begin]):
                share = bench.plan.slow_share if contender.slow and load.count > _SMALL else 1
                fair = dataclasses.replace(load, count=load.count // share)
                time.sleep(pause)
                trials[contender.name].append(run(bench, row, contender, wire, folder, fair, settle=settle))
    return trials


def count_frames(path: Path) -> int:
    """How many of the sender's frames tcpdump finds in a file."""
    command = ["tcpdump", "--count", "-nr", str(path), "ether", "proto", "0x88b5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def _numbers(path: Path) -> list[int]:
    """The numbers of the frames in a small pcap file, in its order."""
    data = path.read_bytes()
    at, found = _PCAP_HEADER, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        at += _RECORD_HEADER
        found.append(struct.unpack_from(">I", data, at + _ETHERNET_HEADER)[0])
        at += size
    return found


def _measure_idle(bench: Bench, contender: Contender, wire: Wire) -> None:
    """Learn what CPU time a contender uses from armed to its end with no packet sent: not charged to packets.

    Once for each. rawtap's driver measures itself, and what it uses for its stop is charged.
    """
    if contender.ours or contender.name in bench.idle_cpu:
        return
    found = []
    for _ in range(3):
        with tempfile.TemporaryDirectory(dir=bench.disk) as own, capturing(contender, wire, Path(own)) as running:
            found.append(running.stop().cpu)
    bench.idle_cpu[contender.name] = statistics.median(found)


def _wait_until_quiet(folder: Path, seconds: float) -> None:
    """Wait until nothing in `folder` has changed for so long.

    That is how it looks from outside when a capture has nothing more to write; no contender tells.
    """
    last: object = None
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(_LOOK)
        now = _state(folder)
        if now != last:
            last, since = now, time.monotonic()


def _state(folder: Path) -> list[tuple[str, int]]:
    found = []
    for path in sorted(folder.iterdir()):
        try:
            found.append((path.name, path.stat().st_size))
        except FileNotFoundError:  # a ring's oldest, removed just now
            continue
    return found


def _wrong(contender: Contender, seen: _Seen) -> str:
    """What does not add up, "" if all does. Of a peer only the wire is looked at: what it reports is its own affair."""
    sent, reported = seen.sent, seen.finished.reported
    found = [reported.error] if reported.error else []
    if seen.carried != sent:
        found.append(f"the sender sent {sent}, the wire carried {seen.carried}")
    if contender.ours:
        dropped = (reported.dropped_kernel or 0) + (reported.dropped_interface or 0)
        kept = reported.saved - reported.overwritten
        if reported.saved + dropped != sent:
            found.append(f"sent {sent}, reported {reported.saved} saved and {dropped} dropped")
        if seen.in_file != kept:
            found.append(f"reported {kept} in files that hold {seen.in_file}")
        if seen.numbers is not None and not dropped and seen.numbers != list(range(sent)):
            found.append("the file does not hold each frame once and in order")
    return "; ".join(found)
