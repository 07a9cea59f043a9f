"""The firewall's text, its marks, and what is read of nft's answers, of routes and of name servers."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from rawtap.network import resolver, uplinks
from rawtap.network.addressing import Owner
from rawtap.network.ipv6 import unique_local
from rawtap.network.rules import Gate, Mark, marks, refusing, table

OWNER = Owner(12, 345, 4026531836)
SUBNET4, SUBNET6 = IPv4Network("10.0.2.0/24"), IPv6Network("fd00::/64")


def gate(uplink4: str | None = "eth0", uplink6: str | None = None) -> Gate:
    return Gate("rvos-br0", SUBNET4, SUBNET6, uplink4, uplink6)


def rules_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("chain", "table", "type", "}"))]


def test_a_mark_is_in_the_tables_name_and_read_back() -> None:
    mark = Mark(OWNER, 3, 0, "rv.os_br-0")
    assert mark.table == "rawtap-12-345-4026531836-3-0-rv.os_br-0"
    assert Mark.of(mark.table) == mark


@pytest.mark.parametrize("name", ["rawtap", "rawtap-1-2-3-4-5-", "rawtap-x-2-3-4-5-br0", "my-rawtap-1-2-3-4-5-br0", ""])
def test_a_name_of_somebody_elses_is_no_mark(name: str) -> None:
    assert Mark.of(name) is None


def test_a_forwarding_host_is_left_to_route_as_it_did() -> None:
    assert rules_of(table(Mark(OWNER, 0, 0, "rvos-br0"), gate())) == [
        'iifname "rvos-br0" oifname "rvos-br0" accept',
        'iifname "rvos-br0" oifname "eth0" ip saddr 10.0.2.0/24 accept',
        'iifname "rvos-br0" reject with icmpx type admin-prohibited',
        'oifname "rvos-br0" ct state established,related accept',
        'oifname "rvos-br0" drop',
        'oifname "eth0" ip saddr 10.0.2.0/24 masquerade',
    ]


def test_where_forwarding_was_switched_on_only_answers_come_in() -> None:
    text = table(Mark(OWNER, 3, 4, "rvos-br0"), gate("eth0", "wlan0"))
    assert 'meta nfproto ipv4 iifname "eth0" ct state != { established, related } drop' in text
    assert 'meta nfproto ipv6 iifname "wlan0" ct state != { established, related } drop' in text
    assert 'oifname "wlan0" ip6 saddr fd00::/64 masquerade' in text


def test_ipv6_alone_masks_nothing_of_ipv4() -> None:
    text = table(Mark(OWNER, 0, 0, "rvos-br0"), gate(None, "eth0"))
    assert "ip saddr" not in text
    assert "nfproto ipv4" not in text


def test_tables_and_chains_are_read_from_nfts_answers() -> None:
    def told(*found: dict[str, object]) -> str:
        return json.dumps({"nftables": [{"metainfo": {}}, *found]})

    mark = Mark(OWNER, 0, 0, "br0")
    names = [("inet", mark.table), ("ip", mark.table), ("inet", "filter")]
    assert marks(told(*({"table": {"family": family, "name": name}} for family, name in names))) == [mark]
    base = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    others = [base | {"policy": "accept"}, base | {"hook": "input"}, base | {"family": "ip6"}, {**base, "hook": None}]
    assert refusing(told({"chain": base}, *({"chain": each} for each in others)), "ip") == [
        "chain FORWARD of table ip filter"
    ]


HEADINGS = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("", None),
        ("eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "eth0"),
        (
            "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
            "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
            "eth0",
        ),
        ("eth0\t00000000\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n", None),  # 0.0.0.0/8
        ("*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n", None),  # unreachable
    ],
)
def test_the_ipv4_default_route_of_the_least_metric(
    lines: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "route").write_text(HEADINGS + lines, encoding="ascii")
    monkeypatch.setattr(uplinks, "_ROUTES4", tmp_path / "route")
    assert uplinks.default4() == found


ZERO, GATE = "0" * 32, "20010db8000100000000000000000001"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n", None),
        (f"{ZERO} 00 {ZERO} 00 {GATE} 00000400 00000001 00000000 00000003     eth0\n", "eth0"),
        (f"{ZERO} 08 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0\n", None),
    ],
)
def test_the_ipv6_default_route(lines: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "route").write_text(lines, encoding="ascii")
    monkeypatch.setattr(uplinks, "_ROUTES6", tmp_path / "route")
    assert uplinks.default6() == found
    monkeypatch.setattr(uplinks, "_ROUTES6", tmp_path / "none")
    assert uplinks.default6() is None


def test_name_servers_are_the_first_three_that_are_addresses() -> None:
    text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver\nnameserver 127.0.0.53\nnameserver x,y\n"
    more = "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\n"
    assert resolver.servers_in(text + more) == ["127.0.0.53", "192.0.2.1", "fe80::1%eth0"]


def test_another_namespace_reaches_a_loopback_resolver_by_the_relay_once() -> None:
    assert resolver.within_reach(["127.0.0.53", "::1", "192.0.2.1"], "192.0.0.3") == ["192.0.0.3", "192.0.2.1"]
    assert resolver.within_reach(["fe80::1%eth0"], "192.0.0.3") == []


def test_a_bridges_prefix_is_its_own_and_stays() -> None:
    first = unique_local("machine", "br0")
    assert first == unique_local("machine", "br0")
    assert (first.network.prefixlen, first.ip) == (64, first.network[1])
    assert first.ip in IPv6Network("fd00::/8")  # RFC 4193 3.1
    assert len({first, unique_local("machine", "br1"), unique_local("other", "br0")}) == 3
    assert isinstance(first.ip, IPv6Address)
