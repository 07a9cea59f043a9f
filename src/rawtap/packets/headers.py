# cython: annotation_typing=False, nonecheck=True
"""A frame's headers as small values, read in microseconds: bytes in, no byte string makes it raise.

Addresses stay bytes, offsets count from the frame's first byte. What is malformed is noted in `problems`, with a
stable code; where reading could not go on is `stop`. Bytes that the snaplen cut off are never called malformed.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rawtap.packets import carriers, links, mistakes, transport
from rawtap.packets.bounds import TRUNCATED, Stop, Stopped, need, word
from rawtap.packets.carriers import Carried, Station
from rawtap.packets.transport import ICMP, ICMP6, IGMP, TCP, UDP, Application, Transport

ETHERNET, RAW_BSD, RAW, COOKED, COOKED2, RAW_IPV4, RAW_IPV6 = 1, 12, 101, 113, 276, 228, 229
NULL, LOOP = 0, 108
IPV4, ARP, VLAN, QINQ, IPV6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD
BROADCAST = b"\xff" * 6
DEEPEST = 8  # carriers of one frame, that are read

_LENGTHS = 0x0600  # a type field below this is a length (IEEE 802.3, 3.2.6)
_SNAP = bytes.fromhex("aaaa03000000")  # RFC 1042
_TAGS = 4
_EXTENSIONS = 16
_ARP_KIND = struct.Struct("!HHBBH")
_ARP = struct.Struct("!6s4s6s4s")
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _NONE, _DESTINATION = 0, 43, 44, 51, 59, 60
_HOME_ADDRESS = 201
_SOURCE_ROUTES = {131, 137}  # loose, strict
_SWAPPED = {mistakes.swapped(kind): kind for kind in (IPV4, ARP, IPV6)}
_SWAPPED_IPV4 = mistakes.swapped(IPV4)
_OPENINGS = {IPV4: b"\x45", ARP: b"\0\1", IPV6: b"\x60"}  # what these nearly always begin with
_FAMILIES = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}  # each system has an AF_INET6 of its own


@dataclass
class Ethernet:
    """An Ethernet header. `tags` are the VLAN tags' numbers, `kind` the type of what follows at `payload`, which
    for a frame with a length is that of its SNAP header or None; `stated` is that length, None for none."""

    offset: int
    destination: bytes
    source: bytes
    tags: tuple[int, ...]
    kind: int | None
    payload: int
    stated: int | None


class Cooked(NamedTuple):
    """A Linux cooked header: `packet_type`, in the byte at `type_at`, is 4 for what this host sent; `address` is the
    sender's, as long as it is."""

    offset: int
    type_at: int
    packet_type: int
    address: bytes
    kind: int
    payload: int


class Arp(NamedTuple):
    """ARP for IPv4 on Ethernet (RFC 826)."""

    offset: int
    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes
    end: int


class Fragment(NamedTuple):
    """Which fragment it is: `at` and its length are bytes of the whole."""

    identification: int
    at: int
    more: bool


@dataclass
class Ip:
    """An IPv4 or IPv6 header with what extends it.

    `protocol` is at `payload`; the packet ends at `end` on the wire, and at `stated_end` by its own word. `fragment`
    is None for a whole packet, `checksum` for IPv6. `length_is_zero` tells that its word is 0, which segmentation
    offload leaves to the hardware. `ends` are the addresses that checksums are made with: those of the header, or of a
    home address and the end of a route; None where a route is of a kind that is not known.
    """

    offset: int
    version: int
    payload: int
    end: int
    stated_end: int
    ttl: int
    protocol: int
    source: bytes
    destination: bytes
    fragment: Fragment | None
    identification: int | None
    checksum: int | None
    length_is_zero: bool
    ends: tuple[bytes, bytes] | None


@dataclass
class Frame:
    """A frame of `length` bytes on the wire, of which `data` were captured, and what could be read of it.

    `carriers` are what is between the link and what has this frame's addresses, in words; `inner` is the frame or
    packet that this one carries, whose bytes end at its own `length` and have the places of the whole. Where the last
    carrier or link is all that is read, `named` is what it is and says. What is of `kind` begins at `payload`.
    """

    data: bytes
    length: int
    link: Ethernet | Cooked | Station | None = None
    kind: int | None = None
    payload: int = 0
    carriers: tuple[str, ...] = ()
    named: transport.Named | None = None
    inner: Frame | None = None
    end: int = 0
    arp: Arp | None = None
    ip: Ip | None = None
    transport: Transport | None = None
    application: Application | None = None
    problems: list[Stop] = field(default_factory=list)
    stop: Stop | None = None

    @property
    def stopped(self) -> str | None:
        """Where and why reading ended before the end, or what the first thing is that is malformed."""
        if self.stop is not None:
            return self.stop.text
        return self.problems[0].text if self.problems else None


