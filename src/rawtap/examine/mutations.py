"""Frames that nobody would send, made of some that rules do: the same from the same seed. Pure.

A case is the frames of one rule of which some are changed. Most are given right checksums again, so that they come
further than the first check. Their link addresses stay: they are from us, and to the guest or to a group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from rawtap.errors import RequestInvalid
from rawtap.examine.rules import Ask, Rule
from rawtap.examine.values import made, names_in, needed
from rawtap.packets import checks

_LONGEST = 1514
_LINK = 12  # bytes of both addresses
_HEADER = 14
_NEAR = 24  # bytes; headers are more worth than data
_MOST = 12  # frames of a case
_BYTES = (0, 1, 2, 4, 5, 7, 8, 15, 16, 0x3F, 0x40, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (0, 1, 7, 8, 20, 0x1FFF, 0x2000, 0x3FFF, 0x7FFF, 0x8000, 0xFFF0, 0xFFFF)
_CHANGES = (1, 1, 1, 2, 2, 3, 5)
_REPAIRED, _MIXED, _TWICE = 0.85, 0.15, 0.1  # of the cases
# Where the checksum is, by the protocol's number, and whether it is over the addresses as well.
_SUMS = {1: (2, False), 6: (16, True), 17: (6, True), 58: (2, True)}
_OPTIONS, _FRAGMENT = {0, 60}, 44  # headers of IPv6; the former say their length (RFC 8200, 4)

Case = tuple[bytes, ...]

_WISH = re.compile(r"fuzz(?:[ :](\d{1,9}))?(?:[ :]([1-9]\d{0,2}))?")
_SECONDS = 60


@dataclass(frozen=True)
class Fuzz:
    """Which cases are tried, and for how long."""

    seed: int
    seconds: int

    @classmethod
    def of(cls, what: str) -> Fuzz | None:
        """What "fuzz SEED SECONDS" asks for, where both may be absent; None for what asks for another thing.

        Raises:
            RequestInvalid: Neither of both.
        """
        if not what.startswith("fuzz"):
            return None
        if (found := _WISH.fullmatch(what)) is None:
            raise RequestInvalid(
                f"{what[:60]!r} is no way to fuzz", cure='Use "fuzz", "fuzz SEED" or "fuzz SEED SECONDS"'
            )
        return cls(int(found[1] or 1), int(found[2] or _SECONDS))


def sources(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those whose frames can be changed: they send some, and these have nothing of the guest's answers in them."""
    return tuple(rule for rule in rules if any(step.send for step in rule.steps) and not _repeats(rule))


def _repeats(rule: Rule) -> bool:
    learned = {name for step in rule.steps if isinstance(step, Ask) for name in step.keep}
    return bool(learned & names_in(rule.steps))


def seeds(rules: Sequence[Rule], names: Mapping[str, str | int]) -> list[Case]:
    """What each of these `sources` sends, of those all of whose names are known."""
    known = [rule for rule in rules if needed(rule) <= names.keys()]
    return [tuple(made(frame, names) for step in rule.steps for frame in step.send) for rule in known]


def cases(seeds: Sequence[Case], seed: int) -> Iterator[Case]:
    """Cases without end."""
    random = Random(seed)  # noqa: S311 - it has to be the same again, and guards nothing
    while True:
        frames = list(random.choice(seeds))[:_MOST]
        for _ in range(random.choice(_CHANGES)):
            at = random.randrange(len(frames))
            frames[at] = _changed(frames[at], random)
        if random.random() < _MIXED:
            random.shuffle(frames)
        if random.random() < _TWICE:
            frames.append(random.choice(frames))
        yield tuple(map(repaired, frames) if random.random() < _REPAIRED else frames)


def _changed(frame: bytes, random: Random) -> bytes:
    """One thing of it is different."""
    at = min(_LINK + int(random.expovariate(1 / _NEAR)), len(frame) - 1)
    size = random.choice((1, 2, 4, 8, 40))
    match random.randrange(7):
        case 0:
            new = frame[:at] + bytes([frame[at] ^ 1 << random.randrange(8)]) + frame[at + 1 :]
        case 1:
            new = frame[:at] + bytes([random.choice(_BYTES)]) + frame[at + 1 :]
        case 2:
            new = frame[:at] + random.choice(_WORDS).to_bytes(2, "big") + frame[at + 2 :]
        case 3:
            new = frame[: max(at, _HEADER)]
        case 4:
            new = frame + random.randbytes(random.choice((1, 3, 8, 64, 400)))
        case 5:
            new = frame[:at] + frame[at + size :]
        case _:
            new = frame[:at] + frame[at : at + size] + frame[at:]
    return new[:_LONGEST].ljust(_HEADER, b"\0")


def cut(frame: bytes, size: int) -> bytes:
    """The first so many bytes of it; the length in its IP header fits again where it did."""
    for kind, field, before in ((b"\x08\0", slice(16, 18), _HEADER), (b"\x86\xdd", slice(18, 20), 54)):
        is_fitting = frame[field] == max(0, len(frame) - before).to_bytes(2, "big")
        if frame[12:14] == kind and is_fitting and size >= max(before, field.stop):
            return frame[: field.start] + (size - before).to_bytes(2, "big") + frame[field.stop : size]
    return frame[:size]


def repaired(frame: bytes) -> bytes:
    """The same with right checksums, as far as its headers say where they are."""
    data = bytearray(frame)
    if frame[12:14] == b"\x08\0" and len(frame) >= 34:  # noqa: PLR2004 - an IPv4 header without options
        size = (data[14] & 15) * 4
        if size < 20 or _HEADER + size > len(data):  # noqa: PLR2004 - the same
            return frame
        _sum(data, _HEADER, _HEADER + size, 10, b"")
        length = int.from_bytes(data[16:18], "big")
        end = min(len(data), _HEADER + length) if length >= size else len(data)
        if not (data[20] & 0x3F or data[21]):  # the sum of a fragment is not its own
            _upper(data, data[23], _HEADER + size, end, bytes(data[26:34]))
    elif frame[12:14] == b"\x86\xdd" and len(frame) >= 54:  # noqa: PLR2004 - an IPv6 header
        end = min(len(data), 54 + int.from_bytes(data[18:20], "big"))
        protocol, at = data[20], 54
        while at + 8 <= end and (protocol in _OPTIONS or (protocol == _FRAGMENT and not data[at + 2] | data[at + 3])):
            protocol, at = data[at], at + 8 * (1 if protocol == _FRAGMENT else data[at + 1] + 1)
        _upper(data, protocol, at, end, bytes(data[22:54]))
    return bytes(data)


def _upper(data: bytearray, protocol: int, begin: int, end: int, addresses: bytes) -> None:
    place, has_addresses = _SUMS.get(protocol, (0, False))
    if place and begin + place + 2 <= end:
        pseudo = addresses + bytes([0, protocol]) + (end - begin).to_bytes(2, "big")
        _sum(data, begin, end, place, pseudo if has_addresses else b"")


def _sum(data: bytearray, begin: int, end: int, place: int, before: bytes) -> None:
    field = slice(begin + place, begin + place + 2)
    data[field] = b"\0\0"
    data[field] = (0xFFFF - checks.total(before + bytes(data[begin:end]))).to_bytes(2, "big")
