"""Frames that nobody would send are the same from the same seed; what kills is found, and made as small as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line

from rawtap.ask.examine import evidence, fuzzing
from rawtap.ask.examine.fuzzing import Hunt
from rawtap.errors import GuestFailed, RequestInvalid
from rawtap.examine import catalogue, mutations
from rawtap.examine.mutations import Fuzz
from rawtap.examine.trial import Deaf, Examiner, Verdict
from rawtap.examine.values import Seen, made
from rawtap.packets import reader

SEEDS = mutations.seeds(mutations.sources(catalogue.every()), NAMES)
RULES = [rule for rule in catalogue.every() if rule.suite in {"ipv4", "udp", "ipv6"} and "routing" not in rule.name]


def some(seed: int) -> list[mutations.Case]:
    return list(islice(mutations.cases(SEEDS, seed), 2000))


def test_the_same_seed_makes_the_same_cases_and_another_makes_others() -> None:
    assert some(1) == some(1)
    assert some(1) != some(2)


def test_rules_that_send_nothing_or_repeat_what_the_guest_said_are_no_sources() -> None:
    assert all(SEEDS)
    known = {rule.name for rule in mutations.sources(catalogue.every())}
    assert {"arp.probe", "tcp.closed", "ipv6.router_invalid"} <= known
    assert not known & {"dhcp.discover", "dhcp.offer", "tcp.data", "ipv6.duplicate"}


def test_every_frame_is_from_us_and_one_that_the_link_takes() -> None:
    links = {frame[:12] for seed in SEEDS for frame in seed}
    frames = [frame for case in some(3) for frame in case]
    assert {frame[:12] for frame in frames} <= links
    assert all(14 <= len(frame) <= 1514 for frame in frames)


def test_most_of_them_come_further_than_a_checksum() -> None:
    whole = [Seen(frame) for case in some(4) for frame in case]
    assert sum(not each.wrong_sums for each in whole) > len(whole) * 0.8


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_checksums_are_made_right_again(rule: Any) -> None:
    for step in rule.steps:
        for frame in step.send:
            data = made(frame, NAMES)
            if Seen(data).wrong_sums:
                continue
            assert not Seen(mutations.repaired(data)).wrong_sums
            if len(data) > 90 and not frame.piece:
                assert not Seen(mutations.repaired(data[:80] + bytes([data[80] ^ 0xFF]) + data[81:])).wrong_sums


def test_what_is_cut_has_lengths_that_fit_where_they_did() -> None:
    from scapy.all import ICMP, IP, Ether, ICMPv6EchoRequest, IPv6

    four = bytes(Ether() / IP(dst="10.0.2.15") / ICMP() / bytes(100))
    assert Ether(mutations.cut(four, 60))[IP].len == 46
    assert len(mutations.cut(four, 60)) == 60
    assert mutations.cut(four + b"padding", 60) == four[:60]
    assert mutations.cut(four, 16) == four[:16]
    six = bytes(Ether() / IPv6(dst="fe80::1") / ICMPv6EchoRequest(data=bytes(100)))
    assert Ether(mutations.cut(six, 80))[IPv6].plen == 26


def test_what_is_asked_for_is_a_seed_and_a_time() -> None:
    assert Fuzz.of("arp") is None
    assert Fuzz.of("fuzz") == Fuzz(1, 60)
    assert Fuzz.of("fuzz 7") == Fuzz(7, 60)
    assert Fuzz.of("fuzz 7 120") == Fuzz(7, 120)
    assert Fuzz.of("fuzz 7 120 free -k | head -2") == Fuzz(7, 120, "free -k | head -2")
    for wrong in ("fuzz x", "fuzz 1 2 3", "fuzz 1 free", "fuzzy", "fuzz 1 99999", "fuzz 1 0"):
        with pytest.raises(RequestInvalid, match="fuzz SEED SECONDS"):
            Fuzz.of(wrong)


class Mortal:
    """A guest that is dead once `kills` says so of what it got since it was put back; it answers health checks only."""

    def __init__(self, kills: Callable[[list[bytes]], bool]) -> None:
        self.kills = kills
        self.got: list[bytes] = []
        self.is_dead = False
        self.line = Line(self.take)

    def take(self, frame: bytes) -> Any:
        self.got.append(frame)
        self.is_dead = self.is_dead or self.kills(self.got)
        return iter([frame] if b"rawtap asks " in frame and not self.is_dead else [])

    async def afresh(self) -> None:
        self.got.clear()
        self.is_dead = False


async def silence(*_: Any) -> str:
    return ""


def hunt_of(guest: Mortal, cases: list[mutations.Case], afresh: Any = None, death: Any = silence) -> Hunt:
    examiner = Examiner(guest.line, dict(NAMES), CROWD, "echo", 0.1, anyio.lowlevel.checkpoint)
    return Hunt(examiner, guest.line, iter(cases), afresh or guest.afresh, death, silence)  # type: ignore[arg-type]


def hunted(guest: Mortal, cases: list[mutations.Case]) -> Hunt:
    hunt = hunt_of(guest, cases)
    anyio.run(hunt.round)
    return hunt


HARMLESS = [case for case in some(5) if all(b"\xde\xad" not in each and b"\xbe\xef" not in each for each in case)][:60]
DEADLY = bytes.fromhex("5254000000010200000000fa88b5") + b"abcdefgh\xde\xadijklmnopqrstuvwxyz"
WAKING = bytes.fromhex("5254000000010200000000fa88b5") + b"123\xbe\xef45678901234567890"


def test_a_frame_that_kills_is_cut_down_to_the_bytes_that_do() -> None:
    guest = Mortal(lambda got: got[-1][22:24] == b"\xde\xad")
    hunt = hunted(guest, [*HARMLESS[:20], (HARMLESS[0][0], DEADLY, HARMLESS[1][0]), *HARMLESS[20:]])
    (killer,) = hunt.killers
    assert killer.frames == (DEADLY[:12] + bytes(10) + b"\xde\xad",)
    assert (killer.times, killer.fixed) == (10, {22, 23})
    assert killer.is_like(DEADLY)
    assert not killer.is_like(WAKING)
    hunt.cases = iter([(DEADLY, WAKING)] * 96)
    sent = hunt.sent
    anyio.run(hunt.round)
    assert hunt.sent == sent + 96  # the other is known
    assert (hunt.skipped, hunt.told(1, 0)[0].partition("; ")[2].split()[0]) == (96, "96")
    assert DEADLY not in guest.got
    assert len(hunt.killers) == 1


def test_of_two_frames_that_kill_together_both_are_told_in_their_order() -> None:
    def kills(got: list[bytes]) -> bool:
        woken = [number for number, each in enumerate(got) if each[17:19] == b"\xbe\xef"]
        return bool(woken) and got[-1][22:24] == b"\xde\xad"

    hunt = hunted(Mortal(kills), [*HARMLESS[:9], (WAKING,), *HARMLESS[9:30], (DEADLY,), *HARMLESS[30:]])
    (killer,) = hunt.killers
    assert killer.frames == (DEADLY[:12] + bytes(5) + b"\xbe\xef", DEADLY[:12] + bytes(10) + b"\xde\xad")


def test_a_death_that_does_not_come_again_is_no_finding_and_no_proof_of_health() -> None:
    deaths = iter([True])
    guest = Mortal(lambda got: got[-1] == DEADLY and next(deaths, False))
    hunt = hunted(guest, [(DEADLY,), *HARMLESS])
    assert (hunt.killers, hunt.unexplained) == ([], 1)
    (outcome,) = anyio.run(evidence.outcomes, hunt, Path("unused"))
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert "did not each time when the same frames were sent again" in outcome.reason


def test_a_guest_that_was_only_slow_on_the_way_hides_no_death() -> None:
    backs = 0
    harmless = {frame for case in HARMLESS for frame in case}
    guest = Mortal(lambda got: DEADLY in got or (backs == 3 and got[-1] in harmless))  # the third time it gets half

    async def afresh() -> None:
        nonlocal backs
        backs += 1
        await guest.afresh()

    hunt = hunt_of(guest, [(DEADLY,), *HARMLESS], afresh)
    anyio.run(hunt.round)
    (killer,) = hunt.killers
    assert (killer.frames, killer.times) == ((DEADLY,), 10)
    assert hunt.unexplained == 0


def test_frames_of_which_the_tap_took_none_are_no_proof_of_health() -> None:
    guest = Mortal(lambda _: False)
    hunt = hunt_of(guest, [(bytes(1000),)] * 96)
    guest.line.longest = 900
    anyio.run(hunt.round)
    (outcome,) = anyio.run(evidence.outcomes, hunt, Path("unused"))
    assert (outcome.verdict, outcome.reason) == (Verdict.CANNOT_TELL, "the wire took none of the frames")


def test_one_that_cannot_be_put_back_is_told_with_all_that_it_got_if_more_than_its_silence_is_known(
    tmp_path: Path,
) -> None:
    found = []
    for told, then in (
        ("QEMU ended: exit code 1", GuestFailed("QEMU has ended", cure="")),
        ("kernel panic", Deaf(None)),
        ("", Deaf(None)),
    ):
        guest = Mortal(lambda got: got[-1] == DEADLY)
        times = iter([True])

        async def once(guest: Mortal = guest, times: Iterator[bool] = times, then: Exception = then) -> None:
            if not next(times, False):
                raise then
            await guest.afresh()

        async def death(guest: Mortal = guest, told: str = told) -> str:
            return told if guest.is_dead else ""

        hunt = hunt_of(guest, [(DEADLY,), *HARMLESS], once, death)
        with pytest.raises(type(then)):
            anyio.run(hunt.round)
        found.append(hunt)
    known, panicked, unknown = found
    assert unknown.killers == []
    assert [(each.how, each.times) for each in panicked.killers] == [("kernel panic", 0)]
    (outcome,) = anyio.run(evidence.outcomes, known, tmp_path / "c1.pcap")
    assert outcome.verdict is Verdict.DIED
    assert outcome.reason.startswith("QEMU ended: exit code 1, once: it could not be tried again; ")
    packets = reader.open_file(tmp_path / "c1-fuzz-1.pcap", "").take(1000)
    frames = [data for _, _, _, _, data, _ in packets]
    assert (frames[0], len(frames)) == (DEADLY, known.sent)
    source = (tmp_path / "test_c1_fuzz_1.py").read_text()
    assert DEADLY.hex() in source
    compile(source, "test", "exec")
    (outcome,) = anyio.run(evidence.outcomes, known, tmp_path / "c1-fuzz-1.pcap/c1.pcap")
    assert (outcome.verdict, len(outcome.frames)) == (Verdict.DIED, known.sent)
    assert "once: it could not be tried again; they are in the capture alone: cannot create " in outcome.reason


def test_a_search_that_has_found_enough_says_that_it_ended_before_its_time() -> None:
    hunt = hunt_of(Mortal(lambda _: False), HARMLESS)
    hunt.killers = [fuzzing.Killer((HARMLESS[number][0],), "", 10, frozenset()) for number in range(20)]
    anyio.run(hunt.go, 60)
    assert hunt.rounds == 0
    assert "not all was tried: 20 findings are enough" in hunt.told(1, 0)


def test_where_nothing_kills_that_is_said_with_how_much_was_tried() -> None:
    hunt = hunted(Mortal(lambda _: False), HARMLESS * 4)
    (outcome,) = anyio.run(evidence.outcomes, hunt, Path("unused"))
    assert outcome.verdict is Verdict.KEPT
    assert hunt.told(5, 3)[0].startswith(f"seed 5: {hunt.sent} frames in {hunt.tried} cases, put back 1 times")
    assert "3" in hunt.told(5, 3)[-1]
    hunt.ended = "QEMU has ended"
    (outcome,) = anyio.run(evidence.outcomes, hunt, Path("unused"))
    assert (outcome.verdict, outcome.reason) == (Verdict.CANNOT_TELL, "QEMU has ended")
