"""QEMU's own network for one guest (slirp): its addresses, as options of QEMU's command line. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

from rawtap.errors import ProfileInvalid

_LONGEST_PREFIX = 28  # room for the host, a name server and the guest
_DNS, _FIRST_GUEST = (3, 2), (15, 14, 13)  # places in the subnet, the first one that is free


def others(address: IPv4Interface) -> tuple[IPv4Address, IPv4Address]:
    """Who else has an address where QEMU is the host at `address`: its name server, and the guest by DHCP."""
    network = address.network
    taken = {address.ip, network.broadcast_address}
    dns = next(network[place] for place in _DNS if network[place] not in taken)
    return dns, next(network[place] for place in _FIRST_GUEST if network[place] not in taken)


def options(address: IPv4Interface) -> dict[str, str | bool]:
    """The options of a network in which QEMU is the host at `address`, and gives the guest one by DHCP.

    `restrict`: QEMU itself answers ARP, DHCP and pings of its own addresses, and lets nothing else out, neither to this
    host nor beyond (qemu(1), -netdev user).

    Raises:
        ProfileInvalid: The subnet is too small.
    """
    network = address.network
    if network.prefixlen > _LONGEST_PREFIX:
        raise ProfileInvalid(
            f"QEMU's own network cannot have the address {str(address)!r}",
            evidence=f"its prefix length must be at most {_LONGEST_PREFIX}",
            cure='Use a larger subnet, like "10.0.2.2/24", or network=true',
        )
    dns, guest = others(address)
    return {
        "net": str(network),
        "host": str(address.ip),
        "dns": str(dns),
        "dhcpstart": str(guest),
        "restrict": True,
        "ipv6": False,
    }
