"""Names in rules and what they stand for, frames made of layers, and the fields of frames that came."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

from rawtap.examine import queries
from rawtap.examine.rules import AtLeast, AtMost, Bits, Either, Fields, Frame, Inside, Layers, Other, Rule, Wanted
from rawtap.packets import checks, craft, decode, headers, lines
from rawtap.untrusted import visible

Names = dict[str, str | int]

_NAME = re.compile(r"\$([a-z][a-z_\d]*)([+-]\d+)?")
_NUMBERS = 1 << 32
_PADDING = b"\xaa"
_MORE = 1
_FRAGMENT, _BEHIND_FRAGMENT = 54, 62  # where that header of IPv6 is in a frame
_SHOWN = 80


@dataclass(frozen=True)
class Crowd:
    """Addresses of ours, of which each try takes the next: a stack may limit what it tells one host (RFC 1812,
    4.3.2.8), and knows after one question who is asked for. `strangers` are not introduced to the guest before.
    """

    friends: tuple[str, ...]
    strangers: tuple[str, ...]

    def of(self, number: int) -> Names:
        """The names of a try."""
        return {
            "us": self.friends[number % len(self.friends)],
            "stranger": (stranger := self.strangers[number % len(self.strangers)]),
            "stranger_hex": IPv4Address(stranger).packed.hex(),
            **_station6("us6", _FRIEND6 + number % _CROWD6),
            **_station6("stranger6", _STRANGER6 + number % _CROWD6),
        }


_LINK_LOCAL = int(IPv6Address("fe80::7261:7774:0:0"))  # "rawt": an interface's identifier that hardly anybody has
_FRIEND6, _STRANGER6, _MOVER6, _NOBODY6, _ROUTER6 = 0x10000, 0x20000, 0x30001, 0x30002, 0x30003
_CROWD6 = 16
PREFIX6 = "2001:db8:7261"  # of RFC 3849's, for documentation
_OWN6 = (_LINK_LOCAL.to_bytes(16, "big")[:12], bytes.fromhex("20010db87261"))


def stations6() -> Iterator[str]:
    """Our link-local addresses, but the one where nobody answers."""
    for number in range(_CROWD6):
        yield from (str(IPv6Address(_LINK_LOCAL + each + number)) for each in (_FRIEND6, _STRANGER6))
    yield from (str(IPv6Address(_LINK_LOCAL + each)) for each in (_MOVER6, _ROUTER6))


def names6(guest6: str) -> Names:
    """The names of rules about IPv6 that are the same for each try, once the guest's link-local address is known."""
    return {
        "guest6": guest6,
        **_group("guest6", IPv6Address(guest6)),
        **_station6("mover6", _MOVER6),
        **_station6("nobody6", _NOBODY6),
        **_station6("router6", _ROUTER6),
        "far6": f"{PREFIX6}:ffff::1",
    }


def _station6(name: str, number: int) -> Names:
    address = IPv6Address(_LINK_LOCAL + number)
    return {name: str(address), **_group(name, address)}


def _group(name: str, address: IPv6Address) -> Names:
    """The group that it is asked for in (RFC 4291, 2.7.1), and the link address of that (RFC 2464, 7)."""
    last = address.packed[-3:]
    group = IPv6Address("ff02::1:ff00:0").packed[:-3] + last
    return {f"{name}_group": str(IPv6Address(group)), f"{name}_group_mac": (b"\x33\x33\xff" + last).hex(":")}


def own_bytes(names: Mapping[str, str | int], crowd: Crowd) -> Iterator[bytes]:
    """What every frame has in it that is about us: one of our addresses."""
    for address in (str(names["mover"]), str(names["nobody"]), *crowd.friends, *crowd.strangers):
        yield IPv4Address(address).packed
    for name in ("us_mac", "other_mac"):
        yield bytes.fromhex(str(names[name]).replace(":", ""))
    yield from _OWN6


def filled(value: Any, names: Mapping[str, str | int]) -> Any:
    """A value with what its names stand for; sums are modulo 2**32, as TCP's numbers are."""
    if isinstance(value, str) and (found := _NAME.fullmatch(value)):
        known = names[found[1]]
        return (int(known) + int(found[2])) % _NUMBERS if found[2] else known
    if isinstance(value, AtLeast):
        return AtLeast(int(filled(value.least, names)))
    if isinstance(value, (Either, Other)):
        return type(value)(tuple(filled(each, names) for each in value.values))
    if isinstance(value, Mapping):
        return {key: filled(each, names) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(each, names) for each in value]
    return value


def made(frame: Frame, names: Mapping[str, str | int]) -> bytes:
    """The bytes of a frame."""
    defaults = craft.Defaults(str(names["us_mac"]), str(names["guest_mac"]), str(names["us"]))
    layers = tuple(filled(each, names) for each in frame.layers)
    data = craft.from_layers(_piece(layers, frame.piece, defaults) if frame.piece else layers, defaults)
    return data[: frame.cut].ljust(frame.pad, _PADDING)


