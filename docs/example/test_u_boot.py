"""U-Boot, and its wire."""

import pytest

from rawtap import Guest
from rawtap.library import Wire


def test_it_pings_its_gateway(guest: Guest, wire: Wire) -> None:
    assert "host 10.0.2.2 is alive" in guest.run("setenv ipaddr 10.0.2.15; ping 10.0.2.2")
    wire.expect("icmp[icmptype] == icmp-echo and src host 10.0.2.15")
    wire.expect("icmp[icmptype] == icmp-echoreply and dst host 10.0.2.15")


def test_it_gets_an_address_and_then_keeps_quiet(guest: Guest, wire: Wire) -> None:
    guest.run("setenv autoload no; dhcp")
    wire.expect("udp src port 67 and udp dst port 68", count=2)  # the offer and the acknowledgment
    wire.mark()
    guest.run("version")
    wire.quiet("arp or udp", within=0.5)


@pytest.mark.guest(network=False, drives=[{"path": "disk.img", "readonly": True}])
def test_it_finds_a_disk(guest: Guest) -> None:
    assert "Capacity: 1.0 MB" in guest.run("virtio scan; virtio info")
