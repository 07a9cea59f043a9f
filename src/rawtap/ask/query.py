"""A question in SQL about captures: what it is about, the process that answers it, and its answer."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rawtap.ask import aside
from rawtap.ask.explain import explain
from rawtap.ask.packets import chosen, lost_told
from rawtap.blocking import on_disk
from rawtap.errors import (
    CaptureUnreadable,
    QueryFailed,
    QueryInvalid,
    QueryLimit,
    QueryUnavailable,
    RequestInvalid,
)
from rawtap.guest import log
from rawtap.host import extras
from rawtap.host.landlock import Access
from rawtap.lab.captures import Capture
from rawtap.lab.lab import Lab
from rawtap.packets import ends, reader
from rawtap.packets.sql.tables import file_names, missing_told, named_in

MAX_SQL = 20_000
MAX_PATHS = 64
SECONDS = 20.0  # of one question
MEMORY_MIB = 2048  # of the process that answers it
_GRACE = 0.5  # seconds, for an end of its own
_ANSWER = 4 << 20  # bytes
_CHARACTERS = 400  # of an answer's JSON for each row that is asked for
_USUAL_LIMIT = 20
_MOST_CHARACTERS = 40_000
_LINES = 100_000  # of a console
_NANOSECONDS = 1_000_000_000
_ENGINE = "rawtap.packets.sql.engine"


@dataclass(frozen=True)
class Question:
    """One SELECT, up to how many rows of its answer, and what it is about: files, or a capture; or `named` subjects,
    each a capture or a file, by which names the column `file` tells them apart. `characters` of JSON are taken of the
    rows, where another program reads them."""

    sql: str
    limit: int
    capture: str | None = None
    paths: tuple[Path, ...] = ()
    named: tuple[tuple[str, str | None, Path | None], ...] = ()
    characters: int | None = None


@dataclass(frozen=True)
class Answered:
    """The columns' names, rows, whether there are more, what is to be known of them, and whether something was not
    looked at that the question is about."""

    columns: list[str]
    rows: list[list[Any]]
    more: bool
    notes: list[str]
    partial: bool


@dataclass
class _File:
    """A file that the question is about; `packets`, `start_ns` and the like are as in `packets._columns.Source`."""

    path: Path
    name: str
    group: int
    before: int
    live: bool
    saved: int | None
    packets: int | None
    start_ns: int | None
    fd: int = -1


@dataclass
class _Request:
    """What is asked, and of what; `notes` say what of that is not there, or was not looked at, and `empty` which files
    have no packet. `start_ns` is second 0
    of all times; None where that is the packets' own matter."""

    question: Question
    files: list[_File] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    start_ns: int | None = None


async def query(lab: Lab, question: Question) -> Answered:
    """Answer it, of a running capture as everything stands now.

    Raises:
        QueryInvalid: It is no SELECT, or not to be carried out; DuckDB's text and the tables are inside.
        QueryLimit: It took more time or memory than it may.
        QueryUnavailable: DuckDB is not installed.
        QueryFailed: The process that answers ended without an answer.
        CaptureUnknown, CaptureUnreadable, CaptureFailed, DiskStalled, RequestInvalid: As for a page of packets.
    """
    lab.require_open()
    if importlib.util.find_spec("duckdb") is None:
        raise QueryUnavailable(
            "questions in SQL are answered by DuckDB, which is not installed",
            evidence=f"no module duckdb in {sys.prefix}",
            cure=extras.cure("rawtap[query]"),
        )
    _require_text(question.sql)
    request = _Request(question)
    captures = await _add_files(lab, request)
    await _add_rows(lab, request, captures)
    with ExitStack() as stack:
        await on_disk("the captures", _open, request, stack)
        async with aside.turn("sql"):
            answer = await _ask(request)
    return _answered(request, answer)


def _require_text(sql: str) -> None:
    if len(sql) > MAX_SQL:
        raise QueryInvalid(f"the SQL has {len(sql)} characters", cure=f"At most {MAX_SQL} are taken")
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise QueryInvalid("the SQL is no text", evidence=str(error.reason), cure="Leave that character out") from error


# ------------------------------------------------------------ what it is about


