"""Packets of capture files as files of other engines: Parquet and CSV by DuckDB, and the stream format of Arrow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rawtap.errors import OutputUnwritable, QueryUnavailable, RequestInvalid
from rawtap.host import extras
from rawtap.packets import ends, reader
from rawtap.packets._columns import FORMATS, Packets, Source
from rawtap.packets.sql.tables import file_names, missing_told

if TYPE_CHECKING:
    import duckdb

_HIDDEN = {"frame", "info"}
_ARROW = ".arrows"  # Arrow's own name for its stream format, which has no end that must be known first
_FORMS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER",
    "": "FORMAT parquet, COMPRESSION zstd, PARTITION_BY (file, hour)",
}
_HOUR = "strftime(make_timestamp(time_ns // 1000), '%Y-%m-%dT%H') AS hour"
_SETTINGS = {
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "temp_directory": "",
    "threads": "2",
}


@dataclass(frozen=True)
class Exported:
    """How many packets were written, into how many bytes, what the files lack, and what some packets' columns lack."""

    packets: int
    size_bytes: int
    lacking: tuple[str, ...]
    notes: tuple[str, ...]


def export(files: Sequence[Path], to: Path, *, info: bool) -> Exported:
    """Write packets of `files` to `to`: .parquet, .csv or .arrows, or else a folder of Parquet by file and hour (UTC).

    What is written has mode 0600, and is removed where this fails. `info`: with what each packet says.

    Raises:
        CaptureUnreadable: A file is none of a capture.
        OutputUnwritable: `to` is there already, or cannot be written.
        QueryUnavailable: DuckDB is not installed.
        RequestInvalid: No such form is known.
    """
    if to.suffix not in {*_FORMS, _ARROW}:
        raise RequestInvalid(
            f"{to} has a suffix of no known form",
            cure="Use .parquet, .csv or .arrows, or none for a folder of Parquet files",
        )
    if os.path.lexists(to):
        raise OutputUnwritable(f"{to} cannot be written", evidence="it is there", cure="Give the path of a new file")
    with ExitStack() as stack:
        sources, empty = _sources(files, stack)
        packets = Packets(sources, FORMATS.keys() - (_HIDDEN - ({"info"} if info else set())))
        before = os.umask(0o077)
        stack.callback(os.umask, before)
        try:
            count = _streamed(packets, to) if to.suffix == _ARROW else _copy(packets, to)
        except BaseException:
            _remove(to)
            raise
    written = [to] if to.is_file() else [each for each in to.rglob("*") if each.is_file()]
    size_bytes = sum(each.stat().st_size for each in written)
    notes = (*empty, *missing_told(packets.unread, packets.unnumbered))
    return Exported(count, size_bytes, tuple(_lacking(packets)), notes)


def _sources(files: Sequence[Path], stack: ExitStack) -> tuple[list[Source], list[str]]:
    """The files with packets to be read, and of the others why there are none."""
    found: list[Source] = []
    empty: list[str] = []
    for group, (path, name) in enumerate(zip(files, file_names(files), strict=True)):
        fd = reader.descriptor(path)
        if fd is None:
            empty.append(reader.no_interface_told(name))
            continue
        stack.callback(os.close, fd)
        found.append(Source(fd, name, group=group))
    return found, empty


def _database(packets: Packets) -> duckdb.DuckDBPyConnection:
    """DuckDB with the packets in it."""
    try:
        import duckdb
    except ImportError as error:
        raise QueryUnavailable(
            "DuckDB writes these files, and is not installed",
            evidence=str(error),
            cure=extras.cure("rawtap[query]"),
        ) from error
    connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
    connection.register("packets", packets)
    return connection


def _columns(packets: Packets) -> str:
    return ", ".join(name for name in FORMATS if name in packets.wanted)


def _streamed(packets: Packets, to: Path) -> int:
    connection = _database(packets)
    from nanoarrow import ipc

    try:
        with to.open("xb") as file, ipc.StreamWriter.from_writable(file) as writer:
            writer.write_stream(connection.sql(f"SELECT {_columns(packets)} FROM packets"))  # noqa: S608 - our own
    except (OSError, RuntimeError) as error:
        raise OutputUnwritable(
            f"{to} cannot be written", evidence=str(error)[:500], cure="Give the path of a new file"
        ) from error
    return sum(found for found, _ in packets.lacking.values())


def _copy(packets: Packets, to: Path) -> int:
    connection = _database(packets)
    import duckdb

    columns = _columns(packets) + (f", {_HOUR}" if not to.suffix else "")
    path = str(to).replace("'", "''")
    try:
        found = connection.execute(
            f"COPY (SELECT {columns} FROM packets) TO '{path}' ({_FORMS[to.suffix]})"  # noqa: S608 - quoted above
        )
        return int(found.fetchall()[0][0])
    except duckdb.Error as error:
        raise OutputUnwritable(
            f"{to} cannot be written", evidence=str(error)[:500], cure="Give the path of a new file"
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lacking(packets: Packets) -> list[str]:
    told = [
        ends.told(found, damage, None, packets.sources[number].name)
        for number, (found, damage) in packets.lacking.items()
    ]
    return [each for each in told if each]
