"""How a rule is tried: on a wire of the tests' own, with a guest behind it that does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest
from test_rules_of_stacks import NAMES

from rawtap.errors import NetworkFailed
from rawtap.examine import catalogue
from rawtap.examine.rules import Rule
from rawtap.examine.trial import Examiner, Outcome, Verdict
from rawtap.examine.values import Crowd

FRIENDS = tuple(f"10.0.2.{number}" for number in range(200, 216))
CROWD = Crowd(FRIENDS[::2], FRIENDS[1::2])

Guest = Callable[[bytes], Iterator[bytes]]


class Line:
    """A wire with a guest that answers at once, or not at all; see `rawtap.examine.trial.Wire`."""

    def __init__(self, guest: Guest) -> None:
        self.frames: list[bytes] = []
        self.guest = guest
        self.dropped = 0
        self.longest = 1514

    async def send(self, frame: bytes) -> None:
        if len(frame) > self.longest:
            raise NetworkFailed("tap0 did not take the frame", evidence="No buffer space available", cure="")
        self.frames += self.guest(frame)

    async def more(self, than: int, patience: float) -> bool:
        return patience > 0 and len(self.frames) > than

    def lost(self) -> int:
        return self.dropped


def answering(frame: bytes) -> Iterator[bytes]:
    """A guest that answers what asks it for an echo, whatever else is wrong with that."""
    from scapy.all import ICMP, IP, Ether, Raw

    packet = Ether(frame)
    if ICMP in packet and packet[ICMP].type == 8:
        asked = packet[ICMP]
        reply = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src)
        data = asked[Raw].load if Raw in asked else b""
        yield bytes(reply / ICMP(type=0, id=asked.id, seq=asked.seq) / Raw(data))


def strict(frame: bytes) -> Iterator[bytes]:
    """One that passes over what has a wrong checksum."""
    from scapy.all import ICMP, Ether

    if ICMP not in (packet := Ether(frame)) or packet[ICMP].chksum != 0x1234:
        yield from answering(frame)


def tried(name: str, line: Line, *, same_state: bool = True) -> Outcome:
    (rule,) = catalogue.chosen(name)
    return judged(rule, line, same_state=same_state)


def judged(rule: Rule, line: Line, *, same_state: bool) -> Outcome:
    async def nothing() -> None:
        return None

    async def judge() -> Outcome:
        examiner = Examiner(line, dict(NAMES), CROWD, "echo", 0.1, same_state, nothing)
        return await examiner.judge(rule, afresh=nothing)

    return anyio.run(judge)


def test_a_frame_that_was_lost_on_its_way_is_no_proof_of_silence() -> None:
    line = Line(strict)

    def loses(frame: bytes) -> Iterator[bytes]:
        passed = list(answering(frame))
        if b"\x12\x34" in frame[36:38]:  # the one with the wrong checksum
            line.dropped += 1
            return iter(())
        return iter(passed)

    assert tried("icmp.checksum", line).verdict is Verdict.KEPT
    line.guest = loses
    outcome = tried("icmp.checksum", line)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert outcome.reason == "frames were lost for want of room, ours or the guest's: 1"
    line.guest = answering
    assert tried("icmp.checksum", line).verdict is Verdict.VIOLATED


@pytest.mark.parametrize("same_state", [True, False])
def test_a_frame_that_was_not_sent_is_no_proof_of_anything(same_state: bool) -> None:
    line = Line(strict)
    line.longest = 1000
    outcome = tried("ipv4.full_size", line, same_state=same_state)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert outcome.reason == "tap0 did not take the frame: No buffer space available"
    assert outcome.frames == ()  # nothing was sent


def test_what_came_only_at_the_second_try_is_told_as_such() -> None:
    asked: list[bytes] = []

    def slow(frame: bytes) -> Iterator[bytes]:
        if b"as it was sent" in frame:
            asked.append(frame)
            return answering(frame) if len(asked) > 1 else iter(())
        return answering(frame)

    outcome = tried("icmp.echo", Line(slow))
    assert outcome.verdict is Verdict.KEPT
    assert outcome.reason.startswith("at the second try; silent at the first: no frame with ICMP.id ")


@pytest.mark.parametrize("name", ["icmp.echo", "icmp.checksum"])
def test_a_guest_that_sends_without_end_is_alive_and_not_judged_by_what_it_did_not_send(name: str) -> None:
    def floods(frame: bytes) -> Iterator[bytes]:
        if b"as it was sent" in frame:
            yield from [bytes(60)] * 600
        yield from strict(frame)

    outcome = tried(name, Line(floods))
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert "frames came meanwhile, too many to look at" in outcome.reason
