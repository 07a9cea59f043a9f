"""The arguments of what a person gives rawtap to do. A verb's own module is imported when it runs: see cli.py."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from rawtap import options as server_options

_MOST = 999_999_999
_MOST_SECONDS = 3600.0


class Commands(Protocol):
    """What argparse's `add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str, add_help: bool = True) -> argparse.ArgumentParser: ...  # noqa: A002


def add_to(commands: Commands) -> None:
    """Add every verb but the server's."""
    _add_boot(_verb(commands, "boot", "boot.run", "a guest's console in this terminal"))
    _add_capture(_verb(commands, "capture", "capture.run", "capture an interface's packets, as tcpdump does"))
    _add_wait(_verb(commands, "wait", "capture.wait", "wait for a packet on an interface, or see that none comes"))
    _add_watch(_verb(commands, "watch", "watch.run", "watch a running server: guests, consoles, packets, calls"))
    _add_extcap(_verb(commands, "extcap", "extcap.run", "have running captures among Wireshark's interfaces"))
    _add_selection(_verb(commands, "read", "reading.read", "show, count or copy the packets of a capture file"))
    _add_explain(
        _verb(commands, "explain", "files.explain", "say what is wrong in a capture file, or what has changed")
    )
    _add_query(_verb(commands, "query", "files.query", "ask capture files in SQL"))
    _add_follow(_verb(commands, "follow", "files.follow", "show what both ends of a conversation said"))
    _add_export(
        _verb(commands, "export", "reading.export", "write the packets of capture files as Parquet, CSV or Arrow")
    )
    _add_import(_verb(commands, "import", "projects.show", "show a QEMU command line as a rawtap.toml"))
    what = "write a project's rawtap.toml: of its layout, or of a QEMU command line"
    _add_init(_verb(commands, "init", "projects.write", what))
    record = _verb(commands, "record", "record.run", "serve, and write what the agent does as a test")
    record.add_argument("--as-pytest", type=Path, required=True, metavar="FILE", help="the new file with the test")
    demo = _verb(commands, "demo", "setup.demo", "show the whole story on U-Boot, as an MCP client of this server")
    demo.add_argument("--no-color", action="store_true", help="plain text")


def runs(place: str) -> Callable[[argparse.Namespace], int]:
    """The function of `rawtap.verbs` that is named like "boot.run", imported when it is called."""

    def run(options: argparse.Namespace) -> int:
        module, _, name = place.partition(".")
        return int(getattr(importlib.import_module(f"rawtap.verbs.{module}"), name)(options))

    return run


def _verb(commands: Commands, name: str, place: str, what: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what)
    parser.set_defaults(run=runs(place))
    return parser


def _seconds(text: str, *, least: float = 0.0) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {least:g} to {_MOST_SECONDS:g}")
    return number


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the answer that an agent's tool gives, in one line")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "filter",
        nargs="*",
        default=[],
        metavar="FILTER",
        help="which packets: a pcap-filter(7) expression, like udp port 53",
    )


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a pcap or pcapng file")


def _add_boot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "project", type=Path, nargs="?", metavar="PROJECT", help="a folder with a rawtap.toml; absent: this one"
    )
    parser.add_argument("--profile", metavar="NAME", help="a built-in one instead, like u-boot-riscv64")
    parser.add_argument(
        "--network",
        choices=("bridge", "user"),
        help="put it on its bridge with this host, or on a network inside QEMU, which needs no privilege",
    )
    parser.add_argument("--services", action="store_true", help="DHCP, DNS and a way out on the bridge")
    parser.add_argument("--capture", action="store_true", help="capture its card, from its first instruction on")
    parser.add_argument("--filter", default="", metavar="FILTER", help="a pcap-filter(7) expression for that capture")
    for option, what in (
        ("memory", 'like "256M"'),
        ("bootargs", "the kernel's command line"),
        ("kernel", "a kernel image"),
        ("line", "a line of QEMU's, in quotes: the machine is as it says"),
    ):
        parser.add_argument(f"--{option}", metavar=option.upper(), help=what)
    parser.add_argument(
        "--script",
        metavar="FILE",
        help="type its lines as commands, each after the prompt, and end; - for standard input",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=50.0,
        metavar="SECONDS",
        help="with --script: for the boot, and for each command (default: %(default)g)",
    )
    _add_json(parser)
    server_options.add_to(parser)


