"""What a guest sends by its card, under another link address than the card's: answers to it do not reach the guest."""

from __future__ import annotations

from dataclasses import dataclass

from rawtap.packets import mistakes
from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import Ethernet
from rawtap.packets.judges.outside import DeadEnd, OutsideJudge
from rawtap.packets.lines import mac_text
from rawtap.packets.origin import Origin

_LEARNED = 10 * SECOND  # a bridge forgets no sooner where a place is (IEEE 802.1D, 7.9.2)


@dataclass(frozen=True)
class Place:
    """Where a capture stands: whose card it is, if it is one's alone; link addresses of others on its network, as the
    host's; and whether that network has no way out."""

    card: Origin
    others: frozenset[bytes] = frozenset()
    dead_end: DeadEnd | None = None


class CardJudge:
    """Knows a frame of the guest's by its direction. Where a file does not say it, whoever is spoken to by the others
    on this card's own wire, soon after it has sent something, is behind the card: for the bridge has learned that."""

    def __init__(self, findings: Findings, place: Place | None) -> None:
        self._findings = findings
        self._place = place if place and place.card.guest else None
        self._outside = OutsideJudge(place.dead_end) if place and place.dead_end else None
        self._latest: dict[bytes, Packet] = {}  # by who sent something
        self._behind: dict[bytes, Packet] = {}  # of those who are behind the card, what they sent

    def see(self, packet: Packet, origin: Origin | None) -> None:
        if self._outside:
            self._outside.see(packet)
        link = packet.frame.link
        if not isinstance(link, Ethernet):
            return
        if origin is not None and origin.direction:
            if origin.guest and origin.direction == "inbound":
                self._sends(packet, link.source, origin, self._findings)
        elif self._place is not None:
            self._without_direction(packet, link, self._place)

    def _without_direction(self, packet: Packet, link: Ethernet, place: Place) -> None:
        if link.source not in place.others:
            if link.source in self._latest or len(self._latest) < MAX_PENDING:
                self._latest[link.source] = packet
        elif link.destination not in place.others:
            sent = self._latest.get(link.destination)
            if sent is not None and packet.at - sent.at < _LEARNED:
                self._behind.setdefault(link.destination, sent)

    def settle(self, findings: Findings) -> None:
        if self._outside:
            self._outside.settle(findings)
        if self._place is not None:
            for source, packet in self._behind.items():
                self._sends(packet, source, self._place.card, findings)

    @staticmethod
    def _sends(packet: Packet, found: bytes, card: Origin, findings: Findings) -> None:
        own = card.mac
        if found == own or found[0] & 1 or not any(found):  # the last two are found wrong on any wire
            return
        says = f"The guest {card.guest} sends from {mac_text(found)}, and its card is {mac_text(own)}"
        findings.add(
            "ethernet.source", (card.name, found), packet.number, mistakes.told(says, mistakes.address(found, own)),
            "IEEE 802.3, 3.2.3", host=card.guest, found=mac_text(found), expected=mac_text(own), dropped=False,
        )  # fmt: skip
