"""A frame in one line, in microseconds: who says what to whom. What the packet holds is printable and bounded here."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop

from rawtap.packets import checks, dhcp, dns, says, transport
from rawtap.packets.carriers import Station
from rawtap.packets.dhcp import Dhcp
from rawtap.packets.dns import Dns
from rawtap.packets.headers import BROADCAST, Arp, Ethernet, Frame, Ip, innermost, parse
from rawtap.packets.says import groups
from rawtap.packets.transport import Icmp, Igmp, Tcp, Udp
from rawtap.untrusted import visible

_INFO = 200
_KNOWN = 4096  # addresses whose text is kept
_STOPPED = 160
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_KINDS = {
    0x8035: "RARP", 0x8863: "PPPoE", 0x8864: "PPPoE", 0x88CC: "LLDP", 0x888E: "EAPOL", 0x8847: "MPLS", 0x8808: "pause",
    0x9000: "loopback test", 0x86DD: "IPv6", 0x0800: "IPv4", 0x0806: "ARP",
}  # fmt: skip
_PROTOCOLS = {
    0: "hop-by-hop", 1: "ICMP", 2: "IGMP", 4: "IPv4 in IP", 6: "TCP", 17: "UDP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP",
    51: "AH", 58: "ICMPv6", 59: "nothing", 89: "OSPF", 103: "PIM", 112: "VRRP", 132: "SCTP",
}  # fmt: skip
_LLC = {0x42: "STP", 0xE0: "IPX", 0xFE: "ISO", 0xF0: "NetBEUI", 0xAA: "SNAP"}
_UNREACHABLE = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 5: "source route failed", 6: "network unknown", 7: "host unknown",
    9: "network prohibited", 10: "host prohibited", 13: "communication prohibited",
}  # fmt: skip
_UNREACHABLE6 = (
    "no route", "prohibited", "beyond scope of source", "address unreachable", "port unreachable",
    "source address failed policy", "reject route",
)  # fmt: skip
_ICMP = {
    0: "echo reply", 4: "source quench", 5: "redirect", 8: "echo request", 9: "router advertisement",
    10: "router solicitation", 12: "parameter problem", 13: "timestamp", 14: "timestamp reply",
}  # fmt: skip
_ICMP6 = {
    2: "packet too big", 4: "parameter problem", 128: "echo request", 129: "echo reply", 130: "multicast query",
    131: "multicast report", 132: "multicast done", 133: "router solicitation", 134: "router advertisement",
    135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect", 143: "multicast report v2",
}  # fmt: skip
_IN_IGMP = {0x13: "DVMRP", 0x14: "PIM"}
_IGMP = {0x11: "query", 0x12: "report v1", 0x16: "report v2", 0x17: "leave", 0x22: "report v3"}


@dataclass(frozen=True, slots=True)
class PacketSummary:
    """What a frame says.

    `source` and `destination` are IP addresses with their ports, or MAC addresses where there is no IP packet;
    the MAC addresses are None where the link has none. `stopped` says where and why reading ended early.
    """

    protocol: str
    source: str
    destination: str
    info: str
    source_mac: str | None
    destination_mac: str | None
    stopped: str | None

    def __str__(self) -> str:
        """All of it in one line."""
        return f"{self.source} > {self.destination} {self.protocol} {self.info}"


def describe(frame: bytes, length: int, link_type: int) -> PacketSummary:
    """Say a frame of `link_type`, of which `length` bytes were on the wire, in one line. Never raises."""
    return summarize(parse(frame, length, link_type))


def summarize(frame: Frame, mark: str = "") -> PacketSummary:
    """A frame that was read already, in one line: of what it carries at last, behind what that is carried by.

    `mark` is what is known of it from other packets; it is never cut off.
    """
    last = innermost(frame)
    source_mac, destination_mac = _stations(frame)
    protocol, info = _content(last)
    ip = last.ip
    if ip is None:
        source, destination = (source_mac or "", destination_mac or "") if last is frame else _stations_or(last, frame)
    else:
        source, destination = endpoints(ip, last.transport)
    stopped = last.stopped or frame.stopped
    marks = _broadcast(last) + _wrong_sums(frame) + (_wrong_sums(last) if last is not frame else "") + mark
    info = _bounded(_carried_by(frame, last) + info, max(_INFO - len(marks), 0)) + marks
    return PacketSummary(
        protocol, source, destination, info, source_mac, destination_mac,
        None if stopped is None else _bounded(stopped, _STOPPED),
    )  # fmt: skip


def _stations(frame: Frame) -> tuple[str | None, str | None]:
    """Both addresses of the link; None for one that it does not have."""
    link = frame.link
    if isinstance(link, (Ethernet, Station)):
        return mac_text(link.source) or None, mac_text(link.destination) or None
    return (mac_text(link.address) or None) if link else None, None


def _stations_or(last: Frame, frame: Frame) -> tuple[str, str]:
    """Those of a frame that is carried, or of the packet that carries it."""
    source, destination = _stations(last)
    if source is None and destination is None and frame.ip is not None:
        return endpoints(frame.ip, frame.transport)
    return source or "", destination or ""


def _carried_by(frame: Frame, last: Frame) -> str:
    """What is between the link and what is told: tags, and carriers with their ends, if these have some."""
    if last is frame and not frame.carriers:
        return "".join(f"{each}: " for each in _tags(frame))
    parts = _tags(frame) + [visible(each) for each in last.carriers]
    if last is not frame:
        if frame.ip is not None and frame.inner is not None and parts:
            at = len(_tags(frame)) + len(frame.carriers)
            parts[at] += f" ({ip_text(frame.ip.source)} > {ip_text(frame.ip.destination)})"
        parts += _tags(last)
    return "".join(f"{each}: " for each in parts)


def _tags(frame: Frame) -> list[str]:
    link = frame.link
    return [f"VLAN {'/'.join(map(str, link.tags))}"] if isinstance(link, Ethernet) and link.tags else []


def _broadcast(frame: Frame) -> str:
    """That a frame is for all, where its addresses do not say so: its packet is for one host."""
    link, ip, arp = frame.link, frame.ip, frame.arp
    if not isinstance(link, Ethernet) or link.destination != BROADCAST:
        return ""
    if ip is not None:
        is_known = ip.destination[-1] == 0xFF or ip.destination[0] >= 0xE0
        return "" if ip.version == 4 and is_known else ", to broadcast"
    return ", to broadcast" if arp is not None and arp.operation != 1 else ""


@lru_cache(_KNOWN)
def ip_text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def protocol_name(number: int) -> str:
    """Of what an IP packet carries."""
    return _PROTOCOLS.get(number, f"IP protocol {number}")


def ethernet_name(kind: int) -> str:
    """Of what an Ethernet frame carries."""
    return _KINDS.get(kind, f"Ethernet type 0x{kind:04x}")


@lru_cache(_KNOWN)
def mac_text(address: bytes) -> str:
    return address.hex(":")


def endpoints(ip: Ip, header: transport.Transport | None) -> tuple[str, str]:
    """Both addresses, with ports where there are: ``10.0.2.2:53``, ``[fe80::1]:53``."""
    source, destination = ip_text(ip.source), ip_text(ip.destination)
    if isinstance(header, (Udp, Tcp)):
        form = "{}:{}" if ip.version == 4 else "[{}]:{}"
        return form.format(source, header.source_port), form.format(destination, header.destination_port)
    return source, destination


def parties(ip: Ip, header: transport.Transport | None) -> tuple[str, str]:
    """Both addresses with the port of the service alone, the lower one: a client's port is a new one each time."""
    source, destination = ip_text(ip.source), ip_text(ip.destination)
    if not isinstance(header, (Udp, Tcp)):
        return source, destination
    with_ports = endpoints(ip, header)
    if header.source_port < header.destination_port:
        return with_ports[0], destination
    return source, with_ports[1]


