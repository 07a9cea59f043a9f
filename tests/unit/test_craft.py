"""Frames from structured data: what is filled in, what is refused, and that nothing is looked up."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from rawtap.errors import RequestInvalid
from rawtap.packets import craft, decode

DEFAULTS = craft.Defaults("02:00:00:00:00:01", "02:00:00:00:00:02", "10.0.2.2")


@pytest.fixture(autouse=True)
def _no_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    decode.load()  # scapy looks at its tables of networks then, by numeric addresses

    def fail(*arguments: object, **_: object) -> None:
        raise AssertionError(f"looked up: {arguments}")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, fail)


def made(*layers: dict[str, Any]) -> Ether:
    return Ether(craft.from_layers(layers, DEFAULTS))


def refused(*layers: dict[str, Any]) -> str:
    with pytest.raises(RequestInvalid) as caught:
        craft.from_layers(layers, DEFAULTS)
    return str(caught.value)


def test_what_is_left_out_makes_the_frame_reach_the_guest() -> None:
    frame = made({"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"})
    assert (frame.src, frame.dst, frame.type) == (DEFAULTS.source_mac, DEFAULTS.destination_mac, 0x0806)
    assert (frame[ARP].hwsrc, frame[ARP].psrc, frame[ARP].op) == (DEFAULTS.source_mac, "10.0.2.2", 1)
    frame = made({"layer": "IP", "dst": "10.0.2.15"}, {"layer": "UDP", "dport": 7}, {"layer": "Raw", "load": "hi"})
    assert (frame[IP].src, frame[UDP].len, bytes(frame[UDP].payload)) == ("10.0.2.2", 10, b"hi")
    assert frame[UDP].chksum


def test_what_is_said_is_sent_even_if_it_is_wrong() -> None:
    frame = made(
        {"layer": "Ether", "src": "0a:00:00:00:00:09", "dst": "ff:ff:ff:ff:ff:ff"},
        {"layer": "IP", "src": "1.2.3.4", "dst": "4.3.2.1", "ttl": 0, "chksum": 0xBAD},
        {"layer": "UDP", "sport": 53, "dport": 53, "len": 9000, "chksum": 1},
        {"layer": "Raw", "load": {"hex": "00ff"}},
    )
    assert (frame.src, frame.dst) == ("0a:00:00:00:00:09", "ff:ff:ff:ff:ff:ff")
    assert (frame[IP].src, frame[IP].ttl, frame[IP].chksum, frame[UDP].len) == ("1.2.3.4", 0, 0xBAD, 9000)
    assert bytes(frame)[-2:] == b"\x00\xff"


def test_layers_within_fields() -> None:
    frame = made(
        {"layer": "IP", "dst": "10.0.2.15"},
        {"layer": "UDP", "dport": 53},
        {"layer": "DNS", "rd": 1, "qd": [{"layer": "DNSQR", "qname": "a.example", "qtype": "AAAA"}]},
    )
    assert (frame[DNS].qd[0].qname, frame[DNS].qd[0].qtype) == (b"a.example.", 28)


def test_dhcp_options() -> None:
    frame = craft.from_layers(
        [
            {"layer": "IP", "src": "10.0.2.15", "dst": "255.255.255.255"},
            {"layer": "UDP", "sport": 68, "dport": 67},
            {"layer": "BOOTP", "chaddr": {"hex": "020000000002"}},
            {"layer": "DHCP", "options": [["message-type", "discover"], ["requested_addr", "10.0.2.15"], "end"]},
        ],
        DEFAULTS,
    )
    assert bytes.fromhex("63825363 350101 32040a00020f ff") in frame


def test_tcp_options() -> None:
    options = [["MSS", 1460], "NOP", ["WScale", 7], ["SAckOK", ""], ["Timestamp", [1, 2]], [254, {"hex": "beef"}]]
    frame = made({"layer": "IP", "dst": "10.0.2.15"}, {"layer": "TCP", "flags": "S", "options": options})
    shown = [("MSS", 1460), ("NOP", None), ("WScale", 7), ("SAckOK", b""), ("Timestamp", (1, 2)), (254, b"\xbe\xef")]
    assert frame[TCP].options[: len(shown)] == shown


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hwtype": 6}, "0006 0800 06 04 0001 020000000001 0a000202 000000000000 0a00020f"),
        ({"ptype": 0x86DD}, "0001 86dd 06 04 0001 020000000001 0a000202 000000000000 0a00020f"),
        ({"hwlen": 8}, "0001 0800 08 04 0001 0200000000010000 0a000202 0000000000000000 0a00020f"),
        ({"hwdst": {"hex": "0a0b"}, "hwlen": 2}, "0001 0800 02 04 0001 0200 0a000202 0a0b 0a00020f"),
    ],
)
def test_an_unusual_kind_of_arp_has_addresses_and_no_letters(fields: dict[str, Any], message: str) -> None:
    frame = craft.from_layers([{"layer": "ARP", "pdst": "10.0.2.15"} | fields], DEFAULTS)
    assert frame[14:] == bytes.fromhex(message)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"layer": "Udp"}, "there is no layer 'Udp' (known: ARP, BOOTP"),
        ({}, "there is no layer 'None'"),
        ({"layer": ["IP"]}, "there is no layer"),
        ({"layer": "IP", "dst": "10.0.2.15", "tttl": 3}, "IP has no field 'tttl'"),
        ({"layer": "IP", "dst": "example.com"}, "IP.dst cannot be 'example.com'"),
        ({"layer": "IP", "dst": "10.0.2.0/24"}, "Give a numeric address"),
        ({"layer": "IP", "dst": ["10.0.2.1", "10.0.2.2"]}, "IP.dst cannot be"),
        ({"layer": "IP"}, "IP has no dst"),
        ({"layer": "IPv6", "dst": "fe80::1"}, "IPv6 has no src"),
        ({"layer": "IP", "dst": "10.0.2.15", "ttl": 256}, "IP.ttl cannot be '256'"),
        ({"layer": "IP", "dst": "10.0.2.15", "ttl": [1]}, "IP.ttl cannot be"),
        ({"layer": "ARP", "op": "ask"}, "Give a number, or one of: who-has"),
        ({"layer": "ARP", "pdst": "example.com"}, "ARP.pdst cannot be 'example.com'"),
        ({"layer": "ARP", "hwdst": "router"}, "ARP.hwdst cannot be 'router'"),
        ({"layer": "ARP", "hwsrc": "10.0.2.2"}, "it is no MAC address"),
        ({"layer": "TCP", "options": [["Mss", 1460]]}, "there is no option 'Mss'"),
        ({"layer": "TCP", "options": {"hex": "0204"}}, 'Give a list like [["MSS", 1460], "NOP"]'),
        ({"layer": "TCP", "options": [["MSS", 70000]]}, "TCP.options cannot be"),
        ({"layer": "TCP", "options": [["SAckOK", 10**12]]}, "SAckOK is a text or bytes"),
        ({"layer": "DNS", "qd": [{"layer": "DNSQR"}] * 5000}, "it has more than 4096 items"),
        ({"layer": "TCP", "options": [[]]}, "TCP.options cannot be"),
        ({"layer": "Ether", "dst": "router"}, "Ether.dst cannot be 'router'"),
        ({"layer": "IP", "dst": "10.0.2.15", "version": 16}, "IP.version cannot be '16'"),
        ({"layer": "Raw", "load": 25_972_382_615}, "Raw.load cannot be"),
        ({"layer": "Raw", "load": {"hex": "0"}}, "Raw.load cannot be"),
        ({"layer": "Raw", "load": {"text": "0"}}, "Raw.load cannot be"),
        ({"layer": "DHCP", "options": [["server_id", "example.com"], "end"]}, "DHCP.options cannot be"),
        ({"layer": "DHCP", "options": [["hostname", 10**12]]}, "hostname is a text or bytes"),
        ({"layer": "DHCP", "options": [["vendor_class_id", 10**12]]}, "vendor_class_id is a text or bytes"),
        ({"layer": "DHCP", "options": [["mesage-type", 1]]}, "near it: message-type"),
        ({"layer": "DHCP", "options": ["message-type"]}, "message-type is given as a list of it and its value"),
        ({"layer": "DHCP", "options": [["end", 1]]}, "end is given as a name alone"),
        ({"layer": "DHCP", "options": [[224, 10**12]]}, "DHCP.options cannot be"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(layer: dict[str, Any], words: str) -> None:
    assert words in refused(layer)


def test_a_frame_has_a_size() -> None:
    assert "the frame has 65556 bytes" in refused(
        {"layer": "Ether", "type": 0x88B5}, {"layer": "Raw", "load": "x" * 65542}
    )
    assert "0 layers are given" in refused()
    assert "17 layers are given" in refused(*[{"layer": "Dot1Q"}] * 17)


@pytest.mark.parametrize("text", ["", "ff", "f" * 29, "zz" * 20, "0x" + "00" * 14, "00" * 65536])
def test_hex_that_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        craft.from_hex(text)


def test_hex_may_have_spaces_and_colons() -> None:
    assert craft.from_hex("ff:ff:ff:ff:ff:ff 0200 0000 0001\n88b5") == b"\xff" * 6 + b"\2\0\0\0\0\1\x88\xb5"


ADDRESSES = st.sampled_from(["1.2.3.4", "::1"])
KEYS = st.sampled_from(["layer", "hex", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | ADDRESSES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=6,
)


@st.composite
def any_layers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Known layers and fields, any values."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(craft._classes())))
        fields = [field.name for field in craft._classes()[name].fields_desc]
        chosen = draw(st.lists(st.sampled_from(fields), max_size=3, unique=True)) if fields else []
        found.append({"layer": name} | {field: draw(VALUES) for field in chosen})
    return found


@settings(max_examples=400, deadline=None)
@given(any_layers())
def test_any_values_make_a_frame_or_an_error(layers: list[dict[str, Any]]) -> None:
    try:
        frame = craft.from_layers(layers, DEFAULTS)
    except RequestInvalid:
        return
    assert 14 <= len(frame) <= craft.MAX_FRAME
