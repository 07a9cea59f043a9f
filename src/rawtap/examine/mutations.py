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
_IPV4, _IPV6, _BEHIND_IPV6 = b"\x08\0", b"\x86\xdd", 54
# By the type: where the length in an IP header is, and what it does not count.
_LENGTHS = ((_IPV4, slice(16, 18), _HEADER), (_IPV6, slice(18, 20), _BEHIND_IPV6))

Case = tuple[bytes, ...]

_WISH = re.compile(r"fuzz(?:[ :](\d{1,9})(?:[ :]([1-9]\d{0,2})(?: ([^\d\s].*))?)?)?")
_SECONDS = 60


@dataclass(frozen=True)
class Fuzz:
    """Which cases are tried, and for how long; `command` has the guest's console print how much memory is free."""

    seed: int
    seconds: int
    command: str = ""

    @classmethod
    def of(cls, what: str) -> Fuzz | None:
        """What "fuzz SEED SECONDS COMMAND" asks for, each of which may be absent; None where that is another thing.

        Raises:
            RequestInvalid: It is nothing of both.
        """
        if not what.startswith("fuzz"):
            return None
        if (found := _WISH.fullmatch(what)) is None:
            raise RequestInvalid(
                f"{what[:60]!r} is no way to fuzz",
                cure='Use "fuzz", "fuzz SEED" or "fuzz SEED SECONDS", and then a command that prints free memory',
            )
        return cls(int(found[1] or 1), int(found[2] or _SECONDS), found[3] or "")


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
            frames[at] = changed(frames[at], random)
        if random.random() < _MIXED:
            random.shuffle(frames)
        if random.random() < _TWICE:
            frames.append(random.choice(frames))
        yield tuple(map(repaired, frames) if random.random() < _REPAIRED else frames)


def changed(frame: bytes, random: Random) -> bytes:
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
    return without(frame, slice(min(size, len(frame)), len(frame)))


def without(frame: bytes, piece: slice) -> bytes:
    """All of it but that piece; the length in its IP header fits again where it did, and is not in the piece."""
    rest = frame[: piece.start] + frame[piece.stop :]
    for kind, field, before in _LENGTHS:
        is_fitting = frame[field] == max(0, len(frame) - before).to_bytes(2, "big")
        if frame[12:14] == kind and is_fitting and piece.start >= field.stop and len(rest) >= max(before, field.stop):
            return rest[: field.start] + (len(rest) - before).to_bytes(2, "big") + rest[field.stop :]
    return rest


@dataclass(frozen=True)
class Sum:
    """A checksum of a frame's: where it stands, the bytes it is made of, and what of a pseudo header is before them.

    `is_upper`: it is not IPv4's own.
    """

    place: int
    begin: int
    end: int
    before: bytes = b""
    is_upper: bool = True


def sums(frame: bytes) -> Iterator[Sum]:
    """Those of its checksums that its headers say the place of; a fragment's is not of its own data alone."""
    if frame[12:14] == _IPV4 and len(frame) >= 34:  # noqa: PLR2004 - a header without options
        size = (frame[_HEADER] & 15) * 4
        if size < 20 or _HEADER + size > len(frame):  # noqa: PLR2004 - the same
            return
        yield Sum(_HEADER + 10, _HEADER, _HEADER + size, is_upper=False)
        length = int.from_bytes(frame[16:18], "big")
        end = min(len(frame), _HEADER + length) if length >= size else len(frame)
        if not (frame[20] & 0x3F or frame[21]):
            yield from _upper(frame[23], _HEADER + size, end, frame[26:34])
    elif frame[12:14] == _IPV6 and len(frame) >= _BEHIND_IPV6:
        end = min(len(frame), _BEHIND_IPV6 + int.from_bytes(frame[18:20], "big"))
        protocol, at = frame[20], _BEHIND_IPV6
        while at + 8 <= end and (protocol in _OPTIONS or (protocol == _FRAGMENT and not frame[at + 2] | frame[at + 3])):
            protocol, at = frame[at], at + 8 * (1 if protocol == _FRAGMENT else frame[at + 1] + 1)
        yield from _upper(protocol, at, end, frame[22:54])


def _upper(protocol: int, begin: int, end: int, addresses: bytes) -> Iterator[Sum]:
    place, has_addresses = _SUMS.get(protocol, (0, False))
    if place and begin + place + 2 <= end:
        pseudo = addresses + bytes([0, protocol]) + (end - begin).to_bytes(2, "big")
        yield Sum(begin + place, begin, end, pseudo if has_addresses else b"")


def repaired(frame: bytes, *, upper: bool = True) -> bytes:
    """The same with right checksums, as far as its headers say where they are; without `upper`, IPv4's alone."""
    data = bytearray(frame)
    for each in sums(frame):
        if upper or not each.is_upper:
            field = slice(each.place, each.place + 2)
            data[field] = b"\0\0"
            total = checks.total(each.before + bytes(data[each.begin : each.end]))
            data[field] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(data)
