"""The columns of packets: what they hold is what the headers' own reader, and a page's lines, say of the same bytes."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import lz4.frame
import pytest
import tangled
from backports import zstd
from frames import GUEST, GUEST_MAC, HOST_MAC, back, out
from nanoarrow import ArrayStream, ipc
from scapy.contrib.mpls import MPLS
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.dot11 import Dot11
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, wrpcap

from rawtap.errors import OutputUnwritable, RequestInvalid
from rawtap.packets import checks, lines, reader
from rawtap.packets._columns import FORMATS, Packets, Source
from rawtap.packets.headers import Frame, innermost, parse
from rawtap.packets.sql.database import Database
from rawtap.packets.sql.export import export
from rawtap.packets.transport import Icmp, Tcp, Udp

JUDGED = {checks.Verdict.RIGHT: True, checks.Verdict.WRONG: False}


@pytest.fixture
def opened() -> Iterator[Any]:
    fds: list[int] = []

    def source(path: Path, **more: Any) -> Source:
        fds.append(os.open(path, os.O_RDONLY))
        return Source(fds[-1], path.name, **more)

    yield source
    for fd in fds:
        os.close(fd)


def table(sources: list[Source], *names: str) -> list[dict[str, Any]]:
    """The rows of those columns; of all without a name."""
    wanted = names or tuple(FORMATS)
    connection = duckdb.connect()
    connection.register("packets", Packets(sources, wanted))
    rows = connection.execute(f"SELECT {', '.join(wanted)} FROM packets").fetchall()  # noqa: S608
    return [dict(zip(wanted, row, strict=True)) for row in rows]


def expected(frame: Frame) -> dict[str, Any]:
    """What some columns are by the headers' own reader; it says nothing of what it stopped at, as the columns do."""
    ip, transport = frame.ip, frame.transport
    found: dict[str, Any] = dict.fromkeys(
        ("source", "destination", "ttl", "ip_protocol", "source_port", "destination_port", "seq", "win", "payload")
    )
    if ip is None:
        return found
    found |= {"source": lines.ip_text(ip.source), "destination": lines.ip_text(ip.destination), "ttl": ip.ttl}
    found["ip_protocol"] = ip.protocol
    if isinstance(transport, (Tcp, Udp)):
        found |= {"source_port": transport.source_port, "destination_port": transport.destination_port}
    if isinstance(transport, Tcp):
        found |= {"seq": transport.sequence, "win": transport.window, "payload": transport.size}
    elif isinstance(transport, Udp) and transport.length >= 8:
        found["payload"] = max(transport.end - transport.payload, 0)
    elif isinstance(transport, Icmp):
        found["payload"] = transport.size
    return found


def frames() -> list[Any]:
    """Of each kind one that is whole."""
    return [
        out(TCP(sport=1, dport=2, flags="S", seq=1 << 31, options=[("MSS", 1460)])),
        out(UDP(sport=9, dport=53) / DNS(id=1, qd=DNSQR(qname="a.example"))),
        back(ICMP() / Raw(b"ping")),
        out(UDP(sport=1, dport=2) / Raw(b"x" * 33), options=[b"\1"] * 4),
        Ether(src=GUEST_MAC, dst=HOST_MAC) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / IP() / UDP(sport=1, dport=2) / Raw(b"odd"),
        Ether(src=GUEST_MAC, dst=HOST_MAC) / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
        Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src="fe80::1", dst="ff02::1:ff00:2") / ICMPv6ND_NS(tgt="fe80::2"),
        Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6() / IPv6ExtHdrDestOpt() / TCP(sport=3, dport=4) / Raw(b"abc"),
        Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6() / IPv6ExtHdrFragment(m=1, id=7) / UDP(sport=3, dport=4) / Raw(b"f"),
        out(UDP(sport=1, dport=2) / Raw(b"y" * 40), flags="MF", id=5),
        out(Raw(b"z" * 40), proto=17, frag=9, id=5),
    ]


def test_columns_hold_what_the_headers_reader_says_of_whole_damaged_and_cut_frames(tmp_path: Path, opened: Any) -> None:
    chance = random.Random(1)
    made = []
    for frame in map(bytes, frames()):
        made += [frame, *(frame[:size] for size in range(0, len(frame), 3))]
        for _ in range(40):
            damaged = bytearray(frame)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            made.append(bytes(damaged))
    path = tmp_path / "each.pcap"
    wrpcap(str(path), [Raw(each) for each in made], linktype=1)
    rows = table([opened(path)])
    assert len(rows) == len(made)
    judged = 0
    for row, frame in zip(rows, made, strict=True):
        read = parse(frame, len(frame), 1)
        assert row["frame"] == frame
        assert row["info"] == lines.describe(frame, len(frame), 1).info
        if read.stop is not None or read.problems:
            continue
        assert {name: row[name] for name in expected(read)} == expected(read) | (
            {"source": row["source"], "destination": row["destination"]} if read.arp else {}
        ), frame.hex()
        for each in checks.checksums(read):
            name = "ip_checksum_ok" if each.name == "IPv4" else "checksum_ok"
            assert row[name] == JUDGED.get(each.verdict), (each, frame.hex())
            judged += 1
    assert judged > 500


