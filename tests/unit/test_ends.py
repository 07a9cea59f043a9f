"""What is said of a file that ends before its packets do."""

from __future__ import annotations

import pytest

from rawtap.packets import ends

CUT = "truncated dump file; tried to read 60 captured bytes, only got 14"


@pytest.mark.parametrize(
    ("damage", "saved", "told"),
    [
        ("", None, ""),
        ("", 7, ""),
        ("", 6, ""),  # more came since it was counted
        ("", 20, "the file was cut behind packet 7: 20 packets were saved, 7 are in the file"),
        (CUT, None, "the file ends in the middle of packet 8"),
        (CUT, 8, "the file ends in the middle of packet 8: 8 packets were saved, 7 are in the file"),
        ("byte 920: a block is cut off", 7, "the file ends in the middle of a block behind packet 7"),
        ("its gzip data ends in the middle", None, "the file is read up to packet 7: its gzip data ends in the middle"),
        ("bogus length", None, "the file ends in a damaged record: bogus length"),
    ],
)
def test_what_a_file_lacks(damage: str, saved: int | None, told: str) -> None:
    assert ends.told(7, damage, saved) == told
