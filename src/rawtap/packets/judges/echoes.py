"""ICMP: echo requests and their replies, and what errors tell."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable

from rawtap.packets import mistakes
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
_KNOWN_PORTS = {7, 22, 23, 53, 67, 68, 69, 80, 111, 123, 443, 514, 2049, 5353, 8080}
_CODES = {3: "unreachable", 11: "time_exceeded", 12: "parameter_problem"}
_CODES6 = {1: "unreachable", 3: "time_exceeded", 4: "parameter_problem"}
_TOO_BIG = 4  # the code of path MTU discovery at work, which is no defect
_PAIRS = 100  # with more of them, who was meant by a reply from elsewhere is not looked for
_OPEN = 16  # requests of one pair that a wrong reply is compared with
_ECHO_RULE = "RFC 1122, 3.2.2.6; RFC 4443, 4.2"


class EchoJudge:
    """`on_error` is told of each packet that an ICMP error is about: its request is refused, not unanswered."""

    def __init__(self, findings: Findings, on_error: Callable[[Quoted], None]) -> None:
        self._findings = findings
        self._on_error = on_error
        self.requests = Requests("ICMP echo", SECOND, "icmp.no_reply", _ECHO_RULE)
        # Requests by asker and asked: their identifiers, sequence numbers and packets, the latest last.
        self._asked: OrderedDict[tuple[bytes, bytes], dict[tuple[int, int], int]] = OrderedDict()

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
        for identifier, sequence in self._asked.get((server, address), ()):
            self.requests.refuse((server, address, identifier, sequence))

    def _request(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        if _is_group(packet, ip) or not any(ip.source):
            return
        asker, asked = ip_text(ip.source), ip_text(ip.destination)
        if self._is_mirrored(packet, ip, icmp):
            return
        says = f"{asker} pings {asked}, and no reply comes"
        key = (ip.source, ip.destination, icmp.identifier, icmp.sequence)
        name = f"id {icmp.identifier} seq {icmp.sequence}"
        request = self.requests.ask(key, (asker, asked), packet, says, name)
        asked_for = self._asked.setdefault((ip.source, ip.destination), {})
        asked_for[icmp.identifier, icmp.sequence] = packet.number
        if len(asked_for) > _OPEN:
            del asked_for[next(iter(asked_for))]
        if len(self._asked) > MAX_PENDING:
            self._asked.popitem(last=False)
        if request is not None:
            content = _content(packet, ip, icmp)
            # Asked again with other data, it may be answered with either.
            request.content = content if request.count == 1 or content == request.content else None

    def _is_mirrored(self, packet: Packet, ip: Ip, icmp: Icmp) -> bool:
        """Whether it is a request that its receiver has sent back as it came, in place of a reply."""
        key = (ip.destination, ip.source, icmp.identifier, icmp.sequence)
        request = self.requests.pending.get(key)
        if request is None or request.content is None or request.content != _content(packet, ip, icmp):
            return False
        host, asker, number, kind = ip_text(ip.source), ip_text(ip.destination), packet.number, icmp.type
        says = f"{host} answers a ping by {asker} with another request: the type is not changed"
        expected = f"type {0 if icmp.version == 4 else 129}"
        self.requests.mistaken(
            key,
            lambda findings: findings.add(
                "icmp.reply_type", (host, asker), number, says, _ECHO_RULE, host=host, found=f"type {kind}",
                expected=expected,
            ),
        )  # fmt: skip
        return True

    def _reply(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        key = (ip.destination, ip.source, icmp.identifier, icmp.sequence)
        request = self.requests.heard(key, packet, self._findings)
        if request is None:
            if key not in self.requests.pending:
                self._unasked(packet, ip, icmp)
            return
        sent, received = request.content, _content(packet, ip, icmp)
        same = "the same data"
        if sent is not None and received is not None and sent != received:
            says = f"{ip_text(ip.source)} answers a ping by {ip_text(ip.destination)} with other data than it was sent"
            evidence = f"packet {request.numbers[0]} has {sent[0]} bytes, packet {packet.number} answers {received[0]}"
            parties = (ip.source, ip.destination)
            self._findings.add(
                "icmp.reply_differs", parties, packet.number, says, _ECHO_RULE, evidence, host=ip_text(ip.source),
                found=f"{received[0]} bytes", expected=same if sent[0] == received[0] else f"{sent[0]} bytes",
            )  # fmt: skip
        elif ip.fragment is None and icmp.code:
            says = f"{ip_text(ip.source)} answers a ping with a code that echo replies do not have"
            self._findings.add(
                "icmp.reply_code", (ip.source,), packet.number, says, _ECHO_RULE, host=ip_text(ip.source),
                found=icmp.code, expected=0, dropped=False,
            )  # fmt: skip

    def _unasked(self, packet: Packet, ip: Ip, icmp: Icmp) -> None:
        """A reply whose numbers were not asked with: by one that was asked, or by another than was asked."""
        numbers = (icmp.identifier, icmp.sequence)
        asked = self._asked.get((ip.destination, ip.source))
        if asked is None:
            self._other_source(packet, ip, numbers)
            return
        if numbers in asked:
            self._again(packet, ip, numbers, asked)
            return
        # The one that it was meant for has most in common with it.
        wanted = max(reversed(asked), key=lambda each: sum(map(_alike, numbers, each)))
        replier, asker = ip_text(ip.source), ip_text(ip.destination)
        wrong = [index for index in (0, 1) if numbers[index] != wanted[index]]
        names = " and ".join(("identifier", "sequence number")[index] for index in wrong)
        says = f"{replier} answers a ping by {asker} with another {names} than it was sent"
        says = _explained(says, {mistakes.number(numbers[index], wanted[index]) for index in wrong})
        found, expected = (f"id 0x{one:04x} seq 0x{two:04x}" for one, two in (numbers, wanted))
        evidence = f"packet {asked[wanted]} asks with {expected}, packet {packet.number} answers {found}"
        self.requests.mistaken(
            (ip.destination, ip.source, *wanted),
            lambda findings: findings.add(
                "icmp.reply_mismatch", (replier, asker), packet.number, says, _ECHO_RULE, evidence, host=replier,
                found=found, expected=expected,
            ),
        )  # fmt: skip

    def _again(self, packet: Packet, ip: Ip, numbers: tuple[int, int], asked: dict[tuple[int, int], int]) -> None:
        """A reply to what was answered, after another request: that may be a copy, or meant for the other."""
        latest = next(reversed(asked))
        if numbers == latest or (ip.destination, ip.source, *latest) not in self.requests.pending:
            return
        replier, asker, number = ip_text(ip.source), ip_text(ip.destination), packet.number
        found, expected = (f"id 0x{one:04x} seq 0x{two:04x}" for one, two in (numbers, latest))
        says = f"{replier} answers a ping by {asker} with the numbers of one before, which was answered"
        self.requests.mistaken(
            (ip.destination, ip.source, *latest),
            lambda findings: findings.add(
                "icmp.reply_mismatch", (replier, asker), number, says, _ECHO_RULE, host=replier, found=found,
                expected=expected,
            ),
        )  # fmt: skip

    def _other_destination(self, packet: Packet, ip: Ip, numbers: tuple[int, int]) -> None:
        """A reply to another address than its host was asked from."""
        pairs = [pair for pair, asked in self._asked.items() if pair[1] == ip.source and numbers in asked]
        if len(pairs) != 1:
            return
        expected, replier, found = (ip_text(each) for each in (*pairs[0], ip.destination))
        number, name = packet.number, mistakes.address(ip.destination, pairs[0][0])
        says = mistakes.told(f"{replier} answers a ping by {expected} with a reply to {found}", name)
        self.requests.mistaken(
            (*pairs[0], *numbers),
            lambda findings: findings.add(
                "icmp.reply_destination", (replier, expected), number, says, _ECHO_RULE, host=replier, found=found,
                expected=expected,
            ),
        )  # fmt: skip

    def _other_source(self, packet: Packet, ip: Ip, numbers: tuple[int, int]) -> None:
        """A reply with the numbers of a request to another address, which waits for it."""
        if len(self._asked) > _PAIRS:
            return
        self._other_destination(packet, ip, numbers)
        pairs = [pair for pair, asked in self._asked.items() if pair[0] == ip.destination and numbers in asked]
        if len(pairs) != 1:
            return
        asker, expected, found = (ip_text(each) for each in (*pairs[0], ip.source))
        says = f"{asker} pings {expected}, and the reply comes from {found}"
        says = _explained(says, {mistakes.address(ip.source, pairs[0][1])})
        self.requests.mistaken(
            (*pairs[0], *numbers),
            lambda findings: findings.add(
                "icmp.reply_source", (expected, asker), packet.number, says, _ECHO_RULE, host=expected, found=found,
                expected=expected,
            ),
        )  # fmt: skip

    def _error(self, packet: Packet, ip: Ip, icmp: Icmp, quoted: Quoted) -> None:
        code = (_CODES if icmp.version == 4 else _CODES6).get(icmp.type)
        if code is None or (icmp.version, icmp.type, icmp.code) == (4, 3, _TOO_BIG):
            return
        self._on_error(quoted)
        name = icmp_name(icmp)
        says = f"{ip_text(ip.source)} tells {ip_text(ip.destination)}: {name}, for {quoted_text(quoted)}"
        parties = (ip.source, icmp.type, icmp.code, quoted.source, quoted.destination, quoted.destination_port)
        evidence = f"ICMP type {icmp.type} code {icmp.code}"
        rule, host = _RULES[icmp.version, icmp.type], ip_text(quoted.destination)
        meant = mistakes.port(quoted.destination_port or 0, _KNOWN_PORTS)
        if meant is not None:
            says += f": port {quoted.destination_port} is {meant} with its bytes swapped"
            host = ip_text(quoted.source)
        self._findings.add(
            f"icmp.{code}", parties, packet.number, says, rule, evidence, host=host,
            found=f"port {quoted.destination_port}" if meant else "", expected=f"port {meant}" if meant else "",
        )  # fmt: skip


def _alike(one: int, other: int) -> float:
    """How much two numbers have in common: a mistake that is named is worth nearly as much as nothing wrong."""
    return 1 if one == other else 0.9 if mistakes.number(one, other) == mistakes.SWAPPED else 0


def _explained(says: str, names: set[str]) -> str:
    """A sentence with the mistake that explains all of it, if there is one."""
    name = next(iter(names)) if len(names) == 1 else ""
    return f"{says}: {name}" if name else says


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
