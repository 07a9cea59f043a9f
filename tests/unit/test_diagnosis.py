"""Why a capture saw nothing: the strongest evidence speaks."""

from __future__ import annotations

from dataclasses import replace

from rawtap.capture.diagnosis import Evidence, LinkState, explain_empty


def link(packets: int, *, up: bool = True, carrier: bool = True) -> LinkState:
    return LinkState(up=up, carrier=carrier, packets=packets)


# Forty frames passed by, and the filter wanted none of them.
FILTERED = Evidence(
    interface="rvos-br0",
    filter="udp port 53",
    duration=2.34,
    dropped=0,
    before=link(60),
    after=link(100),
    error=None,
)


def test_a_filter_that_matched_nothing_is_told_with_the_frames_that_passed() -> None:
    text = explain_empty(FILTERED)
    assert "The filter 'udp port 53' matched none of about 40 frames" in text
    assert "rvos-br0" in text
    assert "2.3 s" in text
    assert "without a filter" in text


def test_a_silent_wire_is_not_blamed_on_the_filter() -> None:
    text = explain_empty(replace(FILTERED, after=FILTERED.before))
    assert "rvos-br0 carried no frame at all in 2.3 s" in text
    assert "udp port 53" not in text


def test_counters_that_went_backwards_are_a_silent_wire() -> None:
    assert "carried no frame at all" in explain_empty(replace(FILTERED, after=link(5)))


def test_one_frame_is_enough_not_to_be_silent() -> None:
    assert "about 1 frames" in explain_empty(replace(FILTERED, after=link(61)))


def test_frames_that_passed_a_capture_without_a_filter_are_owned_up_to() -> None:
    text = explain_empty(replace(FILTERED, filter=""))
    assert "counted 40 frames in 2.3 s, but none was seen" in text
    assert "filter" not in text


def test_without_the_first_counters_nothing_is_made_up() -> None:
    assert explain_empty(replace(FILTERED, before=None)) == "No packet matched on rvos-br0 in 2.3 s."


def test_no_carrier_comes_before_the_filter() -> None:
    assert "rvos-br0 has no carrier" in explain_empty(replace(FILTERED, after=link(100, carrier=False)))


def test_down_comes_before_no_carrier() -> None:
    text = explain_empty(replace(FILTERED, after=link(100, up=False, carrier=False)))
    assert "rvos-br0 is down" in text
    assert "carrier" not in text


def test_an_interface_that_was_removed_is_called_gone() -> None:
    assert "rvos-br0 is gone" in explain_empty(replace(FILTERED, after=None))


def test_an_interface_that_was_never_seen_is_called_gone() -> None:
    assert "rvos-br0 is gone" in explain_empty(replace(FILTERED, before=None, after=None))


def test_drops_come_before_the_state_of_the_link() -> None:
    text = explain_empty(replace(FILTERED, dropped=7, after=None))
    assert "All 7 packets that matched were dropped" in text
    assert "gone" not in text


def test_an_error_comes_before_everything() -> None:
    text = explain_empty(replace(FILTERED, error="the disk caught fire", dropped=7, after=None))
    assert text == "The capture failed before it saw a packet: the disk caught fire"


def test_a_text_of_the_users_cannot_break_the_line() -> None:
    assert "\n" not in explain_empty(replace(FILTERED, filter="icmp\nThe capture is fine."))
