"""`rawtap explain`, `query` and `follow`: what agents ask of captures, asked of files."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rawtap.settings import Settings
from rawtap.tools import follow as followed
from rawtap.tools import query as asked
from rawtap.tools.explain import Explanation, FindingRow, qemu_pcap_explain
from rawtap.tools.follow import FollowedPage
from rawtap.tools.query import Rows
from rawtap.untrusted import visible
from rawtap.verbs import local, progress
from rawtap.verbs.local import Here
from rawtap.verbs.output import BAD_NEWS, FAILED, WELL, complain, say, show

_PAGE = 100  # findings


def explain(options: argparse.Namespace) -> int:
    """Say what is wrong in a file, or has changed since another; returns the exit code."""
    files = [options.file, *([options.compare] if options.compare else [])]
    return local.play(_readable(*files), partial(_explain, options), options)


def query(options: argparse.Namespace) -> int:
    """Ask files in SQL; returns the exit code."""
    return local.play(_readable(*options.files), partial(_query, options), options)


def follow(options: argparse.Namespace) -> int:
    """Show a conversation; returns the exit code."""
    return local.play(_readable(options.file), partial(_follow, options), options)


def _readable(*files: Path) -> Settings:
    """Settings that let these be read."""
    return Settings(read_dirs=tuple(dict.fromkeys(Path(each).absolute().resolve().parent for each in files)))


async def _explain(options: argparse.Namespace, here: Here) -> int:
    findings: list[FindingRow] = []
    cursor: str | None = None
    with progress.shown("explain") as tell:
        while True:
            page = await _explained(options, here, tell, cursor)
            findings += page.findings
            cursor = page.next_cursor
            if cursor is None:
                break
    show(page.model_copy(update={"findings": findings}), as_json=options.json)
    if not page.examined:
        complain("there was no packet to look at")
    return BAD_NEWS if findings or page.changes else _judged(page) or (WELL if page.examined else BAD_NEWS)


async def _explained(options: argparse.Namespace, here: Here, tell: progress.Tell, cursor: str | None) -> Explanation:
    path, expression = str(options.file.absolute()), " ".join(options.filter)
    earlier = str(options.compare.absolute()) if options.compare else None
    return await qemu_pcap_explain(here.context(tell), None, path, expression, _PAGE, cursor, earlier)


async def _query(options: argparse.Namespace, here: Here) -> int:
    paths = [str(each.absolute()) for each in options.files]
    with progress.shown("query"):
        answer = await asked.qemu_pcap_query(here.context(), options.sql, paths=paths, limit=options.limit)
    if options.json:
        show(answer, as_json=True)
    else:
        _print_rows(answer, options.limit)
    return _judged(answer)


def _print_rows(answer: Rows, limit: int) -> None:
    """A line a row, its values separated by tabs, as other programs read them."""
    for row in (answer.columns, *answer.rows):
        say("\t".join("" if value is None else visible(str(value)) for value in row))
    for each in answer.notes:
        complain(each)
    if answer.more:
        complain(f"there are more than {limit} rows; --limit shows more")


async def _follow(options: argparse.Namespace, here: Here) -> int:
    with progress.shown("follow"):
        answer = await followed.qemu_pcap_follow(
            here.context(),
            options.stream,
            options.packet,
            path=str(options.file.absolute()),
            format="hex" if options.hex else "text",
            offset=options.offset,
            limit=options.limit,
            search=options.search,
        )
    show(answer, as_json=options.json)
    return _judged(answer) or (BAD_NEWS if options.search and not answer.found else WELL)


def _judged(answer: Explanation | Rows | FollowedPage) -> int:
    """The exit code for an answer without bad news: nobody knows that all is well where something was not looked at."""
    if answer.partial:
        complain("not everything was looked at: the notes say what was not")
    return FAILED if answer.partial else WELL
