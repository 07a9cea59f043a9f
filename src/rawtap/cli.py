"""The command line: arguments and exit codes.

It is read twice where this process is replaced by the private interpreter: what only a command needs, that command
imports.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from rawtap import configuration, installing
from rawtap import options as server_options
from rawtap.errors import ConfigurationInvalid, RawtapError, RootlessUnavailable
from rawtap.host import privileges, rootless
from rawtap.http import options as http_options
from rawtap.untrusted import visible

_MAX_SHOWN = 999_999_999


class _ShowVersion(argparse.Action):
    """Prints the version. It is looked up only now, because the look-up is slow and every command would wait for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"rawtap {version('rawtap')}")
        parser.exit()


def parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands."""
    parser = argparse.ArgumentParser(
        prog="rawtap", description="Boot an OS in QEMU, put it on a real wire, see every packet."
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve MCP over stdin and stdout, or over HTTP")
    doctor = commands.add_parser("doctor", help="check what rawtap needs on this machine")
    config = commands.add_parser("config", help="show the server's options as rawtap.conf.toml, and who chose them")
    for command, run in ((serve, _serve), (doctor, _doctor), (config, _config)):
        command.set_defaults(run=run)
        server_options.add_to(command)
    doctor.add_argument(
        "--fix",
        action="store_true",
        help="print the commands that bring what is missing; as root, have them carried out",
    )
    for command in (serve, config):
        server_options.add_to_server(command)
        http_options.add_to(command, server_options.count)
    setcap = commands.add_parser(
        "setcap",
        add_help=False,
        help="give this environment its capabilities, as root, once; --check looks, --remove takes them back",
    )
    setcap.set_defaults(run=_setcap)
    installing.add_to(commands.add_parser("install", help="enter rawtap into the configuration of an agent's host"))
    demo = commands.add_parser("demo", help="show the whole story on U-Boot, as an MCP client of this server")
    demo.set_defaults(run=_demo)
    demo.add_argument("--no-color", action="store_true", help="plain text")
    read = commands.add_parser("read", help="show, count or copy the packets of a capture file")
    read.set_defaults(run=_read)
    _add_selection(read)
    export = commands.add_parser("export", help="write the packets of capture files as Parquet, CSV or Arrow")
    export.set_defaults(run=_export)
    export.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pcap or pcapng files")
    export.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="OUT",
        help="a new .parquet, .csv or .arrows; without a suffix a new folder of Parquet files, by file and hour",
    )
    export.add_argument("--info", action="store_true", help="with what each packet says, which takes longer")
    import_ = commands.add_parser("import", help="show a QEMU command line as a rawtap.toml")
    import_.set_defaults(run=_import)
    import_.add_argument(
        "line",
        metavar="LINE",
        help="the line in quotes, or - for standard input: make -n qemu | rawtap import -",
    )
    init = commands.add_parser("init", help="write a project's rawtap.toml: of its layout, or of a QEMU command line")
    init.set_defaults(run=_init)
    init.add_argument("folder", type=Path, metavar="FOLDER", help="the project's folder")
    init.add_argument("--line", metavar="LINE", help="what its Makefile says; - for standard input")
    return parser, commands.choices


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a pcap or pcapng file")
    parser.add_argument(
        "filter", nargs="*", metavar="FILTER", help="which packets: a pcap-filter(7) expression, like udp port 53"
    )
    parser.add_argument(
        "--limit",
        type=server_options.count(1, _MAX_SHOWN),
        default=20,
        metavar="N",
        help="show at most N packets (default: %(default)s)",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--count", action="store_true", help="only count them")
    instead.add_argument("--write", type=Path, metavar="OUT", help="copy them to the new file OUT, in pcap format")


def _prepare(options: argparse.Namespace, given: list[str], meanwhile: Callable[[], None]) -> None:
    """Get what makes links and captures possible: the private interpreter's capabilities, or a namespace of our own.

    Without --rootless it is the former where it can be had, or where the host's own interfaces are wanted. In between,
    `meanwhile` is called: it runs in the last program, and in the network that this process was started in.

    Raises:
        RootlessUnavailable: --rootless was given, and cannot be.
    """
    wanted, options.pasta = options.rootless, None
    if not (wanted or _only_rootless(options)):
        privileges.enter_private_interpreter(given)
    meanwhile()
    if not wanted:
        able = privileges.current().may(privileges.Capability.NET_ADMIN)
        if able or wanted is False or options.allow_interface:
            options.rootless = False
            privileges.lay_down()
            return
    from rawtap.host import pasta

    # What is left behind in the host's namespaces, to start pasta there.
    forward = getattr(options, "allow_forward", None)
    wanted_outside = options.run is _serve and (options.outside is not False or forward)
    helper = pasta.wait(forward) if wanted_outside else None
    try:
        rootless.enter()
        options.rootless, options.pasta = True, helper
    except RootlessUnavailable:
        if helper:
            helper.close()
        if wanted:
            raise
        options.rootless = False  # each call that needs a privilege says what is missing
        privileges.lay_down()


def _only_rootless(options: argparse.Namespace) -> bool:
    """Whether a container keeps CAP_NET_ADMIN back, and a namespace is possible instead.

    The private interpreter would get the rest of its capabilities, and nobody who has some from a file may unshare
    (it is not dumpable, and may not write its own map: proc(5)).
    """
    if options.rootless is False or options.allow_interface:
        return False
    return privileges.out_of_bounds(privileges.Capability.NET_ADMIN) and rootless.why_not() is None


def _serve(options: argparse.Namespace) -> int:
    gc.disable()  # what is imported stays: to look for garbage in it takes a tenth of the start
    import asyncio

    from rawtap.blocking import leave_threads_behind

    if options.http:
        from rawtap.http.serve import serve_http

        limited = http_options.limited(server_options.settings(options), options)
        serving = serve_http(limited, options.door, options.pasta)
    else:
        from rawtap.server import serve_stdio

        serving = serve_stdio(server_options.settings(options), options.pasta)
    gc.freeze()
    gc.enable()
    logging.basicConfig(stream=sys.stderr, level=options.log_level.upper(), format="rawtap: %(levelname)s: %(message)s")
    try:
        asyncio.run(serving)
    finally:
        if options.pasta:
            options.pasta.close()
    leave_threads_behind()
    return 0


def _open_door(options: argparse.Namespace) -> None:
    if options.run is _serve and options.http:
        options.door = http_options.open_door(options)


def _doctor(options: argparse.Namespace) -> int:
    import asyncio

    if options.fix:
        from rawtap import fixing

        return fixing.run()
    from rawtap.doctor import examine

    findings = asyncio.run(examine(server_options.settings(options)))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.found}")
        if finding.cure:
            print(f"      {finding.cure}")
    return 0 if all(finding.ok for finding in findings) else 1


def _config(options: argparse.Namespace) -> int:
    print(f"# {visible(str(configuration.file_of(os.environ)))}")
    print(configuration.shown(options.known, options, options.chosen), end="")
    return 0


def _setcap(options: argparse.Namespace) -> int:
    """Become setcap.sh of this environment. What it needs root for, it refuses without, and says the whole command."""
    script = privileges.setcap_script()
    if script.exists():
        os.execv("/bin/bash", ["bash", str(script), *options.left])
    _complain(f"{script} is missing: use setcap.sh of the checkout that rawtap is installed from")
    return 1


def _demo(options: argparse.Namespace) -> int:
    import asyncio

    import rawtap._bpf  # noqa: F401 - where libpcap is missing, say so before a server is started
    from rawtap.demo import run

    return asyncio.run(run(color=not options.no_color))


def _import(options: argparse.Namespace) -> int:
    try:
        print(_toml_of(options.line), end="")
    except RawtapError as error:
        _complain(str(error))
        return 1
    return 0


def _init(options: argparse.Namespace) -> int:
    from rawtap.guest.choosing import of_layout
    from rawtap.guest.paths import CONFIG_FILE

    path = options.folder / CONFIG_FILE
    try:
        text = of_layout(options.folder) if options.line is None else _toml_of(options.line)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except (RawtapError, OSError) as error:
        _complain(str(error))
        return 1
    print(f"{visible(str(path))} is written; docs/profiles.md has every key")
    return 0


def _toml_of(line: str) -> str:
    """A line's keys; what is not carried is told on stderr."""
    from rawtap.guest.choosing import as_toml
    from rawtap.guest.qemu_line import read

    found = read(sys.stdin.read() if line == "-" else line)
    for each in found.left:
        _complain(f"not carried: {each}")
    return as_toml(found.table)


