"""What a watcher's lines say."""

from __future__ import annotations

from typing import Any

import pytest

from rawtap.verbs.lines import Whole, in_a_line
from rawtap.verbs.output import BAD_NEWS, WELL
from rawtap.verbs.writing import how_it_ended


def piece(text: str, start: int, end: int, *, unfinished: bool = True, guest: str = "a", time: float = 1.0) -> Any:
    told = {"source": "console", "guest": guest, "text": text, "bytes": [start, end], "time": time}
    return told | ({"unfinished": True} if unfinished else {})


def texts(whole: Whole, *events: Any, **page: Any) -> list[str]:
    return [each["text"] for each in whole.of({"events": list(events), **page})]


def test_a_line_that_comes_in_pieces_is_one_line_and_each_guest_has_its_own() -> None:
    whole = Whole()
    assert texts(whole, piece("N", 0, 1), piece("x", 0, 1, guest="b")) == []
    assert texts(whole, piece("et", 1, 3)) == []
    assert texts(whole, piece(": eth0", 3, 10, unfinished=False)) == ["Net: eth0"]
    assert texts(whole, bye="the end") == ["x"]


def test_what_a_guest_said_last_is_told_where_no_page_follows() -> None:
    whole = Whole()
    assert texts(whole, piece("panic: ", 0, 7)) == []
    assert [each["text"] for each in whole.rest()] == ["panic: "]
    assert whole.rest() == []


def test_a_piece_whose_end_came_behind_it_is_a_line_of_its_own() -> None:
    assert texts(Whole(), piece("echo", 0, 5), piece("answer", 7, 14, unfinished=False)) == ["echo", "answer"]


def test_a_prompt_does_not_wait_for_ever() -> None:
    whole = Whole()
    pages = [texts(whole, piece("=> ", 0, 3)), *(texts(whole) for _ in range(6))]
    assert pages.count(["=> "]) == 1
    assert pages.count([]) == 6
    assert pages[0] == []


def test_no_terminal_obeys_what_a_guest_says() -> None:
    said = in_a_line({"source": "console", "guest": "a", "text": "\x1b]0;title\x07\u202e[red]", "time": 0.5})
    assert said.endswith("console a \\x1b]0;title\\x07\\u202e[red]")
    assert in_a_line({"source": "qmp", "guest": "a", "kind": "RESET", "text": "{}"}).split() == [
        "qmp",
        "a",
        "RESET",
        "{}",
    ]


def test_an_end_of_which_nobody_knows_what_was_lost_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    ended = {"packets": 9, "before": 4, "passed": 2, "dropped": 0, "error": None}
    assert how_it_ended("c1", ended) == WELL
    assert how_it_ended("c1", ended | {"dropped": None}) == BAD_NEWS
    said = "9 packets, the first 4 of them removed by its ring before this began, 2 of the others pass the filter"
    assert capsys.readouterr().err == "".join(
        f"rawtap: c1 has ended: {said}; dropped: {each}\n" for each in ("0", "not known")
    )
