"""The tables that a question may be put to: their names, their columns, and what each of them is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PACKETS = "every_column"  # under which name DuckDB is given the packets

# Views on these, each of one pass: DuckDB reads of them what a question needs.
VIEWS = {
    "packets": "SELECT * EXCLUDE (frame) FROM every_column",
    "frames": "SELECT file, number, time, frame FROM every_column",
    "streams": """
        SELECT file, stream, CASE ip_protocol WHEN 6 THEN 'TCP' ELSE 'UDP' END AS protocol,
            arg_min(source, first) AS source, arg_min(source_port, first) AS source_port,
            arg_min(destination, first) AS destination, arg_min(destination_port, first) AS destination_port,
            sum(n)::BIGINT AS packets, sum(bytes)::BIGINT AS bytes, sum(data)::BIGINT AS payload,
            arg_min(n, first) AS packets_sent, (sum(n) - arg_min(n, first))::BIGINT AS packets_back,
            arg_min(data, first) AS payload_sent, (sum(data) - arg_min(data, first))::BIGINT AS payload_back,
            min(first) AS first, min(t0) AS start, max(t1) - min(t0) AS duration,
            bool_or(syn) AS syn, bool_or(syn_ack) AS syn_ack, bool_or(fin) AS fin, bool_or(rst) AS rst
        FROM (
            SELECT file, stream, ip_protocol, source, source_port, destination, destination_port, count(*) AS n,
                sum(length)::BIGINT AS bytes, coalesce(sum(payload), 0)::BIGINT AS data, min(number) AS first,
                min(time) AS t0, max(time) AS t1, bool_or(flags LIKE 'SYN%' AND flags NOT LIKE '%ACK%') AS syn,
                bool_or(flags LIKE 'SYN%ACK%') AS syn_ack, bool_or(flags LIKE '%FIN%') AS fin,
                bool_or(flags LIKE '%RST%') AS rst
            FROM packets WHERE stream IS NOT NULL GROUP BY ALL
        ) GROUP BY file, stream, ip_protocol
    """,
    "conversations": """
        SELECT file, least(source, destination) AS a, greatest(source, destination) AS b, sum(n)::BIGINT AS packets,
            sum(bytes)::BIGINT AS bytes, coalesce(sum(n) FILTER (source <= destination), 0)::BIGINT AS packets_a_to_b,
            coalesce(sum(bytes) FILTER (source <= destination), 0)::BIGINT AS bytes_a_to_b,
            coalesce(sum(n) FILTER (source > destination), 0)::BIGINT AS packets_b_to_a,
            coalesce(sum(bytes) FILTER (source > destination), 0)::BIGINT AS bytes_b_to_a,
            min(t0) AS start, max(t1) - min(t0) AS duration
        FROM (
            SELECT file, source, destination, count(*) AS n, sum(length)::BIGINT AS bytes, min(time) AS t0,
                max(time) AS t1
            FROM packets WHERE ip_protocol IS NOT NULL GROUP BY ALL
        ) GROUP BY ALL
    """,
    "endpoints": """
        SELECT file, address, sum(n)::BIGINT AS packets, sum(bytes)::BIGINT AS bytes,
            coalesce(sum(n) FILTER (sent), 0)::BIGINT AS packets_sent,
            coalesce(sum(bytes) FILTER (sent), 0)::BIGINT AS bytes_sent,
            coalesce(sum(n) FILTER (NOT sent), 0)::BIGINT AS packets_received,
            coalesce(sum(bytes) FILTER (NOT sent), 0)::BIGINT AS bytes_received
        FROM (
            SELECT file, unnest([source, destination]) AS address, unnest([true, false]) AS sent, n, bytes FROM (
                SELECT file, source, destination, count(*) AS n, sum(length)::BIGINT AS bytes
                FROM packets WHERE ip_protocol IS NOT NULL GROUP BY ALL
            )
        ) GROUP BY ALL
    """,
    "protocols": """
        SELECT file, protocol, count(*) AS packets, sum(length)::BIGINT AS bytes, min(number) AS first,
            min(time) AS start, max(time) AS last
        FROM packets GROUP BY ALL
    """,
}

# Tables of rows: those that are read out of packets, and those of what a lab, or the judges, know. DuckDB's types.
ROWS = {
    "dns": {
        "file": "VARCHAR", "number": "BIGINT", "time": "DOUBLE", "source": "VARCHAR", "destination": "VARCHAR",
        "protocol": "VARCHAR", "id": "INTEGER", "response": "BOOLEAN", "name": "VARCHAR", "type": "VARCHAR",
        "rcode": "VARCHAR", "answers": "VARCHAR[]", "answer_count": "INTEGER", "question": "BIGINT", "delay": "DOUBLE",
    },
    "http": {
        "file": "VARCHAR", "number": "BIGINT", "time": "DOUBLE", "stream": "BIGINT", "source": "VARCHAR",
        "destination": "VARCHAR", "response": "BOOLEAN", "method": "VARCHAR", "target": "VARCHAR", "host": "VARCHAR",
        "status": "INTEGER", "reason": "VARCHAR", "content_type": "VARCHAR", "content_length": "BIGINT",
        "user_agent": "VARCHAR",
    },
    "findings": {
        "file": "VARCHAR", "what": "VARCHAR", "host": "VARCHAR", "says": "VARCHAR", "found": "VARCHAR",
        "expected": "VARCHAR", "rule": "VARCHAR", "evidence": "VARCHAR", "follows": "VARCHAR", "count": "BIGINT",
        "packets": "BIGINT[]",
    },
    "console": {"time": "DOUBLE", "time_ns": "BIGINT", "guest": "VARCHAR", "text": "VARCHAR"},
    "events": {
        "time": "DOUBLE", "time_ns": "BIGINT", "source": "VARCHAR", "kind": "VARCHAR", "guest": "VARCHAR",
        "capture": "VARCHAR", "text": "VARCHAR",
    },
}  # fmt: skip

NAMES = (*VIEWS, *ROWS)


def file_names(paths: Sequence[Path]) -> list[str]:
    """What the column `file` calls each of them: its name, or its path where another has that name too."""
    names = [each.name for each in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def missing_told(unread: int, unnumbered: int) -> list[str]:
    """What columns do not hold of some packets, in words; the two are as in `packets._columns.Packets`."""
    found = []
    if unread:
        found.append(f"{unread} packets are of link types of which only lengths, times and info are told")
    if unnumbered:
        found.append(f"{unnumbered} packets have no stream: there are more than are kept")
    return found


def named_in(sql: str) -> set[str]:
    """The tables that a question can be about: a name that is not in its text is in none of its parts."""
    text = sql.lower()
    return {name for name in NAMES if name in text}
