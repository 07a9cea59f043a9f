"""What is asked of a stack on a wire that spoils: a stack that keeps it all, and for each rule one that does not."""

from __future__ import annotations

import anyio
import pytest
from echo_stack import Echo, Wire
from test_rules_of_stacks import NAMES
from test_trial import CROWD

from rawtap.examine import catalogue
from rawtap.examine.rules import Converse
from rawtap.examine.trial import Examiner, Outcome, Verdict

RULES = catalogue.SUITES["impairments"]
NEED_NO_ECHO = {"echo_reordered", "echo_doubled", "syn_ack_lost", "ahead"}

# By rule: the defect of a stack, the verdict, and the field that is wrong.
BROKEN: dict[str, tuple[str, Verdict, str]] = {
    "echo_reordered": ("echo in order", Verdict.SILENT, ""),
    "echo_doubled": ("echo once", Verdict.SILENT, ""),
    "syn_ack_lost": ("syn ack once", Verdict.SILENT, ""),
    "lost": ("never again", Verdict.SILENT, ""),
    "timeout_least": ("least", Verdict.VIOLATED, "seconds"),
    "backoff": ("steady", Verdict.VIOLATED, "seconds"),
    "delay": ("hasty", Verdict.VIOLATED, "frames"),
    "fast_retransmit": ("not fast", Verdict.SILENT, ""),
    "ahead": ("not ahead", Verdict.SILENT, ""),
    "reordered": ("any order", Verdict.VIOLATED, "data"),
    "doubled": ("doubles", Verdict.VIOLATED, "data"),
    "overlapping": ("overlap", Verdict.VIOLATED, "data"),
    "corrupted": ("no sum", Verdict.VIOLATED, "data"),
    "window_zero": ("no probes", Verdict.SILENT, ""),
    "probes_apart": ("steady", Verdict.VIOLATED, "seconds"),
    "window_tiny": ("any window", Verdict.VIOLATED, "TCP.window"),
    "segment_size": ("any size", Verdict.VIOLATED, "bytes of data in a segment"),
    "segment_size_unsaid": ("default size", Verdict.VIOLATED, "bytes of data in a segment"),
    "too_large": ("no errors", Verdict.VIOLATED, "IP.len"),
    "transfer_half": ("other bytes", Verdict.VIOLATED, "data"),
    "transfer_loss": ("never again", Verdict.SILENT, ""),
    "transfer_jitter": ("any order", Verdict.VIOLATED, "data"),
    "transfer_noise": ("no sum", Verdict.VIOLATED, "data"),
}


def tried(name: str, defect: str = "") -> Outcome:
    (rule,) = catalogue.chosen(f"impairments.{name}")
    guest = Echo(defect)

    async def nothing() -> None:
        return None

    async def judge() -> Outcome:
        examiner = Examiner(Wire(guest), dict(NAMES), CROWD, "echo", 0.1, nothing, now=lambda: guest.now)
        return await examiner.judge(rule, afresh=nothing)

    return anyio.run(judge)


def short(rule: str) -> str:
    return rule.partition(".")[2]


@pytest.mark.parametrize("name", [short(rule.name) for rule in RULES])
def test_a_stack_that_keeps_the_rules_is_told_as_such(name: str) -> None:
    outcome = tried(name)
    assert (outcome.verdict, outcome.reason) == (Verdict.KEPT, ""), outcome.reason
    assert outcome.frames


@pytest.mark.parametrize("name", [short(rule.name) for rule in RULES])
def test_a_stack_with_a_defect_breaks_its_rule(name: str) -> None:
    defect, verdict, field = BROKEN[name]
    outcome = tried(name, defect)
    assert (outcome.verdict, outcome.field) == (verdict, field), outcome.reason
    assert any(each.from_guest for each in outcome.frames)


@pytest.mark.parametrize("name", [short(rule.name) for rule in RULES])
def test_where_nothing_comes_back_the_next_step_is_told(name: str) -> None:
    outcome = tried(name, "discards")
    if name in NEED_NO_ECHO:
        assert outcome.verdict is Verdict.KEPT
    else:
        assert outcome.verdict is Verdict.CANNOT_TELL
        assert "it needs a service that sends back what it gets: 16 bytes were sent, and nothing" in outcome.reason
        assert "nc -ll -p 7 -e cat" in outcome.reason


def test_a_syn_and_ack_that_is_another_one_is_no_retransmission() -> None:
    outcome = tried("syn_ack_lost", "other syn ack")
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "TCP.seq")


def test_bytes_that_are_others_when_they_are_sent_again_are_told() -> None:
    outcome = tried("lost", "other bytes")
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "data")


def test_a_transfer_says_how_long_it_took_and_what_share_that_is() -> None:
    transfers = [
        rule for rule in RULES if any(isinstance(each, Converse) and each.scene == "transfer" for each in rule.steps)
    ]
    assert len(transfers) == 4
    for rule in transfers:
        figures = tried(short(rule.name)).figures
        assert figures.startswith(("4000 bytes each way, all right, in ", "8000 bytes each way, all right, in "))
        assert figures.endswith(" % of its speed")


def test_a_suite_that_waits_for_timers_is_asked_for_by_its_name_alone() -> None:
    assert not {rule.suite for rule in catalogue.chosen("all")} & set(catalogue.ALONE)
    assert catalogue.chosen("impairments") == RULES


def test_a_guest_that_resets_is_not_told_to_have_waited() -> None:
    """A program that finds no room for its answer may do so, as one with lwIP's tcp_write."""
    outcome = tried("window_zero", "resets")
    assert outcome.verdict is Verdict.SILENT
    assert outcome.reason.startswith("with a window of 0, and data waiting, the guest reset the connection")


@pytest.mark.parametrize("name", ["window_zero", "probes_apart"])
def test_a_stack_that_takes_what_eight_halves_of_the_largest_window_hold_is_told_to_keep_its_rules(name: str) -> None:
    """lwIP, in a window that is tiny from the start, would have nothing to send (tcp_write, TCP_SND_QUEUELEN)."""
    assert tried(name, "halves").verdict is Verdict.KEPT
