"""What lines say of a packet by those before it: retransmissions, and conversations that have no port."""

from __future__ import annotations

from pathlib import Path

import pytest
from frames import back, out
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from rawtap.packets.headers import parse
from rawtap.packets.index import Indexes
from rawtap.packets.lines import PacketSummary, summarize
from rawtap.packets.memory import Memory
from rawtap.packets.pages import PacketFiles, Question, read_page
from rawtap.packets.tail import Part


def lines(*packets: Packet, interfaces: tuple[int, ...] = (), shown_from: int = 1) -> list[PacketSummary]:
    memory, found = Memory(), []
    for number, packet in enumerate(packets, 1):
        data = bytes(packet)
        interface = interfaces[number - 1] if interfaces else 0
        if number < shown_from:
            memory.add(number, data, len(data), 1, interface)
            continue
        frame = parse(data, len(data), 1)
        found.append(summarize(frame, memory.mark(number, frame, interface)))
    return found


def data(sequence: int, size: int = 10, **ip: int) -> Packet:
    return out(TCP(sport=4000, dport=9000, flags="PA", seq=sequence) / Raw(b"x" * size), **ip)


@pytest.mark.parametrize("shown_from", [1, 3])
def test_a_segment_that_was_sent_before_is_marked(shown_from: int) -> None:
    told = lines(data(100, id=1), data(110, id=2), data(100, id=3), shown_from=shown_from)[-1]
    assert told.info.endswith(", retransmission of #1")


def test_what_is_the_same_to_its_last_byte_is_called_that() -> None:
    assert lines(data(100, id=7), data(100, id=7))[1].info.endswith(", the same packet as #1")
    assert lines(data(100, id=0), data(100, id=0))[1].info.endswith(", retransmission of #1")


def test_what_is_no_retransmission_is_not_marked() -> None:
    ack = out(TCP(sport=4000, dport=9000, flags="A", seq=100))
    syn = out(TCP(sport=4000, dport=9000, flags="S", seq=99))
    cases = (
        (ack, ack), (data(100, 1), data(100, 1)), (data(100), data(100, 5)), (data(100), syn, data(100)),
        (out(ICMP(id=1, seq=1)), out(ICMP(id=1, seq=1))),
    )  # fmt: skip
    for packets in cases:
        assert "#" not in lines(*packets)[-1].info
    assert "#" not in lines(data(100, id=1), data(100, id=2), interfaces=(0, 1))[-1].info


def test_a_mark_is_never_cut_off() -> None:
    text = Raw(b"GET /" + b"a" * 300 + b" HTTP/1.1\r\n\r\n")
    long = out(TCP(sport=4000, dport=80, flags="PA", seq=1, chksum=1) / text, id=0)
    told = lines(long, long)[1].info
    assert "..., bad TCP checksum 0x0001, expected " in told
    assert told.endswith(", retransmission of #1")
    assert len(told) == 200


def test_tftp_is_told_by_its_conversation() -> None:
    request = out(UDP(sport=4000, dport=69) / Raw(b"\0\1boot.img\0octet\0"))
    block = back(UDP(sport=3445, dport=4000) / Raw(b"\0\3\0\1" + bytes(512)))
    ack = out(UDP(sport=4000, dport=3445) / Raw(b"\0\4\0\1"))
    told = lines(request, block, ack)
    assert [(each.protocol, each.info) for each in told[1:]] == [
        ("TFTP", "data block 1, 516 bytes"), ("TFTP", "acknowledgment block 1, 4 bytes"),
    ]  # fmt: skip
    assert lines(block)[0].protocol == "UDP"
    other = back(UDP(sport=3445, dport=4001) / Raw(b"\0\3\0\1"))
    assert lines(request, other)[1].protocol == "UDP"


def test_quic_goes_on_where_it_began() -> None:
    begin = out(UDP(sport=4000, dport=4433) / Raw(b"\xc0\0\0\0\1\4abcd" + bytes(60)))
    further = back(UDP(sport=4433, dport=4000) / Raw(b"\x4a" + bytes(40)))
    assert [each.protocol for each in lines(begin, further)] == ["QUIC", "QUIC"]
    assert lines(further)[0].protocol == "UDP"


def test_a_page_knows_what_was_before_it_in_a_rings_older_file(tmp_path: Path) -> None:
    groups = [[data(100, id=1), data(200, id=2)], [data(200, id=3)], [data(100, id=4), data(300, id=5)]]
    parts, before = [], 0
    for number, packets in enumerate(groups, 1):
        wrpcap(str(tmp_path / str(number)), packets)
        parts.append(Part(number, tmp_path / str(number), before))
        before += len(packets)
    source = PacketFiles("f", parts)
    marked = {3: "retransmission of #2", 4: "retransmission of #1"}
    for first in range(1, 6):
        page = read_page(source, Question(first=first), Indexes())
        told = {line.number: line.summary.info.rpartition(", ")[2] for line in page.packets}
        assert [*told] == list(range(first, 6))
        assert {number: mark for number, mark in told.items() if "#" in mark} == {
            number: mark for number, mark in marked.items() if number >= first
        }
    page = read_page(source, Question(first=6), Indexes())
    assert (page.packets, page.matched, page.next_cursor) == ((), 0, None)


def test_a_page_knows_what_was_before_it(tmp_path: Path) -> None:
    packets = [data(100 + 10 * number, id=number) for number in range(50)] + [data(100, id=99)]
    wrpcap(str(tmp_path / "f"), packets)
    source = PacketFiles("f", [Part(1, tmp_path / "f", 0)])
    for expression in ("", "tcp"):
        page = read_page(source, Question(expression, first=51), Indexes())
        assert [(line.number, line.summary.info.rpartition(", ")[2]) for line in page.packets] == [
            (51, "retransmission of #1")
        ]
