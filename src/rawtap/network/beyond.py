"""What this machine's kernel does with packets that come by a bridge and are for somebody beyond it."""

from __future__ import annotations

from pathlib import Path

from rawtap.network import links, switches
from rawtap.network.switches import ALL, FORCE_FORWARDING, FORWARDING, Family

_ADDRESSES6 = Path("/proc/net/if_inet6")  # proc_pid_net(5): the address first, in hexadecimal digits


def held_by(interface: str, family: Family) -> str | None:
    """The switch by which they end here, as "name = value"; None where it does not say so: then they may be forwarded.

    For IPv4 the input interface's switch decides (ip_route_input_slow, net/ipv4/route.c), for IPv6
    the whole namespace's, or since Linux 6.17 that of the interface (ip6_forward, net/ipv6/ip6_output.c).
    """
    if family == "ipv4":
        name = f"net.ipv4.conf.{interface}.{FORWARDING}"
        return f"{name} = 0" if switches.read(family, interface, FORWARDING) == "0" else None
    forced = switches.read(family, interface, FORCE_FORWARDING)
    if switches.read(family, ALL, FORWARDING) != "0" or forced not in {None, "0"}:
        return None
    return f"net.ipv6.conf.{ALL}.{FORWARDING} = 0"


def own_addresses() -> frozenset[bytes]:
    """Every address of this network namespace: what is for one of them has arrived, by whatever interface it came.

    Raises:
        NetworkError: The kernel does not say.
    """
    found = {address.ip.packed for address, _ in links.addresses()}
    try:
        lines = _ADDRESSES6.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # a kernel without IPv6
        lines = []
    return frozenset(found | {bytes.fromhex(line.split()[0]) for line in lines})
