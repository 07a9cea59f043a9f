"""Text from a guest or the wire, made fit to be shown. Pure."""

from __future__ import annotations

import re

_BEYOND_ASCII_TEXT = re.compile(r"[^ -~]")


def visible(text: str, keep: str = "") -> str:
    r"""`text` with every character that is not printable, and not in `keep`, written as an escape (``\x1b``).

    So no terminal obeys it, and nothing in it is hidden from a reader: controls, bidirectional marks, tag characters.
    """

    def show(match: re.Match[str]) -> str:
        char = match[0]
        return char if char in keep or char.isprintable() else char.encode("unicode_escape").decode()

    return _BEYOND_ASCII_TEXT.sub(show, text)
