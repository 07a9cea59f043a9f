# cython: annotation_typing=False, nonecheck=True
"""ARP and neighbour discovery: who has which address, and whether the owner answers."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple, cast

from rawtap.packets import mistakes
from rawtap.packets.dhcp import Dhcp
from rawtap.packets.exchanges import Requests, is_first_hop
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import BROADCAST, Arp, Cooked, Ethernet, Ip
from rawtap.packets.judges.frames import arp_is_for_address
from rawtap.packets.lines import ip_text, mac_text
from rawtap.packets.transport import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, ROUTER_SOLICITATION, Icmp

_PROBING = 3 * SECOND  # from a probe on: the next follows in 1 to 2 s, and an announcement 2 s after the last
_LOOPBACK = 127
_GROUP6 = 0xFF
_OPEN = 16  # requests that a wrong reply is compared with


_Tags = tuple[int, ...]


class _Claim(NamedTuple):
    """Who says, in which packet and when, that it has an address; `link` is whose frame it came in."""

    mac: bytes
    number: int
    at: int
    link: bytes


def _tags(packet: Packet) -> _Tags:
    link = packet.frame.link
    return link.tags if isinstance(link, Ethernet) else ()


def _to_all(packet: Packet) -> bool:
    """Whether it is for everybody: switches probe single hosts too, to see whether they are still there."""
    link = packet.frame.link
    return isinstance(link, Ethernet) and link.destination == BROADCAST


def _mistake(found: tuple[bytes, bytes], right: tuple[bytes, bytes]) -> str:
    """The mistake in a reply's sender and target, "" where there is none that explains them."""
    if found == (right[1], right[0]):
        return "sender and target are those of the request, not exchanged"
    wrong = [mistakes.address(*each) for each in zip(found, right, strict=True) if each[0] != each[1]]
    return wrong[0] if len(set(wrong)) == 1 else ""


def _may_be_for_many(address: bytes) -> bool:
    """Whether an IPv4 address may be a group's or a subnet's broadcast: its mask is not known, only that the last bits
    are all ones, or zeros as some have it (RFC 1122, 3.3.6)."""
    return address[0] >= 0xE0 or address[3] & 3 in {0, 3}


