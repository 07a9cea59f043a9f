# cython: annotation_typing=False, nonecheck=True
"""Where reading a frame ended, and why: bytes not captured are one thing, bytes never sent another."""

from __future__ import annotations

from typing import NamedTuple

TRUNCATED = "truncated"


class Stop(NamedTuple):
    """What is wrong from byte `at` of the frame on.

    `what` is TRUNCATED where the bytes were on the wire but not captured, and otherwise a stable code for what is
    malformed, like ``ip.total_length``. `says` holds no byte of the packet that is not a number. `found` and `expected`
    are the values, "" where the sentence is all that there is.
    """

    what: str
    at: int
    says: str
    found: str = ""
    expected: str = ""

    @property
    def text(self) -> str:
        return f"byte {self.at}: {self.says}"


class Stopped(Exception):
    """Reading ends here; never leaves the modules that read frames."""

    def __init__(self, what: str, at: int, says: str, found: str = "", expected: str = "") -> None:
        super().__init__(says)
        self.stop = Stop(what, at, says, found, expected)


def word(data: bytes, at: int) -> int:
    """The number in two bytes, the greater first."""
    return data[at] << 8 | data[at + 1]


def double_word(data: bytes, at: int) -> int:
    """The number in four bytes, the greatest first."""
    return word(data, at) << 16 | word(data, at + 2)


def need(data: bytes, at: int, size: int, end: int, name: str, what: str) -> None:
    """See that `size` bytes from `at` are before `end`, where what encloses them ends on the wire, and captured.

    Raises:
        Stopped: With `what` where they were not sent, with TRUNCATED where they were not captured.
    """
    if at + size > end:
        raise Stopped(what, at, f"{name} needs {size} bytes, {max(end - at, 0)} were sent")
    if at + size > len(data):
        raise Stopped(TRUNCATED, at, f"{name} is cut: of the frame {len(data)} bytes were captured")
