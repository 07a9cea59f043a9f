"""scapy, for what is asked of single packets: loaded when it is needed, and its errors kept in."""

from __future__ import annotations

import importlib
import logging
import struct
from functools import cache
from typing import Any

_IPV6_FAMILIES = (24, 28, 30)  # NetBSD and OpenBSD, FreeBSD, Darwin (pcap's LINKTYPE_NULL)
_LAYERS = ("l2", "inet", "inet6", "dhcp", "dhcp6", "dns", "tftp")


def load() -> None:
    """Import what decoding needs, which takes half a second, unless that is done."""
    _link_layers()


@cache
def _link_layers() -> Any:
    """scapy's table from link type to class, with the layers below loaded."""
    logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of what packets hold, which is anybody's to choose
    for layer in _LAYERS:
        importlib.import_module(f"scapy.layers.{layer}")
    _bind_loopback()
    return importlib.import_module("scapy.config").conf.l2types


def _bind_loopback() -> None:
    """scapy knows one of the numbers that systems have for IPv6, and files have that of who wrote them."""
    below, above = (importlib.import_module(f"scapy.layers.{name}") for name in ("l2", "inet6"))
    for family in _IPV6_FAMILIES:
        importlib.import_module("scapy.packet").bind_bottom_up(below.Loopback, above.IPv6, type=family)


# What scapy's dissectors raise for bytes that they did not expect.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, struct.error, TypeError, ValueError)


def dissect(data: bytes, link_type: int) -> tuple[Any, str]:
    """scapy's packet, and ""; or None, and why there is none."""
    layers = _link_layers()
    if link_type not in layers.num2layer:
        return None, f"link type {link_type}, {len(data)} bytes"
    try:
        return layers.num2layer[link_type](data), ""
    except FAILURES as error:
        return None, _failure(error, data)


def _failure(error: Exception, data: bytes) -> str:
    return f"cannot be decoded ({type(error).__name__}), {len(data)} bytes"