def parse(data: bytes, length: int, link_type: int) -> Frame:
    """Read a frame of `link_type`, of which `length` bytes were on the wire."""
    frame = Frame(data, max(length, len(data)))
    frame.end = frame.length
    try:
        reader = _LINKS.get(link_type)
        if reader is not None:
            reader(frame)
        elif link_type in links.LINKS:
            _carried(frame, links.LINKS[link_type](data, 0, frame.length))
        else:
            frame.stop = Stop("link", 0, f"frames of link type {link_type} are not read")
    except Stopped as error:
        _ended(frame, error.stop)
    return frame


def innermost(frame: Frame) -> Frame:
    """What a frame carries at last; itself if it carries none."""
    while frame.inner is not None:
        frame = frame.inner
    return frame


def _ended(frame: Frame, stop: Stop) -> None:
    frame.stop = stop
    if stop.what not in {TRUNCATED, "link"}:
        frame.problems.append(stop)


def _carried(frame: Frame, what: Carried | None) -> None:
    """Read on at what a link or a carrier carries."""
    if what is None:
        return
    if what.link is not None:
        frame.link = what.link
    if what.kind is None:
        frame.named = transport.Named(what.name, what.says)
        return
    if what.kind == carriers.ETHERNET:
        _inside(frame, what)
        return
    frame.carriers = _deeper(frame, what)
    _network(frame, what.kind, what.at)


def _deeper(frame: Frame, what: Carried) -> tuple[str, ...]:
    if len(frame.carriers) >= DEEPEST:
        raise Stopped("link", what.at, f"what is inside more than {DEEPEST} carriers is not read")
    return (*frame.carriers, what.says)


def _inside(frame: Frame, what: Carried | None) -> None:
    """Read the frame or packet that this one carries, which has addresses of its own."""
    if what is None:
        return
    if what.kind is None:
        frame.named = transport.Named(what.name, what.says)
        return
    inner = Frame(frame.data, frame.end, carriers=_deeper(frame, what))
    inner.end = frame.end
    frame.inner = inner
    try:
        if what.kind == carriers.ETHERNET:
            _ethernet(inner, what.at)
        else:
            _network(inner, what.kind, what.at)
    except Stopped as error:
        _ended(inner, error.stop)


# ------------------------------------------------------------------ links


def _ethernet(frame: Frame, begin: int = 0) -> None:
    data, end = frame.data, frame.length
    need(data, begin, 14, end, "Ethernet header", "ethernet.header")
    tags: tuple[int, ...] = ()
    number, at = word(data, begin + 12), begin + 14
    if number in {VLAN, QINQ}:
        number, at, tags = _untagged(frame, number, at)
    kind: int | None = number
    stated = None
    if number in _SWAPPED:
        _as_swapped(frame, number, at, tags, begin)
    if number < _LENGTHS:
        stated, kind = number, None
        if stated > end - at:
            says = f"802.3 length of {stated}, but {end - at} bytes follow"
            frame.problems.append(Stop("ethernet.length", at - 2, says, str(stated), f"{end - at} at most"))
        frame.end = min(end, at + stated)
        if data[at : at + 6] == _SNAP and at + 8 <= min(frame.end, len(data)):
            kind = word(data, at + 6)
            at += 8
    frame.link = Ethernet(begin, data[begin : begin + 6], data[begin + 6 : begin + 12], tags, kind, at, stated)
    _network(frame, kind, at)


def _as_swapped(frame: Frame, number: int, at: int, tags: tuple[int, ...], begin: int) -> None:
    """A type that is none, and is one with its bytes swapped, before what begins as that does.

    Raises:
        Stopped: It is so.
    """
    meant = _SWAPPED[number]
    if frame.data.startswith(_OPENINGS[meant], at):
        data = frame.data
        frame.link = Ethernet(begin, data[begin : begin + 6], data[begin + 6 : begin + 12], tags, None, at, None)
        found, expected = f"0x{number:04x}", f"0x{meant:04x}"
        raise Stopped("ethernet.type", at - 2, f"type {found} is none: {mistakes.SWAPPED}", found, expected)


