"""What in memory is taken for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.debug.frames import whole

MACS = bytes.fromhex("ffffffffffff525400123456")
IPV4 = bytes.fromhex("4500002100000000400100000a00020f0a000202")


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (MACS + bytes.fromhex("0800") + IPV4, 14 + 33),
        (MACS + bytes.fromhex("8100 0005 0800") + IPV4, 18 + 33),
        (MACS + bytes.fromhex("0806 0001 0800 0604 0001"), 42),
        (MACS + bytes.fromhex("86dd 60000000 0008 3aff") + bytes(32), 14 + 48),
        (MACS + bytes.fromhex("88b5"), 14),
        (bytes(12) + bytes.fromhex("88b5"), None),
        (MACS + bytes.fromhex("0800 65") + IPV4[1:], None),
        (MACS + bytes.fromhex("0800") + IPV4[:2] + bytes(2) + IPV4[4:], None),
        (MACS + bytes.fromhex("0806 0002 0800"), None),
        (MACS, None),
        (b"", None),
    ],
    ids=range(11),
)
def test_a_frame_is_known_by_its_type_and_what_begins_behind_it(data: bytes, length: int | None) -> None:
    assert whole(data) == length


@given(st.binary(max_size=80))
def test_any_bytes_are_looked_at(data: bytes) -> None:
    assert whole(data) is None or len(data) >= 14