def _piece(layers: Layers, piece: tuple[int, int | None, bool], defaults: craft.Defaults) -> Layers:
    """The layers of one fragment of the packet that `layers` make."""
    at, size, more = piece
    index = next(number for number, each in enumerate(layers) if each["layer"] in {"IP", "IPv6ExtHdrFragment"})
    data = craft.from_layers(layers, defaults)
    end = None if size is None else at + size
    if layers[index]["layer"] == "IPv6ExtHdrFragment":
        part = {"layer": "Raw", "load": {"hex": data[_BEHIND_FRAGMENT:][at:end].hex()}}
        head = {"nh": data[_FRAGMENT]} | layers[index] | {"offset": at // 8, "m": int(more)}
        return (*layers[:index], head, part)
    whole = headers.parse(data, len(data), headers.ETHERNET).ip
    if whole is None:
        raise ValueError("a fragment of what is no IP packet")
    part = {"layer": "Raw", "load": {"hex": data[whole.payload :][at:end].hex()}}
    head = {"proto": whole.protocol} | layers[index] | {"frag": at // 8, "flags": _MORE if more else 0}
    return (*layers[:index], head, part)


class Seen:
    """A frame that the guest sent."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def fields(self) -> dict[str, Any]:
        """By names like "IP.src"; of several layers of a name the outermost's. "Raw.load" is b"" if absent.

        "ICMPv6.type" and "ICMPv6.code" are those of any message of ICMPv6's; "Query.id" and the like are of `queries`.
        """
        found: dict[str, Any] = {"Frame.size": len(self.data)}
        packet, _ = decode.dissect(self.data, headers.ETHERNET)
        while packet:
            kind = type(packet).__name__
            for name, value in packet.fields.items():
                found.setdefault(f"{kind}.{name}", _plain(value))
                if kind.startswith("ICMPv6") and name in {"type", "code"}:
                    found.setdefault(f"ICMPv6.{name}", _plain(value))
            packet = packet.payload
        for option in found.get("TCP.options") or ():
            found.setdefault(f"TCP.option.{option[0]}", option[1])
        for option in found.get("DHCP.options") or ():
            if isinstance(option, tuple):
                found.setdefault(f"DHCP.option.{option[0]}", option[1])
        found |= queries.fields(self.data)
        found.setdefault("Raw.load", b"")
        return found

    @cached_property
    def wrong_sums(self) -> list[checks.Checksum]:
        """Checksums that are not right."""
        parsed = headers.parse(self.data, len(self.data), headers.ETHERNET)
        bad = {checks.Verdict.WRONG, checks.Verdict.FORBIDDEN, checks.Verdict.LEFT_TO_HARDWARE}
        return [each for each in checks.checksums(parsed) if each.verdict in bad]

    def has(self, wanted: Fields, names: Mapping[str, str | int]) -> bool:
        """Whether all of its fields are such."""
        return self.lacks(wanted, names) is None

    def lacks(self, wanted: Fields, names: Mapping[str, str | int]) -> tuple[str, str, str] | None:
        """The first field that is not such, what it is and what it should be; None where all are."""
        for name, value in wanted.items():
            expected = filled(value, names)
            found = self.fields.get(name)
            if not _fits(found, expected):
                return name, *_differing(found, expected)
        return None

    def __str__(self) -> str:
        return told(self.data)


def told(data: bytes) -> str:
    """A frame in one line."""
    return str(lines.describe(data, len(data), headers.ETHERNET))


def _plain(value: Any) -> Any:
    """Numbers as such, MAC addresses in small letters."""
    if isinstance(value, (bytes, list, tuple)) or value is None:
        return value
    if isinstance(value, str):
        return value.lower()
    try:
        return int(value)
    except (TypeError, ValueError):
        return value


def _fits(found: Any, expected: Any) -> bool:
    if isinstance(expected, Inside):
        return isinstance(found, str) and IPv6Address(found) in IPv6Network(expected.network)
    if isinstance(expected, Wanted):
        return isinstance(found, (int, str)) and _is_wanted(found, expected)
    if isinstance(expected, str) and isinstance(found, bytes):
        return found == expected.encode()
    return bool(found == expected)


def _differing(found: Any, expected: Any) -> tuple[str, str]:
    """Both in words; bytes from where they differ on, as their beginnings may be the same and long."""
    if not isinstance(found, bytes) or not isinstance(expected, (bytes, str)):
        return shown(found), shown(expected)
    wanted = expected.encode() if isinstance(expected, str) else expected
    pairs = zip(found, wanted, strict=False)
    at = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(found), len(wanted)))
    one, other = (f"{len(each)} bytes, from {at} on {shown(each[at:]) or 'nothing'}" for each in (found, wanted))
    return one, other


def _is_wanted(found: int | str, wanted: Wanted) -> bool:
    if isinstance(wanted, Either):
        return found in wanted.values
    if isinstance(wanted, Other):
        return found not in wanted.values
    if isinstance(found, str):
        return False
    match wanted:
        case AtLeast(least):
            return found >= int(least)
        case AtMost(most):
            return found <= most
        case Bits(on, off):
            return found & on == on and not found & off
    raise ValueError(f"no such wish: {wanted}")


def shown(value: Any) -> str:
    """A value in words; bytes from the wire as hexadecimal digits, cut."""
    if value is None:
        return "absent"
    text = value.hex() if isinstance(value, bytes) else visible(str(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def needed(rule: Rule) -> set[str]:
    """The names that a rule uses, and what else it needs: all of IPv6 the guest's address there, to which it is
    introduced, DHCP a client, and DNS a resolver."""
    names = names_in(rule.steps) | set(rule.needs)
    if rule.suite == "dhcp":
        return names | {"dhcp_client"}
    return names | {"guest6"} if names & {"us6", "router6"} else names


def names_in(value: Any) -> set[str]:
    """The names that values, frames or steps use."""
    if isinstance(value, str):
        return {found[1]} if (found := _NAME.fullmatch(value)) else set()
    if isinstance(value, Mapping):
        return names_in(tuple(value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_in, value))
    if is_dataclass(value):
        return names_in(tuple(getattr(value, each.name) for each in fields(value)))
    return set()
