"""Frames made from structured data: layers by their names, fields by theirs. Nothing of it is evaluated or looked up.

scapy fills in what is absent: lengths, checksums, types. What it would ask this host for (routes, addresses, names) is
given or refused here: every address must be numeric, and addresses that are absent come from `Defaults`.
"""

from __future__ import annotations

import difflib
import importlib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rawtap.errors import RequestInvalid
from rawtap.packets import decode

MAX_FRAME = 65535
MAX_LAYERS = 16
_ITEMS = 4096  # of one list; they are seconds of work before they are too long for a frame
_MIN_FRAME = 14  # an Ethernet header
_MAC = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
# How scapy wants an address in ARP, by its kind and length.
_ARP_TEXTS: dict[tuple[int, int], Callable[[bytes], str]] = {
    (1, 6): lambda raw: raw.hex(":"),
    (0x0800, 4): lambda raw: str(ipaddress.IPv4Address(raw)),
    (0x86DD, 16): lambda raw: str(ipaddress.IPv6Address(raw)),
}
_NOBODY = "00:00:00:00:00:00"
_ARP_ADDRESSES = {"hwsrc", "hwdst", "psrc", "pdst"}
_HEX = re.compile(r"[\s:]*([0-9a-fA-F]{2}[\s:]*)*")

# Where the layers that can be asked for are defined.
_MODULES = {
    "scapy.layers.l2": ("Ether", "Dot1Q", "ARP", "LLC", "STP"),
    "scapy.layers.inet": ("IP", "ICMP", "UDP", "TCP"),
    "scapy.layers.inet6": (
        "IPv6",
        "ICMPv6EchoRequest",
        "ICMPv6EchoReply",
        "ICMPv6ND_NS",
        "ICMPv6ND_NA",
        "ICMPv6ND_RS",
        "ICMPv6ND_RA",
        "ICMPv6ND_Redirect",
        "ICMPv6NDOptSrcLLAddr",
        "ICMPv6NDOptDstLLAddr",
        "ICMPv6NDOptPrefixInfo",
        "ICMPv6DestUnreach",
        "ICMPv6PacketTooBig",
        "ICMPv6MLQuery2",
        "ICMPv6Unknown",
        "IPv6ExtHdrHopByHop",
        "IPv6ExtHdrDestOpt",
        "IPv6ExtHdrRouting",
        "IPv6ExtHdrFragment",
        "HBHOptUnknown",
        "PadN",
        "RouterAlert",
    ),
    "scapy.layers.dhcp": ("BOOTP", "DHCP"),
    "scapy.layers.dns": ("DNS", "DNSQR", "DNSRR"),
    "scapy.packet": ("Raw", "Padding"),
}


@dataclass(frozen=True)
class Defaults:
    """Addresses for what a frame does not say: whom it is for, and who we are. None where there is none."""

    source_mac: str
    destination_mac: str
    source_ip: str | None


def from_hex(text: str) -> bytes:
    """A whole frame from hexadecimal digits, with spaces or colons between the bytes if there are any.

    Raises:
        RequestInvalid: No hexadecimal digits, or no frame's length.
    """
    if not _HEX.fullmatch(text):
        raise RequestInvalid(
            "hex is not made of pairs of hexadecimal digits", cure='Write it like "ffff 0806" or "ff:ff"'
        )
    return _checked(bytes.fromhex(re.sub(r"[\s:]", "", text)))


def from_layers(layers: Sequence[Mapping[str, Any]], defaults: Defaults) -> bytes:
    """A frame from its layers, outermost first: ``[{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}]``.

    An Ethernet header is put in front of what has none. Bytes are text, or ``{"hex": "00ff"}``.

    Raises:
        RequestInvalid: An unknown layer or field, or a value that does not fit; the text names the nearest.
    """
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise RequestInvalid(f"{len(layers)} layers are given", cure=f"Give 1 to {MAX_LAYERS}")
    packets = [_packet(layer) for layer in layers]
    if packets[0].name != "Ethernet":
        packets.insert(0, _classes()["Ether"]())
    try:
        _fill(packets, defaults)
        whole = packets[0]
        for packet in packets[1:]:
            whole /= packet
        return _checked(bytes(whole))
    except _errors() as error:
        raise RequestInvalid("the layers make no frame", evidence=_told(error), cure="Check the values") from error


def _checked(frame: bytes) -> bytes:
    if not _MIN_FRAME <= len(frame) <= MAX_FRAME:
        raise RequestInvalid(
            f"the frame has {len(frame)} bytes", cure=f"Send {_MIN_FRAME} to {MAX_FRAME}, with the Ethernet header"
        )
    return frame


