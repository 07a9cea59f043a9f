"""A picture of a capture: what it shows is asked in SQL, and drawn by a process of its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from rawtap.ask import aside
from rawtap.ask.query import Answered, Question, query
from rawtap.blocking import on_disk
from rawtap.capture import files
from rawtap.errors import PictureFailed, PictureUnavailable, RequestInvalid
from rawtap.host import extras
from rawtap.host.landlock import Access
from rawtap.lab.lab import Lab
from rawtap.packets.headers import innermost, parse
from rawtap.packets.pictures import flow
from rawtap.packets.pictures.sequence import Diagram, Said, mermaid, sequence
from rawtap.packets.transport import Tcp

Of = Literal["sequence", "traffic", "tcp"]
Format = Literal["png", "svg", "mermaid"]

_BOUNDS = aside.Bounds(seconds=20.0, answer=16 << 20, memory_mib=1024)
_CHARACTERS = 2 << 20  # of rows
_SEGMENTS = 5000
_DIGITS, _PIECES = 200, 12  # of a frame with a SYN in hexadecimal: no cell of an answer has more characters than 300
_BUCKETS = 120
_PROTOCOLS = 6  # that have a color each
_LINES = 40  # of consoles


@dataclass(frozen=True)
class Wish:
    """What is to be drawn, of a capture or a file: packets for which `where`, in SQL, is true, or one `stream`; at most
    `limit` arrows."""

    of: Of
    format: Format
    capture: str | None
    path: Path | None
    stream: int | None
    where: str
    limit: int


@dataclass(frozen=True)
class Picture:
    """A picture, or its text; an SVG's path. `packets` are in it, and with `more` there are others."""

    data: bytes
    text: str
    path: Path | None
    packets: int
    more: bool
    notes: tuple[str, ...]


async def picture(lab: Lab, wish: Wish) -> Picture:
    """Draw it.

    Raises:
        PictureUnavailable: matplotlib is not installed.
        PictureFailed: The process that draws ended without a picture.
        RequestInvalid: There is nothing to draw, or no such picture.
        OutputUnwritable, NoSpace: An SVG cannot be saved.
        QueryError, and what it raises of captures: As `query`.
    """
    if wish.of == "tcp" and wish.stream is None:
        raise RequestInvalid("a picture of TCP needs a stream", cure="SELECT * FROM streams shows them")
    if wish.format == "mermaid" and wish.of != "sequence":
        raise RequestInvalid(f"{wish.of} has no Mermaid text", cure='Use format="png" or "svg"')
    if wish.format != "mermaid" and find_spec("matplotlib") is None:
        raise PictureUnavailable(
            "pictures are drawn by matplotlib, which is not installed",
            evidence=f"no module matplotlib in {sys.prefix}",
            cure=f'{extras.cure("rawtap[pictures]")}; format="mermaid" needs none',
        )
    if wish.of == "sequence":
        return await _sequence(lab, wish)
    return await (_traffic(lab, wish) if wish.of == "traffic" else _tcp(lab, wish))


def _where(wish: Wish) -> str:
    conditions = [f"stream = {wish.stream}"] if wish.stream is not None else []
    return " AND ".join([*conditions, *([f"({wish.where}\n)"] if wish.where.strip() else [])]) or "true"


async def _asked(lab: Lab, wish: Wish, sql: str, limit: int) -> Answered:
    paths = (wish.path,) if wish.path else ()
    return await query(lab, Question(sql, limit, wish.capture, paths, characters=_CHARACTERS))


def _require_some(found: Answered) -> None:
    if not found.rows:
        raise RequestInvalid(
            "no packet is to be drawn", evidence="; ".join(found.notes), cure="qemu_pcap_query shows which there are"
        )


# ----------------------------------------------------------------- sequence


async def _sequence(lab: Lab, wish: Wish) -> Picture:
    sql = f"""SELECT number, time, coalesce(source, source_mac, '?'), coalesce(destination, destination_mac, '?'),
        coalesce(protocol, '?'), info FROM packets WHERE {_where(wish)} ORDER BY number"""  # noqa: S608 - locked down
    packets = await _asked(lab, wish, sql, wish.limit)
    _require_some(packets)
    lines, notes = await _console(lab, wish, packets.rows[0][1], packets.rows[-1][1])
    diagram = sequence(packets.rows, lines)
    told = tuple(dict.fromkeys([*packets.notes, *notes]))
    if wish.format == "mermaid":
        return Picture(b"", mermaid(diagram), None, len(packets.rows), packets.more, told)
    more = "; there are more" if packets.more else ""
    note = f"{len(packets.rows)} packets, from {packets.rows[0][0]} to {packets.rows[-1][0]}{more}"
    request = {"title": f"Sequence: {_name(wish)}", "note": note, **_steps(diagram)}
    return await _drawn(lab, wish, request, len(packets.rows), packets.more, told)


async def _console(lab: Lab, wish: Wish, first: float, last: float) -> tuple[list[list[Any]], list[str]]:
    """What guests printed beside these packets, or just before the first; of a stranger's file nothing.

    A guest that has just booted has said more before its first packet than there is room for.
    """
    if not lab.chronicle.logs.all():
        return [], []
    sql = f"""SELECT time, guest, text FROM console WHERE time BETWEEN {first:.9f} - 1 AND {last:.9f} + 1
        AND trim(text) <> '' ORDER BY time < {first:.9f}, abs(time - {first:.9f})"""  # noqa: S608 - numbers
    found = await _asked(lab, wish, sql, _LINES)
    lines = sorted(found.rows, key=itemgetter(0))
    return lines, [*found.notes, *([f"only {_LINES} console lines are drawn"] if found.more else [])]


