"""The addresses of QEMU's own network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rawtap.errors import ProfileInvalid
from rawtap.network import slirp


def test_the_usual_one_is_qemus_own() -> None:
    assert slirp.options(IPv4Interface("10.0.2.2/24")) == {
        "net": "10.0.2.0/24",
        "host": "10.0.2.2",
        "dns": "10.0.2.3",
        "dhcpstart": "10.0.2.15",
        "restrict": True,
        "ipv6": False,
    }


@example(28, 0, 2)  # where QEMU's name server would be
@example(28, 0, 13)  # where the guest would be, the broadcast address apart
@given(st.integers(16, 28), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_no_two_have_one_address_and_none_has_the_networks(prefix: int, net: int, host: int) -> None:
    network = IPv4Network((int(IPv4Address("10.0.0.0")) + (net << 16) % 2**24, prefix), strict=False)
    address = IPv4Interface((network[1 + host % (network.num_addresses - 2)], prefix))
    options = slirp.options(address)
    used = [IPv4Address(str(options[key])) for key in ("host", "dns", "dhcpstart")]
    assert len({*used, network.network_address, network.broadcast_address}) == 5
    assert all(each in network for each in used)


def test_a_subnet_that_is_too_small_is_refused() -> None:
    with pytest.raises(ProfileInvalid, match="at most 28"):
        slirp.options(IPv4Interface("10.0.2.2/29"))
