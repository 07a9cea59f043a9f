"""Frames for tests, made by scapy."""

from __future__ import annotations

import logging
from typing import Any

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.layers.dhcp import BOOTP, DHCP  # noqa: E402
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402

GUEST_MAC, HOST_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
GUEST, HOST = "10.0.2.15", "10.0.2.2"
XID = 0x1234


def out(packet: Any, **fields: Any) -> Any:
    """From the guest to the host."""
    return Ether(src=GUEST_MAC, dst=HOST_MAC) / IP(src=GUEST, dst=HOST, **fields) / packet


def back(packet: Any, **fields: Any) -> Any:
    """From the host to the guest."""
    return Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src=HOST, dst=GUEST, **fields) / packet


def dhcp(
    options: list[Any],
    *,
    xid: int = XID,
    reply: bool = False,
    source: str | None = None,
    end: Any = ("end",),
    **fields: Any,
) -> Any:
    """A client's or a server's message, broadcast."""
    ports = (67, 68) if reply else (68, 67)
    src = source or (HOST if reply else "0.0.0.0")  # noqa: S104
    return (
        Ether(src=HOST_MAC if reply else GUEST_MAC, dst="ff:ff:ff:ff:ff:ff")
        / IP(src=src, dst="255.255.255.255")
        / UDP(sport=ports[0], dport=ports[1])
        / BOOTP(
            op=2 if reply else 1,
            xid=xid,
            chaddr=bytes.fromhex(fields.pop("chaddr", GUEST_MAC).replace(":", "")),
            **fields,
        )
        / DHCP(options=[*options, *end])
    )
