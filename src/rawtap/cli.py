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
from typing import NoReturn

from rawtap import configuration, installing
from rawtap import options as server_options
from rawtap.errors import ConfigurationInvalid, RawtapError, RootlessUnavailable
from rawtap.host import privileges, rootless
from rawtap.http import options as http_options
from rawtap.verbs import arguments, wording
from rawtap.verbs.output import FAILED, MISUSED, WELL, OutputLost, complain, say

_FOR_LINKS = {"serve", "record", "doctor", "capture", "wait"}  # and a boot on a bridge
_OPERATED = _FOR_LINKS | {"config", "boot"}  # take what the operator chose once and for all
_READ_FURTHER = {"setcap", "extcap"}  # read for themselves what others give them
_FILTERED = {"read", "explain", "capture", "wait", "watch"}  # end in the words of a filter


class _ShowVersion(argparse.Action):
    """Prints the version. It is looked up only now, because the look-up is slow and every command would wait for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"rawtap {version('rawtap')}")
        parser.exit()


def parsers(command: str | None = None) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands: of all of them, unless `command` says that the server is meant.

    An agent waits for the server's start, and for no other command's.
    """
    parser = argparse.ArgumentParser(
        prog="rawtap", description="Boot an OS in QEMU, put it on a real wire, see every packet."
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    parser.set_defaults(run=arguments.runs("first.run"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve MCP over stdin and stdout, or over HTTP")
    doctor = commands.add_parser("doctor", help="check what rawtap needs on this machine")
    config = commands.add_parser("config", help="show the server's options as rawtap.conf.toml, and who chose them")
    of_operator = ((serve, _serve), (doctor, arguments.runs("setup.doctor")), (config, arguments.runs("setup.config")))
    for each, run in of_operator:
        each.set_defaults(run=run)
        server_options.add_to(each)
    doctor.add_argument(
        "--fix",
        action="store_true",
        help="print the commands that bring what is missing; as root, have them carried out",
    )
    for each in (serve, config):
        server_options.add_to_server(each)
        http_options.add_to(each, server_options.count)
    if command == "serve":
        return parser, commands.choices
    setcap = commands.add_parser(
        "setcap",
        add_help=False,
        help="give this environment its capabilities, as root, once; --check looks, --remove takes them back",
    )
    setcap.set_defaults(run=arguments.runs("setup.setcap"))
    installing.add_to(commands.add_parser("install", help="enter rawtap into the configuration of an agent's host"))
    arguments.add_to(commands)
    record = commands.choices["record"]
    server_options.add_to(record)
    server_options.add_to_server(record)
    return parser, commands.choices


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
    wanted_outside = options.command in {"serve", "record", "boot"} and (options.outside is not False or forward)
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
    return WELL


def _open_door(options: argparse.Namespace) -> None:
    if options.command == "serve" and options.http:
        options.door = http_options.open_door(options)


def _parse(given: list[str]) -> argparse.Namespace:
    """The arguments; argparse itself takes the words of a filter only where no option stands before them."""
    parser, commands = parsers(given[0] if given else None)
    words, chosen = _configured(commands, given)
    try:
        options, left = parser.parse_known_args(words)
    except SystemExit as ended:
        if ended.code and chosen:
            complain(f"besides the command line: {configuration.told(chosen)}")
        raise
    options.left, options.known, options.chosen = left, configuration.options_of(commands["serve"]), chosen
    if options.command in _READ_FURTHER:
        return options
    if left and (options.command not in _FILTERED or any(word.startswith("-") for word in left)):
        commands.get(options.command, parser).error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.filter += left
    if options.command == "serve" and (wrong := http_options.misused(options)):
        parser.error(f"{wrong} needs --http")
    if options.command == "config":
        options.chosen += configuration.spoken(commands["config"], given[1:])
    if options.command in {"capture", "wait"}:  # a host's own interface is named to be captured
        options.allow_interface, options.rootless, options.outside = [options.interface], False, False
    return options


def _configured(
    commands: Mapping[str, argparse.ArgumentParser], given: list[str]
) -> tuple[list[str], list[configuration.Choice]]:
    """`given` with what the operator's file and environment say before it, where the command takes that."""
    if not given or given[0] not in _OPERATED or {"-h", "--help"} & {*given}:
        return given, []
    known = configuration.options_of(commands[given[0]])
    chosen = configuration.chosen(configuration.options_of(commands["serve"]), os.environ)
    over_http = any(each.key == "http" for each in chosen) or any(word.startswith("--http") for word in given)
    if given[0] == "serve" and not over_http:  # a file may be for both
        chosen = [each for each in chosen if each.key not in http_options.NEED_HTTP]
    words = configuration.as_arguments(known, [each for each in chosen if each.key in known])
    return [given[0], *words, *given[1:]], chosen


def main(given: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: see `rawtap.verbs.output`."""
    try:
        return _main(given)
    except KeyboardInterrupt:  # before the command had its own way to end, or by one that has none
        return 128 + signal.SIGINT


def _main(given: Sequence[str] | None) -> int:
    _open_what_is_closed()
    words = list(sys.argv[1:] if given is None else given)
    try:
        options = _parse(words)
    except ConfigurationInvalid as error:
        complain(wording.told(error))
        return MISUSED
    for_links = options.command in _FOR_LINKS or getattr(options, "network", None) == "bridge"
    if for_links and not getattr(options, "fix", False):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no child's end could be seen (waitpid(2))
        try:
            _prepare(options, words, partial(_open_door, options))
        except RawtapError as error:
            complain(wording.told(error))
            return FAILED
    if options.command in {"read", "explain", "query", "follow", "watch"} and given is None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # rawtap read FILE | head
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = run(options)
        if options.command not in {"serve", "record"}:
            say(end="")  # what is printed and not written yet
    except OutputLost as lost:
        return lost.told()
    except (ImportError, BaseExceptionGroup) as error:
        if not (lack := _lacks_libpcap(error)):
            raise
        complain(lack)
        return FAILED
    return code


def _open_what_is_closed() -> None:
    """Give stdin, stdout and stderr to whoever was started without: a file opened later would have such a number, and
    get what is printed. Such a stdout cannot be written, so that nobody takes an answer for given."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)  # gets the lowest free number
            setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w"))


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
