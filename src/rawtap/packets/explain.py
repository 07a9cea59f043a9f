# cython: annotation_typing=False, nonecheck=True
"""What is wrong in a capture: each packet is shown to the judges in its order, and they say in the end what they found.

A finding rests on what the capture holds. What the capture can't hold is no finding: an answer that its filter hides,
the bytes that its snaplen cut off, what was before it began, an answer whose time is not up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rawtap.packets import answers
from rawtap.packets.exchanges import Exchange, Requests
from rawtap.packets.findings import Finding, Findings, Packet
from rawtap.packets.headers import parse
from rawtap.packets.journeys import Journeys
from rawtap.packets.judges.cards import CardJudge, Place
from rawtap.packets.judges.connections import ConnectionJudge
from rawtap.packets.judges.echoes import EchoJudge
from rawtap.packets.judges.fragments import FragmentJudge
from rawtap.packets.judges.frames import FrameJudge
from rawtap.packets.judges.leases import LeaseJudge
from rawtap.packets.judges.names import NameJudge
from rawtap.packets.judges.neighbors import NeighborJudge
from rawtap.packets.judges.transfers import TransferJudge
from rawtap.packets.judges.unread import UnreadJudge
from rawtap.packets.origin import Origin
from rawtap.packets.transport import Icmp, Igmp, Quoted, Tcp, Udp

_CARRIERS = 64  # tunnels whose connections are judged

__all__ = ["Examiner", "Exchange", "Finding", "Place", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What was found wrong, what was asked and answered, and what else is to be known, of `examined` packets."""

    findings: tuple[Finding, ...]
    exchanges: tuple[Exchange, ...]
    notes: tuple[str, ...]
    examined: int


class Judge(Protocol):
    """Sees the packets that concern it, in their order."""

    def see(self, packet: Packet) -> None: ...