def _read(options: argparse.Namespace) -> int:
    from rawtap.capture import filters

    try:
        expression = filters.checked(" ".join(options.filter))
        path = options.file.resolve()
        run = _select if options.count or options.write else _show
        lacking = run(options, path, expression)
    except (RawtapError, RuntimeError) as error:  # resolve() raises the latter for a loop of links
        _complain(str(error))
        return 1
    if lacking:
        _complain(lacking)
    return 1 if lacking else 0


def _export(options: argparse.Namespace) -> int:
    from rawtap.packets.sql.export import export

    try:
        done = export([each.resolve() for each in options.files], options.to, info=options.info)
    except (RawtapError, RuntimeError) as error:
        _complain(str(error))
        return 1
    print(f"{visible(str(options.to))}: {done.packets} packets, {done.size_bytes} bytes")
    for each in (*done.notes, *done.lacking):
        _complain(each)
    return 1 if done.lacking else 0


def _select(options: argparse.Namespace, path: Path, expression: str) -> str:
    """Count or copy what passes the filter; returns what the file lacks."""
    from rawtap.packets import ends, reader

    selected = reader.select(path, expression, options.write)
    told = f"{selected.matched} of {selected.scanned} packets"
    _tell_tags(selected.tagged, expression)
    print(f"{visible(str(options.write))}: {told}, {selected.size_bytes} bytes" if options.write else told)
    return ends.told(selected.scanned, selected.damage)


