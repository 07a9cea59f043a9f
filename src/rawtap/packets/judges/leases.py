"""DHCP: what a client asks and what servers make of it (RFC 2131)."""

from __future__ import annotations

from collections.abc import Callable

from rawtap.packets import dhcp
from rawtap.packets.dhcp import ACK, DISCOVER, INFORM, NAK, OFFER, REQUEST, Dhcp
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.lines import ip_text, mac_text

_GRACE = 3 * SECOND  # a client waits 4 s (RFC 2131, 4.1), and a server may try the address before it offers it
_SERVER = "DHCP server"
_XIDS = 32  # of one client that are kept
_REPLIES = {OFFER: (DISCOVER,), ACK: (REQUEST, INFORM, DISCOVER), NAK: (REQUEST,), None: (None,)}
# Options that mean nothing without a message type: a BOOTP client has no use for them (RFC 2132, 9).
_DHCP_ONLY = {dhcp.REQUESTED, dhcp.LEASE, dhcp.SERVER, 55, 61}
_NOWHERE = bytes(4)


class LeaseJudge:
    """`discovers` are what offers answer, `requests` what is acknowledged or refused, `bootp` what has no type.

    `on_offer` is told of each server and the address that it offers.
    """

    def __init__(self, findings: Findings, on_offer: Callable[[bytes, bytes], None]) -> None:
        self._findings = findings
        self._on_offer = on_offer
        self.discovers = Requests("DHCP", _GRACE, "dhcp.no_offer", "RFC 2131, 3.1")
        self.requests = Requests("DHCP", _GRACE, "dhcp.no_ack", "RFC 2131, 4.3.2")
        self.bootp = Requests("BOOTP", _GRACE, "bootp.no_reply", "RFC 951, 7")
        self._xids: dict[bytes, list[int]] = {}  # by client
        self.passed = False

    def see(self, packet: Packet) -> None:
        message, ip = packet.frame.application, packet.frame.ip
        if not isinstance(message, Dhcp) or ip is None:
            return
        self._format(packet, message)
        if message.message is None and message.stop is not None:
            return  # the type may be among what could not be read
        if message.operation == 1:
            self._from_client(packet, ip, message)
        elif message.operation == 2:  # noqa: PLR2004 - BOOTREPLY
            self._from_server(packet, ip, message)

    def _say(self, packet: Packet, what: str, client: bytes, says: str, rule: str, evidence: str) -> None:
        self._findings.add(what, client, packet.number, says, rule, evidence)

    def _format(self, packet: Packet, message: Dhcp) -> None:
        client, who = message.chaddr, _who(message)
        if message.stop is not None:
            return
        if not message.cookie:
            if message.vendor:
                says = f"{who}: the options do not start with the magic cookie"
                at = message.offset + 236
                evidence = f"found {packet.frame.data[at : at + 4].hex()}, expected 63825363"
                self._say(packet, "dhcp.no_cookie", client, says, "RFC 2131, 3", evidence)
            return
        if message.message is None and _DHCP_ONLY.intersection(message.options):
            says = f"{who}: DHCP options, but no message type"
            evidence = f"options {', '.join(map(str, message.options[:20]))}, expected 53 among them"
            self._say(packet, "dhcp.no_message_type", client, says, "RFC 2131, 3; RFC 2132, 9.6", evidence)
        if not message.ended:
            says = f"{who}: the options do not end with the end option"
            evidence = f"option 255 is not among the {len(message.options)} options"
            self._say(packet, "dhcp.no_end", client, says, "RFC 2131, 4.1", evidence)

    # -------------------------------------------------------------- clients

    def _from_client(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        client = message.chaddr
        self._source(packet, ip, message)
        if message.message not in {DISCOVER, REQUEST, INFORM, None}:
            return
        if client not in self._xids and len(self._xids) >= MAX_PENDING:
            self.passed = True
            return
        xids = self._xids.setdefault(client, [])
        if message.xid not in xids:
            xids.append(message.xid)
            del xids[:-_XIDS]
        name = message.name if message.message is None else f"DHCP {message.name}"
        says = f"{mac_text(client)} sends a {name}, and no server answers"
        self._of(message.message).ask((client, message.xid, message.message), (mac_text(client), _SERVER), packet, says)

    def _source(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        """A client that has no address yet uses none (RFC 2131, 4.1); a relay uses its own."""
        if message.giaddr != _NOWHERE or message.message not in {DISCOVER, REQUEST} or ip.version != 4:  # noqa: PLR2004
            return
        if ip.source not in {_NOWHERE, message.ciaddr}:
            says = f"{mac_text(message.chaddr)} sends a DHCP {message.name} from {ip_text(ip.source)}"
            evidence = f"source {ip_text(ip.source)}, expected 0.0.0.0 (ciaddr is {ip_text(message.ciaddr)})"
            self._say(packet, "dhcp.source_address", message.chaddr, says, "RFC 2131, 4.1", evidence)

    def _of(self, kind: int | None) -> Requests:
        return self.bootp if kind is None else self.discovers if kind == DISCOVER else self.requests

    # -------------------------------------------------------------- servers

    def _from_server(self, packet: Packet, ip: Ip, message: Dhcp) -> None:
        client, server = message.chaddr, ip_text(ip.source)
        if message.message == NAK:
            says = f"The DHCP server {server} refuses {mac_text(client)} what it requests"
            self._say(packet, "dhcp.nak", client, says, "RFC 2131, 4.3.2", f"DHCPNAK, xid 0x{message.xid:08x}")
        if message.message in {OFFER, ACK, NAK} and message.server is None and message.stop is None:
            says = f"The DHCP server {server} sends a {message.name} without its server identifier"
            options = ", ".join(map(str, message.options[:20]))
            self._say(packet, "dhcp.no_server_identifier", ip.source, says, "RFC 2131, 4.3.1", f"options {options}")
        # Without an address it is of a server that only tells where to boot from (PXE): there is nothing to lease.
        if message.message == OFFER and message.lease is None and message.stop is None and any(message.yiaddr):
            says = f"The DHCP server {server} offers an address without a lease time"
            options = ", ".join(map(str, message.options[:20]))
            self._say(packet, "dhcp.no_lease_time", ip.source, says, "RFC 2131, 4.3.1", f"options {options}")
        if message.message == OFFER and any(message.yiaddr):
            self._on_offer(ip.source, message.yiaddr)
        answered = [self._answer(packet, message, kind) for kind in _REPLIES.get(message.message, ())]
        if not any(answered) and message.message in _REPLIES:
            self._mismatch(packet, server, message)

    def _answer(self, packet: Packet, message: Dhcp, kind: int | None) -> bool:
        return self._of(kind).answer((message.chaddr, message.xid, kind), packet.at) is not None

    def _mismatch(self, packet: Packet, server: str, message: Dhcp) -> None:
        """An answer to nobody's question: with another number, or for another client than has asked with it."""
        client = message.chaddr
        xids = self._xids.get(client)
        if xids is not None:
            if message.xid not in xids:
                says = f"The DHCP server {server} answers {mac_text(client)} with a transaction number it did not use"
                evidence = f"xid 0x{message.xid:08x}, expected 0x{xids[-1]:08x}"
                self._say(packet, "dhcp.xid_mismatch", client, says, "RFC 2131, 4.4.1", evidence)
            return
        asker = next((each for each, used in self._xids.items() if message.xid in used), None)
        if asker is not None and packet.frame.ip is not None:
            says = f"The DHCP server {server} answers {mac_text(asker)}'s question for another client"
            evidence = f"xid 0x{message.xid:08x}, chaddr {mac_text(client)}, expected {mac_text(asker)}"
            self._say(packet, "dhcp.other_client", asker, says, "RFC 2131, 4.3.1", evidence)


def _who(message: Dhcp) -> str:
    side = "The DHCP server's message to" if message.operation == 2 else "The DHCP message of"  # noqa: PLR2004
    return f"{side} {mac_text(message.chaddr)}"
