"""What is sent to hosts beyond a guest's network that has no way out: it ends where the way does, and nobody there can
answer."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from rawtap.packets.findings import MAX_PENDING, Findings, Packet
from rawtap.packets.headers import Ethernet
from rawtap.packets.lines import ip_text

_CODE = "ip.no_way_out"
_RULE = "RFC 1122, 3.2.1.3"  # what is for another is discarded in silence, where it is not forwarded


@dataclass(frozen=True)
class DeadEnd:
    """A guest's network that has no way out.

    Attributes:
        network: Its name.
        held: By version of IP, what shows that nothing is forwarded; a version that may be forwarded is not in it.
        stations: Link addresses of who would forward; none where it is whoever is not the guest.
        guest: The link address of the guest, where nobody else is on the network.
        inside: The network's own addresses.
        own: Addresses, beside these, of who would forward: what is for them has arrived.
        reason: Why there is no way out, and what makes one.
    """

    network: str
    held: dict[int, str]
    stations: frozenset[bytes]
    guest: bytes
    inside: tuple[IPv4Network | IPv6Network, ...]
    own: frozenset[bytes]
    reason: str

    def is_station(self, address: bytes) -> bool:
        """Whether that is the link address of who would forward."""
        if self.stations:
            return address in self.stations
        return address != self.guest and not address[0] & 1

    def is_beyond(self, address: bytes) -> bool:
        """Whether a packet for that IP address would have to be forwarded."""
        if address in self.own:
            return False
        host = ip_address(address)
        if host.is_multicast or host.is_loopback or host.is_link_local or host.is_unspecified:
            return False
        return not any(host in network for network in self.inside)


class OutsideJudge:
    """Knows what guests send to who would forward it, and who beyond was heard all the same."""

    def __init__(self, end: DeadEnd) -> None:
        self._end = end
        self._sent: list[tuple[int, bytes]] = []  # packets by their numbers, and who they are for
        self._heard: set[bytes] = set()

    def see(self, packet: Packet) -> None:
        ip, link = packet.frame.ip, packet.frame.link
        if ip is None or not isinstance(link, Ethernet) or link.tags or ip.version not in self._end.held:
            return
        if self._end.is_station(link.destination):
            if len(self._sent) < MAX_PENDING and self._end.is_beyond(ip.destination):
                self._sent.append((packet.number, ip.destination))
        elif self._end.is_station(link.source) and len(self._heard) < MAX_PENDING:
            self._heard.add(ip.source)

    def settle(self, findings: Findings) -> None:
        """Report it, so that whatever answer is missed follows from that."""
        lost = [(number, host) for number, host in self._sent if host not in self._heard]
        if not lost or len(self._heard) >= MAX_PENDING:  # then somebody may have been heard who is not known
            return
        end, first = self._end, lost[0][1]
        others = len({host for _, host in lost}) - 1
        whom = ip_text(first) + (f" and {others} more" if others > 0 else "")
        numbers = [number for number, _ in lost]
        findings.add(
            _CODE, end.network, numbers[0], f"{end.network} has no way out, so nothing gets to {whom}: {end.reason}",
            _RULE, end.held[4 if len(first) == 4 else 6], host=end.network, again=numbers[1:],
            count=len(numbers),
        )  # fmt: skip
        for number in numbers[1:]:
            findings.blame(number, _CODE)
