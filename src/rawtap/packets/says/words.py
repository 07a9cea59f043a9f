"""What several families of protocols read alike."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

Found = str | tuple[str, str] | None  # its words, or another name and its words
Words = Callable[[bytes], Found]
Known = tuple[str, Words | None]

ENDED = (IndexError, ValueError, struct.error)  # for bytes that end too early
_LINE = 120


def first_line(payload: bytes) -> str:
    """The first line of a text protocol."""
    return payload[: 4 * _LINE].split(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")[:_LINE]


def text(payload: bytes) -> str | None:
    """The first line, if that is text."""
    line = first_line(payload)
    return line if line and sum(each.isprintable() or each == "\t" for each in line) * 10 >= len(line) * 9 else None


def number(payload: bytes, at: int, size: int) -> int:
    """The number in `size` bytes, the greatest first.

    Raises:
        IndexError: They are not there.
    """
    if at < 0 or at + size > len(payload):
        raise IndexError
    return int.from_bytes(payload[at : at + size], "big")


_SEVENS = re.compile(rb"[\x80-\xff]{0,3}[\0-\x7f]")


def sevens(payload: bytes, at: int) -> tuple[int, int] | None:
    """A number of up to four bytes with seven bits each, the least first, and where it ends (MQTT 5.0, 1.5.5)."""
    found = _SEVENS.match(payload, at)
    return (sum((each & 0x7F) << 7 * place for place, each in enumerate(found[0])), found.end()) if found else None


def named(names: dict[int, str] | tuple[str, ...], value: int, what: str = "type") -> str:
    """A number's name, or the number."""
    if isinstance(names, tuple):
        return names[value] if 0 <= value < len(names) and names[value] else f"{what} {value}"
    return names.get(value) or f"{what} {value}"


def at_byte(place: int, names: dict[int, str] | tuple[str, ...], what: str = "type") -> Words:
    """Words for the one byte that says what a message is."""
    return lambda payload: named(names, payload[place], what)


def surely(words: Words) -> Words:
    """The same, but None where the bytes end too early: for what only its bytes tell from others."""

    def told(payload: bytes) -> Found:
        try:
            return words(payload)
        except ENDED:
            return None

    return told


def begins(*openings: bytes) -> Words:
    """No words, for what begins with one of these."""
    return lambda payload: "" if payload.startswith(openings) else None


def unsure(carrier: str, name: str) -> tuple[str, str]:
    """What has no mark: its port says what it may be, and no byte does."""
    return carrier, f"perhaps {name}, by its port alone"


# A command of telnet's, with its option, or with all that is negotiated of one (RFC 854; RFC 855); it may be cut.
_COMMAND = re.compile(rb"\xff(?:[\xec-\xf9\xff]|[\xfb-\xfe](?:.|\Z)|\xfa.*?(?:\xff\xf0|\Z)|\Z)", re.DOTALL)
# What neither a person's keys nor a host's text are made of: text has any encoding, and moves a cursor.
_UNTYPED = re.compile(rb"[\0-\x06\x0e-\x1a\x1c-\x1f\xff]")
_SEEN, _KEYS = 200, 2  # bytes that are looked at, and that one key may send, whatever they are


def is_typed(payload: bytes) -> bool:
    """Whether that may be what a terminal and a host say to each other."""
    seen = _COMMAND.sub(b"", payload[:_SEEN]).replace(b"\r\0", b"")
    return len(seen) <= _KEYS or not _UNTYPED.search(seen)
