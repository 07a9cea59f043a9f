"""ICMP: echo requests and their replies, and what errors tell."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import Ethernet, Ip
from rawtap.packets.lines import icmp_name, ip_text, quoted_text
from rawtap.packets.transport import ICMP, ICMP6, Icmp, Quoted

_RULES = {
    (4, 3): "RFC 792 (Destination Unreachable); RFC 1122, 3.2.2.1",
    (4, 11): "RFC 792 (Time Exceeded); RFC 1122, 3.2.2.4",
    (4, 12): "RFC 792 (Parameter Problem); RFC 1122, 3.2.2.5",
    (6, 1): "RFC 4443, 3.1",
    (6, 3): "RFC 4443, 3.3",
    (6, 4): "RFC 4443, 3.4",
}
_CODES = {3: "unreachable", 11: "time_exceeded", 12: "parameter_problem"}
_CODES6 = {1: "unreachable", 3: "time_exceeded", 4: "parameter_problem"}
_TOO_BIG = 4  # the code of path MTU discovery at work, which is no defect
_ECHO_RULE = "RFC 1122, 3.2.2.6; RFC 4443, 4.2"


class EchoJudge:
    """`on_error` is told of each packet that an ICMP error is about: its request is refused, not unanswered."""

    def __init__(self, findings: Findings, on_error: Callable[[Quoted], None]) -> None:
        self._findings = findings
        self._on_error = on_error
        self.requests = Requests("ICMP echo", SECOND, "icmp.no_reply", _ECHO_RULE)
        self._latest: OrderedDict[tuple[bytes, bytes], Hashable] = OrderedDict()  # requests, by asker and asked

    def see(self, packet: Packet) -> None:
        ip, icmp = packet.frame.ip, packet.frame.transport
        if ip is None or not isinstance(icmp, Icmp):
            return
        if icmp.is_echo:
            self._request(packet, ip, icmp)
        elif icmp.is_echo_reply:
            self._reply(packet, ip, icmp)
        elif icmp.quoted is not None and icmp.is_error:
            self._error(packet, ip, icmp, icmp.quoted)

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol in {ICMP, ICMP6} and quoted.identifier is not None:
            self.requests.refuse((quoted.source, quoted.destination, quoted.identifier, quoted.sequence))

    def offered(self, server: bytes, address: bytes) -> None:
        """A DHCP server offers an address: it has tried whether that is free (RFC 2131, 3.1), and no reply said so."""
        self.requests.refuse(self._latest.get((server, address)))

    def _request(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        if _is_group(packet, ip) or not any(ip.source):
            return
        asker, asked = ip_text(ip.source), ip_text(ip.destination)
        says = f"{asker} pings {asked}, and no reply comes"
        key = (ip.source, ip.destination, icmp.identifier, icmp.sequence)
        request = self.requests.ask(key, (asker, asked), packet, says)
        self._latest[ip.source, ip.destination] = key
        if len(self._latest) > MAX_PENDING:
            self._latest.popitem(last=False)
        if request is not None:
            content = _content(packet, ip, icmp)
            # Asked again with other data, it may be answered with either.
            request.content = content if request.count == 1 or content == request.content else None

    def _reply(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        request = self.requests.answer((ip.destination, ip.source, icmp.identifier, icmp.sequence), packet.at)
        if request is None:
            return
        sent, received = request.content, _content(packet, ip, icmp)
        if sent is not None and received is not None and sent != received:
            says = f"{ip_text(ip.source)} answers a ping by {ip_text(ip.destination)} with other data than it was sent"
            evidence = f"packet {request.numbers[0]} has {sent[0]} bytes, packet {packet.number} answers {received[0]}"
            parties = (ip.source, ip.destination)
            self._findings.add("icmp.reply_differs", parties, packet.number, says, _ECHO_RULE, evidence)

    def _error(self, packet: Packet, ip: Ip, icmp: Icmp, quoted: Quoted) -> None:
        code = (_CODES if icmp.version == 4 else _CODES6).get(icmp.type)
        if code is None or (icmp.version, icmp.type, icmp.code) == (4, 3, _TOO_BIG):
            return
        self._on_error(quoted)
        name = icmp_name(icmp)
        says = f"{ip_text(ip.source)} tells {ip_text(ip.destination)}: {name}, for {quoted_text(quoted)}"
        parties = (ip.source, icmp.type, icmp.code, quoted.source, quoted.destination, quoted.destination_port)
        evidence = f"ICMP type {icmp.type} code {icmp.code}"
        self._findings.add(f"icmp.{code}", parties, packet.number, says, _RULES[icmp.version, icmp.type], evidence)


def _content(packet: Packet, ip: Ip, icmp: Icmp) -> tuple[int, int] | None:
    """The size and the CRC of an echo's data, None where they are not all here."""
    if ip.fragment is not None or ip.stated_end != ip.end or icmp.end > len(packet.frame.data):
        return None
    return icmp.size, zlib.crc32(packet.frame.data[icmp.payload : icmp.end])


def _is_group(packet: Packet, ip: Ip) -> bool:
    """Whether it goes to more than one: not every host answers then (RFC 1122, 3.2.2.6)."""
    if ip.version == 6:
        return ip.destination[0] == 0xFF
    link = packet.frame.link
    # Elsewhere than on Ethernet nothing but the address tells, and not for sure.
    to_all = link.destination[0] & 1 if isinstance(link, Ethernet) else ip.destination[3] == 0xFF
    return ip.destination[0] >= 0xE0 or bool(to_all)
