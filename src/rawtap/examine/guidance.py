"""Cases that are made of those that reached what none before them did, as a guest's execution tells. Pure.

It is the queue of AFL (M. Zalewski, "Technical whitepaper for afl-fuzz", 2 and 4): what reaches a block for the first
time is kept, and later cases are made of what is kept. A byte that a guest compares with a constant is found by trying
the constants of the blocks that a case was the first to reach, at each place of its frames: of a case that comes as far
as a comparison, that block has what is compared with. So do AFL's dictionaries, which somebody has to write, and VUzzer
(Rawat et al., NDSS 2017, 4.1), which takes them out of the program.

Blocks are known by their addresses alone: no symbols are needed, nor what a program is compiled of.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from random import Random

from rawtap.examine import mutations
from rawtap.examine.mutations import Case

Ran = Mapping[int, bytes]
"""Blocks that ran: by the address of each, its instructions in words, a line for each, as QEMU's log has them."""

MOST_SEEN = 300_000  # blocks; code that a guest makes anew and anew has no end

_MOST_ENTRIES = 512
_MOST_WAITING = 1024
_MOST_CONSTANTS = 32  # of an entry
_MOST_FRAMES = 12  # of a case
_LINK = 12
_FAR = 128  # bytes of a frame behind its link addresses: headers and the begin of data
_FROM_ENTRIES = 0.5  # of all cases
_WALKING, _SPLICED, _CONSTANT, _REPAIRED = 0.75, 0.1, 0.4, 0.9  # of those
_LOOKS = 4  # entries, of which the one is taken that was taken the least often
_CHANGES = (1, 1, 1, 2, 2, 3, 5)

# An instruction's line: its address, its bytes, two spaces and more, its name, its operands.
_INSTRUCTION = re.compile(rb"^0x[0-9a-f]+:\s+[0-9a-f]+(?: [0-9a-f]+)*\s{2,}(\S+)[ \t]*(.*)$", re.MULTILINE)
# Those whose numbers are addresses, and shifts, masks and factors: nothing is compared with these.
_OTHERS = re.compile(
    rb"(?:j|b|call|ret|cb|tb|lea|adr|auipc|lui|loop|s[ahlr][alr]|ro[lr]|ls[lr]|asr|push|nop|i?mul|and|or|tst|test)"
)
_STACK = re.compile(rb"(?:add|sub)\w*$")
_MOVE, _X86S = b"mov", b"%"  # which compares with a constant itself; Arm moves it first
# Of operands: what is no constant, which is where something is in memory (AT&T, Arm), and a word beside.
_ELSEWHERE = re.compile(rb"-?(?:0x[0-9a-f]+|\d+)\(|\[[^\]]*\]|#\s.*")
_NUMBER = re.compile(rb"(?<![\w%.$#-])[$#]?(-?(?:0x[0-9a-f]+|\d+))\b")
_WIDTHS = (1, 2, 4)
_SMALL = 0x8000


def constants(instructions: bytes) -> list[int]:
    """The numbers that a block may compare with, 1 to 0xffffffff, each once.

    A negative one is also given as it is without its sign, and as its lowest byte.
    """
    found: dict[int, None] = {}
    for name, operands in _INSTRUCTION.findall(instructions):
        is_x86s_move = name.startswith(_MOVE) and _X86S in operands
        if is_x86s_move or _OTHERS.match(name) or (_STACK.match(name) and b"sp" in operands):
            continue
        for text in _NUMBER.findall(_ELSEWHERE.sub(b"", operands)):
            found |= dict.fromkeys(_meant(int(text, 16 if b"0x" in text else 10)))
    return [each for each in found if 0 < each < 1 << 32]


def _meant(number: int) -> tuple[int, ...]:
    for bits in (32, 64):
        if 0 < (1 << bits) - number <= _SMALL:  # it is negative
            number -= 1 << bits
            break
    if number >= 0:
        return (number,)
    return (-number, number & 0xFF) if number >= -_SMALL else ()


def spelled(number: int) -> tuple[bytes, ...]:
    """How it may stand in a frame: in as few bytes as hold it, of 1, 2 or 4, in both orders."""
    size = next(each for each in _WIDTHS if number < 1 << 8 * each)
    return tuple(dict.fromkeys(number.to_bytes(size, order) for order in ("big", "little")))


def walk(case: Case, new: bytes, random: Random) -> Iterator[Case]:
    """The case with these bytes at each place, in any order and with right checksums."""
    places = [(number, at) for number, frame in enumerate(case) for at in _places(frame)]
    for number, at in random.sample(places, len(places)):
        frame = mutations.repaired(_with(case[number], at, new))
        if frame != case[number]:
            yield (*case[:number], frame, *case[number + 1 :])


def _places(frame: bytes) -> range:
    return range(_LINK, min(len(frame), _LINK + _FAR))


def _with(frame: bytes, at: int, new: bytes) -> bytes:
    """With other bytes there; it stays as long as it is."""
    return (frame[:at] + new + frame[at + len(new) :])[: len(frame)]


