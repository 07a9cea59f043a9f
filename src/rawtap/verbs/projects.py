"""`rawtap import` and `rawtap init`: a project's rawtap.toml."""

from __future__ import annotations

import argparse
import sys

from rawtap.errors import RawtapError
from rawtap.untrusted import visible
from rawtap.verbs import wording
from rawtap.verbs.output import FAILED, WELL, complain, say


def show(options: argparse.Namespace) -> int:
    """Show a line of QEMU's as one; returns the exit code."""
    try:
        text, told = _toml_of(options.line)
    except RawtapError as error:
        complain(wording.told(error))
        return FAILED
    _tell(told)
    say(text, end="")
    return WELL


def write(options: argparse.Namespace) -> int:
    """Write one into a project's folder; returns the exit code."""
    from rawtap.guest.choosing import of_layout
    from rawtap.guest.paths import CONFIG_FILE

    path = options.folder / CONFIG_FILE
    try:
        text, told = of_layout(options.folder) if options.line is None else _toml_of(options.line)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except (RawtapError, OSError) as error:
        complain(wording.told(error))
        return FAILED
    _tell(told)
    say(f"{visible(str(path))} is written; docs/profiles.md has every key")
    return WELL


def _tell(told: tuple[str, ...]) -> None:
    for each in told:
        complain(each)


def _toml_of(line: str) -> tuple[str, tuple[str, ...]]:
    """A line's keys, and what of it is not carried, or is another way."""
    from rawtap.guest.choosing import as_toml
    from rawtap.guest.qemu_line import read

    found = read(sys.stdin.read() if line == "-" else line)
    return as_toml(found.table), found.told()
