"""The command line's part in agents' hosts: `rawtap install`. What it needs is imported when it runs: see cli.py."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rawtap.errors import HostFileUnfit
from rawtap.untrusted import visible


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "host",
        nargs="?",
        metavar="HOST",
        help="the agent's host, like claude-code; without one, those that are known are listed",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--undo", action="store_true", help="take rawtap out of the host's configuration again")
    what.add_argument("--dry-run", action="store_true", help="only show what would change")
    what.add_argument("--print", action="store_true", help="only print the entry, to be added by hand")
    parser.add_argument(
        "--serve",
        type=_words,
        default=[],
        metavar="OPTIONS",
        help="options for the server, all in one word",
    )
    parser.set_defaults(run=run)


def _words(text: str) -> list[str]:
    """As a shell would have them."""
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def run(options: argparse.Namespace) -> int:
    """`rawtap install`; returns the exit code."""
    from rawtap import agents

    home = Path.home()
    if options.host is None:
        return _list(home)
    if (host := agents.HOSTS.get(options.host)) is None:
        print(f"rawtap: there is no host {options.host!r}; known are {', '.join(agents.HOSTS)}", file=sys.stderr)
        return 2
    command = [program(), "serve", *options.serve]
    if options.print:
        print(agents.as_text(host, command), end="")
        return 0
    try:
        place = host.place(home, os.environ)
        change = agents.removed(host, place) if options.undo else agents.entered(host, place, command)
        print(visible(change.diff(), keep="\n\t") or f"nothing to change in {change.path}\n", end="")
        if options.dry_run or change.before == change.after:
            return 0
        kept = agents.write(change)
    except HostFileUnfit as error:
        print(f"rawtap: {visible(str(error))}", file=sys.stderr)
        return 1
    if kept:
        print(f"what was there before is kept in {visible(str(kept))}")
    print(f"start {host.title} again to {'be without it' if options.undo else 'have the tools'}")
    if host.note and not options.undo:
        print(host.note)
    return 0


def _list(home: Path) -> int:
    from rawtap import agents

    for name, host in sorted(agents.HOSTS.items()):
        state = "is here" if agents.is_here(host, home) else "was not found"
        print(f"{name:15} {host.title} {state} ({host.place(home, os.environ)})")
    print("rawtap install HOST enters rawtap there, --dry-run shows what would change, --print is for any other host")
    return 0


def program() -> str:
    """This environment's rawtap, by its whole path: a host knows no PATH of a shell's."""
    return str(Path(sys.prefix) / "bin" / "rawtap")
