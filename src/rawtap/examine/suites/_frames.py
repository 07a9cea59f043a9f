"""Frames that many rules send, and by what their answers are known."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, Fields, Frame

BROADCAST = "ff:ff:ff:ff:ff:ff"
DATA_SIZE = 30  # bytes of what $data stands for
DATA: dict[str, Any] = {"layer": "Raw", "load": "$data"}
REPLY: Fields = {"ICMP.type": 0, "ICMP.id": "$id"}
ECHO: dict[str, Any] = {"layer": "ICMP", "type": 8, "id": "$id", "seq": 77}
ICMP_ERRORS = {"IPerror.src": "$us", "IPerror.id": "$id"}


def raw(data: bytes) -> dict[str, Any]:
    """Those bytes."""
    return {"layer": "Raw", "load": {"hex": data.hex()}}


def ip(**fields: Any) -> dict[str, Any]:
    """An IPv4 header from us to the guest, but for these fields."""
    return {"layer": "IP", "src": "$us", "dst": "$guest", "id": "$id"} | fields


def echo(
    *, data: dict[str, Any] = DATA, link: dict[str, Any] | None = None, pad: int = 0, seq: int = 77, **fields: Any
) -> Frame:
    """An echo request; `fields` are the IP header's. Each of a rule has a `seq` of its own: some stacks, like picoTCP,
    answer none that has the identifier and the number of the one before."""
    layers = (ip(**fields), ECHO | {"seq": seq}, data)
    return Frame(layers if link is None else ({"layer": "Ether"} | link, *layers), pad=pad)


GIVEN_REPLY = Ask((echo(seq=76),), REPLY, given=True)
"""For rules of what is not to be answered, behind it: were it right, it would have been. In front it would not show
that, as a stack may answer so many in a second and no more."""


def udp(*, data: dict[str, Any] = DATA, header: dict[str, Any] | None = None, **fields: Any) -> Frame:
    """A datagram to a port that nobody listens on; `fields` are the IP header's."""
    port = {"layer": "UDP", "sport": "$sport", "dport": "$shut"} | (header or {})
    return Frame((ip(**fields), port, data))


def tcp(
    flags: str, *, data: str = "", port: str = "$shut", address: dict[str, Any] | None = None, **fields: Any
) -> Frame:
    """A segment with those flags; `fields` are the TCP header's."""
    header = {"layer": "TCP", "sport": "$sport", "dport": port, "flags": flags, "seq": "$seq", "window": 8192} | fields
    return Frame((ip(**(address or {})), header, *([{"layer": "Raw", "load": data}] if data else [])))


def arp(*, link: dict[str, Any] | None = None, pad: int = 0, cut: int | None = None, **fields: Any) -> Frame:
    """A request for the guest's address, by broadcast."""
    asked = {"layer": "ARP", "op": 1, "psrc": "$us", "pdst": "$guest"} | fields
    return Frame(({"layer": "Ether", "dst": BROADCAST} | (link or {}), asked), pad=pad, cut=cut)
