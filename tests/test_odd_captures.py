"""Any file at all is read and examined: no crash, no hang, no answer over its bound, no byte that a terminal obeys."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from odd_captures import capture
from support import PATIENCE, Account, Session, ToolFailed, exists, serving, status_of

_BOUND = 24_000  # characters of an answer's JSON


def texts(value: Any) -> list[str]:
    """Every text in an answer, names of fields included."""
    if isinstance(value, dict):
        return [*value, *(text for each in value.values() for text in texts(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


async def asked(session: Session, tool: str, **arguments: Any) -> str:
    """Call it; what came of it: "answered", or an error's code."""
    with anyio.fail_after(PATIENCE):
        try:
            answer: Any = await session.call(tool, **arguments)
            outcome = "answered"
        except ToolFailed as error:
            answer, outcome = str(error).splitlines(), error.code
    assert outcome in {"answered", "capture.unreadable", "capture.bad_filter"}, (tool, arguments, answer)
    assert len(json.dumps(answer)) < _BOUND, (tool, arguments)
    odd = [text for text in texts(answer) if not text.isprintable()]
    assert not odd, (tool, arguments, odd)
    return outcome


@pytest.mark.parametrize("cases", [range(100), pytest.param(range(100, 10_100), marks=pytest.mark.soak)])
def test_any_file_is_answered(cases: range, user: Account) -> None:
    async def scenario() -> None:
        outcomes: Counter[str] = Counter()
        async with serving(user, "--read-dir", user.home) as session:
            for case in cases:
                path = Path(user.home, f"{case}.pcap")
                path.write_bytes(capture(case))
                path.chmod(0o644)
                filters = {} if case % 3 else {"filter": "udp or arp"}
                for detail in ("summary", "layers", "hex"):
                    read = await asked(session, "qemu_pcap_read", path=str(path), detail=detail, **filters)
                    outcomes[f"read {read}"] += 1
                outcomes[f"explain {await asked(session, 'qemu_pcap_explain', path=str(path), **filters)}"] += 1
                path.unlink()
            assert exists(session.pid)
            assert int(status_of(session.pid)["VmRSS"].split()[0]) < 400_000
        assert outcomes["explain answered"] > len(cases) / 2, outcomes

    anyio.run(scenario)
