"""The modes that a guest leaves a terminal in are taken back, and no others."""

from __future__ import annotations

import pytest

from rawtap.verbs.terminal import Modes

PLAIN = b"\x1b[0m"


@pytest.mark.parametrize(
    ("said", "undone"),
    [
        ([b"hello\r\n"], b""),
        ([b"\x1b[?1049h"], b"\x1b[?1049l"),
        ([b"\x1b[?1049h", b"\x1b[?1049l"], b""),
        ([b"\x1b[?25l"], b"\x1b[?25h"),
        ([b"\x1b[?25l\x1b[?25h\x1b[?7l"], b"\x1b[?7h"),
        ([b"\x1b[?1000;1006h"], b"\x1b[?1000l\x1b[?1006l"),
        ([b"\x1b", b"[?20", b"04h"], b"\x1b[?2004l"),
        ([b"\x1b[?2004h" + b"x" * 100], b"\x1b[?2004l"),
        ([b"\x1b[?", b"x" * 50, b"25l"], b""),
    ],
    ids=["none", "set", "set and back", "cursor", "wrapping", "several", "in pieces", "long ago", "no sequence"],
)
def test_what_a_guest_changed_is_taken_back(said: list[bytes], undone: bytes) -> None:
    modes = Modes()
    for each in said:
        modes.note(each)
    assert modes.undone() == undone + PLAIN