@pytest.mark.parametrize(
    ("link_type", "around", "carrier", "outer"),
    [
        (1, lambda ip: out(UDP(sport=9, dport=4789) / VXLAN(vni=7) / Ether() / ip), "VXLAN 7", GUEST),
        (1, lambda ip: out(GRE() / ip), "GRE", GUEST),
        (1, out, "IP in IP", GUEST),
        (1, lambda ip: out(UDP(sport=9, dport=4789) / VXLAN(vni=7) / Ether() / IP(src="192.0.2.9") / ip), None, GUEST),
        (1, lambda ip: Ether(type=0x8847) / MPLS(label=9, ttl=64) / ip, None, None),
        (1, lambda ip: Ether() / Dot1Q(vlan=3) / PPPoE(sessionid=1) / PPP(proto=0x21) / ip, "PPPoE 0x0001", None),
        (9, lambda ip: PPP(proto=0x21) / ip, None, None),
        (105, lambda ip: Dot11(type=2, addr2=GUEST_MAC) / LLC() / SNAP() / ip, None, None),
    ],
    ids=["VXLAN", "GRE", "IP in IP", "deep", "MPLS", "PPPoE", "PPP", "802.11"],
)
def test_columns_are_of_what_is_carried_at_last(
    tmp_path: Path, opened: Any, link_type: int, around: Callable[[Any], Any], carrier: str | None, outer: str | None
) -> None:
    inner = IP(src="198.51.100.1", dst="198.51.100.2") / TCP(sport=1, dport=2, flags="S", seq=5)
    made = [bytes(around(inner))]
    made += [made[0][:size] for size in range(0, len(made[0]), 5)]
    path = tmp_path / "carried.pcap"
    wrpcap(str(path), [Raw(each) for each in made], linktype=link_type)
    packets = Packets([opened(path)], FORMATS)
    connection = duckdb.connect()
    connection.register("packets", packets)
    names = ("source", "destination", "source_port", "checksum_ok", "stream", "carrier", "outer_source")
    rows = connection.execute(f"SELECT {', '.join(names)} FROM packets ORDER BY number").fetchall()  # noqa: S608
    assert rows[0][:5] == ("198.51.100.1", "198.51.100.2", 1, True, 0)
    assert carrier is None or rows[0][5] == carrier
    assert (rows[0][6], packets.unread) == (outer, 0)
    for row, frame in zip(rows, made, strict=True):
        read = parse(frame, len(frame), link_type)
        last = innermost(read) if innermost(read).ip else read  # what carries a packet that was cut off stands for it
        ports = last.transport.source_port if isinstance(last.transport, (Tcp, Udp)) else None
        assert row[2] == ports
        assert not last.ip or row[0] == lines.ip_text(last.ip.source)
    assert packets.first_of(0) == 1


def test_checksums_and_protocols_are_as_the_lines_have_them(tmp_path: Path, opened: Any) -> None:
    path = tangled.capture(tmp_path / "tangled.pcap", 3, connections=60)
    rows = table([opened(path)], "number", "protocol", "flags", "ip_checksum_ok", "checksum_ok", "info")
    packets = reader.open_file(path, "").take(1_000_000)
    assert len(rows) == len(packets) > 500
    for row, (number, _, _, length, data, origin) in zip(rows, packets, strict=True):
        frame = parse(data, length, origin.link_type)
        verdicts = [each.verdict for each in checks.checksums(frame) if each.name != "IPv4"]
        assert row["number"] == number
        assert row["info"] == lines.summarize(frame).info
        assert [row["checksum_ok"]] == ([JUDGED.get(each) for each in verdicts] or [None])
        if isinstance(frame.transport, Tcp):
            assert row["flags"] == lines.flags_text(frame.transport.flags)


