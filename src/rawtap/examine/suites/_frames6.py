"""Frames of IPv6 that many rules send, and by what their answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, Either, Fields, Frame
from rawtap.examine.suites._frames import DATA

ALL_NODES: dict[str, Any] = {"dst": "33:33:00:00:00:01"}
MY_LINK: dict[str, Any] = {"layer": "ICMPv6NDOptSrcLLAddr", "lladdr": "$us_mac"}
OTHER_LINK: dict[str, Any] = {"layer": "ICMPv6NDOptDstLLAddr", "lladdr": "$other_mac"}
ECHO: dict[str, Any] = {"layer": "ICMPv6EchoRequest", "id": "$id", "seq": 77}
REPLY: Fields = {"ICMPv6.type": 129, "ICMPv6EchoReply.id": "$id"}
UNREACHABLE: Fields = {"ICMPv6.type": 1, "ICMPv6.code": 4, "IPerror6.src": "$us6"}
ERROR: Fields = {"ICMPv6.type": Either((1, 2, 3, 4)), "IPv6.dst": "$us6"}


def ip(**fields: Any) -> dict[str, Any]:
    """An IPv6 header from us to the guest, but for these fields."""
    return {"layer": "IPv6", "src": "$us6", "dst": "$guest6"} | fields


def echo(
    *between: dict[str, Any],
    data: dict[str, Any] = DATA,
    link: dict[str, Any] | None = None,
    pad: int = 0,
    seq: int = 77,
    **fields: Any,
) -> Frame:
    """An echo request behind those headers; `fields` are the IPv6 header's."""
    return Frame(_linked(link, ip(**fields), *between, ECHO | {"seq": seq}, data), pad=pad)


def udp(
    *,
    data: dict[str, Any] = DATA,
    header: dict[str, Any] | None = None,
    link: dict[str, Any] | None = None,
    **fields: Any,
) -> Frame:
    """A datagram to a port that nobody listens on; `fields` are the IPv6 header's."""
    port = {"layer": "UDP", "sport": "$sport", "dport": "$shut"} | (header or {})
    return Frame(_linked(link, ip(**fields), port, data))


def advertisement(flags: dict[str, int], *, of: str = "$mover6", **fields: Any) -> Frame:
    """One to the guest that `of` has another link address now."""
    said = {"layer": "ICMPv6ND_NA", "tgt": of, "R": 0, "S": 0, "O": 0} | flags
    return Frame((ip(src=of, hlim=255) | fields, said, OTHER_LINK))


def to_all(of: str, **flags: int) -> Frame:
    """One to all nodes."""
    said = advertisement(flags, of=of, src="$mover6", dst="ff02::1")
    return replace(said, layers=({"layer": "Ether"} | ALL_NODES, *said.layers))


def _linked(link: dict[str, Any] | None, *layers: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return layers if link is None else ({"layer": "Ether"} | link, *layers)


GIVEN_REPLY = Ask((echo(seq=76),), {**REPLY, "ICMPv6EchoReply.seq": 76}, given=True)
"""For rules of what is not to be answered, behind it: were it right, it would have been."""
