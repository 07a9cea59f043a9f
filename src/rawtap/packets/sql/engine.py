"""The process that answers a question in SQL: run as a program, a request in, an answer out, both JSON.

Theory of operation. The question is text that an agent wrote, put to a large C++ library: it may run for ever, take
all memory, or crash, and DuckDB does not always stop when it is asked to (in repeat('x', 1000000000) it went on for
13 s). None of that must happen to the server. So it happens to a process of its own, which has no capability, reads the
files that the request is about and those of the program (Landlock, by its parent), and, once all is loaded, opens
nothing any more but these captures (`landlock.close`). Its memory is bounded by the kernel, its time by its parent, who
kills it. It costs 0.2 s, most of them DuckDB's loading, which the server itself is spared.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

from rawtap.host import landlock
from rawtap.packets._columns import FORMATS, Source
from rawtap.packets.sql.derived import READERS
from rawtap.packets.sql.tables import NAMES, ROWS, named_in

_MIB = 1 << 20
_SHOWN_COLUMNS = 1500


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    json.dump(_answer(request), sys.stdout, ensure_ascii=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        import duckdb  # noqa: F401 - so that what it is made of is loaded before the files are shut away
    except ImportError as error:
        return {"error": "missing", "text": str(error)}
    from rawtap.packets.sql.database import Database, Refused

    sources = [Source(**each) for each in request["sources"]]
    late = threading.Event()
    try:
        database = Database(sources, request["rows"], f"{request['memory_mib'] // 2}MiB")
        for each in sources:
            each.open()  # which loads what unpacks it
        _bound(request["memory_mib"], [each.fd for each in sources])
        _begin_time(request["seconds"], database.interrupt, late)
        root = database.check(request["sql"])
        for name in named_in(request["sql"]) & set(READERS):
            database.derive(name)
        database.lock()
        table = database.ask(request["sql"], root, request["limit"], request["characters"])
    except Refused as error:
        if late.is_set():
            return {"error": "time", "text": str(error)}
        kind = "memory" if error.for_memory else "refused"
        return {"error": kind, "text": str(error), "tables": _tables(request["sql"])}
    except MemoryError as error:
        return {"error": "memory", "text": str(error)}
    packets = database.packets
    return {
        "columns": table.columns,
        "rows": table.rows,
        "more": table.more,
        "cut": table.cut,
        "ends": [[number, *end] for number, end in packets.lacking.items()],
        "unread": packets.unread,
        "unnumbered": packets.unnumbered,
    }


def _begin_time(seconds: float, interrupt: Callable[[], object], late: threading.Event) -> None:
    """Let DuckDB end the question itself after that time, which is then `late`."""

    def end() -> None:
        late.set()
        interrupt()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _bound(memory_mib: int, captures: list[int]) -> None:
    """From now on: no core file, no file written, no more memory than that, nothing opened but the captures again."""
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory_mib * _MIB),
    ):
        resource.setrlimit(what, (most, most))
    landlock.close(captures)


def _tables(sql: str) -> str:
    """The tables, and the columns of those that are in a question; of packets where none is."""
    columns = {name: ", ".join(each) for name, each in ROWS.items()}
    columns["packets"] = ", ".join(each for each in FORMATS if each != "frame")
    named = [name for name in columns if name in named_in(sql)] or ["packets"]
    told = "; ".join(f"{name}({columns[name]})" for name in named)[:_SHOWN_COLUMNS]
    return f"Tables: {', '.join(NAMES)}. Columns: {told}"


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads of DuckDB's may be at work yet
