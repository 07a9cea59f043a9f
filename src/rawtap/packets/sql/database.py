"""DuckDB with the packets in it, closed to everything else, and one question put to it.

Theory of operation. Packets are no copy in DuckDB: it reads them through `Packets` whenever a plan says so, and of the
columns those alone that the plan reads, which is asked for first (EXPLAIN). What a packet says (`info`) is made by the
same code as a page's lines, at a hundred times the cost of a column: where a question only shows it, it is made for the
rows of the answer alone.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rawtap.packets._columns import FORMATS, Packets, Source
from rawtap.packets.sql import shape
from rawtap.packets.sql.derived import READERS, Message
from rawtap.packets.sql.tables import PACKETS, ROWS, VIEWS
from rawtap.untrusted import visible

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row = Sequence[Any]
EVERY = frozenset(FORMATS)
_SETTINGS = {
    # What is off cannot be switched on again, and the settings are locked behind that.
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "temp_directory": "",
    "threads": "1",
}
_THREADS = 2
_BATCH = 2000
_CELL = 300  # characters of a text
_LIST = 20  # values of a list
_LATE = "\0line "  # before where a line is to be found


class Refused(Exception):
    """The question cannot be answered; the text says why, in DuckDB's words where they are its. `for_memory`: it takes
    more of it than there may be."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.for_memory = type(error).__name__ == "OutOfMemoryException"


@dataclass(frozen=True)
class Table:
    """An answer: names of the columns, rows, whether there are more rows, and whether texts were cut."""

    columns: list[str]
    rows: list[list[Any]]
    more: bool
    cut: bool


class Database:
    """The packets of `sources`, and `rows` of tables whose names are in `ROWS`."""

    def __init__(self, sources: Sequence[Source], rows: Mapping[str, Sequence[Row]], memory: str) -> None:
        import duckdb

        self._errors = duckdb.Error
        self._sources = sources
        self._connection: DuckDBPyConnection = duckdb.connect(":memory:", config={**_SETTINGS, "memory_limit": memory})
        self.packets = self._register(self._connection, EVERY)
        for name, view in VIEWS.items():
            self._connection.execute(f"CREATE VIEW {name} AS {view}")
        for name, columns in ROWS.items():
            said = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
            self._connection.execute(f"CREATE TABLE {name} ({said})")
            self._insert(name, iter(rows.get(name, ())))

    @property
    def interrupt(self) -> Callable[[], object]:
        """What ends a question, from any thread; DuckDB does not always hear it."""
        return self._connection.interrupt

    def _register(self, connection: DuckDBPyConnection, wanted: frozenset[str], *, late: bool = False) -> Packets:
        packets = Packets(self._sources, wanted, late)
        connection.register(PACKETS, packets)
        return packets

    def _insert(self, name: str, rows: Iterator[Row]) -> None:
        columns = ROWS[name]
        values = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
        while batch := [row for row, _ in zip(rows, range(_BATCH), strict=False)]:
            self._connection.execute(
                f"INSERT INTO {name} SELECT {values}", [list(each) for each in zip(*batch, strict=True)]
            )

    def derive(self, name: str) -> None:
        """Fill `dns` or `http` from the packets."""
        protocols, read = READERS[name]
        beside = self._connection.cursor()  # which is read while rows are put in
        self._register(beside, frozenset(Message._fields))
        found = beside.execute(
            f"SELECT {', '.join(Message._fields)} FROM {PACKETS} WHERE protocol IN ({protocols})"  # noqa: S608 - our own
        )
        self._insert(name, read(Message(*row) for row in _fetched(found)))

    def lock(self) -> None:
        """Begin DuckDB's threads, which are bound as the calling one is; from now on no setting can be changed."""
        self._connection.execute(f"SET threads = {_THREADS}")
        self._connection.execute("SET lock_configuration = true")

    def check(self, sql: str) -> shape.Node:
        """The tree of a question that is taken.

        Raises:
            Refused: It is none.
        """
        try:
            return shape.checked(self._connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
        except (shape.NoQuestion, self._errors) as error:
            raise Refused(error) from error

    def ask(self, sql: str, root: shape.Node, limit: int, characters: int) -> Table:
        """Up to `limit` rows of the answer, and of these as many as `characters` of JSON hold; one in any case.

        `root` is the question's tree.

        Raises:
            Refused: It failed.
        """
        try:
            self.packets = self._register(self._connection, self._columns_read(sql), late=shape.shows_lines(root))
            found = self._connection.execute(sql)
            columns = [visible(str(each[0]))[:_CELL] for each in found.description or ()]
            rows = found.fetchmany(limit + 1)
        except self._errors as error:
            raise Refused(error) from error
        return self._table(columns, rows, limit, characters)

    def _columns_read(self, sql: str) -> frozenset[str]:
        try:
            plan = self._connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()[0][1]
        except self._errors:  # what has no plan, like DESCRIBE, or is wrong: that is told when it is carried out
            return EVERY
        return shape.columns_read(plan, EVERY)

    def _table(self, columns: list[str], rows: Sequence[Row], limit: int, characters: int) -> Table:
        shown: list[list[Any]] = []
        cut = _Cut()
        late = self._lines(rows[:limit])
        for row in rows[:limit]:
            cells = [cut.value(late.get(each, each) if isinstance(each, str) else each) for each in row]
            characters -= len(json.dumps(cells, ensure_ascii=False))
            if shown and characters < 0:
                break
            shown.append(cells)
        return Table(columns, shown, len(rows) > len(shown), cut.happened)

    def _lines(self, rows: Sequence[Row]) -> dict[str, str]:
        """The packets' lines that stand in the rows as places yet."""
        places = {cell for row in rows for cell in row if isinstance(cell, str) and cell.startswith(_LATE)}
        by_source: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for place in places:
            source, number = map(int, place.removeprefix(_LATE).split())
            by_source[source].append((number, place))
        found: dict[str, str] = {}
        for source, wanted in by_source.items():
            found |= self.packets.lines(source, sorted(wanted))
        return found


def _fetched(found: DuckDBPyConnection) -> Iterator[Any]:
    while batch := found.fetchmany(_BATCH):
        yield from batch


class _Cut:
    """Makes values fit to be shown; `happened` tells that one was not shown whole."""

    def __init__(self) -> None:
        self.happened = False

    def value(self, value: Any) -> Any:
        """As JSON has it: bytes in hexadecimal digits, and what has no form there as text."""
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return round(value, 9) if math.isfinite(value) else str(value)
        if isinstance(value, (list, tuple)):
            self.happened = self.happened or len(value) > _LIST
            return [self.value(each) for each in value[:_LIST]]
        if isinstance(value, dict):
            return {self._text(str(key)): self.value(each) for key, each in list(value.items())[:_LIST]}
        is_raw = isinstance(value, (bytes, bytearray, memoryview))
        return self._text(bytes(value[: _CELL + 1]).hex() if is_raw else str(value))

    def _text(self, text: str) -> str:
        shown = visible(text[: _CELL + 1])
        if len(shown) <= _CELL:
            return shown
        self.happened = True
        return shown[: _CELL - 3] + "..."
