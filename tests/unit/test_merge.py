"""The timeline's pages: whatever their sizes, together they are everything, once and in order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.ask.timeline import cursor
from rawtap.ask.timeline.merge import SOURCES, Item, Listed, Position, SourceName, merge
from rawtap.errors import RequestInvalid

modest = settings(max_examples=200, deadline=None, database=None)

NAMES: dict[str, SourceName] = {"j": "event", "g1c": "console", "g1q": "qmp", "g2c": "console", "b": "packet"}
ROOM = 100_000


def item(name: str, number: int, at_ns: int, text: str = "") -> Item:
    return Item(at_ns, NAMES[name], text or f"{name}-{number}", (number,), (number + 1,))


def streams(events: dict[str, list[int]], places: dict[str, Position], limit: int = 10_000) -> list[Listed]:
    """Streams of events at these times, from these places on, each cut as it is when it is long."""
    made = []
    for name, times in events.items():
        (start,) = places.get(name, (0,))
        listed = [item(name, number, at) for number, at in enumerate(times)][start : start + limit + 1]
        made.append(Listed(name, NAMES[name], listed, (start,), (start + len(listed),)))
    return made


def told(items: Sequence[Item]) -> list[str]:
    return [each.text for each in items]


TIMES = st.lists(st.integers(0, 60), max_size=25)
EVENTS = st.fixed_dictionaries(dict.fromkeys(NAMES, TIMES))
IN_ORDER = st.fixed_dictionaries(dict.fromkeys(NAMES, TIMES.map(sorted)))


@modest
@given(EVENTS, st.lists(st.integers(1, 9), min_size=1))
def test_pages_of_any_size_are_the_whole_in_its_order_even_when_clocks_go_back(
    events: dict[str, list[int]], sizes: list[int]
) -> None:
    whole = merge(streams(events, {}), 10_000, ROOM)
    assert not whole.more
    assert sorted(told(whole.items)) == sorted(f"{name}-{n}" for name in events for n in range(len(events[name])))
    found: list[str] = []
    places: dict[str, Position] = {}
    for number in range(1000):
        limit = sizes[number % len(sizes)]
        page = merge(streams(events, places, limit), limit, ROOM)
        assert len(page.items) <= limit
        found += told(page.items)
        places = cursor.decode(cursor.encode(page.places, "question"), "question")
        if not page.more:
            break
    assert found == told(whole.items)
    for name, times in events.items():
        assert [each for each in found if each.startswith(f"{name}-")] == [f"{name}-{n}" for n in range(len(times))]


@modest
@given(IN_ORDER, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=40))
def test_what_comes_between_the_pages_is_told_once_and_in_order(
    events: dict[str, list[int]], calls: list[tuple[int, int]]
) -> None:
    """Each call finds what came up to its moment, which is never before the moment of the call before it."""
    whole = merge(streams(events, {}), 10_000, ROOM)
    found: list[Item] = []
    places: dict[str, Position] = {}
    now = 0
    for moment, limit in [*calls, (61, 10_000)]:
        now = max(now, moment)
        there = {name: [at for at in times if at < now] for name, times in events.items()}
        page = merge(streams(there, places, limit), limit, ROOM)
        found += page.items
        places = page.places
    assert [(each.at_ns, each.text) for each in found] == [(each.at_ns, each.text) for each in whole.items]


def test_things_of_one_moment_are_in_the_order_of_their_sources() -> None:
    given_last_first = {name: [5] for name in reversed(NAMES)}
    found = merge(streams(given_last_first, {}), 10, ROOM).items
    assert [SOURCES.index(each.source) for each in found] == sorted(SOURCES.index(source) for source in NAMES.values())


def test_a_page_holds_what_fits_and_the_first_event_in_any_case() -> None:
    listed = [item("j", number, number, "x" * 300) for number in range(5)]
    stream = Listed("j", "event", listed, (0,), (5,))
    assert len(merge([stream], 5, 1).items) == 1
    page = merge([stream], 5, 1000)
    assert (len(page.items), page.places, page.more) == (2, {"j": (2,)}, True)


class Dear:
    """A stream that may not be begun."""

    name, source, not_before_ns, start, end = "c1", "packet", 100, (7, 9), (0, 0)

    def items(self) -> None:
        raise AssertionError("begun")


def test_a_stream_whose_time_has_not_come_is_not_begun_and_keeps_its_place() -> None:
    cheap = streams({"j": [1, 2, 99]}, {})
    page = merge([Dear(), *cheap], 3, ROOM)  # type: ignore[list-item]
    assert (len(page.items), page.places["c1"], page.more) == (3, (7, 9), True)
    with pytest.raises(AssertionError, match="begun"):
        merge([Dear(), *cheap], 4, ROOM)  # type: ignore[list-item]


PLACES = st.dictionaries(
    st.sampled_from(["j", "b", "d", "g1c", "g12q"]), st.tuples(st.integers(0, 10**18 - 1)), min_size=1
) | st.dictionaries(st.sampled_from(["c1", "c20"]), st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1)


@modest
@given(PLACES, st.text())
def test_a_cursor_gives_back_its_places_for_its_question_only(places: dict[str, Position], question: str) -> None:
    text = cursor.encode(places, question)
    assert cursor.decode(text, question) == places
    with pytest.raises(RequestInvalid, match="another question"):
        cursor.decode(text, question + "!")


@modest
@given(PLACES, st.data())
def test_a_cursor_with_a_wrong_character_is_refused(places: dict[str, Position], data: st.DataObject) -> None:
    text = cursor.encode(places, "question")
    at = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(st.sampled_from("0123456789abcdefgjkq-. ٣").filter(lambda char: char != text[at]))
    with pytest.raises(RequestInvalid):
        cursor.decode(text[:at] + wrong + text[at + 1 :], "question")


@modest
@given(st.text() | st.from_regex(r"([jbd]-\d+\.){,3}k[0-9a-f]{8}"))
def test_garbage_is_no_cursor(text: str) -> None:
    with pytest.raises(RequestInvalid):
        cursor.decode(text, "question")


@pytest.mark.parametrize("body", ["c1-5", "j-1-2", "g1x-3", "j--1", "x-1", "", "c1-1-9999999999999999999"])
def test_a_place_that_no_stream_has_is_refused_whatever_its_checksum(body: str) -> None:
    with pytest.raises(RequestInvalid, match="is no cursor"):
        cursor.decode(f"{body}.{cursor._check(body, 'question')}", "question")