def _is_to_many(link: Ethernet | Cooked) -> bool:
    """Whether its destination is a group. A cooked header says so of what was received (packet(7), sll_pkttype)."""
    return bool(link.destination[0] & 1) if isinstance(link, Ethernet) else link.packet_type in {1, 2}


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
        self._false: dict[tuple[_Tags, bytes], str] = {}  # link addresses that somebody named falsely, by which finding
        self._stations: set[bytes] = set()  # that have sent a frame
        self._met: set[tuple[bytes, bytes]] = set()  # IP addresses that ARP says to be on one link
        self._to_one = 0  # frames that were for one host
        self.passed = False

    def see(self, packet: Packet) -> None:
        frame, ip, link = packet.frame, packet.frame.ip, packet.frame.link
        if link is not None and len(self._stations) < MAX_PENDING:
            self._stations.add(link.source if isinstance(link, Ethernet) else link.address)
            self._to_one += not _is_to_many(link)
        if frame.arp is not None:
            self._arp(packet, frame.arp)
        elif ip is not None:
            if isinstance(link, Ethernet):
                if ip.version == 4:
                    self._sender(packet, link, ip)
                self._destination(packet, link, ip)
            if ip.version == 6 and isinstance(frame.transport, Icmp):
                self._discovery(packet, ip, frame.transport)

    def offered(self, server: bytes, address: bytes) -> None:
        """A DHCP server offers an address: that nobody answered for it is as it should be (RFC 2131, 3.1)."""
        self.requests.refuse((address, server))

    @property
    def only_broadcasts(self) -> bool:
        """Whether what single hosts are told does not come by here: several are heard, and none is spoken to."""
        return len(self._stations) > 1 and not self._to_one

    # ------------------------------------------------------------------ ARP

    def _arp(self, packet: Packet, arp: Arp) -> None:
        if self._is_mistaken(packet, arp):
            return
        self._hardware(packet, arp)
        if any(arp.sender_ip):
            self._in_use(packet, arp.sender_ip, arp.sender_mac, "arp.address_in_use", "RFC 5227, 2.1.1")
            self._claim(packet, arp)
        elif arp.operation == 1 and any(arp.target_ip) and _to_all(packet):
            self._in_use(packet, arp.target_ip, arp.sender_mac, "arp.address_in_use", "RFC 5227, 2.1.1")
            self._probe(packet, arp.target_ip, arp.sender_mac)
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        if mistakes.swapped(arp.operation) in {1, 2}:
            self._operation(packet, arp)
        elif arp.operation == 2:
            self._reply(packet, arp)
        elif arp_is_for_address(arp) and any(arp.target_ip) and arp.target_ip[0] < 0xE0:
            says = f"{sender} asks who has {target}, and nobody answers"
            self.requests.ask((arp.target_ip, arp.sender_ip), (sender, target), packet, says)

    def _operation(self, packet: Packet, arp: Arp) -> None:
        sender, meant = ip_text(arp.sender_ip), mistakes.swapped(arp.operation)
        says = f"{sender} sends ARP with an operation that there is none of: {mistakes.SWAPPED}"
        self._findings.add(
            "arp.operation", arp.sender_mac, packet.number, says, "RFC 826 (Packet format)", host=sender,
            found=arp.operation, expected=meant,
        )  # fmt: skip
        if meant == 2:
            self.requests.refuse((arp.sender_ip, arp.target_ip))

    def _reply(self, packet: Packet, arp: Arp) -> None:
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        asker = self._claims.get((_tags(packet), arp.target_ip))
        waits = (arp.sender_ip, arp.target_ip) in self.requests.pending
        if asker is not None and arp.target_mac != asker.mac and waits:
            name = mistakes.address(arp.target_mac, asker.mac)
            says = f"{sender} answers {target} with another target hardware address than asked"
            found, expected = mac_text(arp.target_mac), mac_text(asker.mac)
            self._findings.add(
                "arp.target_mismatch", (sender, target), packet.number, says + (f": {name}" if name else ""),
                "RFC 826 (Packet Reception)", f"{found}, expected {expected} as in packet {asker.number}", host=sender,
                found=found, expected=expected, dropped=False,
            )  # fmt: skip
        link = packet.frame.link
        if asker is not None and isinstance(link, Ethernet):
            self._astray(packet, link, arp.sender_ip, arp.target_ip)
            if link.destination in {asker.mac, asker.link}:
                self._findings.vouch(packet.number)
            if what := self._false.get((link.tags, link.destination)):
                self._findings.blame(packet.number, what)
        self.requests.heard((arp.sender_ip, arp.target_ip), packet, self._findings)

    def _is_mistaken(self, packet: Packet, arp: Arp) -> bool:
        """Whether it is a reply to one that waits, by other addresses than were asked for; then nobody claims them."""
        link = packet.frame.link
        pending = self.requests.pending
        if arp.operation != 2 or not isinstance(link, Ethernet) or (arp.sender_ip, arp.target_ip) in pending:
            return False
        for key, request in list(pending.items())[-_OPEN:]:
            asked, waiting = cast("tuple[bytes, bytes]", key)
            claim = self._claims.get((link.tags, waiting))
            if claim is None or claim.mac != link.destination or packet.at - request.last > SECOND:
                continue
            if name := _mistake((arp.sender_ip, arp.target_ip), (asked, waiting)):
                self._answers_otherwise(packet, arp, key, request.pair, name)
                return True
        return False

    def _answers_otherwise(self, packet: Packet, arp: Arp, key: Hashable, pair: tuple[str, str], name: str) -> None:
        link = packet.frame.link
        host, (asker, target) = mac_text(link.source if isinstance(link, Ethernet) else arp.sender_mac), pair
        says = f"{host} answers {asker}, who asks for {target}, with other addresses: {name}"
        found = f"{ip_text(arp.sender_ip)} is at {mac_text(arp.sender_mac)}, to {ip_text(arp.target_ip)}"
        self.requests.mistaken(
            key,
            lambda findings: findings.add(
                "arp.reply_mismatch", (target, asker), packet.number, says, "RFC 826 (Packet Reception)", host=host,
                found=found, expected=f"{target} as sender, {asker} as target",
            ),
        )  # fmt: skip

    def _probe(self, packet: Packet, address: bytes, mac: bytes) -> None:
        """Somebody asks whether an address is free, to take it."""
        key = (_tags(packet), address)
        if key not in self._probes and len(self._probes) >= MAX_PENDING:
            self._probes.popitem(last=False)
        self._probes[key] = _Claim(mac, packet.number, packet.at, mac)

    def _in_use(self, packet: Packet, address: bytes, mac: bytes, what: str, rule: str) -> None:
        """Somebody else has an address, or wants it, that is being probed."""
        probe = self._probes.get((_tags(packet), address))
        if probe is None or probe.mac == mac or packet.at - probe.at > _PROBING:
            return
        says = f"{mac_text(probe.mac)} probes for {ip_text(address)}, and {mac_text(mac)} has it or wants it as well"
        evidence = f"a probe in packet {probe.number}, {(packet.at - probe.at) / SECOND:.3f} s before"
        self._findings.add(
            what, (probe.mac, address), packet.number, says, rule, evidence, host=mac_text(mac), dropped=False
        )

    def _hardware(self, packet: Packet, arp: Arp) -> None:
        link = packet.frame.link
        before = self._claims.get((_tags(packet), arp.sender_ip))
        if before is not None and isinstance(link, Ethernet) and before.link == link.source != before.mac:
            return  # that it names two for itself tells more
        if (
            isinstance(link, Ethernet)
            and link.source != arp.sender_mac
            and not (before is not None and before.link == link.source == before.mac)
        ):
            found, expected = mac_text(arp.sender_mac), mac_text(link.source)
            name = mistakes.address(arp.sender_mac, link.source)
            if name:
                self._name_falsely(packet, arp.sender_mac, "arp.sender_mismatch")
            says = f"ARP for {ip_text(arp.sender_ip)} names {found} as its sender, but comes from {expected}"
            self._findings.add(
                "arp.sender_mismatch", (arp.sender_mac, link.source), packet.number,
                says + (f": {name}" if name else ""), "RFC 826 (Packet Generation)",
                f"sender hardware address {found}, Ethernet source {expected}", host=ip_text(arp.sender_ip),
                found=found, expected=expected, dropped=bool(name),
            )  # fmt: skip

    def _name_falsely(self, packet: Packet, mac: bytes, what: str) -> None:
        """What is sent to this address from here on gets nowhere."""
        if mac not in self._stations and len(self._false) < MAX_PENDING:
            self._false[_tags(packet), mac] = what

    def _claim(self, packet: Packet, arp: Arp) -> None:
        tags, link = _tags(packet), packet.frame.link
        before = self._claims.get((tags, arp.sender_ip))
        if before is None and len(self._claims) >= MAX_PENDING:
            self.passed = True
            return
        source = link.source if isinstance(link, Ethernet) else arp.sender_mac
        if before is not None and before.mac != arp.sender_mac:
            self._two(packet, arp, before, source)
        self._claims[tags, arp.sender_ip] = _Claim(arp.sender_mac, packet.number, packet.at, source)
        if len(self._met) < MAX_PENDING:
            self._met.add((arp.sender_ip, arp.target_ip))
        self._owned.setdefault((tags, arp.sender_mac), arp.sender_ip)

    def _two(self, packet: Packet, arp: Arp, before: _Claim, source: bytes) -> None:
        """Two link addresses for one IP address: of two hosts, or named by one for itself."""
        address, macs = ip_text(arp.sender_ip), f"{mac_text(before.mac)} and {mac_text(arp.sender_mac)}"
        evidence = (
            f"packet {before.number} says {mac_text(before.mac)}, packet {packet.number}, "
            f"{(packet.at - before.at) / SECOND:.3f} s later, {mac_text(arp.sender_mac)}"
        )
        if before.link == source != before.mac:
            return  # it was told of the first already
        if before.link == source:
            other = arp.sender_mac if arp.sender_mac != source else before.mac
            self._name_falsely(packet, other, "arp.two_addresses")
            self._findings.add(
                "arp.two_addresses", (source, arp.sender_ip), packet.number,
                f"{address} names two link addresses for itself: {macs}", "RFC 826 (Packet Generation)", evidence,
                host=address, found=mac_text(other), expected=mac_text(source), dropped=False,
            )  # fmt: skip
            return
        self._findings.add(
            "arp.duplicate", (_tags(packet), arp.sender_ip), packet.number, f"{address} is claimed by two: {macs}",
            "RFC 5227, 2.4", evidence, host=address, dropped=False,
        )  # fmt: skip

    # ----------------------------------------------------------- where it goes

    def _destination(self, packet: Packet, link: Ethernet, ip: Ip) -> None:
        """An IP packet for one host in a frame for another, or for all."""
        claim = self._claims.get((link.tags, ip.destination))
        may_be_for_many = claim is None and (_may_be_for_many(ip.destination) or ip.destination[0] == _LOOPBACK)
        if ip.version == 6:
            may_be_for_many = ip.destination[0] == _GROUP6 or (claim is None and bool(link.destination[0] & 1))
        if isinstance(packet.frame.application, Dhcp) or may_be_for_many:
            return
        if claim is not None and (what := self._false.get((link.tags, link.destination))):
            self._findings.blame(packet.number, what)
        if claim is not None and link.destination in {claim.mac, claim.link}:
            self._findings.vouch(packet.number)
        if link.destination[0] & 1:
            if claim is not None and claim.mac == link.destination:
                return  # a cluster that has a group's address (RFC 1812, 3.3.2, forbids it; it is done)
            host, kind = ip_text(ip.source), "broadcast" if link.destination == BROADCAST else "group"
            says = f"{host} sends {ip_text(ip.destination)}, which is one host, in a {kind} frame"
            self._findings.add(
                "ethernet.destination_group", (link.source, ip.destination), packet.number, says,
                "RFC 1122, 3.3.6", host=host, found=mac_text(link.destination),
                expected=mac_text(claim.mac) if claim else "the host's own address",
            )  # fmt: skip
        elif is_first_hop(packet) and (
            (ip.source, ip.destination) in self._met or (ip.destination, ip.source) in self._met
        ):
            self._astray(packet, link, ip.source, ip.destination)

    def _astray(self, packet: Packet, link: Ethernet, source: bytes, destination: bytes) -> None:
        """A frame to a link address that nobody has been heard from, where ARP tells the right one."""
        claim = self._claims.get((link.tags, destination))
        if claim is None or link.destination in {claim.mac, claim.link} or link.destination in self._stations:
            return
        if link.destination == BROADCAST and packet.frame.arp is not None:
            return  # some answer ARP to all (RFC 5227, 2.6)
        host, name = ip_text(source), mistakes.address(link.destination, claim.mac)
        says = f"{host} sends to {ip_text(destination)} at a link address that is not that host's"
        self._findings.add(
            "ethernet.destination", (link.source, destination), packet.number, says + (f": {name}" if name else ""),
            "RFC 826; RFC 1122, 2.3.2.1", f"{ip_text(destination)} said in packet {claim.number} where it is",
            host=host, found=mac_text(link.destination), expected=mac_text(claim.mac),
        )  # fmt: skip

    def _sender(self, packet: Packet, link: Ethernet, ip: Ip) -> None:
        """A host that has an address of its own by ARP and sends with that of another host on the same link.

        A router sends for others too; what it forwards comes with a time to live that nobody starts from.
        """
        claim = self._claims.get((link.tags, ip.source))
        if claim is None or claim.mac == link.source or not is_first_hop(packet):
            return
        own = self._owned.get((link.tags, link.source))
        if own is None or own == ip.source:
            return
        says = (
            f"{mac_text(link.source)}, which is {ip_text(own)} by ARP, sends from {ip_text(ip.source)}, "
            f"which {mac_text(claim.mac)} claims"
        )
        evidence = f"packet {claim.number} says that {ip_text(ip.source)} is at {mac_text(claim.mac)}"
        self._findings.add(
            "ip.source_of_another", (link.source, ip.source), packet.number, says, "RFC 1122, 3.2.1.3", evidence,
            host=ip_text(own), found=ip_text(ip.source), expected=ip_text(own),
        )  # fmt: skip

    # -------------------------------------------------- neighbour discovery

    def _names(self, packet: Packet, link: Ethernet, ip: Ip, icmp: Icmp) -> None:
        """Take up which link address a host has by neighbour discovery, and whether it names its own."""
        advertises = icmp.type == NEIGHBOR_ADVERTISEMENT
        address, named = icmp.target if advertises else ip.source, icmp.link_address
        if not named or not address or not any(address):
            return
        name = mistakes.address(named, link.source)
        if named != link.source and (name or not advertises or address == ip.source):
            found, expected, host = mac_text(named), mac_text(link.source), ip_text(address)
            if name:
                self._name_falsely(packet, named, "ndp.link_address")
            says = f"{host} names {found} as its link address in neighbour discovery, but sends from {expected}"
            self._findings.add(
                "ndp.link_address", (named, link.source), packet.number, says + (f": {name}" if name else ""),
                "RFC 4861, 4.6.1", host=host, found=found, expected=expected, dropped=bool(name),
            )  # fmt: skip
        if len(self._claims) < MAX_PENDING:
            self._claims[link.tags, address] = _Claim(named, packet.number, packet.at, link.source)
        if icmp.target and len(self._met) < MAX_PENDING:
            self._met.add((ip.source, ip.destination if advertises else icmp.target))

    def _discovery(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        if isinstance(packet.frame.link, Ethernet) and ROUTER_SOLICITATION <= icmp.type <= NEIGHBOR_ADVERTISEMENT:
            self._names(packet, packet.frame.link, ip, icmp)
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
            self.solicitations.heard((icmp.target, ip.destination), packet, self._findings)
