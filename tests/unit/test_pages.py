"""Pages from an index: at any place of any file what a reader from the beginning would find, and each packet once."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rawtap.errors import CaptureUnreadable, RequestInvalid
from rawtap.packets import index, reader
from rawtap.packets._savefile import Savefile
from rawtap.packets.index import Index, Indexes, Survey
from rawtap.packets.pages import PacketFiles, Page, Question, read_page
from rawtap.packets.tail import Part

OURS = "ether proto 0x88b5"
EVERY = 3  # packets from place to place, in these tests


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "Index", lambda: Index(EVERY, 4))


def head(form: str, order: str = "<") -> bytes:
    if form == "pcap":
        return struct.pack(order + "IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 2048, 1)
    return struct.pack(order + "IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + _interface(order)


def _interface(order: str) -> bytes:
    options = struct.pack(order + "HHBxxx", 9, 1, 9) + struct.pack(order + "HH", 0, 0)  # if_tsresol: nanoseconds
    size = 20 + len(options)
    return struct.pack(order + "IIHHI", 1, size, 1, 0, 2048) + options + struct.pack(order + "I", size)


def record(form: str, number: int, order: str = "<") -> bytes:
    """Packet `number`, of ours if that is even, a second after the one before."""
    kind = b"\x88\xb5" if number % 2 == 0 else b"\x88\xb6"
    data = (b"\xff" * 6 + b"\2\0\0\0\0\1" + kind).ljust(60 + number % 4, b"\0")
    if form == "pcap":
        return struct.pack(order + "IIII", number, 0, len(data), len(data)) + data
    ticks, padded = number * 10**9, data + bytes(-len(data) % 4)
    size = 32 + len(padded)
    fields = struct.pack(order + "IIIIIII", 6, size, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return fields + padded + struct.pack(order + "I", size)


def write(path: Path, form: str, numbers: range, order: str = "<") -> Path:
    path.write_bytes(head(form, order) + b"".join(record(form, each, order) for each in numbers))
    return path


def page(source: PacketFiles, indexes: Indexes, **question: Any) -> Page:
    return read_page(source, Question(**question), indexes)


def numbers(found: Page) -> list[int]:
    return [line.number for line in found.packets]


def one(path: Path, **more: Any) -> PacketFiles:
    return PacketFiles("c1", [Part(1, path, 0)], **more)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("expression", ["", OURS])
def test_a_page_from_any_packet_is_that_part_of_the_whole(
    tmp_path: Path, form: str, order: str, expression: str
) -> None:
    source, indexes = one(write(tmp_path / "f", form, range(1, 51), order)), Indexes()
    matching = [number for number in range(1, 51) if not expression or number % 2 == 0]
    for first in [1, 2, 3, 4, 7, 25, 49, 50, 51, 99]:
        found = page(source, indexes, expression=expression, first=first, limit=5)
        expected = [number for number in matching if number >= first]
        assert numbers(found) == expected[:5]
        assert (found.matched, found.scanned) == (len(expected), 50)
        if found.next_cursor:
            following = page(source, indexes, expression=expression, cursor=found.next_cursor, limit=5)
            assert (numbers(following), following.matched) == (expected[5:10], len(expected))
        assert (found.next_cursor is None) == (len(expected) <= 5)
        assert [line.time for line in found.packets] == [float(number - 1) for number in expected[:5]]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_only_what_was_appended_is_scanned(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f", form, range(1, 41))
    source, indexes = one(path, growing=True), Indexes()
    assert page(source, indexes).scanned == 40
    seeks: list[tuple[int, ...]] = []
    real = reader.open_file

    class Wrapped:
        def __init__(self, savefile: Savefile) -> None:
            self._savefile = savefile

        def seek(self, *place: int) -> None:
            seeks.append(place)
            self._savefile.seek(*place)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._savefile, name)

    monkeypatch.setattr(reader, "open_file", lambda *arguments, live: Wrapped(real(*arguments, live=live)))
    with path.open("ab") as file:
        file.write(record(form, 41) + record(form, 42)[:-5])
    found = page(source, indexes, first=41)
    assert (numbers(found), found.scanned, found.damage) == ([41], 41, "")
    assert (seeks[0][0], seeks[0][2]) == (len(head(form)) + sum(len(record(form, each)) for each in range(1, 41)), 40)
    with path.open("ab") as file:
        file.write(record(form, 42)[-5:])
    assert numbers(page(source, indexes, cursor=found.next_cursor)) == [42]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("change", ["shorter", "other packets", "replaced"])
def test_a_file_that_became_another_one_is_scanned_anew(tmp_path: Path, form: str, change: str) -> None:
    path = write(tmp_path / "f", form, range(1, 41))
    source, indexes = one(path), Indexes()
    page(source, indexes)
    new = {"shorter": range(1, 11), "other packets": range(101, 161), "replaced": range(1, 61)}[change]
    if change == "replaced":
        path.unlink()
    write(path, form, new)
    found = page(source, indexes, limit=200)
    assert [line.time for line in found.packets] == [float(each) for each in range(len(new))]
    assert found.scanned == len(new)


def test_an_index_has_a_bound(tmp_path: Path) -> None:
    path = write(tmp_path / "f", "pcap", range(1, 501))
    survey = Index(EVERY, 4).survey(path, lambda: reader.open_file(path, ""))
    assert [place.scanned for place in survey.places] == [192, 384]
    indexes = Indexes(most=2)
    for each in range(5):
        indexes.survey(path, f"greater {each}")
    assert len(indexes._known) == 2


def test_a_pcapng_file_with_a_second_interface_in_the_middle_is_read_from_its_beginning(tmp_path: Path) -> None:
    """What was skipped would be missing: the second interface's description."""
    path = tmp_path / "f"
    first = b"".join(record("pcapng", each) for each in range(1, 11))
    again = b"".join(map(on_second, range(11, 41)))
    path.write_bytes(head("pcapng") + first + _interface("<") + again)
    source, indexes = one(path, growing=True), Indexes()
    assert numbers(page(source, indexes, first=35, limit=3)) == [35, 36, 37]
    survey = indexes.survey(path, "")
    assert max(place.scanned for place in survey.places) <= 10
    with path.open("ab") as file:
        file.write(on_second(41))
    assert numbers(page(source, indexes, first=41)) == [41]


