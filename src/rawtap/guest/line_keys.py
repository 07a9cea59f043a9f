"""Keys of a terminal by their names, as what a terminal sends for them. Pure.

Sources: ECMA-48 (C0), and what the terminal type vt220 sends (terminfo).
"""

from __future__ import annotations

import re

_KEYS = {
    "enter": "\r",
    "ret": "\r",
    "return": "\r",
    "esc": "\x1b",
    "escape": "\x1b",
    "tab": "\t",
    "space": " ",
    "spc": " ",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[1~",
    "end": "\x1b[4~",
    "insert": "\x1b[2~",
    "delete": "\x1b[3~",
    "del": "\x1b[3~",
    "pgup": "\x1b[5~",
    "pgdn": "\x1b[6~",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
    **{
        f"f{number}": f"\x1b[{code}~"
        for number, code in zip(range(5, 13), (15, 17, 18, 19, 20, 21, 23, 24), strict=True)
    },
}
_CONTROL = re.compile(r"(?:ctrl-|control-|c-|\^)([a-z@\[\]\\^_?])", re.IGNORECASE)


def _key(word: str) -> str | None:
    if (control := _CONTROL.fullmatch(word)) is not None:
        return "\x7f" if control[1] == "?" else chr(ord(control[1].upper()) & 0x1F)
    return _KEYS.get(word.casefold())


def typed_bytes(text: str) -> str:
    """What to type for `text`: the keys, where it is nothing but names of keys and blanks, else the text itself."""
    keys = [_key(word) for word in text.split()]
    return "".join(key for key in keys if key) if keys and all(keys) else text
