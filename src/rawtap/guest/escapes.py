"""Control sequences taken out of a console's stream, so that what is matched is what is shown. Pure.

ECMA-48 has the forms: CSI, the control strings (OSC, DCS, SOS, PM, APC), and escapes of two or three bytes. What they
would draw is lost, but for two things that matter to a reader: a cursor that is put on another line begins a line, and
an escape that is broken off gives back the text behind it, so that a guest cannot hide text in a string without end.
Firmware puts its cursor behind each letter, where it is: SeaBIOS to the last letter and back, UEFI once. So what counts
is where the cursor stands when the next text comes.

A query (``ESC[6n``) is dropped: an answer would be typed into whatever program reads the console by then.

Control strings of a name of rawtap's own are signs: a command's frame prints them (`framing`), and no guest's text can
be taken for one, since the echo of what prints them has no escape in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGN = b"rawtap;"
_KEPT_SIGNS = 64
_LONGEST_STRING = 4096  # bytes; a title or a picture's line, and no way to hide a log in

_COMPLETE = re.compile(
    rb"\x1b(?:"
    rb"\[(?P<csi>[0-?]{0,64}[ -/]{0,8}[@-~])"
    rb"|[\]PX^_](?P<string>[^\x07\x1b\r\n]{0,%d})(?:\x07|\x1b\\)"
    rb"|[ -/]{1,8}[0-~]"
    rb"|(?![\[\]PX^_])[0-~]"
    rb")" % _LONGEST_STRING
)
_BEGUN = re.compile(
    rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]PX^_][^\x07\x1b\r\n]{0,%d}\x1b?|[ -/]{0,8})\Z" % _LONGEST_STRING
)
_BROKEN = re.compile(rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]PX^_])?")
_INTRODUCERS = (b"[", b"]", b"P", b"X", b"^", b"_")
_TO_A_LINE = b"HfEFd"  # cursor to a position, to a line
_TO_A_PLACE = re.compile(rb"([0-9]{1,4});([0-9]{1,4})[Hf]")
_BACKSPACE = b"\x08"
_NO_COLUMN = bytes(range(0x80, 0xC0)) + b"\x07\x00"  # the rest of a letter in UTF-8, a bell


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of a frame's, and the position in the plain stream where it stood."""

    text: str
    at: int


class Plain:
    """A stream without its control sequences; a sequence that is still coming is held back."""

    def __init__(self) -> None:
        self._held = b""
        self._last = b"\n"  # of what was given
        self.given = 0  # bytes
        self.marked_at = -1  # where in the text the last one was taken out, signs not counted
        self.signs: list[Sign] = []  # the newest
        self._row: int | None = None  # from 1; None until the cursor is put
        self._column = 0  # letters before the cursor
        self._put: tuple[int | None, int] | None = None  # where the cursor was put since

    def feed(self, data: bytes) -> bytes:
        """What of `data` is text, behind what was held back."""
        data, self._held = self._held + data, b""
        if b"\x1b" not in data:
            return self._give(data)
        return b"".join(self._parts(data))

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def give_back(self) -> bytes:
        """What was held back, without its beginning: its rest did not come."""
        data, self._held = self._held, b""
        return self._give(data[2:] if data[1:2] in _INTRODUCERS else data[1:])

    def _parts(self, data: bytes) -> list[bytes]:
        parts, at = [], 0
        while (escape := data.find(b"\x1b", at)) >= 0:
            parts.append(self._give(data[at:escape]))
            if (match := _COMPLETE.match(data, escape)) is not None:
                parts.append(self._obeyed(match))
            elif _BEGUN.match(data, escape):
                self._held = data[escape:]
                return parts
            else:
                match = _BROKEN.match(data, escape)
            at = match.end() if match else escape + 1
        return [*parts, self._give(data[at:])]

    def _obeyed(self, match: re.Match[bytes]) -> bytes:
        string, csi = match["string"], match["csi"]
        if string is not None and string.startswith(SIGN):
            self.signs.append(Sign(string[len(SIGN) :].decode("ascii", "replace"), self.given))
            del self.signs[:-_KEPT_SIGNS]
            return b""
        self.marked_at = self.given
        if csi and csi[-1:] in _TO_A_LINE:
            place = _TO_A_PLACE.fullmatch(csi)
            self._put = (int(place[1]), max(int(place[2]), 1) - 1) if place else (None, 0)
        return b""

    def _arrived(self) -> bytes:
        """What the cursor's way to where it was put is to a reader: a line's end, or nothing where it was there."""
        if self._put is None:
            return b""
        (row, column), self._put = self._put, None
        scrolled = row is not None and (self._row is None or row <= self._row)
        is_there = scrolled and column == self._column > 0
        self._row, self._column = row, column
        return b"" if is_there or self._last in b"\r\n" else b"\n"

    def _give(self, text: bytes) -> bytes:
        """Carriage returns at a line's start do nothing, and are left out."""
        if not text:
            return b""
        end = self._arrived()
        self._pass(text)
        if text[:1] == b"\r" and (end or self._last) == b"\n":
            text = text.lstrip(b"\r")
        if b"\n\r" in text:
            text = _LEFT_AT_LEFT.sub(b"\n", text)
        text = end + text
        if text:
            self._last = text[-1:]
            self.given += len(text)
        return text

    def _pass(self, text: bytes) -> None:
        """Have the cursor go where text takes it."""
        line = text[max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 :]
        before = self._column if len(line) == len(text) else 0
        self._column = max(0, before + len(line.translate(None, _NO_COLUMN)) - 2 * line.count(_BACKSPACE))
        if self._row is not None:
            self._row += text.count(b"\n")


_LEFT_AT_LEFT = re.compile(rb"\n\r+")
