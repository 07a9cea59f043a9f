"""The command line's part in HTTP: arguments, and what they come to before the server has anything."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rawtap.http import door
from rawtap.http.door import Address, Names
from rawtap.http.gate import Gate
from rawtap.settings import Settings

_MOST = 1000
_LONGEST_IDLE = 30 * 24 * 3600
_LONGEST_HEADERS = 60
_NUMBERS = {  # by default; the most; what for
    "idle_seconds": (1800, _LONGEST_IDLE, "release what a client holds after N seconds without a request of its"),
    "header_seconds": (5, _LONGEST_HEADERS, "close a connection whose headers and token are not here after N seconds"),
    "max_clients": (16, _MOST, "at most N clients at once"),
    "max_guests": (8, _MOST, "at most N guests at once, each client"),
    "max_captures": (16, _MOST, "at most N captures at once, each client"),
    "max_calls": (32, _MOST, "at most N calls at once, each client"),
}


@dataclass(frozen=True)
class HttpSettings:
    """What the operator decides about HTTP.

    Attributes:
        listening: The socket, bound and listening.
        gate: Who may come in.
        shared: Whether all clients have one Lab.
        idle_seconds: After how long without a request in progress a client's Lab is released.
        max_clients: How many Labs there may be, or sessions of a shared one.
        header_seconds: How long a connection may take to send a request's headers, with the token.
    """

    listening: socket.socket
    gate: Gate
    shared: bool
    idle_seconds: int
    max_clients: int
    header_seconds: int

    @property
    def url(self) -> str:
        """Of the MCP endpoint."""
        host, port = self.listening.getsockname()[:2]
        return f"http://{Address(host, port)}/mcp"


def add_to(parser: argparse.ArgumentParser, count: Callable[[int, int], Callable[[str], int]]) -> None:
    """Add the arguments; `count` makes the type of a whole number between two others."""
    group = parser.add_argument_group("MCP over HTTP", "what follows needs --http")
    group.add_argument(
        "--http",
        type=_address,
        nargs="?",
        const=Address(),
        metavar="HOST:PORT",
        help=f"serve MCP over streamable HTTP (default: {Address()}; port 0 takes a free one) instead",
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the bearer token that clients must send, in a file of mode 0600, made where there is none (default: the "
        f"environment's {door.TOKEN_VARIABLE}, else {door.default_token_file()})",
    )
    for name, what in (
        ("--allow-host", "a further name that clients may call this server by, or NAME:PORT; may be repeated"),
        ("--allow-origin", "a web page's origin that may call, like https://tool.example; may be repeated"),
    ):
        group.add_argument(name, action="append", default=[], metavar="NAME", help=what)
    group.add_argument(
        "--shared", action="store_true", help="all clients share guests and captures (default: each has its own)"
    )
    for name, (default, most, what) in _NUMBERS.items():
        said = f"{what} (default: {default})"
        group.add_argument(f"--{name.replace('_', '-')}", type=count(1, most), metavar="N", help=said)


def _address(text: str) -> Address:
    try:
        return Address.parsed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


NEED_HTTP = ("token_file", "allow_host", "allow_origin", "shared", *_NUMBERS)


def misused(options: argparse.Namespace) -> str | None:
    """The first argument that needs --http, if --http is not given; else None."""
    given = (name for name in NEED_HTTP if getattr(options, name))
    return None if options.http else next((f"--{name.replace('_', '-')}" for name in given), None)


def _number(options: argparse.Namespace, name: str) -> int:
    return int(getattr(options, name) or _NUMBERS[name][0])


def limited(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings of each client's Lab."""
    return replace(
        settings,
        max_guests=_number(options, "max_guests"),
        max_captures=_number(options, "max_captures"),
        max_calls=_number(options, "max_calls"),
    )


def open_door(options: argparse.Namespace) -> HttpSettings:
    """Take the address, and read or make the token.

    Raises:
        ServerCannotStart: Nothing is made but, perhaps, the token's file.
    """
    listening = door.listening_on(options.http)
    token = door.token_from(options.token_file, os.environ)
    if not door.is_loopback(listening):
        _say(
            f"WARNING: {options.http} is not the loopback, and nothing is encrypted: who sees packets has the token. "
            "Put a proxy with TLS in front"
        )
    hosts = door.host_names(options.http.host, listening)
    for name in options.allow_host:
        hosts += [name] if _has_port(name) else [name, f"{name}:*"]
    return HttpSettings(
        listening,
        Gate(Names(tuple(hosts), tuple(options.allow_origin)), token),
        options.shared,
        _number(options, "idle_seconds"),
        _number(options, "max_clients"),
        _number(options, "header_seconds"),
    )


def _has_port(name: str) -> bool:
    return name.rpartition(":")[2].isdigit() and not name.endswith("]")


def _say(text: str) -> None:
    print(f"rawtap: {text}", file=sys.stderr)
