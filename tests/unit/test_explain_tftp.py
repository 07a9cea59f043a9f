"""TFTP as conversations: what breaks one is found and named, and a whole one is not."""

from __future__ import annotations

from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, HOST, HOST_MAC, back, dhcp, out
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from test_explain import HANDSHAKE, compiled, examine, exchange, in_pieces, only, refusal

from rawtap.packets import mistakes
from rawtap.packets.explain import Examiner

CLIENT, SERVER = 2070, 40000
OPTIONS = b"blksize\x001432\x00tsize\x000\x00"
ENDS = b"octet\0"


def request(name: bytes = b"boot.ipxe", rest: bytes = ENDS, opcode: int = 1, **fields: Any) -> Any:
    return out(UDP(sport=CLIENT, dport=69) / Raw(bytes([0, opcode]) + name + b"\0" + rest), **fields)


def numbered(opcode: int, number: int, rest: bytes = b"") -> Raw:
    return Raw(bytes([0, opcode]) + number.to_bytes(2, "big") + rest)


def given(message: Raw, port: int = SERVER, **fields: Any) -> Any:
    """From the server."""
    return back(UDP(sport=port, dport=CLIENT) / message, **fields)


def taken(message: Raw, port: int = SERVER) -> Any:
    """From the client."""
    return out(UDP(sport=CLIENT, dport=port) / message)


def block(number: int, size: int = 512, port: int = SERVER) -> Any:
    return given(numbered(3, number, bytes(size)), port)


def ack(number: int, port: int = SERVER) -> Any:
    return taken(numbered(4, number), port)


def error(code: int, text: bytes) -> Raw:
    return numbered(5, code, text + b"\0")


def oack(options: bytes = b"blksize\x001432\x00tsize\x0060\x00") -> Any:
    return given(Raw(b"\0\6" + options))


WHOLE = [request(), block(1), ack(1), block(2, 10), ack(2)]
NEGOTIATED = [request(rest=ENDS + OPTIONS), oack(), ack(0), block(1, 1432), ack(1), block(2, 0), ack(2)]
WRITTEN = [
    request(b"log", opcode=2), given(numbered(4, 0)), taken(numbered(3, 1, bytes(512))), given(numbered(4, 1)),
    taken(numbered(3, 2)), given(numbered(4, 2)),
]  # fmt: skip
ELSEWHERE = Ether(src=HOST_MAC, dst=GUEST_MAC) / IP(src="10.0.2.3", dst=GUEST) / UDP(sport=SERVER, dport=CLIENT)


CLEAN: dict[str, list[Any]] = {
    "a file of two blocks": WHOLE,
    "a file with options agreed on": NEGOTIATED,
    "a file that is written": WRITTEN,
    "a size that is asked for alone": [request(rest=ENDS + OPTIONS), oack(), taken(error(8, b"User aborted"))],
    "a copy of each packet": [each for packet in WHOLE for each in (packet, packet)],
    "blocks in fragments": [
        request(rest=ENDS + b"blksize\x004000\0"), oack(b"blksize\x004000\0"), ack(0),
        *in_pieces(given(numbered(3, 1, bytes(4000)), id=5), 1400), ack(1), block(2, 1), ack(2)],
    "a second file from the same port": [*WHOLE, request(b"other"), block(1, 5), ack(1)],
    "a server that keeps its port": [request(), block(1, 5, port=69), ack(1, port=69)],
    "two answers, of which one is taken": [request(), block(1), block(1, port=40001), ack(1), block(2, 3), ack(2)],
    "a file whose beginning is not here": WHOLE[2:],
    "nothing of TFTP": HANDSHAKE,
    "what is too short": [request(), given(Raw(b"\0\3")), block(1, 5), ack(1)],
    "a window of blocks": [
        request(rest=ENDS + b"windowsize\x002\0"), oack(b"windowsize\x002\0"), ack(0), block(1), block(2), ack(2),
        block(3, 4), ack(3)],
}  # fmt: skip

