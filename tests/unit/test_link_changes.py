"""What is new about an interface from one message to the next."""

from __future__ import annotations

from dataclasses import replace

from rawtap.network.links import Link
from rawtap.network.watch import Change, differences

UP = Link(
    index=7, name="near0", kind="veth", alias=None, mac=None, master=None, up=True, carrier=True, received=3, sent=4
)
NO_CARRIER = replace(UP, carrier=False)
DOWN = replace(UP, up=False, carrier=False)


def what(old: Link | None, new: Link | None) -> list[str]:
    return [change.what for change in differences(old, new, 1.5)]


def test_a_message_that_only_repeats_the_state_is_no_change() -> None:
    assert differences(UP, replace(UP, received=100, sent=200, master=4, alias="x"), 1.5) == []


def test_what_came_and_what_went() -> None:
    assert differences(None, UP, 1.5) == [Change(1.5, 7, "near0", "added")]
    assert differences(UP, None, 1.5) == [Change(1.5, 7, "near0", "removed")]
    assert differences(None, None, 1.5) == []


def test_down_takes_the_carrier_with_it_and_is_told_once() -> None:
    assert what(UP, DOWN) == ["down"]
    assert what(NO_CARRIER, DOWN) == ["down"]
    assert what(DOWN, UP) == ["up"]


def test_up_without_a_carrier_is_told_as_both() -> None:
    assert what(DOWN, NO_CARRIER) == ["up", "no_carrier"]


def test_the_carrier_of_an_interface_that_stays_up() -> None:
    assert what(UP, NO_CARRIER) == ["no_carrier"]
    assert what(NO_CARRIER, UP) == ["carrier"]


def test_the_carrier_of_an_interface_that_is_down_is_nobodys_business() -> None:
    assert what(DOWN, replace(DOWN, carrier=True)) == []


def test_a_new_name_comes_with_both_and_before_what_else_changed() -> None:
    assert differences(UP, replace(DOWN, name="other"), 1.5) == [
        Change(1.5, 7, "near0", "renamed", "other"),
        Change(1.5, 7, "other", "down"),
    ]