def on_second(number: int) -> bytes:
    """The packet as one of the second interface."""
    whole = record("pcapng", number)
    return whole[:8] + struct.pack("<I", 1) + whole[12:]


def test_what_comes_while_a_page_is_read_is_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f", "pcap", range(1, 5))
    surveyed = Indexes.survey

    def survey(self: Indexes, path: Path, expression: str, *, live: bool) -> Survey:
        found = surveyed(self, path, expression, live=live)
        with path.open("ab") as file:
            file.write(record("pcap", 5))
        return found

    source, indexes = one(path, growing=True), Indexes()
    monkeypatch.setattr(Indexes, "survey", survey)
    found = page(source, indexes)
    assert (numbers(found), found.scanned, found.matched) == ([1, 2, 3, 4], 4, 4)
    assert numbers(page(source, indexes, cursor=found.next_cursor)) == [5]


def test_a_page_that_is_full_before_its_limit_says_so_and_goes_on(tmp_path: Path) -> None:
    source, indexes = one(write(tmp_path / "f", "pcap", range(1, 101))), Indexes()
    found = page(source, indexes, limit=60, detail="layers")
    assert (found.cut, len(found.packets) < 60) == (True, True)
    rest = []
    while found.next_cursor:
        rest += numbers(found)
        found = page(source, indexes, limit=60, detail="layers", cursor=found.next_cursor)
    assert rest + numbers(found) == list(range(1, 101))
    assert not found.cut
    assert not page(source, indexes, limit=5).cut


