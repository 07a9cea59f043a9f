"""Selecting packets from a file: what comes out is what tcpdump makes of the same file, whatever the file."""

from __future__ import annotations

import dataclasses
import os
import resource
import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rawtap.cli import main
from rawtap.errors import BadFilter, CaptureUnreadable, OutputUnwritable
from rawtap.packets import pages, reader
from rawtap.packets.index import Indexes
from rawtap.packets.origin import Origin
from rawtap.packets.reader import Selected, select
from rawtap.packets.tail import Part

UDP = bytes.fromhex(
    "ffffffffffff 020000000001 0800 4500001d0000000040110000 0a00020f 0a000202 9c40 0035 0009 0000 21".replace(" ", "")
)
ARP = bytes.fromhex("ffffffffffff 020000000001 0806".replace(" ", "")) + bytes(28)
ETHERNET, NULL, SLL, RADIOTAP, USB_LINUX = 1, 0, 113, 127, 189
MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
SECTION = bytes.fromhex("0a0d0d0a")
FILE_HEADER = 24
# What libpcap says where it reads no further, and we do.
MORE_THAN_TCPDUMP = ("different from the", "different byte order", "is larger than")
WITHOUT_INTERFACE = "no Interface Description Blocks"  # it refuses such a file, which has no packet
FILTERS = ("", "udp port 53", "greater 100", "ether[0] = 0xff")


@dataclass(frozen=True)
class Packet:
    seconds: int
    fraction: int
    data: bytes
    length: int


def pcap(packets: list[Packet], order: str, magic: int = NANO, link_type: int = ETHERNET, snaplen: int = 2048) -> bytes:
    """pcap-savefile(5)"""
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)
    return head + b"".join(
        struct.pack(order + "IIII", each.seconds, each.fraction, len(each.data), each.length) + each.data
        for each in packets
    )


def block(order: str, kind: int, body: bytes) -> bytes:
    size = 12 + len(body) + -len(body) % 4
    return struct.pack(order + "II", kind, size) + body + bytes(-len(body) % 4) + struct.pack(order + "I", size)


def interface(order: str, options: bytes = b"", link_type: int = ETHERNET, snaplen: int = 2048) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snaplen) + options)


def enhanced(order: str, packet: Packet, number: int = 0) -> bytes:
    ticks = packet.seconds * 1_000_000 + packet.fraction % 1_000_000
    fields = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), packet.length)
    return block(order, 6, fields + packet.data)


def pcapng(order: str, *blocks: bytes) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)) + b"".join(blocks)


def resolution(order: str, value: int) -> bytes:
    """if_tsresol and the end of the options."""
    return struct.pack(order + "HHBxxxHH", 9, 1, value, 0, 0)


ORDERS = st.sampled_from("<>")
PACKETS = st.builds(
    lambda second, fraction, data, more: Packet(second, fraction, data, len(data) + more),
    st.integers(0, 2**31 - 1),
    st.integers(0, 999_999),
    st.sampled_from([UDP, ARP, UDP + bytes(100)]) | st.binary(max_size=40),
    st.sampled_from([0, 0, 1000]),
)


@st.composite
def pcap_files(draw: st.DrawFn) -> bytes:
    return pcap(
        draw(st.lists(PACKETS, max_size=8)),
        draw(ORDERS),
        draw(st.sampled_from([MICRO, NANO])),
        draw(st.sampled_from([ETHERNET, ETHERNET, NULL, SLL, USB_LINUX])),
        draw(st.sampled_from([2048, 50])),
    )


@st.composite
def pcapng_files(draw: st.DrawFn) -> bytes:
    order = draw(ORDERS)
    options = draw(st.sampled_from([b"", *(resolution(order, value) for value in (3, 6, 9, 0x8A))]))
    strange = (
        block(order, 4, b"a name resolution block"),
        block(order, 0x0BAD, struct.pack(order + "I", 1) + b"custom"),
        interface(order),
        block(order, 3, struct.pack(order + "I", len(ARP)) + ARP),
        enhanced(order, Packet(5, 6, UDP, len(UDP)), number=1),
        pcapng(order, interface(order)),
        enhanced(order, Packet(5, 6, UDP, len(UDP)))[:-1] + b"\7",  # another length at the block's end
    )
    some = PACKETS.map(lambda packet: enhanced(order, packet)) | st.sampled_from(strange)
    return pcapng(order, interface(order, options), *draw(st.lists(some, max_size=8)))


