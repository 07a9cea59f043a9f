"""A frame's way over a bridge, in a capture of the bridge and of its guests' cards together. Pure.

Theory of operation. Such a capture has a frame once for each point that it came by, in the order of the kernel's own
clock. A frame begins where a guest's card takes it in, or where the bridge has it from the host itself; what has the
same bytes at another point after that is the same frame, and of several alike the oldest that was not there yet. What
may differ on the way is not compared: VLAN tags, padding, and transport checksums that are filled in late. Frames that
the host leaves to be cut into segments are others when they arrive, and are not followed.

Each frame is judged once: as it left the guest that sent it, or as it came to the first guest that got it.

Sources: br_handle_frame_finish (net/bridge/br_input.c), br_forward.c, IEEE 802.1Q, 8.6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rawtap.packets.findings import MAX_PENDING, SECOND, Findings, Packet
from rawtap.packets.headers import BROADCAST, Ethernet, Frame
from rawtap.packets.lines import mac_text
from rawtap.packets.origin import Origin
from rawtap.packets.passage import why_dropped
from rawtap.packets.transport import Tcp, Udp

_GRACE = SECOND  # a queue on the way may be made slow (qemu_link)
_LONGEST = 1600  # bytes of a frame that is sent in one piece
_RULE = "IEEE 802.1Q, 8.6"
_ON_THE_WAY = (
    "port isolation, VLAN filtering, a port's STP state, a rule, or the port's queue (qemu_link) keeps it back"
)
_ISOLATED = "isolated"
_FORWARDED_TO_NONE = bytes.fromhex("0180c20000")  # IEEE 802.1Q, table 8-1


@dataclass(slots=True)
class _Journey:
    number: int
    at: int
    key: bytes
    begins: Origin
    source: bytes
    destination: bytes
    length: int
    dropped_for: str
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)  # by point: the packet's number, its length


class Journeys:
    """Follows the frames of one capture.

    `held_back` tells of a point by its name why it may keep frames back, as it stands now.

    Attributes:
        guests: Of the cards that were seen, by their MAC addresses.
    """

    def __init__(self, interfaces: Sequence[Origin], held_back: Mapping[str, frozenset[str]] | None = None) -> None:
        self._held_back = held_back or {}
        self.cards = {each.name: each for each in interfaces if each.guest}
        self.bridges = [each.name for each in interfaces if not each.guest]
        self.guests = {each.mac: each for each in self.cards.values()}
        self._open: dict[bytes, deque[_Journey]] = {}
        self._order: deque[_Journey] = deque()
        self._done: list[_Journey] = []
        self._followed = 0
        self._segmented = 0
        self._passed = False

    def see(self, packet: Packet, origin: Origin) -> bool:
        """Take note of a packet that was seen at `origin`, and tell whether it is to be judged."""
        link = packet.frame.link
        if not isinstance(link, Ethernet):
            return True
        self._finish(packet.at)
        of_card = origin.name in self.cards
        begins = origin.direction == "inbound" if of_card else origin.direction == "outbound"
        if not of_card and begins and packet.frame.length > _LONGEST:
            self._segmented += 1
            return False
        key = _key(packet.frame, link)
        if begins or not self._goes_on(key, packet, origin):
            if begins:
                self._begin(key, packet, origin, link)
            return of_card or not begins
        return False

    def _goes_on(self, key: bytes, packet: Packet, origin: Origin) -> bool:
        """Whether the packet is one that was seen before; a frame by the host is judged where it first arrives."""
        for journey in self._open.get(key, ()):
            if origin.name not in journey.seen and origin.name != journey.begins.name:
                first = not journey.seen and journey.begins.name not in self.cards
                journey.seen[origin.name] = (packet.number, packet.frame.length)
                return not first
        return False

    def _begin(self, key: bytes, packet: Packet, origin: Origin, link: Ethernet) -> None:
        if len(self._order) >= MAX_PENDING:
            self._passed = True
            return
        frame = packet.frame
        why = why_dropped(frame.data) if len(frame.data) == frame.length else ""
        journey = _Journey(
            packet.number, packet.at, key, origin, link.source, link.destination, frame.length, why,
        )  # fmt: skip
        self._followed += 1
        self._order.append(journey)
        self._open.setdefault(key, deque()).append(journey)

    def _finish(self, now: int) -> None:
        while self._order and now - self._order[0].at > _GRACE:
            journey = self._order.popleft()
            same = self._open[journey.key]
            same.popleft()
            if not same:
                del self._open[journey.key]
            if len(self._done) < MAX_PENDING and any(True for _ in self._fates(journey)):
                self._done.append(journey)

    # --------------------------------------------------------- what became of them

    def settle(self, until: int, findings: Findings) -> list[str]:
        """Report what did not arrive, and return notes."""
        ended = [*self._done, *(each for each in self._order if until - each.at > _GRACE)]
        told: dict[str, list[_Journey]] = {}
        for journey in ended:
            for code, where in self._fates(journey):
                if code == "bridge.not_passed":
                    self._not_passed(journey, findings)
                elif code == "bridge.not_delivered":
                    self._not_delivered(journey, where, findings)
                else:
                    told.setdefault(f"{code} {where}", []).append(journey)
        notes = [f"{len(some)} frames {what} (first: packet {some[0].number})" for what, some in told.items()]
        if self._followed:
            notes.insert(0, f"{self._followed} frames were followed from point to point")
        if self._segmented:
            notes.append(f"{self._segmented} large frames of the host are cut into segments on their way: not followed")
        if self._passed:
            notes.append("There were more frames on their way than are kept: some were not followed")
        return notes

    def _fates(self, journey: _Journey) -> Iterator[tuple[str, str]]:
        """What is to be said of a journey: a code, or words, and the point."""
        if journey.destination.startswith(_FORWARDED_TO_NONE):
            return
        by_guest = journey.begins.name in self.cards
        if by_guest and not journey.seen:
            yield "bridge.not_passed", ""
            return
        for name in self._expected(journey):
            if name not in journey.seen:
                yield "bridge.not_delivered", name
        if not journey.destination[0] & 1:
            to = self.guests.get(journey.destination)
            others = [self.cards[name].guest for name in journey.seen if name in self.cards and self.cards[name] != to]
            if others:
                yield (
                    f"to {mac_text(journey.destination)} alone were flooded to",
                    f"{', '.join(sorted(others))}: the bridge had not learned, or had forgotten, where that address is",
                )
        shorter = [name for name, (_, length) in journey.seen.items() if length < journey.length]
        if shorter:
            yield "came shortened to", ", ".join(shorter)

    def _expected(self, journey: _Journey) -> list[str]:
        """The cards that a frame must come to."""
        if journey.destination == BROADCAST:
            return [name for name in self.cards if name != journey.begins.name]
        card = self.guests.get(journey.destination)
        return [card.name] if card and card.name != journey.begins.name else []

    def _not_passed(self, journey: _Journey, findings: Findings) -> None:
        guest, bridge = journey.begins.guest, ", ".join(self.bridges)
        source, reason = mac_text(journey.source), journey.dropped_for
        if not reason:
            states = self._of(journey.begins.name) - {_ISOLATED}
            reason = f"of its port, {_now(states)}" if states else "the frame itself shows no reason"
        says = f"The bridge {bridge} does not let in frames that {guest} sent: {reason}"
        findings.add(
            "bridge.not_passed", (journey.begins.name, reason), journey.number, says, _RULE,
            f"on {journey.begins.name} and at no other point; from {source} to {mac_text(journey.destination)}",
            host=source if journey.dropped_for else bridge, absence=not journey.dropped_for,
        )  # fmt: skip

    def _of(self, point: str) -> frozenset[str]:
        return self._held_back.get(point, frozenset())

    def _why_not_delivered(self, journey: _Journey, name: str) -> str:
        """What keeps it back between the bridge and the card, as their ports stand now."""
        target, begin = self._of(name), self._of(journey.begins.name)
        if states := target - {_ISOLATED}:
            return f"of that card's port, {_now(states)}"
        if _ISOLATED in target & begin:
            return f"the ports of both cards are {_ISOLATED} from each other"
        if filters := frozenset[str]().union(*map(self._of, self.bridges)):
            return f"{', '.join(sorted(filters))} of the bridge may keep it back"
        return _ON_THE_WAY

    def _not_delivered(self, journey: _Journey, name: str, findings: Findings) -> None:
        begins, there = journey.begins, ", ".join(f"{point} ({number})" for point, (number, _) in journey.seen.items())
        sender = begins.guest or "the host"
        says = f"Frames by {sender} for {self.cards[name].guest} do not come to its card {name}: "
        says += self._why_not_delivered(journey, name)
        findings.add(
            "bridge.not_delivered", (begins.name, name), journey.number, says, _RULE,
            f"on {begins.name} ({journey.number}){f', {there}' if there else ''}, and not on {name}",
            host=", ".join(self.bridges), absence=True,
        )  # fmt: skip


def _now(reasons: frozenset[str]) -> str:
    return f"{' and '.join(sorted(reasons))} (as it stands now)"


def _key(frame: Frame, link: Ethernet) -> bytes:
    """What stays the same on a frame's way."""
    key = bytearray(frame.data[:12] + frame.data[12 + 4 * len(link.tags) : frame.end])
    header = frame.transport
    if isinstance(header, (Tcp, Udp)):
        at = header.offset + (16 if isinstance(header, Tcp) else 6) - 4 * len(link.tags)
        key[at : at + 2] = b"\0\0"
    return bytes(key)
