"""How the rules of DNS are tried: on a wire of the tests' own, with a resolver behind it that does what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import anyio
import pytest
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line, answering

from rawtap.examine import catalogue
from rawtap.examine.trial import Examiner, Outcome, Verdict
from rawtap.packets import dns

TIMED = {"dns.retry", "dns.retry_wait", "dns.gives_up"}  # this one has no clock


@dataclass
class Resolver:
    """A guest that asks for one name after the other, a step whenever it gets a frame, and sends to each address."""

    looks_at: set[str] = field(default_factory=lambda: {"id", "source", "port", "question", "response"})
    has_tcp: bool = True
    number: int = 0
    is_waiting: bool = False

    @property
    def name(self) -> str:
        return f"n{self.number}.Host.test"

    @property
    def port(self) -> int:
        return 40000 + self.number * 7 % 1000

    @property
    def id(self) -> int:
        return self.number * 40503 & 0xFFFF

    def __call__(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import IP, TCP, UDP, Ether

        packet = Ether(frame)
        if UDP not in packet:
            yield from answering(frame)
            self.number += not self.is_waiting
            self.is_waiting = True
            yield self.query()
            return
        told = self.read(packet[IP].src, packet[UDP], frame)
        self.is_waiting = self.is_waiting and told is None
        if told == "cut" and self.has_tcp:
            yield bytes(self.to(str(NAMES["server"])) / TCP(dport=53, flags="S"))
        elif told and told[0].isdigit():
            yield bytes(self.to(told) / UDP(dport=9))

    def to(self, address: str) -> Any:
        from scapy.all import IP, Ether

        return Ether(src=NAMES["guest_mac"], dst=NAMES["us_mac"]) / IP(src=NAMES["guest"], dst=address)

    def query(self) -> bytes:
        from scapy.all import DNS, DNSQR, UDP

        message = DNS(id=self.id, rd=1, qd=DNSQR(qname=self.name))
        return bytes(self.to(str(NAMES["server"])) / UDP(sport=self.port, dport=53) / message)

    def read(self, source: str, datagram: Any, frame: bytes) -> str | None:
        """What it made of an answer: an address, "cut", "" for none; None where it goes on to wait."""
        at = 42
        if len(frame) < at + 12:
            return None
        message = dns.parse(frame, at, len(frame))
        asked = [(each.name, each.type) for each in message.questions]
        wrong = {
            "id": message.id != self.id,
            "source": source != NAMES["server"],
            "port": datagram.dport != self.port,
            "question": asked != [(self.name, 1)],
            "response": not message.response,
        }
        if any(wrong[each] for each in self.looks_at) or message.stop:
            return None
        addresses = [each.removeprefix("A ") for each in message.answers if each.startswith("A ")]
        return "cut" if message.cut else addresses[-1] if addresses else ""


def tried(name: str, guest: Resolver) -> Outcome:
    (rule,) = catalogue.chosen(name)
    names = dict(NAMES)
    stranger = CROWD.of(1)["stranger"]
    assert IPv4Address(str(stranger)) != IPv4Address(str(names["told"]))

    async def nothing() -> None:
        return None

    async def judge() -> Outcome:
        return await Examiner(Line(guest), names, CROWD, "echo", 0.1, nothing).judge(rule, afresh=nothing)

    return anyio.run(judge)


@pytest.mark.parametrize("name", [each.name for each in catalogue.SUITES["dns"] if each.name not in TIMED])
def test_a_resolver_that_keeps_the_rules_is_told_as_such(name: str) -> None:
    outcome = tried(name, Resolver())
    assert (outcome.verdict, outcome.reason) == (Verdict.KEPT, "")


@pytest.mark.parametrize(
    ("name", "passes_over"),
    [
        ("other_id", "id"),
        ("other_address", "source"),
        ("other_port", "port"),
        ("other_question", "question"),
        ("no_response", "response"),
    ],
)
def test_a_resolver_that_looks_at_less_is_told_by_where_it_sends(name: str, passes_over: str) -> None:
    guest = Resolver()
    guest.looks_at.remove(passes_over)
    outcome = tried(f"dns.{name}", guest)
    assert (outcome.verdict, outcome.field, outcome.expected) == (Verdict.VIOLATED, "IP.dst", NAMES["told"])


def test_a_resolver_that_has_no_tcp_is_silent_there() -> None:
    assert tried("dns.truncated", Resolver(has_tcp=False)).verdict is Verdict.SILENT
    assert tried("dns.truncated_taken", Resolver(has_tcp=False)).verdict is Verdict.KEPT


def test_a_resolver_that_asks_no_more_is_no_breach_of_what_needs_a_query() -> None:
    def deaf(frame: bytes) -> Iterator[bytes]:
        return answering(frame)

    guest: Any = deaf
    outcome = tried("dns.query_header", guest)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert "Query.server" in outcome.reason
