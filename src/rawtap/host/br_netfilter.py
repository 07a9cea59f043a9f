"""br_netfilter: whether bridges hand the IP packets that pass them to the host's firewall.

Where they do, a bridge drops frames whose IP header contradicts itself or the frame, and cuts off what follows the IP
packet (br_validate_ipv4, net/bridge/br_netfilter_hooks.c). Container engines rely on it. Its switches are those of a
network namespace (linux/Documentation/networking/ip-sysctl.rst): the attribute of the same name that each bridge has
can switch it on for one bridge, not off.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_SWITCHES = {
    each: Path(f"/proc/sys/net/bridge/bridge-nf-call-{each}") for each in ("arptables", "iptables", "ip6tables")
}


def on() -> list[str]:
    """Those of its switches that are on in this network namespace; none where the kernel does not have it loaded."""
    found = []
    for name, switch in _SWITCHES.items():
        with contextlib.suppress(FileNotFoundError):
            if switch.read_text(encoding="ascii").strip() != "0":
                found.append(name)
    return found


def switch_off() -> list[str]:
    """Switch it off in this network namespace, which has no bridges but our own; return what stays on."""
    for name in on():
        with contextlib.suppress(OSError):  # /proc/sys is read-only in many containers: what stays on is returned
            _SWITCHES[name].write_text("0", encoding="ascii")
    return on()
