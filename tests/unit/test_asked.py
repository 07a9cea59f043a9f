"""Which parameters an action of the debugger takes: all others are refused, and it says which."""

from __future__ import annotations

from typing import get_args

import pytest

from rawtap.ask.asked import Action, Wish, require_fitting
from rawtap.errors import RequestInvalid

TAKEN = [
    Wish("attach", timeout=3),
    Wish("break"),
    Wish("break", at="add", expression="a == 1"),
    Wish("break", on="transmit", filter="udp", expression="length > 1"),
    Wish("watch", expression="total", frame=1),
    Wish("delete", at="1"),
    Wish("step", count=2),
    Wish("finish", frame=1),
    Wish("until", at="add"),
    Wish("where", frame=2),
    Wish("print", expression="total", frame=1),
    Wish("registers", expression="pc sp"),
    Wish("memory", at="0x80000000", count=16),
    Wish("memory", expression="packet->bytes", count=16, frame=1),
    Wish("disassemble", at="add", count=3),
    Wish("symbols", expression="^net_"),
    Wish("threads", at="2"),
    Wish("coverage", at="off", expression="^net_"),
    Wish("trace_byte", packet=3, offset=0, at="card_transmit"),
]
REFUSED = [
    (Wish("attach", at="add"), "attach.*no at", "none but timeout"),
    (Wish("continue", count=2), "no count", "none"),
    (Wish("reset", at="kernel"), "no at", "none"),
    (Wish("step", at="add", frame=1), "no at and no frame", "takes count"),
    (Wish("break", at="add", count=2), "no count", "at, expression, on, filter"),
    (Wish("break", at="add", packet=3, offset=22), "no packet and no offset", "at, "),
    (Wish("until", at="add", expression="a"), "no expression", "takes at"),
    (Wish("locals", expression="a"), "no expression", "takes frame"),
    (Wish("where", on="receive"), "no on", "takes frame"),
    (Wish("print", expression="a", filter="udp"), "no filter", "expression, frame"),
    (Wish("threads", expression="1"), "no expression", "takes at"),
    (Wish("crash", at="run"), "no at", "none"),
    (Wish("coverage", count=3), "no count", "at, expression"),
    (Wish("trace_byte", packet=1, offset=0, frame=1), "no frame", "packet, offset, at"),
    (Wish("break", filter="udp"), "filter selects", "on="),
    (Wish("break", expression="a == 1"), "lists breakpoints", "at="),
    (Wish("memory", at="1", expression="2"), "not both", "Leave"),
    (Wish("symbols", at="add", expression="^net_"), "not both", "Leave"),
    (Wish("coverage", at="idle", expression="^net_"), "takes no expression", "Leave"),
]


@pytest.mark.parametrize("wish", TAKEN, ids=lambda wish: wish.action)
def test_what_an_action_takes_is_taken(wish: Wish) -> None:
    require_fitting(wish)


@pytest.mark.parametrize(("wish", "what", "cure"), REFUSED, ids=range(len(REFUSED)))
def test_what_it_does_not_take_is_refused_and_not_left_out(wish: Wish, what: str, cure: str) -> None:
    with pytest.raises(RequestInvalid, match=what) as caught:
        require_fitting(wish)
    assert cure in caught.value.cure


def test_each_action_bare_is_for_others_to_judge() -> None:
    for action in get_args(Action):
        require_fitting(Wish(action))