def _show(options: argparse.Namespace, path: Path, expression: str) -> str:
    """Print what passes the filter, a line a packet; returns what the file lacks."""
    from rawtap.packets import pages, reader
    from rawtap.packets.index import Indexes
    from rawtap.packets.tail import Part

    cursor, left = None, options.limit
    source, indexes = pages.PacketFiles(str(path), [Part(1, path, 0)]), Indexes()
    while True:
        question = pages.Question(expression, cursor, limit=min(left, reader.MAX_LIMIT))
        page = pages.read_page(source, question, indexes)
        for line in page.packets:
            print(f"{line.number:>7} {line.time:>12.6f} {line.length:>6}  {line.summary}")
        cursor, left = page.next_cursor, left - len(page.packets)
        if cursor is None or left <= 0:
            _tell_tags(page.tagged, expression)
        if cursor is None:
            return " ".join(page.lacking)
        if left <= 0:
            _complain(f"{options.limit} of {page.matched} packets are shown; --limit shows more")
            return " ".join(page.lacking)


def _tell_tags(tagged: int, expression: str) -> None:
    from rawtap.packets import reader

    for text in reader.tags_told(tagged, expression):
        _complain(text)


def _complain(text: str) -> None:
    print(f"rawtap: {visible(text)}", file=sys.stderr)


def _parse(given: list[str]) -> argparse.Namespace:
    """The arguments; argparse itself takes the words of a filter only where no option stands before them."""
    parser, commands = parsers()
    words, chosen = _configured(commands, given)
    options, left = parser.parse_known_args(words)
    options.left, options.known, options.chosen = left, configuration.options_of(commands["serve"]), chosen
    if options.run is _setcap:
        return options
    if left and (options.run is not _read or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.filter += left
    if options.run is _serve and (wrong := http_options.misused(options)):
        parser.error(f"{wrong} needs --http")
    return options


def _configured(
    commands: Mapping[str, argparse.ArgumentParser], given: list[str]
) -> tuple[list[str], list[configuration.Choice]]:
    """`given` with what the operator's file and environment say before it, where the command is the server's."""
    if not given or given[0] not in {"serve", "doctor", "config"} or {"-h", "--help"} & {*given}:
        return given, []
    known = configuration.options_of(commands[given[0]])
    chosen = configuration.chosen(configuration.options_of(commands["serve"]), os.environ)
    over_http = any(each.key == "http" for each in chosen) or any(word.startswith("--http") for word in given)
    if given[0] == "serve" and not over_http:  # a file may be for both
        chosen = [each for each in chosen if each.key not in http_options.NEED_HTTP]
    words = configuration.as_arguments(known, [each for each in chosen if each.key in known])
    return [given[0], *words, *given[1:]], chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 well, 1 not well, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parse(given)
    except ConfigurationInvalid as error:
        _complain(str(error))
        return 2
    if options.run is _serve or (options.run is _doctor and not options.fix):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no child's end could be seen (waitpid(2))
        try:
            _prepare(options, given, partial(_open_door, options))
        except RawtapError as error:
            _complain(str(error))
            return 1
    if options.run is _read and arguments is None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # rawtap read FILE | head
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (ImportError, BaseExceptionGroup) as error:
        if not (lack := _lacks_libpcap(error)):
            raise
        _complain(lack)
        return 1


def _lacks_libpcap(error: BaseException) -> str | None:
    """What to do about it, where an error came of libpcap, which this machine has or has not, and no wheel brings."""
    if isinstance(error, BaseExceptionGroup):
        return next((told for each in error.exceptions if (told := _lacks_libpcap(each))), None)
    found = re.match(r"(?:.*/)?(libpcap\.so[\w.]*): (?:cannot open|file too short)", str(error))
    if not isinstance(error, ImportError) or not found:
        return None
    from rawtap.host import distribution

    system = distribution.here()
    if system.family == "debian":
        return f"{found[1]} is not on this machine. {system.cure('libpcap0.8')}"
    return (
        f"{found[1]} is not on this machine: what is installed was built for Debian and its kin. Build it here: "
        "pip install --force-reinstall --no-binary rawtap,python-libpcap rawtap"
    )