def _untagged(frame: Frame, kind: int, at: int) -> tuple[int, int, tuple[int, ...]]:
    """The type behind the VLAN tags at byte `at`, if there are any, where what has it begins, and the tags' numbers."""
    data = frame.data
    tags: tuple[int, ...] = ()
    while kind in {VLAN, QINQ} and len(tags) < _TAGS:
        need(data, at, 4, frame.length, "VLAN tag", "ethernet.tag")
        tags += (word(data, at) & 0xFFF,)
        kind = word(data, at + 2)
        at += 4
    return kind, at, tags


def _raw(frame: Frame) -> None:
    need(frame.data, 0, 1, frame.length, "IP header", "ip.header")
    kind = {4: IPV4, 6: IPV6}.get(frame.data[0] >> 4)
    if kind is None:
        raise Stopped("ip.version", 0, f"IP version {frame.data[0] >> 4} is none")
    _network(frame, kind, 0)


def _loopback(frame: Frame) -> None:
    """A BSD's loopback header: the address family, in the byte order of the host that captured, or the network's."""
    need(frame.data, 0, 4, frame.length, "loopback header", "loopback.header")
    family = frame.data[:4]
    number = min(int.from_bytes(family, "big"), int.from_bytes(family, "little"))
    _network(frame, _FAMILIES.get(number), 4)


def _cooked(frame: Frame) -> None:
    data = frame.data
    need(data, 0, 16, frame.length, "Linux cooked header", "cooked.header")
    size = data[4] << 8 | data[5]
    kind, at, _ = _untagged(frame, data[14] << 8 | data[15], 16)
    frame.link = Cooked(0, 1, data[0] << 8 | data[1], data[6 : 6 + min(size, 8)], kind, at)
    _network(frame, kind, at)


def _cooked2(frame: Frame) -> None:
    data = frame.data
    need(data, 0, 20, frame.length, "Linux cooked header", "cooked.header")
    kind, at, _ = _untagged(frame, data[0] << 8 | data[1], 20)
    frame.link = Cooked(0, 10, data[10], data[12 : 12 + min(data[11], 8)], kind, at)
    _network(frame, kind, at)


_LINKS: dict[int, Callable[[Frame], None]] = {
    ETHERNET: _ethernet,
    RAW: _raw,
    RAW_BSD: _raw,
    RAW_IPV4: _raw,
    RAW_IPV6: _raw,
    NULL: _loopback,
    LOOP: _loopback,
    COOKED: _cooked,
    COOKED2: _cooked2,
}


# ---------------------------------------------------------------- network


def _network(frame: Frame, kind: int | None, at: int) -> None:
    frame.kind, frame.payload = kind, at
    if kind == IPV4:
        ip = _ipv4(frame, at)
    elif kind == IPV6:
        ip = _ipv6(frame, at)
    else:
        if kind == ARP:
            _arp(frame, at)
        elif kind in carriers.IN_FRAMES:
            _carried(frame, carriers.IN_FRAMES[kind](frame.data, at, frame.end))
        return
    frame.ip = ip
    frame.end = ip.end
    if ip.fragment is None:
        _transport(frame, ip)
    elif ip.fragment.at == 0:
        try:
            _transport(frame, ip)
        except Stopped as error:  # a header may go on in the next fragment
            raise Stopped(TRUNCATED, error.stop.at, error.stop.says) from error


def _arp(frame: Frame, at: int) -> None:
    need(frame.data, at, 8, frame.end, "ARP header", "arp.header")
    hardware, protocol, hlen, plen, operation = _ARP_KIND.unpack_from(frame.data, at)
    if (hardware, protocol) != (1, IPV4):
        if hardware in {1, 0x100} and protocol in {IPV4, _SWAPPED_IPV4}:
            says = f"ARP for hardware {hardware} and protocol 0x{protocol:04x}: {mistakes.SWAPPED}"
            found = f"hardware {hardware}, protocol 0x{protocol:04x}"
            raise Stopped("arp.kind_swapped", at, says, found, "hardware 1, protocol 0x0800")
        raise Stopped("arp.kind", at, f"ARP for hardware {hardware} and protocol 0x{protocol:04x} is not read")
    if (hlen, plen) != (6, 4):
        says = f"ARP address lengths of {hlen} and {plen}, for Ethernet and IPv4 6 and 4"
        mistake = "they are exchanged" if (hlen, plen) == (4, 6) else ""
        raise Stopped("arp.lengths", at + 4, mistakes.told(says, mistake), f"{hlen} and {plen}", "6 and 4")
    need(frame.data, at, 28, frame.end, "ARP message", "arp.header")
    sender_mac, sender_ip, target_mac, target_ip = _ARP.unpack_from(frame.data, at + 8)
    frame.arp = Arp(at, operation, sender_mac, sender_ip, target_mac, target_ip, at + 28)
    frame.end = at + 28


