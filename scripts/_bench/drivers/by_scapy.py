"""Captures as a user of scapy does: AsyncSniffer, then wrpcap.

    by_scapy.py INTERFACE FILE

Prints "armed", stops on a line of stdin, then prints its counter as JSON.
"""

from __future__ import annotations

import json
import sys
import threading

from scapy.all import AsyncSniffer, wrpcap


def _main() -> None:
    interface, file = sys.argv[1:]
    armed = threading.Event()
    sniffer = AsyncSniffer(iface=interface, started_callback=armed.set)
    sniffer.start()
    armed.wait()
    print("armed", flush=True)
    sys.stdin.readline()
    packets = sniffer.stop()
    wrpcap(file, packets)
    print(json.dumps({"saved": len(packets)}))


if __name__ == "__main__":
    _main()
