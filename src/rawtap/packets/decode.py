"""One packet as one line. Packet bytes are untrusted: what comes out of here is printable and bounded."""

from __future__ import annotations

import importlib
import struct
from functools import cache
from typing import Any

from rawtap.untrusted import visible

_LINE = 200
_LAYERS = ("l2", "inet", "inet6", "dhcp", "dhcp6", "dns", "tftp")


def load() -> None:
    """Import what decoding needs, which takes half a second, unless that is done."""
    _link_layers()


@cache
def _link_layers() -> Any:
    """scapy's table from link type to class, with the layers below loaded."""
    for layer in _LAYERS:
        importlib.import_module(f"scapy.layers.{layer}")
    return importlib.import_module("scapy.config").conf.l2types


def summarize(data: bytes, link_type: int) -> str:
    """The packet in one line of at most 200 characters, as scapy reads it.

    A frame that scapy cannot take apart is shown as what it is: its first bytes in hexadecimal.
    """
    layers = _link_layers()
    if link_type not in layers.num2layer:
        return f"link type {link_type}, {len(data)} bytes: {data[:24].hex()}"
    try:
        text = str(layers.num2layer[link_type](data).summary())
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        struct.error,
        TypeError,
        ValueError,
    ) as error:
        text = f"cannot be decoded ({type(error).__name__}), {len(data)} bytes: {data[:24].hex()}"
    shown = visible(text)
    return shown if len(shown) <= _LINE else shown[: _LINE - 3] + "..."
