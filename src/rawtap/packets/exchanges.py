# cython: annotation_typing=False, nonecheck=True
"""What was asked and answered in a capture: requests by keys of their own, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from statistics import median

from rawtap.packets import mistakes
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, SECOND, SHOWN, Findings, Packet
from rawtap.packets.headers import Ethernet
from rawtap.packets.lines import ip_text, mac_text

_TIMES = 1000  # answers of one pair that the median is of
_COPIES = MILLISECOND  # within it the same packet is a copy that the capture took at another place
_TOLD = 4  # requests of a pair
_FIRST_TTL = {32, 64, 128, 255}  # what senders start from; less has been forwarded
_SAMPLE = 512  # bytes of a request that are kept, for a filter to be asked about its answer


@dataclass(frozen=True)
class Exchange:
    """What one party asked of another by one protocol. `unanswered` have had their time; seconds are None where
    nothing was answered. `told` are the first requests, by their numbers, and what became of each."""

    kind: str
    asker: str
    asked: str
    requests: int
    answered: int
    unanswered: int
    retransmitted: int
    median_seconds: float | None
    greatest_seconds: float | None
    told: tuple[str, ...] = ()


@dataclass(slots=True)
class Request:
    """A request that waits for its answer, with all its repetitions; times are nanoseconds."""

    pair: tuple[str, str]
    says: str
    name: str
    first: int
    last: int
    numbers: list[int]
    count: int = 1
    refused: bool = False
    content: tuple[int, int] | None = None
    instead: Callable[[Findings], None] | None = None  # adds what came in place of the answer
    answer: int = 0  # the number of the packet that answered
    link: bytes = b""  # whose frame it came in, where that is its sender's own

    @property
    def outcome(self) -> str:
        """What became of it."""
        if self.answer:
            return f"answered by {self.answer}"
        return "answered wrongly" if self.instead else "refused" if self.refused else "not answered"


@dataclass(slots=True)
class _Tally:
    sample: bytes
    length: int
    requests: int = 0
    answered: int = 0
    retransmitted: int = 0
    greatest: int = 0
    latest: int = 0  # the number of the last packet that answered
    times: list[int] = field(default_factory=list)
    told: list[Request] = field(default_factory=list)


class Requests:
    """The requests of one kind by keys of their own, and what became of them by pairs of parties.

    An answer has `grace` nanoseconds from the first request on; `rule` says that it must come.
    """

    def __init__(self, kind: str, grace: int, what: str, rule: str) -> None:
        self.kind, self.grace, self.what, self.rule = kind, grace, what, rule
        self.pending: dict[Hashable, Request] = {}
        self._pairs: dict[tuple[str, str], _Tally] = {}
        self.passed = False

    def ask(self, key: Hashable, pair: tuple[str, str], packet: Packet, says: str, name: str = "") -> Request | None:
        """Count a request, or its repetition; None where there is no room for one more. `name` is its numbers."""
        request = self.pending.get(key)
        tally = self._pairs.get(pair)
        if request is not None and tally is not None:
            if packet.at - request.last > _COPIES:
                request.count += 1
                tally.retransmitted += 1
                if len(request.numbers) < SHOWN:
                    request.numbers.append(packet.number)
            request.last = packet.at
            request.link = _own_link(packet)
            return request
        if len(self.pending) >= MAX_PENDING or (tally is None and len(self._pairs) >= MAX_PENDING):
            self.passed = True
            return None
        if tally is None:
            tally = self._pairs[pair] = _Tally(packet.frame.data[:_SAMPLE], packet.frame.length)
        tally.requests += 1
        request = Request(pair, says, name, packet.at, packet.at, [packet.number], link=_own_link(packet))
        self.pending[key] = request
        if name and len(tally.told) < _TOLD:
            tally.told.append(request)
        return request

    def answer(self, key: Hashable, at: int) -> Request | None:
        """The request that is answered at `at`, None if none was seen."""
        request = self.pending.pop(key, None)
        if request is not None:
            tally = self._pairs[request.pair]
            waited = max(at - request.first, 0)
            tally.answered += 1
            tally.greatest = max(tally.greatest, waited)
            if len(tally.times) < _TIMES:
                tally.times.append(waited)
        return request

    def heard(self, key: Hashable, packet: Packet, findings: Findings) -> Request | None:
        """The request that `packet` answers, None if none was seen. What a receiver drops answers nothing: then the
        request waits on, and that it does is explained by what is wrong with the packet. So it is with an answer in a
        frame for another than the asker."""
        request = self.pending.get(key)
        if request is not None and not findings.drops(packet.number):
            self._is_astray(request, packet, findings)
        if request is not None and findings.drops(packet.number):
            self.refuse(key)
            return None
        request = self.answer(key, packet.at)
        if request is not None:
            self._pairs[request.pair].latest = request.answer = packet.number
        return request

    def _is_astray(self, request: Request, packet: Packet, findings: Findings) -> None:
        """An answer in a frame for another host, where neither it nor its question was forwarded on the way."""
        link = packet.frame.link
        if not isinstance(link, Ethernet) or link.destination[0] & 1 or not request.link:
            return
        named = getattr(packet.frame.application, "chaddr", b"")  # a DHCP server goes by that (RFC 2131, 4.1)
        if link.destination in {request.link, named}:
            return
        if not is_first_hop(packet) or findings.is_vouched(packet.number):
            return
        ip = packet.frame.ip
        arp = packet.frame.arp
        host = ip_text(ip.source) if ip else ip_text(arp.sender_ip) if arp else mac_text(link.source)
        name = mistakes.address(link.destination, request.link)
        says = f"{host} answers {request.pair[0]} at a link address that is not the asker's"
        findings.add(
            "ethernet.destination", (link.source, request.pair), packet.number, says + (f": {name}" if name else ""),
            "RFC 1122, 2.3.2.1; RFC 4861, 7.2", f"packet {request.numbers[0]} asks from {mac_text(request.link)}",
            host=host, found=mac_text(link.destination), expected=mac_text(request.link),
        )  # fmt: skip

    def refuse(self, key: Hashable) -> None:
        """No answer is missed: an error came in its place, and is a finding of its own, or none was wanted."""
        if key in self.pending:
            self.pending[key].refused = True

    def mistaken(self, key: Hashable, instead: Callable[[Findings], None]) -> None:
        """Something came that was meant as the answer and is none: `instead` says what, unless the answer comes yet."""
        if key in self.pending:
            self.pending[key].instead = instead

    def _overdue(self, until: int) -> Iterator[Request]:
        return (each for each in self.pending.values() if until - each.first >= self.grace)

    def exchanges(self, until: int) -> Iterator[Exchange]:
        unanswered: dict[tuple[str, str], int] = {}
        for request in self._overdue(until):
            unanswered[request.pair] = unanswered.get(request.pair, 0) + 1
        for pair, tally in self._pairs.items():
            yield Exchange(
                self.kind, *pair, tally.requests, tally.answered, unanswered.get(pair, 0), tally.retransmitted,
                round(median(tally.times) / SECOND, 6) if tally.times else None,
                round(tally.greatest / SECOND, 6) if tally.times else None,
                tuple(f"{each.name} in {each.numbers[0]}: {each.outcome}" for each in tally.told),
            )  # fmt: skip

    def settle(self, until: int, findings: Findings, answer_passes: Callable[[bytes, int], bool]) -> list[str]:
        """Report what was never answered, and return notes; `answer_passes` tells of a request's bytes and length
        whether an answer to it would be in the capture."""
        hidden: dict[tuple[str, str], bool] = {}
        for request in self.pending.values():
            if request.instead is not None:
                request.instead(findings)
        for request in self._overdue(until):
            if request.refused or request.instead is not None:
                continue
            if request.pair not in hidden:
                tally = self._pairs[request.pair]
                hidden[request.pair] = not answer_passes(tally.sample, tally.length)
            if not hidden[request.pair]:
                self._missing(request, until, findings)
        return self._notes(hidden)

    def _missing(self, request: Request, until: int, findings: Findings) -> None:
        """Say that a request was never answered; of some that were, which those are."""
        tally, first = self._pairs[request.pair], request.numbers[0]
        waited = (until - request.first) / SECOND
        says, times = request.says, f", asked {request.count} times" if request.count > 1 else ""
        evidence = f"no answer in the {waited:.1f} s from packet {first} to the end{times}"
        if tally.answered:
            asker, asked = request.pair
            says = f"{asked} answers only {tally.answered} of {tally.requests} requests by {asker} ({self.kind})"
            stopped = first > tally.latest
            evidence += f"; the last answer is packet {tally.latest}" if stopped else "; later ones were answered"
        findings.add(
            self.what, request.pair, first, says, self.rule, evidence, host=request.pair[1], group=request.pair[0],
            again=request.numbers[1:], count=request.count, suspects=request.numbers, absence=True,
        )  # fmt: skip

    def _notes(self, hidden: dict[tuple[str, str], bool]) -> list[str]:
        count = sum(hidden.values())
        text = f"The filter hides answers ({self.kind}, {count} pairs of parties): whether they came is not judged"
        return [text] if count else []


def _own_link(packet: Packet) -> bytes:
    """The link address of who sent a packet, b"" where it may be that of who forwarded it."""
    link = packet.frame.link
    return link.source if isinstance(link, Ethernet) and is_first_hop(packet) else b""


def is_first_hop(packet: Packet) -> bool:
    """Whether a packet has not been forwarded, by its time to live."""
    ip = packet.frame.ip
    return ip is None or ip.ttl in _FIRST_TTL
