"""DHCP: what a client asks and what servers make of it (RFC 2131)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from rawtap.packets import dhcp, mistakes
from rawtap.packets.dhcp import ACK, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, Dhcp
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.headers import Ethernet, Ip
from rawtap.packets.lines import ip_text, mac_text
from rawtap.packets.transport import Udp

_GRACE = 3 * SECOND  # a client waits 4 s (RFC 2131, 4.1), and a server may try the address before it offers it
_COPIED = 10 * MILLISECOND  # a message within this may be a copy that the capture took at another place
_SERVER = "DHCP server"
OnLease = Callable[[bytes, bytes | None, bytes | None, int], None]
_XIDS = 32  # of one client that are kept
_OFFERS = 8
_REPLIES = {OFFER: (DISCOVER,), ACK: (REQUEST, INFORM, DISCOVER), NAK: (REQUEST,), None: (None,)}
# Options that mean nothing without a message type: a BOOTP client has no use for them (RFC 2132, 9).
_DHCP_ONLY = {dhcp.REQUESTED, dhcp.LEASE, dhcp.SERVER, 55, 61}
_NOWHERE = bytes(4)
_CLIENT = 68  # port
_BY_CLIENTS = {DISCOVER, REQUEST, DECLINE, RELEASE, INFORM}
_BY_SERVERS = {OFFER, ACK, NAK}
_SWAPPED_PORT = mistakes.swapped(67)


@dataclass(slots=True)
class _Offer:
    xid: int
    address: bytes
    server: bytes | None
    number: int
    at: int
    boots: str
    boot_file: bool


@dataclass(slots=True)
class _Client:
    """What a client has asked and was told, as far as it is kept."""

    xids: list[int] = field(default_factory=list)
    offers: list[_Offer] = field(default_factory=list)  # since its last request
    discovers: int = 0  # since the first of these offers
    last: int = 0  # the packet of the last message
    boots: str = ""
    acked: tuple[int, int, int] | None = None  # xid, packet, time of the last acknowledgment


class LeaseJudge:
    """`discovers` are what offers answer, `requests` what is acknowledged or refused, `bootp` what has no type.

    `on_offer` is told of each server and the address that it offers, `on_lease` of an address with its mask, its router
    and the packet that gives it.
    """

    def __init__(self, findings: Findings, on_offer: Callable[[bytes, bytes], None], on_lease: OnLease) -> None:
        self._findings = findings
        self._on_offer, self._on_lease = on_offer, on_lease
        self.discovers = Requests("DHCP", _GRACE, "dhcp.no_offer", "RFC 2131, 3.1")
        self.requests = Requests("DHCP", _GRACE, "dhcp.no_ack", "RFC 2131, 4.3.2")
        self.bootp = Requests("BOOTP", _GRACE, "bootp.no_reply", "RFC 951, 7")
        self._clients: dict[bytes, _Client] = {}
        # By a client's address that is nearly its card's: that, and what adds the finding.
        self._near: dict[bytes, tuple[bytes, Callable[[Findings], None]]] = {}
        self.passed = False

    def see(self, packet: Packet) -> None:
        message, ip, udp = packet.frame.application, packet.frame.ip, packet.frame.transport
        if ip is None:
            return
        if isinstance(udp, Udp) and udp.destination_port == _SWAPPED_PORT:
            self._swapped(packet, ip, udp)
            return
        if not isinstance(message, Dhcp):
            return
        self._format(packet, message)
        if message.message is None and message.stop is not None:
            return  # the type may be among what could not be read
        if message.message in (_BY_CLIENTS if message.operation == 2 else _BY_SERVERS):  # noqa: PLR2004 - BOOTREPLY
            self._exchanged(packet, message)
        elif message.operation == 1:
            self._from_client(packet, ip, message)
        elif message.operation == 2:  # noqa: PLR2004 - BOOTREPLY
            self._from_server(packet, ip, message)
        else:
            self._operation(packet, message)

    def _say(
        self, packet: Packet, what: str, client: Hashable, says: str, rule: str, evidence: str = "", *, host: str,
        found: object = "", expected: object = "", suspects: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self._findings.add(
            what, client, packet.number, says, rule, evidence, host=host, found=found, expected=expected,
            suspects=suspects,
        )  # fmt: skip

    # --------------------------------------------------------------- format

    def _format(self, packet: Packet, message: Dhcp) -> None:
        client, who, host = message.chaddr, _who(message), _sender(packet, message)
        if message.stop is not None:
            return
        if not message.cookie:
            if message.vendor:
                at = message.offset + 236
                found = packet.frame.data[at : at + 4]
                name = mistakes.address(found, bytes.fromhex("63825363"))
                says = f"{who}: the options do not start with the magic cookie" + (f": {name}" if name else "")
                self._say(
                    packet, "dhcp.no_cookie", client, says, "RFC 2131, 3", host=host, found=found.hex(),
                    expected="63825363",
                )  # fmt: skip
            return
        if message.message is None and _DHCP_ONLY.intersection(message.options):
            says = f"{who}: DHCP options, but no message type"
            evidence = f"options {', '.join(map(str, message.options[:20]))}, expected 53 among them"
            self._say(packet, "dhcp.no_message_type", client, says, "RFC 2131, 3; RFC 2132, 9.6", evidence, host=host)
        if not message.ended:
            says = f"{who}: the options do not end with the end option"
            evidence = f"option 255 is not among the {len(message.options)} options"
            self._say(packet, "dhcp.no_end", client, says, "RFC 2131, 4.1", evidence, host=host)

    def _operation(self, packet: Packet, message: Dhcp) -> None:
        says = f"{_who(message)}: the operation is neither a request (1) nor a reply (2)"
        self._say(
            packet, "dhcp.operation", message.chaddr, says, "RFC 2131, 2 (op)", host=_sender(packet, message),
            found=message.operation, expected="1 or 2",
        )  # fmt: skip

    def _exchanged(self, packet: Packet, message: Dhcp) -> None:
        """A client's message with the operation of a reply, or a server's with that of a request."""
        found, expected = message.operation, 3 - message.operation
        host, link = mac_text(message.chaddr), packet.frame.link
        for kind in _REPLIES.get(message.message, ()):
            self._of(kind).refuse((message.chaddr, message.xid, kind))
        if expected != 1 and isinstance(link, Ethernet):
            host = mac_text(link.source)
        says = f"{host} sends a DHCP {message.name} with the operation of a {'reply' if found == 2 else 'request'}"  # noqa: PLR2004
        self._say(
            packet, "dhcp.operation", message.chaddr, says, "RFC 2131, 2 (op)", host=host, found=found,
            expected=expected,
        )  # fmt: skip

    def _hardware(self, packet: Packet, message: Dhcp) -> None:
        """The type and the length of a client's address on Ethernet (RFC 2131, 2; the type by RFC 1700)."""
        link, found = packet.frame.link, message.hardware
        if not isinstance(link, Ethernet) or found[0] not in {1, 6} or found[1] == len(link.source):
            return
        host = mac_text(link.source) if message.giaddr == _NOWHERE else _sender(packet, message)
        says = f"{host} names a hardware address of {found[1]} bytes"
        says = mistakes.told(says, "type and length are exchanged" if found == (6, 1) else "")
        self._say(
            packet, "dhcp.hardware_length", host, says, "RFC 2131, 2 (htype, hlen)", host=host,
            found=f"type {found[0]}, length {found[1]}", expected="type 1, length 6",
        )  # fmt: skip

    def _ports(self, packet: Packet, message: Dhcp) -> None:
        udp, host = packet.frame.transport, mac_text(message.chaddr)
        if isinstance(udp, Udp) and udp.destination_port == _CLIENT:
            says = f"{host} sends a DHCP {message.name} to the port of a client: the ports are exchanged"
            self._say(
                packet, "dhcp.port", host, says, "RFC 2131, 4.1", host=host,
                found=f"port {udp.source_port} to {udp.destination_port}", expected="port 68 to 67",
            )  # fmt: skip

    def _swapped(self, packet: Packet, ip: Ip, udp: Udp) -> None:
        """A request to the port that 67 becomes with its bytes swapped."""
        data, at = packet.frame.data, udp.payload
        if data[at : at + 1] == b"\1" and data[at + 236 : at + 240] == bytes.fromhex("63825363"):
            client = mac_text(data[at + 28 : at + 34])
            says = f"{client} sends {ip_text(ip.destination)} a DHCP message at a port that is none of DHCP"
            self._say(
                packet, "dhcp.port", client, f"{says}: {mistakes.SWAPPED}", "RFC 2131, 4.1", host=client,
                found=f"port {_SWAPPED_PORT}", expected="port 67",
            )  # fmt: skip

    # -------------------------------------------------------------- clients

    def _from_client(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        address = message.chaddr
        self._hardware(packet, message)
        self._ports(packet, message)
        self._source(packet, ip, message)
        if address not in self._clients and len(self._clients) >= MAX_PENDING:
            self.passed = True
            return
        client = self._clients.setdefault(address, _Client())
        if message.message == DECLINE:
            self._declines(packet, message, client)
        if message.message not in {DISCOVER, REQUEST, INFORM, None}:
            return
        if message.xid not in client.xids:
            client.xids.append(message.xid)
            del client.xids[:-_XIDS]
        self._after_ack(packet, message, client)
        if message.message == REQUEST:
            self._requests(packet, message, client)
        elif message.message == DISCOVER:
            client.boots = message.boots or client.boots
            client.discovers += any(packet.at - each.at > _COPIED for each in client.offers)
        client.last = packet.number
        name = message.name if message.message is None else f"DHCP {message.name}"
        says = f"{mac_text(address)} sends a {name}, and no server answers"
        key = (address, message.xid, message.message)
        numbers = f"xid 0x{message.xid:08x} {message.name}"
        self._of(message.message).ask(key, (mac_text(address), _SERVER), packet, says, numbers)

    def _source(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        """A client that has no address yet uses none (RFC 2131, 4.1); a relay uses its own."""
        if message.giaddr != _NOWHERE or message.message not in {DISCOVER, REQUEST} or ip.version != 4:  # noqa: PLR2004
            return
        host, link = mac_text(message.chaddr), packet.frame.link
        if ip.source not in {_NOWHERE, message.ciaddr}:
            says = f"{host} sends a DHCP {message.name} from {ip_text(ip.source)}"
            evidence = f"source {ip_text(ip.source)}, expected 0.0.0.0 (ciaddr is {ip_text(message.ciaddr)})"
            self._say(
                packet, "dhcp.source_address", message.chaddr, says, "RFC 2131, 4.1", evidence, host=host,
                found=ip_text(ip.source), expected="0.0.0.0",  # noqa: S104
            )  # fmt: skip
        name = mistakes.address(message.chaddr, link.source) if isinstance(link, Ethernet) else ""
        if isinstance(link, Ethernet) and name:
            sender = mac_text(link.source)
            says = f"{sender} names another hardware address for itself in its DHCP {message.name}: {name}"

            def add(findings: Findings) -> None:
                findings.add(
                    "dhcp.hardware_address", link.source, packet.number, says, "RFC 2131, 2 (chaddr)", host=sender,
                    found=host, expected=sender,
                )  # fmt: skip

            # A repeater's own address may differ from its client's by a byte: then the client has an answer.
            if not name.startswith("only"):
                add(self._findings)
            elif len(self._near) < MAX_PENDING:
                self._near.setdefault(message.chaddr, (link.source, add))

    def _of(self, kind: int | None) -> Requests:
        return self.bootp if kind is None else self.discovers if kind == DISCOVER else self.requests

    def _requests(self, packet: Packet, message: Dhcp, client: _Client) -> None:
        """A client takes an offer: with the offer's number, its address and its server (RFC 2131, 4.3.2 and 4.4.1)."""
        if client.offers and message.server is None and message.xid == client.offers[-1].xid:
            offer = client.offers[-1]
            self._lacks(packet, message, offer, offer.server or _NOWHERE, "server identifier (option 54)")
        elif client.offers and message.server is not None:
            offer = next((each for each in client.offers if each.server == message.server), client.offers[-1])
            requested, server = message.requested or offer.address, offer.server or message.server
            if message.requested is None and dhcp.REQUESTED not in message.options:
                mistake = "it is in ciaddr" if message.ciaddr == offer.address else ""
                self._lacks(packet, message, offer, offer.address, "requested address (option 50)", mistake)
            if message.xid not in {each.xid for each in client.offers}:
                numbers = (f"0x{message.xid:08x}", f"0x{offer.xid:08x}")
                name = mistakes.number(message.xid, offer.xid, 4)
                self._differs(packet, message, offer, "dhcp.request_xid", "transaction number", *numbers, name)
            for what, text, found, expected in (
                ("dhcp.request_address", "requested address", requested, offer.address),
                ("dhcp.request_server", "server identifier", message.server, server),
            ):
                if found != expected:
                    name = mistakes.address(found, expected)
                    self._differs(packet, message, offer, what, text, ip_text(found), ip_text(expected), name)
        client.offers, client.discovers = [], 0

    def _lacks(
        self, packet: Packet, message: Dhcp, offer: _Offer, expected: bytes, text: str, mistake: str = ""
    ) -> None:
        """A request that takes an offer without saying so."""
        host = mac_text(message.chaddr)
        says = mistakes.told(f"{host} requests what it was offered without the {text}", mistake)
        evidence = f"options {', '.join(map(str, message.options[:20]))}; packet {offer.number} is the offer"
        self._say(
            packet, "dhcp.request_lacks", (host, text), says, "RFC 2131, 4.3.2 and 4.4.1 (table 5)", evidence,
            host=host, found="none", expected=ip_text(expected),
        )  # fmt: skip

    def _differs(
        self, packet: Packet, message: Dhcp, offer: _Offer, what: str, text: str, found: str, expected: str, name: str
    ) -> None:
        host = mac_text(message.chaddr)
        says = f"{host} requests what it was offered with another {text} than the offer's"
        says += f": {name}" if name else ""
        evidence = f"found {found}, expected {expected} as in packet {offer.number}"
        rule = "RFC 2131, 4.4.1 (table 5)"
        self._say(packet, what, host, says, rule, evidence, host=host, found=found, expected=expected)

    def _after_ack(self, packet: Packet, message: Dhcp, client: _Client) -> None:
        """A client that asks with the same number for what it was acknowledged has not believed it."""
        acked = client.acked
        if acked is None or acked[0] != message.xid or packet.at - acked[2] <= _COPIED:
            return
        if message.message == REQUEST and any(message.ciaddr):
            return  # it renews, with the number that it had
        host = mac_text(message.chaddr)
        says = f"{host} sends its DHCP {message.name} again, though it was acknowledged"
        evidence = f"packet {acked[1]} acknowledges xid 0x{message.xid:08x}, packet {packet.number} asks with it again"
        self._say(packet, "dhcp.ack_ignored", host, says, "RFC 2131, 4.4.1", evidence, host=host, suspects=(acked[1],))

    def _declines(self, packet: Packet, message: Dhcp, client: _Client) -> None:
        host, address = mac_text(message.chaddr), ip_text(message.requested or _NOWHERE)
        says = f"{host} declines {address}, which it was given: it takes it to be in use"
        suspects = (client.acked[1],) if client.acked else ()
        self._say(packet, "dhcp.decline", host, says, "RFC 2131, 3.1 (5)", "DHCPDECLINE", host=host, suspects=suspects)

    # -------------------------------------------------------------- servers

    def _from_server(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        address, server = message.chaddr, ip_text(ip.source)
        if message.message == NAK:
            says = f"The DHCP server {server} refuses {mac_text(address)} what it requests"
            client = self._clients.get(address)
            self._say(
                packet, "dhcp.nak", address, says, "RFC 2131, 4.3.2", f"DHCPNAK, xid 0x{message.xid:08x}", host=server,
                suspects=(client.last,) if client else (),
            )  # fmt: skip
        self._complete(packet, ip, message)
        if message.message == OFFER and any(message.yiaddr):
            self._on_offer(ip.source, message.yiaddr)
        answered = [self._answer(packet, message, kind) for kind in _REPLIES.get(message.message, ())]
        if not any(answered) and message.message in _REPLIES:
            self._mismatch(packet, server, message)

    def _complete(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        """What an offer or an acknowledgment must have (RFC 2131, table 3)."""
        server, options = ip_text(ip.source), f"options {', '.join(map(str, message.options[:20]))}"
        if message.stop is not None:
            return
        if message.message in {OFFER, ACK, NAK} and message.server is None:
            says = f"The DHCP server {server} sends a {message.name} without its server identifier"
            self._say(packet, "dhcp.no_server_identifier", ip.source, says, "RFC 2131, 4.3.1", options, host=server)
        # Without an address it is of a server that only tells where to boot from (PXE): there is nothing to lease.
        if message.message == OFFER and message.lease is None and any(message.yiaddr):
            says = f"The DHCP server {server} offers an address without a lease time"
            self._say(packet, "dhcp.no_lease_time", ip.source, says, "RFC 2131, 4.3.1", options, host=server)

    def _answer(self, packet: Packet, message: Dhcp, kind: int | None) -> bool:
        address = message.chaddr
        key = (address, message.xid, kind)
        known = key in self._of(kind).pending
        request = self._of(kind).heard(key, packet, self._findings)
        client = self._clients.get(address)
        if client is None or request is None:
            return known
        if message.message == OFFER and any(message.yiaddr) and len(client.offers) < _OFFERS:
            offer = _Offer(
                message.xid, message.yiaddr, message.server, packet.number, packet.at, message.boots,
                boot_file=message.boot_file,
            )  # fmt: skip
            client.offers.append(offer)
        elif message.message == ACK and kind == REQUEST:
            self._on_lease(message.yiaddr, message.mask, message.router, packet.number)
            client.acked = (message.xid, packet.number, packet.at)
        return True

    def _mismatch(self, packet: Packet, server: str, message: Dhcp) -> None:
        """An answer to nobody's question: with another number, or for another client than has asked with it."""
        address = message.chaddr
        client = self._clients.get(address)
        if client is not None:
            if client.xids and message.xid not in client.xids:
                wanted = client.xids[-1]
                name = mistakes.number(message.xid, wanted, 4)
                says = f"The DHCP server {server} answers {mac_text(address)} with a transaction number it did not use"
                self._instead(
                    packet, address, wanted, "dhcp.xid_mismatch", says + (f": {name}" if name else ""),
                    "RFC 2131, 4.4.1", server, f"xid 0x{message.xid:08x}", f"xid 0x{wanted:08x}",
                )  # fmt: skip
            return
        asker = next((each for each, known in self._clients.items() if message.xid in known.xids), None)
        if asker is not None:
            name = mistakes.address(address, asker)
            says = f"The DHCP server {server} answers {mac_text(asker)}'s question for another client"
            self._instead(
                packet, asker, message.xid, "dhcp.other_client", says + (f": {name}" if name else ""),
                "RFC 2131, 4.3.1", server, f"chaddr {mac_text(address)}", f"chaddr {mac_text(asker)}",
            )  # fmt: skip

    def _instead(
        self, packet: Packet, address: bytes, xid: int, what: str, says: str, rule: str, server: str, found: str,
        expected: str,
    ) -> None:  # fmt: skip
        """What came in place of the answer to a client's question."""

        def instead(findings: Findings) -> None:
            findings.add(what, address, packet.number, says, rule, host=server, found=found, expected=expected)

        for kind in (DISCOVER, REQUEST, INFORM, None):
            self._of(kind).mistaken((address, xid, kind), instead)

    # ------------------------------------------------------------------ end

    def settle(self, until: int, findings: Findings, *, is_blind: bool) -> None:
        """Report offers that were never taken; `is_blind` tells that answers to single hosts are not seen here."""
        near = {}
        for address, (link, add) in self._near.items() if not is_blind else ():
            if address in self._clients and self._clients[address].acked is None:
                near[address] = ("dhcp.hardware_address", link)
                add(findings)
        for address, client in self._clients.items():
            if not client.offers or until - client.offers[-1].at < _GRACE:
                continue
            first, host = client.offers[0], mac_text(address)
            says = f"{host} is offered {ip_text(first.address)} and never requests it"
            missed = _missed(client)
            if missed:
                says, host = says + missed[0], ip_text(first.server) if first.server else host
            asked = f", and asks {client.discovers} times more" if client.discovers else ""
            findings.add(
                "dhcp.offer_not_taken", address, first.number, says, "RFC 2131, 3.1 (3)",
                f"{len(client.offers)} offers{asked}, no request to the end of the capture", host=host,
                again=[each.number for each in client.offers[1:]], count=len(client.offers),
                suspects=[each.number for each in client.offers], absence=True, follows=near.get(address),
                found="no bootfile" if missed else "", expected=missed[1] if missed else "",
            )  # fmt: skip


def _missed(client: _Client) -> tuple[str, str] | None:
    """What a client that wants to boot from the network finds in no offer, in words, and what it would take; None
    where it finds it (PXE 2.1, 2.2.1; RFC 2132, 9.5; UEFI 2.10, 24.7.4)."""
    if client.boots == dhcp.PXE and not any(each.boot_file for each in client.offers):
        says = (
            ": the client ignores offers without a bootfile (a PXE client by option 60; no offer names a file to boot)"
        )
        return says, "a file to boot, in option 67 or in the field `file`"
    if client.boots == dhcp.HTTP and not any(each.boot_file and each.boots == dhcp.HTTP for each in client.offers):
        says = ": the client ignores offers without a bootfile (HTTPClient by option 60; no offer has that and a URL)"
        return says, "option 60 HTTPClient, and a URL in option 67 or in the field `file`"
    return None


def _who(message: Dhcp) -> str:
    side = "The DHCP server's message to" if message.operation == 2 else "The DHCP message of"  # noqa: PLR2004
    return f"{side} {mac_text(message.chaddr)}"


def _sender(packet: Packet, message: Dhcp) -> str:
    ip = packet.frame.ip
    return ip_text(ip.source) if ip and message.operation == 2 else mac_text(message.chaddr)  # noqa: PLR2004