async def _add_files(lab: Lab, request: _Request) -> list[tuple[Capture | None, Path | None]]:
    question = request.question
    if question.paths and question.capture is not None:
        raise RequestInvalid("a capture and paths are both given", cure="Give one of them")
    if len(question.paths) > MAX_PATHS:
        raise RequestInvalid(f"{len(question.paths)} paths are given", cure=f"Give at most {MAX_PATHS}")
    asked = [(capture, path) for _, capture, path in question.named]
    asked = asked or [(question.capture, path) for path in question.paths or (None,)]
    wanted = [await chosen(lab, *each) for each in asked]
    for group, (capture, path) in enumerate(wanted):
        if capture:
            await capture.notifier.caught_up()
            name = question.named[group][0] if question.named else capture.id
            request.notes += (f"{name}: {each}" for each in lost_told(capture, path))
        request.files += _files_of(capture, path, group)
    if question.paths:
        for each, name in zip(request.files, file_names([each.path for each in request.files]), strict=True):
            each.name = name
    if question.named:
        for each in request.files:
            each.name = question.named[each.group][0]
    starts = {each.start_ns for each in request.files}
    request.start_ns = starts.pop() if len(starts) == 1 else None
    return wanted


def _files_of(capture: Capture | None, path: Path | None, group: int) -> Iterator[_File]:
    if capture is None:
        if path is None:
            raise RuntimeError("neither a capture nor a path")
        yield _File(path, path.name, group, 0, live=False, saved=None, packets=None, start_ns=None)
        return
    running, start_ns = capture.session.running, capture.session.started_ns
    parts = capture.parts()
    for part in parts:
        if path is not None and part.path.resolve() != path:
            continue
        before = part.packets_before if path is None else 0
        until = part.packets if running and part is parts[-1] else None
        yield _File(part.path, part.path.name, group, before, capture.live, part.packets, until, start_ns)


async def _add_rows(lab: Lab, request: _Request, captures: Sequence[tuple[Capture | None, Path | None]]) -> None:
    """Rows of what the lab and the judges know, of those tables that the question may be about."""
    named = named_in(request.question.sql)
    if "console" in named:
        request.rows["console"] = [*_console(lab, request)]
    if "events" in named:
        request.rows["events"] = [*_events(lab, request)]
    if "findings" in named:
        request.rows["findings"] = rows = []
        for group, (capture, path) in enumerate(captures):
            capture_id = capture.id if capture and path is None else None
            done = await explain(lab, capture_id, path, "", None, _tell_nobody)
            name = next(each.name for each in request.files if each.group == group)
            rows += [_finding(name, asdict(each)) for each in done.given.verdict.findings]
            request.notes += [f"findings of {name}: {each}" for each in done.given.lacking]
            if done.given.more:
                examined = done.given.verdict.examined
                request.notes.append(f"findings: only the first {examined} packets of {name} were examined in the time")


async def _tell_nobody(_: float, __: str) -> None:
    """Explaining tells of its progress; here it is a part of something else."""


def _finding(name: str, found: dict[str, Any]) -> list[Any]:
    order = ("what", "host", "says", "found", "expected", "rule", "evidence", "follows", "count")
    return [name, *(found[each] for each in order), list(found["packets"])]


def _console(lab: Lab, request: _Request) -> Iterator[list[Any]]:
    for guest in lab.chronicle.logs.all():
        history = guest.machine.console.history
        if history.start:
            request.notes.append(f"console: the first {history.start} bytes of the guest {guest.name} were forgotten")
        pieces, until = log.pieces(history, 0, _LINES)
        if until < history.end and len(pieces) == _LINES:
            request.notes.append(f"console: only the first {_LINES} lines of the guest {guest.name} were looked at")
        for each in pieces:
            yield [_seconds(request, each.at_ns), each.at_ns, guest.name, each.text]


def _events(lab: Lab, request: _Request) -> Iterator[list[Any]]:
    notes, lost = lab.chronicle.journal.since(0)
    if lost:
        request.notes.append(f"events: the first {lost} of the server's own were forgotten")
    for note in notes:
        yield [_seconds(request, note.at_ns), note.at_ns, "event", note.kind, note.guest, note.capture, note.text]
    for guest in lab.chronicle.logs.all():
        events = guest.machine.events
        if events.start:
            request.notes.append(f"events: the first {events.start} of the guest {guest.name}'s QEMU were forgotten")
        for each in events.since(events.start, _LINES):
            yield [_seconds(request, each.at_ns), each.at_ns, "qmp", each.name, guest.name, None, each.data]


