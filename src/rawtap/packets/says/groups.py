"""The groups that hosts report, in IGMPv3 and MLDv2 (RFC 3376, 4.2; RFC 3810, 5.2)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop

_KINDS = {1: "includes", 2: "excludes", 3: "to include", 4: "to exclude", 5: "allows", 6: "blocks"}
_SHOWN = 4


def reported(data: bytes, at: int, end: int, size: int) -> str:
    """The groups of a report whose header of 8 bytes is at `at`, with addresses of `size` bytes; what is cut off is
    left out."""
    end = min(end, len(data))
    count = int.from_bytes(data[at + 6 : at + 8], "big")
    found = []
    at += 8
    for _ in range(min(count, _SHOWN)):
        if at + 4 + size > end:
            break
        kind, words, sources = data[at], data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        group = inet_ntop(AF_INET if size == 4 else AF_INET6, data[at + 4 : at + 4 + size])
        found.append(_record(group, kind, sources))
        at += 4 + size * (1 + sources) + 4 * words
    more = f" and {count - len(found)} more" if count > len(found) else ""
    return ", ".join(found) + more


def _record(group: str, kind: int, sources: int) -> str:
    """Any source but none is joining; none but none is leaving."""
    if not sources and kind in {2, 4}:
        return f"joins {group}"
    if not sources and kind == 3:
        return f"leaves {group}"
    return f"{group} {_KINDS.get(kind, f'type {kind}')} {sources} source{'' if sources == 1 else 's'}"