def _steps(diagram: Diagram) -> dict[str, Any]:
    steps = [step._asdict() for step in diagram.steps]
    names = dict.fromkeys(step.protocol for step in diagram.steps if not isinstance(step, Said))
    return {"ends": diagram.ends, "steps": steps, "protocols": [*names]}


# ------------------------------------------------------------------ traffic


async def _traffic(lab: Lab, wish: Wish) -> Picture:
    sql = f"""WITH chosen AS (SELECT time, coalesce(protocol, 'other') AS protocol, length FROM packets
            WHERE {_where(wish)}),
        span AS (SELECT min(time) AS t0, greatest((max(time) - min(time)) / {_BUCKETS}, 0.000001) AS width FROM chosen),
        most AS (SELECT protocol, sum(length) AS n FROM chosen GROUP BY ALL ORDER BY 2 DESC LIMIT {_PROTOCOLS})
        SELECT least(floor((time - t0) / width), {_BUCKETS - 1})::INTEGER, coalesce(m.protocol, 'all others'),
            sum(length)::BIGINT * 8, count(*), any_value(t0), any_value(width)
        FROM chosen c CROSS JOIN span LEFT JOIN most m USING (protocol) GROUP BY ALL"""  # noqa: S608 - locked down
    found = await _asked(lab, wish, sql, _BUCKETS * (_PROTOCOLS + 1))
    _require_some(found)
    series: dict[str, dict[str, Any]] = {}
    for bucket, protocol, bits, count, _, _ in found.rows:
        each = series.setdefault(protocol, {"name": protocol, "bits": [0] * _BUCKETS, "packets": [0] * _BUCKETS})
        each["bits"][bucket] += bits
        each["packets"][bucket] += count
    packets = sum(row[3] for row in found.rows)
    request = {
        "title": f"Traffic: {_name(wish)}",
        "begin": found.rows[0][4],
        "width": found.rows[0][5],
        "buckets": _BUCKETS,
        "series": sorted(series.values(), key=lambda each: -sum(each["bits"])),
    }
    return await _drawn(lab, wish, request, packets, found.more, tuple(found.notes))


# ---------------------------------------------------------------------- TCP


async def _tcp(lab: Lab, wish: Wish) -> Picture:
    sql = f"""SELECT number, time, source, source_port, destination, destination_port, seq, ack, win, payload, flags,
        CASE WHEN flags LIKE '%SYN%' THEN regexp_extract_all(hex(frame), '.{{1,{_DIGITS}}}')[:{_PIECES}] END, link_type,
        length
        FROM packets JOIN (SELECT file, number, frame FROM frames) USING (file, number)
        WHERE {_where(wish)} AND flags IS NOT NULL ORDER BY number"""  # noqa: S608 - locked down
    found = await _asked(lab, wish, sql, _SEGMENTS)
    _require_some(found)
    ends = (f"{found.rows[0][2]}:{found.rows[0][3]}", f"{found.rows[0][4]}:{found.rows[0][5]}")
    segments: list[flow.Segment] = []
    scales: dict[bool, int | None] = {}  # of the first's SYN, and of the other's
    for row in found.rows:
        by_first = f"{row[2]}:{row[3]}" == ends[0]
        segments.append(flow.Segment(row[0], row[1], by_first, *row[6:11]))
        if row[11] is not None:
            scales[by_first] = _scale(bytes.fromhex("".join(row[11])), row[13], row[12])
    pair = flow.sides(segments, [scales.get(True), scales.get(False)])
    notes = list(found.notes)
    if len(scales) < len(ends):
        notes.append("not both SYNs are among its packets: windows may be scaled by more than is drawn")
    if found.more:
        notes.append(f"only its first {_SEGMENTS} segments are drawn")
    request = {
        "title": f"TCP: {ends[0]} and {ends[1]}, {_name(wish)}",
        "sides": [
            {
                "name": name, "trips": side.trips, "flight": side.flight, "window": side.window, "again": side.again,
                "data": side.data,
            }
            for name, side in zip(ends, pair, strict=True)
        ],
    }  # fmt: skip
    return await _drawn(lab, wish, request, len(found.rows), found.more, tuple(notes))


def _scale(frame: bytes, length: int, link_type: int) -> int | None:
    header = innermost(parse(frame, max(length, len(frame)), link_type)).transport
    return header.scale if isinstance(header, Tcp) else None


# ------------------------------------------------------------------ drawing


def _name(wish: Wish) -> str:
    what = wish.path.name if wish.path else wish.capture or "the newest capture"
    return what if wish.stream is None else f"stream {wish.stream} of {what}"


async def _drawn(
    lab: Lab, wish: Wish, request: dict[str, Any], packets: int, more: bool, notes: tuple[str, ...]
) -> Picture:
    async with aside.turn("picture"):
        ended = await aside.run(
            aside.python("rawtap.packets.pictures.draw"),
            Access(programs=(Path(sys.executable),), read=aside.own_files()),
            json.dumps({**request, "of": wish.of, "format": wish.format}).encode(),
            _BOUNDS,
        )
    if ended.code or ended.is_late or not ended.output:
        how = f"it took more than {_BOUNDS.seconds:g} s" if ended.is_late else f"{ended.how}: {ended.complaint[-300:]}"
        raise PictureFailed("the picture was not drawn", evidence=how, cure="Draw fewer packets")
    path = await on_disk(lab.settings.capture_dir, _save, lab, ended.output) if wish.format == "svg" else None
    return Picture(ended.output, "", path, packets, more, notes)


def _save(lab: Lab, data: bytes) -> Path:
    path, fd = files.create_beside(lab.settings.capture_dir, "picture", ".svg")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise files.no_space(lab.settings.capture_dir, error.strerror or str(error)) from error
    return path