@st.composite
def damaged(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    data = draw(files)
    at = draw(st.integers(24, max(24, len(data))))
    return draw(
        st.sampled_from([data[:at], data[:at] + b"\xff\xff" + data[at + 2 :], data[:at] + bytes(4) + data[at:]])
    )


FILES = pcap_files() | pcapng_files() | damaged(pcap_files()) | damaged(pcapng_files())


def tcpdumps(path: Path, expression: str, *, nano: bool) -> tuple[bytes, str]:
    """What tcpdump selects, and its last words."""
    out = path.with_suffix(".tcpdump")
    run_as = ["-Z", "root"] if os.geteuid() == 0 else []
    command = ["tcpdump", "-r", path, "-w", out, *run_as, *(["--nano"] if nano else []), expression]
    told = subprocess.run(command, capture_output=True, check=False).stderr.decode().splitlines()
    return (out.read_bytes() if out.exists() else b""), told[-1] if told else ""


def ours(path: Path, expression: str) -> tuple[bytes, str]:
    out = path.with_suffix(".ours")
    try:
        found = select(path, expression, out)
    except (CaptureUnreadable, BadFilter) as error:
        assert not out.exists()
        return b"", str(error.__cause__)
    data = out.read_bytes()
    assert found.size_bytes == len(data)
    assert select(path, expression, None) == dataclasses.replace(found, size_bytes=None)
    return data, found.damage


@given(FILES, st.sampled_from(FILTERS))
@example(pcapng("<"), "")
@settings(max_examples=300, deadline=None)
def test_what_is_selected_is_what_tcpdump_selects(data: bytes, expression: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.pcap")
        path.write_bytes(data)
        micro = data[:4] in {struct.pack(order + "I", MICRO) for order in "<>"}
        theirs, last_words = tcpdumps(path, expression, nano=not micro)
        found, damage = ours(path, expression)
        if any(words in last_words for words in MORE_THAN_TCPDUMP):
            assert found.startswith(theirs)
        elif WITHOUT_INTERFACE in last_words:
            assert (theirs, len(found), damage) == (b"", FILE_HEADER, "")
        else:
            assert found == theirs
            assert bool(damage) != last_words.startswith("reading from file")
            assert data.startswith(SECTION) or damage in last_words


def test_packets_of_a_link_type_that_libpcap_does_not_know_are_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    """No filter can be compiled for them; without one nothing is asked of them."""
    path = tmp_path / "two.pcapng"
    unknown = 0xFF01
    frames = [enhanced("<", Packet(1, 0, UDP, len(UDP))), enhanced("<", Packet(2, 0, UDP, len(UDP)), number=1)]
    path.write_bytes(pcapng("<", interface("<"), interface("<", link_type=unknown), *frames))
    assert [row.number for row in page_of(path, "", limit=5).packets] == [1, 2]
    assert [row.number for row in page_of(path, "udp", limit=5).packets] == [1]
    assert [row.number for row in page_of(path, "not arp", limit=5).packets] == [1]


def test_a_filter_that_is_too_much_for_a_link_type_does_not_pass_its_packets_over_without_a_word(
    tmp_path: Path,
) -> None:
    """For radiotap, whose headers have any length, each comparison takes many instructions."""
    path = tmp_path / "two.pcapng"
    packet = Packet(1, 0, UDP, len(UDP))
    ours, other = interface("<"), interface("<", link_type=RADIOTAP)
    expression = "||".join(f"ip[8]={each}" for each in range(1, 190))
    path.write_bytes(pcapng("<", ours, enhanced("<", packet), other, enhanced("<", packet, 1)))
    file = reader.open_file(path, expression)
    assert len(file.take(10)) == 1
    assert file.damage.endswith(": this filter could not be compiled for the link type of an interface")
    path.write_bytes(pcapng("<", ours, other, enhanced("<", packet), enhanced("<", packet, 1)))
    with pytest.raises(BadFilter, match=r"libpcap: the program has \d+ instructions, of which the kernel takes 4096"):
        reader.open_file(path, expression)
    assert [row.number for row in page_of(path, "udp", limit=5).packets] == [1]


def page_of(path: Path, expression: str, cursor: str | None = None, *, limit: int) -> pages.Page:
    source = pages.PacketFiles(str(path), [Part(1, path, 0)])
    return pages.read_page(source, pages.Question(expression, cursor, limit=limit), Indexes())


@given(FILES, st.sampled_from(FILTERS), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_pages_make_up_the_whole_selection(data: bytes, expression: str, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.pcap")
        path.write_bytes(data)
        try:
            whole = page_of(path, expression, limit=reader.MAX_LIMIT)
        except (CaptureUnreadable, BadFilter):
            return
        assert (whole.matched, whole.scanned) == (len(whole.packets), select(path, expression, None).scanned)
        lines, cursor = list[reader.Line](), None
        while True:
            page = page_of(path, expression, cursor, limit=limit)
            lines += page.packets
            cursor = page.next_cursor
            if cursor is None:
                break
        assert tuple(lines) == whole.packets
        assert (page.matched, page.damage) == (whole.matched, whole.damage)


@given(FILES, st.sampled_from(FILTERS), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_what_is_taken_bit_by_bit_ends_where_a_count_ends(data: bytes, expression: str, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.pcap")
        path.write_bytes(data)
        try:
            whole, file = select(path, expression, None), reader.open_file(path, expression)
        except (CaptureUnreadable, BadFilter):
            return
        taken = 0
        for _ in range(whole.matched + 3):  # it is asked again behind the end
            taken += len(file.take(limit))
        assert (taken, file.damage) == (whole.matched, whole.damage)


def test_nothing_is_taken_behind_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pcap"
    whole = [Packet(number, 0, ARP, len(ARP)) for number in range(3)]
    damaged = struct.pack("<IIII", 9, 0, 0x7FFFFFFF, 0x7FFFFFFF)
    path.write_bytes(pcap(whole[:1], "<") + damaged + pcap(whole[1:], "<")[24:])
    file = reader.open_file(path, "")
    assert [len(file.take(2)), len(file.take(2)), file.scanned] == [1, 0, 1]
    assert "2147483647" in file.damage


def test_a_file_longer_than_the_buffer_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.pcap"
    packets = [Packet(number, 7, UDP + bytes(number % 1400), len(UDP) + 1400) for number in range(3000)]
    for write in (lambda order: pcap(packets, order), lambda order: pcapng(order, *map_blocks(order, packets))):
        for order in "<>":
            path.write_bytes(write(order))
            out = tmp_path / "out"
            assert select(path, "udp port 53", out) == Selected(3000, 3000, 0, out.stat().st_size, "")
            expected, _ = tcpdumps(path, "udp port 53", nano=True)
            assert out.read_bytes() == expected
            out.unlink()


def map_blocks(order: str, packets: list[Packet]) -> list[bytes]:
    return [interface(order), *(enhanced(order, packet) for packet in packets)]


def a_file(folder: Path, packets: int = 3) -> Path:
    path = folder / "file.pcap"
    path.write_bytes(pcap([Packet(number, 0, UDP, len(UDP)) for number in range(packets)], "<"))
    return path


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    there = tmp_path / "there"
    there.write_text("precious", encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for out in (there, link, path):
        with pytest.raises(OutputUnwritable, match="File exists"):
            select(path, "", out)
    assert there.read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_that_no_file_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="embedded null byte"):
        select(a_file(tmp_path), "", tmp_path / "a\0b")


def test_a_copy_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = a_file(tmp_path, 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores SIGXFSZ: write(2) says EFBIG
    try:
        with pytest.raises(OutputUnwritable, match="File too large"):
            select(path, "", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out").exists()


def test_a_wrong_filter_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFilter, match="syntax error"):
        select(a_file(tmp_path), "udp prot", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--count"], "3 of 3 packets\n"),
        (["--count", "tcp", "port", "53"], "0 of 3 packets\n"),
        (["udp", "port", "53", "--count"], "3 of 3 packets\n"),
        (["--limit", "1", "udp"], "      1     0.000000     43  "),
    ],
)
def test_the_command_line_reads_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["read", str(a_file(tmp_path)), *words]) == 0
    assert capsys.readouterr().out.startswith(told)


def test_the_command_line_copies_what_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = a_file(tmp_path), tmp_path / "out.pcap"
    assert main(["read", str(path), "udp", "--write", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 3 of 3 packets, {len(path.read_bytes())} bytes\n"
    assert out.read_bytes() == path.read_bytes()
    assert main(["read", str(path), "udp", "--write", str(out)]) == 1
    assert "output_unwritable" in capsys.readouterr().err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "words", "told"),
    [
        (Path.unlink, [], "No such file"),
        (cut, ["--count"], "the file ends in the middle of packet"),
        (cut, [], "the file ends in the middle of packet"),
        (Path.touch, ["udp", "prot"], "syntax error"),
        (Path.touch, ["host", "example.com"], "numeric address"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    words: list[str],
    told: str,
) -> None:
    path = a_file(tmp_path)
    spoil(path)
    assert main(["read", str(path), *words]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--limit", "0"], ["--count", "--write", "x"], ["--bogus"]])
def test_wrong_usage_is_refused(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["read", str(a_file(tmp_path)), *words])


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def seen(tmp_path: Path, *blocks: bytes, order: str = "<") -> tuple[list[tuple[int, Origin]], str | None]:
    """Of each packet its nanoseconds and where it was seen; and what is damaged."""
    path = tmp_path / "some.pcapng"
    path.write_bytes(pcapng(order, *blocks))
    file = reader.open_file(path, "")
    return [(each[1], each[5]) for each in file.take(100)], file.damage


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_packets_direction_is_in_the_lowest_two_bits_of_its_flags(tmp_path: Path, order: str) -> None:
    packets = [
        block(order, 6, struct.pack(order + "IIIII", 0, 0, 0, len(ARP), len(ARP)) + ARP + bytes(-len(ARP) % 4)
              + option(order, 1, b"a comment") + option(order, 2, struct.pack(order + "I", flags)) + bytes(4))
        for flags in (0, 1, 2, 3, 0xFFFFFFFD, 4)
    ]  # fmt: skip
    found, damage = seen(tmp_path, interface(order), *packets, order=order)
    assert [each.direction for _, each in found] == ["", "inbound", "outbound", "", "inbound", ""]
    assert not damage


def test_an_interface_has_its_own_clock_name_and_description(tmp_path: Path) -> None:
    options = option("<", 2, b"tap0") + option("<", 3, b"one") + option("<", 14, struct.pack("<q", 1000)) + bytes(4)
    packet = Packet(5, 7, ARP, len(ARP))
    blocks = (interface("<"), interface("<", options), enhanced("<", packet), enhanced("<", packet, 1))
    (first, second), damage = seen(tmp_path, *blocks)
    assert (first[0], first[1].name, first[1].interface) == (5_000_007_000, "", 0)
    assert (second[0], second[1].name, second[1].about) == (1_005_000_007_000, "tap0", "one")
    assert not damage


def test_a_packet_that_is_longer_than_its_interface_lets_it_be_is_damage(tmp_path: Path) -> None:
    packet = Packet(5, 7, ARP, len(ARP))
    blocks = (interface("<", snaplen=len(ARP)), interface("<", snaplen=len(ARP) - 1))
    found, damage = seen(tmp_path, *blocks, enhanced("<", packet), enhanced("<", packet, 1))
    assert len(found) == 1
    assert damage