def _add_interface(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", help="an interface of this machine")
    _add_filter(parser)
    parser.add_argument(
        "-w", "--write", type=Path, metavar="FILE", help="keep them in the new FILE, pcap or pcapng by its name"
    )
    _add_json(parser)
    server_options.add_to_captures(parser)


def _add_capture(parser: argparse.ArgumentParser) -> None:
    _add_interface(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print no packets")
    count = server_options.count(1, _MOST)
    for name, flags, what in (
        ("count", ("-c", "--count"), "end after N packets"),
        ("snaplen", ("-s", "--snaplen"), "keep N bytes of each packet"),
        ("max_bytes", ("--max-bytes",), "a file's greatest size; the capture ends there, or goes on in the next file"),
        ("files", ("--files",), "keep the newest N files of that size: a ring"),
    ):
        parser.add_argument(*flags, dest=name, type=count, metavar="N", help=what)
    parser.add_argument("--seconds", type=partial(_seconds, least=0.001), metavar="N", help="end after N seconds")


def _add_wait(parser: argparse.ArgumentParser) -> None:
    _add_interface(parser)
    parser.add_argument(
        "--count", type=server_options.count(1, 1000), default=1, metavar="N", help="for N packets (default: 1)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="how long at most (default: %(default)g)"
    )
    parser.add_argument("--absent", action="store_true", help="wait the whole time, to see that none comes")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("capture", nargs="?", metavar="CAPTURE", help="only this capture, like c1")
    _add_filter(parser)
    parser.add_argument(
        "--server",
        type=server_options.count(1, 1 << 30),
        metavar="PID",
        help="which of your servers, where several run",
    )
    parser.add_argument("-w", "--write", metavar="FILE", help="write its packets to the new FILE as they come, or to -")
    parser.add_argument("--lines", action="store_true", help="lines instead of a screen")
    parser.add_argument("--json", action="store_true", help="lines of JSON")


def _add_extcap(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--install", action="store_true", help="have Wireshark and tshark list what runs; for this user")
    what.add_argument("--uninstall", action="store_true", help="take that back")
    what.add_argument("--print", action="store_true", help="print the script that --install writes")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_filter(parser)
    parser.add_argument(
        "--limit",
        type=server_options.count(1, _MOST),
        default=20,
        metavar="N",
        help="show at most N packets (default: %(default)s)",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--count", action="store_true", help="only count them")
    instead.add_argument("--write", type=Path, metavar="OUT", help="copy them to the new file OUT, in pcap format")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_filter(parser)
    parser.add_argument(
        "--compare", type=Path, metavar="EARLIER", help="what has changed since that file: new, gone, slower"
    )
    _add_json(parser)


def _add_query(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pcap or pcapng files")
    parser.add_argument("sql", metavar="SQL", help='one SELECT, like "SELECT * FROM conversations"')
    parser.add_argument(
        "--limit", type=server_options.count(1, 1000), default=50, metavar="N", help="at most N rows (default: 50)"
    )
    _add_json(parser)


def _add_follow(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--packet", type=server_options.count(1, _MOST), metavar="N", help="that of the packet N")
    which.add_argument("--stream", type=server_options.count(0, _MOST), metavar="N", help="the stream N of a query")
    parser.add_argument("--search", metavar="TEXT", help="find a text in all of it")
    parser.add_argument("--hex", action="store_true", help="hexadecimal digits instead of text")
    parser.add_argument("--offset", type=server_options.count(0, _MOST), default=0, metavar="N", help="begin there")
    parser.add_argument(
        "--limit", type=server_options.count(1, 16000), default=16000, metavar="N", help="at most N bytes"
    )
    _add_json(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pcap or pcapng files")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="OUT",
        help="a new .parquet, .csv or .arrows; without a suffix a new folder of Parquet files, by file and hour",
    )
    parser.add_argument("--info", action="store_true", help="with what each packet says, which takes longer")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "line",
        metavar="LINE",
        help="the line in quotes, or - for standard input: make -n qemu | rawtap import -",
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the project's folder")
    parser.add_argument("--line", metavar="LINE", help="what its Makefile says; - for standard input")