def test_only_columns_that_are_wanted_are_filled_and_a_table_is_read_again(tmp_path: Path, opened: Any) -> None:
    path = tmp_path / "many.pcap"
    wrpcap(str(path), [bytes(out(ICMP()))] * 20_000, linktype=1)  # more than one batch
    packets = Packets([opened(path)], ["number", "ttl"])
    connection = duckdb.connect()
    connection.register("packets", packets)
    for _ in range(2):
        found = connection.execute("SELECT count(*), count(ttl), count(source), max(number) FROM packets").fetchall()
        assert found == [(20_000, 20_000, 0, 20_000)]
    joined = connection.execute("SELECT count(*) FROM packets a JOIN packets b USING (number)").fetchall()
    assert joined == [(20_000,)]


def test_interfaces_and_directions_of_pcapng_are_columns(tmp_path: Path, opened: Any) -> None:
    path = tmp_path / "two.pcapng"
    with PcapNgWriter(str(path)) as writer:
        for name, frame in (("eth0", out(ICMP())), ("eth1", back(ICMP(type=0)))):
            frame.sniffed_on, frame.direction = name, 1 if name == "eth0" else 2
            writer.write(frame)
    rows = table([opened(path)], "interface", "direction", "source_mac")
    assert [(row["interface"], row["source_mac"]) for row in rows] == [("eth0", GUEST_MAC), ("eth1", HOST_MAC)]
    by_reader = [each[5].direction or None for each in reader.open_file(path, "").take(10)]
    assert [row["direction"] for row in rows] == by_reader


def test_files_of_one_capture_go_on_and_those_of_others_begin_anew(tmp_path: Path, opened: Any) -> None:
    first, second = tmp_path / "a.pcap", tmp_path / "b.pcap"
    for at, path in enumerate((first, second)):
        frames_there = [out(TCP(sport=1, dport=2, flags="A", seq=each)) for each in range(3)]
        for each, frame in enumerate(frames_there):
            frame.time = 100 + at * 10 + each
        wrpcap(str(path), frames_there)
    one = table([opened(first), opened(second, before=3)], "number", "time", "stream")
    assert [tuple(row.values()) for row in one] == [(n, t, 0) for n, t in zip(range(1, 7), (0, 1, 2, 10, 11, 12))]  # noqa: B905
    two = table([opened(first), opened(second, group=1, packets=2)], "number", "time", "stream")
    assert [tuple(row.values()) for row in two] == [(1, 0, 0), (2, 1, 0), (3, 2, 0), (1, 0, 1), (2, 1, 1)]


def test_a_link_type_that_is_not_read_is_counted(tmp_path: Path, opened: Any) -> None:
    path = tmp_path / "other.pcap"
    wrpcap(str(path), [Raw(b"x" * 40)] * 3, linktype=147)
    packets = Packets([opened(path)], ["source", "length"])
    connection = duckdb.connect()
    connection.register("packets", packets)
    assert connection.execute("SELECT source, length FROM packets").fetchall() == [(None, 40)] * 3
    assert packets.unread == 3


@pytest.mark.parametrize(
    ("sql", "late"),
    [
        ("SELECT * FROM packets", True),
        ("SELECT number, info FROM packets ORDER BY length DESC LIMIT 2", True),
        ("SELECT p.info AS said FROM packets p WHERE number < 3", True),
        ("SELECT info FROM packets WHERE info LIKE '%echo%'", False),
        ("SELECT DISTINCT info FROM packets", False),
        ("SELECT info, count(*) FROM packets GROUP BY ALL", False),
        ("SELECT info, count(*) FROM packets GROUP BY info", False),
        ("SELECT upper(info) FROM packets", False),
        ("SELECT info FROM packets ORDER BY info", False),
        ("SELECT info AS said FROM packets ORDER BY said", False),
        ("SELECT number, info FROM packets ORDER BY 2", False),
        ("SELECT * FROM packets ORDER BY ALL", False),
        ("SELECT upper(COLUMNS('info')) FROM packets", False),
        ("SELECT info FROM packets UNION SELECT info FROM packets", False),
        ("SELECT info FROM (SELECT * FROM packets)", False),
        ("SELECT a.info FROM packets a JOIN packets b USING (info)", False),
        ("SELECT packets FROM packets", False),
        ("SELECT p::VARCHAR FROM packets p", False),
        ("SELECT * REPLACE (upper(info) AS info) FROM packets", False),
        ("SELECT #1 FROM packets", False),
    ],
)
def test_lines_are_the_same_whether_they_are_made_before_or_behind(
    tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch, sql: str, late: bool
) -> None:
    from rawtap.packets.sql import shape

    path = tmp_path / "few.pcap"
    wrpcap(str(path), [out(ICMP(seq=each) / Raw(b"x" * each)) for each in range(5)])
    database = Database([opened(path)], {}, "512MiB")
    root = database.check(sql)
    assert shape.shows_lines(root) is late
    before = database.ask(sql, root, 100, 100_000)
    monkeypatch.setattr(shape, "shows_lines", lambda _: False)
    assert sorted(map(str, database.ask(sql, root, 100, 100_000).rows)) == sorted(map(str, before.rows))
    assert "\\0line" not in str(before.rows)
    assert "\\x00line" not in str(before.rows)


