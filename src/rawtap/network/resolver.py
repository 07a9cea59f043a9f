"""The name servers that this machine asks (resolv.conf(5))."""

from __future__ import annotations

import ipaddress
from pathlib import Path

_RESOLV_CONF = Path("/etc/resolv.conf")
_MAX_SERVERS = 3  # MAXNS, resolv.conf(5)


def name_servers() -> list[str]:
    """Their addresses; none where the file is not there."""
    try:
        return servers_in(_RESOLV_CONF.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def servers_in(text: str) -> list[str]:
    """The name servers in a resolv.conf(5): the first three, as the resolver does."""
    words = [line.split() for line in text.splitlines()]
    named = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    return [each for each in named if _is_address(each)][:_MAX_SERVERS]


def within_reach(servers: list[str], relay: str) -> list[str]:
    """Those servers as another network namespace reaches them: a loopback address by way of `relay`, once.

    One on a link of this machine's ("fe80::1%eth0") is out of reach.
    """
    addresses = [(each, ipaddress.ip_address(each)) for each in servers]
    reached = [relay if address.is_loopback else each for each, address in addresses if not address.is_link_local]
    return list(dict.fromkeys(reached))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
