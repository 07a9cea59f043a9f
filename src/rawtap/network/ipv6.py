"""IPv6 on a bridge of ours: a prefix of its own (RFC 4193), and an address that is there at once."""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path

from rawtap.errors import NetworkFailed
from rawtap.network import links, switches
from rawtap.network.links import Link

# What guests see as their router. fe80::1 needs nothing of the kernel's choosing, which comes up to a second later.
LINK_LOCAL = IPv6Interface("fe80::1/64")

_MACHINE = (Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id"))
_NO_ADDRESS_OF_ITS_OWN = "1"  # addr_gen_mode


def address_for(bridge: str) -> IPv6Interface:
    """The host's address on the bridge of that name: the same at each start, and another one on each machine."""
    return unique_local(_machine(), bridge)


def unique_local(machine: str, bridge: str) -> IPv6Interface:
    """Address 1 in a /64 of fd00::/8, whose other 56 bits come from a hash, as RFC 4193 3.2.2 has it."""
    digest = hashlib.sha256(f"rawtap\0{machine}\0{bridge}".encode()).digest()
    return IPv6Interface((IPv6Address(b"\xfd" + digest[:7] + b"\0" * 7 + b"\1"), 64))


def _machine() -> str:
    for path in _MACHINE:
        try:
            if text := path.read_text(encoding="ascii").strip():
                return text
        except OSError:
            continue
    return ""


def enable(link: Link, address: IPv6Interface) -> None:
    """Give a bridge of ours its IPv6 addresses. It tells its neighbours that it is a router, as its RAs do.

    Raises:
        NetworkError: The kernel has no IPv6, or does not let us.
    """
    if switches.read("ipv6", link.name, "disable_ipv6") is None:
        raise NetworkFailed(
            f"no IPv6 on {link.name}",
            evidence="this kernel has none: /proc/sys/net/ipv6 is not there",
            cure="Start the kernel without ipv6.disable=1, or do without",
        )
    switches.write("ipv6", link.name, "addr_gen_mode", _NO_ADDRESS_OF_ITS_OWN)
    switches.write("ipv6", link.name, "disable_ipv6", "0")
    # RFC 4861 7.2.5: a host forgets a default router whose neighbour advertisements do not say that it is one.
    switches.write("ipv6", link.name, switches.FORWARDING, "1")
    for each in (LINK_LOCAL, address):
        links.add_address(link, each)
