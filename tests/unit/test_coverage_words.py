"""What a guest ran, by functions: which are told, in which order, and what is left out as idle."""

from __future__ import annotations

import pytest

from rawtap.ask.coverage import Ran, lines_of, sort
from rawtap.debug.functions import Function, Functions
from rawtap.errors import DebugRefused
from rawtap.lab.covering import Covering, require_emulated

NAMES = ("kernel", "poll_card", "card_receive", "say")


def covering() -> Covering:
    return Covering(Functions(Function(0x1000 * n, 0x1000 * n + 0x100, each) for n, each in enumerate(NAMES, 1)))


def words(known: Covering, counts: dict[int, int]) -> list[str]:
    lines = lines_of(sort(counts, known), 1.25, has_idle=bool(known.idle))
    return [each if isinstance(each, str) else f"{each.function.name} {each.new} {each.entered}" for each in lines]


def test_functions_are_told_in_the_order_of_their_first_run() -> None:
    counts = {0x4000: 3, 0x4010: 9, 0x3000: 1, 0x1010: 7, 0x9000: 1, 0x9010: 1}
    assert words(covering(), counts) == [
        "3 functions ran in the last 1.2 s, in the order of first runs:",
        "say 2 3",
        "card_receive 1 1",
        "kernel 1 0",
        "outside of the symbols: 2 blocks, between 0x9000 and 0x9010",
    ]


def test_what_runs_when_it_is_idle_is_left_out_block_by_block() -> None:
    known = covering()
    known.note_idle([0x1010, 0x2000, 0x2010, 0x9000])
    counts = {0x1010: 7, 0x2000: 5, 0x2020: 1, 0x3000: 1, 0x9000: 1}
    assert words(known, counts) == [
        "1 function ran in the last 1.2 s, and not when it was idle, in the order of first runs:",
        "card_receive 1 1",
        "1 function that ran when it was idle as well, with blocks that did not:",
        "poll_card 1 5",
        "left out: 1 function that did only what was done when it was idle",
        "outside of the symbols: 1 block, between 0x9000 and 0x9000",
    ]


def test_nothing_but_what_runs_when_it_is_idle_is_nothing() -> None:
    known = covering()
    known.note_idle([0x1010])
    assert words(known, {0x1010: 7}) == [
        "no function ran in the last 1.2 s, and not when it was idle",
        "left out: 1 function that did only what was done when it was idle",
    ]


def test_more_than_an_answer_has_room_for_are_counted() -> None:
    ran = {0x1000 * n: 1 for n in range(1, 151)}
    known = Covering(Functions(Function(at, at + 16, f"f{at:x}") for at in ran))
    lines = lines_of(sort(ran, known), 1.0, has_idle=False)
    assert sum(isinstance(each, Ran) for each in lines) == 100
    assert str(lines[-1]).startswith("... and 50 functions more: with a pattern of names")


def test_a_processor_of_the_hosts_cannot_be_covered() -> None:
    require_emulated("guest", "tcg")
    with pytest.raises(DebugRefused, match="emulates") as caught:
        require_emulated("guest", "kvm")
    assert "icount" in caught.value.cure


def test_blocks_of_a_function_are_kept_by_their_addresses() -> None:
    (row,) = sort({0x3000: 1, 0x3010: 2}, covering()).ran
    assert (row.addresses, row.blocks, row.entered) == ([0x3000, 0x3010], 2, 1)
