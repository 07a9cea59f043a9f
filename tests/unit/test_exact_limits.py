"""Whatever is cut, bounded or refused by a size: what just fits is whole, and one more is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from frames import GUEST, HOST
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from rawtap.errors import BadFilter
from rawtap.guest.console import History
from rawtap.guest.log import pieces
from rawtap.packets.findings import bounded
from rawtap.packets.headers import parse
from rawtap.packets.layers import _meaning


def of_filter(text: str) -> str:
    return BadFilter.because(text, "").problem.removeprefix("the filter '").removesuffix("' cannot be used")


def of_field(text: str) -> str:
    shown = _meaning(None, None, text.encode())
    assert shown is not None
    return shown


@pytest.mark.parametrize(
    ("cut", "most", "kept"),
    [
        pytest.param(bounded, 300, 297, id="a finding's evidence"),
        pytest.param(lambda text: bounded(text, 10), 10, 7, id="a finding's word"),
        pytest.param(of_filter, 300, 300, id="a filter in an error"),
        pytest.param(of_field, 160, 157, id="a field of a layer"),
    ],
)
def test_a_text_that_just_fits_is_whole_and_a_longer_one_says_that_it_is_cut(
    cut: Callable[[str], str], most: int, kept: int
) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(most + 1))
    assert cut(text[:most]) == text[:most]
    assert cut(text) == text[:kept] + "..."


def test_a_finding_is_cut_as_it_is_shown_not_as_it_was_sent() -> None:
    assert bounded("\x1b" * 75) == r"\x1b" * 75
    assert bounded("\x1b" * 76) == (r"\x1b" * 75)[:297] + "..."


@pytest.mark.parametrize(("length", "shown"), [(300, "x" * 300), (301, "x" * 300 + "... (302 bytes)")])
def test_a_line_of_a_console_is_shown_up_to_its_limit(length: int, shown: str) -> None:
    history = History()
    history.append(b"x" * length + b"\nnext")
    (line, rest), at = pieces(history, 0, 5)
    assert (line.text, line.start, line.end, line.unfinished) == (shown, 0, length + 1, False)
    assert (rest.text, rest.unfinished, at) == ("next", True, length + 5)
    assert pieces(history, 0, 1) == ([line], length + 1)


# An IPv4 header of 20 bytes, and 4 bytes behind it.
@pytest.mark.parametrize(
    ("total", "problems"),
    [
        (19, ["IPv4 total length of 19, less than its header of 20"]),
        (20, []),
        (24, []),
        (25, ["IPv4 total length of 25, but 24 bytes were sent"]),
    ],
)
def test_an_ipv4_packet_may_have_no_payload_and_not_more_than_was_sent(total: int, problems: list[str]) -> None:
    data = bytes(Ether() / IP(src=GUEST, dst=HOST, len=total, proto=253) / Raw(b"1234"))
    frame = parse(data, len(data), 1)
    assert [each.says for each in frame.problems] == problems
    if total >= 20:
        assert frame.ip is not None
        assert (frame.ip.payload, frame.ip.end) == (34, 14 + min(total, 24))
