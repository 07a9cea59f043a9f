"""A verdict is found again for its next pages, and not for another file, filter, or state of the packets."""

from __future__ import annotations

import os
from pathlib import Path

from rawtap.packets.explain import Verdict
from rawtap.packets.verdicts import Given, Subject, Verdicts, state_of

SUBJECT = Subject("c1", (), "udp")
GIVEN = Given(Verdict((), (), (), 7), 99, more=False, lacking=())


def test_a_verdict_is_kept_for_its_next_page() -> None:
    verdicts = Verdicts()
    assert verdicts.find(SUBJECT, None) is None
    verdicts.keep(SUBJECT, GIVEN)
    assert verdicts.find(SUBJECT, None) is verdicts.find(SUBJECT, (7, 99)) is GIVEN


def test_another_verdict_on_the_same_is_not_taken_for_it() -> None:
    verdicts = Verdicts()
    verdicts.keep(SUBJECT, GIVEN)
    assert verdicts.find(SUBJECT, (7, 98)) is verdicts.find(SUBJECT, (8, 99)) is None
    assert verdicts.find(SUBJECT._replace(expression="tcp"), (7, 99)) is None


def test_only_the_last_few_are_kept() -> None:
    verdicts = Verdicts()
    subjects = [Subject(f"c{number}", (), "") for number in range(20)]
    for each in subjects:
        verdicts.keep(each, GIVEN)
    assert [verdicts.find(each, None) is not None for each in subjects] == [False] * 12 + [True] * 8


def test_a_file_that_was_rewritten_is_another_subject(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"1234")
    before = state_of(path)
    assert state_of(path) == before
    path.write_bytes(b"5678")
    os.utime(path, ns=(0, 1))
    assert state_of(path) != before