# What was captured; the only finding's code, host, what was found, what was expected, and words of its sentence.
CAUSES: dict[str, tuple[list[Any], tuple[str, str, str, str, str]]] = {
    "a request that nobody answers": (
        [request()], ("tftp.no_answer", HOST, "", "", "asks the TFTP server 10.0.2.2 for 'boot.ipxe', and no answer")),
    "a file that is not there": (
        [request(), given(error(1, b"file /boot.ipxe not found"))],
        ("tftp.file_not_found", HOST, "", "", "10.0.2.2 ends the reading of 'boot.ipxe' by 10.0.2.15: file not found")),
    "a file that may not be read": (
        [request(), given(error(2, b"no"))], ("tftp.access_violation", HOST, "", "", "access violation")),
    "an error without a name": ([request(), given(error(77, b"?"))], ("tftp.error", HOST, "", "", ": error")),
    "a client that gives up": (
        [request(), block(1), taken(error(3, b"disk full"))], ("tftp.disk_full", GUEST, "", "", "10.0.2.15 ends the")),
    "a client that is deaf to the new port": (
        [request(), (1, block(1)), (2, request())],
        ("tftp.answer_ignored", GUEST, "", "", "asks again for 'boot.ipxe', though 10.0.2.2 has answered")),
    "an acknowledgment to the port of requests": (
        [request(), block(1, 5), ack(1, port=69)],
        ("tftp.port", GUEST, "port 69", "port 40000", "it is the port of requests")),
    "an acknowledgment to a swapped port": (
        [request(), block(1, 5), ack(1, port=mistakes.swapped(SERVER))],
        ("tftp.port", GUEST, f"port {mistakes.swapped(SERVER)}", "port 40000", mistakes.SWAPPED)),
    "an acknowledgment with a swapped number": (
        [request(), block(1, 5), ack(256)],
        ("tftp.block", GUEST, "block 256", "block 1 at most", mistakes.SWAPPED)),
    "a block that is left out": (
        [request(), block(1), ack(1), block(3, 5), ack(3)], ("tftp.block", HOST, "block 3", "block 2", "not the next")),
    "a block that is too large": (
        [request(), block(1, 600), ack(1), block(2, 5), ack(2)],
        ("tftp.block_size", HOST, "600 bytes", "512 at most", "larger block")),
    "an option that was not asked for": (
        [request(), oack(), ack(0), block(1, 5), ack(1)],
        ("tftp.options", HOST, "'blksize'", "no option", "another option")),
    "a larger block than asked for": (
        [request(rest=ENDS + b"blksize\x00600\0"), oack(b"blksize\x00900\0"), ack(0), block(1, 5), ack(1)],
        ("tftp.options", HOST, "blksize 900", "600 at most", "another option")),
    "a request without a mode": (
        [request(rest=b""), block(1, 5), ack(1)],
        ("tftp.request", GUEST, "1 strings", "two, or more with options", "")),
    "a request without its last zero": (
        [request(rest=b"octet"), block(1, 5), ack(1)],
        ("tftp.request", GUEST, "2 strings, and the last has no zero", "two, or more with options", "")),
    "a mode that there is none of": (
        [request(rest=b"binary\0"), block(1, 5), ack(1)],
        ("tftp.mode", GUEST, "'binary'", "netascii or octet", "a mode that there is none of")),
    "a block that is sent again": (
        [request(), (1, block(1)), (2, block(1)), (2.1, ack(1)), (2.2, block(2, 3)), (2.3, ack(2))],
        ("tftp.retransmission", GUEST, "", "", "block 1 of 'boot.ipxe' again: 10.0.2.15 has not acknowledged it")),
    "a block that is sent again though acknowledged": (
        [request(), (1, block(1)), (1.1, ack(1)), (2, block(1)), (2.1, ack(1)), (2.2, block(2, 3)), (2.3, ack(2))],
        ("tftp.retransmission", HOST, "", "", "again, though it was acknowledged")),
    "a client that falls silent": (
        [request(), block(1), ack(1), block(2)],
        ("tftp.broken_off", GUEST, "", "", "from 10.0.2.2 to 10.0.2.15 breaks off: 10.0.2.15 sends nothing more")),
    "a server that falls silent": (
        WHOLE[:3], ("tftp.broken_off", HOST, "", "", "breaks off: 10.0.2.2 sends nothing more")),
    "a last block that is never acknowledged": (WHOLE[:4], ("tftp.broken_off", GUEST, "", "", "breaks off")),
    "an answer from another address": (
        [request(), ELSEWHERE / numbered(3, 1, bytes(5))],
        ("tftp.other_server", "10.0.2.3", "10.0.2.3", HOST, "and 10.0.2.3 answers")),
    "options that are never acknowledged": (NEGOTIATED[:2], ("tftp.broken_off", GUEST, "", "", "breaks off")),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_a_right_conversation_is_not_found_wrong(name: str) -> None:
    verdict = examine(CLEAN[name])
    assert (verdict.findings, verdict.notes) == ((), ())


@pytest.mark.parametrize("name", CAUSES)
def test_what_breaks_a_transfer_is_named(name: str) -> None:
    packets, (what, host, found, expected, words) = CAUSES[name]
    finding, *beside = examine(packets).findings
    assert all(each.follows.startswith(what) for each in beside)
    assert (finding.what, finding.host, finding.found, finding.expected) == (what, host, found, expected)
    assert words in finding.says


@pytest.mark.parametrize("behind", [(0, 1), (1,)])
def test_block_numbers_go_on_behind_the_last_one(behind: tuple[int, ...]) -> None:
    first = bytes(back(UDP(sport=SERVER, dport=CLIENT, chksum=0) / numbered(3, 1, bytes(512))))
    last = bytes(out(UDP(sport=CLIENT, dport=SERVER, chksum=0) / numbered(4, 1)))
    packets: list[Any] = [request()]
    for number in (*range(1, 65536), *behind):
        word = number.to_bytes(2, "big")
        packets += [first[:44] + word + first[46:], last[:44] + word]
    timed = [(at / 1e5, packet) for at, packet in enumerate(packets)]
    assert examine([*timed, (2, block(2, 0)), (2, ack(2))]).findings == ()


def test_how_a_request_ended_is_told() -> None:
    assert exchange(examine(WHOLE), "TFTP").told == ("read 'boot.ipxe' in 1: answered by 2",)
    assert exchange(examine([request()]), "TFTP").unanswered == 1


def test_a_refusal_by_icmp_is_no_silence() -> None:
    assert [each.what for each in examine([request(), refusal(request())]).findings] == ["icmp.unreachable"]
    deaf = back(ICMP(type=3, code=3) / IP(bytes(block(1))[14:42]), id=9)
    assert "tftp.no_answer" not in [each.what for each in examine([request(), block(1), deaf]).findings]


@pytest.mark.parametrize(
    ("expression", "packets", "found"),
    [
        ("udp", [request()], ["tftp.no_answer"]),
        ("udp port 69", [request()], []),
        ("udp", WHOLE[:3], ["tftp.broken_off"]),
        ("udp dst port 69 or udp src port 40000", WHOLE[:2], []),
    ],
)
def test_what_a_filter_hides_is_not_missed(expression: str, packets: list[Any], found: list[str]) -> None:
    verdict = examine(packets, answers_pass=compiled(expression))
    assert [each.what for each in verdict.findings] == found
    assert found or "The filter hides" in verdict.notes[0]


def test_what_is_not_due_yet_is_not_missed() -> None:
    assert examine([request()], until=1).findings == ()
    assert examine(WHOLE[:3], until=1).findings == ()


def test_a_request_that_the_snaplen_cut_is_not_judged_by_its_form() -> None:
    data = bytes(request())
    examiner = Examiner(1)
    examiner.add(1, 0, len(data), data[:50])
    assert examiner.result(1).findings == ()


# ---------------------------------------------------------------- offers that are not taken


def discover(vendor: bytes) -> Any:
    return dhcp([("message-type", "discover"), ("vendor_class_id", vendor)])


def offer(*options: Any, **fields: Any) -> Any:
    given = [("message-type", "offer"), ("server_id", HOST), ("lease_time", 60), *options]
    return dhcp(given, reply=True, yiaddr=GUEST, **fields)


URL = b"http://10.0.2.2/boot.efi"
IGNORES = "the client ignores offers without a bootfile"


@pytest.mark.parametrize(
    ("vendor", "offered", "ignores"),
    [
        (b"PXEClient:Arch:00007", offer(), True),
        (b"PXEClient:Arch:00007", offer(("boot-file-name", b"a.efi")), False),
        (b"PXEClient:Arch:00007", offer(file=b"a.efi"), False),
        (b"HTTPClient:Arch:00016", offer(), True),
        (b"HTTPClient:Arch:00016", offer(("boot-file-name", URL)), True),
        (b"HTTPClient:Arch:00016", offer(("vendor_class_id", b"HTTPClient"), ("boot-file-name", URL)), False),
        (b"udhcp", offer(), False),
    ],
)
def test_a_client_that_boots_from_the_network_takes_no_offer_without_a_file(
    vendor: bytes, offered: Any, ignores: bool
) -> None:
    finding = only(examine([discover(vendor), offered]))
    assert finding.what == "dhcp.offer_not_taken"
    assert (IGNORES in finding.says, finding.host) == (ignores, HOST if ignores else GUEST_MAC)
    assert (finding.found, bool(finding.expected)) == (("no bootfile", True) if ignores else ("", False))
