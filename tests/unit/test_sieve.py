"""A filter on a capture that comes as a stream."""

from __future__ import annotations

import struct

import pytest

from rawtap.capture import pcapng
from rawtap.errors import BadFilter
from rawtap.packets.sieve import Sieve

ARP = (b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x08\x06").ljust(60, b"\0")
IPV6 = (b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x86\xdd").ljust(61, b"\0")
RAW_IP = b"\x45".ljust(20, b"\0")  # of a link without a header: its type is in its first byte


def record(frame: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}IIII", 1, 2, len(frame), len(frame)) + frame


def pcap(link_type: int, *records: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link_type) + b"".join(records)


def block(point: int, frame: bytes) -> bytes:
    body = struct.pack("<IIIII", point, 0, 0, len(frame), len(frame)) + frame + b"\0" * (-len(frame) % 4)
    return struct.pack("<II", 6, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def section(link_type: int, interfaces: int) -> bytes:
    texts = dict.fromkeys(("filter", "hardware", "system", "application", "comment"), "")
    return pcapng.head(interfaces=[("a", "")] * interfaces, link_type=link_type, snaplen=262144, **texts)


PCAPNG = (section(1, 2), block(0, ARP), block(1, IPV6), section(101, 1), block(0, RAW_IP), block(0, b"\x60" + RAW_IP))


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("form", "expression", "whole", "kept", "passed"),
    [
        ("pcap", "arp", pcap(1, record(ARP), record(IPV6), record(ARP)), pcap(1, record(ARP), record(ARP)), 2),
        (
            "pcap",
            "arp",
            pcap(1, record(ARP, ">"), record(IPV6, ">"), order=">"),
            pcap(1, record(ARP, ">"), order=">"),
            1,
        ),
        ("pcapng", "ip6", b"".join(PCAPNG), b"".join(PCAPNG[each] for each in (0, 2, 3, 5)), 2),
    ],
    ids=["little", "big", "sections"],
)
def test_what_does_not_pass_is_left_out_and_all_else_stays(
    form: str, expression: str, whole: bytes, kept: bytes, passed: int, step: int
) -> None:
    sieve = Sieve(expression, form)
    got = b"".join(sieve.feed(whole[at : at + step]) for at in range(0, len(whole), step))
    assert (got, sieve.passed) == (kept, passed)


def test_a_filter_that_does_not_fit_the_link_is_refused() -> None:
    with pytest.raises(BadFilter, match="libpcap: "):
        Sieve("wlan host 02:00:00:00:00:01", "pcap").feed(pcap(101))
