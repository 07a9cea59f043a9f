"""What tshark is given, and what is made of what it says: hostile text as well."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest
from frames import out
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet
from scapy.utils import wrpcap

from rawtap.packets.pages import PacketFiles
from rawtap.packets.tail import Part
from rawtap.packets.wireshark import asked, pdml
from rawtap.packets.wireshark import given as given_packets
from rawtap.packets.wireshark.given import Given, give

QUERY = out(UDP(sport=4000, dport=53) / DNS(id=7, qd=DNSQR(qname="one.example")))


def files(folder: Path, *groups: list[Packet]) -> PacketFiles:
    parts, before = [], 0
    for number, packets in enumerate(groups, 1):
        path = folder / str(number)
        wrpcap(str(path), packets)
        parts.append(Part(number, path, before))
        before += len(packets)
    return PacketFiles("f", parts)


def asking(source: PacketFiles, **what: int) -> tuple[Given, list[list[str]]]:
    """What was given, and what tshark finds in it: numbers and lengths."""
    with os.fdopen(os.memfd_create("given"), "r+b") as memory:
        told = give(source, memory.fileno(), **{"after": 0, **what})
        fields = [word for name in ("frame.number", "frame.len", "frame.protocols") for word in ("-e", name)]
        command = ["tshark", "-n", "-r", "-", "-T", "fields", *fields]
        done = subprocess.run(command, stdin=memory, capture_output=True, text=True, check=True)
    return told, [line.split("\t") for line in done.stdout.splitlines()]


def sized(*sizes: int) -> list[Packet]:
    return [out(UDP(sport=4000, dport=4001) / bytes(size)) for size in sizes]


def test_packets_of_a_ring_are_given_with_their_numbers(tmp_path: Path) -> None:
    told, found = asking(files(tmp_path, sized(1, 2), sized(3, 4)))
    assert (told, [length for _, length, _ in found]) == (Given(1, 4), ["43", "44", "45", "46"])
    told, found = asking(files(tmp_path, sized(1, 2), sized(3, 4)), last=3)
    assert (told, len(found), told.number(3), told.nth(3)) == (Given(1, 3), 3, 3, 3)
    told, found = asking(files(tmp_path, sized(1, 2), sized(3, 4)), after=3, before=1)
    assert (told, [length for _, length, _ in found], told.number(1)) == (Given(3, 4), ["45", "46"], 3)


def test_however_large_packets_are_some_behind_the_place_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page would go on behind the same packet for ever."""
    monkeypatch.setattr(given_packets, "MOST_BYTES", 3000)  # some 33 of them
    source = files(tmp_path, sized(*range(1, 101)), sized(*range(1, 101)))
    reached = 0
    while reached < 200:
        told, found = asking(source, after=reached)
        assert told.first <= reached + 1
        assert (told.last > reached, len(found)) == (True, told.count)
        assert told.number(told.count) == told.last
        reached = told.last
    told, _ = asking(source, after=149, last=170)
    assert (told.first <= 150, told.last) == (True, 170)


def test_what_a_ring_has_removed_is_not_given(tmp_path: Path) -> None:
    source = files(tmp_path, sized(1, 2), sized(3, 4))
    source.parts[0].path.unlink()
    told, found = asking(source)
    assert (told, [length for _, length, _ in found]) == (Given(3, 4), ["45", "46"])


def test_a_compressed_file_and_other_links_are_given_alike(tmp_path: Path) -> None:
    source = files(tmp_path, sized(1, 2))
    path = source.parts[0].path
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(asking(source)[1]) == 2
    wrpcap(str(path), [IP() / UDP(sport=4000, dport=4001)], linktype=101)
    assert asking(source)[1] == [["1", "28", "raw:ip:udp"]]


def taken_apart(packet: Packet, tmp_path: Path) -> dict[str, pdml.Field]:
    path = tmp_path / "one"
    wrpcap(str(path), [packet])
    output = subprocess.run(["tshark", "-n", "-r", path, "-T", "pdml"], capture_output=True, check=True).stdout
    frames, fault = pdml.frames(output, {1: bytes(packet)})
    assert (fault, list(frames)) == ("", [1])
    layers = frames[1].layers
    assert [layer.name for layer in layers] == ["eth", "ip", "udp", "dns"]
    return {field.name: field for layer in layers for field in layer.fields}


