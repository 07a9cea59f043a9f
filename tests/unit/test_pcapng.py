"""The pcapng blocks, as tshark, capinfos and tcpdump read them."""

from __future__ import annotations

import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest

from rawtap.capture import pcapng

NOON_NS = 1_763_899_200_123_456_789
FRAME = bytes.fromhex("ffffffffffff02000000000188b5").ljust(61, b"\0")


def written(path: Path, *, text: str = "a comment: ünï", saved: int = 1) -> Path:
    """A file of one packet."""
    size = 32 + 64
    packet = struct.pack("<IIIIIII", 6, size, 0, NOON_NS >> 32, NOON_NS & 0xFFFFFFFF, len(FRAME), len(FRAME))
    head = pcapng.head(
        interfaces=(("rvos-br0", "guest (02:00:00:00:00:01 on tap0)"),),
        link_type=1,
        snaplen=262144,
        filter="udp port 53",
        hardware="x86_64",
        system="Linux 6.1 on here",
        application="rawtap 0",
        comment=text,
    )
    tail = pcapng.statistics(
        start_ns=NOON_NS - 5,
        end_ns=NOON_NS + 5,
        seen=5,
        selected=4,
        dropped_interface=3,
        dropped_kernel=2,
        saved=saved,
    )
    path.write_bytes(head + packet + FRAME.ljust(64, b"\0") + struct.pack("<I", size) + tail)
    return path


def output_of(*command: str | Path) -> str:
    """What a program prints; a word on stderr but tcpdump's "reading from file" fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith(("reading from", "Running as user"))]
    assert complaints == []
    return done.stdout


def test_wireshark_shows_interface_filter_guest_host_comment_and_counters(tmp_path: Path) -> None:
    path = written(tmp_path / "one.pcapng")
    info = output_of("capinfos", path)
    for expected in (
        "Number of packets:   1",
        "File timestamp precision:  nanoseconds (9)",
        "Capture comment:     a comment: ünï",
        "Capture hardware:    x86_64",
        "Capture oper-sys:    Linux 6.1 on here",
        "Capture application: rawtap 0",
        "Name = rvos-br0",
        "Description = guest (02:00:00:00:00:01 on tap0)",
        "Filter string = udp port 53",
        "Capture length = 262144",
        "Number of stat entries = 1",
    ):
        assert expected in info
    fields = ("frame.time_epoch", "frame.interface_name", "frame.len", "frame.cap_len")
    shown = output_of("tshark", "-r", path, "-T", "fields", *(word for each in fields for word in ("-e", each)))
    assert shown.split() == ["1763899200.123456789", "rvos-br0", "61", "61"]


def test_the_counters_are_those_of_the_capture(tmp_path: Path) -> None:
    """tshark has no words for them in its fields: the block's own are read, by the format's text."""
    data = written(tmp_path / "one.pcapng").read_bytes()
    block = data[-int.from_bytes(data[-4:], "little") :]
    kind, length, interface, high, low = struct.unpack_from("<IIIII", block)
    assert (kind, length, interface, high << 32 | low) == (5, len(block), 0, NOON_NS + 5)
    at, found = 20, {}
    while (code := struct.unpack_from("<H", block, at)[0]) != 0:
        size = struct.unpack_from("<H", block, at + 2)[0]
        found[code] = block[at + 4 : at + 4 + size]
        at += 4 + size
    counters = {code: int.from_bytes(value, "little") for code, value in found.items() if code > 3}
    assert counters == {4: 5, 5: 3, 6: 4, 7: 2, 8: 1}
    assert at + 4 + 4 == len(block)


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    assert output_of("tcpdump", "--count", "-nr", written(tmp_path / "one.pcapng")) == "1 packet\n"


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 4095, 4096, 4097, 70000])
def test_a_text_of_any_length_fits(tmp_path: Path, length: int) -> None:
    info = output_of("capinfos", written(tmp_path / "one.pcapng", text="c" * length))
    assert "Number of packets:   1" in info
    assert info.count("c" * min(length, 4096)) >= 1


def test_a_text_is_cut_between_two_characters(tmp_path: Path) -> None:
    info = output_of("capinfos", written(tmp_path / "one.pcapng", text="c" + "ü" * 4000))
    assert "c" + "ü" * 2047 + "\n" in info


def test_statistics_are_never_longer_than_what_is_kept_free_for_them() -> None:
    """A full file's end is. A counter that is not known is left out."""
    block = partial(pcapng.statistics, start_ns=NOON_NS, end_ns=NOON_NS, dropped_kernel=1, saved=1)
    large = block(seen=1 << 60, selected=1 << 60, dropped_interface=1)
    assert len(large) == pcapng.STATISTICS_BYTES
    assert len(block(seen=None, selected=1, dropped_interface=None)) == pcapng.STATISTICS_BYTES - 2 * 12
