# cython: annotation_typing=False, nonecheck=True
"""What IP carries: UDP, TCP, ICMP, ICMPv6 and IGMP, read from a frame's bytes."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from rawtap.packets import dhcp, dns, mistakes
from rawtap.packets.bounds import Stop, Stopped, double_word, need, word
from rawtap.packets.dhcp import Dhcp
from rawtap.packets.dns import Dns

ICMP, IGMP, TCP, UDP, ICMP6 = 1, 2, 6, 17, 58
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
ECHO_REPLY, ECHO = 0, 8
ECHO6, ECHO6_REPLY = 128, 129
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT = 133, 134, 135, 136
_ERRORS = {4: {3, 4, 5, 11, 12}, 6: {1, 2, 3, 4}}
_QUOTED = 8  # bytes before the packet that an error is about
_NDP = {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}  # bytes before the options
_UDP = struct.Struct("!4H")
_ICMP = struct.Struct("!BBHHH")
_JUMBO = 0xFFFF


@dataclass
class Udp:
    """A datagram; `payload` is the offset of its data and `end` of what follows them on the wire."""

    offset: int
    source_port: int
    destination_port: int
    length: int
    checksum: int
    payload: int
    end: int


@dataclass
class Tcp:
    """A segment; options are None where they are absent. `flags` has CWR and ECE but not the reserved bits."""

    offset: int
    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: int
    window: int
    checksum: int
    payload: int
    end: int
    mss: int | None
    scale: int | None
    sack: bool
    timestamps: tuple[int, int] | None

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self.end - self.payload


class Quoted(NamedTuple):
    """The packet that an ICMP error is about: its addresses, and the first two numbers of what it carried (ports, or
    an echo's type and code as one, and its checksum), None where they are not quoted. `identifier` is an echo's."""

    version: int
    protocol: int
    source: bytes
    destination: bytes
    source_port: int | None
    destination_port: int | None
    identifier: int | None
    sequence: int | None


@dataclass
class Icmp:
    """An ICMP (version 4) or ICMPv6 (version 6) message. `identifier` and `sequence` are bytes 4 to 8, whatever
    the type; `target` and `link_address` are what neighbour discovery tells."""

    offset: int
    version: int
    type: int
    code: int
    checksum: int
    identifier: int
    sequence: int
    payload: int
    end: int
    quoted: Quoted | None
    target: bytes | None
    link_address: bytes | None

    @property
    def size(self) -> int:
        """Bytes after the first eight."""
        return max(self.end - self.payload, 0)

    @property
    def is_error(self) -> bool:
        return self.type in _ERRORS[self.version]

    @property
    def is_echo(self) -> bool:
        return self.type == (ECHO if self.version == 4 else ECHO6)

    @property
    def is_echo_reply(self) -> bool:
        return self.type == (ECHO_REPLY if self.version == 4 else ECHO6_REPLY)


class Igmp(NamedTuple):
    """An IGMP message; in version 3 reports `group` is not one (RFC 3376, 4.2)."""

    offset: int
    type: int
    checksum: int
    group: bytes
    end: int


class Named(NamedTuple):
    """A protocol that is only told by its name, and what it says, "" for nothing that is read here."""

    name: str
    says: str


Transport = Udp | Tcp | Icmp | Igmp
Application = Dhcp | Dns | Named


def udp(data: bytes, at: int, end: int, stated_end: int, problems: list[Stop], *, fragment: bool) -> Udp:
    """A datagram in an IP packet that ends at `end`, and ends at `stated_end` if its header is to be believed."""
    need(data, at, 8, end, "UDP header", "udp.header")
    source, destination = word(data, at), word(data, at + 2)
    length, checksum = word(data, at + 4), word(data, at + 6)
    room = stated_end - at
    if length == 0 and room > _JUMBO:  # RFC 2675, 4
        length = room
    if length < 8:
        says = mistakes.told(f"UDP length of {length}, the header alone has 8", mistakes.length(length, room, 8))
        problems.append(Stop("udp.length", at + 4, says, str(length), "8 at least"))
        return Udp(at, source, destination, length, checksum, at + 8, end)
    if not fragment and (length > room or (length < room and stated_end == end)):
        what = "udp.length_beyond" if length > room else "udp.length_short"
        says = f"UDP length of {length}, but IP carries {room} bytes"
        says = mistakes.told(says, mistakes.length(length, room, 8, before=20))
        problems.append(Stop(what, at + 4, says, str(length), str(room)))
    return Udp(at, source, destination, length, checksum, at + 8, min(end, at + length))


def tcp(data: bytes, at: int, end: int, problems: list[Stop]) -> Tcp:
    need(data, at, 20, end, "TCP header", "tcp.header")
    size = data[at + 12] >> 4 << 2
    if size < 20:
        says = f"TCP data offset of {size} bytes, the header alone has 20"
        says = mistakes.told(says, _offset_mistake(data[at + 12]))
        raise Stopped("tcp.data_offset", at + 12, says, f"{size >> 2} words", "5 words at least")
    if at + size > end:
        says = f"TCP data offset of {size} bytes, but IP carries {end - at}"
        raise Stopped("tcp.data_offset", at + 12, says, f"{size >> 2} words", f"{(end - at) >> 2} words at most")
    header = Tcp(
        at, word(data, at), word(data, at + 2), double_word(data, at + 4), double_word(data, at + 8), data[at + 13],
        word(data, at + 14), word(data, at + 16), at + size, end, None, None, False, None,
    )  # fmt: skip
    if size > 20:
        need(data, at, size, end, "TCP options", "tcp.data_offset")
        _tcp_options(data, at + 20, at + size, header, problems)
    return header


def _offset_mistake(field: int) -> str:
    """What makes the byte of a data offset too small."""
    if field & 15 >= 5:
        return "it is in the lower half of its byte"
    return "it is in bytes, not in words of 4 bytes" if 20 <= field <= 60 else ""


def _tcp_options(data: bytes, at: int, end: int, header: Tcp, problems: list[Stop]) -> None:
    """Read the options from `at` on into `header`; of one that is there twice the last one stands."""
    while at < end:
        code = data[at]
        if code == 0:
            return
        if code == 1:
            at += 1
            continue
        size = data[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            says = f"TCP option {code} has a length of {size} in {end - at} bytes"
            problems.append(Stop("tcp.options", at, says, str(size), f"2 to {end - at}"))
            return
        if code == 2:
            header.mss = word(data, at + 2) if size == 4 else None
        elif code == 3:
            header.scale = data[at + 2] if size == 3 else None
        elif code == 4:
            header.sack = True
        elif code == 8:
            header.timestamps = (double_word(data, at + 2), double_word(data, at + 6)) if size == 10 else None
        at += size


def icmp(data: bytes, at: int, end: int, version: int, problems: list[Stop]) -> Icmp:
    need(data, at, 8, end, "ICMP header", "icmp.header")
    kind, code, checksum, first, second = _ICMP.unpack_from(data, at)
    quoted = target = link_address = None
    if kind in _ERRORS[version]:
        quoted = _quoted(data, at + _QUOTED, min(end, len(data)))
    elif version == 6 and kind in _NDP:
        need(data, at, _NDP[kind], end, "neighbour discovery message", "ndp.header")
        target = data[at + 8 : at + 24] if kind > ROUTER_ADVERTISEMENT else None
        link_address = _ndp_options(data, at + _NDP[kind], end, kind, problems)
    return Icmp(at, version, kind, code, checksum, first, second, at + 8, end, quoted, target, link_address)


def _ndp_options(data: bytes, at: int, end: int, kind: int, problems: list[Stop]) -> bytes | None:
    """The link-layer address among the options of neighbour discovery: the source's, or the target's in what tells of
    one (RFC 4861, 4.6.1)."""
    found, begin = None, at
    wanted = 2 if kind > NEIGHBOR_SOLICITATION else 1
    other = False
    while at < end:
        need(data, at, 2, end, "neighbour discovery option", "ndp.options")
        size = data[at + 1] * 8
        if not size or at + size > end:
            says = f"neighbour discovery option {data[at]} has a length of {size} in {end - at} bytes"
            problems.append(Stop("ndp.options", at, says, str(size), f"8 to {end - at}"))
            return found
        if data[at] == wanted and size == 8 and at + 8 <= len(data):
            found = data[at + 2 : at + 8]
        other = other or data[at] == 3 - wanted
        at += size
    if other and found is None and end <= len(data):
        names = ("", "a source's", "a target's")
        says = f"the link-layer address is {names[3 - wanted]} (option {3 - wanted}), not {names[wanted]} ({wanted})"
        problems.append(Stop("ndp.option_type", begin, says, f"option {3 - wanted}", f"option {wanted}"))
    return found


def _quoted(data: bytes, at: int, end: int) -> Quoted | None:
    """The packet in an ICMP error. It may be cut: the error need not hold all of it (RFC 792; RFC 4443, 3.1)."""
    version = data[at] >> 4 if at < end else 0
    if version == 4 and at + 20 <= end:
        protocol, source, destination = data[at + 9], data[at + 12 : at + 16], data[at + 16 : at + 20]
        inner = at + (data[at] & 15) * 4
        is_first = not (data[at + 6] & 0x1F or data[at + 7])
    elif version == 6 and at + 40 <= end:
        protocol, source, destination = data[at + 6], data[at + 8 : at + 24], data[at + 24 : at + 40]
        inner, is_first = at + 40, True
    else:
        return None
    if not is_first or inner + 8 > end or protocol not in {TCP, UDP, ICMP, ICMP6}:
        return Quoted(version, protocol, source, destination, None, None, None, None)
    one, two, three, four = _UDP.unpack_from(data, inner)
    if protocol in {TCP, UDP}:
        return Quoted(version, protocol, source, destination, one, two, None, None)
    return Quoted(version, protocol, source, destination, None, None, three, four)


def igmp(data: bytes, at: int, end: int) -> Igmp:
    need(data, at, 8, end, "IGMP header", "igmp.header")
    return Igmp(at, data[at], int.from_bytes(data[at + 2 : at + 4], "big"), data[at + 4 : at + 8], end)


# ------------------------------------------------------- told by the port


def application(data: bytes, header: Udp) -> Application | None:
    """What a datagram to or from a known port says, None where it is empty or no port is known.

    Raises:
        Stopped: It is too short for what the port tells.
    """
    if header.payload >= header.end:
        return None
    ports = (header.source_port, header.destination_port)
    if 67 in ports or 68 in ports:
        return dhcp.parse(data, header.payload, header.end)
    if 53 in ports or 5353 in ports or 5355 in ports:
        return dns.parse(data, header.payload, header.end)
    name = port_name(*ports)
    return Named(name, "") if name else None


_PORTS = {
    67: "DHCP", 68: "DHCP", 53: "DNS", 5353: "mDNS", 5355: "LLMNR", 546: "DHCPv6", 547: "DHCPv6", 123: "NTP",
    69: "TFTP", 1900: "SSDP", 514: "syslog", 161: "SNMP", 4789: "VXLAN",
}  # fmt: skip


def port_name(source: int, destination: int) -> str:
    return _PORTS.get(destination) or _PORTS.get(source) or ""