def test_what_is_exported_is_read_by_duckdb_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [out(ICMP(seq=each)) for each in range(5)])
    done = export([path], tmp_path / "o'ne.parquet", info=True)
    (written,) = tmp_path.glob("*.parquet")
    assert (done.packets, done.size_bytes, done.lacking) == (5, written.stat().st_size, ())
    assert written.stat().st_mode & 0o777 == 0o600
    copy = written.rename(tmp_path / "one.parquet")
    found = duckdb.sql(f"SELECT number, source, info FROM '{copy}' ORDER BY number").fetchall()  # noqa: S608
    assert len(found) == 5
    assert found[0][2].startswith("echo request")
    export([path], tmp_path / "folder", info=False)
    parts = duckdb.sql(f"SELECT file, count(*) FROM '{tmp_path}/folder/**/*.parquet' GROUP BY ALL").fetchall()  # noqa: S608
    assert parts == [("some.pcap", 5)]


def test_arrow_files_are_read_by_another_engine_as_parquet_is(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [out(ICMP(seq=each)) for each in range(3000)])
    done = export([path], tmp_path / "all.arrows", info=True)
    assert (done.packets, done.size_bytes) == (3000, (tmp_path / "all.arrows").stat().st_size)
    export([path], tmp_path / "all.parquet", info=True)
    sql = "SELECT number, time_ns, source, protocol, checksum_ok, info FROM {} ORDER BY number"
    with duckdb.connect() as connection, ipc.InputStream.from_path(tmp_path / "all.arrows") as stream:
        connection.register("arrows", ArrayStream(stream))
        rows = connection.execute(sql.format("arrows")).fetchall()
        assert rows == connection.execute(sql.format(f"'{tmp_path}/all.parquet'")).fetchall()
        assert len(rows) == 3000


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lz4.frame.compress])
def test_a_compressed_capture_is_exported_as_any_other(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "packed.pcap"
    noise = random.Random(7)
    wrpcap(str(path), [out(ICMP(seq=each) / Raw(noise.randbytes(1000))) for each in range(500)])
    packed = compress(path.read_bytes())
    path.write_bytes(packed)
    done = export([path], tmp_path / "whole.csv", info=True)
    assert (done.packets, done.lacking) == (500, ())
    path.write_bytes(packed[:-1000])
    done = export([path], tmp_path / "cut.csv", info=False)
    assert 0 < done.packets < 500
    assert f"is read up to packet {done.packets}: its " in done.lacking[0]


def test_an_export_that_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [out(ICMP())])
    there = tmp_path / "there.csv"
    there.write_text("mine")
    with pytest.raises(OutputUnwritable):
        export([path], there, info=False)
    with pytest.raises(RequestInvalid):
        export([path], tmp_path / "x.xml", info=False)
    for name in ("x.csv", "x.arrows"):
        with pytest.raises(OutputUnwritable):
            export([path], tmp_path / "nowhere" / name, info=False)
    assert there.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [path, there]


@pytest.mark.parametrize("to", ["some.csv", "some.arrows", "folder"])
def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path, to: str) -> None:
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [out(ICMP(seq=each)) for each in range(5000)])
    export_ = [sys.executable, "-m", "rawtap", "export", path, "--to", tmp_path / to]
    done = subprocess.run(["prlimit", "--fsize=1000", *export_], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rawtap: capture.output_unwritable:")
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_says_what_it_wrote_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    wrpcap(str(path), [out(ICMP()), out(ICMP())])
    path.write_bytes(path.read_bytes()[:-1])
    command = [sys.executable, "-m", "rawtap", "export", path, "--to", tmp_path / "cut.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    size = (tmp_path / "cut.csv").stat().st_size
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}/cut.csv: 1 packets, {size} bytes\n")
    assert done.stderr == "rawtap: cut.pcap ends in the middle of packet 2\n"


def test_the_command_says_of_which_packets_columns_hold_little(tmp_path: Path) -> None:
    path = tmp_path / "other.pcap"
    wrpcap(str(path), [Raw(b"x" * 40)] * 3, linktype=147)
    command = [sys.executable, "-m", "rawtap", "export", path, "--to", tmp_path / "other.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == "rawtap: 3 packets are of link types of which only lengths, times and info are told\n"
