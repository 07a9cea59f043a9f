"""What is told of an examination: nothing that had to be asked twice looks like what was right at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rawtap.ask.examine.course import Examination
from rawtap.examine import catalogue
from rawtap.examine.trial import Outcome, Verdict
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
