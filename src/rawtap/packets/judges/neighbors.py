"""ARP and neighbour discovery: who has which address, and whether the owner answers."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import BROADCAST, Arp, Ethernet, Ip
from rawtap.packets.judges.frames import arp_is_for_address
from rawtap.packets.lines import ip_text, mac_text
from rawtap.packets.transport import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, Icmp

_PROBING = 3 * SECOND  # from a probe on: the next follows in 1 to 2 s, and an announcement 2 s after the last
_FIRST_TTL = {32, 64, 128, 255}  # what senders start from; less has been forwarded


_Tags = tuple[int, ...]


class _Claim(NamedTuple):
    mac: bytes
    number: int
    at: int


def _tags(packet: Packet) -> _Tags:
    link = packet.frame.link
    return link.tags if isinstance(link, Ethernet) else ()


def _to_all(packet: Packet) -> bool:
    """Whether it is for everybody: switches probe single hosts too, to see whether they are still there."""
    link = packet.frame.link
    return isinstance(link, Ethernet) and link.destination == BROADCAST


class NeighborJudge:
    """`requests` are those of ARP, `solicitations` those of neighbour discovery."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.requests = Requests("ARP", SECOND, "arp.no_answer", "RFC 826 (Packet Reception)")
        self.solicitations = Requests("NDP", SECOND, "ndp.no_answer", "RFC 4861, 7.2.4")
        # Each VLAN is a link of its own, where the same addresses may be others'.
        self._claims: dict[tuple[_Tags, bytes], _Claim] = {}  # by IP address
        self._owned: dict[tuple[_Tags, bytes], bytes] = {}  # the first IP address by MAC address
        self._probes: OrderedDict[tuple[_Tags, bytes], _Claim] = OrderedDict()  # by the address that is asked for
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

    def offered(self, server: bytes, address: bytes) -> None:
        """A DHCP server offers an address: that nobody answered for it is as it should be (RFC 2131, 3.1)."""
        self.requests.refuse((address, server))

    # ------------------------------------------------------------------ ARP

    def _arp(self, packet: Packet, arp: Arp) -> None:
        self._hardware(packet, arp)
        if any(arp.sender_ip):
            self._in_use(packet, arp.sender_ip, arp.sender_mac, "arp.address_in_use", "RFC 5227, 2.1.1")
            self._claim(packet, arp)
        elif arp.operation == 1 and any(arp.target_ip) and _to_all(packet):
            self._in_use(packet, arp.target_ip, arp.sender_mac, "arp.address_in_use", "RFC 5227, 2.1.1")
            self._probe(packet, arp.target_ip, arp.sender_mac)
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        if arp.operation == 2:
            self._reply(packet, arp)
        elif arp_is_for_address(arp) and any(arp.target_ip) and arp.target_ip[0] < 0xE0:
            says = f"{sender} asks who has {target}, and nobody answers"
            self.requests.ask((arp.target_ip, arp.sender_ip), (sender, target), packet, says)

    def _reply(self, packet: Packet, arp: Arp) -> None:
        request = self.requests.answer((arp.sender_ip, arp.target_ip), packet.at)
        asker = self._claims.get((_tags(packet), arp.target_ip))
        if request is None or asker is None or asker.mac == arp.target_mac:
            return
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        says = f"{sender} answers {target} with another target hardware address than asked"
        evidence = f"{mac_text(arp.target_mac)}, expected {mac_text(asker.mac)} as in packet {asker.number}"
        rule = "RFC 826 (Packet Reception)"
        self._findings.add("arp.target_mismatch", (sender, target), packet.number, says, rule, evidence)

    def _probe(self, packet: Packet, address: bytes, mac: bytes) -> None:
        """Somebody asks whether an address is free, to take it."""
        key = (_tags(packet), address)
        if key not in self._probes and len(self._probes) >= MAX_PENDING:
            self._probes.popitem(last=False)
        self._probes[key] = _Claim(mac, packet.number, packet.at)

    def _in_use(self, packet: Packet, address: bytes, mac: bytes, what: str, rule: str) -> None:
        """Somebody else has an address, or wants it, that is being probed."""
        probe = self._probes.get((_tags(packet), address))
        if probe is None or probe.mac == mac or packet.at - probe.at > _PROBING:
            return
        says = f"{mac_text(probe.mac)} probes for {ip_text(address)}, and {mac_text(mac)} has it or wants it as well"
        evidence = f"a probe in packet {probe.number}, {(packet.at - probe.at) / SECOND:.3f} s before"
        self._findings.add(what, (probe.mac, address), packet.number, says, rule, evidence)

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
        tags = _tags(packet)
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
        link = packet.frame.link
        is_probe = icmp.type == NEIGHBOR_SOLICITATION and not any(ip.source)  # RFC 4862, 5.4.2
        if isinstance(link, Ethernet) and (is_probe or icmp.type == NEIGHBOR_ADVERTISEMENT):
            self._in_use(packet, icmp.target, link.source, "ndp.address_in_use", "RFC 4862, 5.4")
            if is_probe:
                self._probe(packet, icmp.target, link.source)
        if icmp.type == NEIGHBOR_SOLICITATION and not is_probe:
            asker, target = ip_text(ip.source), ip_text(icmp.target)
            says = f"{asker} asks who has {target}, and nobody answers"
            self.solicitations.ask((icmp.target, ip.source), (asker, target), packet, says)
        elif icmp.type == NEIGHBOR_ADVERTISEMENT:
            self.solicitations.answer((icmp.target, ip.destination), packet.at)
