"""A shell's line with a QEMU in it, taken apart as the shell and QEMU do: words, options, keys and values. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from rawtap.errors import RequestInvalid

MOST_CHARACTERS = 16384
_END = set("|&;<>()")
_PROGRAM = re.compile(r"qemu-system-([a-z0-9_]+?)(?:-microvm)?(?:\.exe)?")
_MENTIONS = re.compile(r"\bqemu-system-")
_UNEXPANDED = re.compile(r"\$([({]?[A-Za-z0-9_@^<*]|$)|`")
_ITS_OWN_WORDS = frozenset({"$@", "$*"})  # of a script's: there are none where nobody says them
_ITS_FOLDER = re.compile(r"\$\((?:pwd|PWD|CURDIR)\)|\$\{PWD\}|\$PWD\b|`pwd`")
_IN_BACKTICKS = re.compile(r"`([^`\n]*qemu-system-[^`\n]*)`")
# What a text's author put before each line of an example: the sign of a comment or of a list, root's prompt.
_LEADER = re.compile(r"^[ \t]*([*/>%|!]+|\#+)[ \t]+(?=.*\bqemu-system-)", re.MULTILINE)
# What the shell takes as one, or away, before it looks at words: quotes, a line that goes on, comments, a descriptor.
_TAKEN = re.compile(
    r"""(?P<kept>'[^'\n]*'|"(?:\\.|[^"\\])*")|(?P<on>\\\r?\n)|\\.|(?P<gone>(?:^|(?<=\s))(?:\#[^\n]*|[0-9](?=[<>])))""",
    re.MULTILINE | re.DOTALL,
)
_OPTION_ALONE = re.compile(r"\s*--?[A-Za-z][A-Za-z0-9-]*(?:\s|$)")


@dataclass(frozen=True)
class Words:
    """A line's emulator, by its architecture, its arguments, and how they were found, where that is not plain."""

    arch: str
    words: tuple[str, ...]
    told: tuple[str, ...] = ()


# Options that take no value (qemu-options.hx, of 4.0 to 9.0, and older spellings that scripts still have).
FLAGS = frozenset(
    {
        "nographic", "snapshot", "S", "s", "enable-kvm", "no-kvm", "no-reboot", "no-shutdown", "nodefaults",
        "no-user-config", "no-acpi", "no-hpet", "no-fd-bootchk", "usb", "daemonize", "full-screen", "fullscreen",
        "no-frame", "no-quit", "alt-grab", "ctrl-grab", "show-cursor", "curses", "sdl", "gtk", "semihosting",
        "mem-prealloc", "only-migratable", "win2k-hack", "no-kvm-irqchip", "no-kvm-pit", "enable-fips", "portrait",
        "old-param", "version", "h", "help", "preconfig", "localtime", "std-vga", "no-kvm-pit-reinjection", "tdf",
        "singlestep", "one-insn-per-tb", "nodefconfig",
    }
)  # fmt: skip


def program_and_words(text: str) -> Words:
    """The architecture that a line's emulator is for, and its arguments. Of several lines it is the last with one.

    A Makefile's and a script's words around it are passed over: variables, sudo, comments, redirections, what comes
    after a pipe. Where no line has one but in a comment or in quotes, it is read there.

    Raises:
        RequestInvalid: There is no emulator in it, a quote that never ends, or a variable that nobody expanded.
    """
    if len(text) > MOST_CHARACTERS:
        raise _wrong(f"it has more than {MOST_CHARACTERS} characters")
    text = _IN_BACKTICKS.sub(r"\n\1\n", _ITS_FOLDER.sub(".", text))
    leader = _LEADER.search(text)
    bare = re.sub(rf"^[ \t]*{re.escape(leader[1])}", "", text, flags=re.MULTILINE) if leader else text
    is_comment = leader is not None and leader[1].startswith("#")  # to the shell; what is none comes first
    found = (_in_text(text) or _in_text(bare)) if is_comment else _in_text(bare)
    if found is None:
        raise _wrong("there is no word like qemu-system-riscv64 in it")
    return found


def _in_text(text: str) -> Words | None:
    """The last line with an emulator that has options: others only speak of one (`pkill qemu-system-arm`)."""
    there = [each for each in _lines(text) if _MENTIONS.search(each[0])]
    for quoted in (False, True):
        bare = None
        for line, is_joined in reversed(there):
            if (found := _of_line(line, quoted=quoted)) is None:
                continue
            if _has_options(found):
                count = sum(_starts_one(each) for each, _ in there)
                apart = "options on lines of their own, without a backslash before them, are read as this one's"
                several = f"{count} lines of it start an emulator: the last one is read"
                return replace(found, told=(*([apart] if is_joined else []), *([several] if count > 1 else [])))
            bare = bare or found
        if bare is not None:
            return bare
    return None


def _has_options(found: Words) -> bool:
    return any(word.startswith("-") for word in found.words)