@cache
def _classes() -> dict[str, Any]:
    """Layers by the names of their classes, and by those that decoded packets show."""
    decode.load()
    _forbid_look_ups()
    places = [(module, name) for module, names in _MODULES.items() for name in names]
    found = {name: getattr(importlib.import_module(module), name) for module, name in places}
    return {each.name: each for each in found.values() if isinstance(each.name, str)} | found


@cache
def _errors() -> tuple[type[Exception], ...]:
    """What scapy raises for values that it cannot use."""
    own: type[Exception] = importlib.import_module("scapy.error").Scapy_Exception
    return (*decode.FAILURES, OSError, StopIteration, RecursionError, own)


def _forbid_look_ups() -> None:
    """Let scapy take addresses only, wherever a name could be given: it would ask the DNS for it."""

    def refuse(_: Any, name: str) -> str:
        raise ValueError(f"{name!r} is no numeric address")

    for module, name in (("scapy.base_classes", "Net"), ("scapy.utils6", "Net6")):
        getattr(importlib.import_module(module), name).name2addr = classmethod(refuse)


def _packet(layer: Mapping[str, Any]) -> Any:
    fields = {key: value for key, value in layer.items() if value is not None}  # null: filled in, like what is absent
    name = fields.pop("layer", None)
    if not isinstance(name, str) or name not in _classes():
        near = difflib.get_close_matches(str(name), _classes(), 3, 0.4)
        raise RequestInvalid(
            f"there is no layer {str(name)[:60]!r}",
            evidence=f"known: {', '.join(sorted(name for names in _MODULES.values() for name in names))}",
            cure=f"Use {' or '.join(near) or 'one of them'}, or send hex",
        )
    packet = _classes()[name]()
    known = {field.name: field for field in packet.fields_desc}
    for key, value in fields.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 3, 0.4)
            raise RequestInvalid(
                f"{name} has no field {key[:60]!r}",
                evidence=f"its fields: {', '.join(known)}",
                cure=f"Use {' or '.join(near) or 'one of them'}",
            )
        _set(packet, name, known[key], value)
    return packet


def _set(packet: Any, layer: str, field: Any, value: Any) -> None:
    """Set a field, and let scapy try at once whether it takes the value."""
    try:
        if layer == "ARP" and field.name in _ARP_ADDRESSES and isinstance(value, str):
            packet.fields[field.name] = _arp_bytes(field.name, value)  # until it is known how scapy wants it
            return
        setattr(packet, field.name, _converted(field, value))
        field.addfield(packet, b"", getattr(packet, field.name))
    except _errors() as error:
        raise RequestInvalid(
            f"{layer}.{field.name} cannot be {str(value)[:80]!r}", evidence=_told(error), cure=_expected(field)
        ) from error


def _arp_bytes(name: str, text: str) -> bytes:
    """The bytes of an address in an ARP message. scapy would send a text letter by letter that is no address.

    Raises:
        ValueError: It is none.
    """
    if name.startswith("p"):
        return ipaddress.ip_address(text).packed
    if not _MAC.fullmatch(text):
        raise ValueError("it is no MAC address")
    return bytes.fromhex(text.replace(":", ""))


def _converted(field: Any, value: Any) -> Any:
    """A JSON value as scapy wants it.

    Raises:
        ValueError: It cannot be of this field.
        TypeError: The same.
    """
    kinds = _kinds(field)
    is_list = getattr(field, "fld", field).islist
    if kinds & {"_StrField", "StrField"} and not is_list and not isinstance(value, (str, Mapping)):
        raise TypeError("it is neither a text nor bytes")  # scapy takes a number for so many zeros
    if "BitField" in kinds and isinstance(value, int) and not 0 <= value < 1 << abs(getattr(field, "fld", field).size):
        raise ValueError("it has more bits than the field")  # scapy would let it run over into the next
    if kinds & {"IPField", "IP6Field"}:
        return str(ipaddress.IPv4Address(value) if "IPField" in kinds else ipaddress.IPv6Address(value))
    if "MACField" in kinds:
        if not _MAC.fullmatch(value):
            raise ValueError("it is no MAC address")
        return value
    if isinstance(value, Mapping):
        return _packet(value) if "layer" in value else bytes.fromhex(value["hex"])
    if isinstance(value, list):
        if not is_list:
            raise TypeError("it is one value, and no list")
        if len(value) > _ITEMS:
            raise ValueError(f"it has more than {_ITEMS} items")
        to_item = _dhcp_option if "DHCPOptionsField" in kinds else _tcp_option if "TCPOptionsField" in kinds else _item
        return [to_item(each) for each in value]
    return _item(value)


