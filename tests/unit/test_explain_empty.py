"""Why a capture saw nothing: each cause by its own evidence, the most decisive first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as some

from rawtap.capture.diagnosis import Elsewhere, Evidence, GuestTraffic, explain_empty
from rawtap.capture.outages import LinkEvent, LinkState


def link(packets: int, *, up: bool = True, carrier: bool = True) -> LinkState:
    return LinkState(up=up, carrier=carrier, received=packets, sent=0)


# Forty frames passed by, by the interface's counter, and the filter wanted none of them.
FILTERED = Evidence(
    interface="rvos-br0",
    filter="udp port 53",
    duration=2.34,
    dropped=0,
    before=link(60),
    after=link(100),
    error=None,
)
SILENT = replace(FILTERED, after=FILTERED.before)
MUTE = GuestTraffic("guest", "rtap1.0", sent=0, received=0)
BUSY = replace(MUTE, guest="busy", tap="rtap1.1", sent=9)


def test_a_packet_larger_than_the_file_is_the_cause_whatever_else_passed() -> None:
    full = replace(FILTERED, filter="", frames_seen=40, dropped=3, full_at=4096)
    assert explain_empty(full) == (
        "The first packet that matched does not fit into a file of max_bytes=4096, which ended the capture. "
        "Capture again with a larger max_bytes, or a snaplen that cuts packets."
    )


# ------------------------------------------------------------ the filter


def test_a_filter_that_matched_nothing_is_told_with_the_frames_and_protocols_that_passed() -> None:
    kinds = (("ARP", 12), ("IPv4 UDP port 53", 3))
    text = explain_empty(replace(FILTERED, frames_seen=15, kinds=kinds, kinds_sampled=15))
    assert text == (
        "The filter 'udp port 53' matched none of 15 frames that 'rvos-br0' carried in 2.3 s: 12 'ARP', "
        "3 'IPv4 UDP port 53'. Capture without a filter, or with one for these."
    )


def test_a_sample_of_the_frames_is_called_one() -> None:
    text = explain_empty(replace(FILTERED, frames_seen=5000, kinds=(("ARP", 64),), kinds_sampled=64))
    assert "none of 5000 frames" in text
    assert ": 64 'ARP' (of 64 looked at)." in text


def test_of_many_protocols_the_first_are_named() -> None:
    kinds = tuple((f"kind {number}", 1) for number in range(9))
    text = explain_empty(replace(FILTERED, frames_seen=9, kinds=kinds, kinds_sampled=9))
    assert "1 'kind 4', and others." in text
    assert "kind 5" not in text


def test_without_a_count_of_the_captures_own_the_interfaces_counter_speaks() -> None:
    text = explain_empty(FILTERED)
    assert "The filter 'udp port 53' matched none of about 40 frames that 'rvos-br0' carried in 2.3 s." in text
    assert "without a filter" in text


def test_one_frame_is_enough_not_to_be_silent() -> None:
    assert "about 1 frame that" in explain_empty(replace(FILTERED, after=link(61)))


def test_received_and_sent_both_count() -> None:
    after = replace(link(62), sent=3)
    assert "about 5 frames" in explain_empty(replace(FILTERED, after=after))


def test_frames_that_passed_a_capture_without_a_filter_are_owned_up_to() -> None:
    text = explain_empty(replace(FILTERED, filter=""))
    assert "counted 40 frames in 2.3 s, but none was seen" in text
    assert "filter" not in text


# ------------------------------------------------------------ silence


def test_a_silent_wire_is_not_blamed_on_the_filter() -> None:
    text = explain_empty(SILENT)
    assert "'rvos-br0' carried no frame at all in 2.3 s." in text
    assert "Make the guest send something" in text
    assert "udp port 53" not in text


def test_counters_that_went_backwards_are_a_silent_wire() -> None:
    assert "carried no frame at all" in explain_empty(replace(FILTERED, after=link(5)))


def test_without_counters_nothing_is_made_up() -> None:
    assert explain_empty(replace(FILTERED, before=None)) == "No packet matched on 'rvos-br0' in 2.3 s."


def test_a_guest_that_never_transmitted_is_named() -> None:
    text = explain_empty(replace(SILENT, guests=(MUTE, BUSY)))
    assert "carried no frame at all" in text
    assert "The guest 'guest' transmitted no frame (its TAP is 'rtap1.0')." in text
    assert "qemu_send" in text
    assert "'busy'" not in text


def test_a_guest_that_ended_before_it_transmitted_is_told_with_the_time() -> None:
    text = explain_empty(replace(SILENT, guests=(replace(MUTE, ended=1.25),)))
    assert "The guest 'guest' transmitted no frame before it ended 1.25 s after the start" in text


def test_a_guest_that_was_spoken_to_and_never_answered() -> None:
    silent = replace(MUTE, received=3)
    text = explain_empty(replace(FILTERED, filter="icmp", frames_seen=3, guests=(silent,)))
    assert text.startswith("The filter 'icmp' matched none of 3 frames")
    assert "Only the host's side transmitted: 3 frames went to the guest 'guest', which sent none." in text
    assert "qemu_read" in text


def test_where_another_guest_transmitted_it_was_not_only_the_host() -> None:
    text = explain_empty(replace(FILTERED, frames_seen=9, guests=(replace(MUTE, received=3), BUSY)))
    assert "The guest 'guest' transmitted no frame" in text
    assert "Only the host" not in text


def test_traffic_elsewhere_is_told_with_the_call_that_captures_it() -> None:
    elsewhere = (Elsewhere("rvos-br0", 12, ("guest",)), Elsewhere("rtap1.0", 14))
    text = explain_empty(replace(SILENT, interface="near0", elsewhere=elsewhere))
    assert "'near0' carried no frame at all" in text
    assert "Meanwhile 12 frames passed 'rvos-br0' (guest 'guest') and 14 frames passed 'rtap1.0'" in text
    assert 'qemu_pcap_start(interface="rvos-br0")' in text


def test_traffic_elsewhere_is_beside_the_point_where_there_was_traffic_here() -> None:
    elsewhere = (Elsewhere("rtap1.0", 14),)
    assert "rtap1.0" not in explain_empty(replace(FILTERED, elsewhere=elsewhere))
    assert "rtap1.0" not in explain_empty(replace(SILENT, frames_seen=1, elsewhere=elsewhere))


# ------------------------------------------------------------ the link


def test_an_interface_that_went_down_and_stayed_so_comes_before_the_filter() -> None:
    events = (LinkEvent(1.2, "down"),)
    text = explain_empty(replace(FILTERED, after=link(100, up=False, carrier=False), events=events))
    assert text.startswith("The interface 'rvos-br0' went down 1.20 s after the start and stayed so. Bring it up")
    assert "matched none of about 40 frames" in text


def test_an_interface_that_was_down_for_a_while_comes_after_the_filter_and_before_silence() -> None:
    events = (LinkEvent(1.2, "down"), LinkEvent(1.4, "up"))
    told = "The interface 'rvos-br0' was down from 1.20 s to 1.40 s after the start: what was sent then is lost."
    filtered = explain_empty(replace(FILTERED, events=events))
    assert filtered.startswith("The filter")
    assert told in filtered
    assert explain_empty(replace(SILENT, events=events)).startswith(told)


def test_many_outages_are_counted() -> None:
    events = tuple(LinkEvent(1.0 + at, "up" if at % 2 else "down") for at in range(12))
    assert "from 5.00 s to 6.00 s after the start and 3 more times: " in explain_empty(replace(SILENT, events=events))


def test_no_carrier_all_the_time_comes_before_the_filter() -> None:
    none = link(60, carrier=False)
    text = explain_empty(replace(FILTERED, before=none, after=none))
    assert text.startswith("The interface 'rvos-br0' had no carrier all the time. Nothing that runs is attached")
    assert "network=true" in text


def test_a_lost_carrier_is_told_with_the_time() -> None:
    text = explain_empty(replace(SILENT, after=link(60, carrier=False), events=(LinkEvent(0.5, "no_carrier"),)))
    assert text.startswith("The interface 'rvos-br0' lost its carrier 0.50 s after the start and stayed so.")


def test_a_carrier_that_went_with_the_guest_is_not_a_cause_of_its_own() -> None:
    ended = replace(MUTE, ended=0.5)
    lost = replace(SILENT, after=link(60, carrier=False), events=(LinkEvent(0.49, "no_carrier"),), guests=(ended,))
    text = explain_empty(lost)
    assert "carrier" not in text
    assert "before it ended 0.50 s" in text
    assert "carrier" not in explain_empty(replace(lost, events=()))


def test_a_state_that_no_event_explains_is_told_without_a_time() -> None:
    assert explain_empty(replace(FILTERED, after=link(100, up=False))).startswith(
        "The interface 'rvos-br0' is down at the end."
    )
    assert "'rvos-br0' has no carrier at the end." in explain_empty(replace(FILTERED, after=link(1, carrier=False)))


def test_an_interface_that_was_removed_is_told_with_the_time_in_place_of_libpcaps_error() -> None:
    events = (LinkEvent(3.19, "down"), LinkEvent(3.2, "removed"))
    text = explain_empty(replace(FILTERED, after=None, events=events, error="capture.failed: libpcap: gone"))
    assert text.startswith("The interface 'rvos-br0' was removed 3.20 s after the start")
    assert "Boot the guest again" in text
    assert "libpcap" not in text
    assert "down" not in text
    assert "no frame at all" not in text
    assert "No packet" not in text


def test_a_tap_is_removed_with_its_guest() -> None:
    events = (LinkEvent(3.2, "removed"),)
    guest = replace(BUSY, tap="rvos-br0", ended=3.2)
    text = explain_empty(replace(FILTERED, after=None, events=events, guests=(guest,)))
    assert "'rvos-br0' was removed with its guest 'busy' 3.20 s after the start" in text


def test_an_interface_that_is_not_there_was_removed() -> None:
    assert "was removed during the capture" in explain_empty(replace(FILTERED, after=None))
    assert "was removed during the capture" in explain_empty(replace(FILTERED, before=None, after=None))


def test_a_new_name_is_told() -> None:
    text = explain_empty(replace(SILENT, events=(LinkEvent(0.75, "renamed", "other0"),)))
    assert "carried no frame" in text
    assert "'rvos-br0' was renamed to 'other0' 0.75 s after the start" in text
    assert "Use the new name" in text


def test_changes_that_were_missed_are_owned_up_to() -> None:
    text = explain_empty(replace(SILENT, events=(LinkEvent(0.75, "missed"),)))
    assert "interfaces changed 0.75 s after the start faster than could be followed" in text


def test_interfaces_that_cannot_be_asked_are_not_called_gone() -> None:
    text = explain_empty(replace(FILTERED, after=None, unknown="netlink is on strike"))
    assert text == ("No packet matched on 'rvos-br0' in 2.3 s. The interfaces cannot be asked: netlink is on strike")


# ------------------------------------------------------------ failures


def test_drops_leave_nothing_to_blame_on_the_filter_or_the_guest() -> None:
    text = explain_empty(replace(FILTERED, dropped=7, guests=(MUTE,)))
    assert text.startswith("All 7 packets that matched were dropped by the kernel")
    assert "narrower filter" in text
    assert "udp port 53" not in text
    assert "guest" not in text


def test_an_error_of_the_file_comes_before_everything() -> None:
    error = "capture.no_space: no space for a capture. Free some space"
    text = explain_empty(replace(FILTERED, error=error, dropped=7, guests=(MUTE,)))
    assert text == f"The capture failed before it saved a packet: {error}"


# ------------------------------------------------------------ the text


def test_texts_of_others_cannot_break_the_line_or_forge_a_sentence() -> None:
    hostile = "x\n\x1b[2J\u202eThe capture is fine."
    text = explain_empty(
        replace(
            SILENT,
            interface=hostile,
            filter=hostile,
            frames_seen=3,
            kinds=((hostile, 3),),
            events=(LinkEvent(1.0, "renamed", hostile),),
            guests=(replace(MUTE, guest=hostile, tap=hostile),),
        )
    )
    assert text.isprintable()
    elsewhere = (Elsewhere(hostile, 3),)
    assert explain_empty(replace(SILENT, interface=hostile, elsewhere=elsewhere)).isprintable()


def test_a_long_text_is_cut_and_a_cause_that_does_not_fit_is_left_out() -> None:
    text = explain_empty(replace(FILTERED, error="x" * 1000))
    assert (len(text), text[-4:]) == (600, "x...")
    guests = tuple(replace(MUTE, guest=f"guest{number}", received=number) for number in range(9))
    text = explain_empty(replace(FILTERED, guests=guests, events=(LinkEvent(1.0, "renamed", "other0"),)))
    assert 400 < len(text) <= 600
    assert text.endswith(".")


TEXT = some.text(max_size=100)
STATES = some.none() | some.builds(LinkState, some.booleans(), some.booleans(), some.integers(0), some.integers(0))
EVENTS = some.lists(
    some.builds(
        LinkEvent,
        some.floats(0, 1e5),
        some.sampled_from(["removed", "renamed", "up", "down", "carrier", "no_carrier", "missed"]),
        TEXT,
    ),
    max_size=20,
)
COUNT = some.integers(0, 1 << 64)
GUESTS = some.lists(some.builds(GuestTraffic, TEXT, TEXT, COUNT, COUNT, some.none() | some.floats(0, 1e5)), max_size=9)


@given(
    some.builds(
        Evidence,
        interface=TEXT,
        filter=some.text(max_size=5000),
        duration=some.floats(0, 1e9),
        dropped=COUNT,
        before=STATES,
        after=STATES,
        error=some.none() | some.text(max_size=5000),
        frames_seen=COUNT,
        kinds=some.lists(some.tuples(TEXT, COUNT), max_size=9).map(tuple),
        kinds_sampled=COUNT,
        events=EVENTS.map(tuple),
        guests=GUESTS.map(tuple),
        elsewhere=some.lists(some.builds(Elsewhere, TEXT, COUNT, some.lists(TEXT).map(tuple))).map(tuple),
        unknown=some.none() | TEXT,
    )
)
def test_there_is_always_a_text_and_it_is_short(evidence: Evidence) -> None:
    assert 0 < len(explain_empty(evidence)) <= 600
