"""What the operator decides, as arguments of the server and of what checks it for the same ones."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from rawtap.settings import Settings, ToolGroup, default_capture_dir

_MAX_RING_MIB = 1024
_MAX_BUFFER_MIB = 1 << 20
_FIRST_PORT, _LAST_PORT, _MOST_PORTS = 1024, 65535, 1000
_LEVELS = ("debug", "info", "warning", "error")


def count(least: int, most: int) -> Callable[[str], int]:
    """What turns an argument into a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def _ports(text: str) -> tuple[int, int]:
    """Two port numbers that an unprivileged program can listen on, or one."""
    first, _, last = text.partition("-")
    numbers = [int(each) if re.fullmatch("[0-9]{1,5}", each) else 0 for each in (first, last or first)]
    if not _FIRST_PORT <= numbers[0] <= numbers[1] < numbers[0] + _MOST_PORTS or numbers[1] > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 2200-2299, at most {_MOST_PORTS} from {_FIRST_PORT} on")
    return numbers[0], numbers[1]


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add what the server and its doctor take."""
    parser.add_argument(
        "--capture-dir",
        type=Path,
        default=default_capture_dir(),
        metavar="FOLDER",
        help="where capture files go (default: %(default)s)",
    )
    for option, what in (
        ("--read-dir", "capture files may be read"),
        ("--image-dir", "kernels, firmware and drives guests may be given"),
    ):
        parser.add_argument(
            option,
            type=Path,
            action="append",
            default=[],
            metavar="FOLDER",
            help=f"a further folder whose {what}; may be repeated",
        )
    parser.add_argument(
        "--allow-interface",
        action="append",
        default=[],
        metavar="NAME",
        help="an interface of the host that may be captured, or a bridge that may be joined; may be repeated",
    )
    parser.add_argument(
        "--rootless",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="have guests and captures in a network namespace of the server's own, which needs no administrator and "
        "does not see the host's interfaces (default: where setcap.sh was not run and no interface is allowed)",
    )
    parser.add_argument(
        "--outside",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let guests with services out to what this machine reaches, by NAT (default: only with --rootless, where "
        "pasta is installed)",
    )
    add_to_captures(parser)


def add_to_captures(parser: argparse.ArgumentParser) -> None:
    """Add what captures take."""
    parser.add_argument(
        "--ring-mib",
        type=count(1, _MAX_RING_MIB),
        metavar="N",
        help="size of each capture's kernel ring: what comes while the capture gets no processor (default: 16 for "
        "guests, 64 for others, and less where many captures run or memory is scarce)",
    )
    parser.add_argument(
        "--buffer-mib",
        type=count(1, _MAX_BUFFER_MIB),
        metavar="N",
        help="memory that all captures together may fill while a disk is behind (default: a quarter of what is free)",
    )


def add_to_server(serve: argparse.ArgumentParser) -> None:
    """Add what only the server takes."""
    serve.add_argument(
        "--open-monitor",
        action="store_true",
        help="let the agent give every QMP command: they read and write all files that guests may be given",
    )
    serve.add_argument(
        "--allow-qemu-args",
        action="store_true",
        help="pass on to QEMU what no key of a profile says, unread: it may read and write all files that guests may "
        "be given",
    )
    serve.add_argument(
        "--tls-keys",
        type=Path,
        metavar="FILE",
        help="secrets of TLS that a program writes which is given SSLKEYLOGFILE: with them, and tshark, agents read "
        "what is encrypted",
    )
    serve.add_argument(
        "--allow-forward",
        type=_ports,
        metavar="FIRST-LAST",
        help="ports of this machine's loopback that may lead to guests' ports, like 2200-2299",
    )
    serve.add_argument(
        "--tools",
        choices=get_args(ToolGroup),
        default="all",
        help="show only some tools, for a host with little room: the ten of a whole turn (core), those of captures, or "
        "those of guests (default: %(default)s)",
    )
    serve.add_argument(
        "--log-level",
        choices=_LEVELS,
        default="warning",
        help="what is written to stderr: this, and what is graver (default: %(default)s)",
    )


def settings(options: argparse.Namespace) -> Settings:
    """What was decided."""
    return Settings(
        capture_dir=options.capture_dir.absolute(),
        read_dirs=tuple(folder.absolute() for folder in options.read_dir),
        image_dirs=tuple(folder.absolute() for folder in options.image_dir),
        allowed_interfaces=frozenset(options.allow_interface),
        ring_bytes=options.ring_mib << 20 if options.ring_mib else None,
        buffer_bytes=options.buffer_mib << 20 if options.buffer_mib else None,
        rootless=options.rootless,
        outside=options.outside,
        open_monitor=getattr(options, "open_monitor", False),  # the doctor asks for none of these
        tools=getattr(options, "tools", "all"),
        tls_keys=options.tls_keys.absolute() if getattr(options, "tls_keys", None) else None,
        forward_ports=getattr(options, "allow_forward", None),
        qemu_args=getattr(options, "allow_qemu_args", False),
    )
