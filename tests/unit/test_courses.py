"""Which segments of a connection end a message that began before, and what conversations announce of others."""

from __future__ import annotations

import pytest
from frames import GUEST, HOST, back, out
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, Raw

from rawtap.packets.headers import parse
from rawtap.packets.lines import PacketSummary, summarize
from rawtap.packets.memory import Memory

ENDS = "the end of what began in #"
Sent = tuple[str, str, int, bytes]  # who sends, its flags, the first byte's number, the bytes


def lines(*packets: Packet, captured: int | None = None) -> list[PacketSummary]:
    memory, found = Memory(), []
    for number, packet in enumerate(packets, 1):
        data = bytes(packet)
        frame = parse(data[:captured], len(data), 1)
        found.append(summarize(frame, memory.mark(number, frame, 0)))
    return found


def segments(*sent: Sent, port: int = 8000) -> list[Packet]:
    """Of a connection: ``>`` from the client."""
    made, reached = [], {">": 0, "<": 0}
    for way, flags, sequence, data in sent:
        ports = (40000, port) if way == ">" else (port, 40000)
        header = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=1000 + sequence)
        header.ack = 1000 + reached["<" if way == ">" else ">"]
        made.append((out if way == ">" else back)(header / Raw(data), id=len(made) + 1))
        reached[way] = max(reached[way], sequence + len(data))
    return made


def told(*sent: Sent, port: int = 8000, captured: int | None = None) -> list[str]:
    """Each segment's protocol, and where the message began that it ends."""
    found = []
    for each in lines(*segments(*sent, port=port), captured=captured):
        begin = each.info.partition(ENDS)[2].split(",")[0]
        found.append(f"{each.protocol} {begin}".rstrip())
    return found


def flow(*parts: bytes, way: str = "<") -> list[Sent]:
    """Segments one behind the other."""
    return [(way, "PA", sum(map(len, parts[:at])), part) for at, part in enumerate(parts)]


RECORD = b"\x17\x03\x03\x00\x64" + b"\x9a" * 100
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


