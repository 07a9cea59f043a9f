"""ARP and neighbour discovery: who has which address, and whether the owner answers."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from typing import NamedTuple

from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet, Requests
from rawtap.packets.headers import Arp, Ethernet, Ip
from rawtap.packets.judges.frames import arp_is_for_address
from rawtap.packets.lines import ip_text, mac_text
from rawtap.packets.transport import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, Icmp

_FIRST_TTL = {32, 64, 128, 255}  # what senders start from; less has been forwarded


_Tags = tuple[int, ...]


class _Claim(NamedTuple):
    mac: bytes
    number: int
    at: int


class NeighborJudge:
    """`requests` are those of ARP, `solicitations` those of neighbour discovery."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.requests = Requests("ARP", SECOND, "arp.no_answer", "RFC 826 (Packet Reception)")
        self.solicitations = Requests("NDP", SECOND, "ndp.no_answer", "RFC 4861, 7.2.4")
        # Each VLAN is a link of its own, where the same addresses may be others'.
        self._claims: dict[tuple[_Tags, bytes], _Claim] = {}  # by IP address
        self._owned: dict[tuple[_Tags, bytes], bytes] = {}  # the first IP address by MAC address
        self.passed = False

    def see(self, packet: Packet) -> None:
        frame = packet.frame
        if frame.arp is not None:
            self._arp(packet, frame.arp)
        elif frame.ip is not None:
            if isinstance(frame.transport, Icmp) and frame.ip.version == 6:
                self._discovery(packet, frame.ip, frame.transport)
            elif frame.ip.version == 4 and isinstance(frame.link, Ethernet):
                self._sender(packet, frame.link, frame.ip)

    # ------------------------------------------------------------------ ARP

    def _arp(self, packet: Packet, arp: Arp) -> None:
        self._hardware(packet, arp)
        if any(arp.sender_ip):
            self._claim(packet, arp)
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        if arp.operation == 2:
            self.requests.answer((arp.sender_ip, arp.target_ip, arp.target_mac), packet.at)
        elif arp_is_for_address(arp) and any(arp.target_ip) and arp.target_ip[0] < 0xE0:
            says = f"{sender} asks who has {target}, and nobody answers"
            self.requests.ask((arp.target_ip, arp.sender_ip, arp.sender_mac), (sender, target), packet, says)

    def _hardware(self, packet: Packet, arp: Arp) -> None:
        link = packet.frame.link
        if isinstance(link, Ethernet) and link.source != arp.sender_mac:
            says = (
                f"ARP for {ip_text(arp.sender_ip)} names {mac_text(arp.sender_mac)} as its sender, but comes from "
                f"{mac_text(link.source)}"
            )
            evidence = f"sender hardware address {mac_text(arp.sender_mac)}, Ethernet source {mac_text(link.source)}"
            parties = (arp.sender_mac, link.source)
            rule = "RFC 826 (Packet Generation)"
            self._findings.add("arp.sender_mismatch", parties, packet.number, says, rule, evidence)

    def _claim(self, packet: Packet, arp: Arp) -> None:
        link = packet.frame.link
        tags = link.tags if isinstance(link, Ethernet) else ()
        before = self._claims.get((tags, arp.sender_ip))
        if before is None and len(self._claims) >= MAX_PENDING:
            self.passed = True
            return
        if before is not None and before.mac != arp.sender_mac:
            says = f"{ip_text(arp.sender_ip)} is claimed by two: {mac_text(before.mac)} and {mac_text(arp.sender_mac)}"
            evidence = (
                f"packet {before.number} says {mac_text(before.mac)}, packet {packet.number}, "
                f"{(packet.at - before.at) / SECOND:.3f} s later, {mac_text(arp.sender_mac)}"
            )
            self._findings.add("arp.duplicate", (tags, arp.sender_ip), packet.number, says, "RFC 5227, 2.4", evidence)
        self._claims[tags, arp.sender_ip] = _Claim(arp.sender_mac, packet.number, packet.at)
        self._owned.setdefault((tags, arp.sender_mac), arp.sender_ip)

    def _sender(self, packet: Packet, link: Ethernet, ip: Ip) -> None:
        """A host that has an address of its own by ARP and sends with that of another host on the same link.

        A router sends for others too; what it forwards comes with a time to live that nobody starts from.
        """
        claim = self._claims.get((link.tags, ip.source))
        if claim is None or claim.mac == link.source or ip.ttl not in _FIRST_TTL:
            return
        own = self._owned.get((link.tags, link.source))
        if own is None or own == ip.source:
            return
        says = (
            f"{mac_text(link.source)}, which is {ip_text(own)} by ARP, sends from {ip_text(ip.source)}, "
            f"which {mac_text(claim.mac)} claims"
        )
        evidence = f"packet {claim.number} says that {ip_text(ip.source)} is at {mac_text(claim.mac)}"
        parties = (link.source, ip.source)
        self._findings.add("ip.source_of_another", parties, packet.number, says, "RFC 1122, 3.2.1.3", evidence)

    # -------------------------------------------------- neighbour discovery

    def _discovery(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        if icmp.target is None:
            return
        if icmp.type == NEIGHBOR_SOLICITATION and any(ip.source):  # without a source it is a probe (RFC 4862, 5.4.2)
            asker, target = ip_text(ip.source), ip_text(icmp.target)
            says = f"{asker} asks who has {target}, and nobody answers"
            self.solicitations.ask((icmp.target, ip.source), (asker, target), packet, says)
        elif icmp.type == NEIGHBOR_ADVERTISEMENT:
            self.solicitations.answer((icmp.target, ip.destination), packet.at)
