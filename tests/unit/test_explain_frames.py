"""Frames: what stands behind a packet, what hardware has still to fill in, and what is a fault."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from frames import GUEST, GUEST_MAC, back, out
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import HAO, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting
from scapy.layers.l2 import Ether
from test_explain import BASE, codes, examine, only

from rawtap.packets.checks import total
from rawtap.packets.explain import Examiner

LONG, SHORT = out(UDP(sport=1, dport=2) / bytes(100)), out(UDP(sport=1, dport=2))


def with_fcs(frame: Any) -> bytes:
    data = bytes(frame)
    return data + zlib.crc32(data).to_bytes(4, "little")


# --------------------------------------------------------------- behind the packet


@pytest.mark.parametrize("frame", [LONG, bytes(SHORT).ljust(60, b"\0")], ids=["long", "padded"])
def test_an_fcs_is_no_trailer(frame: Any) -> None:
    verdict = examine([with_fcs(frame)])
    assert verdict.findings == ()
    assert verdict.notes == ("1 frames were captured with their FCS at the end, which is right",)


def test_four_other_bytes_are_a_trailer() -> None:
    found = only(examine([bytes(LONG) + b"1234"]))
    assert (found.what, found.host, found.found, found.expected) == (
        "ethernet.trailer", GUEST_MAC, "146 bytes", "142 bytes")  # fmt: skip


@pytest.mark.parametrize(("padded", "found"), [
    (bytes(22), []), (bytes(23), ["ethernet.trailer"]), (bytes(21) + b"x", ["ethernet.trailer"])])  # fmt: skip
def test_zeros_up_to_the_least_size_with_its_fcs_are_padding(padded: bytes, found: list[str]) -> None:
    assert [each.what for each in examine([bytes(SHORT) + padded]).findings] == found


def test_what_is_behind_a_packet_is_told_without_the_fcs() -> None:
    found = only(examine([with_fcs(bytes(LONG) + b"12345678")]))
    assert found.evidence == "8 bytes from byte 142 on"
    assert only(examine([with_fcs(bytes(SHORT).ljust(60, b"x"))])).what == "ethernet.padding"


@pytest.mark.parametrize(("behind", "found"), [(b"1234", []), (b"12345", ["ethernet.trailer"])])
def test_bytes_that_were_not_captured_may_be_an_fcs(behind: bytes, found: list[str]) -> None:
    data = bytes(LONG) + behind
    examiner = Examiner(1)
    examiner.add(1, BASE, len(data), data[:80])
    assert [each.what for each in examiner.result(BASE + 10**10).findings] == found


# ---------------------------------------------------------------- left to hardware

PARTIAL = out(UDP(sport=1, dport=2, chksum=0x0A00 + 0x020F + 0x0A00 + 0x0202 + 17 + 108) / bytes(100))
NO_SUM = out(ICMP(), chksum=0)


@pytest.mark.parametrize("order", [1, -1])
def test_an_ipv4_checksum_of_zero_beside_others_that_are_left_is_left_as_well(order: int) -> None:
    verdict = examine([NO_SUM, PARTIAL][::order], until=0.1)
    assert verdict.findings == ()
    assert verdict.notes == ("2 checksums were left to the hardware to finish, which is no defect",)


def test_an_ipv4_checksum_of_zero_alone_is_not_filled_in() -> None:
    right = back(UDP(sport=1, dport=2) / b"abc")
    found = only(examine([NO_SUM, right, NO_SUM], until=0.1))
    assert (found.what, found.host, found.found, found.packets) == ("ipv4.checksum_wrong", GUEST, "0x0000", (1, 3))
    assert found.says.endswith("the IPv4 checksum is wrong: it was not filled in")
    assert "ipv4.checksum_wrong" in codes([NO_SUM, back(PARTIAL[UDP])], until=0.1)  # another one leaves them


def test_a_host_makes_no_checksums_for_itself() -> None:
    frame = Ether(src="0:0:0:0:0:0", dst="0:0:0:0:0:0") / IP(src="127.0.0.1", dst="127.0.0.1", chksum=0)
    assert codes([frame / TCP(sport=1, dport=2, flags="A", chksum=0)]) == []


def test_a_length_of_zero_is_read_to_the_frames_end() -> None:
    packet = out(TCP(sport=1, dport=2, flags="A", chksum=0x1234) / bytes(100), len=0, chksum=0)
    verdict = examine([packet])
    assert verdict.findings == ()
    assert verdict.notes == (
        "1 packets have a length of 0, as segmentation offload leaves it to the hardware: they were read to the frame's"
        " end",
    )
    six = (
        Ether(src=GUEST_MAC)
        / IPv6(src="fe80::1", dst="fe80::2", plen=0)
        / TCP(sport=1, dport=2, flags="A", chksum=1)
        / bytes(99)
    )
    assert examine([six]).findings == ()


def test_a_length_of_zero_with_checksums_that_are_made_is_wrong() -> None:
    data = bytearray(bytes(LONG))
    data[16:18] = data[24:26] = bytes(2)
    data[24:26] = (0xFFFF - total(bytes(data[14:34]))).to_bytes(2, "big")
    found = only(examine([bytes(data)]))
    assert (found.what, found.host, found.found, found.expected) == ("ip.total_length", GUEST, "0", "128")


# --------------------------------------------------------------------- checksums


def test_a_wrong_checksum_names_its_sender_and_the_mistake() -> None:
    right = int.from_bytes(bytes(LONG)[40:42], "big")
    swapped = out(UDP(sport=1, dport=2, chksum=(right & 0xFF) << 8 | right >> 8) / bytes(100))
    found = only(examine([swapped]))
    assert found.says.startswith("10.0.2.15:1 to 10.0.2.2: the UDP checksum is wrong: its bytes are swapped")
    assert (found.host, found.expected) == (GUEST, f"0x{right:04x}")


def test_a_time_to_live_that_is_lowered_alone_is_told() -> None:
    before = int.from_bytes(bytes(out(UDP(sport=1, dport=2), ttl=64))[24:26], "big")
    assert only(examine([out(UDP(sport=1, dport=2), ttl=63, chksum=before)])).says.endswith(
        "the IPv4 checksum is wrong: the time to live was lowered without it")  # fmt: skip


LAST, HOME = "2001:db8::9", "2001:db8::77"


@pytest.mark.parametrize(
    "way", [IPv6ExtHdrRouting(addresses=["2001:db8::5", LAST], segleft=2), IPv6ExtHdrDestOpt(options=[HAO(hoa=HOME)])]
)
def test_a_sum_made_with_the_addresses_of_the_header_is_told(way: Any) -> None:
    six = Ether(src=GUEST_MAC) / IPv6(src="2001:db8::1", dst="2001:db8::2")
    plain = six / UDP(sport=1, dport=2) / b"abc"
    wrong = six / way / UDP(sport=1, dport=2, chksum=IPv6(bytes(plain)[14:])[UDP].chksum) / b"abc"
    assert "made with the addresses of the IP header" in only(examine([wrong])).says
