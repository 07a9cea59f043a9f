"""Whatever is cut, bounded or refused by a size: what just fits is whole, and one more is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from frames import GUEST, HOST
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from rawtap.errors import BadFilter
from rawtap.guest.console import History
from rawtap.guest.log import pieces
from rawtap.packets.findings import bounded
from rawtap.packets.headers import parse
from rawtap.packets.layers import _meaning
from rawtap.packets.reader import tags_told
from rawtap.packets.transport import Icmp


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


@pytest.mark.parametrize(
    ("tagged", "size", "told"),
    [
        (0, 3, []),
        (1, 80, ["1 packet matches but for a VLAN tag", "vlan and (" + "a" * 80 + ")"]),
        (2, 81, ["2 packets match but for a VLAN tag", "vlan and (...)"]),
    ],
)
def test_packets_that_a_tag_hides_are_counted_and_a_long_filter_is_not_repeated(
    tagged: int, size: int, told: list[str]
) -> None:
    said = tags_told(tagged, "a" * size)
    assert len(said) == bool(told)
    assert all(words in " ".join(said) for words in told)


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


def test_a_line_between_two_others_is_shown_without_them() -> None:
    history = History()
    history.append(b"first\n" * 60 + b"in between\nlast\n")
    lines, _ = pieces(history, 0, 100)
    assert [line.text for line in lines[-3:]] == ["first", "in between", "last"]


# An IPv4 header of 20 bytes, and 4 bytes behind it.
@pytest.mark.parametrize(
    ("total", "problems"),
    [
        (19, ["IPv4 total length of 19, less than its header of 20"]),
        (20, []),
        (24, []),
        (25, ["IPv4 total length of 25, but 24 bytes were sent: one too high"]),
    ],
)
def test_an_ipv4_packet_may_have_no_payload_and_not_more_than_was_sent(total: int, problems: list[str]) -> None:
    data = bytes(Ether() / IP(src=GUEST, dst=HOST, len=total, proto=253) / Raw(b"1234"))
    frame = parse(data, len(data), 1)
    assert [each.says for each in frame.problems] == problems
    if total >= 20:
        assert frame.ip is not None
        assert (frame.ip.payload, frame.ip.end) == (34, 14 + min(total, 24))


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ("02 04 05b4", []),
        ("01 01 04 02", []),  # the last one ends with the header
        ("01 01 01 04", ["TCP option 4 has a length of 0 in 1 bytes"]),
        ("01 01 04 03", ["TCP option 4 has a length of 3 in 2 bytes"]),
        ("01 01 04 01", ["TCP option 4 has a length of 1 in 2 bytes"]),
    ],
)
def test_a_tcp_option_may_end_with_the_header_and_not_behind_it(options: str, problems: list[str]) -> None:
    header = bytes(TCP(sport=1, dport=2, dataofs=6, flags="S"))[:20] + bytes.fromhex(options)
    data = bytes(Ether() / IP(src=GUEST, dst=HOST, proto=6) / Raw(header))
    assert [each.says for each in parse(data, len(data), 1).problems] == problems


@pytest.mark.parametrize(("quoted", "known"), [(19, None), (20, (None, None)), (27, (None, None)), (28, (1000, 53))])
def test_an_icmp_error_tells_of_as_much_as_it_quotes(quoted: int, known: tuple[int | None, int | None] | None) -> None:
    about = bytes(IP(src=GUEST, dst=HOST) / UDP(sport=1000, dport=53))[:quoted]
    data = bytes(Ether() / IP(src=HOST, dst=GUEST) / ICMP(type=3, code=3) / Raw(about))
    icmp = parse(data, len(data), 1).transport
    assert isinstance(icmp, Icmp)
    found = icmp.quoted
    assert (found and (found.source_port, found.destination_port)) == known


@pytest.mark.parametrize(("quoted", "known"), [(39, None), (40, (None, None)), (47, (None, None)), (48, (1000, 53))])
def test_an_icmpv6_error_too(quoted: int, known: tuple[int | None, int | None] | None) -> None:
    about = bytes(IPv6(src="fe80::2", dst="fe80::1") / UDP(sport=1000, dport=53))
    data = bytes(Ether() / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6PacketTooBig() / Raw(about[:quoted]))
    icmp = parse(data, len(data), 1).transport
    assert isinstance(icmp, Icmp)
    found = icmp.quoted
    assert (found and (found.source_port, found.destination_port)) == known
    if found:
        assert (found.protocol, found.source, found.destination) == (17, about[8:24], about[24:40])


def test_a_datagram_of_length_0_is_one_of_a_jumbogram_only() -> None:
    data = bytes(Ether() / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=2, len=0))
    assert [each.says for each in parse(data, len(data), 1).problems] == [
        "UDP length of 0, the header alone has 8: the header is not counted"
    ]


@pytest.mark.parametrize(
    ("option", "address", "problems"),
    [
        ("01 01 020000000001", "020000000001", []),
        ("02 01 020000000001", None, ["the link-layer address is a target's (option 2), not a source's (1)"]),
        ("02 01 020000000002 01 01 020000000001", "020000000001", []),
        ("03 01 020000000001", None, []),
        ("01 00 020000000001", None, ["neighbour discovery option 1 has a length of 0 in 8 bytes"]),
        ("01 02 020000000001", None, ["neighbour discovery option 1 has a length of 16 in 8 bytes"]),
    ],
)
def test_an_option_of_neighbour_discovery_may_end_with_the_message(
    option: str, address: str | None, problems: list[str]
) -> None:
    data = bytes(Ether() / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6ND_NS(tgt="fe80::2") / Raw(bytes.fromhex(option)))
    frame = parse(data, len(data), 1)
    assert isinstance(frame.transport, Icmp)
    assert frame.transport.link_address == (bytes.fromhex(address) if address else None)
    assert [each.says for each in frame.problems] == problems
