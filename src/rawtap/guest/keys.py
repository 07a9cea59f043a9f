"""Keys by their names, and text as the keys that a US keyboard needs for it. Pure.

The names are QEMU's own (qapi/ui.json, QKeyCode, as of QEMU 7.2), besides a few that people say for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from rawtap.errors import RequestInvalid
from rawtap.guest import steps
from rawtap.guest.steps import Step

# An old keyboard's queue holds 16 bytes (PS2_QUEUE_SIZE in qemu/hw/input/ps2.c), a shifted character takes 6, and what
# finds it full is lost without a word. Nothing tells when the guest has read it, so there is time for that.
TYPING_SECONDS = 0.02
_MOST_TOGETHER = 5  # keys: pressed and released they fit into that queue
_SHOWN = 10

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PLAIN = {
    **{each: each for each in f"{_LETTERS}0123456789"},
    " ": "spc",
    "\n": "ret",
    "\t": "tab",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    "\\": "backslash",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED = {
    **{each.upper(): each for each in _LETTERS},
    **dict(zip(")!@#$%^&*(", "0123456789", strict=True)),
    "_": "minus",
    "+": "equal",
    "{": "bracket_left",
    "}": "bracket_right",
    "|": "backslash",
    ":": "semicolon",
    '"': "apostrophe",
    "~": "grave_accent",
    "<": "comma",
    ">": "dot",
    "?": "slash",
}

_NAMES = """
    shift shift_r alt alt_r ctrl ctrl_r menu meta_l meta_r compose
    esc backspace tab ret spc caps_lock num_lock scroll_lock print sysrq pause
    1 2 3 4 5 6 7 8 9 0 a b c d e f g h i j k l m n o p q r s t u v w x y z
    minus equal bracket_left bracket_right semicolon apostrophe grave_accent backslash comma dot slash asterisk less
    f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12
    home end pgup pgdn left up down right insert delete
    kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 kp_divide kp_multiply kp_subtract kp_add kp_enter kp_decimal
    kp_comma kp_equals
    stop again props undo front copy open paste find cut lf help
    ro hiragana henkan yen muhenkan katakanahiragana lang1 lang2
    power sleep wake audionext audioprev audiostop audioplay audiomute volumeup volumedown mediaselect
    mail calculator computer ac_home ac_back ac_forward ac_refresh ac_bookmarks
"""
KNOWN = frozenset(_NAMES.split())

ALIASES = {
    "control": "ctrl",
    "altgr": "alt_r",
    "enter": "ret",
    "return": "ret",
    "escape": "esc",
    "space": "spc",
    "del": "delete",
    "ins": "insert",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "capslock": "caps_lock",
    "numlock": "num_lock",
    "printscreen": "print",
    "win": "meta_l",
    "super": "meta_l",
    "meta": "meta_l",
    "period": "dot",
}


def combination(text: str) -> tuple[str, ...]:
    """The keys of text like ``ctrl-alt-delete``, by QEMU's names and in the order in which they go down.

    Raises:
        RequestInvalid: A name that no key has, with those that are like it; a key named twice; too many.
    """
    found = tuple(_named(part, text) for part in text.casefold().split("-"))
    if len(set(found)) < len(found):
        raise RequestInvalid(f"keys={text!r} has a key twice", cure="Name each once; another call presses it again")
    if len(found) > _MOST_TOGETHER:
        raise RequestInvalid(
            f"keys={text!r} are {len(found)} keys", cure=f"At most {_MOST_TOGETHER} at once; qemu_type types text"
        )
    return found


def _named(part: str, whole: str) -> str:
    name = ALIASES.get(part) or _PLAIN.get(part) or part
    if name in KNOWN:
        return name
    if not part:
        raise RequestInvalid(f"keys={whole!r} has an empty name", cure='The key "-" is called minus: ctrl-minus')
    if part in _SHIFTED:
        raise RequestInvalid(f"{part!r} is no key of its own", cure=f"Use shift-{_SHIFTED[part]}, or qemu_type")
    like = difflib.get_close_matches(part, [*KNOWN, *ALIASES], n=3, cutoff=0.5)
    raise RequestInvalid(
        f"there is no key {part[:40]!r}",
        evidence=f"like it: {', '.join(like)}" if like else "",
        cure="Join QEMU's names of keys by '-', like ctrl-alt-delete, shift-f10 or ret",
    )


def pressed(keys: Sequence[str], hold: float) -> list[Step]:
    """Press `keys` in order, hold them for `hold` seconds, release them in reverse order."""
    down = [steps.key(each, down=True) for each in keys[:-1]]
    up = [steps.key(each, down=False) for each in reversed(keys[1:])]
    last, first = steps.key(keys[-1], down=True, pause=hold), steps.key(keys[0], down=False, pause=TYPING_SECONDS)
    return [*down, last, *up, first]


def typed(text: str) -> list[Step]:
    """The steps that type `text` on a US keyboard.

    Raises:
        RequestInvalid: Characters that no key of it gives; all of them are named, and no step is made.
    """
    if missing := [each for each in dict.fromkeys(text) if each not in _PLAIN and each not in _SHIFTED]:
        shown = ", ".join(f"{each!r} (U+{ord(each):04X})" for each in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise RequestInvalid(
            "nothing was typed: a US keyboard has no key for some characters",
            evidence=shown + more,
            cure="Leave them out; qemu_send_key presses other keys, qemu_send writes on the serial console",
        )
    return [step for each in text for step in pressed(_keys_of(each), TYPING_SECONDS)]


def _keys_of(character: str) -> tuple[str, ...]:
    plain = _PLAIN.get(character)
    return (plain,) if plain else ("shift", _SHIFTED[character])
