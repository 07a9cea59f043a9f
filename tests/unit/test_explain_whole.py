"""What explain says of a whole exchange it says only where it has looked at the whole of it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from scapy.utils import wrpcap
from test_explain import PING, PONG

from rawtap.ask.explain import explain
from rawtap.lab.lab import Lab
from rawtap.settings import Settings


@pytest.mark.parametrize("cut", [0, 1])
def test_all_requests_were_answered_only_where_the_file_has_its_end(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "c.pcap"
    wrpcap(str(path), [PING, PONG, PONG])
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])

    async def tell(_: float, __: str) -> None: ...

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            explained = await explain(lab, None, path, "", None, tell)
            assert explained.given.verdict.findings == ()
            assert bool(explained.given.lacking) == bool(cut)
            assert [note.partition(".")[0] for note in explained.behind] == (
                [] if cut else ["All 1 requests were answered on the wire"]
            )

    anyio.run(scenario)
