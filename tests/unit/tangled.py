"""Captures of many TCP connections at once in which everything goes wrong that can, made by a seed.

Segments are lost, doubled, overtaken and damaged, windows close, numbers wrap, some frames are cut or are not TCP.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from rawtap.packets.checks import total

FIN, SYN, RST, ACK = 1, 2, 4, 16
_MOST = 0xFFFFFFFF
_LINKS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
_SECOND = 10**9
Timed = tuple[int, bytes]  # nanoseconds, frame


def capture(path: Path, seed: int, connections: int = 40) -> Path:
    """A pcap file of them, with microseconds."""
    chance = random.Random(seed)
    frames = sorted(each for number in range(connections) for each in _connection(chance, number))
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for at, frame in frames:
            kept = frame[: chance.randrange(len(frame))] if chance.random() < 0.01 else frame
            seconds, rest = divmod(at, _SECOND)
            file.write(struct.pack("=IIII", seconds + 1, rest // 1000, len(kept), len(frame)) + kept)
    return path


class _End:
    """One end: what it sends next, and what it has got."""

    def __init__(self, chance: random.Random) -> None:
        self.next = chance.choice([chance.randrange(1 << 32), _MOST - chance.randrange(5000)])
        self.got = 0
        self.window = chance.choice([0, 1000, 8192, 65535])
        self.scale = chance.choice([None, None, 0, 7, 20])


def _connection(chance: random.Random, number: int) -> Iterator[Timed]:
    ends, version = (_End(chance), _End(chance)), chance.choice([4, 4, 6])
    ports = (chance.choice([40000, 40000 + number, 80]), chance.choice([80, 443, 53]))
    clock = count(chance.randrange(5 * _SECOND), chance.choice([10_000, 1_000_000, 30_000_000]))

    def sent(way: int, flags: int, data: bytes = b"") -> Iterator[Timed]:
        end, other = ends[way], ends[1 - way]
        sequence = (end.next + chance.choice([0] * 30 + [1, -1, 500, -500, 1 << 31])) & _MOST
        acknowledged = (other.next + chance.choice([0] * 30 + [-1, 1, 1460, 1 << 24])) & _MOST
        frame = _frame(chance, version, way, ports, sequence, acknowledged if flags & ACK else 0, flags, end, data)
        end.next = (end.next + len(data) + (flags & SYN > 0) + (flags & FIN > 0)) & _MOST
        at = next(clock)
        fate = chance.random()
        if fate < 0.9:
            yield at + chance.choice([0] * 20 + [2_000_000, 50_000_000, 2 * _SECOND]), frame
        if fate > 0.86:  # again, or for the first time
            yield at + chance.choice([100_000, 5_000_000, 300_000_000, 3 * _SECOND]), frame

    opening = [(0, SYN, b""), (1, SYN | ACK, b""), (0, ACK, b"")][chance.choice([0, 0, 0, 0, 1, 2, 3]) :]
    for way, flags, data in opening:
        yield from sent(way, flags, data)
    for _ in range(chance.randrange(60)):
        way = chance.choice([0, 0, 0, 1])
        if chance.random() < 0.1:
            ends[way].window = chance.choice([0, 0, 1, 512, 65535])
        size = chance.choice([0, 0, 0, 1, 100, 1460, 1461, 4000])
        yield from sent(way, ACK | chance.choice([0] * 60 + [RST, SYN, FIN]), chance.randbytes(size))
    for way, flags in chance.choice([[(0, FIN | ACK), (1, FIN | ACK), (0, ACK)], [(1, RST)], [(0, RST | ACK)], []]):
        yield from sent(way, flags)


def _frame(
    chance: random.Random, version: int, way: int, ports: tuple[int, int], sequence: int, acknowledgment: int,
    flags: int, end: _End, data: bytes,
) -> bytes:  # fmt: skip
    options = b"\2\4\5\xb4" + (b"" if end.scale is None else bytes((1, 3, 3, end.scale))) if flags & SYN else b""
    head = struct.pack(
        "!HHIIBBHHH", *ports[:: -1 if way else 1], sequence, acknowledgment, 5 + len(options) // 4 << 4, flags,
        end.window, 0, 0,
    )  # fmt: skip
    size = 4 if version == 4 else 16
    source, destination = (bytes((10, *bytes(size - 2), 1 + each)) for each in (way, 1 - way))
    segment = head + options + data
    pseudo = source + destination + struct.pack("!II", len(segment), 6)
    partial = total(pseudo)
    right = (0xFFFF - total(pseudo + segment)) & 0xFFFF
    value = chance.choice([right] * 40 + [right ^ 0xFFFF, right + 1 & 0xFFFF, partial, 0])
    segment = segment[:16] + value.to_bytes(2, "big") + segment[18:]
    if version == 6:
        packet = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + source + destination + segment
    else:
        bits = chance.choice([0x4000] * 100 + [0x2000])
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), chance.randrange(1 << 16), bits, 64, 6, 0)
        ip += source + destination
        packet = ip[:10] + ((0xFFFF - total(ip)) & 0xFFFF).to_bytes(2, "big") + ip[12:] + segment
    kind, tag = (b"\x08\0", b"\x81\0\0\7") if version == 4 else (b"\x86\xdd", b"\x81\0\0\7")
    link = _LINKS[1 - way] + _LINKS[way] + chance.choice([b""] * 20 + [tag]) + kind
    frame = bytearray(link + packet)
    if chance.random() < 0.02:
        frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
    return bytes(frame)