@dataclass(eq=False)
class Entry:
    """A case that is kept, and the bytes that its new blocks may look for.

    Attributes:
        left: How common they are, and bytes that are to be tried at each place, the rarest last.
        steps: The rest of those with the last of these; None before the first.
        walked: How many steps were taken.
        taken: How often others were made of it besides.
    """

    case: Case
    data: tuple[bytes, ...]
    left: list[tuple[int, bytes]]
    steps: Iterator[Case] | None = None
    walked: int = 0
    taken: int = 0

    def step(self, random: Random) -> Case | None:
        """The next one; None where these bytes have been at each place."""
        if self.steps is None:
            self.steps = walk(self.case, self.left[-1][1], random)
        self.walked += 1
        if (case := next(self.steps, None)) is None:
            self.left.pop()
            self.steps = None
        return case


@dataclass
class Corpus:
    """What is kept, and which blocks are known.

    A block that is new behind several cases says that one of them may be worth keeping: they wait until each is tried
    by itself, and the first one that then reaches what none is kept for is kept.

    Attributes:
        seen: All blocks that ran.
        idle: Those of them that ran by themselves, or for health checks.
        kept_for: Blocks for which a case is kept, and `idle`.
        found: How many cases reached blocks that none before them did.
    """

    random: Random
    seen: set[int] = field(default_factory=set)
    idle: set[int] = field(default_factory=set)
    kept_for: set[int] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    waiting: deque[Case] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING))
    found: int = 0
    _common: Counter[int] = field(default_factory=Counter)  # in how many blocks a constant is

    @property
    def reached(self) -> set[int]:
        """Blocks that ran for what was sent."""
        return self.seen - self.idle

    def note_idle(self, ran: Ran) -> None:
        """These run without us."""
        self._see(ran)
        self.idle.update(ran)
        self.kept_for.update(ran)

    def _see(self, ran: Ran) -> bool:
        """Whether some of them are new."""
        new = ran.keys() - self.seen
        self.seen |= new
        for each in new:
            self._common.update(constants(ran[each]))
        return bool(new)

    def suspect(self, cases: Iterable[Case], ran: Ran) -> bool:
        """Have cases wait, where blocks that ran for all of them together are new; whether they are."""
        is_new = self._see(ran)
        if is_new:
            self.waiting += cases
        return is_new

    def tried(self, case: Case, ran: Ran) -> bool:
        """Keep a case, where blocks that ran for it alone are such that none is kept for; whether they are."""
        self._see(ran)
        new = [each for each in ran if each not in self.kept_for]
        if not new:
            return False
        self.kept_for.update(new)
        self.found += 1
        self.entries.append(
            self._entry(case[-_MOST_FRAMES:], chain.from_iterable(constants(ran[each]) for each in new))
        )
        if len(self.entries) > _MOST_ENTRIES:
            self.entries.remove(max(self.entries, key=lambda each: (not each.left, each.taken)))
        return True

    def _entry(self, case: Case, numbers: Iterable[int]) -> Entry:
        """One with the rarest of these: what a guest compares with once is more likely to be wanted than 1 or 8."""
        rarest = sorted(numbers, key=lambda each: (self._common[each], each))[:_MOST_CONSTANTS]
        ranked = [(self._common[number].bit_length(), new) for number in rarest for new in spelled(number)]
        return Entry(case, tuple(new for _, new in ranked), ranked[::-1])

    def alone(self, most: int) -> Iterator[Case]:
        """Cases that wait to be tried by themselves, as many at most; who ends early leaves the rest waiting."""
        for _ in range(min(most, len(self.waiting))):
            yield self.waiting.popleft()

    def another(self) -> Case:
        """A case that is made of one that is kept; there has to be one."""
        if self.random.random() < _WALKING and (case := self._step()):
            return case
        some = [self.random.choice(self.entries) for _ in range(_LOOKS)]
        entry = min(some, key=lambda each: each.taken)
        entry.taken += 1
        return self._changed(entry)

    def _step(self) -> Case | None:
        """The next one of a walk: of the rarest bytes, and of an entry that is behind the others."""
        while walking := [each for each in self.entries if each.left]:
            entry = min(walking, key=lambda each: (each.left[-1][0], each.walked))
            if (case := entry.step(self.random)) is not None:
                return case
        return None

    def _changed(self, entry: Entry) -> Case:
        random = self.random
        frames = list(entry.case)
        if random.random() < _SPLICED:
            frames = [*frames, *random.choice(self.entries).case][-_MOST_FRAMES:]
        for _ in range(random.choice(_CHANGES)):
            number = random.randrange(len(frames))
            frame = frames[number]
            if entry.data and random.random() < _CONSTANT:
                frames[number] = _with(frame, random.choice(_places(frame)), random.choice(entry.data))
            else:
                frames[number] = mutations.changed(frame, random)
        return tuple(map(mutations.repaired, frames) if random.random() < _REPAIRED else frames)


def following(corpus: Corpus, blind: Iterator[Case]) -> Iterator[Case]:
    """Half of them made of what is kept, as soon as there is something, and half as they would be without."""
    while True:
        is_kept = bool(corpus.entries) and corpus.random.random() < _FROM_ENTRIES
        yield corpus.another() if is_kept else next(blind)
