"""Compressed captures are read like what they were made of, and unpack nowhere."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd

from rawtap.errors import CaptureUnreadable
from rawtap.packets import ends, reader
from rawtap.packets.index import Indexes
from rawtap.packets.pages import PacketFiles, Question, read_page
from rawtap.packets.tail import Part

FRAME = bytes.fromhex("ffffffffffff02000000000108060001080006040001020000000001c0000202000000000000c0000201")
PACKETS = 20_000  # much more than one read's worth

Pack = Callable[[bytes], bytes]
KINDS: dict[str, Pack] = {"gzip": gzip.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}


def pcap(packets: int = PACKETS) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (struct.pack("<IIII", number, 0, len(FRAME), len(FRAME)) + FRAME for number in range(packets))
    return head + b"".join(records)


def pcapng(packets: int = PACKETS) -> bytes:
    head = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack(
        "<IIHHII", 1, 20, 1, 0, 0, 20
    )
    size = 32 + 44
    odd = struct.pack("<II", 0xBAD, (1 << 20)) + bytes((1 << 20) - 12) + struct.pack("<I", 1 << 20)  # passed over
    body = FRAME.ljust(44, b"\0") + struct.pack("<I", size)
    records = [
        struct.pack("<IIIIIII", 6, size, 0, 0, number * 1_000, len(FRAME), len(FRAME)) + body
        for number in range(packets)
    ]
    return head + b"".join([*records[:3], odd, *records[3:]])


def page_of(path: Path, **question: object) -> object:
    source = PacketFiles("it", [Part(1, path, 0)])
    return read_page(source, Question(**question), Indexes())  # type: ignore[arg-type]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("question", [{}, {"first": 15_001, "limit": 3}, {"expression": "udp"}])
def test_pages_are_those_of_the_file_that_was_compressed(
    tmp_path: Path, kind: str, make: Callable[[], bytes], question: dict[str, object]
) -> None:
    plain = written(tmp_path / "plain", make())
    packed = written(tmp_path / "packed", KINDS[kind](make()))
    assert page_of(packed, **question) == page_of(plain, **question)
    assert page_of(packed, **question).scanned == PACKETS  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_several_compressed_parts_is_read_to_its_end(tmp_path: Path, kind: str) -> None:
    data = pcap()
    parts = KINDS[kind](data[:70_000]) + KINDS[kind](data[70_000:])
    found = reader.select(written(tmp_path / "parts", parts), "arp", None)
    assert (found.matched, found.damage) == (PACKETS, "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_file_that_was_cut_says_so_once(tmp_path: Path, kind: str) -> None:
    """Where its packets end in the middle as well, and where they do not."""
    packed = KINDS[kind](pcap())
    cut = written(tmp_path / "cut", packed[: len(packed) * 2 // 3])
    found = reader.select(cut, "", None)
    assert 0 < found.scanned < PACKETS
    assert ends.told(found.scanned, found.damage) == (
        f"the file is read up to packet {found.scanned}: its {kind} data ends in the middle"
    )
    assert page_of(cut).lacking == (ends.told(found.scanned, found.damage),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_of_a_file_that_was_cut_is_read_once(tmp_path: Path, kind: str) -> None:
    """Cut anywhere near its end; what is in it is noise, so that all that is there is unpacked."""
    noise = random.Random(7)
    datas = [noise.randbytes(noise.randint(500, 1000)) for _ in range(500)]
    records = (struct.pack("<IIII", at, 0, len(data), len(data)) + data for at, data in enumerate(datas))
    packed = KINDS[kind](pcap(0) + b"".join(records))
    for cut in range(1, 60_000, 1_777):
        savefile = reader.open_file(written(tmp_path / "cut", packed[:-cut]), "")
        found = [taken[0][4] for taken in iter(lambda: savefile.take(1), [])]  # noqa: B023
        assert found == datas[: len(found)]
        assert savefile.scanned == len(found) > 0
        assert savefile.damage.startswith(f"its {kind} data ")


def test_a_compressed_file_that_is_cut_in_its_first_block_says_so(tmp_path: Path) -> None:
    packed = lz4.frame.compress(pcap(200), block_size=lz4.frame.BLOCKSIZE_MAX4MB, block_linked=False)
    with pytest.raises(CaptureUnreadable, match="its lz4 data ends in the middle"):
        reader.open_file(written(tmp_path / "cut", packed[: len(packed) // 2]), "")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_compressed_file_that_is_damaged_says_so(tmp_path: Path, kind: str) -> None:
    packed = bytearray(KINDS[kind](pcap()))
    if kind == "gzip":
        packed[-8] ^= 1  # its checksum
    else:
        packed[len(packed) // 2 :] = bytes(len(packed) // 2)
    found = reader.select(written(tmp_path / "damaged", bytes(packed)), "", None)
    assert found.damage.startswith(f"its {kind} data is damaged: ")


def test_a_compressed_copy_has_the_packets_of_the_file(tmp_path: Path) -> None:
    packed = written(tmp_path / "packed", gzip.compress(pcap(10)))
    reader.select(packed, "", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == pcap(10)


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_what_unpacks_a_file_is_named_where_it_is_missing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = written(tmp_path / "packed", KINDS[kind](pcap(1)))
    for name in ("compression.zstd", "backports.zstd", "lz4.frame"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CaptureUnreadable, match=f"compressed with {kind}, .*pip install ") as raised:
        reader.open_file(packed, "")
    assert {"zstd": "backports.zstd", "lz4": "lz4"}[kind] in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [bz2.compress(b"x"), gzip.compress(b"no capture"), b"\x1f\x8b", b"\x1f\x8b" + bytes(99)],
    ids=["bzip2", "no capture inside", "two bytes", "not gzip"],
)
def test_what_unpacks_to_no_capture_is_none(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CaptureUnreadable):
        reader.open_file(written(tmp_path / "none", data), "")


BOMB = """
import resource, sys
from pathlib import Path
from rawtap.packets import reader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(reader.select(Path(sys.argv[1]), "", None).scanned, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_file_that_unpacks_to_much_fills_neither_memory_nor_disk(tmp_path: Path) -> None:
    """A fifth of a gigabyte of empty packets, out of a fifth of a megabyte."""
    size = 200 << 20
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6) as file:
        file.write(pcap(0))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    bomb = written(tmp_path / "bomb", packed.getvalue())
    told = subprocess.run(
        [sys.executable, "-c", BOMB, bomb], capture_output=True, text=True, check=True, env={"TMPDIR": str(tmp_path)}
    ).stdout
    scanned, kilobytes = map(int, told.split())
    assert scanned == size // 16
    assert kilobytes < 32 << 10
    assert list(tmp_path.iterdir()) == [bomb]
