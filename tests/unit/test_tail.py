"""A capture's packets over all of its files, while files come and go."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reader import ARP, UDP, Packet, enhanced, interface, pcap, pcapng

from rawtap.errors import BadFilter, CaptureUnreadable
from rawtap.packets.tail import Part, Tail, behind

modest = settings(max_examples=60, deadline=None, database=None)


class Ring:
    """Files of a capture, packets numbered by their seconds; every third is ARP."""

    def __init__(self, folder: Path, *, ng: bool = False) -> None:
        self.folder, self.ng = folder, ng
        self.files: list[tuple[Path, int]] = []
        self.made = self.count = 0

    def begin(self) -> None:
        self.made += 1
        path = self.folder / f"{self.made}.pcap"
        path.write_bytes(pcapng("<", interface("<")) if self.ng else pcap([], "<"))
        self.files.append((path, self.count))

    def add(self, count: int) -> None:
        with self.files[-1][0].open("ab") as file:
            for _ in range(count):
                self.count += 1
                data = ARP if self.count % 3 == 0 else UDP
                packet = Packet(self.count, 0, data, len(data))
                file.write(enhanced("<", packet) if self.ng else pcap([packet], "<")[24:])

    def remove(self) -> None:
        self.files.pop(0)[0].unlink()

    def there(self) -> list[Part]:
        first = self.made - len(self.files) + 1
        return [Part(number, *file) for number, file in enumerate(self.files, first)]


def rest(tail: Tail) -> list[int]:
    found = []
    while taken := tail.take(1):
        found.append(taken[0].time_ns // 1_000_000_000)
        assert taken[0].number == found[-1]
    return found


def tail_of(ring: Ring, expression: str = "", packets: int = 0, offset: int | None = None) -> Tail:
    return Tail(ring.there, expression, behind(ring.there(), packets, offset))


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    made = Ring(tmp_path)
    made.begin()
    return made


@pytest.mark.parametrize("ng", [False, True])
@pytest.mark.parametrize("expression", ["", "arp"])
def test_every_place_goes_on_where_it_was_given(ng: bool, expression: str, tmp_path: Path) -> None:
    ring = Ring(tmp_path, ng=ng)
    for count in (4, 0, 5, 1, 3):
        ring.begin()
        ring.add(count)
    wanted = [number for number in range(1, 14) if not expression or number % 3 == 0]
    assert rest(tail_of(ring, expression)) == wanted
    place: tuple[int, int | None] = (0, None)
    found = []
    tail = tail_of(ring, expression)
    while taken := tail.take(1):
        (raw,) = taken
        assert tail.before is not None
        again = tail_of(ring, expression, raw.number - 1, tail.before)
        assert again.take(1) == [raw]
        assert (again.reached, again.offset, again.missed) == (raw.number, tail.offset, 0)
        found.append(raw.number)
        place = (tail.reached, tail.offset)
        tail = tail_of(ring, expression, *place)
    assert found == wanted


def test_a_place_without_an_offset_is_found_from_its_files_beginning(ring: Ring) -> None:
    ring.add(3)
    ring.begin()
    ring.add(3)
    assert [rest(tail_of(ring, "", packets)) for packets in (1, 3, 5)] == [[2, 3, 4, 5, 6], [4, 5, 6], [6]]


def test_a_place_behind_what_does_not_pass_is_the_end_and_is_gone_on_from(ring: Ring) -> None:
    ring.add(2)
    tail = tail_of(ring, "arp")
    assert tail.take(1) == []
    assert tail.reached == 2
    ring.add(1)
    assert rest(tail_of(ring, "arp", tail.reached, tail.offset)) == [3]
    assert rest(tail) == [3]


def test_packets_that_a_ring_removed_are_counted(ring: Ring) -> None:
    ring.add(3)
    for _ in range(3):
        ring.begin()
        ring.add(2)
    ring.remove()
    ring.remove()
    tail = tail_of(ring, "", 1, 70)
    assert rest(tail) == [6, 7, 8, 9]
    assert (tail.missed, tail.reached) == (4, 9)


def test_a_file_that_is_cut_away_while_it_is_read_is_counted_as_removed(ring: Ring) -> None:
    """A ring's oldest file loses its end first, bit by bit, after its name."""
    ring.add(5)
    ring.begin()
    ring.add(1)
    path = ring.files[0][0]
    path.write_bytes(path.read_bytes()[:-50])
    tail = tail_of(ring)
    assert rest(tail) == [1, 2, 3, 4, 6]
    assert tail.missed == 1


def test_what_is_added_to_a_file_before_the_next_one_begins_is_not_missed(ring: Ring) -> None:
    ring.add(2)
    tail = Tail(there := _Adding(ring), "", behind(ring.there(), 0, None))
    assert rest(tail) == [1, 2, 3, 4, 5]
    assert (tail.missed, there.asked > 2) == (0, True)


class _Adding:
    """The files of a ring to which something is added right after they were listed for the second time."""

    def __init__(self, ring: Ring) -> None:
        self.ring, self.asked = ring, 0

    def __call__(self) -> list[Part]:
        listed = self.ring.there()
        self.asked += 1
        if self.asked == 2:
            self.ring.add(2)
            self.ring.begin()
            self.ring.add(1)
        return listed


def test_a_file_that_vanishes_between_the_list_and_the_look_is_no_error(ring: Ring) -> None:
    ring.add(2)
    ring.begin()
    ring.add(2)
    listed = ring.there()
    ring.remove()
    tail = Tail(lambda: listed, "", behind(listed, 0, None))
    assert rest(tail) == [3, 4]
    assert tail.missed == 2


def test_a_newest_file_that_somebody_removed_has_nothing_more(ring: Ring) -> None:
    ring.files[0][0].unlink()
    assert tail_of(ring).take(1) == []


@modest
@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_place_that_is_none_finds_rubbish_at_worst(
    tmp_path_factory: pytest.TempPathFactory, end: bytes, at: int
) -> None:
    ring = Ring(tmp_path_factory.mktemp("ring"))
    ring.begin()
    ring.add(3)
    with ring.files[0][0].open("ab") as file:
        file.write(end)
    assert len(tail_of(ring, "", 1, at).take(30)) < 30


def test_errors_are_those_of_the_other_tools(ring: Ring) -> None:
    with pytest.raises(BadFilter):
        tail_of(ring, "no such thing").take(1)
    ring.files[0][0].write_bytes(struct.pack("<6I", *range(6)))
    with pytest.raises(CaptureUnreadable):
        tail_of(ring).take(1)