def _starts_one(line: str) -> bool:
    try:
        found = _of_line(line, quoted=False)
    except RequestInvalid:  # it is not the one that is read
        return True
    return found is not None and _has_options(found)


def _lines(text: str) -> list[tuple[str, bool]]:
    """The shell's lines, without comments; and whether options that stood on lines of their own were put behind one.

    Such options are no command of anybody's, so they are the emulator's before them.
    """

    def taken(match: re.Match[str]) -> str:
        if match["kept"]:
            return re.sub(r"\\?\r?\n", " ", match[0])
        return " " if match["on"] else "" if match["gone"] else match[0]

    lines: list[tuple[str, bool]] = []
    for line in _TAKEN.sub(taken, text).splitlines():
        if lines and _OPTION_ALONE.match(line) and _MENTIONS.search(lines[-1][0]):
            lines[-1] = (f"{lines[-1][0]} {line}", True)
        else:
            lines.append((line, False))
    return lines


def _of_line(line: str, *, quoted: bool) -> Words | None:
    """The emulator of a line; `quoted`, of a word of it that is a command in quotes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    arch = None
    try:
        for word in lexer:
            if arch is None:
                if quoted and " " in word and _MENTIONS.search(word):
                    parts = [re.sub(r"^\w+=", "", word), *(each for each in lexer if each.startswith("-"))]
                    return _of_line(" ".join(parts), quoted=False)
                match = _PROGRAM.fullmatch(PurePosixPath(word.lstrip("@-+")).name)
                arch = match[1] if match else None
            elif set(word) <= _END:
                if not {"<", ">"} & set(word):
                    break
                next(lexer, None)  # where to, or where from
            elif word not in _ITS_OWN_WORDS:
                words.append(word)
    except ValueError as error:
        raise _wrong(f"as a shell's line it has {str(error).lower()}") from error
    if (left := next((word for word in words if _UNEXPANDED.search(word)), None)) is not None:
        raise _wrong(f"{left[:60]!r} holds a variable", cure="Give the line that `make -n TARGET` or `sh -x` shows")
    return None if arch is None else Words(arch, tuple(words))


def _wrong(evidence: str, cure: str = "Give it like: qemu-system-riscv64 -machine virt -kernel k") -> RequestInvalid:
    return RequestInvalid("qemu_command is no line that can be read", evidence=evidence, cure=cure)


def options(words: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Each option, without its dashes, and its value; a word that is none is a disk, as QEMU has it (-hda).

    The value is None where the line ends before it. An option that is not `known` has one where no option comes next.
    """
    left = deque(words)
    while left:
        word = left.popleft()
        if not word.startswith("-") or word == "-":
            yield "hda", word
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if name in FLAGS or (name not in known and (not left or left[0].startswith("-"))):
            yield name, ""
        else:
            yield name, left.popleft() if left else None


def pairs(value: str, first: str = "") -> dict[str, str]:
    """Keys and values of an option (qemu/util/keyval.c): a comma in a value is two.

    `first` is a key that may be left out. A key without a value is "on"; with "no" before it, "off". JSON is taken too.
    """
    if value.startswith("{"):
        return dict(_of_json(value))
    out: dict[str, str] = {}
    for number, part in enumerate(_split(value)):
        key, equals, said = part.partition("=")
        if not equals and number == 0 and first:
            key, said = first, part
        elif not equals:
            key, said = (part[2:], "off") if re.fullmatch(r"no(wait|delay|reboot)", part) else (part, "on")
        if key:
            out[key] = said
    return out


def is_on(said: str | None) -> bool:
    """Whether a switch is on, as QEMU reads it (qapi/qapi-util.c, qapi_bool_parse); one that is not there is not."""
    return said in {"on", "yes", "true", "y"}


def whole_number(text: str) -> int | None:
    """A number as QEMU reads it (strtoull(3)): of 64 bits, in base 10, 16 ("0x10") or 8 ("010"). None for no number."""
    match = re.fullmatch(r"0[xX]([0-9A-Fa-f]{1,16})|0([0-7]{0,21})|([1-9][0-9]{0,19})", text)
    if match is None:
        return None
    hexadecimal, octal, decimal = match.groups()
    found = int(hexadecimal, 16) if hexadecimal else int(octal or "0", 8) if octal is not None else int(decimal)
    return found if found < 1 << 64 else None


def _split(value: str) -> list[str]:
    return [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]


def _of_json(text: str) -> Iterator[tuple[str, str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{text[:60]!r} is no JSON: {error}") from error
    yield from _flat(found, "", 0)


def _flat(found: object, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(found, dict) or depth > 3:  # noqa: PLR2004 - a disk's file's server is as deep as it goes
        yield prefix.removesuffix("."), {True: "on", False: "off"}[found] if isinstance(found, bool) else str(found)
        return
    for key, value in found.items():
        yield from _flat(value, f"{prefix}{key}.", depth + 1)
