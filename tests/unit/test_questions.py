"""What network engineers ask, each answered by one query, with tshark's answer beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, back, out
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from rawtap.packets._columns import Source
from rawtap.packets.sql.database import Database
from rawtap.packets.sql.derived import READERS

PAGE = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nno\n"


def wire() -> Iterator[Any]:
    """A little of everything, in the order in which it happens."""
    yield Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst=HOST)
    yield Ether(src=HOST_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=HOST_MAC, psrc=HOST, hwdst=GUEST_MAC, pdst=GUEST)
    for number, name in enumerate(("one.example", "two.example", "one.example"), 1):
        yield out(UDP(sport=4000 + number, dport=53) / DNS(id=number, qd=DNSQR(qname=name)))
        answer = DNSRR(rrname=name, rdata="192.0.2.7") if name == "one.example" else []
        flags = {"qr": 1, "rcode": 0 if answer else 3}
        yield back(UDP(sport=53, dport=4000 + number) / DNS(id=number, qd=DNSQR(qname=name), an=answer, **flags))
    yield from connection(5000, 80, b"GET /index.html HTTP/1.1\r\nHost: www.example\r\n\r\n", PAGE)
    yield out(TCP(sport=5001, dport=81, flags="S", seq=7))
    yield back(TCP(sport=81, dport=5001, flags="RA", seq=0, ack=8))
    yield from (out(TCP(sport=5002, dport=82, flags="S", seq=9)) for _ in range(3))  # nobody answers
    yield from connection(5000, 80, b"PUT /x HTTP/1.1\r\nHost: www.example\r\n\r\n", PAGE)  # the same ports once more
    for number in range(1, 4):
        yield out(ICMP(id=1, seq=number) / Raw(b"x" * 56), ttl=64)
        if number != 2:
            yield back(ICMP(type=0, id=1, seq=number) / Raw(b"x" * 56), ttl=63)
    yield out(ICMP(type=3, code=3) / IP(src=HOST, dst=GUEST) / UDP(sport=1, dport=2))
    yield out(UDP(sport=9, dport=10) / Raw(b"y" * 100), chksum=0x1234)
    yield out(UDP(sport=9, dport=10, chksum=0x4321) / Raw(b"z"))
    yield Ether(src=GUEST_MAC, dst=HOST_MAC) / Dot1Q(vlan=7) / IP(src=GUEST, dst="10.0.7.1") / UDP(sport=1, dport=123)
    yield Ether(src=GUEST_MAC, dst=HOST_MAC) / IPv6(src="fe80::1", dst="ff02::1") / ICMPv6EchoRequest()
    yield out(UDP(sport=6000, dport=6000) / Raw(b"f" * 64), flags="MF", id=77)
    yield Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff") / IP(src=GUEST, dst="255.255.255.255") / UDP(sport=68, dport=67)


def connection(source: int, destination: int, said: bytes, answer: bytes) -> Iterator[Any]:
    """A whole one, in which the request is sent twice."""
    start, other = 1000 * destination + len(said), 9000
    yield out(TCP(sport=source, dport=destination, flags="S", seq=start, window=1024))
    yield back(TCP(sport=destination, dport=source, flags="SA", seq=other, ack=start + 1))
    yield out(TCP(sport=source, dport=destination, flags="A", seq=start + 1, ack=other + 1))
    for _ in range(2):
        yield out(TCP(sport=source, dport=destination, flags="PA", seq=start + 1, ack=other + 1) / Raw(said))
    there = start + 1 + len(said)
    yield back(TCP(sport=destination, dport=source, flags="PA", seq=other + 1, ack=there) / Raw(answer))
    behind = other + 1 + len(answer)
    yield out(TCP(sport=source, dport=destination, flags="FA", seq=there, ack=behind, window=0))
    yield back(TCP(sport=destination, dport=source, flags="FA", seq=behind, ack=there + 1))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "wire.pcap"
    frames = list(wire())
    for number, frame in enumerate(frames):
        frame.time = 1_700_000_000 + number * number / 1000
    wrpcap(str(path), frames)
    return path


@pytest.fixture(scope="module")
def database(capture: Path) -> Iterator[Database]:
    fd = os.open(capture, os.O_RDONLY)
    made = Database([Source(fd, capture.name)], {}, "512MiB")
    for name in READERS:
        made.derive(name)
    made.lock()
    yield made
    os.close(fd)


def tshark(capture: Path, *fields: str, where: str = "") -> list[list[str]]:
    """What tshark says of those fields: a row for each packet that its filter selects."""
    names = [word for field in fields for word in ("-e", field)]
    options = ["-o", "tcp.check_checksum:true", "-o", "udp.check_checksum:true", "-o", "ip.check_checksum:true"]
    command = [
        "tshark",
        "-2",
        "-n",
        "-r",
        str(capture),
        *options,
        "-T",
        "fields",
        "-E",
        "occurrence=f",
        *names,
        "-Y",
        where,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


# A question, the query that answers it, and what tshark is asked for: fields, a filter, and what is made of its rows,
# where `t` stands for them.
QUESTIONS = [
    ("How many packets are there?", "SELECT count(*) FROM packets", ["frame.number"], "", "[[len(t)]]"),
    (
        "Who asks by ARP for whom?",
        "SELECT source_mac, source, destination FROM packets WHERE arp_operation = 1",
        ["eth.src", "arp.src.proto_ipv4", "arp.dst.proto_ipv4"],
        "arp.opcode == 1",
        "t",
    ),
    (
        "Which two hosts exchange the most bytes?",
        "SELECT a, b, packets, bytes FROM conversations ORDER BY bytes DESC LIMIT 1",
        ["frame.len"],
        f"ip.addr == {GUEST} and ip.addr == {HOST}",
        f"[['{GUEST}' if '{GUEST}' < '{HOST}' else '{HOST}', '{HOST}' if '{GUEST}' < '{HOST}' else '{GUEST}', "
        "len(t), sum(int(x[0]) for x in t)]]",
    ),
    (
        "How much does each host send?",
        "SELECT address, packets_sent, bytes_sent FROM endpoints WHERE packets_sent > 0 ORDER BY address",
        ["ip.src", "ipv6.src", "frame.len"],
        "ip or ipv6",
        "grouped([[x[0] or x[1], x[2]] for x in t])",
    ),
    (
        "How many TCP connections were opened?",
        "SELECT count(*) FROM streams WHERE syn AND protocol = 'TCP'",
        ["tcp.stream"],
        "tcp.flags.syn == 1 and tcp.flags.ack == 0",
        "[[len({x[0] for x in t})]]",
    ),
    (
        "Which ports did nobody answer at?",
        "SELECT destination_port, packets FROM streams WHERE syn AND NOT syn_ack AND NOT rst AND packets_back = 0",
        ["tcp.dstport"],
        "tcp.dstport == 82",
        "[[int(t[0][0]), len(t)]]",
    ),
    (
        "Which connections were refused or reset, and by whom?",
        "SELECT source, source_port FROM packets WHERE flags LIKE '%RST%'",
        ["ip.src", "tcp.srcport"],
        "tcp.flags.reset == 1",
        "[[x[0], int(x[1])] for x in t]",
    ),
    (
        "What was sent more than once?",
        "SELECT min(number), max(number) FROM packets WHERE payload > 0 AND protocol <> 'UDP' AND seq IS NOT NULL "
        "GROUP BY stream, source_port, seq, payload HAVING count(*) > 1 ORDER BY 1",
        ["frame.number"],
        "tcp.analysis.retransmission and tcp.len > 0",
        "[[int(x[0]) - 1, int(x[0])] for x in t]",
    ),
    (
        "Who closed its window?",
        "SELECT number, source, source_port FROM packets WHERE win = 0 AND flags NOT LIKE '%RST%' AND flags <> 'SYN'",
        ["frame.number", "ip.src", "tcp.srcport"],
        "tcp.window_size_value == 0 and tcp.flags.reset == 0",
        "[[int(x[0]), x[1], int(x[2])] for x in t]",
    ),
    (
        "How many bytes of data did each connection carry?",
        "SELECT stream, payload FROM (SELECT rank() OVER (ORDER BY stream) - 1 AS stream, payload FROM streams "
        "WHERE protocol = 'TCP') ORDER BY 1",
        ["tcp.stream", "tcp.len"],
        "tcp",
        "[[a, c] for a, b, c in grouped(t, int)]",
    ),
    (
        "Which names were asked for, how often?",
        "SELECT name, count(*) FROM dns WHERE NOT response GROUP BY name ORDER BY name",
        ["dns.qry.name", "frame.len"],
        "dns.flags.response == 0",
        "[[a, b] for a, b, c in grouped(t)]",
    ),
    (
        "Which names are unknown?",
        "SELECT DISTINCT name FROM dns WHERE rcode = 'NXDOMAIN'",
        ["dns.qry.name"],
        "dns.flags.rcode == 3",
        "t",
    ),
    (
        "Which answer took the longest?",
        "SELECT number, name, round(delay, 6) FROM dns WHERE response ORDER BY delay DESC LIMIT 1",
        ["frame.number", "dns.qry.name", "dns.time"],
        "dns.time",
        "[max(([int(x[0]), x[1], round(float(x[2]), 6)] for x in t), key=lambda x: x[2])]",
    ),
    (
        "What was asked of web servers, and what did they say?",
        "SELECT DISTINCT method, target, host FROM http WHERE NOT response ORDER BY ALL",  # one is there twice
        ["http.request.method", "http.request.uri", "http.host"],
        "http.request",
        "t",
    ),
    (
        "Which answers of web servers are errors?",
        "SELECT number, status, content_length FROM http WHERE status >= 400",
        ["frame.number", "http.response.code", "http.content_length"],
        "http.response.code >= 400",
        "[[int(y) for y in x] for x in t]",
    ),
    (
        "Which pings were not answered?",
        "SELECT number FROM packets p WHERE icmp_type = 8 AND NOT EXISTS (FROM packets r WHERE r.icmp_type = 0 "
        "AND r.source = p.destination AND r.number = p.number + 1)",
        ["frame.number"],
        "icmp.type == 8 and icmp.resp_not_found",
        "[[int(x[0])] for x in t]",
    ),
    (
        "Who says that a port is closed?",
        "SELECT number, source FROM packets WHERE icmp_type = 3 AND icmp_code = 3",
        ["frame.number", "ip.src"],
        "icmp.type == 3 and icmp.code == 3",
        "[[int(x[0]), x[1]] for x in t]",
    ),
    (
        "Which checksums are wrong?",
        "SELECT number FROM packets WHERE NOT ip_checksum_ok OR NOT checksum_ok",
        ["frame.number"],
        "ip.checksum.status == 0 or tcp.checksum.status == 0 or udp.checksum.status == 0 or icmp.checksum.status == 0",
        "[[int(x[0])] for x in t]",
    ),
    (
        "What is in which VLAN?",
        "SELECT vlan, destination, protocol FROM packets WHERE vlan IS NOT NULL",
        ["vlan.id", "ip.dst"],
        "vlan",
        "[[int(x[0]), x[1], 'NTP'] for x in t]",
    ),
    (
        "What came in fragments?",
        "SELECT number, ip_id FROM packets WHERE fragment",
        ["frame.number", "ip.id"],
        "ip.flags.mf == 1 or ip.frag_offset > 0",
        "[[int(x[0]), int(x[1], 16)] for x in t]",
    ),
    (
        "What goes to everybody?",
        "SELECT number, length FROM packets WHERE destination_mac = 'ff:ff:ff:ff:ff:ff'",
        ["frame.number", "frame.len"],
        "eth.dst == ff:ff:ff:ff:ff:ff",
        "[[int(y) for y in x] for x in t]",
    ),
    (
        "What TTLs does each host send with?",
        "SELECT DISTINCT source, ttl FROM packets WHERE ttl IS NOT NULL AND source LIKE '10.%' ORDER BY ALL",
        ["ip.src", "ip.ttl"],
        "ip",
        "sorted({(x[0], int(x[1])) for x in t})",
    ),
    (
        "What was there in each second?",
        "SELECT floor(time)::INTEGER, count(*) FROM packets GROUP BY ALL ORDER BY 1",
        ["frame.time_relative"],
        "",
        "[[a, b] for a, b, c in grouped([[int(float(x[0])), 0] for x in t], int)]",
    ),
]


def grouped(rows: list[list[Any]], of: type = str) -> list[list[Any]]:
    """By the first value: how many rows, and the sum of the last values."""
    keys = sorted({of(row[0]) for row in rows})
    inside = {key: [int(row[-1]) for row in rows if of(row[0]) == key] for key in keys}
    return [[key, len(inside[key]), sum(inside[key])] for key in keys]


@pytest.mark.parametrize(("question", "sql", "fields", "where", "made"), QUESTIONS, ids=[each[0] for each in QUESTIONS])
def test_a_question_is_answered_as_tshark_answers_it(
    database: Database, capture: Path, question: str, sql: str, fields: list[str], where: str, made: str
) -> None:
    rows = database.ask(sql, database.check(sql), 100, 100_000).rows
    judged = tshark(capture, *fields, where=where)
    assert judged, question
    assert rows == [list(each) for each in eval(made, {"t": judged, "grouped": grouped})]  # noqa: S307 - ours
