"""Captures as a user of python-libpcap does, after its own command `libpcap-capture`.

    by_pylibpcap.py INTERFACE FILE

Prints "armed", stops on SIGINT (once another packet has come: it does not look in between), then prints its counters
as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys

from pylibpcap.base import Sniff  # type: ignore[import-untyped]

TIMEOUT_MS = 100


def _main() -> None:
    interface, file = sys.argv[1:]
    # Without a time-out, its default, packets come out of the kernel only when a block of the ring is full: a thousand
    # small ones never do.
    sniff = Sniff(interface, count=-1, promisc=1, timeout=TIMEOUT_MS, out_file=file)
    with contextlib.suppress(KeyboardInterrupt):
        print("armed", flush=True)
        for _ in sniff.capture():
            pass
    stats = sniff.stats()
    sniff.close()
    counters = {
        "saved": stats.capture_cnt,
        "dropped_kernel": stats.ps_drop,
        "dropped_interface": stats.ps_ifdrop,
    }
    print(json.dumps(counters))


if __name__ == "__main__":
    _main()
