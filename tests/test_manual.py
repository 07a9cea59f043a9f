"""The manual page and the shells' completions have what the command line has, as it is now."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawtap.cli import parsers
from support import Account

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "packaging/man/rawtap.1"
BASH = ROOT / "packaging/completions/bash/rawtap"
ZSH = ROOT / "packaging/completions/zsh/_rawtap"
HINT = "run scripts/manual.py"


def commands() -> dict[str, argparse.ArgumentParser]:
    return dict(parsers()[1])


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each option with its help, as far as that is the same everywhere."""
    for action in parser._actions:
        told = re.split(r"\(default: |%\(", action.help or "")[0]
        yield from ((each, told) for each in action.option_strings if each not in {"-h", "--help"})


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The manual's text for each command, as man(1) shows it on a line without end."""
    shown = subprocess.run(
        ["man", "--local-file", MANUAL],
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "9999", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    _, *parts = re.split(r"^ +rawtap (\w+)$", shown.stdout.replace("‐", "-"), flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_the_manual_has_every_command_and_every_option_with_its_help(sections: dict[str, str]) -> None:
    assert set(sections) == set(commands()), HINT
    for name, parser in commands().items():
        for option, told in options(parser):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections[name]), f"{name} {option}: {HINT}"
            assert " ".join(told.split()) in sections[name], f"{name} {option}: {HINT}"


def completed(line: str) -> set[str]:
    """What bash offers for the last word of `line`."""
    words = line.split(" ")
    program = f"""
. {BASH}
COMP_WORDS=({" ".join(words)} {"''" if not words[-1] else ""})
COMP_CWORD={len(words) - 1}
_shtab_rawtap rawtap "{words[-1]}" "{words[-2]}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_completes_every_command_and_every_option() -> None:
    assert completed("rawtap ") >= set(commands()), HINT
    for name, parser in commands().items():
        if name != "setcap":  # which gives all to setcap.sh
            assert completed(f"rawtap {name} -") >= {option for option, _ in options(parser)}, f"{name}: {HINT}"
    assert completed("rawtap serve --tools c") == {"core", "capture"}
    assert "claude-code" in completed("rawtap install ")


def test_zsh_has_every_option_of_every_command() -> None:
    functions = dict(
        re.findall(r"^_shtab_rawtap_(\w+)_options=\(\n(.*?)^\)$", ZSH.read_text(), re.MULTILINE | re.DOTALL)
    )
    for name, parser in commands().items():
        for option, _ in options(parser):
            assert re.search(rf"{option}(?![\w-])", functions[name]), f"{name} {option}: {HINT}"


def test_no_page_tells_of_the_machine_that_it_was_made_on() -> None:
    for path in (MANUAL, BASH, ZSH):
        assert not re.search(r"/home/|/root/", path.read_text().replace("\\", "")), path


def test_they_are_installed_where_man_and_the_shells_look(user: Account) -> None:
    share = Path(sys.prefix, "share")
    for source, place in (
        (MANUAL, "man/man1/rawtap.1"),
        (BASH, "bash-completion/completions/rawtap"),
        (ZSH, "zsh/site-functions/_rawtap"),
    ):
        assert (share / place).read_bytes() == source.read_bytes(), place
    found = subprocess.run(
        user.command("/usr/bin/env", f"PATH={sys.prefix}/bin:/usr/bin:/bin", "man", "--where", "rawtap"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip() == str(share / "man/man1/rawtap.1"), found.stderr
