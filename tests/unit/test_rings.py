"""How large the kernel's ring of a capture is."""

from __future__ import annotations

import pytest

from rawtap.capture import memory

MIB, GIB = 1 << 20, 1 << 30


def sizes(count: int, *, of_guests: bool = False) -> list[int]:
    return [memory.ring_bytes(captures, of_guests=of_guests) // MIB for captures in range(count)]


def test_the_first_captures_have_more_and_many_have_little_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 16 * GIB)
    assert sizes(7) == [64, 32, 16, 8, 4, 4, 4]
    assert sizes(14, of_guests=True) == [16] * 4 + [8] * 4 + [4] * 6
    assert sum(sizes(50)) <= 304


@pytest.mark.parametrize(
    ("available", "mebibytes"), [(4 * GIB, 64), (4 * GIB - 1, 32), (GIB, 16), (300 * MIB, 4), (0, 4)]
)
def test_it_is_a_small_share_of_what_is_left(monkeypatch: pytest.MonkeyPatch, available: int, mebibytes: int) -> None:
    monkeypatch.setattr(memory, "available", lambda: available)
    assert sizes(1) == [mebibytes]
