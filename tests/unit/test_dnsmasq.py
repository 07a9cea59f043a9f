"""dnsmasq's arguments, lease file and log, as text."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from rawtap.errors import ProfileInvalid
from rawtap.network.dnsmasq_config import BootFile, Lease, ServicesSpec, StaticHost, arguments, leases, log_line, pool

BOX = StaticHost("box", "52:54:00:12:34:56", "10.0.2.15")


def spec(*hosts: StaticHost, address: str = "10.0.2.2/24") -> ServicesSpec:
    return ServicesSpec("br0", IPv4Interface(address), hosts)


@pytest.mark.parametrize(
    ("address", "first", "last"),
    [
        ("10.0.2.2/24", "10.0.2.3", "10.0.2.254"),
        ("10.0.2.1/24", "10.0.2.2", "10.0.2.254"),
        ("10.0.2.254/24", "10.0.2.1", "10.0.2.253"),
        ("10.0.2.200/24", "10.0.2.1", "10.0.2.199"),
        ("10.0.2.1/30", "10.0.2.2", "10.0.2.2"),
        ("10.0.2.2/30", "10.0.2.1", "10.0.2.1"),
    ],
)
def test_guests_get_the_longer_stretch_beside_the_hosts_address(address: str, first: str, last: str) -> None:
    assert tuple(map(str, pool(IPv4Interface(address)))) == (first, last)


def test_no_file_of_the_host_is_read_and_no_server_is_asked() -> None:
    argv = arguments(spec(BOX), "/dev/stdin")
    assert {"--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces", "--interface=br0"} <= set(argv)
    assert not any(each.startswith(("--server", "--local-service")) for each in argv)
    assert "--dhcp-range=10.0.2.3,10.0.2.254,255.255.255.0,3600" in argv
    assert argv[-2:] == ["--dhcp-host=52:54:00:12:34:56,10.0.2.15,box", "--host-record=box,10.0.2.15"]


def test_each_kind_of_client_is_offered_its_own_file() -> None:
    files = (
        BootFile("script.ipxe", "ipxe"),
        BootFile("rest.0"),
        BootFile("boot.efi", "uefi-x86_64", (7, 9)),
        BootFile("http://10.0.2.2/b.efi", "http-x86_64", (16,)),
    )
    argv = arguments(replace(spec(), tftp="/srv/boot", boot=files), "/dev/stdin")
    assert argv[argv.index("--tftp-root=/srv/boot") + 1 :] == [
        "--dhcp-no-override",
        "--dhcp-boot=rest.0",
        "--dhcp-match=set:uefi-x86_64,option:client-arch,7",
        "--dhcp-match=set:uefi-x86_64,option:client-arch,9",
        "--dhcp-boot=tag:uefi-x86_64,boot.efi",
        "--dhcp-match=set:http-x86_64,option:client-arch,16",
        "--dhcp-boot=tag:http-x86_64,http://10.0.2.2/b.efi",
        "--dhcp-option-force=tag:http-x86_64,60,HTTPClient",
        "--dhcp-match=set:ipxe,175",
        "--dhcp-boot=tag:ipxe,script.ipxe",
    ]


@pytest.mark.parametrize("name", ["", "a,b", "a b", "-a", "a-", "a.b", "a\n", "ä", "x" * 64])
def test_a_name_cannot_become_another_setting(name: str) -> None:
    with pytest.raises(ProfileInvalid, match="is no name"):
        arguments(spec(StaticHost(name, BOX.mac, BOX.address)), "/dev/stdin")


@pytest.mark.parametrize("address", ["10.0.2.0", "10.0.2.255", "10.0.2.2", "10.0.1.1", "10.0.2.15,x", "::1", ""])
def test_an_address_must_be_a_guests(address: str) -> None:
    with pytest.raises(ProfileInvalid):
        arguments(spec(StaticHost("a", BOX.mac, address)), "/dev/stdin")


@pytest.mark.parametrize(
    "other",
    [
        StaticHost("BOX", "52:54:00:00:00:01", "10.0.2.16"),
        StaticHost("other", BOX.mac, "10.0.2.16"),
        StaticHost("other", "52:54:00:00:00:01", BOX.address),
    ],
)
def test_what_is_there_twice_is_refused(other: StaticHost) -> None:
    with pytest.raises(ProfileInvalid, match="twice"):
        arguments(spec(BOX, other), "/dev/stdin")


def test_leases_are_read_and_what_is_none_is_left_out() -> None:
    text = (
        "1100 52:54:00:12:34:56 10.0.2.15 box 01:52:54:00:12:34:56\n"
        "900 52:54:00:12:34:57 10.0.2.16 * *\n"
        "1100 52:54:00:12:34:58 10.0.2.17 \x1b[2J *\n"
        "duid 00:01\n"
        "1100 52:54:00:12:34"
    )
    assert leases(text, 1000.5) == [
        Lease("box", "52:54:00:12:34:56", "10.0.2.15", 99.5),
        Lease("", "52:54:00:12:34:57", "10.0.2.16", 0.0),
        Lease("\\x1b[2J", "52:54:00:12:34:58", "10.0.2.17", 99.5),
    ]


def test_dhcpv6_leases_are_read_with_the_mac_address_where_the_duid_has_one() -> None:
    text = (
        "1100 305419896 fd00::1001 box 00:01:00:01:2c:aa:bb:cc:52:54:00:12:34:56\n"
        "1100 T305419897 fd00::1002 * 00:03:00:01:52:54:00:12:34:57\n"
        "1100 305419898 fd00::1003 * 00:04:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00\n"
        "duid 00:01:00:01:2c:aa:bb:cc:52:54:00:96:ef:af\n"
    )
    assert leases(text, 1000.0) == [
        Lease("box", "52:54:00:12:34:56", "fd00::1001", 100.0),
        Lease("", "52:54:00:12:34:57", "fd00::1002", 100.0),
        Lease("", "", "fd00::1003", 100.0),
    ]


def test_a_router_that_leads_nowhere_says_so() -> None:
    address = IPv6Interface("fd00::1/64")
    argv = arguments(replace(spec(), address6=address), "/dev/stdin")
    assert "--ra-param=br0,600,0" in argv
    assert "--dhcp-range=fd00::1000,fd00::ffff,slaac,ra-names,64,3600" in argv
    assert "--ra-param=br0,600,1800" in arguments(replace(spec(), address6=address, router6=True), "/dev/stdin")
    assert not any("ra" in each.split("=")[0].split("-") for each in arguments(spec(), "/dev/stdin"))


def test_name_servers_are_asked_where_there_are_some_and_not_for_bare_names() -> None:
    argv = arguments(replace(spec(), servers=("192.0.2.1", "2001:db8::1")), "/dev/stdin")
    assert {"--server=192.0.2.1", "--server=2001:db8::1", "--domain-needed", "--no-resolv"} <= set(argv)


def test_a_log_line_is_told_without_its_head_and_bounded() -> None:
    assert log_line("dnsmasq-dhcp[12]: DHCPACK(br0) 10.0.2.15") == ("dhcp", "DHCPACK(br0) 10.0.2.15")
    assert log_line("Nov  5 17:39:03 dnsmasq[12]: query[A] \x07") == ("dns", "query[A] \\x07")
    assert log_line("dnsmasq: process is missing") == ("dns", "process is missing")
    kind, text = log_line("dnsmasq[1]: " + "x" * 1000)
    assert (kind, len(text)) == ("dns", 300)