class Ring:
    """The files of a ring of three, of ten packets each."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0
        self.parts: list[Part] = []

    def roll(self) -> None:
        self._made += 1
        before = 10 * (self._made - 1)
        path = write(self._folder / str(self._made), "pcap", range(before + 1, before + 11))
        self.parts.append(Part(self._made, path, before))
        if len(self.parts) > 3:
            self.parts.pop(0).path.unlink()

    def source(self, *, growing: bool = True) -> PacketFiles:
        return PacketFiles("c1", list(self.parts), growing, start_ns=0)


def test_pages_go_over_the_files_of_a_ring_and_tell_what_was_overwritten(tmp_path: Path) -> None:
    ring, indexes = Ring(tmp_path), Indexes()
    for _ in range(3):
        ring.roll()
    found = page(ring.source(), indexes, limit=15)
    assert (numbers(found), found.scanned, found.overwritten) == (list(range(1, 16)), 30, 0)
    ring.roll()
    second = page(ring.source(), indexes, cursor=found.next_cursor, limit=10)
    assert (numbers(second), second.overwritten) == (list(range(16, 26)), 0)
    for _ in range(3):
        ring.roll()
    third = page(ring.source(), indexes, cursor=second.next_cursor, limit=5)
    assert (numbers(third), third.overwritten) == (list(range(41, 46)), 15)
    assert [line.time for line in third.packets] == [41.0, 42.0, 43.0, 44.0, 45.0]
    last = page(ring.source(growing=False), indexes, cursor=third.next_cursor, limit=100)
    assert (numbers(last), last.next_cursor) == (list(range(46, 71)), None)


def test_a_file_that_the_ring_removes_under_a_page_is_passed_over(tmp_path: Path) -> None:
    ring, indexes = Ring(tmp_path), Indexes()
    for _ in range(3):
        ring.roll()
    source = ring.source()
    ring.roll()
    assert numbers(page(source, indexes, limit=3)) == [11, 12, 13]
    ring.parts[-1].path.unlink()
    with pytest.raises(CaptureUnreadable):
        page(ring.source(), indexes)


@given(
    st.lists(st.one_of(st.just("append"), st.integers(1, 7), st.integers(101, 160)), max_size=25),
    st.sampled_from(["pcap", "pcapng"]),
    st.sampled_from(["", OURS]),
)
@example(["append", 3, "append", 3], "pcap", OURS)
@settings(max_examples=150, deadline=None)
def test_growth_pages_and_jumps_in_any_order_find_what_is_there(
    actions: list[str | int], form: str, expression: str
) -> None:
    """A number up to 7 is a page of that size, a larger one a jump."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "f"), form, range(1, 4))
        written, paged, cursor, indexes = 3, list[int](), None, Indexes()
        for action in actions:
            if action == "append":
                with path.open("ab") as file:
                    file.write(b"".join(record(form, written + each) for each in range(1, 6)))
                written += 5
            elif isinstance(action, int) and action > 100:
                found = page(one(path, growing=True), indexes, expression=expression, first=action - 100, limit=4)
                expected = [n for n in range(action - 100, written + 1) if not expression or n % 2 == 0]
                assert numbers(found) == expected[:4]
            elif isinstance(action, int):
                found = page(one(path, growing=True), indexes, expression=expression, cursor=cursor, limit=action)
                cursor = found.next_cursor
                paged += numbers(found)
        assert paged == [n for n in range(1, written + 1) if not expression or n % 2 == 0][: len(paged)]


def test_many_threads_find_the_same(tmp_path: Path) -> None:
    path, indexes = write(tmp_path / "f", "pcap", range(1, 400)), Indexes()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(page, one(path), indexes, first=first, limit=3) for first in range(1, 300, 7)]
        assert [numbers(job.result()) for job in jobs] == [[first, first + 1, first + 2] for first in range(1, 300, 7)]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"limit": 0}, "limit=0 is out of range"),
        ({"limit": 201}, "limit=201 is out of range"),
        ({"first": 0}, "first=0 is no packet's number"),
        ({"first": 2, "cursor": "2-x"}, "first and cursor are both given"),
        ({"cursor": "x"}, "'x' is no cursor"),
        ({"cursor": "-5-00000000"}, "is no cursor"),
        ({"cursor": "5-00000000"}, "the cursor belongs to another file or filter"),
    ],
)
def test_a_question_that_cannot_be_is_refused(tmp_path: Path, question: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        page(one(write(tmp_path / "f", "pcap", range(1, 4))), Indexes(), **question)


def test_a_survey_finds_the_place_before_a_packet() -> None:
    places = tuple(index.IndexEntry(offset, offset // 10, 0, 0) for offset in (30, 60, 90))
    survey = Survey(places=places)
    found: Callable[[int], int | None] = lambda number: place.offset if (place := survey.before(number)) else None  # noqa: E731
    assert [found(each) for each in (0, 2, 3, 5, 6, 9, 100)] == [None, None, 30, 30, 60, 90, 90]
