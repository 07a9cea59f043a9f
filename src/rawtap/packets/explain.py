"""What is wrong in a capture: each packet is shown to the judges in its order, and they say in the end what they found.

A finding rests on what the capture holds. What the capture can't hold is no finding: an answer that its filter hides,
the bytes that its snaplen cut off, what was before it began, an answer whose time is not up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rawtap.packets import answers
from rawtap.packets.exchanges import Exchange, Requests
from rawtap.packets.findings import Finding, Findings, Packet
from rawtap.packets.headers import parse
from rawtap.packets.judges.connections import ConnectionJudge
from rawtap.packets.judges.echoes import EchoJudge
from rawtap.packets.judges.fragments import FragmentJudge
from rawtap.packets.judges.frames import FrameJudge
from rawtap.packets.judges.leases import LeaseJudge
from rawtap.packets.judges.names import NameJudge
from rawtap.packets.judges.neighbors import NeighborJudge
from rawtap.packets.transport import Quoted

__all__ = ["Examiner", "Exchange", "Finding", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What was found wrong, what was asked and answered, and what else is to be known, of `examined` packets."""

    findings: tuple[Finding, ...]
    exchanges: tuple[Exchange, ...]
    notes: tuple[str, ...]
    examined: int


class Examiner:
    """Judges the packets of one capture.

    `answers_pass` tells whether the capture's filter lets a frame pass; without it everything is taken to pass.
    """

    def __init__(self, link_type: int, *, answers_pass: Callable[[bytes], bool] | None = None) -> None:
        self._link_type = link_type
        self._answers_pass = answers_pass
        self._findings = Findings()
        self.examined = 0  # packets
        self._frames = FrameJudge(self._findings)
        self._neighbors = NeighborJudge(self._findings)
        self._leases = LeaseJudge(self._findings, self._offered)
        self._names = NameJudge(self._findings)
        self._echoes = EchoJudge(self._findings, self._refused)
        self._fragments = FragmentJudge(self._findings)
        self._connections = ConnectionJudge(self._findings, self._connection_passes)
        self._judges = (
            self._frames, self._neighbors, self._leases, self._names, self._echoes, self._fragments, self._connections,
        )  # fmt: skip

    def add(self, number: int, time_ns: int, length: int, data: bytes) -> None:
        """Show the next packet: its number in the file, when it was captured, its length on the wire, its bytes."""
        self.examined += 1
        packet = Packet(number, time_ns, parse(data, length, self._link_type))
        for judge in self._judges:
            judge.see(packet)

    def result(self, until_ns: int, lost: int = 0) -> Verdict:
        """What is to be said at `until_ns`, when the capture ended or has come to; more packets may be added after it.

        `lost` packets were dropped by the capture, or overwritten by its ring.
        """
        findings = self._findings.copy()
        notes: list[str] = [*self._frames.settle(findings), *self._names.notes()]
        for requests in self._requests:
            notes += requests.settle(until_ns, findings, self._answer_passes)
        self._leases.settle(until_ns, findings)
        notes += self._connections.settle(until_ns, findings)
        notes += self._fragments.settle(until_ns, findings, self._fragments_pass)
        exchanges = [exchange for requests in self._requests for exchange in requests.exchanges(until_ns)]
        return Verdict(findings.all(lost), tuple(exchanges), tuple(notes + self._bounds()), self.examined)

    @property
    def _requests(self) -> tuple[Requests, ...]:
        return (
            self._neighbors.requests, self._neighbors.solicitations, self._echoes.requests, self._leases.discovers,
            self._leases.requests, self._leases.bootp, self._names.requests, self._connections.requests,
        )  # fmt: skip

    def _bounds(self) -> list[str]:
        kept = [
            *((f"{each.kind} requests without an answer", each.passed) for each in self._requests),
            ("addresses", self._neighbors.passed),
            ("DHCP clients", self._leases.passed),
            ("packets in fragments", self._fragments.passed),
            ("TCP connections", self._connections.passed),
        ]
        return [
            f"There were more {name} than are kept: the later ones are not judged" for name, passed in kept if passed
        ]

    def _refused(self, quoted: Quoted) -> None:
        self._echoes.refused(quoted)
        self._names.refused(quoted)
        self._connections.refused(quoted)

    def _offered(self, server: bytes, address: bytes) -> None:
        self._echoes.offered(server, address)
        self._neighbors.offered(server, address)

    # -------------------------------------------- what the filter would hide

    def _all_pass(self, frames: Iterable[bytes]) -> bool:
        return self._answers_pass is None or all(map(self._answers_pass, frames))

    def _answer_passes(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.replies(data, length, self._link_type))

    def _connection_passes(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.segments(data, length, self._link_type))

    def _fragments_pass(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.later_fragments(data, length, self._link_type))