class Examiner:
    """Judges the packets of one capture.

    `answers_pass` tells whether the capture's filter lets a frame pass; without it everything is taken to pass.
    `sees_all` is whether the capture stands where all that a host is told comes by; of a file that is not known.
    `points` are the capture's interfaces: those of a bridge and its guests' cards are followed from one to the next.
    `held_back` is why these may keep frames back; `place` is where a capture of one guest's card stands.
    """

    def __init__(
        self,
        link_type: int,
        *,
        answers_pass: Callable[[bytes], bool] | None = None,
        sees_all: bool = True,
        points: Sequence[Origin] = (),
        place: Place | None = None,
        held_back: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._link_type = link_type
        self._answers_pass = answers_pass
        # Cards alone, as those of one guest, may be on bridges that have nothing to do with each other.
        several = len({bool(each.guest) for each in points}) > 1
        self._journeys = Journeys(points, held_back) if several else None
        self._mixed = False  # several link types: what a filter hides of other ones is not known
        self._sees_all = sees_all
        self._unread = UnreadJudge()
        self._findings = Findings()
        self.examined = 0  # packets
        has_cards = place is not None or any(each.guest for each in points)
        self._cards = CardJudge(self._findings, place) if has_cards else None
        self._frames = FrameJudge(self._findings)
        self._neighbors = NeighborJudge(self._findings)
        self._leases = LeaseJudge(self._findings, self._offered, self._neighbors.leased)
        self._names = NameJudge(self._findings)
        self._transfers = TransferJudge(self._findings)
        self._echoes = EchoJudge(self._findings, self._refused)
        self._fragments = FragmentJudge(self._findings)
        self._connections = ConnectionJudge(self._findings, self._connection_passes)
        self._carried: dict[Hashable, ConnectionJudge] = {}  # by what carries them
        self._carriers_passed = False
        # Each packet is shown to the first two, who say what is wrong with it alone, and then to whom it concerns.
        self._by_transport: dict[type, tuple[Judge, ...]] = {
            Udp: (self._leases, self._names, self._transfers, self._unread),
            Icmp: (self._echoes,),
            Igmp: (),
        }

    def add(self, number: int, time_ns: int, length: int, data: bytes, origin: Origin | None = None) -> None:
        """Show the next packet: its number in the file, when it was captured, its length on the wire, its bytes, and
        where it was seen, if that is known."""
        self.examined += 1
        link_type = origin.link_type if origin else self._link_type
        self._mixed = self._mixed or link_type != self._link_type
        packet = Packet(number, time_ns, parse(data, length, link_type))
        if self._journeys and origin and not self._journeys.see(packet, origin):
            return
        if self._cards:
            self._cards.see(packet, origin)
        ip, transport = packet.frame.ip, packet.frame.transport
        self._frames.see(packet)
        self._neighbors.see(packet)
        if packet.frame.inner is not None:
            self._see_carried(packet)
        if isinstance(transport, Tcp):
            self._connections.see(packet)
        else:
            for judge in self._by_transport.get(type(transport), (self._unread,)):
                judge.see(packet)
        if ip is not None and ip.fragment is not None:
            self._fragments.see(packet)

    def _see_carried(self, packet: Packet) -> None:
        """Judge what a packet carries: sums, lengths, and connections, which are apart from those of other carriers."""
        frame = packet.frame
        ends: tuple[bytes, ...] = ()
        while frame.inner is not None:
            if frame.ip is not None:
                ends += (*sorted((frame.ip.source, frame.ip.destination)),)
            frame = frame.inner
            inner = Packet(packet.number, packet.at, frame)
            self._frames.see_carried(inner)
        if not isinstance(frame.transport, Tcp):
            self._unread.see(inner)
            return
        key = (ends, frame.carriers)
        judge = self._carried.get(key)
        if judge is None:
            if len(self._carried) >= _CARRIERS:
                self._carriers_passed = True
                return
            judge = self._carried[key] = ConnectionJudge(self._findings, self._carried_passes)
        judge.see(inner)

    def result(self, until_ns: int, lost: int = 0) -> Verdict:
        """What is to be said at `until_ns`, when the capture ended or has come to; more packets may be added after it.

        `lost` packets were dropped by the capture, or overwritten by its ring.
        """
        findings = self._findings.copy()
        notes: list[str] = [*self._frames.settle(findings), *self._names.notes(), *self._unread.notes()]
        if self._cards:
            self._cards.settle(findings)
        if self._journeys:
            notes += self._journeys.settle(until_ns, findings)
        is_blind = self._neighbors.only_broadcasts and not self._sees_all
        if is_blind:
            notes.append("No frame to a single host is here: answers could not be seen, and are not missed")
        for requests in self._requests if not is_blind else ():
            notes += requests.settle(until_ns, findings, self._answer_passes)
        self._leases.settle(until_ns, findings, is_blind=is_blind)
        notes += self._connections.settle(until_ns, findings)
        if not is_blind:
            notes += self._transfers.settle(until_ns, findings, self._answer_passes)
        for judge in self._carried.values():
            notes += judge.settle(until_ns, findings)
        notes += self._fragments.settle(until_ns, findings, self._fragments_pass)
        exchanges = [exchange for requests in self._requests for exchange in requests.exchanges(until_ns)]
        return Verdict(
            findings.all(lost, self._neighbors.link_of), tuple(exchanges), tuple(notes + self._bounds()), self.examined
        )

    @property
    def _requests(self) -> tuple[Requests, ...]:
        return (
            self._neighbors.requests, self._neighbors.solicitations, self._echoes.requests, self._leases.discovers,
            self._leases.requests, self._leases.bootp, self._names.requests, self._transfers.requests,
            self._connections.requests,
        )  # fmt: skip

    def _bounds(self) -> list[str]:
        kept = [
            *((f"{each.kind} requests without an answer", each.passed) for each in self._requests),
            ("addresses", self._neighbors.passed),
            ("DHCP clients", self._leases.passed),
            ("packets in fragments", self._fragments.passed),
            ("TCP connections", self._connections.passed or any(each.passed for each in self._carried.values())),
            ("tunnels", self._carriers_passed),
        ]
        return [
            f"There were more {name} than are kept: the later ones are not judged" for name, passed in kept if passed
        ]

    def _refused(self, quoted: Quoted) -> None:
        self._echoes.refused(quoted)
        self._names.refused(quoted)
        self._transfers.refused(quoted)
        self._connections.refused(quoted)

    def _offered(self, server: bytes, address: bytes) -> None:
        self._echoes.offered(server, address)
        self._neighbors.offered(server, address)

    # -------------------------------------------- what the filter would hide

    def _all_pass(self, frames: Iterable[bytes]) -> bool:
        return self._answers_pass is None or (not self._mixed and all(map(self._answers_pass, frames)))

    def _answer_passes(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.replies(data, length, self._link_type))

    def _connection_passes(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.segments(data, length, self._link_type))

    def _carried_passes(self, _data: bytes, _length: int) -> bool:
        return self._answers_pass is None  # what a filter would let pass of a tunnel is not known

    def _fragments_pass(self, data: bytes, length: int) -> bool:
        return self._all_pass(answers.later_fragments(data, length, self._link_type))
