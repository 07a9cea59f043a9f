# cython: annotation_typing=False, nonecheck=True
"""What one frame alone shows: checksums, lengths, padding, addresses, times to live."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import zlib

from rawtap.packets import mistakes
from rawtap.packets.carriers import MACSEC
from rawtap.packets.findings import MAX_PENDING, Findings, Packet
from rawtap.packets.headers import BROADCAST, Arp, Ethernet, Frame, Ip
from rawtap.packets.judges.sums import SumJudge, of_loopback
from rawtap.packets.lines import ip_text, mac_text, parties
from rawtap.packets.transport import ICMP, ICMP6, Icmp

_RULES = {
    "arp.header": "RFC 826 (Packet format)",
    "arp.lengths": "RFC 826 (Packet format)",
    "arp.kind_swapped": "RFC 826 (Packet format)",
    "dhcp.options": "RFC 2132, 2",
    "dhcp.short": "RFC 2131, 2",
    "dns.malformed": "RFC 1035, 4.1",
    "ethernet.header": "IEEE 802.3, 3.1.1",
    "ethernet.length": "IEEE 802.3, 3.2.6",
    "ethernet.tag": "IEEE 802.1Q, 9",
    "ethernet.type": "RFC 894; RFC 2464, 3; RFC 826",
    "icmp.header": "RFC 792; RFC 4443, 2.1",
    "igmp.header": "RFC 2236, 2",
    "ip.extension": "RFC 8200, 4",
    "ip.header": "RFC 791, 3.1; RFC 8200, 3",
    "ip.header_length": "RFC 791, 3.1",
    "ip.options": "RFC 791, 3.1",
    "ip.payload_length": "RFC 8200, 3",
    "ip.total_length": "RFC 791, 3.1",
    "ip.version": "RFC 791, 3.1; RFC 1122, 3.2.1.1; RFC 8200, 3",
    "ndp.header": "RFC 4861, 4",
    "ndp.option_type": "RFC 4861, 4.6.1",
    "ndp.options": "RFC 4861, 4.6",
    "tcp.data_offset": "RFC 9293, 3.1",
    "tcp.header": "RFC 9293, 3.1",
    "tcp.options": "RFC 9293, 3.1",
    "udp.header": "RFC 768",
    "udp.length": "RFC 768 (Length)",
    "udp.length_beyond": "RFC 768 (Length)",
    "udp.length_short": "RFC 768 (Length)",
}
_LEAST = 60  # bytes of an Ethernet frame without its checksum (IEEE 802.3, 3.2.8)
_FCS = 4
_BROADCAST = b"\xff" * 4
_HOST_ADDRESS = "RFC 1122, 3.2.1.3"


class FrameJudge:
    """`_cut` counts frames of which a part was not captured, `_with_fcs` those that end in their FCS.

    What is not read here is not wrong, and what a link or a tunnel begins with may be another format: what has no rule
    is counted in `_unjudged`.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._sums = SumJudge(findings)
        self._cut = self._with_fcs = 0
        self._unread: dict[str, int] = {}  # frames of a link type that is not read
        self._unjudged: dict[str, int] = {}  # by what reading stopped at
        self._padding: dict[bytes, int] = {}  # by sender: 1 for one that pads, 2 for one that does not, 3 for both

    def see(self, packet: Packet) -> None:
        frame = packet.frame
        self._cut += len(frame.data) < frame.length
        if frame.stop is not None and frame.stop.what == "link":
            self._unread[frame.stop.says] = self._unread.get(frame.stop.says, 0) + 1
        if frame.problems:
            self._lengths(packet)
        self._sums.see(packet)
        if isinstance(frame.link, Ethernet):
            self._ethernet(packet, frame.link)
        ip = frame.ip
        if ip is not None:
            self._addresses(packet, ip)
            if ip.protocol == (ICMP6 if ip.version == 4 else ICMP):
                self._protocol(packet, ip)
            if ip.ttl == 0:
                self._time_to_live(packet, ip)
            if ip.version == 6 and ip.ttl != 255:
                self._hop_limit(packet, ip)

    def see_carried(self, packet: Packet) -> None:
        """What a packet carries has its own lengths and sums; of its frame nothing is asked that a wire asks."""
        if packet.frame.problems:
            self._lengths(packet)
        self._sums.see(packet)

    def settle(self, findings: Findings) -> list[str]:
        """Add what the whole capture tells to `findings`, and return notes."""
        notes = [f"{count} {says}: nothing in them is judged" for says, count in self._unread.items()]
        notes += [
            f"{count} packets could not be read from {what} on: nothing behind that is judged"
            for what, count in self._unjudged.items()
        ]
        notes += self._sums.settle(findings)
        if self._with_fcs:
            notes.append(f"{self._with_fcs} frames were captured with their FCS at the end, which is right")
        if self._cut:
            notes.append(f"{self._cut} frames were not captured in full: their checksums are not judged")
        short = [mac for mac, bits in self._padding.items() if bits == 3]
        if short:
            notes.append(
                f"{mac_text(short[0])} pads some of its short frames to {_LEAST} bytes and leaves others short"
            )
        return notes

    def _lengths(self, packet: Packet) -> None:
        frame = packet.frame
        for problem in frame.problems:
            rule = _RULES.get(problem.what)
            if rule is None:
                self._unjudged[problem.what] = self._unjudged.get(problem.what, 0) + 1
                continue
            who = _parties(frame)
            host = ip_text(frame.ip.source) if frame.ip and any(frame.ip.source) else _sender(frame)
            self._findings.add(
                problem.what, (problem.what, who), packet.number, f"{who}: {problem.says}", rule, problem.text,
                host=host, found=problem.found, expected=problem.expected, hides=frame.transport is None,
            )  # fmt: skip

    def _ethernet(self, packet: Packet, link: Ethernet) -> None:
        frame, ip = packet.frame, packet.frame.ip
        if link.source[0] & 1:
            host = mac_text(link.source)
            says = f"The Ethernet source address {host} is one of a group"
            self._findings.add(
                "ethernet.source_group", link.source, packet.number, says, "IEEE 802.3, 3.2.3",
                "its first byte is odd", host=host, found=host, expected="a first byte that is even",
            )  # fmt: skip
        elif not any(link.source) and any(link.destination) and not (ip is not None and of_loopback(ip, ip.source)):
            host = ip_text(ip.source) if ip is not None and any(ip.source) else mac_text(link.source)
            self._findings.add(
                "ethernet.source_zero", (link.source, host), packet.number,
                f"{host} sends from a link address of zeros", "IEEE 802.3, 3.2.3", host=host,
                found=mac_text(link.source), expected="the card's own address",
            )  # fmt: skip
        if link.destination[0] & 1 and ip is not None and link.destination != BROADCAST and not frame.carriers:
            self._group(packet, link, ip)
        if ip is not None:
            agreed = ip.stated_end == ip.end and not ip.length_is_zero
        else:
            agreed = frame.arp is not None or link.stated is not None
        if agreed and frame.stop is None and link.kind != MACSEC:  # whose sum is behind the packet
            self._behind(packet, link, _LEAST + 4 * len(link.tags))

    def _behind(self, packet: Packet, link: Ethernet, least: int) -> None:
        """What is behind the packet in a frame that has `least` bytes at least."""
        frame, end = packet.frame, packet.frame.length
        if end - frame.end >= _FCS and end > least:
            if frame.length > len(frame.data) and end - _FCS <= max(frame.end, least):
                return  # these bytes were not captured, and may be an FCS
            if ends_in_fcs(frame.data):
                self._with_fcs += 1
                end -= _FCS
        if end <= least:
            self._pads(link.source, 1 if end > frame.end else 2 if end < least else 0)
            rest = frame.data[frame.end : end]
            if rest.strip(b"\0"):
                host = mac_text(link.source)
                says = f"{host} pads its frames with bytes that are not zero"
                self._findings.add(
                    "ethernet.padding", link.source, packet.number, says, "RFC 894; RFC 1042",
                    f"bytes {frame.end} to {end}: {rest.hex()}", host=host, found=rest.hex(), expected="zeros",
                    dropped=False,
                )  # fmt: skip
        elif end <= least + _FCS and not frame.data[frame.end : end].strip(b"\0"):
            return  # padded to the least size as if that had no FCS, as QEMU's own network does: it harms nobody
        elif frame.end < end:
            host = mac_text(link.source)
            says = f"{host} sends bytes behind the packet in a frame that needs no padding"
            ip = frame.ip
            if ip is not None and ip.version == 4 and end - frame.end == ip.payload - ip.offset:
                says = f"{says}: the IP header is not counted in the total length"
            self._findings.add(
                "ethernet.trailer", link.source, packet.number, says, "RFC 894; RFC 1042",
                f"{end - frame.end} bytes from byte {frame.end} on", host=host, found=f"{end} bytes",
                expected=f"{max(frame.end, least)} bytes", dropped=False,
            )  # fmt: skip

    def _group(self, packet: Packet, link: Ethernet, ip: Ip) -> None:
        """A packet to a group in a frame to another group (RFC 1112, 6.4; RFC 2464, 7)."""
        address = ip.destination
        if ip.version == 6:
            right = b"\x33\x33" + address[12:] if address[0] == 0xFF else b""
        else:
            low = bytes([address[1] & 0x7F]) + address[2:]
            right = b"\x01\x00\x5e" + low if 0xE0 <= address[0] < 0xF0 else b""
        if right and link.destination != right:
            host, name = ip_text(ip.source), mistakes.address(link.destination, right)
            says = f"{host} sends to the group {ip_text(address)} at another link address than that group's"
            self._findings.add(
                "ethernet.group", (link.source, address), packet.number, mistakes.told(says, name),
                "RFC 1112, 6.4" if ip.version == 4 else "RFC 2464, 7", host=host, found=mac_text(link.destination),
                expected=mac_text(right),
            )  # fmt: skip

    def _protocol(self, packet: Packet, ip: Ip) -> None:
        host, name = ip_text(ip.source), "ICMPv6" if ip.version == 4 else "ICMP"
        says = f"{host} sends {name} in IPv{ip.version}, which has its own"
        self._findings.add(
            "ip.protocol", (ip.source, ip.destination), packet.number, says, "RFC 792; RFC 4443, 1", host=host,
            found=f"protocol {ip.protocol}", expected=f"protocol {ICMP if ip.version == 4 else ICMP6}", hides=True,
        )  # fmt: skip

    def _pads(self, sender: bytes, bit: int) -> None:
        if bit and (sender in self._padding or len(self._padding) < MAX_PENDING):
            self._padding[sender] = self._padding.get(sender, 0) | bit

    def _addresses(self, packet: Packet, ip: Ip) -> None:
        source = ip.source
        code = says = ""
        is_group = source[0] == 0xFF if ip.version == 6 else 0xE0 <= source[0] < 0xF0 or source == _BROADCAST
        if is_group:
            code, says = "ip.source_group", f"The source address {ip_text(source)} is one of a group"
        elif is_loopback(packet.frame):
            return
        elif source == ip.destination and any(source):
            code, says = "ip.source_is_destination", f"{ip_text(source)} is both source and destination on the wire"
        elif of_loopback(ip, source) or of_loopback(ip, ip.destination):
            code, says = "ip.loopback_address", f"{_parties(packet.frame)}: a loopback address on the wire"
        if code:
            rule = _HOST_ADDRESS if ip.version == 4 else "RFC 4291, 2.7" if is_group else "RFC 4291, 2.5.3"
            self._findings.add(
                code, (source, ip.destination), packet.number, says, rule, _parties(packet.frame),
                host=_sender(packet.frame) or ip_text(source), found=ip_text(source),
                expected="the sender's own address",
            )  # fmt: skip

    def _time_to_live(self, packet: Packet, ip: Ip) -> None:
        name = "time to live" if ip.version == 4 else "hop limit"
        rule = "RFC 1122, 3.2.1.7" if ip.version == 4 else "RFC 8200, 3"
        says = f"{ip_text(ip.source)} sends with a {name} of 0"
        self._findings.add(
            "ip.ttl_zero", ip.source, packet.number, says, rule, f"{name} 0", host=ip_text(ip.source), found=0,
            expected="1 at least",
        )  # fmt: skip

    def _hop_limit(self, packet: Packet, ip: Ip) -> None:
        icmp = packet.frame.transport
        if isinstance(icmp, Icmp) and 133 <= icmp.type <= 137:
            says = f"{ip_text(ip.source)} sends neighbour discovery with a hop limit other than 255"
            rule = "RFC 4861, 6.1, 7.1 and 8.1"
            self._findings.add(
                "ndp.hop_limit", ip.source, packet.number, says, rule, f"hop limit {ip.ttl}", host=ip_text(ip.source),
                found=ip.ttl, expected=255,
            )  # fmt: skip


def is_loopback(frame: Frame) -> bool:
    """Whether the frame may be on a host's own loopback interface, where other rules hold."""
    link = frame.link
    return not isinstance(link, Ethernet) or not (any(link.source) or any(link.destination))


def ends_in_fcs(data: bytes) -> bool:
    """Whether the last four bytes are the frame check sequence of those before (IEEE 802.3, 3.2.9)."""
    return zlib.crc32(data[:-_FCS]) == int.from_bytes(data[-_FCS:], "little")


def _sender(frame: Frame) -> str:
    return mac_text(frame.link.source) if isinstance(frame.link, Ethernet) else ""


def _parties(frame: Frame) -> str:
    if frame.ip is not None:
        return " to ".join(parties(frame.ip, frame.transport))
    if isinstance(frame.link, Ethernet):
        return f"{mac_text(frame.link.source)} to {mac_text(frame.link.destination)}"
    return "a frame"


def arp_is_for_address(arp: Arp) -> bool:
    """Whether a host is asked for, by one that has an address: no probe and no announcement (RFC 5227, 2.1.1, 2.3)."""
    return arp.operation == 1 and any(arp.sender_ip) and arp.sender_ip != arp.target_ip
