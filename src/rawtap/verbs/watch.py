"""`rawtap watch`: what a running server does, on a screen or in lines, or the packets of a capture as they come."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import BinaryIO

from rawtap.capture import filters
from rawtap.errors import RawtapError
from rawtap.host import extras
from rawtap.verbs import wording
from rawtap.verbs.attached import Attached, Refused, attached, chosen
from rawtap.verbs.lines import PAUSE_SECONDS, Whole, in_a_line
from rawtap.verbs.output import FAILED, MISUSED, WELL, complain, say
from rawtap.verbs.writing import copy, how_it_ended


def run(options: argparse.Namespace) -> int:
    """Watch, or write; returns the exit code."""
    if misused := _misused(options):
        complain(misused)
        return MISUSED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is held that would have to be released
    try:
        expression = filters.checked(" ".join(options.filter))
        with attached(chosen(options.server)) as server:
            return _write(server, options, expression) if options.write else _watch(server, options, expression)
    except (Refused, RawtapError) as error:
        complain(wording.told(error))
        return FAILED


def _misused(options: argparse.Namespace) -> str | None:
    if options.write and not options.capture:
        return "--write needs a capture: rawtap watch c1 --write -"
    if options.write == "-" and sys.stdout.isatty():
        return "packets are no text for a terminal: rawtap watch c1 --write - | wireshark -k -i -"
    return None


def _watch(server: Attached, options: argparse.Namespace, expression: str) -> int:
    server.ask(do="pages", capture=options.capture, filter=expression)
    if _has_screen(options):
        from rawtap.verbs import screen

        return screen.show(server)
    return _lines(server, as_json=options.json)


def _has_screen(options: argparse.Namespace) -> bool:
    if options.json or options.lines or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    if find_spec("textual") is None:
        complain(
            f"the screen needs textual. {extras.cure('rawtap[watch]')}; these are the lines of rawtap watch --lines"
        )
        return False
    return True


# ---------------------------------------------------------------------- lines


def _lines(server: Attached, *, as_json: bool) -> int:
    before: object = None
    whole = Whole()
    while True:
        try:
            page = server.page()
        except (Refused, RawtapError):
            say("".join(f"{in_a_line(each)}\n" for each in whole.rest()), end="")
            raise
        events = page["events"] if as_json else whole.of(page)
        if page["labs"] != before and as_json:
            events = [{"source": "state", "labs": page["labs"]}, *events]
        before = page["labs"]
        say("".join(f"{json.dumps(each) if as_json else in_a_line(each)}\n" for each in events), end="")
        if bye := page.get("bye"):
            complain(bye)
            return WELL
        if not page["more"]:
            time.sleep(PAUSE_SECONDS)


# ---------------------------------------------------------------------- packets


def _write(server: Attached, options: argparse.Namespace, expression: str) -> int:
    server.ask(do="stream", capture=options.capture)
    form = server.line()["format"]
    try:
        with _opened(options.write) as out:
            ended = copy(server, form, expression, out)
    except OSError as error:
        complain(f"{options.write} cannot be written: {error}")
        return FAILED
    return how_it_ended(options.capture, ended)


@contextmanager
def _opened(target: str) -> Iterator[BinaryIO]:
    """Standard output, or a new file of the user's alone."""
    if target == "-":
        yield sys.stdout.buffer
        return
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        yield out