def test_layers_have_wiresharks_names_values_and_places(tmp_path: Path) -> None:
    found = taken_apart(QUERY, tmp_path)
    assert (found["dns.qry.name"].value, found["dns.qry.type"].value) == ("one.example", 1)
    assert found["dns.qry.type"].shown == "A (Host Address)"
    assert (found["ip.ttl"].bit, found["ip.ttl"].bits) == (22 * 8, 8)
    assert not {"eth.addr", "ip.host", "udp.payload", "dns.flags.truncated"} & found.keys() - {"dns.flags.truncated"}


def packet(fields: str, number: int = 1) -> str:
    general = f'<proto name="geninfo"><field name="num" show="{number}"/></proto>'
    return f'<packet>{general}<proto name="x" pos="0" size="4">{fields}</proto></packet>'


def read(*packets: str, data: bytes = b"abcd") -> tuple[dict[int, pdml.Frame], str]:
    return pdml.frames(f"<pdml>{''.join(packets)}</pdml>".encode(), {1: data, 2: data})


def test_bytes_that_are_not_the_frames_have_no_place() -> None:
    told = packet('<field name="x.a" pos="1" size="2" show="bc" value="6263"/>')
    assert read(told)[0][1].layers[0].offset == 0
    assert read(told, data=b"wxyz")[0][1].layers[0].offset is None


def test_what_a_packet_makes_tshark_say_is_printable_and_bounded() -> None:
    told = packet("".join(f'<field name="x.{at}" show="&#x202e;{"y" * 500}"/>' for at in range(3000)))
    (layer,) = read(told)[0][1].layers
    assert len(layer.fields) <= 120
    assert all(str(field.value).isprintable() and len(str(field.value)) <= 160 for field in layer.fields)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "' + "c" * 99 + '">]><pdml><packet>&b;</packet></pdml>',
        "<pdml><packet>",
        "",
        "\0",
        "<pdml></packet>",
    ],
)
def test_what_is_no_answer_is_told(text: str) -> None:
    assert pdml.frames(text.encode(), {})[1].startswith("tshark's answer ends early: ")


def test_packets_before_the_place_where_an_answer_was_cut_are_read() -> None:
    whole = packet('<field name="x.a" show="1"/>')
    frames, fault = pdml.frames(f"<pdml>{whole}{whole[:40]}".encode(), {})
    assert (list(frames), bool(fault)) == ([1], True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_text_raises(name: str, shown: str, value: str) -> None:
    def quoted(text: str) -> str:
        return "".join(f"&#{ord(char)};" for char in text if char.isprintable() and char.isascii())

    told = packet(f'<field name="{quoted(name)}" showname="{quoted(shown)}" show="{quoted(value)}"/>')
    frames, fault = read(told)
    assert fault == ""
    assert all(field.name.isprintable() for layer in frames[1].layers for field in layer.fields)


def test_what_a_caller_wrote_is_the_value_of_an_option() -> None:
    for text in ("-X lua_script:/tmp/a.lua", "--version", "-r/etc/passwd", "x\n-w /tmp/a"):
        words = asked.selecting(text)
        assert words[words.index("-Y") + 1] == text
        assert len(words) == len(asked.selecting("ip"))


def test_packets_that_were_not_counted_are_not_none() -> None:
    table = f"1\n7\nProtocol Hierarchy Statistics\nFilter: {asked._NO_LINK}\n\n"
    assert asked.without_link_in(table.encode()) == 0
    assert asked.without_link_in(f"{table}frame    frames:2 bytes:112\n".encode()) == 2
    assert asked.without_link_in(b"1\n7\n") is None


def test_tsharks_complaint_is_told_in_its_words() -> None:
    said = (
        'Running as user "root"\n'
        'tshark: You don\'t have permission to read the file "/usr/share/wireshark/init.lua".\n'
        'tshark: "a" is no name.\n    a == 1\n    ^\n'
    )
    assert asked.complaint(said) == '"a" is no name.; a == 1'


def test_columns_may_hold_what_separates_them() -> None:
    assert list(asked.columns_in(b"1\tDNS\ta\tb\n2\tTCP\n\n")) == [(1, "DNS", "a\tb")]
    assert asked.numbers_in(b"1\n22\n\n") == [1, 22]
