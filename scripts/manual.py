"""The manual page and the shells' completions, made of the command line's own parser, and the tools' list, made of
the tools: `manual.py` writes them.

They are kept with the source, so that nobody needs what makes them to build the package.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path

import anyio
import shtab
from argparse_manpage.manpage import Manpage
from mcp.server import MCPServer

from rawtap.agents import HOSTS
from rawtap.tools import _listing

ROOT = Path(__file__).resolve().parents[1]
HOME = "/home/you"  # stands in no page: what is below it is written with ~
FILES = """\
.TP
.I ~/.config/rawtap/rawtap.conf.toml
the server's options, as
.B rawtap config
shows them;
.B RAWTAP_CONFIG
names another file
.TP
.I ~/.local/state/rawtap/captures
where capture files go
.TP
.I rawtap.toml
in a project's folder: how its system is booted
"""


def pages() -> dict[Path, str]:
    """Each file's text, by its path below the project's folder."""
    os.environ |= {"HOME": HOME, "COLUMNS": "78"}
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    from rawtap.cli import parsers

    parser, commands = parsers()
    _tell_files(commands.values())
    made = {
        "packaging/man/rawtap.1": _manual(str(Manpage(parser, format="single-commands-section", _data=_HEAD))),
        "packaging/completions/bash/rawtap": shtab.complete(parser, "bash"),
        "packaging/completions/zsh/_rawtap": shtab.complete(parser, "zsh"),
    }
    written = {Path(path): re.sub(_WRITTEN_HOME, "~", text).rstrip("\n") + "\n" for path, text in made.items()}
    return written | {Path("src/rawtap/tools", _listing.LISTED.name): _listed()}


_WRITTEN_HOME = HOME.replace("/", r"\\?/")  # zsh's has a backslash before each of its slashes


_HEAD = {"prog": "rawtap", "description": "boot an OS in QEMU, put it on a real wire, see every packet"}


def _listed() -> str:
    """Each tool as tools/list tells it, on a line of its own."""
    from rawtap.tools.every import TOOLS

    tools = anyio.run(MCPServer("rawtap", tools=list(TOOLS)).list_tools)
    return "".join(f"{_listing.brief(each).model_dump_json(by_alias=True, exclude_none=True)}\n" for each in tools)


def _tell_files(commands: Iterable[argparse.ArgumentParser]) -> None:
    """Which words of a line are files, or names that only the command knows."""
    for each in (action for command in commands for action in command._actions):  # noqa: SLF001 - argparse has no other way
        if each.metavar in {"FILE", "OUT"}:
            each.complete = shtab.FILE  # type: ignore[attr-defined]
        elif each.metavar == "FOLDER":
            each.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif each.metavar == "HOST":
            each.choices = sorted(HOSTS)


def _manual(text: str) -> str:
    """Without the day on which it was made; usage as it is set; and with the files."""
    text = re.sub(r"\A\.TH .*", '.TH RAWTAP "1" "" "rawtap" "User Commands"', text)
    text = text.replace(".SH\nPOSITIONAL ARGUMENTS", ".SH COMMANDS")
    text = re.sub(r"^usage: (.*?)\n\n", r".nf\n\1\n.fi\n\n", text, flags=re.MULTILINE | re.DOTALL)
    return f"{text.rstrip()}\n\n.SH FILES\n{FILES}"


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
