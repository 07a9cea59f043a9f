"""Where a timeline was read to, as one short text: a place in every stream, and a checksum. Pure.

``j-12.b-3.g3c-1043.g3q-2.c4-120-33012.d-3.k9f3b20c1``: notes of the journal; boots that were known; of boot 3, bytes of
the console and events; of capture 4, packets and the offset in its file; up to capture 3 everything was read.
The checksum covers the question as well, which is asked again with every page.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from rawtap.ask.timeline.merge import Position
from rawtap.errors import RequestInvalid

_LONGEST = 20_000
_ENTRY = re.compile(r"((?:j|b|d|g[0-9]{1,9}[cq])-[0-9]{1,18}|c[0-9]{1,9}-[0-9]{1,18}-[0-9]{1,18})", re.ASCII)
_CHECK = re.compile(r"k[0-9a-f]{8}", re.ASCII)


def encode(places: Mapping[str, Position], question: str) -> str:
    """The cursor for these places; `question` is everything that must stay the same."""
    body = ".".join("-".join([name, *map(str, place)]) for name, place in places.items())
    return f"{body}.{_check(body, question)}"


def decode(text: str, question: str) -> dict[str, Position]:
    """The places of a cursor that was given for the same question.

    Raises:
        RequestInvalid: It is none.
    """
    body, _, check = text[: _LONGEST + 1].rpartition(".")
    entries = body.split(".")
    if len(text) > _LONGEST or not _CHECK.fullmatch(check) or not all(map(_ENTRY.fullmatch, entries)):
        raise RequestInvalid(f"since={text[:80]!r} is no cursor", cure="Use next_cursor as it was given")
    if check != _check(body, question):
        raise RequestInvalid(
            "the cursor belongs to another question or server",
            cure="Keep sources, filter, name and capture while paging, or start again without since",
        )
    return {name: tuple(map(int, place)) for name, *place in (entry.split("-") for entry in entries)}


def _check(body: str, question: str) -> str:
    return f"k{zlib.crc32(repr((body, question)).encode()):08x}"
