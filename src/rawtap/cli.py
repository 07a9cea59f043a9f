"""The command line: arguments and exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rawtap import privileges
from rawtap.settings import Settings, default_capture_dir


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rawtap", description="Boot an OS in QEMU, put it on a real wire, see every packet."
    )
    parser.add_argument("--version", action="version", version=f"rawtap {version('rawtap')}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve MCP over stdin and stdout")
    doctor = commands.add_parser("doctor", help="check what rawtap needs on this machine")
    for command, run in ((serve, _serve), (doctor, _doctor)):
        command.set_defaults(run=run)
        _add_settings(command)
    demo = commands.add_parser("demo", help="show the whole story on U-Boot, as an MCP client of this server")
    demo.set_defaults(run=_demo)
    demo.add_argument("--no-color", action="store_true", help="plain text")
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capture-dir",
        type=Path,
        default=default_capture_dir(),
        metavar="FOLDER",
        help="where capture files go (default: %(default)s)",
    )
    parser.add_argument(
        "--read-dir",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a further folder whose capture files may be read; may be repeated",
    )
    parser.add_argument(
        "--allow-interface",
        action="append",
        default=[],
        metavar="NAME",
        help="an interface of the host that may be captured, or a bridge that may be joined; may be repeated",
    )


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        capture_dir=options.capture_dir.absolute(),
        read_dirs=tuple(folder.absolute() for folder in options.read_dir),
        allowed_interfaces=frozenset(options.allow_interface),
    )


def _serve(options: argparse.Namespace) -> int:
    from rawtap.server import serve_stdio

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="rawtap: %(levelname)s: %(message)s")
    asyncio.run(serve_stdio(_settings(options)))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rawtap.doctor import examine

    findings = asyncio.run(examine(_settings(options)))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.found}")
        if finding.cure:
            print(f"      {finding.cure}")
    return 0 if all(finding.ok for finding in findings) else 1


def _demo(options: argparse.Namespace) -> int:
    from rawtap.demo import run

    return asyncio.run(run(color=not options.no_color))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 well, 1 not well, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    privileges.enter_private_interpreter(given)
    privileges.lay_down()
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)
