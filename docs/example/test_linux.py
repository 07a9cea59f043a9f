"""A Linux system of your own: its kernel and its initrd are in the folder linux."""

import pytest

from rawtap import Guest
from rawtap.library import Wire

pytestmark = pytest.mark.guest("linux")


def test_it_gets_an_address_and_pings_its_gateway(guest: Guest, wire: Wire) -> None:
    guest.run("ip link set eth0 up; udhcpc -i eth0 -n -q -s /etc/udhcpc.sh")
    wire.expect("udp src port 67 and udp dst port 68", count=2)
    wire.mark()
    guest.run("ping -c 1 10.0.2.2")
    wire.expect("icmp", count=2)
    wire.quiet("udp port 67")


def test_nothing_is_wrong_on_its_wire(guest: Guest, wire: Wire) -> None:
    guest.run("ip link set eth0 up; udhcpc -i eth0 -n -q -s /etc/udhcpc.sh; ping -c 3 10.0.2.2")
    assert [each.what for each in wire.capture.explain("icmp or udp").findings] == []
