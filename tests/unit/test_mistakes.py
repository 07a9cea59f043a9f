"""For each wrong value the classic mistake is named that gives exactly that value, and none where none does."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rawtap.packets import mistakes
from rawtap.packets.checks import total

OWN = bytes.fromhex("525400123456")
ADDRESSES = bytes([10, 0, 2, 15, 10, 0, 2, 2])
UDP = 17
DATAGRAM = struct.pack("!HHHH", 4000, 53, 8 + 11, 0) + b"hello world"
HEADER = bytes.fromhex("4500 0040 1234 0000 4001 0000 c0a8fe0f c0a8fe02")


def ones(data: bytes, more: int = 0) -> int:
    """An independent sum: 16-bit words, carries added as they come."""
    value = 0
    for word in struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)):
        value += word
        value = (value & 0xFFFF) + (value >> 16)
    value += more
    return (value & 0xFFFF) + (value >> 16)


def judged(found: int, data: bytes = DATAGRAM, **fields: object) -> str:
    return mistakes.checksum(data, 6, found, addresses=ADDRESSES, protocol=UDP, **fields)  # type: ignore[arg-type]


RIGHT = ones(ADDRESSES + DATAGRAM, UDP + len(DATAGRAM)) ^ 0xFFFF


@pytest.mark.parametrize(
    ("found", "expected", "size", "named"),
    [
        (13568, 53, 2, mistakes.SWAPPED), (0x78563412, 0x12345678, 4, mistakes.SWAPPED),
        (0x56781234, 0x12345678, 4, "its two halves are swapped"),
        (0x34127856, 0x12345678, 4, "the bytes of each half are swapped"),
        (0xFFCA, 53, 2, "each of its bits is inverted"),
        (0x5678, 0x12345678, 4, "only its lower two bytes were kept"), (54, 53, 2, "one too high"),
        (52, 53, 2, "one too low"), (0, 0xFFFF, 2, "each of its bits is inverted"), (99, 53, 2, ""), (53, 53, 2, ""),
    ],
)  # fmt: skip
def test_a_number(found: int, expected: int, size: int, named: str) -> None:
    assert mistakes.number(found, expected, size) == named


def test_a_port_with_its_bytes_swapped_is_known_by_the_one_that_was_meant() -> None:
    assert mistakes.port(13568, {53, 67}) == 53
    assert mistakes.port(53, {53, 67}) is None
    assert mistakes.port(13569, {53, 67}) is None


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ("563412005452", "its bytes are in reversed order"), ("545212005634", "the bytes of each pair are swapped"),
        ("540012345652", "its bytes are rotated by 1"), ("565254001234", "its bytes are rotated by 5"),
        ("525400123457", "only byte 5 differs"), ("000000000000", "it is all zeros"), ("010203040506", ""),
        ("525400123456", ""), ("5254", ""),
    ],
)  # fmt: skip
def test_an_address(found: str, named: str) -> None:
    assert mistakes.address(bytes.fromhex(found), OWN) == named


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (0x1D00, mistakes.SWAPPED), (9, "the header is not counted"), (49, "the header is counted twice"),
        (63, "the headers before it are counted as well"), (29 * 8, "it is counted in bits"),
        (8, "it is counted in units of 4 bytes"), (30, "it is rounded up to a multiple of 2"),
        (32, "it is rounded up to a multiple of 4"), (28, "one too low"), (29, ""), (77, ""),
    ],
)  # fmt: skip
def test_a_length_of_29_bytes_with_a_header_of_20_behind_34(found: int, named: str) -> None:
    assert mistakes.length(found, 29, header=20, before=34) == named


def test_a_fragments_place_in_bytes() -> None:
    assert mistakes.offset(1480, 185) == "it is in bytes, not in units of 8 bytes"
    assert mistakes.offset(185, 185) == mistakes.offset(0, 0) == mistakes.offset(186, 185) == ""


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (RIGHT, ""),
        (RIGHT ^ 0xFFFF, "it is not complemented"),
        (mistakes.swapped(RIGHT), mistakes.SWAPPED),
        (ones(DATAGRAM) ^ 0xFFFF, "it was made without the pseudo header"),
        (ones(DATAGRAM), "it is not complemented, and it was made without the pseudo header"),
        (ones(ADDRESSES + DATAGRAM, UDP) ^ 0xFFFF, "its pseudo header has no length"),
        (ones(ADDRESSES + DATAGRAM, len(DATAGRAM)) ^ 0xFFFF, "its pseudo header has no protocol"),
        (ones(ADDRESSES[4:] + DATAGRAM, UDP + 19) ^ 0xFFFF, "its pseudo header has no source address"),
        (ones(ADDRESSES + DATAGRAM, UDP + (19 << 8)) ^ 0xFFFF, "the length in its pseudo header has its bytes swapped"),
        (ones(ADDRESSES + DATAGRAM[:-1], UDP + 19) ^ 0xFFFF, "the last, odd byte is left out"),
        (
            ones(ADDRESSES + DATAGRAM[:-1] + b"\0d", UDP + 19) ^ 0xFFFF,
            "the last, odd byte stands for the low half of its word",
        ),
        (0, "it was not filled in"),
        (0x1234, ""),
    ],
)
def test_a_checksum_with_a_pseudo_header(found: int, named: str) -> None:
    assert judged(found) == named


def test_a_checksum_over_the_header_or_the_data_alone() -> None:
    assert judged(ones(ADDRESSES + DATAGRAM[:8], UDP + 19) ^ 0xFFFF, header=8) == "it was made over the header alone"
    assert judged(ones(ADDRESSES + DATAGRAM[8:], UDP + 19) ^ 0xFFFF, header=8) == "it was made over the data alone"


def test_a_checksum_over_the_padding() -> None:
    found = ones(ADDRESSES + DATAGRAM + b"!xy", UDP + 19) ^ 0xFFFF
    assert judged(found, behind=b"!xy") == "the padding is summed as well"
    assert judged(found) == ""


def test_a_checksum_without_its_carries() -> None:
    words = struct.unpack("!10H", HEADER)
    found = ~sum(words) & 0xFFFF
    assert mistakes.checksum(HEADER, 10, found) == "its carries were not added"
    assert mistakes.checksum(HEADER, 10, ones(HEADER) ^ 0xFFFF) == ""


@given(some.binary(min_size=8, max_size=64))
def test_what_is_right_has_no_mistake(data: bytes) -> None:
    zeroed = data[:6] + b"\0\0" + data[8:]
    found = ones(ADDRESSES + zeroed, UDP + len(data)) ^ 0xFFFF
    whole = data[:6] + found.to_bytes(2, "big") + data[8:]
    assert (total(whole) + total(ADDRESSES) + UDP + len(data)) % 0xFFFF == 0
    assert judged(found, whole) == ""
