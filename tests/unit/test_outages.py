"""What happened to a link, from its events."""

from __future__ import annotations

from rawtap.capture.outages import LinkEvent, LinkState, Outage, link_warnings, outages

UP = LinkState(up=True, carrier=True, received=0, sent=0)
NO_CARRIER = LinkState(up=True, carrier=False, received=0, sent=0)


def events(*each: tuple[float, str]) -> list[LinkEvent]:
    return [LinkEvent(at, what) for at, what in each]  # type: ignore[arg-type]


def test_a_quiet_link_has_no_outage() -> None:
    assert outages(UP, [], []) == []
    assert outages(None, [], []) == []
    assert outages(UP, events((1, "renamed"), (2, "missed")), []) == []


def test_down_and_up_again() -> None:
    assert outages(UP, events((1, "down"), (2, "up")), []) == [Outage("down", 1, 2)]


def test_down_until_the_end() -> None:
    assert outages(UP, events((1, "down")), []) == [Outage("down", 1, None)]


def test_no_carrier_from_the_start() -> None:
    assert outages(NO_CARRIER, [], []) == [Outage("no_carrier", 0.0, None)]
    assert outages(NO_CARRIER, events((3, "carrier")), []) == [Outage("no_carrier", 0.0, 3)]


def test_a_carrier_that_comes_a_moment_after_the_link_is_up_is_no_outage() -> None:
    again = events((1, "down"), (2, "up"), (2, "no_carrier"), (2.01, "carrier"))
    assert outages(UP, again, []) == [Outage("down", 1, 2)]
    late = events((1, "down"), (2, "up"), (2, "no_carrier"), (2.5, "carrier"))
    assert outages(UP, late, []) == [Outage("down", 1, 2), Outage("no_carrier", 2, 2.5)]


def test_a_short_loss_of_the_carrier_is_one() -> None:
    assert outages(UP, events((1, "no_carrier"), (1.01, "carrier")), []) == [Outage("no_carrier", 1, 1.01)]


def test_a_short_loss_some_time_after_the_link_came_up_is_one() -> None:
    again = events((1, "down"), (2, "up"), (3, "no_carrier"), (3.01, "carrier"))
    assert outages(UP, again, []) == [Outage("down", 1, 2), Outage("no_carrier", 3, 3.01)]


def test_an_outage_begins_when_it_is_told_first() -> None:
    assert outages(UP, events((1, "down"), (2, "missed"), (2, "down")), []) == [Outage("down", 1, None)]


def test_a_link_goes_down_because_it_is_removed() -> None:
    assert outages(UP, events((1, "down"), (1.01, "removed")), []) == []
    assert outages(UP, events((1, "down"), (5, "removed")), []) == [Outage("down", 1, None)]


def test_a_bridge_loses_its_carrier_with_its_guest_but_does_not_go_down_with_it() -> None:
    assert outages(UP, events((1, "no_carrier")), [1.01]) == []
    assert outages(UP, events((1, "no_carrier")), [4.0]) == [Outage("no_carrier", 1, None)]
    assert outages(UP, events((1, "down")), [1.01]) == [Outage("down", 1, None)]


def test_warnings_tell_what_happened_and_when() -> None:
    found = link_warnings(
        "near0",
        UP,
        [*events((1, "down"), (2, "up"), (3, "no_carrier"), (4, "missed")), LinkEvent(5, "renamed", "b")],
        [],
    )
    assert found == [
        "'near0' was down from 1.00 s to 2.00 s after the start",
        "'near0' lost its carrier 3.00 s after the start and stayed so",
        "interfaces changed 4.00 s after the start faster than could be followed: some changes are not told here",
        "'near0' was renamed to 'b' 5.00 s after the start",
    ]
    assert link_warnings("near0", UP, events((1, "removed")), []) == ["'near0' was removed 1.00 s after the start"]


def test_what_was_so_before_the_start_is_no_warning() -> None:
    assert link_warnings("near0", NO_CARRIER, events((3, "carrier")), []) == []


def test_warnings_are_few_however_much_happened() -> None:
    found = link_warnings("near0", UP, events(*((at, "up" if at % 2 else "down") for at in range(2, 102))), [])
    assert len(found) == 6
    assert found[-1] == "'near0' changed 45 more times"
