"""The classic mistakes behind a wrong value: each function names the one that explains what was found, or says "".

Pure: numbers and bytes in, a few words out, fit to follow "found 0x1234, expected 0x5678: ". Every judge asks here, so
that the same mistake is called by the same name everywhere. A mistake is named only where it gives exactly what was
found.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

SWAPPED = "its bytes are swapped (written in the byte order of a little-endian processor)"
_WORD = 0xFFFF


def swapped(number: int, size: int = 2) -> int:
    """The number whose `size` bytes are in the opposite order."""
    return int.from_bytes(number.to_bytes(size, "big"), "little")


def number(found: int, expected: int, size: int = 2) -> str:
    """An identifier, a port, a sequence number, of `size` bytes."""
    most = (1 << size * 8) - 1
    high, low = expected >> 16, expected & _WORD
    halves = size == 4
    return _named(
        found,
        expected,
        (SWAPPED, swapped(expected, size)),
        ("its two halves are swapped", low << 16 | high if halves else None),
        ("the bytes of each half are swapped", swapped(high) << 16 | swapped(low) if halves else None),
        ("each of its bits is inverted", expected ^ most),
        ("only its lower two bytes were kept", low if halves and high else None),
        ("one too high", (expected + 1) & most),
        ("one too low", (expected - 1) & most),
    )


def _named(found: object, expected: object, *mistakes: tuple[str, object]) -> str:
    """The first mistake that gives what was found."""
    return "" if found == expected else next((text for text, value in mistakes if value == found), "")


def port(found: int, known: set[int]) -> int | None:
    """The port of `known` that was meant: what was found is that with its bytes swapped (13568 is 53)."""
    meant = swapped(found)
    return meant if found not in known and meant in known else None


def address(found: bytes, own: bytes) -> str:
    """A link-layer or network address that should be `own`."""
    if len(found) != len(own):
        return ""
    differing = [at for at, (one, other) in enumerate(zip(found, own, strict=True)) if one != other]
    return _named(
        found,
        own,
        ("it is all zeros", bytes(len(own))),
        ("its bytes are in reversed order", own[::-1]),
        ("the bytes of each pair are swapped", b"".join(own[at : at + 2][::-1] for at in range(0, len(own), 2))),
        *((f"its bytes are rotated by {by}", own[by:] + own[:by]) for by in range(1, len(own))),
        *((f"only byte {at} differs", found) for at in differing if len(differing) == 1),
    )


def length(found: int, right: int, header: int = 0, before: int = 0, size: int = 2) -> str:
    """A length field of `size` bytes that should be `right`, of which `header` bytes are the header's own; `before` it
    come `before` bytes of other headers."""
    return _named(
        found,
        right,
        (SWAPPED, swapped(right, size)),
        ("the header is not counted", right - header),
        ("the header is counted twice", right + header),
        ("the headers before it are counted as well", right + before),
        ("it is counted in bits", right * 8),
        *((f"it is counted in units of {unit} bytes", -(-right // unit)) for unit in (4, 8, 2)),
        *((f"it is rounded up to a multiple of {unit}", -(-right // unit) * unit) for unit in (2, 4, 8, 16)),
        ("one too high", right + 1),
        ("one too low", right - 1),
    )


def offset(found: int, right: int) -> str:
    """A fragment's place: both are what the header's field held, in units of 8 bytes (RFC 791, 3.1)."""
    in_bytes = "it is in bytes, not in units of 8 bytes"
    return _named(found, right, (in_bytes, right * 8), (SWAPPED, swapped(right) & 0x1FFF))


def checksum(
    covered: bytes,
    at: int,
    found: int,
    *,
    addresses: bytes = b"",
    protocol: int = 0,
    header: int = 0,
    behind: bytes = b"",
) -> str:
    """An Internet checksum (RFC 1071) that is wrong.

    Args:
        covered: The bytes that it is made of, from the header to the end.
        at: Where it stands in them.
        found: What stands there.
        addresses: Source and destination of the pseudo header, none for a checksum without one.
        protocol: Of the pseudo header.
        header: Size of the header, where `covered` is more than that.
        behind: Padding that follows.
    """
    zeroed = covered[:at] + b"\0\0" + covered[at + 2 :]
    right = _folded(zeroed, addresses, protocol, len(zeroed)) ^ _WORD
    if found in {right, right or _WORD}:
        return ""
    if found == swapped(right):
        return SWAPPED
    for text, value in _sums(zeroed, addresses, protocol, header, behind):
        if found == value ^ _WORD:
            return text
        if found == value:
            return "it is not complemented" + (f", and {text}" if text else "")
        if found == swapped(value ^ _WORD):
            return f"its bytes are swapped, and {text}"
    return "it was not filled in" if found == 0 else ""


def _sums(zeroed: bytes, addresses: bytes, protocol: int, header: int, behind: bytes) -> Iterator[tuple[str, int]]:
    """Sums as they come out by a mistake, not complemented."""
    size = len(zeroed)
    yield "", _folded(zeroed, addresses, protocol, size)
    if addresses:
        half = len(addresses) // 2
        yield "it was made without the pseudo header", _folded(zeroed)
        yield "its pseudo header has no length", _folded(zeroed, addresses, protocol)
        yield "its pseudo header has no protocol", _folded(zeroed, addresses, 0, size)
        yield "its pseudo header has no source address", _folded(zeroed, addresses[half:], protocol, size)
        yield "its pseudo header has no destination address", _folded(zeroed, addresses[:half], protocol, size)
        yield (
            "the length in its pseudo header has its bytes swapped",
            _folded(zeroed, addresses, protocol, swapped(size)),
        )
        yield "the protocol in its pseudo header has its bytes swapped", _folded(zeroed, addresses, protocol << 8, size)
        for more in (8, 12, 20):
            text = f"the length in its pseudo header is {more} bytes too high"
            yield text, _folded(zeroed, addresses, protocol, size + more)
    if 0 < header < size:
        yield "it was made over the header alone", _folded(zeroed[:header], addresses, protocol, size)
        yield "it was made over the data alone", _folded(zeroed[header:], addresses, protocol, size)
    if size % 2:
        yield "the last, odd byte is left out", _folded(zeroed[:-1], addresses, protocol, size)
        last = zeroed[:-1] + b"\0" + zeroed[-1:]
        yield "the last, odd byte stands for the low half of its word", _folded(last, addresses, protocol, size)
    if behind.strip(b"\0"):
        yield "the padding is summed as well", _folded(zeroed + behind, addresses, protocol, size)
    yield "its carries were not added", _plain(zeroed, addresses, protocol + (size if addresses else 0)) & _WORD


def _plain(data: bytes, addresses: bytes, more: int) -> int:
    words = addresses + data + b"\0" * (len(data) % 2)
    return sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2)) + more


def _folded(data: bytes, addresses: bytes = b"", protocol: int = 0, size: int = 0) -> int:
    """The ones' complement sum; of the pseudo header its length's and protocol's words, where there are addresses."""
    total = _plain(data, addresses, protocol + size if addresses else 0)
    return reduce(lambda value, _: (value & _WORD) + (value >> 16), range(3), total)