def _dhcp_option(value: Any) -> Any:
    """One of DHCP's options: a name alone, or a list of a name or code and its values.

    scapy leaves out names that it does not know, and takes a number where a text belongs for so many zeros.
    """
    known = importlib.import_module("scapy.layers.dhcp").DHCPRevOptions
    name, *values = value if isinstance(value, list) and value else [value]
    if isinstance(name, int) and name in range(256) and values:
        return (name, *(each.encode() if isinstance(each, str) else each for each in map(_item, values)))
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, 3, 0.4)
        raise ValueError(f"there is no option {str(name)[:60]!r}; near it: {', '.join(near) or 'none'}")
    if (not values) != (name in {"pad", "end"}):
        raise ValueError(f"{name} is given as {'a name alone' if values else 'a list of it and its value'}")
    field = known[name][1]
    if (field is None or "StrField" in _kinds(field)) and any(isinstance(each, (int, float)) for each in values):
        raise TypeError(f"{name} is a text or bytes")
    return (name, *map(_item, values)) if values else name


def _tcp_option(value: Any) -> Any:
    """One of TCP's options: a name alone, or a list of a name or code and its value, as decoded packets show them."""
    codes, known = importlib.import_module("scapy.layers.inet").TCPOptions
    name, *values = value if isinstance(value, list) and value else [value]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    values = [_item(each) for each in values if each is not None]
    if isinstance(name, int) and name in range(2, 256):
        form = None
    elif isinstance(name, str) and name in known:
        form = codes[known[name]][1]
    else:
        near = difflib.get_close_matches(str(name), known, 3, 0.4)
        raise ValueError(f"there is no option {str(name)[:60]!r}; near it: {', '.join(near) or 'none'}")
    if form is not None and values and all(isinstance(each, int) for each in values):
        return (name, tuple(values))
    if len(values) > 1 or any(isinstance(each, (int, float)) for each in values):
        raise TypeError(f"{name} is a text or bytes")
    return (name, values[0].encode() if values and isinstance(values[0], str) else values[0] if values else b"")


def _item(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _packet(value) if "layer" in value else bytes.fromhex(value["hex"])
    if not isinstance(value, (str, int, float)):
        raise TypeError("it is neither a number nor a text")
    return value


def _kinds(field: Any) -> set[str]:
    """The names of a field's classes; of a conditional one, those of what is inside."""
    return {kind.__name__ for kind in type(getattr(field, "fld", field)).__mro__}


def _expected(field: Any) -> str:
    kinds = _kinds(field)
    if kinds & {"IPField", "IP6Field", "MACField"}:
        return "Give a numeric address"
    if "TCPOptionsField" in kinds:
        return 'Give a list like [["MSS", 1460], "NOP"]; broken options fit into a Raw layer, with dataofs set'
    names = getattr(getattr(field, "fld", field), "s2i", None)
    if isinstance(names, dict) and names:
        return f"Give a number, or one of: {', '.join(map(str, list(names)[:12]))}"
    return 'Give a number, a text, or bytes as {"hex": "00ff"}'


def _fill(packets: list[Any], defaults: Defaults) -> None:
    """Say what is not said, before scapy asks the host's routes for it."""
    for packet in packets:
        given = packet.fields
        if packet.name == "Ethernet":
            packet.src = given.get("src", defaults.source_mac)
            packet.dst = given.get("dst", defaults.destination_mac)
        elif packet.name == "ARP":
            _fill_arp(packet, defaults)
        elif packet.name in {"IP", "IPv6"}:
            if "dst" not in given:
                raise RequestInvalid(f"{packet.name} has no dst", cure="Give the numeric address that it is for")
            packet.src = given.get("src") or _source_ip(packet.name, defaults)


def _fill_arp(packet: Any, defaults: Defaults) -> None:
    """scapy takes addresses as text where kind and length are usual ones, and elsewhere as bytes only."""
    # No address of ours is a probe's, RFC 5227.
    absent = {"hwsrc": defaults.source_mac, "psrc": defaults.source_ip or "0.0.0.0", "hwdst": _NOBODY}  # noqa: S104
    given = {name: value for name, value in (absent | packet.fields).items() if name in _ARP_ADDRESSES}
    raw = {name: _arp_bytes(name, value) if isinstance(value, str) else value for name, value in given.items()}
    packet.hwlen = len(raw["hwsrc"]) if packet.hwlen is None else packet.hwlen
    packet.plen = len(raw["psrc"]) if packet.plen is None else packet.plen
    for name, value in raw.items():
        kind = (packet.ptype, packet.plen) if name in {"psrc", "pdst"} else (packet.hwtype, packet.hwlen)
        to_text = _ARP_TEXTS.get(kind)
        setattr(packet, name, to_text(value) if to_text is not None and len(value) == kind[1] else value)


def _source_ip(layer: str, defaults: Defaults) -> str:
    if layer == "IPv6" or defaults.source_ip is None:
        raise RequestInvalid(f"{layer} has no src", cure="Give the numeric address that it is from")
    return defaults.source_ip


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