def _ipv4(frame: Frame, at: int) -> Ip:
    data, room = frame.data, frame.end - at
    need(data, at, 20, frame.end, "IPv4 header", "ip.header")
    first, total, bits = data[at], word(data, at + 2), word(data, at + 6)
    source, destination = data[at + 12 : at + 16], data[at + 16 : at + 20]
    if first >> 4 != 4:
        mistake = "version and header length are exchanged" if first == 0x54 else ""
        says = mistakes.told(f"IP version {first >> 4} in a frame of IPv4", mistake)
        raise Stopped("ip.version", at, says, f"0x{first:02x}", "0x45" if mistake else "version 4")
    size = (first & 15) << 2
    if size < 20:
        says = f"IPv4 header length of {size} bytes, the header alone has 20"
        raise Stopped("ip.header_length", at, says, f"{size >> 2} words", "5 words at least")
    length_is_zero = total == 0
    if length_is_zero:
        total = room
    elif total < size:
        says = f"IPv4 total length of {total}, less than its header of {size}"
        says = mistakes.told(says, mistakes.length(total, room, size))
        raise Stopped("ip.total_length", at + 2, says, str(total), f"{size} at least")
    if total > room:
        says = f"IPv4 total length of {total}, but {room} bytes were sent"
        says = mistakes.told(says, mistakes.length(total, room, size, before=at))
        frame.problems.append(Stop("ip.total_length", at + 2, says, str(total), f"{room} at most"))
    end = at + min(total, room)
    last = destination
    if size > 20:
        need(data, at, size, end, "IPv4 options", "ip.header_length")
        last = _source_routed(frame, at + 20, at + size) or destination
    number = word(data, at + 4)
    fragment = Fragment(number, (bits & 0x1FFF) << 3, bool(bits & 0x2000)) if bits & 0x3FFF else None
    return Ip(
        at, 4, at + size, end, at + total, data[at + 8], data[at + 9], source, destination, fragment, number,
        word(data, at + 10), length_is_zero, (source, last),
    )  # fmt: skip


