"""`rawtap read` and `rawtap export`: the packets of files."""

from __future__ import annotations

import argparse
from pathlib import Path

from rawtap.errors import RawtapError
from rawtap.untrusted import visible
from rawtap.verbs import progress, wording
from rawtap.verbs.output import FAILED, WELL, complain, packet_line, say


def read(options: argparse.Namespace) -> int:
    """Show, count or copy packets; returns the exit code."""
    from rawtap.capture import filters

    try:
        expression = filters.checked(" ".join(options.filter))
        path = options.file.resolve()
        run = _select if options.count or options.write else _show
        lacking = run(options, path, expression)
    except (RawtapError, RuntimeError) as error:  # resolve() raises the latter for a loop of links
        complain(wording.told(error))
        return FAILED
    if lacking:
        complain(lacking)
    return FAILED if lacking else WELL


def export(options: argparse.Namespace) -> int:
    """Write packets for other engines; returns the exit code."""
    from rawtap.packets.sql import export as files

    try:
        with progress.shown("export"):
            done = files.export([each.resolve() for each in options.files], options.to, info=options.info)
    except (RawtapError, RuntimeError) as error:
        complain(wording.told(error))
        return FAILED
    say(f"{visible(str(options.to))}: {done.packets} packets, {done.size_bytes} bytes")
    for each in (*done.notes, *done.lacking):
        complain(each)
    return FAILED if done.lacking else WELL


def _select(options: argparse.Namespace, path: Path, expression: str) -> str:
    """Count or copy what passes the filter; returns what the file lacks."""
    from rawtap.packets import ends, reader

    selected = reader.select(path, expression, options.write)
    told = f"{selected.matched} of {selected.scanned} packets"
    _tell_tags(selected.tagged, expression)
    say(f"{visible(str(options.write))}: {told}, {selected.size_bytes} bytes" if options.write else told)
    if not selected.scanned and reader.has_no_interface(path):
        complain(reader.no_interface_told(path.name))
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
        say("".join(f"{packet_line(line)}\n" for line in page.packets), end="")
        cursor, left = page.next_cursor, left - len(page.packets)
        if cursor is None or left <= 0:
            _tell_tags(page.tagged, expression)
            for each in page.notes:
                complain(each)
        if cursor is None:
            return " ".join(page.lacking)
        if left <= 0:
            complain(f"{options.limit} of {page.matched} packets are shown; --limit shows more")
            return " ".join(page.lacking)


def _tell_tags(tagged: int, expression: str) -> None:
    from rawtap.packets import reader

    for text in reader.tags_told(tagged, expression):
        complain(text)
