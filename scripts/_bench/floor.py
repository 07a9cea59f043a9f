"""What no capture can do without: taking frames out of the kernel's ring, and writing as many bytes to a file."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from _bench.contenders import FILES, Contender, from_json
from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import Bench
from rawtap.capture.memory import ring_bytes

TAKER = "only takes frames out of the ring"
_SOURCE = Path(__file__).parent.parent / "_taker.c"
_CHUNK = b"\xff" * (1 << 20)  # not zeros: those would be one page of memory, over and over


@dataclass(frozen=True)
class Written:
    """Bytes that one thread wrote, and the seconds and the CPU seconds that it took."""

    size: int
    seconds: float
    cpu: float

    @property
    def speed(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds

    def cpu_ns(self, size: int) -> float:
        """Nanoseconds of CPU for `size` bytes."""
        return self.cpu / self.size * size * 1e9


def taker(bench: Bench) -> Contender:
    """A program that takes frames out of a ring of rawtap's size, and keeps none."""
    binary = bench.tmpfs / "taker"
    if not binary.exists():
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, _SOURCE, "-lpcap"], check=True)
    size = str(ring_bytes(0))
    return Contender(TAKER, lambda interface, _: [str(binary), interface, size], "armed", from_json, keeps=False)


def written_alone(folder: Path, size: int, *, to_disk: bool = False, file_bytes: int = 0) -> Written:
    """What it takes one thread to write `size` bytes, 1 MiB at a time, to a new file: what anybody can reach.

    With `to_disk` the time ends when the disk has them. With `file_bytes` they go into files of that size, and when one
    begins the oldest of FILES is given back, as in a ring that has gone round before.
    """
    count = size // len(_CHUNK)
    each = file_bytes // len(_CHUNK) or count
    with on_cpu(CAPTURE_CPU), ExitStack() as stack:

        def begin() -> FileIO:
            return stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))

        def write(file: FileIO, chunks: int) -> None:
            for _ in range(chunks):
                os.write(file.fileno(), _CHUNK)

        older = deque(begin() for _ in range(FILES if file_bytes else 0))
        for file in older:
            write(file, each)
        started, used = time.perf_counter(), time.thread_time()
        for left in range(count, 0, -each):
            older.append(begin())
            if file_bytes:
                older.popleft().close()
            write(older[-1], min(left, each))
        if to_disk:
            os.fsync(older[-1].fileno())
        return Written(count * len(_CHUNK), time.perf_counter() - started, time.thread_time() - used)
