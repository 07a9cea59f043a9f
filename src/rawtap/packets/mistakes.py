# cython: annotation_typing=False, nonecheck=True
"""The classic mistakes behind a wrong value: each function names the one that explains what was found, or says "".

Pure: numbers and bytes in, a few words out, fit to follow "found 0x1234, expected 0x5678: ". Every judge asks here, so
that the same mistake is called by the same name everywhere. A mistake is named only where it gives exactly what was
found.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections.abc import Iterator

from rawtap.packets._sums import plain_sum

SWAPPED = "its bytes are swapped (written in the byte order of a little-endian processor)"
_WORD = 0xFFFF


def swapped(number: int, size: int = 2) -> int:
    """The number whose `size` bytes are in the opposite order."""
    if size == 2:
        return (number & 0xFF) << 8 | number >> 8
    return int.from_bytes(number.to_bytes(size, "big"), "little")


def told(says: str, mistake: str) -> str:
    """A sentence with the mistake behind it, if there is one."""
    return f"{says}: {mistake}" if mistake else says


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
    carries = 0
    for text, plain in _sums(zeroed, addresses, protocol, header, behind):
        carries = carries or plain
        mistake = _compared(found, plain)
        if mistake is not None:
            return f"{mistake}, and {text}" if mistake and text else mistake or text
    if found == ~carries & _WORD:
        return "its carries were not added"
    return "it was not filled in" if found == 0 else ""


def _sums(zeroed: bytes, addresses: bytes, protocol: int, header: int, behind: bytes) -> Iterator[tuple[str, int]]:
    """The right sum, and sums as they come out by a mistake; all before their carries are added."""
    data, pseudo, size = _plain(zeroed), _plain(addresses), len(zeroed) if addresses else 0
    more = protocol + size if addresses else 0
    yield "", data + pseudo + more
    if addresses:
        source = _plain(addresses[: len(addresses) // 2])
        yield "it was made without the pseudo header", data
        yield "its pseudo header has no length", data + pseudo + protocol
        yield "its pseudo header has no protocol", data + pseudo + size
        yield "its pseudo header has no source address", data + pseudo - source + more
        yield "its pseudo header has no destination address", data + source + more
        text = "the length in its pseudo header has its bytes swapped"
        yield text, data + pseudo + protocol + swapped(size & _WORD)
        yield "the protocol in its pseudo header has its bytes swapped", data + pseudo + (protocol << 8) + size
        for high in (8, 12, 20):
            yield f"the length in its pseudo header is {high} bytes too high", data + pseudo + more + high
    if 0 < header < len(zeroed):
        of_header = plain_sum(zeroed, 0, header)
        yield "it was made over the header alone", of_header + pseudo + more
        yield "it was made over the data alone", plain_sum(zeroed, header, len(zeroed)) + pseudo + more
    if len(zeroed) % 2:
        last = zeroed[-1]
        yield "the last, odd byte is left out", data - (last << 8) + pseudo + more
        yield "the last, odd byte stands for the low half of its word", data - (last << 8) + last + pseudo + more
    if behind.strip(b"\0"):
        yield "the padding is summed as well", _plain(zeroed + behind) + pseudo + more


def _compared(found: int, plain: int) -> str | None:
    """The mistake by which a checksum of a sum is what was found: "" for none, None where there is no such mistake."""
    value = _folded(plain) ^ _WORD
    if found == value or (not value and found == _WORD):
        return ""
    if found == value ^ _WORD:
        return "it is not complemented"
    return SWAPPED if found == swapped(value) else None


def _plain(data: bytes) -> int:
    """The sum of 16-bit words, carries and all."""
    return plain_sum(data, 0, len(data))


def _folded(total: int) -> int:
    """The ones' complement sum: carries are added until there are none."""
    return total and (total - 1) % _WORD + 1
