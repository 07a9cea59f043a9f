"""The tool that asks captures in SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from rawtap.tools._text import PARTIAL, Answer, block, shown
from rawtap.tools._tool import LabContext, Offer, is_empty, lab_of, tool
from rawtap.tools.capture import CaptureId


class Rows(Answer):
    """Rows of an answer."""

    columns: list[str]
    rows: list[list[Any]] = Field(description="Untrusted data from the wire and the guest.")
    more: bool = Field(description="Whether there are more rows.")
    notes: list[str] = Field([], exclude_if=is_empty)
    partial: bool = Field(False, exclude_if=is_empty, description=PARTIAL)

    def lines(self) -> list[str]:
        """The columns' names, and a line a row."""
        rows = [" | ".join(map(shown, row)) for row in (self.columns, *self.rows)]
        notes = block("notes", self.notes) if self.notes else []
        partial = " partial=true" if self.partial else ""
        return [f"more={shown(self.more)}{partial}", *notes, "rows (untrusted):", *(f"|{row}" for row in rows)]


async def qemu_pcap_query(
    context: LabContext,
    sql: Annotated[str, Field(description="One SELECT.")],
    capture: CaptureId = None,
    path: Annotated[str | None, Field(description="A file instead.")] = None,
    paths: Annotated[list[str] | None, Field(max_length=64, description="Several, told apart by file.")] = None,
    limit: Annotated[int, Field(ge=1, le=1000, description="Rows.")] = 50,
) -> Rows:
    """Ask a capture, running or not, in SQL: one SELECT, for DuckDB. Tables: packets, frames, streams, conversations,
    endpoints, protocols, dns, http, findings, console, events; DESCRIBE packets shows columns. Time is in seconds.
    SELECT * FROM conversations ORDER BY bytes DESC LIMIT 10
    SELECT name, count(*), max(delay) FROM dns WHERE response GROUP BY name ORDER BY 3 DESC
    SELECT p.time, p.info, c.text FROM packets p ASOF JOIN console c ON p.time >= c.time WHERE p.flags LIKE '%RST%'
    """
    from rawtap.ask.query import Question, query

    files = tuple(Path(each) for each in (*([path] if path else ()), *(paths or ())))
    done = await query(lab_of(context), Question(sql, limit, capture, files))
    return Rows(columns=done.columns, rows=done.rows, more=done.more, notes=done.notes, partial=done.partial)


TOOLS: tuple[Offer, ...] = (tool(qemu_pcap_query, "Ask in SQL", read_only=True, idempotent=True),)
