"""What a bridge passed on of what a guest sent, told from samples."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from rawtap.packets.passage import Passage, compare

GUEST, HOST = "52:54:00:00:00:01", "52:54:00:00:00:02"


def frame(number: int = 0, source: str = GUEST, destination: str = HOST) -> bytes:
    return bytes(Ether(src=source, dst=destination) / IP(src="10.0.2.15", dst="10.0.2.2", id=number) / UDP() / b"four")


def judged(sent: list[bytes], passed: list[bytes], *, whole: bool = True) -> Passage:
    return compare("guest", "rtap1.0", len(sent), sent, passed, whole=whole)


def with_bytes(frame: bytes, offset: int, text: str) -> bytes:
    new = bytes.fromhex(text)
    return frame[:offset] + new + frame[offset + len(new) :]


def test_what_came_by_is_not_missed() -> None:
    sent = [frame(1), frame(2), frame(2)]
    found = judged(sent, [frame(2), frame(9), frame(1), frame(2)])
    assert (found.compared, found.passed, found.trimmed, found.reasons) == (3, 3, 0, ())


def test_each_frame_that_came_by_stands_for_one() -> None:
    assert judged([frame(1), frame(1)], [frame(1)]).lost == 1


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (frame(source="53:54:00:00:00:01"), "group source address"),
        (frame(source="00:00:00:00:00:00"), "source address of zeros"),
        (frame(destination="01:80:c2:00:00:0e"), "reserved group address as destination, which no bridge forwards"),
        (with_bytes(frame(), 16, "0021"), "IP length beyond the frame"),  # it has 32 bytes
        (bytes(Ether(src=GUEST, dst=HOST) / IPv6(plen=5) / b"four"), "IP length beyond the frame"),
        (with_bytes(frame(), 14, "65"), "IP version that its EtherType does not have"),
        (with_bytes(frame(), 24, "dead"), "IPv4 header checksum wrong"),
        (with_bytes(frame(), 16, "0020"), "why is not known"),
        (bytes(Ether(src=GUEST, dst=HOST) / ARP()), "why is not known"),
        (frame()[:13], "shorter than an Ethernet header"),
    ],
)
def test_the_reason_is_read_in_the_frame(lost: bytes, reason: str) -> None:
    found = judged([frame(1), lost, frame(2)], [frame(1), frame(2)])
    assert (found.lost, found.reasons) == (1, ((reason, 1),))


def test_a_frame_without_its_padding_came_by_and_was_trimmed() -> None:
    found = judged([frame(1) + bytes(14), frame(2)], [frame(2), frame(1)])
    assert (found.passed, found.trimmed, found.lost) == (2, 1, 0)


def test_of_a_sample_that_is_not_whole_nothing_behind_its_end_is_missed() -> None:
    sent = [frame(1), frame(2), frame(3), frame(4)]
    found = judged(sent, [frame(1), frame(3)], whole=False)
    assert (found.compared, found.passed, found.reasons) == (3, 2, (("why is not known", 1),))
    assert judged(sent, [frame(9)], whole=False).compared == 0


def test_it_is_told_in_words() -> None:
    group = frame(source="53:54:00:00:00:01")
    assert str(judged([group, frame(1), group], [frame(1)])) == (
        "the guest 'guest' sent 3 frames, the bridge passed 1: group source address (2 frames). "
        'qemu_pcap_start(interface="rtap1.0") has them as they left the guest'
    )
    some = compare("guest", "rtap1.0", 9, [group, frame(1)], [frame(1)], whole=True)
    assert str(some).startswith(
        "the guest 'guest' sent 9 frames, and of the first 2 the bridge passed 1: group source "
    )
