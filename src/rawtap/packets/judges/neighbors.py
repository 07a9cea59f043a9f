# cython: annotation_typing=False, nonecheck=True
"""ARP and neighbour discovery: who has which address, and whether the owner answers."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple, cast

from rawtap.packets import mistakes
from rawtap.packets.bounds import Stop
from rawtap.packets.carriers import Station
from rawtap.packets.dhcp import Dhcp
from rawtap.packets.exchanges import Requests, is_first_hop
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import ARP, BROADCAST, Arp, Cooked, Ethernet, Ip
from rawtap.packets.judges.frames import arp_is_for_address
from rawtap.packets.lines import ip_text, mac_text
from rawtap.packets.transport import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, ROUTER_SOLICITATION, Icmp

_PROBING = 3 * SECOND  # from a probe on: the next follows in 1 to 2 s, and an announcement 2 s after the last
_LOOPBACK = 127
_GROUP6 = 0xFF
_SOLICITED = bytes.fromhex("ff0200000000000000000001ff")  # of an address's group, before its last 3 bytes
_SOLICITED_FLAG = 0x4000
_TYPE = f"0x{ARP:04x}"
_TO_GROUP = (1, 0)  # what is kept of a solicitation that went to a group
_OPEN = 16  # requests that a wrong reply is compared with


_Tags = tuple[int, ...]
_Pair = tuple[bytes, bytes]


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


def _was_meant_for_arp(stop: Stop) -> bool:
    return stop.what in {"arp.kind_swapped", "arp.lengths"} or (stop.what == "ethernet.type" and stop.expected == _TYPE)


def _in_network(address: bytes, own: bytes, mask: bytes) -> bool:
    return all((one ^ other) & bits == 0 for one, other, bits in zip(address, own, mask, strict=True))


def _is_private(address: bytes) -> bool:
    """RFC 1918, 3, and link-local addresses (RFC 3927)."""
    return (
        address[0] == 10 or (address[0] == 172 and 16 <= address[1] < 32) or address[:2] in {b"\xc0\xa8", b"\xa9\xfe"}
    )


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


def _is_to_many(link: Ethernet | Cooked | Station) -> bool:
    """Whether its destination is a group. A cooked header says so of what was received (packet(7), sll_pkttype)."""
    if isinstance(link, Cooked):
        return link.packet_type in {1, 2}
    return bool(link.destination) and bool(link.destination[0] & 1)


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
        self._networks: dict[bytes, tuple[bytes, bytes | None, int]] = {}  # by address: mask, router, packet
        self._met: set[tuple[bytes, bytes]] = set()  # IP addresses that ARP says to be on one link
        self._to_one = 0  # frames that were for one host
        self.passed = False

    def see(self, packet: Packet) -> None:
        frame, ip, link = packet.frame, packet.frame.ip, packet.frame.link
        if link is not None and len(self._stations) < MAX_PENDING:
            self._stations.add(link.address if isinstance(link, Cooked) else link.source)
            self._to_one += not _is_to_many(link)
        if frame.arp is not None:
            self._arp(packet, frame.arp)
        elif frame.stop is not None and isinstance(link, Ethernet) and _was_meant_for_arp(frame.stop):
            self._unread_answer(packet, link)
        elif ip is not None:
            if isinstance(link, Ethernet) and not frame.carriers:  # in these the link has no part of its own
                if ip.version == 4:
                    self._sender(packet, link, ip)
                self._destination(packet, link, ip)
            if ip.version == 6 and isinstance(frame.transport, Icmp):
                self._discovery(packet, ip, frame.transport)

    def offered(self, server: bytes, address: bytes) -> None:
        """A DHCP server offers an address: that nobody answered for it is as it should be (RFC 2131, 3.1)."""
        self.requests.refuse((address, server))

    def link_of(self, host: str) -> str:
        """The link address that an IP address has, "" where that is not known; both as text."""
        return next((mac_text(claim.mac) for (_, each), claim in self._claims.items() if ip_text(each) == host), "")

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
            self._elsewhere(packet, arp)

    def leased(self, address: bytes, mask: bytes | None, router: bytes | None, number: int) -> None:
        """A DHCP server gives an address of this network, in packet `number`."""
        if mask is not None and len(self._networks) < MAX_PENDING:
            self._networks[address] = (mask, router, number)

    def _elsewhere(self, packet: Packet, arp: Arp) -> None:
        """A host is asked for that can't be on this link, which explains that nobody answers."""
        own, target = arp.sender_ip, arp.target_ip
        network = self._networks.get(own)
        meant = target[::-1]
        if network is not None and _in_network(target, own, network[0]):
            return
        if meant[:2] == own[:2] != target[:2]:
            self._never_there(packet, arp, "arp.target", "its bytes are in reversed order", ip_text(meant), "RFC 826")
        elif network is not None:
            mask, router, number = network
            text = f"it is not in the network that packet {number} gives (mask {ip_text(mask)})"
            expected = f"the router {ip_text(router)}" if router else "a router"
            self._never_there(packet, arp, "arp.off_link", text, expected, "RFC 1122, 3.3.1.1")
        elif _is_private(own) and target[0] != own[0] and not _is_private(target):
            text = "a private address has no such neighbour, a router is to be asked for"
            self._never_there(packet, arp, "arp.off_link", text, "a router", "RFC 1122, 3.3.1.1; RFC 1918, 3")

    def _never_there(self, packet: Packet, arp: Arp, what: str, text: str, expected: str, rule: str) -> None:
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        says = f"{sender} asks by ARP for {target}, and nobody answers: {text}"
        parties, number = (arp.sender_ip, arp.target_ip), packet.number
        self.requests.mistaken(
            (arp.target_ip, arp.sender_ip),
            lambda findings: findings.add(
                what, parties, number, says, rule, host=sender, found=target, expected=expected,
            ),
        )  # fmt: skip

    def _operation(self, packet: Packet, arp: Arp) -> None:
        sender, meant = ip_text(arp.sender_ip), mistakes.swapped(arp.operation)
        says = f"{sender} sends ARP with an operation that there is none of: {mistakes.SWAPPED}"
        self._findings.add(
            "arp.operation", arp.sender_mac, packet.number, says, "RFC 826 (Packet format)", host=sender,
            found=arp.operation, expected=meant,
        )  # fmt: skip
        if meant == 2:
            self.requests.refuse((arp.sender_ip, arp.target_ip))

    def _unread_answer(self, packet: Packet, link: Ethernet) -> None:
        """ARP that nobody reads, for one who waits for an answer: what is wrong with it is told."""
        for key, request in list(self.requests.pending.items())[-_OPEN:]:
            if request.link == link.destination and packet.at - request.last <= SECOND:
                self.requests.refuse(key)

    def _reply(self, packet: Packet, arp: Arp) -> None:
        sender, target = ip_text(arp.sender_ip), ip_text(arp.target_ip)
        asker = self._claims.get((_tags(packet), arp.target_ip))
        waits, link = (arp.sender_ip, arp.target_ip) in self.requests.pending, packet.frame.link
        is_exchanged = isinstance(link, Ethernet) and (arp.sender_mac, arp.target_mac) == (
            link.destination,
            link.source,
        )
        if asker is not None and arp.target_mac != asker.mac and waits and not is_exchanged:
            name = mistakes.address(arp.target_mac, asker.mac)
            says = f"{sender} answers {target} with another target hardware address than asked"
            found, expected = mac_text(arp.target_mac), mac_text(asker.mac)
            self._findings.add(
                "arp.target_mismatch", (sender, target), packet.number, says + (f": {name}" if name else ""),
                "RFC 826 (Packet Reception)", f"{found}, expected {expected} as in packet {asker.number}", host=sender,
                found=found, expected=expected, dropped=False,
            )  # fmt: skip
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
            asked, waiting = cast("_Pair", key)
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
            if (arp.sender_mac, arp.target_mac) == (link.destination, link.source):
                name = "sender and target hardware addresses are exchanged"
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
            if claim is not None and mistakes.address(link.destination, claim.mac):
                self._astray(packet, link, ip.source, ip.destination)  # the host's own, garbled: a group's by chance
                return
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
            host=ip_text(own), found=ip_text(ip.source), expected=ip_text(own), hides=True,
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
            self._solicits(packet, ip, icmp, icmp.target)
        elif icmp.type == NEIGHBOR_ADVERTISEMENT:
            self._advertises(packet, ip, icmp, icmp.target)

    def _solicits(self, packet: Packet, ip: Ip, icmp: Icmp, target: bytes) -> None:
        """A solicitation to a group goes to that of its target, and says where its sender is (RFC 4861, 4.3)."""
        if ip.destination[0] != _GROUP6:
            return
        request = self.solicitations.pending.get((target, ip.source))
        if request is not None:
            request.content = _TO_GROUP
        host, group = ip_text(ip.source), _SOLICITED + target[13:]
        if ip.destination != group:
            says = f"{host} asks for {ip_text(target)} at a group that is not its target's"
            name = mistakes.address(ip.destination, group)
            self._findings.add(
                "ndp.group", (ip.source, ip.destination), packet.number, mistakes.told(says, name),
                "RFC 4861, 4.3; RFC 4291, 2.7.1", host=host, found=ip_text(ip.destination), expected=ip_text(group),
                dropped=ip.destination[:13] == _SOLICITED,
            )  # fmt: skip
        if icmp.link_address is None and isinstance(packet.frame.link, Ethernet):
            self._no_link_address(packet, host, f"asks a group for {ip_text(target)}", "4.3", "option 1")

    def _advertises(self, packet: Packet, ip: Ip, icmp: Icmp, target: bytes) -> None:
        """An advertisement answers whoever asks for its target; to one that asked a group it says where the target is
        (RFC 4861, 4.4 and 7.2.4)."""
        pending = self.solicitations.pending
        if ip.destination[0] == _GROUP6:  # for all
            for key in [each for each in list(pending)[-_OPEN:] if cast("_Pair", each)[0] == target]:
                self.solicitations.heard(key, packet, self._findings)
            return
        request, host = pending.get((target, ip.destination)), ip_text(ip.source)
        if request is None:
            self._other_target(packet, ip, target)
            return
        asker = request.pair[0]
        if icmp.link_address is None and request.content == _TO_GROUP and isinstance(packet.frame.link, Ethernet):
            self._no_link_address(packet, host, f"answers {asker}, which asked a group", "4.4", "option 2")
        if not icmp.identifier & _SOLICITED_FLAG:
            says = f"{host} answers {asker} with an advertisement that does not say that it was asked for"
            self._findings.add(
                "ndp.not_solicited", (ip.source, ip.destination), packet.number, says, "RFC 4861, 4.4 and 7.2.4",
                host=host, found="S 0", expected="S 1", dropped=False,
            )  # fmt: skip
        self.solicitations.heard((target, ip.destination), packet, self._findings)

    def _no_link_address(self, packet: Packet, host: str, text: str, section: str, expected: str) -> None:
        if not self._findings.drops(packet.number):
            self._findings.add(
                "ndp.no_link_address", (host, section), packet.number, f"{host} {text}, and does not say where it is",
                f"RFC 4861, {section}", host=host, found="no link-layer address", expected=expected,
            )  # fmt: skip

    def _other_target(self, packet: Packet, ip: Ip, target: bytes) -> None:
        """An advertisement to one that asks for its sender, and for no such target."""
        key = (ip.source, ip.destination)
        request = self.solicitations.pending.get(key)
        if request is None:
            return
        asker, asked = request.pair
        found, number = ip_text(target), packet.number
        says = f"{asked} answers {asker} with the advertisement of another address"
        says = mistakes.told(says, mistakes.address(target, ip.source))
        self.solicitations.mistaken(
            key,
            lambda findings: findings.add(
                "ndp.other_target", key, number, says, "RFC 4861, 7.2.4", host=asked, found=found, expected=asked
            ),
        )
