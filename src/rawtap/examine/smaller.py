"""What may be left of a frame that kills: ever shorter ones, with more zeros, and then with lower values. Pure.

What each of these functions gives is worth trying; whether it kills, the guest says. Less is by `weight`: bytes first,
then bytes that are not zero, then their values. Link addresses stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from rawtap.examine.mutations import repaired, sums, without

_LINK = 12  # bytes of both addresses
_LEAST = 14
_IPV4 = b"\x08\0"
_IP, _OPTIONS = 14, 34  # where an IPv4 header begins, and its options
_PIECES = (40, 20, 8, 4, 2, 1)
_FRONT = 160  # bytes in which pieces are left out: headers are there
_MOST = 0xFF
_FLIPPED = 0xA5

Weight = tuple[int, int, int]


def weight(frame: bytes) -> Weight:
    """Its length, how many of its bytes are not zero, and their sum.

    A checksum that is there counts as two bytes, whatever it is: it follows from the others.
    """
    places = [each.place for each in sums(frame)]
    body = bytearray(frame[_LINK:])
    there = 0
    for place in places:
        there += 2 * any(frame[place : place + 2])
        body[place - _LINK : place - _LINK + 2] = b"\0\0"
    return len(frame), len(body) - body.count(0) + there, sum(body)


def variants(frame: bytes) -> tuple[bytes, ...]:
    """It with right checksums, with a right one of IPv4 alone, and as it is: each once."""
    return tuple(dict.fromkeys((repaired(frame), repaired(frame, upper=False), frame)))


def less(frames: Iterable[bytes], than: bytes) -> Iterator[bytes]:
    """Those `variants` of frames that are of less weight than another; each once."""
    most, told = weight(than), set[bytes]()
    for frame in frames:
        for each in variants(frame):
            if each not in told and weight(each) < most:
                told.add(each)
                yield each


def with_bytes(frame: bytes, place: slice, data: bytes) -> bytes:
    """It with other bytes there."""
    return frame[: place.start] + data + frame[place.stop :]


def zeroed(frame: bytes, place: slice) -> bytes:
    """It with zeros there."""
    return with_bytes(frame, place, bytes(place.stop - place.start))


def flipped(frame: bytes, place: slice) -> bytes:
    """It with other bytes there, none of which is as it was."""
    return with_bytes(frame, place, bytes(each ^ _FLIPPED for each in frame[place]))


def pieces_out(frame: bytes) -> Iterator[bytes]:
    """A piece is gone from its middle: it is shorter by that, or has zeros for it at its end. Headers that are in front
    of another (tags, SNAP, options of IPv4's) are such pieces."""
    if frame[12:14] == _IPV4 and len(frame) >= _OPTIONS and (extra := (frame[_IP] & 15) * 4 - 20) > 0:
        bare = without(frame, slice(_OPTIONS, min(_OPTIONS + extra, len(frame))))
        yield with_bytes(bare, slice(_IP, _IP + 1), bytes([frame[_IP] & 0xF0 | 5]))
    for size in _PIECES:
        for at in range(_LINK, min(_FRONT, len(frame) - size + 1)):
            if len(frame) - size >= _LEAST:
                yield without(frame, slice(at, at + size))
            yield frame[:at] + frame[at + size :] + bytes(size)


def values(frame: bytes, at: int) -> Iterator[bytes]:
    """It with lower values of a byte, from the lowest on; none for a byte of a checksum."""
    if at not in checksum_places(frame):
        for value in range(1, frame[at]):
            yield with_bytes(frame, slice(at, at + 1), bytes([value]))


def raised(frame: bytes, at: int) -> bytes:
    """It with the highest value of a byte: others may be needless then, as before a length beyond the end."""
    return with_bytes(frame, slice(at, at + 1), bytes([_MOST]))


def fewer_bytes(frame: bytes, than: bytes) -> Iterator[bytes]:
    """What is left of a frame without a piece, or with one more zero, if it has fewer bytes, or fewer that are not
    zero, than another."""
    zeros = (zeroed(frame, slice(at, at + 1)) for at in there(frame))
    most = weight(than)[:2]
    return (each for each in less(chain(zeros, pieces_out(frame)), frame) if weight(each)[:2] < most)


def there(frame: bytes) -> list[int]:
    """The places of its bytes that are not zero, behind the link addresses; without checksums."""
    of_sums = checksum_places(frame)
    return [at for at in range(_LINK, len(frame)) if frame[at] and at not in of_sums]


def checksum_places(frame: bytes) -> set[int]:
    """The places of its checksums' bytes."""
    return {each.place + byte for each in sums(frame) for byte in (0, 1)}
