"""DNS over UDP: questions and the answers to them (RFC 1035)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from rawtap.packets import mistakes
from rawtap.packets.bounds import Stopped
from rawtap.packets.dns import TYPES, Dns, Question, parse, rcode_name, type_name
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.lines import ip_text
from rawtap.packets.transport import UDP, Quoted, Udp

_GRACE = 2 * SECOND  # resolvers wait 2 to 5 s, and a server may have to ask others
_PORT = 53
_IDS = 64  # of one conversation that are kept
_NXDOMAIN = 3
_CLASSES = {1, 3, 4, 254, 255}  # Internet, Chaos, Hesiod, none, any
_ASKED = {1, 12, 15, 16, 28, 33}  # types that clients ask for
_SHOWN = 80
_SWAPPED_PORT = mistakes.swapped(_PORT)
_Folded = tuple[tuple[str, int], ...]
_Key = tuple[bytes, int, bytes]  # client, its port, server


class NameJudge:
    """`requests` are the queries."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.requests = Requests("DNS", _GRACE, "dns.no_answer", "RFC 1035, 4.2.1 and 7.3")
        # By number and question: a simple resolver has one number for all that it asks.
        self._asked: OrderedDict[_Key, dict[tuple[int, _Folded], tuple[Question, ...]]] = OrderedDict()
        self._ports: OrderedDict[tuple[int, _Folded], _Key] = OrderedDict()  # by number and question, the latest
        self._absent: dict[bytes, tuple[str, int]] = {}  # by server: the first name that does not exist, how many
        self.passed = False

    def see(self, packet: Packet) -> None:
        ip, udp, message = packet.frame.ip, packet.frame.transport, packet.frame.application
        if ip is None or not isinstance(udp, Udp):
            return
        if udp.destination_port == _SWAPPED_PORT and message is None:
            self._swapped(packet, ip, udp)
        if not isinstance(message, Dns) or message.opcode:
            return
        if message.response and udp.destination_port == _PORT != udp.source_port:
            self._is_response(packet, ip)
        elif not message.response and message.stop is None and udp.destination_port == _PORT:
            key = (ip.source, udp.source_port, ip.destination)
            self._query(packet, ip, message, key)
        elif message.response and udp.source_port == _PORT:
            key = (ip.destination, udp.destination_port, ip.source)
            self._answer(packet, ip, message, key)

    def refused(self, quoted: Quoted) -> None:
        if quoted.protocol == UDP and quoted.destination_port == _PORT:
            key = (quoted.source, quoted.source_port or 0, quoted.destination)
            for asked in self._asked.get(key, ()):
                self.requests.refuse((key, asked))

    def notes(self) -> list[str]:
        return [
            f"The DNS server {ip_text(server)} says of {count} queries that the name does not exist, first {name}"
            for server, (name, count) in self._absent.items()
        ][:10]

    def _query(self, packet: Packet, ip: Ip, message: Dns, key: _Key) -> None:
        if key not in self._asked and len(self._asked) >= MAX_PENDING:
            # Each conversation has a port of its own: the oldest is over.
            self._asked.popitem(last=False)
        asked = self._asked.setdefault(key, {})
        query = (message.id, _folded(message.questions))
        asked.pop(query, None)
        asked[query] = message.questions  # the latest is the last
        if len(asked) > _IDS:
            del asked[next(iter(asked))]
        self._ports[query] = key
        if len(self._ports) > MAX_PENDING:
            self._ports.popitem(last=False)
        client, server = ip_text(ip.source), ip_text(ip.destination)
        for each in message.questions:
            self._class(packet, ip, each)
            self._type(packet, ip, each)
        if message.rcode and not message.opcode:
            self._code(packet, ip, message)
        if ip.destination == b"\xff" * 4:
            return  # whoever likes may answer
        says = f"{client} asks the DNS server {server} for {_question(message.questions)}, and no answer comes"
        name = f"id 0x{message.id:04x} {_question(message.questions)}"
        self.requests.ask((key, query), (client, server), packet, says, name)

    def _class(self, packet: Packet, ip: Ip, question: Question) -> None:
        if question.of_class in _CLASSES:
            return
        client, name = ip_text(ip.source), mistakes.number(question.of_class, 1)
        says = f"{client} asks for a class that there is none of" + (f": {name}" if name else "")
        self._findings.add(
            "dns.class", (ip.source, question.of_class), packet.number, says, "RFC 1035, 3.2.4", host=client,
            found=f"class {question.of_class}", expected="class 1 (IN)",
        )  # fmt: skip

    def _type(self, packet: Packet, ip: Ip, question: Question) -> None:
        """A type that there is none of, but by swapped bytes; 256 is one, for names that begin with a service
        (RFC 7553, 4.1)."""
        meant = mistakes.swapped(question.type)
        if question.type in TYPES or meant not in _ASKED or question.name.startswith("_"):
            return
        client = ip_text(ip.source)
        says = f"{client} asks for type {question.type} of {question.name}: {mistakes.SWAPPED}"
        self._findings.add(
            "dns.type", (ip.source, question.type), packet.number, says, "RFC 1035, 3.2.2", host=client,
            found=f"type {question.type}", expected=f"type {meant} ({type_name(meant)})",
        )  # fmt: skip

    def _code(self, packet: Packet, ip: Ip, message: Dns) -> None:
        client = ip_text(ip.source)
        mistake = mistakes.SWAPPED if message.rcode == 1 and not message.recursion else ""  # RD alone is 0x0100
        says = mistakes.told(f"{client} sends a DNS query with a response code", mistake)
        self._findings.add(
            "dns.query_code", ip.source, packet.number, says, "RFC 1035, 4.1.1 (RCODE)", host=client,
            found=f"code {message.rcode}", expected="code 0", dropped=False,
        )  # fmt: skip

    def _answer(self, packet: Packet, ip: Ip, message: Dns, key: _Key) -> None:
        asked = self._asked.get(key)
        if asked is None:
            self._elsewhere(packet, ip, message)
            return
        queries = [query for query in asked if query[0] == message.id]
        if not queries:
            self._other_number(packet, ip, message, key)
            return
        query = queries[-1]
        if message.stop is None and message.questions:
            query = (message.id, _folded(message.questions))
        if query not in asked:
            found, expected = _question(message.questions), _question(asked[queries[-1]])
            text = "another question than it was asked"
            self._mistaken(packet, ip, (key, queries[-1]), "dns.other_question", text, found, expected)
            return
        request = self.requests.heard((key, query), packet, self._findings)
        if request is not None and message.unasked and message.rcode != _NXDOMAIN:
            self._no_recursion(packet, ip, request.numbers[0], asked[query])
        self._outcome(packet, ip_text(ip.source), message, asked[query], request.numbers if request else [])

    def _no_recursion(self, packet: Packet, ip: Ip, number: int, questions: tuple[Question, ...]) -> None:
        client = ip_text(ip.destination)
        says = f"{client} asks for {_question(questions)} without recursion, and is told nothing"
        self._findings.add(
            "dns.no_recursion", (ip.destination, ip.source), number, says, "RFC 1035, 4.1.1 (RD)",
            f"RD 0 in packet {number}; packet {packet.number} has no records", host=client, found="RD 0",
            expected="RD 1",
        )  # fmt: skip

    # ------------------------------------------------- what answers nothing

    def _mistaken(
        self, packet: Packet, ip: Ip, query: Hashable, what: str, text: str, found: str, expected: str, name: str = ""
    ) -> None:
        """A response that is none to a query that waits."""
        server, client = ip_text(ip.source), ip_text(ip.destination)
        says = f"The DNS server {server} answers {client} {text}" + (f": {name}" if name else "")
        self.requests.mistaken(
            query,
            lambda findings: findings.add(
                what, (ip.source, ip.destination), packet.number, says, "RFC 1035, 7.3", host=server, found=found,
                expected=expected,
            ),
        )  # fmt: skip

    def _other_number(self, packet: Packet, ip: Ip, message: Dns, key: _Key) -> None:
        """A response whose number no query had; its question tells which it was meant for."""
        asked, folded = self._asked[key], _folded(message.questions)
        query = next((each for each in reversed(asked) if each[1] == folded), next(reversed(asked)))
        name = mistakes.number(message.id, query[0])
        text = "with a number that it did not use"
        found, expected = f"id 0x{message.id:04x}", f"id 0x{query[0]:04x}"
        self._mistaken(packet, ip, (key, query), "dns.id_mismatch", text, found, expected, name)

    def _elsewhere(self, packet: Packet, ip: Ip, message: Dns) -> None:
        """A response to a port that nothing was asked from, or from a server that was not asked."""
        query = (message.id, _folded(message.questions))
        udp = packet.frame.transport
        if not isinstance(udp, Udp) or not message.questions or query not in self._ports:
            return
        client, port, server = key = self._ports[query]
        if client != ip.destination:
            return
        if server == ip.source:
            name = mistakes.number(udp.destination_port, port)
            found, expected = f"port {udp.destination_port}", f"port {port}"
            text = "at another port than it asked from"
            self._mistaken(packet, ip, (key, query), "dns.other_port", text, found, expected, name)
        elif port == udp.destination_port:
            found, expected = ip_text(ip.source), ip_text(server)
            name = mistakes.address(ip.source, server)
            text = f"what {expected} was asked"
            self._mistaken(packet, ip, (key, query), "dns.other_server", text, found, expected, name)

    def _swapped(self, packet: Packet, ip: Ip, udp: Udp) -> None:
        """A query to the port that 53 becomes with its bytes swapped."""
        try:
            message = parse(packet.frame.data, udp.payload, udp.end)
        except Stopped:
            return
        if message.stop is None and message.question_count == len(message.questions) == 1 and not message.response:
            client = ip_text(ip.source)
            asked = f"{client} asks {ip_text(ip.destination)} for {_question(message.questions)}"
            says = f"{asked} at a port that is none of DNS"
            self._findings.add(
                "dns.port", (ip.source,), packet.number, f"{says}: {mistakes.SWAPPED}", "RFC 1035, 4.2.1", host=client,
                found=f"port {_SWAPPED_PORT}", expected=f"port {_PORT}",
            )  # fmt: skip

    def _is_response(self, packet: Packet, ip: Ip) -> None:
        client = ip_text(ip.source)
        says = f"{client} sends the DNS server {ip_text(ip.destination)} a message that has the bit of a response"
        self._findings.add(
            "dns.query_is_response", (ip.source, ip.destination), packet.number, says, "RFC 1035, 4.1.1 (QR)",
            host=client, found="QR 1", expected="QR 0",
        )  # fmt: skip

    # ------------------------------------------------------- what answers say

    def _outcome(
        self, packet: Packet, server: str, message: Dns, questions: tuple[Question, ...], asked: list[int]
    ) -> None:
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
        self._findings.add(
            f"dns.{name.lower()}", parties, packet.number, says, "RFC 1035, 4.1.1", evidence, host=server,
            suspects=asked,
        )  # fmt: skip


def _folded(questions: tuple[Question, ...]) -> _Folded:
    return tuple((each.name.lower(), each.type) for each in questions)


def _question(questions: tuple[Question, ...]) -> str:
    if not questions:
        return "nothing"
    name = questions[0].name
    return f"{type_name(questions[0].type)} {name if len(name) <= _SHOWN else name[: _SHOWN - 3] + '...'}"
