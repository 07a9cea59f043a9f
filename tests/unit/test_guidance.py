"""What reaches something new is kept, and what is made of it finds what lies behind comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as some
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line

from rawtap.ask.examine import guiding
from rawtap.ask.examine.fuzzing import Hunt
from rawtap.ask.examine.guiding import Guide
from rawtap.debug.functions import Function, Functions
from rawtap.errors import GuestFailed
from rawtap.examine import catalogue, guidance, mutations
from rawtap.examine.guidance import Corpus, Ran, constants, spelled, walk
from rawtap.examine.trial import Examiner
from rawtap.packets import checks

SEEDS = mutations.seeds(mutations.sources(catalogue.every()), NAMES)
LINK = bytes.fromhex("5254000000010200000000fa")
FRAME = LINK + b"\x88\xb5" + bytes(range(40))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        # x86-64, by capstone
        (b"0x00401136:  80 3f 52                 cmpb     $0x52, (%rdi)", [0x52]),
        (b"0x00401136:  80 7d ff 52              cmpb     $0x52, -1(%rbp)", [0x52]),
        (b"0x00401136:  83 f8 ff                 cmpl     $-1, %eax", [1, 0xFF]),
        (b"0x00401136:  3d ae ff ff ff           cmpl     $0xffffffae, %eax", [0x52, 0xAE]),
        (b"0x00401136:  66 81 3f 08 06           cmpw     $0x608, (%rdi)", [0x608]),
        (b"0x00401136:  3d 0f 02 00 e0           cmpl     $0xe000020f, %eax", [0xE000020F]),
        (b"0x00401139:  75 05                    jne      0x401140", []),
        (b"0x00401139:  e8 00 00 00 00           callq    0x401140", []),
        (b"0x00401139:  48 83 ec 28              subq     $0x28, %rsp", []),
        (b"0x00401139:  48 8d 05 00 00 00 00     leaq     0x10(%rip), %rax", []),
        (b"0x00401139:  41 89 c0                 movl     %eax, %r8d", []),
        (b"0x00401136:  01 d8                    addl     %ebx, %eax", []),
        (b"0x00401136:  c7 04 24 03 00 00 00     movl     $3, (%rsp)", []),
        (b"0x00401136:  c1 e0 04                 shll     $4, %eax", []),
        (b"0x00401136:  83 e0 0f                 andl     $0xf, %eax", []),
        # RISC-V
        (b"0x0000000080000132:  05200793          addi            a5,zero,82", [82]),
        (b"0x0000000080000132:  4785              addi            a5,zero,1", [1]),
        (b"0x0000000080000132:  fae78793          addi            a5,a5,-82", [82, 0xAE]),
        (b"0x0000000080000132:  fe010113          addi            sp,sp,-32", []),
        (b"0x0000000080000136:  00f51463          bne             a0,a5,8                 # 0x8000013e", []),
        (b"0x0000000080000136:  00814783          lbu             a5,8(sp)", []),
        # Arm, of 64 bits and of 32
        (b"0x40080a10:  7101481f  cmp      w0, #0x52", [0x52]),
        (b"0x40080a10:  52810001  movz     w1, #0x800", [0x800]),
        (b"0x40080a10:  39401fe0  ldrb     w0, [sp, #7]", []),
        (b"0x40080a10:  54000041  b.ne     #0x40080a18", []),
        (b"0x40010a10:  e3500052  cmp      r0, #0x52", [0x52]),
        (b"0x40010a10:  2852      cmp      r0, #0x52", [0x52]),
        # What QEMU has no disassembler for, and what is none of the log's
        (b"0x40010a10:  \nOBJD-T: 5250", []),
        (b"Priv: 3; Virt: 0", []),
    ],
)
def test_what_a_block_compares_with_is_read_of_its_instructions(line: bytes, found: list[int]) -> None:
    assert constants(line + b"\n") == found


@given(some.binary(max_size=200))
def test_whatever_an_instruction_says_is_a_number_in_bounds_or_nothing(text: bytes) -> None:
    assert all(0 < each < 1 << 32 for each in constants(b"0x1:  90  cmp  " + text))


@given(some.integers(1, (1 << 32) - 1))
def test_a_number_is_spelled_in_both_orders_in_as_few_bytes_as_hold_it(number: int) -> None:
    found = spelled(number)
    assert {int.from_bytes(found[0], "big"), int.from_bytes(found[-1], "little")} == {number}
    assert {len(each) for each in found} == {1 if number < 256 else 2 if number < 65536 else 4}
    assert len(set(found)) == len(found) <= 2


@given(some.lists(some.binary(min_size=14, max_size=60), min_size=1, max_size=3), some.integers())
def test_a_walk_has_bytes_at_each_place_and_leaves_all_else_but_checksums(frames: list[bytes], seed: int) -> None:
    case = tuple(frames)
    found = list(walk(case, b"\x41\x42", Random(seed)))
    assert len(found) <= sum(len(each) - 12 for each in frames)
    for each in found:
        assert list(map(len, each)) == list(map(len, case))
        (changed,) = [number for number, frame in enumerate(each) if frame != case[number]]
        assert each[changed][:12] == case[changed][:12]
        assert mutations.repaired(each[changed]) == each[changed]


def test_a_walk_comes_to_every_place_and_not_far() -> None:
    found = {frame for (frame,) in walk((FRAME,), b"\xee", Random(1))}
    assert found == {FRAME[:at] + b"\xee" + FRAME[at + 1 :] for at in range(12, len(FRAME))}
    assert len(list(walk((FRAME * 20,), b"\xee", Random(1)))) == 128


def ran(*blocks: int) -> Ran:
    return dict.fromkeys(blocks, b"")


def test_cases_wait_where_one_of_them_is_new_and_the_one_that_is_by_itself_is_kept() -> None:
    corpus = Corpus(Random(1))
    corpus.note_idle(ran(1, 2))
    one, other, third = ((FRAME + bytes([each]),) for each in range(3))
    assert not corpus.suspect([one], ran(1, 2))
    assert corpus.suspect([one, other], ran(2, 3))
    assert not corpus.suspect([third], ran(3))  # it is known by now that somebody reaches it
    assert list(corpus.alone(1)) == [one]
    assert not corpus.tried(one, ran(1))
    assert list(corpus.alone(9)) == [other]
    assert corpus.tried(other, ran(1, 3))
    assert not corpus.tried(third, ran(3))
    assert [each.case for each in corpus.entries] == [other]
    assert (corpus.found, corpus.reached) == (1, {3})


def test_who_ends_early_leaves_the_rest_waiting() -> None:
    corpus = Corpus(Random(1))
    corpus.suspect([(FRAME,), (FRAME[:-1],)], ran(1))
    assert next(corpus.alone(9)) == (FRAME,)
    assert list(corpus.waiting) == [(FRAME[:-1],)]


@given(some.lists(some.sets(some.integers(0, 30)), max_size=40), some.integers())
def test_each_block_is_kept_for_once_and_nothing_grows_without_end(told: list[set[int]], seed: int) -> None:
    corpus = Corpus(Random(seed))
    corpus.note_idle(ran(0, 1))
    for number, blocks in enumerate(told):
        before = set(corpus.kept_for)
        is_kept = corpus.tried((FRAME + bytes([number]),), ran(*blocks))
        assert is_kept == bool(blocks - before)
    reached = set[int]().union(*told) - {0, 1}
    assert corpus.reached == reached
    assert len(corpus.entries) == corpus.found <= len(reached)
    if corpus.entries:
        for case in (corpus.another() for _ in range(50)):
            assert 1 <= len(case) <= 12
            assert all(14 <= len(frame) <= 1514 for frame in case)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "_MOST_ENTRIES", 5)
    corpus = Corpus(Random(1))
    for number in range(50):
        assert corpus.tried((FRAME + bytes([number]),), {number: b""})
        corpus.another()
    assert len(corpus.entries) == 5
    assert corpus.entries[-1].case == (FRAME + bytes([49]),)


COMPARES = b"0x1:  80 3f 52  cmpb     $0x%02x, (%%rdi)\n"


def test_what_is_new_is_walked_first() -> None:
    corpus = Corpus(Random(1))
    corpus.tried((FRAME,), {1: COMPARES % 0xEE})
    for _ in range(40):
        corpus.another()
    corpus.tried((FRAME + b"new",), {2: COMPARES % 0xDD})
    walked = [corpus._step() for _ in range(20)]
    assert all(case and b"\xdd" in case[0] and len(case[0]) == len(FRAME) + 3 for case in walked)


def test_what_is_rarest_in_the_guests_code_is_walked_first() -> None:
    corpus = Corpus(Random(1))
    corpus.note_idle(dict.fromkeys(range(10, 20), COMPARES % 221))
    corpus.tried((FRAME,), {1: COMPARES % 0xDD + COMPARES % 0xEE})
    walked = [corpus._step() for _ in range(2 * len(FRAME))]
    which = [b"\xee" if case and b"\xee" in case[0] else b"\xdd" if case else b"" for case in walked]
    places = len(FRAME) - 12
    assert which == [b"\xee"] * places + [b"\xdd"] * places + [b""] * 24


def test_half_of_the_cases_are_made_of_what_is_kept_and_the_others_are_as_they_would_be() -> None:
    blind = [(bytes([each]) * 20,) for each in range(200)]
    corpus = Corpus(Random(1))
    assert list(islice(guidance.following(corpus, iter(blind)), 50)) == blind[:50]
    corpus.tried((FRAME,), ran(1))
    found = list(islice(guidance.following(corpus, iter(blind)), 200))
    theirs = [each for each in found if each in blind]
    assert theirs == blind[: len(theirs)]
    assert 70 < len(theirs) < 130


class Deep:
    """A guest that dies of a datagram with RAW! in front, and looks at each byte behind the one before it.

    It is its own `Watch`, as QEMU tells of it: each block once since it was put back.
    """

    def __init__(self) -> None:
        self.line = Line(self.take)
        self.told: set[int] = set()
        self.new: dict[int, bytes] = {}
        self.is_dead = self.is_on = False
        self.why_ended = ""
        self.backs = 0  # while it was watched
        self.runs(1)

    async def begin(self) -> None:
        self.is_on = True

    async def end(self) -> None:
        self.is_on = False

    def ran(self) -> Ran:
        new, self.new = self.new, {}
        return new if self.is_on else {}

    async def afresh(self) -> None:
        self.backs += self.is_on
        self.is_dead = False
        self.told.clear()
        self.runs(1)

    def runs(self, block: int, compares: int = 0) -> None:
        if block not in self.told:
            self.told.add(block)
            self.new[block] = b"0x%x:  80 3f 52                 cmpb     $0x%x, (%%rdi)\n" % (block, compares)

    def take(self, frame: bytes) -> Iterator[bytes]:
        if b"rawtap asks " in frame:
            self.runs(2)
            return iter([] if self.is_dead else [frame])
        self.runs(3, 0x800)
        if frame[12:14] == b"\x08\0" and len(frame) >= 34:
            self._ip(frame[14:])
        return iter(())

    def _ip(self, packet: bytes) -> None:
        self.runs(4, 0x45)
        length = int.from_bytes(packet[2:4], "big")
        if packet[0] != 0x45 or not 20 <= length <= len(packet) or checks.total(packet[:20]):
            self.runs(5)
            return
        self.runs(6, packet[9])
        self.runs(0x100 | packet[9])
        if packet[9] == 17 and length >= 32:
            self._data(packet[28:length])

    def _data(self, data: bytes) -> None:
        for number, wanted in enumerate(b"RAW!"):
            self.runs(0x1000 + number, wanted)
            if data[number] != wanted:
                return
        self.is_dead = True


def hunt_of(guest: Deep, seed: int, guide: Guide | None) -> Hunt:
    async def silence(*_: object) -> str:
        return ""

    examiner = Examiner(guest.line, dict(NAMES), CROWD, "echo", 0.1, anyio.lowlevel.checkpoint)
    cases = mutations.cases(SEEDS, seed)
    cases = guide.cases(cases) if guide else cases
    return Hunt(examiner, guest.line, cases, guest.afresh, silence, silence, guide=guide, seeds=SEEDS)  # type: ignore[arg-type]


async def tried(hunt: Hunt, most: int) -> int:
    """How many cases it took; `most` if they were not enough."""
    await hunt.learn()
    while not hunt.killers and hunt.tried < most:
        await hunt.round()
    return min(hunt.tried, most)


MOST = 20_000
FUNCTIONS = Functions([Function(1, 3, "idle"), Function(3, 0x100, "receive"), Function(0x1000, 0x1010, "deep")])


@pytest.mark.parametrize("seed", range(4))
def test_a_death_behind_several_comparisons_is_found_by_what_the_guest_runs_and_not_without(seed: int) -> None:
    guest = Deep()
    guide = Guide(guest, Corpus(Random(seed)), FUNCTIONS)
    hunt = hunt_of(guest, seed, guide)
    took = anyio.run(tried, hunt, MOST)
    assert took < MOST
    (killer,) = hunt.killers
    assert [frame[42:46] for frame in killer.frames] == [b"RAW!"]
    assert guest.backs == hunt.rounds + 1  # what is found is shrunk without
    (told,) = guide.told()
    assert " of 2 functions were reached that it does not run by itself; " in told
    assert told in hunt.told(seed, 0)
    blind = hunt_of(Deep(), seed, None)
    assert anyio.run(tried, blind, MOST) == MOST
    assert blind.killers == []


def test_a_guide_that_cannot_guide_says_why_and_the_cases_are_those_without_it() -> None:
    class Refusing(Deep):
        async def begin(self) -> None:
            raise GuestFailed("QEMU does not take 'log in_asm'", evidence="invalid parameter", cure="")

    class Silent(Deep):
        def ran(self) -> Ran:
            return {}

    whys = []
    for guest, why in ((Refusing(), ""), (Silent(), ""), (Deep(), "it runs by kvm")):
        guide = Guide(guest, Corpus(Random(1)), why=why)
        hunt = hunt_of(guest, 1, guide)
        anyio.run(tried, hunt, 200)
        assert list(islice(hunt.cases, 20)) == list(islice(mutations.cases(SEEDS, 1), hunt.tried, hunt.tried + 20))
        assert not guest.is_on
        whys += guide.told()
    assert whys == [
        "not guided by what it ran: QEMU does not take 'log in_asm': invalid parameter",
        "not guided by what it ran: QEMU's log told of no block that it ran",
        "not guided by what it ran: it runs by kvm",
    ]


def test_one_that_is_much_slower_when_it_is_watched_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guiding, "_LEAST_SECONDS", 1e-9)
    guest = Deep()

    async def afresh() -> None:
        await guest.afresh()
        await anyio.sleep(0.3 if guest.is_on else 0)

    guide = Guide(guest, Corpus(Random(1)))
    hunt = hunt_of(guest, 1, guide)
    hunt.afresh = afresh
    anyio.run(tried, hunt, 1)
    assert (guide.is_on, guest.is_on) == (False, False)
    (told,) = guide.told()
    assert told.endswith(" times as long to put it back and have it answer")


def test_one_that_runs_ever_new_code_is_guided_until_that_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "MOST_SEEN", 30)
    guest = Deep()
    guide = Guide(guest, Corpus(Random(1)))
    hunt = hunt_of(guest, 1, guide)
    hunt.cases = guide.cases(repeat((FRAME,)))
    made = iter(range(0x5000, 0x6000))

    def take(frame: bytes) -> Iterator[bytes]:
        guest.runs(next(made))
        return guest.take(frame)

    guest.line.guest = take
    anyio.run(tried, hunt, 200)
    assert not guide.is_on
    assert guide.told()[1] == "not guided to the end by what it ran: more than 30 different blocks ran"


def test_what_shrinking_sent_is_not_taken_for_what_the_guest_runs_by_itself() -> None:
    guest = Deep()
    guide = Guide(guest, Corpus(Random(1)))
    hunt = hunt_of(guest, 1, guide)

    async def scenario() -> None:
        await hunt.learn()
        guest.runs(0x1003, 0x21)  # by whatever was sent
        await hunt.round()

    anyio.run(scenario)
    assert 0x1003 not in guide.corpus.idle
