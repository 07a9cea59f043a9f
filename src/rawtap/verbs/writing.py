"""A running capture's packets, written as they come."""

from __future__ import annotations

from typing import Any, BinaryIO

from rawtap.verbs.attached import Attached
from rawtap.verbs.output import BAD_NEWS, FAILED, WELL, complain


def copy(server: Attached, form: str, expression: str, out: BinaryIO) -> dict[str, Any]:
    """Write a capture's packets that pass a filter until it ends; how it stands then, and how many passed."""
    from rawtap.packets.sieve import Sieve

    sieve = Sieve(expression, form) if expression else None
    for data in server.frames():
        out.write(sieve.feed(data) if sieve else data)
        out.flush()
    told = server.line()
    ended: dict[str, Any] = told["capture"]
    return ended | {"before": told["before"], "passed": sieve.passed if sieve else None}


def how_it_ended(name: str, ended: dict[str, Any]) -> int:
    """Say it; returns the exit code."""
    before = f", the first {ended['before']} of them removed by its ring before this began" if ended["before"] else ""
    whole = "the others" if before else "them"
    passed = "" if ended["passed"] is None else f", {ended['passed']} of {whole} pass the filter"
    dropped = "not known" if ended["dropped"] is None else ended["dropped"]
    complain(f"{name} has ended: {ended['packets']} packets{before}{passed}; dropped: {dropped}")
    if ended["error"]:
        complain(ended["error"])
        return FAILED
    none = not ended["packets"] or ended["passed"] == 0
    return BAD_NEWS if ended["dropped"] != 0 or none else WELL  # as `rawtap capture`: nobody knows is not well
