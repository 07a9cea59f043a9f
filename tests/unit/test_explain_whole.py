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


def cut_file(folder: Path, cut: int) -> Path:
    """A capture of three packets without so many bytes of its end."""
    path = folder / "c.pcap"
    wrpcap(str(path), [PING, PONG, PONG])
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    return path


async def tell(_: float, __: str) -> None: ...


@pytest.mark.parametrize("cut", [0, 1])
def test_all_requests_were_answered_only_where_the_file_has_its_end(tmp_path: Path, cut: int) -> None:
    path = cut_file(tmp_path, cut)

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            explained = await explain(lab, None, path, "", None, tell)
            assert explained.given.verdict.findings == ()
            assert bool(explained.given.lacking) == bool(cut)
            assert [note.partition(".")[0] for note in explained.behind] == (
                [] if cut else ["All 1 requests were answered on the wire"]
            )

    anyio.run(scenario)


@pytest.mark.parametrize(("cut", "examined"), [(0, 3), (1, 2), (0, 2)], ids=["whole", "cut", "not all"])
def test_a_later_page_whose_verdict_is_made_again_lacks_what_the_first_lacked(
    tmp_path: Path, cut: int, examined: int
) -> None:
    """And so does the verdict that is kept of it, which is the next call's."""
    path = cut_file(tmp_path, cut)

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            for before in ((examined, 1), None):
                given = (await explain(lab, None, path, "", before, tell)).given
                assert given.verdict.examined == examined
                assert (given.more, bool(given.lacking)) == (examined + cut < 3, bool(cut))

    anyio.run(scenario)
