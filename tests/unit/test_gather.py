"""Which of a capture's packets belong to a page, and how far it has been read after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio
import pytest
from test_tail import Ring

from rawtap.ask.timeline.gather import Question, _Gathering, _Packets
from rawtap.ask.timeline.merge import Position
from rawtap.errors import CaptureFailed
from rawtap.lab.captures import Capture
from rawtap.lab.observation import Scene
from rawtap.packets.tail import Part

SECOND = 1_000_000_000


@dataclass
class Session:
    """Stands for a capture that has a ring's files, as far as a page looks at it."""

    ring: Ring
    running: bool = True
    started_ns: int = SECOND

    @property
    def saved(self) -> int:
        return self.ring.count


@dataclass
class Named:
    id: str
    session: Session
    notifier: object = None

    def parts(self) -> list[Part]:
        return self.session.ring.there()


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    made = Ring(tmp_path)
    made.begin()
    return made


def packets(session: Session, at: int, place: Position = (0, 0), expression: str = "") -> _Packets:
    """Its stream for a page whose moment is second `at`; packets are stamped with their numbers, in seconds."""
    capture = cast("Capture", Named("c1", session))
    return _Packets(capture, 1, expression, place, at * SECOND, Scene())


def seconds(stream: _Packets) -> list[int]:
    return [item.at_ns // SECOND for item in stream.items()]


def test_a_packet_that_is_younger_than_the_page_waits_for_the_next_one(ring: Ring) -> None:
    ring.add(2)
    session = Session(ring)
    stream = packets(session, at=4)
    ring.add(3)  # while the capture caught up: 3 and 4 were on the wire before the page's moment, 5 was not
    assert seconds(stream) == [1, 2, 3, 4]
    assert stream.end[0] == 4
    assert seconds(packets(session, at=9, place=stream.end)) == [5]


def test_a_packet_that_was_saved_is_told_whatever_its_stamp_says(ring: Ring) -> None:
    """The clock may have been set back since."""
    ring.add(3)
    stream = packets(Session(ring), at=1)
    ring.add(1)
    assert seconds(stream) == [1, 2, 3]


def test_a_filter_that_selects_nothing_is_not_run_over_the_same_packets_again(ring: Ring) -> None:
    ring.add(5)
    stream = packets(Session(ring), at=9, expression="udp port 9")
    assert seconds(stream) == []
    assert stream.end[0] == 5


def test_a_capture_is_done_when_it_has_ended_and_all_was_read_or_is_gone(ring: Ring) -> None:
    ring.add(2)
    running = packets(Session(ring), at=9)
    ended = packets(Session(ring, running=False), at=9)
    assert not running.is_done((2, 0))
    assert not ended.is_done((1, 0))
    assert ended.is_done((2, 0))
    ring.files[0][0].unlink()
    assert seconds(ended) == []
    assert ended.is_done(ended.end)
    assert ended.gone == 2


def test_what_a_capture_has_not_written_yet_is_not_gone(ring: Ring) -> None:
    ring.add(2)
    stream = packets(Session(ring), at=9)
    stream.late = True
    path = ring.files[0][0]
    path.write_bytes(path.read_bytes()[:-10])
    assert seconds(stream) == [1]
    assert (stream.gone, stream.end[0]) == (0, 1)


@dataclass
class Stuck:
    """Stands for the notifier of a capture that waits for a disk."""

    async def caught_up(self) -> None:
        raise CaptureFailed("the capture does not get on", evidence="it saved nothing", cure="See to the disk")


def test_a_capture_that_does_not_get_on_is_told_of_and_holds_no_page_up(ring: Ring) -> None:
    ring.add(2)
    stuck, ended = packets(Session(ring), at=9), packets(Session(ring, running=False), at=9)
    for each in (stuck, ended):
        each.capture.notifier = Stuck()
    gathering = _Gathering(Question(), {}, 10, 9 * SECOND, packets=[stuck, ended])
    anyio.run(gathering.catch_up)
    assert (stuck.late, ended.late) == (True, False)
    (warning,) = gathering.warnings
    assert warning.startswith("the newest packets of c1 may come late, on a later page: capture.failed: ")


def test_what_a_ring_removed_before_it_was_read_is_counted(ring: Ring) -> None:
    ring.add(3)
    ring.begin()
    ring.add(2)
    ring.remove()
    stream = packets(Session(ring), at=9)
    assert seconds(stream) == [4, 5]
    assert stream.gone == 3