def _seconds(request: _Request, at_ns: int) -> float | None:
    """On the clock of the packets' time, where they are all of one capture of this server's."""
    return None if request.start_ns is None else (at_ns - request.start_ns) / _NANOSECONDS


def _open(request: _Request, stack: ExitStack) -> None:
    """Open the files; those that a ring has removed meanwhile, or that have no packet to be read, are noted."""
    there = []
    for each in request.files:
        try:
            fd = reader.descriptor(Path(os.path.realpath(each.path)))
        except CaptureUnreadable as error:
            if each is request.files[-1] or not isinstance(error.__cause__, FileNotFoundError):
                raise
            request.notes.append(f"{each.name} was overwritten by the ring meanwhile")
            continue
        if fd is None:
            request.empty.append(reader.no_interface_told(each.name))
            continue
        each.fd = fd
        stack.callback(os.close, each.fd)
        there.append(each)
    request.files = there


# ------------------------------------------------------------- who answers it


async def _ask(request: _Request) -> dict[str, Any]:
    """Let a process of its own answer."""
    captures = await on_disk("the captures", _resolved, request)
    ended = await aside.run(
        aside.python(_ENGINE),
        Access(programs=(Path(sys.executable),), read=(*aside.own_files(), *captures)),
        _message(request),
        aside.Bounds(SECONDS + _GRACE, _ANSWER),
        passed=[each.fd for each in request.files],
    )
    if ended.is_late:
        raise _too_long()
    return _read(ended)


def _resolved(request: _Request) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(each.path)) for each in request.files)


def _message(request: _Request) -> bytes:
    question = request.question
    names = ("fd", "name", "group", "before", "packets", "start_ns", "live")
    return json.dumps(
        {
            "sql": question.sql,
            "limit": question.limit,
            "characters": question.characters or min(_CHARACTERS * max(question.limit, _USUAL_LIMIT), _MOST_CHARACTERS),
            "seconds": SECONDS,
            "memory_mib": MEMORY_MIB,
            "sources": [{name: getattr(each, name) for name in names} for each in request.files],
            "rows": request.rows,
        }
    ).encode()


def _read(ended: aside.Ended) -> dict[str, Any]:
    """The answer that is no error."""
    try:
        answer: dict[str, Any] = json.loads(ended.output)
    except ValueError as error:
        raise QueryFailed(
            "the process that answers ended without an answer",
            evidence=f"{ended.how}: {ended.complaint[-300:]}",
            cure="Ask for less at once; other calls are not concerned",
        ) from error
    kind, text = answer.get("error"), str(answer.get("text", ""))
    if kind == "time":
        raise _too_long()
    if kind == "memory":
        raise QueryLimit(
            f"the question takes more than {MEMORY_MIB // 2} MiB of memory",
            evidence=text,
            cure="Ask for fewer columns, or for sums; rawtap export writes Parquet for what is larger",
        )
    if kind == "missing":
        raise QueryUnavailable(
            "DuckDB cannot be loaded", evidence=text, cure=f"{extras.cure('duckdb')} --force-reinstall"
        )
    if kind is not None:
        raise QueryInvalid("the question cannot be answered", evidence=text, cure=str(answer["tables"]))
    return answer


def _too_long() -> QueryLimit:
    return QueryLimit(
        f"the question took more than {SECONDS:g} s",
        cure="Ask for less: fewer files, or no text of `info`, which costs most; rawtap export writes Parquet",
    )


def _answered(request: _Request, answer: dict[str, Any]) -> Answered:
    notes = list(request.notes)
    for number, found, damage in answer["ends"]:
        file = request.files[number]
        saved = None if file.packets is not None else file.saved
        if told := ends.told(found, damage, saved, file.name):
            notes.append(told)
    notes += missing_told(answer["unread"], answer["unnumbered"])
    partial = bool(notes)
    notes += request.empty
    if answer["cut"]:
        notes.append("values that end in ... were cut, and lists of more than 20")
    if answer["more"] and len(answer["rows"]) < request.question.limit:
        notes.append(f"{len(answer['rows'])} rows fill an answer: ask for fewer columns, or with OFFSET for the next")
    return Answered(answer["columns"], answer["rows"], answer["more"], notes, partial)
