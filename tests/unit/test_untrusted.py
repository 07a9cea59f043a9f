"""Text that is not ours: what a reader, or a terminal, would not see is written out."""

from __future__ import annotations

import pytest

from rawtap.untrusted import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x07", r"a\x1b[31mb\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # right to left
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),  # of no width
        ("\U000e0041", r"\U000e0041"),  # a tag
        ("a\ufe0f\U000e0101", r"a\ufe0f\U000e0101"),  # variation selectors
        ("\u3164\u115f\u034f", r"\u3164\u115f\u034f"),  # fillers and a joiner
        ("größer als 日本", "größer als 日本"),
    ],
)
def test_nothing_is_hidden_in_a_text(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_what_is_to_be_kept_is() -> None:
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
