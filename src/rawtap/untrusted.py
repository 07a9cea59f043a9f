"""Text from a guest or the wire, made fit to be shown. Pure."""

from __future__ import annotations

import codecs
import re

# Asked for once, and at once: some processes that show text may open no file any more when they come to it.
_escape = codecs.getencoder("unicode_escape")
_BEYOND_ASCII_TEXT = re.compile(r"[^ -~]")
# Letters and marks to Python, and nothing to the eye (Unicode's Default_Ignorable_Code_Point): a text could be hidden
# in them.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def visible(text: str, keep: str = "") -> str:
    r"""`text` with every character that is not printable, and not in `keep`, written as an escape (``\x1b``).

    So no terminal obeys it, and nothing in it is hidden from a reader: controls, bidirectional marks, tag characters,
    variation selectors.
    """

    def show(match: re.Match[str]) -> str:
        char = match[0]
        is_seen = char.isprintable() and char not in _INVISIBLE
        return char if char in keep or is_seen else _escape(char)[0].decode()

    return _BEYOND_ASCII_TEXT.sub(show, text)
