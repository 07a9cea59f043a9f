"""The journal, the logs of guests, and what is written down of captures and links."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.ask import query
from rawtap.capture.session import CaptureRequest, CaptureSession
from rawtap.guest.console import History
from rawtap.guest.log import GuestLogs
from rawtap.guest.machine import Machine
from rawtap.guest.monitor import EventLog
from rawtap.lab.chronicle import Chronicle
from rawtap.lab.journal import Journal
from rawtap.lab.lab import Lab
from rawtap.lab.observation import GuestNic, Scene
from rawtap.network.watch import Change

modest = settings(max_examples=100, deadline=None, database=None)
SCENE = Scene({"rtap1.0": GuestNic("one", "br0", "52:54:00:00:00:01")}, frozenset({"near0"}))


@modest
@given(st.integers(1, 20), st.integers(0, 50), st.integers(0, 60))
def test_a_journal_keeps_the_newest_and_says_how_many_of_those_asked_for_are_gone(
    limit: int, written: int, position: int
) -> None:
    journal = Journal(limit)
    for number in range(written):
        journal.note("kind", str(number))
    notes, lost = journal.since(position)
    assert journal.end == written
    assert [note.text for note in notes] == [str(number) for number in range(max(position, written - limit), written)]
    assert all(note.text == str(note.number) for note in notes)
    assert lost == max(0, written - limit - position)


def test_notes_of_many_threads_are_all_there_in_the_order_of_their_times() -> None:
    journal = Journal()
    threads = [threading.Thread(target=lambda: [journal.note("k", "t") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes, lost = journal.since(0)
    assert ([note.number for note in notes], lost) == (list(range(1600)), 0)
    times = [note.at_ns for note in notes]
    assert times == sorted(times)


@dataclass
class Counters:
    dropped_kernel: int = 0
    dropped_interface: int = 0
    reason: str | None = "stopped"
    packets: int = 7
    error: Exception | None = None


@dataclass
class Session:
    """Stands for a capture."""

    counters: Counters = field(default_factory=Counters)
    request: CaptureRequest = field(default_factory=lambda: CaptureRequest("br0"))

    def snapshot(self) -> Counters:
        return self.counters


def told(chronicle: Chronicle) -> list[tuple[str, str]]:
    return [(note.kind, note.text) for note in chronicle.journal.since(0)[0]]


def test_drops_are_told_once_when_they_are_seen_and_what_is_left_at_the_end() -> None:
    chronicle, fake = Chronicle(), Session()
    session = cast("CaptureSession", fake)
    chronicle.look_for_drops("c1", session)
    fake.counters = Counters(dropped_kernel=5)
    chronicle.look_for_drops("c1", session)
    chronicle.look_for_drops("c1", session)
    fake.counters = Counters(dropped_kernel=7, dropped_interface=2)
    chronicle.capture_ended("c1", session)
    chronicle.look_for_drops("c1", session)
    assert told(chronicle) == [
        ("dropped", "the kernel dropped 5 packets of capture c1: its ring was full"),
        ("dropped", "the kernel dropped 2 packets of capture c1: its ring was full"),
        ("dropped", "the interface br0 dropped 2 frames before capture c1 saw them"),
        ("capture_ended", "capture c1 ended: stopped, 7 packets in its files"),
    ]


def test_a_capture_that_failed_says_so_at_its_end_and_a_long_text_is_cut() -> None:
    chronicle = Chronicle()
    failed = Session(Counters(reason=None, error=OSError("no " * 300)))
    chronicle.capture_ended("c1", cast("CaptureSession", failed))
    ((_, text),) = told(chronicle)
    assert text.startswith("capture c1 ended: failed, 7 packets in its files, no no")
    assert len(text) == 300


@pytest.mark.parametrize(
    ("name", "what", "note"),
    [
        ("rtap1.0", "down", ("link_down", "link 'rtap1.0', of the guest one, is down", "one")),
        ("br0", "no_carrier", ("link_no_carrier", "link 'br0' has no carrier", None)),
        ("near0", "renamed", ("link_renamed", "link 'near0' was renamed to 'new\\x1b'", None)),
        ("eth0", "down", None),
    ],
)
def test_links_that_may_be_captured_are_told_of_and_the_hosts_own_are_not(
    name: str, what: Any, note: tuple[str, str, str | None] | None
) -> None:
    chronicle = Chronicle()
    chronicle.link_changed(Change(1.0, 2, name, what, "new\x1b" if what == "renamed" else ""), SCENE)
    found = [(each.kind, each.text, each.guest) for each in chronicle.journal.since(0)[0]]
    assert found == ([note] if note else [])


def test_changes_that_were_missed_are_told_of() -> None:
    chronicle = Chronicle()
    chronicle.link_changed(Change(1.0, 0, "", "missed"), SCENE)
    assert [kind for kind, _ in told(chronicle)] == ["link_missed"]


class Screen:
    def __init__(self) -> None:
        self.history = History()


@dataclass
class Guest:
    """Stands for a machine."""

    name: str
    running: bool = True
    console: Screen = field(default_factory=Screen)
    events: EventLog = field(default_factory=EventLog)


@dataclass
class Holder:
    """Stands for a Lab."""

    chronicle: Chronicle = field(default_factory=Chronicle)


def test_a_guests_log_stays_until_its_next_boot_and_of_the_ended_ones_the_newest() -> None:
    logs = GuestLogs()

    def boot(name: str) -> Guest:
        guest = Guest(name)
        logs.begin(cast("Machine", guest))
        return guest

    first = boot("a")
    first.console.history.append(b"12345")
    first.events.note({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})
    first.running = False
    boot("b")
    assert [(log.number, log.name) for log in logs.all()] == [(1, "a"), (2, "b")]
    boot("a")
    assert [(log.number, log.name) for log in logs.all()] == [(2, "b"), (3, "a")]
    gone = logs.forgotten()[1]
    assert (gone.name, gone.console, gone.events) == ("a", 5, 1)
    for number in range(20):
        boot(f"x{number}").running = False
    names = [log.name for log in logs.all()]
    assert names[:2] == ["b", "a"]  # they run
    assert names[2:] == [f"x{number}" for number in range(11, 20)]
    for _ in range(1000):
        boot("b")
    assert len(logs.forgotten()) == 1000


def test_a_question_says_what_of_a_guest_it_was_not_asked_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_LINES", 2)
    guest, lab = Guest("a"), Holder()
    lab.chronicle.logs.begin(cast("Machine", guest))
    guest.console.history.append(b"1\n2\n")
    notes = anyio.run(asked_of, lab)
    assert notes == []
    guest.console.history.append(b"3\n")
    for _ in range(501):
        guest.events.note({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})
    assert anyio.run(asked_of, lab) == [
        "console: only the first 2 lines of the guest a were looked at",
        "events: the first 1 of the guest a's QEMU were forgotten",
    ]


async def asked_of(lab: Holder) -> list[str]:
    """What a question about all that guests said was not asked of."""
    request = query._Request(query.Question("SELECT * FROM console, events", 20))
    await query._add_rows(cast("Lab", lab), request, ())
    return request.notes


def test_qmp_events_have_qemus_time_and_are_shown_bounded_and_harmless() -> None:
    log = EventLog()
    log.note({"event": "STOP", "timestamp": {"seconds": 12, "microseconds": 34}})
    log.note({"event": "X\x1b", "data": {"a": "\u202e" + "y" * 900}, "timestamp": {"seconds": -1, "microseconds": -1}})
    stop, odd = log.since(0, 9)
    assert (stop.at_ns, stop.name, stop.data) == (12_000_034_000, "STOP", "")
    assert (odd.name, len(odd.data), odd.data[:9]) == (r"X\x1b", 300, '{"a":"\\u2')
    assert odd.at_ns > 10**18  # QEMU did not know the time
    for _ in range(600):
        log.note({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}})
    assert (log.start, log.end, len(log.since(0, 10_000))) == (102, 602, 500)
    assert len(log.since(600, 1)) == 1