def _source_routed(frame: Frame, at: int, end: int) -> bytes | None:
    """The end of a route in the IPv4 options that is not there yet; notes options that run over (RFC 791, 3.1)."""
    data = frame.data
    while at < end and data[at]:
        if data[at] == 1:
            at += 1
            continue
        size = data[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            says = f"IPv4 option {data[at]} has a length of {size} in {end - at} bytes"
            frame.problems.append(Stop("ip.options", at, says, str(size), f"2 to {end - at}"))
            return None
        if data[at] in _SOURCE_ROUTES and size >= 7 and data[at + 2] <= size:
            return data[at + size - 4 : at + size]
        at += size
    return None


def _ipv6(frame: Frame, at: int) -> Ip:
    data, room = frame.data, frame.end - at
    need(data, at, 40, frame.end, "IPv6 header", "ip.header")
    version, stated, following, ttl = data[at] >> 4, word(data, at + 4), data[at + 6], data[at + 7]
    source, destination = data[at + 8 : at + 24], data[at + 24 : at + 40]
    if version != 6:
        raise Stopped("ip.version", at, f"IP version {version} in a frame of IPv6", str(version), "6")
    total = 40 + stated
    length_is_zero = stated == 0 and following in {TCP, UDP} and room > 40
    if length_is_zero or (
        stated == 0 and following == _HOP_BY_HOP
    ):  # which has the length of a jumbogram (RFC 2675, 3)
        total = room
    if total > room:
        says = f"IPv6 payload length of {stated}, but {room - 40} bytes were sent"
        says = mistakes.told(says, mistakes.length(stated, room - 40, before=40))
        frame.problems.append(Stop("ip.payload_length", at + 4, says, str(stated), f"{room - 40} at most"))
    end = at + min(total, room)
    ip = Ip(
        at, 6, at + 40, end, at + total, ttl, following, source, destination, None, None, None, length_is_zero,
        (source, destination),
    )  # fmt: skip
    frame.ip = ip
    _extended(frame, ip)
    return ip


def _extended(frame: Frame, ip: Ip) -> None:
    """Pass the extension headers (RFC 8200, 4). Where one of them stops the reading `ip` stays as it is."""
    data, end = frame.data, ip.end
    at, following, fragment = ip.payload, ip.protocol, None
    first = ip.source
    last: bytes | None = ip.destination  # None for the end of a route of a kind that is not known
    for _ in range(_EXTENSIONS):
        if following not in {_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION}:
            break
        need(data, at, 8, end, "IPv6 extension header", "ip.extension")
        size = 8 if following == _FRAGMENT else (data[at + 1] + 2) * 4 if following == _AH else (data[at + 1] + 1) * 8
        need(data, at, size, end, "IPv6 extension header", "ip.extension")
        if following == _ROUTING and data[at + 3]:
            last = _end_of_route(data[at : at + size])
        elif following == _DESTINATION:
            first = _home(data, at + 2, at + size) or first
        if following == _FRAGMENT:
            bits, number = struct.unpack_from("!HI", data, at + 2)
            if bits & 0xFFF9:  # else it is an atomic fragment, which is whole (RFC 6946)
                fragment = Fragment(number, bits & 0xFFF8, bool(bits & 1))
        following, at = data[at], at + size
        if fragment is not None and fragment.at:
            break
    ip.ends = (first, last) if last is not None else None
    ip.payload, ip.protocol, ip.fragment = at, following, fragment


def _end_of_route(header: bytes) -> bytes | None:
    """The last destination of a routing header with segments left (RFC 8200, 8.1): the last address of type 0
    (RFC 2460, 4.4) and of 2 (RFC 6275, 6.4), the first of 4 (RFC 8754, 2)."""
    if header[2] in {0, 2} and len(header) >= 24:
        return header[8 + (len(header) - 8) // 16 * 16 - 16 :][:16]
    return header[8:24] if header[2] == 4 and len(header) >= 24 else None


def _home(data: bytes, at: int, end: int) -> bytes | None:
    """The home address among destination options (RFC 6275, 6.3), which a checksum is made with (11.3.1), whatever its
    length is said to be."""
    while at + 1 < end:
        size = data[at + 1] + 2 if data[at] else 1  # a single byte of padding has no length
        if data[at] == _HOME_ADDRESS and at + 18 <= end:
            return data[at + 2 : at + 18]
        at += size
    return None


def _transport(frame: Frame, ip: Ip) -> None:
    data, at, end = frame.data, ip.payload, ip.end
    protocol, fragment = ip.protocol, ip.fragment is not None
    if protocol == TCP:
        frame.transport = transport.tcp(data, at, end, frame.problems)
    elif protocol == UDP:
        header = transport.udp(data, at, end, ip.stated_end, frame.problems, fragment=fragment)
        frame.transport = header
        if header.length >= 8:
            tunnel = carriers.IN_UDP.get(header.destination_port) or carriers.IN_UDP.get(header.source_port)
            if tunnel is not None and not fragment:
                _inside(frame, tunnel(data, header.payload, header.end))
            if frame.inner is None:
                _application(frame, ip, header)
    elif protocol == ICMP and ip.version == 4:
        frame.transport = transport.icmp(data, at, end, 4, frame.problems)
    elif protocol == ICMP6 and ip.version == 6:
        frame.transport = transport.icmp(data, at, end, 6, frame.problems)
    elif protocol == IGMP and ip.version == 4:
        frame.transport = transport.igmp(data, at, end)
    elif protocol in carriers.IN_IP and not fragment:
        _inside(frame, carriers.IN_IP[protocol](data, at, end))


def _application(frame: Frame, ip: Ip, header: transport.Udp) -> None:
    """What a datagram says. Of one in fragments the first is read, as if the rest had been cut off: an answer that is
    too long for one packet is an answer."""
    data = frame.data
    if ip.fragment is not None:
        data, header = data[: ip.end], replace(header, end=header.offset + header.length)
    try:
        frame.application = transport.application(data, header)
        stop: Stop | None = getattr(frame.application, "stop", None)
    except Stopped as error:
        stop = error.stop
    is_elsewhere = ip.fragment is not None and ip.end <= len(frame.data)
    if stop is not None and not (is_elsewhere and stop.what == TRUNCATED):
        raise Stopped(*stop)
