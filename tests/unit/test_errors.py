"""The error tree: its codes, its drawing, its words."""

from __future__ import annotations

import inspect
import re

import pytest

from rawtap import errors
from rawtap.errors import BadFilter, CapturePermission, RawtapError

ALL = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and issubclass(thing, RawtapError) and thing.__module__ == errors.__name__
}
CONCRETE = [thing for thing in ALL.values() if not thing.__subclasses__()]


def drawn() -> list[tuple[str, str, str]]:
    """Name, parent and code of every class in the docstring's tree; the code is "" where none is drawn."""
    above = {0: "RawtapError"}
    found = [("RawtapError", "Exception", "")]
    for branch, name, code in re.findall(
        r"^ {4}([│ ]*[├└]── )(\w+)(?:[ ]+([a-z_]+\.[a-z_]+))?", errors.__doc__ or "", re.MULTILINE
    ):
        depth = len(branch) // 4
        above[depth] = name
        found.append((name, above[depth - 1], code))
    return found


def test_the_drawn_tree_names_exactly_the_classes_their_parents_and_their_codes() -> None:
    assert len(CONCRETE) > 20
    exist = [(name, thing.__mro__[1].__name__, vars(thing).get("code", "")) for name, thing in ALL.items()]
    assert sorted(drawn()) == sorted(exist)


def test_every_concrete_error_has_a_code_that_no_other_has() -> None:
    codes = [vars(thing)["code"] for thing in CONCRETE]
    assert len(set(codes)) == len(codes)


def test_an_error_that_is_only_a_family_has_no_code() -> None:
    families = [thing for thing in ALL.values() if thing.__subclasses__()]
    names = {
        "RawtapError",
        "CaptureError",
        "DebugError",
        "NetworkError",
        "GuestError",
        "QueryError",
        "DissectorError",
        "PictureError",
    }
    assert {family.__name__ for family in families} == names
    assert not any(hasattr(family, "code") for family in families)


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_a_code_says_its_family(kind: type[RawtapError]) -> None:
    family = kind.__mro__[1].__name__.removesuffix("Error").lower()
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind.code)
    assert family == "rawtap" or kind.code.startswith(f"{family}.")


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_the_text_is_code_problem_evidence_cure(kind: type[RawtapError]) -> None:
    error = kind("it broke", evidence="errno 5", cure="Mend it")
    assert str(error) == f"{kind.code}: it broke (errno 5). Mend it"


def test_without_evidence_there_are_no_empty_brackets() -> None:
    assert str(CapturePermission("it broke", cure="Mend it")) == "capture.permission: it broke. Mend it"


def test_the_parts_of_an_error_can_be_asked_for() -> None:
    error = CapturePermission("it broke", evidence="errno 1", cure="Mend it")
    assert (error.problem, error.evidence, error.cure) == ("it broke", "errno 1", "Mend it")


def test_a_bad_filter_shows_the_filter_and_the_reason() -> None:
    text = str(BadFilter.because("udp prot 53", "syntax error"))
    assert text.startswith("capture.bad_filter: the filter 'udp prot 53' cannot be used (syntax error). ")
    assert "pcap-filter(7)" in text


def test_a_filter_of_300_characters_is_shown_whole_and_a_longer_one_is_cut() -> None:
    assert "'" + "a" * 300 + "'" in str(BadFilter.because("a" * 300, "too long"))
    assert "'" + "a" * 300 + "...'" in str(BadFilter.because("a" * 301, "too long"))
