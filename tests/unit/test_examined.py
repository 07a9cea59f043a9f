"""What is told of an examination: what had to be asked twice is named, and each frame by its number in the capture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from scapy.utils import wrpcap

from rawtap.ask.examine.course import Examination, _Course
from rawtap.ask.examine.evidence import numbers
from rawtap.examine import catalogue
from rawtap.examine.trial import Deaf, Outcome, Passed, Verdict
from rawtap.packets import decode
from rawtap.tools.examine import _examined


def test_what_was_kept_only_at_the_second_try_is_told() -> None:
    at_once, late = catalogue.SUITES["arp"][:2]
    outcomes = (Outcome(at_once, Verdict.KEPT), Outcome(late, Verdict.KEPT, "at the second try; silent at the first"))
    capture = cast(Any, SimpleNamespace(id="capture-1"))
    done = Examination(
        "10.0.2.15", "10.0.2.250", "echo", 0.1, None, outcomes, capture, Path("a.pcapng"), "", "", 1.0, ((), ())
    )
    told = _examined("guest", done)
    assert told.rules == []
    assert told.suites[0].kept == 2
    assert told.notes == [f"kept only at the second try: {late.name}"]


def test_figures_of_a_transfer_are_told_whether_one_rule_was_asked_for_or_the_suite() -> None:
    loss, noise = catalogue.SUITES["impairments"][-3], catalogue.SUITES["impairments"][-1]
    kept = tuple(Outcome(each, Verdict.KEPT, figures=f"8000 bytes: {each.name[-4:]}") for each in (loss, noise))

    def told(outcomes: tuple[Outcome, ...]) -> Any:
        capture = cast(Any, SimpleNamespace(id="capture-1"))
        numbers: tuple[tuple[int | None, ...], ...] = ((),) * len(outcomes)
        place = ("10.0.2.15", "10.0.2.250", "echo", 0.1, 7)
        return _examined("guest", Examination(*place, outcomes, capture, Path("a.pcapng"), "", "", 1.0, numbers))

    assert told(kept).notes == [f"{loss.name}: 8000 bytes: loss", f"{noise.name}: 8000 bytes: oise"]
    alone = told(kept[:1])
    assert (alone.rules[0].reason, alone.notes) == ("8000 bytes: loss", [])


def test_a_frame_that_passed_another_on_its_way_has_its_number_all_the_same(tmp_path: Path) -> None:
    decode.load()
    first, second, answer, never = (Passed(bytes([each]) * 60, each > 2) for each in range(1, 5))
    path = tmp_path / "capture.pcap"
    captured = [first, answer, second, first, answer, second, answer]
    wrpcap(str(path), [each.data for each in captured], linktype=1)
    (rule, *_) = catalogue.SUITES["tcp"]
    seen_later = Outcome(rule, Verdict.SILENT, frames=(first, second, answer, never))
    once_more = Outcome(rule, Verdict.SILENT, frames=(first, answer, second, answer))
    lost = Outcome(rule, Verdict.SILENT, frames=(answer, never))
    assert numbers(path, [seen_later, once_more, lost]) == ((1, 3, 5, None), (4, 5, 6, 7), (7, None))
    assert numbers(path, [once_more, once_more]) == ((1, 2, 3, 5), (4, 5, 6, 7))
    twice = Outcome(rule, Verdict.VIOLATED, frames=(first, answer, answer, answer))
    assert numbers(path, [twice]) == ((1, 2, 5, 7),)
    alone = tmp_path / "alone.pcap"
    wrpcap(str(alone), [each.data for each in captured[:3]], linktype=1)
    assert numbers(alone, [seen_later, lost]) == ((1, 3, 2, None), (None, None))


def test_on_a_wire_that_was_changed_only_what_qemu_or_the_console_tells_is_a_death() -> None:
    def wrong(told: str, *, is_changed: bool) -> str:
        free, before = SimpleNamespace(locked=lambda: False), object()
        machine = SimpleNamespace(exit=None, trouble_since=lambda _: (told, []))
        guest = SimpleNamespace(machine=machine, lock=free, ended=False)
        plug = SimpleNamespace(lock=free, impairment=object() if is_changed else before)
        course = _Course(*cast(Any, (None, guest, SimpleNamespace(gone=False), None, plug, before, None)))
        return anyio.run(course._wrong)

    assert [wrong(told, is_changed=False) for told in ("", "kernel panic")] == ["", "kernel panic"]
    assert wrong("kernel panic", is_changed=True) == "kernel panic"
    with pytest.raises(Deaf):
        wrong("", is_changed=True)


@pytest.mark.parametrize(("kind", "told", "is_noticed"), [("dhcp", "panic", 1), ("dhcp", "", 0), ("echo", "panic", 0)])
def test_a_guest_that_answers_no_health_check_dies_by_what_its_console_tells(
    kind: str, told: str, is_noticed: int
) -> None:
    async def nothing() -> None:
        return None

    machine = SimpleNamespace(exit=None, trouble_since=lambda _: (told, []), mark=lambda: None)
    guest = SimpleNamespace(machine=machine, lock=SimpleNamespace(locked=lambda: False), ended=False)
    wire, kept = SimpleNamespace(gone=False, frames=[]), SimpleNamespace(restore=nothing)
    examiner = SimpleNamespace(kind=kind, last=b"the frame")
    course = _Course(*cast(Any, (examiner, guest, wire, kept, None, None, None)))
    if not is_noticed:
        anyio.run(course._once_more)
        return
    with pytest.raises(Deaf) as caught:
        anyio.run(course._once_more)
    assert caught.value.sent == b"the frame"