COURSES: dict[str, tuple[list[Sent], list[str]]] = {
    "a record of TLS": (flow(RECORD[:40], RECORD[40:70], RECORD[70:]), ["TLS", "TCP", "TLS 1"]),
    "its length is cut": (flow(RECORD + RECORD[:3], RECORD[3:], RECORD), ["TLS", "TLS 1", "TLS"]),
    "the next begins in the segment": (flow(RECORD[:40], RECORD[40:] + RECORD[:50], RECORD[50:]),
                                       ["TLS", "TLS 1", "TLS 2"]),
    "a body": (flow(ANSWER + b"~" * 10, b"~" * 10, b"~" * 10), ["HTTP", "TCP", "HTTP 1"]),
    "a head in two": (flow(ANSWER[:20], ANSWER[20:] + b"~" * 30), ["HTTP", "HTTP 1"]),
    "chunks": (
        flow(CHUNKED + b"5\r\n~~", b"~~~\r\n3;x\r\n~~~", b"\r\n0\r", b"\n\r\n"), ["HTTP", "TCP", "TCP", "HTTP 1"]
    ),
    "a chunk of less than nothing": (flow(CHUNKED + b"-5\r\n~~", b"~~\r\n0\r\n\r\n"), ["HTTP", "TCP"]),
    "until the connection ends": (
        [*flow(b"HTTP/1.0 200 OK\r\n\r\n~", b"~~"), ("<", "FA", 22, b"")], ["HTTP", "TCP", "HTTP 1"],
    ),
    "a length that is not understood": (
        [*flow(CHUNKED.replace(b": ", b":\x0b") + b"5\r\n~~~~~\r\n", b"0\r\n\r\n"), ("<", "FA", 62, b"")],
        ["HTTP", "TCP", "TCP"],
    ),
    "two lengths": (
        [*flow(ANSWER[:-2] + b"content-length: 20\r\n\r\n" + b"~" * 10, b"~" * 10, b"~" * 10), ("<", "FA", 89, b"")],
        ["HTTP", "TCP", "TCP", "TCP"],
    ),
    "an upgrade to something else": (
        [*flow(UPGRADE.replace(b"websocket", b"other"), b"\x81\x05abcd"), ("<", "FA", 58, b"")], ["HTTP", "TCP", "TCP"],
    ),
    "a tunnel is not a body": (
        [(">", "PA", 0, b"CONNECT a:1 HTTP/1.1\r\n\r\n\n"), *flow(b"HTTP/1.1 200 OK\r\n\r\n"), ("<", "FA", 19, b"")],
        ["HTTP", "HTTP", "TCP"],
    ),
    "a tunnel that is refused": (
        [(">", "PA", 0, b"CONNECT a:1 HTTP/1.1\r\n\r\n"), *flow(ANSWER.replace(b"200", b"407") + b"~", b"~" * 29)],
        ["HTTP", "HTTP", "HTTP 2"],
    ),
    "the end of a connection ends nothing else": (
        [*flow(ANSWER + b"~" * 10, b"~" * 20), ("<", "FA", 69, b"")], ["HTTP", "HTTP 1", "TCP"],
    ),
    "an answer without a body": (
        [(">", "PA", 0, b"HEAD / HTTP/1.1\r\n\r\n"), *flow(ANSWER, b"~" * 30)], ["HTTP", "HTTP", "TCP"],
    ),
    "WebSocket": (
        [(">", "PA", 0, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), *flow(UPGRADE),
         (">", "PA", 38, b"\x81\x82abcd\x09\x09"), ("<", "PA", len(UPGRADE), b"\x82\x7e\1\0" + bytes(200)),
         ("<", "PA", len(UPGRADE) + 204, bytes(56))],
        ["HTTP", "HTTP", "WebSocket", "WebSocket", "WebSocket 4"],
    ),
    "HTTP2": (
        [(">", "PA", 0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ("<", "PA", 0, b"\0\0\0\4\0\0\0\0\0"),
         (">", "PA", 24, b"\0\0\x08\0\0\0\0\0\1" + bytes(4)), (">", "PA", 37, bytes(4))],
        ["HTTP2", "HTTP2", "HTTP2", "HTTP2 3"],
    ),
    "bytes are missing where a length would be": (
        [("<", "PA", 0, RECORD[:40]), ("<", "PA", 150, RECORD[45:])], ["TLS", "TCP"],
    ),
    "bytes are missing in the middle": ([("<", "PA", 0, RECORD[:40]), ("<", "PA", 60, RECORD[60:])], ["TLS", "TLS 1"]),
    "a new connection": (
        [("<", "PA", 0, RECORD[:40]), (">", "S", 5000, b""), ("<", "PA", 40, RECORD[40:])], ["TLS", "TCP", "TCP"],
    ),
    "what keeps it alive": (
        [*flow(RECORD[:40], RECORD[40:]), ("<", "A", 104, b"\x9a")], ["TLS", "TLS 1", "TCP"],
    ),
    "a crowd of messages": (
        [*flow(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (b"\0\0\0\4" + bytes(5)) * 1200, b"\0\0\0\4" + bytes(5))],
        ["HTTP2", "TCP", "TCP"],
    ),
    "noise at a boundary": (flow(RECORD, b"\x9a" * 50), ["TLS", "TCP"]),
    "VNC": (flow(b"RFB 003.008\n", b"\1\2"), ["VNC", "VNC"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COURSES)
def test_a_segment_that_ends_a_message_has_its_name(name: str) -> None:
    sent, expected = COURSES[name]
    assert told(*sent) == expected


def test_what_a_port_tells_has_lengths_too() -> None:
    search = b"\x30\x40\x02\x01\x07\x63" + bytes(60)
    assert told(*flow(search[:20], search[20:]), port=389) == ["LDAP", "LDAP 1"]
    published = b"\x30\xc8\1\0\3foo" + b"X" * 195
    assert told(*flow(published[:70], published[70:140], published[140:]), port=1883) == ["MQTT", "TCP", "MQTT 1"]
    call = b"\x80\0\0\x40" + bytes.fromhex("00000007 00000000 00000002 000186a3 00000003 00000006") + bytes(40)
    assert told(*flow(call[:40], call[40:], way=">"), port=2049) == ["NFS", "NFS 1"]


def test_what_was_not_captured_is_not_guessed() -> None:
    sent = flow(RECORD[:40] + RECORD, RECORD * 2, RECORD)
    assert told(*sent, captured=70) == ["TLS", "TLS", "TLS"]  # by their own first bytes
    frame = b"\0\0\x64\0\0\0\0\0\1" + bytes(100)
    sent = flow(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame, frame[:40], frame[40:])
    assert told(*sent, captured=80) == ["HTTP2", "HTTP2", "HTTP2", "HTTP2 3"]  # not 2, whose end was not captured
    assert told(*flow(RECORD[:60], RECORD[60:] + RECORD[:5], b"~" * 100), captured=80)[2] == "TCP"


def test_data_of_ftp_are_known_by_what_announced_them() -> None:
    numbers = HOST.replace(".", ",")
    data = TCP(sport=40002, dport=50001, flags="PA", seq=1) / Raw(b"\x01\x02")
    for told_at, said in (
        (0, f"227 Entering Passive Mode ({numbers},195,81)\r\n"), (0, "229 Extended (|||50001|)\r\n"),
        (1, f"EPRT |1|{HOST}|50001|\r\n"), (1, f"PORT {numbers},195,81\r\n"),
    ):  # fmt: skip
        ports = {"sport": 21, "dport": 40001} if not told_at else {"sport": 40001, "dport": 21}
        control = (out if told_at else back)(TCP(flags="PA", seq=1, **ports) / Raw(said.encode()))
        assert [each.protocol for each in lines(control, out(data))] == ["FTP", "FTP-DATA"]
    assert lines(out(data))[0].protocol == "TCP"


def test_media_of_a_call_are_known_by_what_announced_them() -> None:
    said = f"SIP/2.0 200 OK\r\n\r\nv=0\r\nc=IN IP4 {GUEST}\r\nt=0 0\r\nm=audio 7000 RTP/AVP 0\r\n"
    invite = out(UDP(sport=5060, dport=5060) / Raw(said.encode()))
    voice = UDP(sport=9000, dport=7000) / Raw(b"\x80\0\0\7" + bytes(4) + b"abcd" + bytes(160))
    found = lines(invite, back(voice), back(UDP(sport=9000, dport=7000) / Raw(b"\x10" + bytes(40))), out(voice))
    assert [each.protocol for each in found] == ["SIP", "RTP", "UDP", "UDP"]
    assert found[1].info.startswith("type 0 seq=7 source 0x61626364")


PARTS = st.sampled_from(
    (b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 99999999999\r\n", b"\r\n", b"5\r\n",
     b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UPGRADE, RECORD, RECORD[:3], b"\x81\xfe",
     b"\x30\x84\xff\xff\xff\xff", b"227 (1,2,3,4,5,6)", b"m=audio 1 RTP/AVP 0\r\n", b"\x80\xff", bytes(9))
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("<>"), st.sampled_from(("PA", "FA", "S")), st.integers(0, 300),
                       st.lists(PARTS | st.binary(max_size=20), max_size=4)), max_size=12),
    st.sampled_from((21, 80, 389, 443, 2049)), st.sampled_from((None, 60, 70, 90)),
)  # fmt: skip
def test_no_order_of_segments_raises(
    sent: list[tuple[str, str, int, list[bytes]]], port: int, captured: int | None
) -> None:
    whole = [(way, flags, sequence, b"".join(parts)) for way, flags, sequence, parts in sent]
    for each in lines(*segments(*whole, port=port), captured=captured):
        assert len(each.info) <= 200
