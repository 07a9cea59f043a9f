"""Captures as rawtap's server does, with its default settings: the one place that speaks to `CaptureSession`.

    by_rawtap.py INTERFACE FOLDER OPTIONS

OPTIONS are fields of `CaptureRequest` as JSON, and "ring_bytes", the size of the kernel's ring. Prints "armed",
stops on a line of stdin, then prints its counters and the CPU time of the whole process from armed to closed as JSON.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
from pathlib import Path

from rawtap.capture import memory
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest, CaptureSession


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _main() -> None:
    interface, folder, options = sys.argv[1:]
    chosen = json.loads(options)
    ring_bytes = chosen.pop("ring_bytes", memory.ring_bytes(0))
    request = CaptureRequest(interface, **chosen)
    index = socket.if_nametoindex(interface)
    session = CaptureSession.start(request, InterfaceSource(index, ring_bytes), Path(folder), "bench")
    before = _cpu_seconds()
    print("armed", flush=True)
    sys.stdin.readline()
    snapshot = session.stop()
    session.close()  # a stop answers before the kernel has given up the ring, which costs as well
    counters = {
        "saved": snapshot.packets + snapshot.packets_overwritten,
        "overwritten": snapshot.packets_overwritten,
        "dropped_kernel": snapshot.dropped_kernel,
        "dropped_interface": snapshot.dropped_interface,
        "cpu": _cpu_seconds() - before,
        "error": str(snapshot.error or ""),
    }
    print(json.dumps(counters))


if __name__ == "__main__":
    _main()
