"""A shell's line with a QEMU in it, taken apart as the shell and QEMU do: words, options, keys and values. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from rawtap.errors import RequestInvalid

MOST_CHARACTERS = 16384
_END = set("|&;<>()")
_PROGRAM = re.compile(r"qemu-system-([a-z0-9_]+?)(-microvm)?(\.exe)?")
_UNEXPANDED = re.compile(r"\$([({]?[A-Za-z_@^<*]|$)|`")

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


def program_and_words(text: str) -> tuple[str, list[str]]:
    """The architecture that a line's emulator is for, and its arguments. Of several lines it is the last with one.

    A Makefile's and a script's words around it are passed over: variables, sudo, what comes after a pipe.

    Raises:
        RequestInvalid: There is no emulator in it, a quote that never ends, or a variable that nobody expanded.
    """
    if len(text) > MOST_CHARACTERS:
        raise _wrong(f"it has more than {MOST_CHARACTERS} characters")
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    for line in reversed(lines):
        if "qemu-system-" in line and (found := _of_line(line)) is not None:
            return found
    raise _wrong("there is no word like qemu-system-riscv64 in it")


def _of_line(line: str) -> tuple[str, list[str]] | None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    arch = None
    try:
        for word in lexer:
            if arch is None:
                match = _PROGRAM.fullmatch(PurePosixPath(word.lstrip("@-+")).name)
                arch = match[1] if match else None
            elif set(word) <= _END:
                break
            else:
                words.append(word)
    except ValueError as error:
        raise _wrong(f"as a shell's line it has {str(error).lower()}") from error
    if words and words[-1].isdigit() and arch is not None and ">" in line:
        words.pop()  # of 2>&1
    if (left := next((word for word in words if _UNEXPANDED.search(word)), None)) is not None:
        raise _wrong(f"{left[:60]!r} holds a variable", cure="Give the line that `make -n TARGET` or `sh -x` shows")
    return None if arch is None else (arch, words)


def _wrong(evidence: str, cure: str = "Give it like: qemu-system-riscv64 -machine virt -kernel k") -> RequestInvalid:
    return RequestInvalid("qemu_command is no line that can be read", evidence=evidence, cure=cure)


def options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Each option, without its dashes, and its value; a word that is none is a disk, as QEMU has it (-hda)."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            yield "hda", word
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        yield name, "" if name in FLAGS else next(rest, "")


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
