"""A pcapng file's interfaces: each packet is read by its own one, whatever differs between them."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reader import ARP, ETHERNET, NULL, UDP, block, interface

from rawtap.errors import BadFilter, CaptureUnreadable
from rawtap.packets import pages, reader
from rawtap.packets.index import Index, Indexes
from rawtap.packets.origin import Origin
from rawtap.packets.tail import Part

RAW = 12  # DLT_RAW, which files call 101
PAYLOADS = st.sampled_from([UDP, ARP, UDP + bytes(700), b"\2\0\0\0" + UDP[14:], UDP[14:]])
CLOCKS = {6: 10**6, 9: 10**9, 3: 10**3, 0x80 | 20: 2**20, 12: 10**12}  # if_tsresol, section 4.2


@dataclass(frozen=True)
class Card:
    link_type: int
    snaplen: int
    clock: int
    offset: int
    name: str

    def block(self, order: str) -> bytes:
        options = option(order, 2, self.name.encode()) + option(order, 9, bytes([self.clock]))
        options += option(order, 14, struct.pack(order + "q", self.offset)) if self.offset else b""
        stored = 101 if self.link_type == RAW else self.link_type
        return interface(order, options + option(order, 0, b""), stored, self.snaplen)


@dataclass(frozen=True)
class Frame:
    card: int  # of its section
    ticks: int
    data: bytes
    flags: int | None
    kind: int = 6


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def packet(order: str, frame: Frame, card: Card, number: int) -> bytes:
    kept = frame.data[: card.snaplen]
    if frame.kind == 3:  # simple: section 4.4
        return block(order, 3, struct.pack(order + "I", len(frame.data)) + kept)
    where = struct.pack(order + "HH", number, 7) if frame.kind == 2 else struct.pack(order + "I", number)
    times = struct.pack(order + "II", frame.ticks >> 32, frame.ticks & 0xFFFFFFFF)
    padded = kept + bytes(-len(kept) % 4)
    options = b""
    if frame.flags is not None and frame.kind == 6:
        options = option(order, 1, b"a remark") + option(order, 2, struct.pack(order + "I", frame.flags))
    body = where + times + struct.pack(order + "II", len(kept), len(frame.data)) + padded + options
    return block(order, frame.kind, body)


CARDS = st.builds(
    Card,
    st.sampled_from([ETHERNET, NULL, RAW]),
    st.sampled_from([2048, 96, 40]),
    st.sampled_from(list(CLOCKS)),
    st.sampled_from([0, 3600]),
    st.sampled_from(["tap0", "br0"]),
)
FRAMES = st.builds(
    Frame, st.integers(0, 3), st.integers(0, 2**40), PAYLOADS, st.sampled_from([None, 0, 1, 2, 0x22, 3]),
    st.sampled_from([6, 6, 6, 2, 3]),
)  # fmt: skip
SECTIONS = st.lists(
    st.tuples(st.sampled_from("<>"), st.lists(CARDS, min_size=1, max_size=3), st.lists(FRAMES | CARDS, max_size=6)),
    min_size=1,
    max_size=3,
)
Section = tuple[str, list[Card], list["Frame | Card"]]


def written(sections: list[Section]) -> tuple[bytes, list[tuple[int, int, bytes, Origin]]]:
    """A file, and what is in it: nanoseconds, length, bytes and origin of each packet."""
    data, expected, before = b"", list[tuple[int, int, bytes, Origin]](), 0
    for order, cards, items in sections:
        known = list(cards)
        data += block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        data += b"".join(card.block(order) for card in cards)
        for item in items:
            if isinstance(item, Card):
                known.append(item)
                data += item.block(order)
                continue
            number = 0 if item.kind == 3 else item.card % len(known)
            card = known[number]
            data += packet(order, item, card, number)
            ticks, clock = (0 if item.kind == 3 else item.ticks), CLOCKS[card.clock]
            seconds = ticks // clock + card.offset
            nanoseconds = seconds * 10**9 + ticks % clock * 10**9 // clock
            bits = (item.flags or 0) & 3 if item.kind == 6 else 0
            direction = {1: "inbound", 2: "outbound"}.get(bits, "")
            origin = Origin(card.link_type, before + number, card.name, "", direction)  # type: ignore[arg-type]
            expected.append((nanoseconds, len(item.data), item.data[: card.snaplen], origin))
        before += len(known)
    return data, expected


def taken(path: Path, limit: int) -> list[tuple[int, int, bytes, Origin]]:
    file = reader.open_file(path, "")
    found = list[tuple[int, int, bytes, Origin]]()
    while some := file.take(limit):
        found += [(time_ns, length, data, origin) for _, time_ns, _, length, data, origin in some]
    assert file.damage == ""
    return found


@given(SECTIONS, st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_each_packet_is_read_by_its_own_interface(
    tmp_path_factory: pytest.TempPathFactory, sections: list[Section], limit: int
) -> None:
    path = tmp_path_factory.mktemp("interfaces") / "file.pcapng"
    data, expected = written(sections)
    path.write_bytes(data)
    assert taken(path, limit) == expected


@given(SECTIONS, st.data())
@settings(max_examples=100, deadline=None)
def test_a_file_that_is_cut_anywhere_has_the_packets_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, sections: list[Section], draw: st.DataObject
) -> None:
    """And what is added later is found behind them, by who has read to the cut."""
    path = tmp_path_factory.mktemp("cut") / "file.pcapng"
    data, expected = written(sections)
    at = draw.draw(st.integers(48, len(data)))
    path.write_bytes(data[:at])
    try:
        file = reader.open_file(path, "")
    except CaptureUnreadable:  # no interface yet
        return
    found = file.take(100)
    path.write_bytes(data)
    file.go_on()
    found += file.take(100)
    assert [(each[1], each[3], each[4], each[5]) for each in found] == expected
    assert file.damage == ""


def test_the_filter_is_compiled_for_each_link_type(tmp_path: Path) -> None:
    path = tmp_path / "two.pcapng"
    cards = [Card(ETHERNET, 2048, 9, 0, "tap0"), Card(RAW, 2048, 9, 0, "ppp0"), Card(NULL, 96, 6, 0, "lo0")]
    frames = [Frame(0, 1, UDP, None), Frame(1, 2, UDP[14:], None), Frame(2, 3, b"\2\0\0\0" + UDP[14:], None)]
    path.write_bytes(written([("<", cards, [*frames, Frame(0, 4, ARP, None)])])[0])
    assert reader.select(path, "udp port 53", None).matched == 3
    assert reader.select(path, "arp", None).matched == 1
    with pytest.raises(CaptureUnreadable, match=r"several: 1, 12, 0"):
        reader.select(path, "udp", tmp_path / "copy.pcap")
    assert not (tmp_path / "copy.pcap").exists()
    assert reader.select(path, "ether host 2:0:0:0:0:1", None).matched == 2
    with pytest.raises(BadFilter):
        reader.select(path, "no filter", None)
    page = pages.read_page(pages.PacketFiles("two", [Part(1, path, 0)]), pages.Question(), Indexes())
    assert [line.summary.protocol for line in page.packets] == ["DNS", "DNS", "DNS", "ARP"]


def test_places_hold_behind_all_interfaces_that_come_first(tmp_path: Path) -> None:
    """So that the last page of a capture at several points costs what the first one does."""
    path = tmp_path / "points.pcapng"
    cards = [Card(ETHERNET, 2048, 9, 0, name) for name in ("br0", "tap0", "tap1")]
    path.write_bytes(written([("<", cards, [Frame(at, at, ARP, None) for at in range(40)])])[0])
    survey = Index(every=8).survey(path, lambda: reader.open_file(path, ""))
    assert [place.scanned for place in survey.places] == [8, 16, 24, 32, 40]
    file = reader.open_file(path, "")
    file.seek(survey.places[3].offset, 0, 32, 32, 0)
    assert [each[5].name for each in file.take(3)] == ["tap1", "br0", "tap0"]


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda data: data[:-3], "a block is cut off"),
        (lambda data: data[:-4] + struct.pack("<I", 8), "another length at its end"),
        (lambda data: data + block("<", 6, struct.pack("<IIIII", 9, 0, 0, 4, 4) + bytes(4)), "not described before"),
        (lambda data: data + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 97, 97) + bytes(100)), "snaplen"),
        (lambda data: data + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 9, 9) + bytes(4)), "longer than its block"),
        (lambda data: data + struct.pack("<II", 5, 14) + bytes(20), "a length that it cannot have"),
        (lambda data: data + block("<", 0x0A0D0D0A, struct.pack("<IHHq", 77, 1, 0, -1)), "in no byte order"),
        (lambda data: data + block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)), "another version"),
        (lambda data: data + Card(ETHERNET, 9, 99, 0, "x").block("<"), "a clock"),
    ],
    ids=["cut", "ends", "interface", "snaplen", "block", "length", "order", "version", "clock"],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, spoilt: object, words: str) -> None:
    path = tmp_path / "spoilt.pcapng"
    data, _ = written([("<", [Card(ETHERNET, 96, 9, 0, "tap0")], [Frame(0, 1, ARP, None), Frame(0, 2, ARP, None)])])
    path.write_bytes(spoilt(data))  # type: ignore[operator]
    file = reader.open_file(path, "")
    assert len(file.take(9)) in {1, 2}
    assert words in file.damage


def test_tshark_reads_the_same_points_times_and_directions(tmp_path: Path) -> None:
    path = tmp_path / "points.pcapng"
    cards = [Card(ETHERNET, 96, 9, 0, "br0"), Card(ETHERNET, 2048, 6, 0, "tap0")]
    frames = [Frame(at, 1_700_000_000_000_000 + at, UDP + bytes(100), 1 + at % 2) for at in range(6)]
    path.write_bytes(written([("<", cards, [*frames]), (">", cards, [*frames])])[0])
    fields = ("frame.interface_name", "frame.cap_len", "frame.packet_flags_direction", "frame.time_epoch")
    options = [word for name in fields for word in ("-e", name)]
    told = subprocess.run(
        ["tshark", "-r", path, "-T", "json", *options], capture_output=True, text=True, check=True
    ).stdout
    theirs = [[each["_source"]["layers"][name][0] for name in fields] for each in json.loads(told)]
    ours = [
        [origin.name, str(len(data)), {"inbound": "1", "outbound": "2"}[origin.direction],
         f"{time_ns // 10**9}.{time_ns % 10**9:09}"]
        for time_ns, _, data, origin in taken(path, 100)
    ]  # fmt: skip
    assert len(ours) == 12
    assert [[name, size, str(int(bits, 0)), time] for name, size, bits, time in theirs] == ours
