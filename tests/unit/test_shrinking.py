"""What kills is made as small as it can be, whatever it was found in: the ten planted deaths, from ten seeds each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line

from planted import ARP_LENGTH, DEATHS, ECHO_CODE, IP_OPTION, Stack, is_smallest
from rawtap.ask.examine.evidence import outcomes
from rawtap.ask.examine.fuzzing import Hunt, Killer
from rawtap.ask.examine.memory import Meter
from rawtap.ask.examine.shrinking import Shrinker
from rawtap.examine import catalogue, mutations, smaller
from rawtap.examine.mutations import Case
from rawtap.examine.trial import Examiner, Verdict

SEEDS = mutations.seeds(mutations.sources(catalogue.every()), NAMES)
MAC = bytes.fromhex("525400000001")
LINK = MAC + bytes.fromhex("0200000000fa")
_HEALTH = b"rawtap asks "
_MOST_ROUNDS = 2000


class Guest:
    """Of the tests' own: dead from the frame on that it dies of; it answers health checks, and nothing else."""

    def __init__(self, death: int) -> None:
        self.death = death
        self.line = Line(self.take)
        self.backs = -1
        self.revive()

    def revive(self) -> None:
        self.stack, self.is_dead = Stack(self.death, MAC), False
        self.backs += 1

    def take(self, frame: bytes) -> Iterator[bytes]:
        self.is_dead = self.is_dead or self.stack.dies_of(frame)
        return iter([frame] if _HEALTH in frame and not self.is_dead else [])

    async def afresh(self) -> None:
        self.revive()


def hunt_of(guest: Guest, seed: int) -> Hunt:
    async def silence(*_: object) -> str:
        return ""

    examiner = Examiner(guest.line, dict(NAMES), CROWD, "echo", 0.1, anyio.lowlevel.checkpoint)
    cases = mutations.cases(SEEDS, seed)
    return Hunt(examiner, guest.line, cases, guest.afresh, silence, silence)  # type: ignore[arg-type]


async def first_killer(hunt: Hunt) -> Killer:
    while not hunt.killers:
        assert hunt.rounds < _MOST_ROUNDS
        await hunt.round()
    return hunt.killers[0]


@pytest.mark.parametrize("death", DEATHS)
def test_a_planted_death_comes_down_to_its_smallest_frame_ten_times_of_ten(death: int) -> None:
    others = {}
    for seed in range(10):
        killer = anyio.run(first_killer, hunt_of(Guest(death), seed))
        if len(killer.frames) != 1 or killer.times != 10 or not is_smallest(death, killer.frames[0]):
            others[seed] = [each.hex(" ", 2) for each in killer.frames]
    assert others == {}


def shrunk(death: int, *frames: bytes) -> tuple[Case, Guest]:
    """What is left of frames that kill, with the guest that died of them."""
    guest = Guest(death)
    hunt = hunt_of(guest, 1)

    async def shrink() -> Case:
        async def strikes(tried: list[bytes]) -> bool:
            return bool(await hunt._struck(tried, 0.3, frozenset()))

        until = anyio.current_time() + 60
        return await Shrinker(guest.afresh, strikes, lambda _: False, until).smallest(frames)

    return anyio.run(shrink), guest


def ip(data: bytes, protocol: int = 1, *, options: bytes = b"", field: int = 0) -> bytes:
    """A frame with right checksums."""
    size = 20 + len(options)
    head = bytes([0x40 | size // 4, 0x10]) + (size + len(data)).to_bytes(2, "big") + b"\x12\x34"
    head += field.to_bytes(2, "big") + bytes([64, protocol, 0, 0, 10, 0, 2, 250, 10, 0, 2, 15])
    return mutations.repaired(LINK + b"\x08\0" + head + options + data)


ECHO = b"\x08\xee\0\0\x12\x34\0\1" + bytes(range(100, 140))


def test_headers_that_kill_only_with_others_that_fit_are_left_out_together() -> None:
    for frame in (
        ip(ECHO, options=b"\1\1\1\1\1\1\1\0"),  # options, and two lengths that count them
        LINK + b"\0\x50\xaa\xaa\3\0\0\0" + ip(ECHO)[12:],  # SNAP, RFC 1042
    ):
        (found,), _ = shrunk(ECHO_CODE, frame)
        assert is_smallest(ECHO_CODE, found), found.hex(" ", 2)


def test_of_fragments_that_kill_together_the_whole_packet_is_left() -> None:
    echo = mutations.repaired(ip(ECHO))[34:]
    first, last = ip(echo[:24], field=0x2000), ip(echo[24:], field=3)
    (found,), _ = shrunk(ECHO_CODE, first, last)
    assert is_smallest(ECHO_CODE, found), found.hex(" ", 2)


def test_a_low_value_that_needs_others_before_it_is_raised_so_that_these_can_go() -> None:
    (found,), _ = shrunk(IP_OPTION, ip(b"", options=b"\1\1\2\3"))  # a length of 3 is too long only here
    assert is_smallest(IP_OPTION, found), found.hex(" ", 2)


def test_a_checksum_that_nobody_looks_at_is_zero_and_a_wrong_one_hinders_nothing() -> None:
    frame = ip(ECHO[:6])
    (found,), _ = shrunk(61, frame[:36] + b"\xba\xd0" + frame[38:])
    assert is_smallest(61, found), found.hex(" ", 2)


def test_a_guest_is_put_back_only_behind_what_kills() -> None:
    _, guest = shrunk(ARP_LENGTH, LINK + b"\x08\6" + bytes(range(30, 80)))
    assert guest.backs < 25, guest.backs  # of some hundred tries


def test_less_is_bytes_first_then_such_that_are_not_zero_then_values_without_checksums() -> None:
    one, other = ip(b"\0" * 8), ip(b"\0" * 7 + b"\1")
    assert smaller.weight(ip(b"\0" * 7)) < smaller.weight(one) < smaller.weight(other)
    assert smaller.weight(ip(b"\0" * 7 + b"\1")) == smaller.weight(
        ip(b"\0" * 7 + b"\1")[:24] + b"\x11\x11" + other[26:]
    )


def test_frames_are_like_a_killer_where_a_value_is_at_least_as_high_and_not_where_it_is_lower() -> None:
    killer = anyio.run(first_killer, hunt_of(Guest(ARP_LENGTH), 1))
    frame = killer.frames[0]
    assert killer.least == {18}
    assert killer.is_like(smaller.with_bytes(frame, slice(18, 19), b"\xff") + b"more")
    assert not killer.is_like(smaller.with_bytes(frame, slice(18, 19), b"\6") + b"more")


class Leaking(Guest):
    """It takes memory for each frame, and dies once, of more frames than a round has."""

    was_dead = False

    def revive(self) -> None:
        super().revive()
        self.got = 0

    def take(self, frame: bytes) -> Iterator[bytes]:
        self.got += 1
        if self.got > 500 and not self.was_dead:
            self.is_dead = self.was_dead = True
        return super().take(frame)

    async def console(self, _: str) -> str:
        return str((1 << 30) - (self.got << 16))


def test_a_death_while_memory_is_weighed_is_told(tmp_path: Path) -> None:
    guest = Leaking(0)

    async def told() -> Verdict:
        hunt = hunt_of(guest, 1)
        hunt.meter = Meter("free", guest.console)
        while not guest.was_dead:
            await hunt.round()
        (outcome,) = await outcomes(hunt, tmp_path / "card.pcap")
        return outcome.verdict

    assert anyio.run(told) is Verdict.CANNOT_TELL
