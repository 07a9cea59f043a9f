"""Why no more frames get to a guest, from counters on both sides of QEMU."""

from __future__ import annotations

import pytest

from rawtap.lab.card import Counters

FULL = "every buffer that the guest's driver gave its card is full"


@pytest.mark.parametrize(
    ("counters", "trouble"),
    [
        (Counters(), None),
        (Counters(taken=9, waiting=0, given=32, free=23), None),
        (Counters(taken=9, waiting=4, given=32, free=0, stuck=False), None),  # a burst
        (Counters(given=0, free=0), "the guest's driver has given its card no buffer: the guest takes no frame"),
        (Counters(given=32, free=0), f"QEMU takes no more: {FULL}"),
        (
            Counters(taken=17, waiting=7, given=16, free=0, stuck=True),
            f"QEMU took 17 frames for the guest and takes no more: {FULL}; 7 wait in the TAP",
        ),
        (
            Counters(taken=17, waiting=1, given=32, free=16, stuck=True),
            "QEMU took 17 frames for the guest and takes no more: the guest's driver gave its card 16 buffers and did "
            "not notify it, or the guest is paused; 1 wait in the TAP",
        ),
        (
            Counters(taken=17, waiting=1, stuck=True),
            "QEMU took 17 frames for the guest and takes no more: whether the guest's driver gave its card buffers is "
            "not known; 1 wait in the TAP",
        ),
    ],
)
def test_trouble_behind_the_wire_is_told_in_words(counters: Counters, trouble: str | None) -> None:
    assert counters.trouble == trouble
