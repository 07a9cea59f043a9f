"""Impairments as options of queues: in pyroute2's units, and of the one kind that does it."""

from __future__ import annotations

import pytest
from pyroute2.netlink.rtnl.tcmsg import sched_netem, sched_tbf

from rawtap.network.impair import Impairment


def test_a_good_wire_needs_no_queue() -> None:
    assert Impairment().queue() is None


def test_a_rate_alone_is_a_token_bucket_that_lets_a_whole_frame_through() -> None:
    for rate in (8_000, 1_000_000, 10_000_000_000):
        wanted = Impairment(rate=rate).queue()
        assert wanted is not None
        kind, options = wanted
        assert (kind, options["rate"]) == ("tbf", rate // 8)
        assert options["burst"] >= max(1514, rate / 8 / 250)
        assert options["limit"] >= options["burst"] + 1514
        ((_, made), _) = sched_tbf.get_parameters(options)["attrs"]
        assert made["rate"] == rate // 8
        assert all(isinstance(number, int) and 0 <= number < 1 << 32 for number in made.values())


@pytest.mark.parametrize(
    ("impairment", "field", "value"),
    [
        (Impairment(delay=0.064), "delay", 1_000_000),  # ticks of 64 ns
        (Impairment(loss=100), "loss", 2**32 - 1),
        (Impairment(loss=50), "loss", 2**31 - 1),
        (Impairment(duplicate=25), "duplicate", 2**30 - 1),
    ],
)
def test_each_impairment_is_netems_in_its_units(impairment: Impairment, field: str, value: int) -> None:
    wanted = impairment.queue()
    assert wanted is not None
    assert wanted[0] == "netem"
    made = sched_netem.get_parameters(wanted[1])
    assert made.pop("limit") == 10_000
    assert made.pop("attrs") == []
    assert made.pop(field) == value
    assert set(made.values()) == {0}


def test_corruption_and_a_rate_are_attributes_of_netems() -> None:
    wanted = Impairment(corrupt=10, rate=80_000).queue()
    assert wanted is not None
    made = sched_netem.get_parameters(wanted[1])
    assert made["attrs"] == [
        ["TCA_NETEM_CORRUPT", {"prob_corrupt": (2**32 - 1) // 10, "corr_corrupt": 0}],
        ["TCA_NETEM_RATE", {"rate": 10_000, "packet_overhead": 0, "cell_size": 0, "cell_overhead": 0}],
    ]
