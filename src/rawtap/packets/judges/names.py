"""DNS over UDP: questions and the answers to them (RFC 1035)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from rawtap.packets.dns import Dns, Question, rcode_name, type_name
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.lines import ip_text
from rawtap.packets.transport import UDP, Quoted, Udp

_GRACE = 2 * SECOND  # resolvers wait 2 to 5 s, and a server may have to ask others
_PORT = 53
_IDS = 64  # of one conversation that are kept
_NXDOMAIN = 3
_SHOWN = 80
_Folded = tuple[tuple[str, int], ...]


class NameJudge:
    """`requests` are the queries."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.requests = Requests("DNS", _GRACE, "dns.no_answer", "RFC 1035, 4.2.1 and 7.3")
        # By number and question: a simple resolver has one number for all that it asks.
        self._asked: OrderedDict[Hashable, dict[tuple[int, _Folded], tuple[Question, ...]]] = OrderedDict()
        self._absent: dict[bytes, tuple[str, int]] = {}  # by server: the first name that does not exist, how many
        self.passed = False

    def see(self, packet: Packet) -> None:
        ip, udp, message = packet.frame.ip, packet.frame.transport, packet.frame.application
        if ip is None or not isinstance(udp, Udp) or not isinstance(message, Dns) or message.opcode:
            return
        if not message.response and message.stop is None and udp.destination_port == _PORT:
            key = (ip.source, udp.source_port, ip.destination)
            self._query(packet, ip, message, key)
        elif message.response and udp.source_port == _PORT:
            key = (ip.destination, udp.destination_port, ip.source)
            self._answer(packet, ip, message, key)

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol == UDP and quoted.destination_port == _PORT:
            key = (quoted.source, quoted.source_port, quoted.destination)
            for asked in self._asked.get(key, ()):
                self.requests.refuse((key, asked))

    def notes(self) -> list[str]:
        return [
            f"The DNS server {ip_text(server)} says of {count} queries that the name does not exist, first {name}"
            for server, (name, count) in self._absent.items()
        ][:10]

    def _query(self, packet: Packet, ip: Ip, message: Dns, key: Hashable) -> None:
        if key not in self._asked and len(self._asked) >= MAX_PENDING:
            # Each conversation has a port of its own: the oldest is over.
            self._asked.popitem(last=False)
        asked = self._asked.setdefault(key, {})
        query = (message.id, _folded(message.questions))
        asked.pop(query, None)
        asked[query] = message.questions  # the latest is the last
        if len(asked) > _IDS:
            del asked[next(iter(asked))]
        client, server = ip_text(ip.source), ip_text(ip.destination)
        says = f"{client} asks the DNS server {server} for {_question(message.questions)}, and no answer comes"
        self.requests.ask((key, query), (client, server), packet, says)

    def _answer(self, packet: Packet, ip: Ip, message: Dns, key: Hashable) -> None:
        asked = self._asked.get(key)
        if asked is None:
            return
        server, client = ip_text(ip.source), ip_text(ip.destination)
        parties = (ip.source, ip.destination)
        queries = [query for query in asked if query[0] == message.id]
        if not queries:
            says = f"The DNS server {server} answers {client} with a number that it did not use"
            evidence = f"id 0x{message.id:04x}, expected 0x{next(reversed(asked))[0]:04x}"
            self._findings.add("dns.id_mismatch", parties, packet.number, says, "RFC 1035, 7.3", evidence)
            return
        query = queries[-1]
        if message.stop is None and message.questions:
            query = (message.id, _folded(message.questions))
        if query not in asked:
            says = f"The DNS server {server} answers {client} another question than it was asked"
            evidence = f"{_question(message.questions)}, expected {_question(asked[queries[-1]])}"
            self._findings.add("dns.other_question", parties, packet.number, says, "RFC 1035, 7.3", evidence)
            return
        self.requests.answer((key, query), packet.at)
        self._outcome(packet, server, message, asked[query])

    def _outcome(self, packet: Packet, server: str, message: Dns, questions: tuple[Question, ...]) -> None:
        ip = packet.frame.ip
        if not message.rcode or ip is None:
            return
        if message.rcode == _NXDOMAIN:
            name, count = self._absent.get(ip.source, (_question(questions), 0))
            if count or len(self._absent) < MAX_PENDING:
                self._absent[ip.source] = (name, count + 1)
            return
        name = rcode_name(message.rcode)
        says = f"The DNS server {server} answers {name} to {_question(questions)}"
        parties = (ip.source, ip.destination, message.rcode)
        evidence = f"response code {message.rcode} ({name})"
        self._findings.add(f"dns.{name.lower()}", parties, packet.number, says, "RFC 1035, 4.1.1", evidence)


def _folded(questions: tuple[Question, ...]) -> _Folded:
    return tuple((each.name.lower(), each.type) for each in questions)


def _question(questions: tuple[Question, ...]) -> str:
    if not questions:
        return "nothing"
    name = questions[0].name
    return f"{type_name(questions[0].type)} {name if len(name) <= _SHOWN else name[: _SHOWN - 3] + '...'}"
