"""What may be asked of gdb: expressions and places, held to a safe part of what it would take. Pure.

Theory of operation. gdb evaluates much more than C: `$_shell("...")` runs a program on this machine, an assignment
changes the guest, a call runs code of the guest's out of turn, a text in quotes is put into the guest's memory by
such a call. So an expression is read here first, sign by sign, and only what looks at things passes: names, numbers, a
processor's registers, and operators that change nothing. gdb is told besides to call no function and to write no memory
(`gdb`), for what a language may hide: a C++ operator that is a function, an Ada name that is a call.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from rawtap.errors import RequestInvalid

LONGEST = 500  # characters
_SHOWN = 200
_TOKEN = re.compile(
    r"(?P<space> +)"
    r"|(?P<register>\$[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<number>0[xX][0-9A-Fa-f]+|[0-9]+(?:[uUlL]{0,3})\b)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<character>'[ !#-&(-\[\]-~]')"
    r"|(?P<sign>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>.@\[\]()])"
)
_DECLARATOR = re.compile(r"\( *\*+ *\)")  # in a type, as in (char (*)[10])
_ARRAY = re.compile(r"[\w: ]+\( *\*+ *\)(?: *\[ *[0-9]* *\])+")
_CHANGES = re.compile(r"\+\+|--")
_ENDS = {"name", "number", "register", "character"}  # behind these "(" would be a call
_ALWAYS = frozenset({"pc", "sp", "fp"})  # gdb's own names for them (manual, "Registers")
_TYPE_WORDS = frozenset(
    {"char", "short", "int", "long", "unsigned", "signed", "float", "double", "void", "bool", "const", "volatile"}
    | {"struct", "union", "enum"}
)
_PLACE = re.compile(r"(?:(?P<address>0x[0-9A-Fa-f]{1,16})|(?P<file>[^:\s\"'\\*]{1,300}):(?P<line>[0-9]{1,7}))")
_FUNCTION = re.compile(r"[A-Za-z_~<][A-Za-z0-9_:<>~$.&*, {}#]{0,299}")
_NO_NAME = re.compile(r" (if|thread|task|inferior|frame)\b|(?<!:):(?!:)")  # what gdb would take for more than a name
_PATTERN = re.compile(r"[A-Za-z0-9_:.*^$\[\]|<>~-]{1,200}")
_PART = re.compile(r"(?P<opening>\[\^?\]?)(?P<inside>[^\]]*)\]|[a-z|]")
_LETTERS = re.compile(r"[a-z]-[a-z]|[a-z]")


def expression(text: str, registers: Collection[str] = ()) -> str:
    """`text`, if it only looks at things; `registers` are the names that may stand behind "$".

    Raises:
        RequestInvalid: It would do more, or is none of this small language.
    """
    if not text.strip() or len(text) > LONGEST:
        raise _refused(text, f"it has {len(text)} characters; 1 to {LONGEST} are taken")
    if _CHANGES.search(text):
        raise _refused(text, "++ and -- change what they look at")
    at, before, opened = 0, "", list[str]()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise _refused(text, f"{text[at]!r} is not taken{_reason(text[at:])}")
        kind, word = token.lastgroup or "", token[0]
        if kind == "register" and word[1:] not in {*_ALWAYS, *registers}:
            raise _refused(
                text, f"{word} is no register of this processor: gdb's variables and functions are not taken"
            )
        if kind == "sign":
            _balance(text, word, before, opened, at)
        if kind != "space":
            before = word if kind == "sign" or word == "sizeof" else kind
        at = token.end()
    if opened:
        raise _refused(text, f"{opened[-1]!r} has no end")
    return text


def _balance(text: str, sign: str, before: str, opened: list[str], at: int) -> None:
    """Brackets in pairs, and none that would make a call."""
    front = text[:at]
    is_call = before in _ENDS or before == "]" or (before == ")" and not _is_cast(front))
    is_template = before == ">" and "<" in front  # as C++ has it: f<int>(1)
    if sign == "(" and (is_call or is_template) and not (before == "name" and _DECLARATOR.match(text, at)):
        raise _refused(text, "it calls a function")
    if sign in "([":
        opened.append(sign)
    elif sign in ")]" and (not opened or opened.pop() + sign not in {"()", "[]"}):
        raise _refused(text, f"{sign!r} has no beginning")


def _is_cast(front: str) -> bool:
    """Whether the brackets that end `front` hold what can only be a type, as in ``(struct packet *)``."""
    depth, start = 0, 0
    for start in range(len(front) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(front[start], 0)
        if depth == 0:
            break
    whole = front[start:].strip()
    if _ARRAY.fullmatch(whole[1:-1].strip()):
        return True
    words = whole.strip("() ").split()
    if not words or re.search(r"\bsizeof *$", front[:start]):
        return False
    plain = " ".join(words)
    if plain.endswith("*"):
        return re.fullmatch(r"[\w: ]+[* ]+", plain) is not None
    return all(word in _TYPE_WORDS for word in words)


def _reason(rest: str) -> str:
    if rest[0] == "=":
        return ": it would change something"
    if rest[0] in "\"'":
        return ": a text in quotes is put into the guest's memory"
    return ": gdb's variables and functions are not" if rest[0] == "$" else ""


def _refused(text: str, why: str) -> RequestInvalid:
    return RequestInvalid(
        f"the expression {text[:_SHOWN]!r} is not given to gdb",
        evidence=why,
        cure="Names, numbers, $registers and C's operators that change nothing are taken, like packet->bytes[8] & 0x0f",
    )


def place(text: str) -> tuple[str, ...]:
    """The parameters of a command that takes a location: an address, ``file:line``, or a function.

    Raises:
        RequestInvalid: It is none of them.
    """
    if match := _PLACE.fullmatch(text):
        return (f"*{match['address']}",) if match["address"] else ("--source", match["file"], "--line", match["line"])
    if _FUNCTION.fullmatch(text) and not _NO_NAME.search(text):
        return ("--function", text)
    raise RequestInvalid(
        f"at={text[:_SHOWN]!r} is no place", cure='Like "net.c:120", a function\'s name, or an address, "0x80000000"'
    )


def pattern(text: str) -> str:
    """A regular expression for names, of RE2's syntax; one that has no capitals finds names with capitals as well.

    Raises:
        RequestInvalid: It has other characters than names and patterns of them do.
    """
    if _PATTERN.fullmatch(text) and not text.startswith("-"):
        return text if text != text.lower() else _PART.sub(_of_any_case, text)
    raise RequestInvalid(f"{text[:_SHOWN]!r} is no pattern of names", cure='Like "^net_.*send"')


def _of_any_case(match: re.Match[str]) -> str:
    """A letter, or a set of characters in brackets, with its capitals."""
    opening, inside = match["opening"], match["inside"]
    if opening is None:
        return match[0] if match[0] == "|" else f"[{match[0]}{match[0].upper()}]"
    capitals = "" if ":" in inside else "".join(_LETTERS.findall(inside)).upper()
    return f"{opening}{capitals}{inside}]"


def basic(text: str) -> str:
    """A pattern as gdb takes it: a basic regular expression (POSIX), with GNU's sign for alternatives."""
    return _PART.sub(lambda match: match[0] if match["opening"] else match[0].replace("|", r"\|"), text)