def _bounded(text: str, limit: int) -> str:
    shown = visible(text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _wrong_sums(frame: Frame) -> str:
    is_left = frame.ip is not None and frame.ip.length_is_zero  # with its length, to the hardware
    return "".join(
        f", bad {each.name} checksum 0x{each.found:04x}, expected 0x{each.expected:04x}"
        for each in checks.checksums(frame)
        if each.verdict is checks.Verdict.WRONG and not is_left
    )


# --------------------------------------------------------------- contents


def _content(frame: Frame) -> tuple[str, str]:
    """The protocol and what is said in it."""
    if frame.ip is not None:
        return _packet(frame, frame.ip)
    if frame.arp is not None:
        return "ARP", _arp(frame.arp)
    size = f"{frame.end - frame.payload if frame.carriers else frame.length} bytes"
    if said := says.said(frame):
        return said[0], said[1] or size
    if frame.link is None and frame.kind is None:
        return "Ethernet" if frame.stop is not None and frame.stop.what == "ethernet.header" else "unknown", size
    if not isinstance(frame.link, Ethernet) or frame.kind is not None:
        kind = frame.kind or 0
        return _KINDS.get(kind) or (frame.carriers[-1].split()[0] if frame.carriers else f"0x{kind:04x}"), size
    return _logical(frame, frame.link)


def _logical(frame: Frame, link: Ethernet) -> tuple[str, str]:
    """A frame with a length in place of a type, and LLC behind it (IEEE 802.2)."""
    llc = frame.data[link.payload : link.payload + 2]
    if len(llc) < 2:
        return "802.3", f"length {link.stated}"
    protocol = _LLC.get(llc[0])
    name = f"LLC {protocol}" if protocol else "LLC"
    return "802.3", f"{name}, DSAP 0x{llc[0]:02x} SSAP 0x{llc[1]:02x}, length {link.stated}"


def _arp(arp: Arp) -> str:
    sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
    sender_mac = mac_text(arp.sender_mac)
    if arp.operation == 1:
        if arp.sender_ip == bytes(4):
            return f"who has {target}? probe by {sender_mac}"
        if arp.sender_ip == arp.target_ip:
            return f"announcement: {sender} is at {sender_mac}"
        return f"who has {target}? tell {sender}"
    if arp.operation == 2:
        return f"{sender} is at {sender_mac}"
    return f"operation {arp.operation}, {sender} ({sender_mac}) to {target}"


def _packet(frame: Frame, ip: Ip) -> tuple[str, str]:
    header = frame.transport
    name = _PROTOCOLS.get(ip.protocol) or f"IP protocol {ip.protocol}"
    said = None if isinstance(frame.application, (Dhcp, Dns)) else says.said(frame)
    if isinstance(header, Icmp):
        name = "ICMP" if header.version == 4 else "ICMPv6"
        text = _icmp(frame, header)
    elif isinstance(header, Igmp):
        name = _IN_IGMP.get(header.type, name)
        text = _igmp(frame, header)
    else:
        text = f"{ip.end - ip.payload} bytes"
        if isinstance(header, Tcp):
            text = _tcp(header)
        elif isinstance(header, Udp):
            name, text = _udp(frame, header)
        if said is not None:
            name, text = said[0], f"{said[1]}, {text}" if said[1] else text
    return name, text + _fragment(ip)


def _fragment(ip: Ip) -> str:
    if ip.fragment is None:
        return ""
    more = "more follow" if ip.fragment.more else "the last"
    at = f"{ip.fragment.at}-{ip.fragment.at + ip.end - ip.payload}"
    return f", fragment id=0x{ip.fragment.identification:x} bytes {at}, {more}"


def flags_text(flags: int) -> str:
    return "+".join(name for bit, name in enumerate(_FLAGS) if flags >> bit & 1) or "none"


def _tcp(header: Tcp) -> str:
    parts = [f"{flags_text(header.flags)} seq={header.sequence}"]
    if header.flags & transport.ACK:
        parts.append(f"ack={header.acknowledgment}")
    parts.append(f"win={header.window}")
    if header.size:
        parts.append(f"{header.size} bytes")
    if header.mss is not None:
        parts.append(f"MSS {header.mss}")
    if header.scale is not None:
        parts.append(f"wscale {header.scale}")
    if header.sack:
        parts.append("SACK")
    if header.timestamps is not None and header.flags & transport.SYN:
        parts.append("timestamps")
    return " ".join(parts)


def _udp(frame: Frame, header: Udp) -> tuple[str, str]:
    said_by = frame.application
    if isinstance(said_by, Dhcp):
        return "DHCP", _dhcp(said_by)
    name = transport.port_name(header.source_port, header.destination_port)
    if isinstance(said_by, Dns):
        return name or "DNS", dns.words(said_by)
    size = f"{max(header.length - 8, 0)} bytes"
    if header.length <= 8:
        return "UDP", size
    # Its port has a name, but its bytes are not of that, as who was asked what they say knows; or there are none.
    if said_by is not None or header.payload >= len(frame.data):
        return "UDP", size
    return name or "UDP", size


def _dhcp(message: Dhcp) -> str:
    client = mac_text(message.chaddr)
    said_name = f"{message.name} xid=0x{message.xid:08x}"
    if message.operation == 1:
        wanted = message.requested or (message.ciaddr if message.ciaddr != bytes(4) else None)
        return f"{said_name} from {client}" + (f" for {ip_text(wanted)}" if wanted else "")
    text = f"{said_name} to {client}"
    if message.message != dhcp.NAK:
        text += f": {ip_text(message.yiaddr)}"
    if message.server:
        text += f" by {ip_text(message.server)}"
    return text + (f" for {message.lease} s" if message.lease is not None else "")


def _icmp(frame: Frame, header: Icmp) -> str:
    if header.is_echo or header.is_echo_reply:
        kind = "echo request" if header.is_echo else "echo reply"
        return f"{kind} id={header.identifier} seq={header.sequence} {header.size} bytes"
    text = icmp_name(header)
    if header.quoted is not None:
        return f"{text}: {quoted_text(header.quoted)}"
    if header.version == 6 and header.target is not None:
        return text + _neighbor(frame, header, ip_text(header.target))
    if header.version == 6 and header.type == 143:
        return f"{text} {groups.reported(frame.data, header.offset, header.end, 16)}".rstrip()
    return text


def icmp_name(header: Icmp) -> str:
    """The message's kind in words: ``port unreachable``."""
    kind, code = header.type, header.code
    if header.version == 4:
        if kind == 3:
            return _UNREACHABLE.get(code) or f"unreachable, code {code}"
        if kind == 11:
            return "time to live exceeded" if code == 0 else "reassembly time exceeded"
        return _ICMP.get(kind) or f"type {kind} code {code}"
    if kind == 1:
        return _UNREACHABLE6[code] if code < len(_UNREACHABLE6) else f"unreachable, code {code}"
    if kind == 3:
        return "hop limit exceeded" if code == 0 else "reassembly time exceeded"
    return _ICMP6.get(kind) or f"type {kind} code {code}"


def quoted_text(quoted: transport.Quoted) -> str:
    """The packet that an error is about: ``UDP 10.0.2.15:4000 to 10.0.2.2:69``."""
    source, destination = ip_text(quoted.source), ip_text(quoted.destination)
    if quoted.source_port is not None:
        form = "{}:{}" if quoted.version == 4 else "[{}]:{}"
        source, destination = form.format(source, quoted.source_port), form.format(destination, quoted.destination_port)
    name = _PROTOCOLS.get(quoted.protocol) or f"protocol {quoted.protocol}"
    return f"{name} {source} to {destination}"


def _neighbor(frame: Frame, header: Icmp, target: str) -> str:
    link = mac_text(header.link_address) if header.link_address else ""
    if header.type == transport.NEIGHBOR_SOLICITATION:
        ip = frame.ip
        asks = "probe" if ip is not None and not any(ip.source) else f"tell {link}" if link else ""
        return f": who has {target}? {asks}".rstrip()
    return f": {target} is at {link}" if link else f": {target}"


def _igmp(frame: Frame, header: Igmp) -> str:
    kind = _IGMP.get(header.type) or f"type 0x{header.type:02x}"
    if header.type == 0x22:
        return f"{kind} {groups.reported(frame.data, header.offset, header.end, 4)}".rstrip()
    return f"{kind} {ip_text(header.group)}"


def is_group(mac: bytes) -> bool:
    """Whether it is a multicast or broadcast address."""
    return bool(mac and mac[0] & 1) or mac == BROADCAST
