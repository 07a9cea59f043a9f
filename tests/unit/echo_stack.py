"""A guest with a TCP that sends back what it gets, on a wire and a clock of its own; with a defect by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rawtap.examine.values import Seen

_LARGEST, _MOST, _OPEN = 1460, 10, 65535
_PROBED = 0.5  # seconds; of the first question about a window of 0


@dataclass
class Connection:
    """Places are those of bytes: in `out`, and in what came."""

    head: Any
    ports: dict[str, int]
    theirs: int
    ours: int
    window: int
    size: int
    rto: float
    due: float | None
    asked: float
    came: int = 0
    una: int = 0
    sent: int = 0
    doubles: int = 0
    wait: float = _PROBED
    is_open: bool = False
    out: bytearray = field(default_factory=bytearray)
    kept: dict[int, bytes] = field(default_factory=dict)
    most: int = 0  # of the windows that were said


class Echo:
    """The guest: call it with a frame, and have its answers; `fired` when its next timer is `due`."""

    def __init__(self, defect: str = "") -> None:
        self.defect = defect
        self.now = 0.0
        self.connections: dict[tuple[str, int], Connection] = {}
        self.numbers: list[int] = []

    def has(self, defect: str) -> bool:
        return self.defect == defect

    def __call__(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import ICMP, IP, TCP, Ether

        packet = Ether(frame)
        if ICMP in packet and packet[ICMP].type == 3:
            yield from self._told(frame)
        elif ICMP in packet:
            yield from self._echo(packet)
        elif TCP in packet and (self.has("no sum") or not Seen(frame).wrong_sums):
            yield from self._segment(packet, packet[IP].src)

    def _echo(self, packet: Any) -> Iterator[bytes]:
        from scapy.all import ICMP, IP, Ether, Raw

        asked = packet[ICMP]
        if asked.type != 8:
            return
        if asked.id != 0x5259:  # no health check
            number = asked.id << 16 | asked.seq
            is_left_out = {
                "echo once": number in self.numbers[-1:],
                "echo in order": number < max(self.numbers, default=0),
            }
            self.numbers.append(number)
            if is_left_out.get(self.defect):
                return
        head = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src)
        yield bytes(head / ICMP(type=0, id=asked.id, seq=asked.seq) / Raw(asked[Raw].load))

    def _told(self, frame: bytes) -> Iterator[bytes]:
        """A packet was too large: its quoted header has the ports."""
        seen = Seen(frame).fields
        key = seen["IPerror.dst"], int.from_bytes(frame[64:66], "big")
        if (it := self.connections.get(key)) and not self.has("no errors"):
            it.size = min(it.size, seen["ICMP.nexthopmtu"] - 40)
            it.sent = it.una
            yield from self._push(it)

    # ------------------------------------------------------------------------------ in

    def _segment(self, packet: Any, host: str) -> Iterator[bytes]:
        from scapy.all import TCP, Raw

        segment = packet[TCP]
        key = host, segment.sport
        if segment.flags & 4:
            self.connections.pop(key, None)
        elif segment.flags & 2:
            it = self.connections[key] = self._new(packet, segment)
            yield self._made(it, 0x12, -1)
        elif it := self.connections.get(key):
            yield from self._acknowledged(it, segment, Raw in segment)
            if self.has("resets") and not it.window:
                yield self._made(it, 0x14, it.sent)
                return
            if Raw in segment and not (self.has("halves") and len(segment[Raw].load) > it.most // 2 * 8):
                yield from self._data(it, (segment.seq - it.theirs) % (1 << 32), bytes(segment[Raw].load))
            yield from self._push(it)

    def _new(self, packet: Any, segment: Any) -> Connection:
        from scapy.all import IP, Ether

        head = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src, flags="DF")
        ports = {"sport": segment.dport, "dport": segment.sport}
        said = dict(segment.options).get("MSS", _LARGEST if self.has("default size") else 536)
        size = _LARGEST if self.has("any size") else said
        rto = self._rto(0.0)
        due = None if self.has("syn ack once") else self.now + 1.0
        return Connection(head, ports, segment.seq + 1, 1000, segment.window, size, rto, due, self.now)

    def _rto(self, trip: float) -> float:
        """RFC 6298, 2.2 and 2.4."""
        if self.has("hasty"):
            return 0.15
        return max(3 * trip, 0.3 if self.has("least") else 1.0)

    def _acknowledged(self, it: Connection, segment: Any, has_data: bool) -> Iterator[bytes]:
        place = segment.ack - it.ours
        if not it.is_open:
            it.is_open, it.rto, it.due = True, self._rto(self.now - it.asked), None
        is_same, it.window = it.window == segment.window, segment.window
        it.most = max(it.most, it.window)
        if place > it.una:
            it.una, it.sent, it.doubles = place, max(place, it.sent), 0
            it.rto = self._rto(self.now - it.asked)
            it.due = self.now + it.rto if it.una < it.sent else None
        elif place == it.una < it.sent and not has_data and is_same:
            it.doubles += 1
            if it.doubles == 3 and self.defect not in {"not fast", "never again"}:
                yield self._piece(it, it.una, it.size)

    def _data(self, it: Connection, place: int, data: bytes) -> Iterator[bytes]:
        if self.has("any order") or (self.has("doubles") and place + len(data) <= it.came):
            it.out += data
            it.came = max(it.came, place + len(data))
        elif place > it.came:
            it.kept[place] = data
            if self.has("not ahead"):
                return
        elif place + len(data) > it.came:
            it.out += data[0 if self.has("overlap") else it.came - place :]
            it.came = place + len(data)
            for at in sorted(it.kept):
                if at <= it.came < at + len(it.kept[at]):
                    it.out += it.kept[at][it.came - at :]
                    it.came = at + len(it.kept[at])
        if self.has("discards"):
            it.out.clear()
        yield self._made(it, 0x10, it.sent)

    # ----------------------------------------------------------------------------- out

    def _made(self, it: Connection, flags: int, place: int, data: bytes = b"") -> bytes:
        from scapy.all import TCP, Raw

        options = [("MSS", _LARGEST)] if flags & 2 else []
        head = TCP(
            **it.ports,
            flags=flags,
            seq=(it.ours + place) % (1 << 32),
            ack=(it.theirs + it.came) % (1 << 32),
            window=_OPEN,
        )
        head.options = options
        return bytes(it.head / head / Raw(data)) if data else bytes(it.head / head)

    def _piece(self, it: Connection, place: int, size: int) -> bytes:
        data = bytes(it.out[place : place + size])
        is_again = place < it.sent
        if is_again and self.has("other bytes"):
            data = data[::-1]
        return self._made(it, 0x18, place, data)

    def _push(self, it: Connection) -> Iterator[bytes]:
        edge = it.una + (_OPEN if self.has("any window") else it.window)
        while it.sent < min(edge, len(it.out), it.una + _MOST * it.size):
            size = min(it.size, edge - it.sent, len(it.out) - it.sent)
            piece = self._piece(it, it.sent, size)
            if it.due is None:
                it.asked = self.now
                it.due = self.now + it.rto
            it.sent += size
            yield piece
        if it.una == it.sent < len(it.out) and it.due is None:
            it.due = None if self.has("no probes") else self.now + it.wait

    def due(self) -> float | None:
        return min((it.due for it in self.connections.values() if it.due is not None), default=None)

    def fired(self) -> Iterator[bytes]:
        """What its timers send that are due by now."""
        for it in list(self.connections.values()):
            if it.due is None or it.due > self.now:
                continue
            if not it.is_open:
                it.due = None
                it.ours += 7 if self.has("other syn ack") else 0
                yield self._made(it, 0x12, -1)
            elif it.una < it.sent and self.has("never again"):
                it.due = None
            elif it.una < it.sent:
                it.rto *= 1 if self.defect in {"steady", "hasty"} else 2
                it.due = self.now + it.rto
                end, it.sent = it.sent, it.una + 1  # what is sent is sent again
                size = min(it.size, end - it.una)
                yield self._piece(it, it.una, size)
                it.sent = it.una + size
            else:
                it.wait *= 1 if self.has("steady") else 2
                it.due = self.now + it.wait
                yield self._made(it, 0x10, it.sent - 1)


class Wire:
    """Its wire, without any way to go; see `rawtap.examine.trial.Wire`. Time passes while somebody waits."""

    def __init__(self, guest: Echo) -> None:
        self.guest = guest
        self.frames: list[bytes] = []

    async def send(self, frame: bytes) -> None:
        self.frames += self.guest(frame)

    async def more(self, than: int, patience: float) -> bool:
        until = self.guest.now + patience
        while len(self.frames) <= than and self.guest.now < until:
            due = self.guest.due()
            self.guest.now = until if due is None else min(until, max(due, self.guest.now))
            self.frames += self.guest.fired()
        return len(self.frames) > than

    def lost(self) -> int:
        return 0
