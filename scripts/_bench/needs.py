"""What the bench needs of the machine, and how to get what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

CPUS = 2

# What must be there, and the Debian package that brings it.
_PROGRAMS = {
    "tcpdump": "tcpdump",
    "dumpcap": "wireshark-common",
    "gcc": "gcc",
    "mount": "mount",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "tshark": "tshark",
    "qemu-system-riscv64": "qemu-system-misc opensbi u-boot-qemu",
}
_HEADERS = {
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/include/linux/if_packet.h": "linux-libc-dev",
    "/usr/include/pcap/pcap.h": "libpcap-dev",
}
_MODULES = ("rawtap", "pylibpcap", "scapy", "pyroute2", "mcp", "anyio", "duckdb")


def missing() -> list[str]:
    """What is missing, each as a sentence with its cure; nothing if the bench can run."""
    found = []
    if os.geteuid() != 0:
        found.append("the bench makes namespaces and links: run it as root")
    if len(os.sched_getaffinity(0)) < CPUS:
        found.append(f"sender and captures need a CPU each: {CPUS} CPUs")
    packages = [package for name, package in _PROGRAMS.items() if not shutil.which(name)]
    packages += [package for path, package in _HEADERS.items() if not Path(path).exists()]
    if packages:
        found.append(f"Debian packages are missing: apt-get install {' '.join(packages)}")
    modules = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if modules:
        found.append(
            f"{sys.executable} has no {', '.join(modules)}: run this by the environment's python "
            "(. scripts/_setup.sh; build_environment test; $ENVIRONMENT/bin/python scripts/bench.py)"
        )
    return found
