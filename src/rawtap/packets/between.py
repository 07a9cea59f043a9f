"""Filters that no packet between two ends, or two hosts, fails, whatever carries it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from rawtap.packets import carriers, headers
from rawtap.packets.conversation import End
from rawtap.packets.headers import Frame
from rawtap.packets.transport import TCP

_IPV4_BYTES = 4


def name(protocol: int) -> str:
    """The protocol's word in filters."""
    return "tcp" if protocol == TCP else "udp"


def ends(target: Frame, protocol: int, one: End, other: End) -> str:
    """For packets of `protocol` between two ends, of which `target` is one; "" where libpcap does not look behind what
    carries that."""
    plain = _hosts((one, other))
    if len(one.address) == _IPV4_BYTES:  # else any may have extension headers, behind which libpcap sees no port
        plain = f"{name(protocol)} and {plain} and port {one.port} and port {other.port}"
    return _with_carriers(target, plain)


def hosts(target: Frame, pair: Iterable[End]) -> str:
    """The same for datagrams between any ports of these hosts."""
    known = tuple(pair)
    plain = _hosts(known)
    return _with_carriers(target, f"udp and {plain}" if len(known[0].address) == _IPV4_BYTES else plain)


def _with_carriers(target: Frame, plain: str) -> str:
    """`plain`, and what may carry such a packet."""
    link = target.link
    if target.carriers or (isinstance(link, headers.Ethernet) and (link.tags or link.stated is not None)):
        return ""
    carried = [f"proto {each}" for each in carriers.IN_IP] + [f"udp port {each}" for each in carriers.IN_UDP]
    if isinstance(link, headers.Ethernet):  # libpcap sees no IP behind a length, and "vlan" must be the last word
        carried += [*(f"ether proto {each}" for each in carriers.IN_FRAMES), "ether[12:2] < 0x600", "vlan"]
    return " or ".join([f"({plain})", *carried])


def _hosts(pair: Iterable[End]) -> str:
    return " and ".join(f"host {ip_address(each.address)}" for each in pair)
