"""How long a capture's CPU ran nobody who waited for it: the host paused, or the kernel had to end something first."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from _bench.machine import CAPTURE_CPU

_INTERVAL = 0.005  # seconds: under 1 % of the CPU, and a ring of any contender holds as much


@dataclass
class Stall:
    """The longest so far, in seconds."""

    longest: float = 0.0


@contextmanager
def watched() -> Iterator[Stall]:
    """Have a thread wake up now and then on that CPU, before all others (SCHED_FIFO, sched(7)), while the block runs.

    How late it was is how long the CPU stood still for whoever captures as well, or up to 5 ms less. On a virtual
    machine that is mostly the host, which finds memory that a program touches for the first time.

    Raises:
        OSError: The thread may not have that place, so nothing was watched.
    """
    stall, over = Stall(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_watch, stall, over)
        try:
            yield stall
        finally:
            over.set()
        watching.result()


def _watch(stall: Stall, over: threading.Event) -> None:
    os.sched_setaffinity(0, {CAPTURE_CPU})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    while not over.is_set():
        slept = time.perf_counter()
        time.sleep(_INTERVAL)  # deliberate: how late it ends is what is measured
        stall.longest = max(stall.longest, time.perf_counter() - slept - _INTERVAL)
