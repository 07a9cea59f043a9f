"""What is wrong with a guest's own frames is found while it is fuzzed, and what it only repeats of ours is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line

from rawtap.ask.examine import evidence
from rawtap.ask.examine.fuzzing import Hunt
from rawtap.examine import faults, mutations
from rawtap.examine.trial import Examiner, Verdict

GUEST, US = bytes.fromhex("525400000001"), bytes.fromhex("0200000000fa")
_HEALTH = b"rawtap asks "
GREETING = US + b"as it says who it is"


def ip(data: bytes, protocol: int = 1) -> bytes:
    """A frame of the guest's, with right checksums."""
    head = b"\x45\0" + (20 + len(data)).to_bytes(2, "big") + b"\0\1\0\0\x40" + bytes([protocol, 0, 0])
    return mutations.repaired(US + GUEST + b"\x08\0" + head + bytes([10, 0, 2, 15, 10, 0, 2, 250]) + data)


REPLY = ip(b"\0\0\0\0\0\1\0\1abc")
WRONG = REPLY[:36] + b"\xba\xd0" + REPLY[38:]


def test_a_right_frame_has_no_fault_and_a_wrong_sum_length_or_header_is_one() -> None:
    assert faults.first([]) is None
    assert faults.first([REPLY, ip(b"\0\x2f\x4e\x20\0\x0a\0\0hi", 17)]) is None
    wrong = {
        "icmp.checksum_wrong": WRONG,
        "ipv4.checksum_wrong": REPLY[:24] + b"\xba\xd0" + REPLY[26:],
        "ip.total_length": mutations.repaired(REPLY[:16] + b"\0\xff" + REPLY[18:]),
        "ip.header_length": REPLY[:14] + b"\x44" + REPLY[15:],
        "udp.length": ip(b"\0\x2f\x4e\x20\0\3\0\0hi", 17),
        "tcp.data_offset": ip(b"\0\x2f\x4e\x20" + bytes(8) + b"\x20\x14" + bytes(6), 6),
    }
    found = {what: faults.first([REPLY, frame]) for what, frame in wrong.items()}
    assert {what: fault and fault.what for what, fault in found.items()} == {what: what for what in wrong}
    assert all(fault and fault.frame == wrong[what] for what, fault in found.items())
    assert faults.first([WRONG], faults.KINDS - {"icmp.checksum_wrong"}) is None


def test_what_an_error_quotes_is_not_its_senders() -> None:
    assert faults.first([ip(b"\3\2\0\0\0\0\0\0" + WRONG[14:24] + b"\xba\xd0" + WRONG[26:])]) is None


class Guest:
    """It answers an echo request of an odd length with a wrong checksum; with `is_fickle` once only.

    With `is_right` it answers health checks alone with one.
    """

    def __init__(self, *, is_fickle: bool = False, is_right: bool = False) -> None:
        self.line = Line(self.take)
        self.is_fickle, self.is_right = is_fickle, is_right
        self.answers = 0

    def take(self, frame: bytes) -> Iterator[bytes]:
        if _HEALTH in frame:
            return iter([frame[:24] + b"\xba\xd0" + frame[26:] if self.is_right else frame])
        if self.is_right:
            return iter([REPLY])
        is_odd = len(frame) % 2 and len(frame) > 42
        if is_odd and frame[12:14] == b"\x08\0" and frame[23] == 1 and frame[34] == 8:
            self.answers += 1
            return iter([REPLY if self.is_fickle and self.answers > 1 else WRONG])
        return iter(())


def hunted(guest: Guest, frames: list[bytes]) -> Hunt:
    async def nothing(*_: Any) -> None:
        return None

    async def silence(*_: Any) -> str:
        return ""

    examiner = Examiner(guest.line, dict(NAMES), CROWD, "echo", 0.1, anyio.lowlevel.checkpoint)
    cases = iter([(each,) for each in frames] * 96)
    hunt = Hunt(examiner, guest.line, cases, nothing, silence, silence, GREETING)  # type: ignore[arg-type]

    async def twice() -> None:
        await hunt.round()
        await hunt.round()

    anyio.run(twice)
    return hunt


ASKED = GUEST + US + ip(b"\x08\0\0\0\0\1\0\1" + b"some data, odd")[12:] + b"!"


def test_a_wrong_answer_is_a_violation_with_the_smallest_frame_that_provokes_it(tmp_path: Path) -> None:
    hunt = hunted(Guest(), [ASKED[:-1], ASKED])
    (killer,) = hunt.killers  # the second round tells no more of that kind
    smallest = GUEST + US + b"\x08\0" + bytes(9) + b"\1" + bytes(10) + b"\x08" + bytes(8)
    assert (killer.frames, killer.times) == ((smallest,), 10)
    assert not killer.is_like(smallest)  # what it answers wrong may be what it dies of
    (outcome,) = anyio.run(evidence.outcomes, hunt, tmp_path / "c1.pcap")
    assert (outcome.verdict, outcome.field, outcome.found) == (Verdict.VIOLATED, "icmp.checksum_wrong", "0xbad0")
    assert "what it sent is wrong: " in outcome.reason
    assert ", 10 times of 10; " in outcome.reason
    assert [(each.data, each.from_guest) for each in outcome.frames] == [(smallest, False), (WRONG, True)]
    assert outcome.rule.source == "RFC 792 (Checksum)"
    source = (tmp_path / "test_c1_fuzz_1.py").read_text()
    compile(source, "test", "exec")
    begun = ("qemu_pcap_start", GREETING.hex(), smallest.hex(), "qemu_pcap_stop", "qemu_pcap_explain")
    places = list(map(source.index, begun))
    assert places == sorted(places)
    assert "'icmp.checksum_wrong' not in" in source
    assert "ether src 52:54:00:00:00:01" in source


def test_an_answer_to_a_health_check_is_no_answer_to_what_was_sent() -> None:
    hunt = hunted(Guest(is_right=True), [ASKED])
    assert (hunt.killers, hunt.unsure) == ([], {})
    assert hunt.judged == hunt.sent


def test_a_wrong_answer_that_does_not_come_again_is_told_and_proves_no_health() -> None:
    hunt = hunted(Guest(is_fickle=True), [ASKED])
    assert (hunt.killers, list(hunt.unsure)) == ([], ["icmp.checksum_wrong"])
    (outcome,) = anyio.run(evidence.outcomes, hunt, Path("unused"))
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert any(each.startswith("not each time when the same frames were sent again: ") for each in hunt.told(1, 0))
