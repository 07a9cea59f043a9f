"""Fuzzing: frames that nobody would send, until the guest dies of some; then the fewest and shortest of them that it
dies of each time.

Each round begins from the same snapshot. What a guest dies of is told by QEMU's end, its console, or that it answers no
health check any more. Where the frames of a round kill, they are sent again from the snapshot with ever fewer of them,
and with ever more zeros in their place, and in the end ten times.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from anyio import current_time

from rawtap.ask.examine.neighbor import Neighbor
from rawtap.ask.recording import Book, Call
from rawtap.blocking import on_disk
from rawtap.capture import files
from rawtap.errors import (
    DiskStalled,
    GuestError,
    NetworkFailed,
    NoSpace,
    OutputUnwritable,
    RequestInvalid,
    ServerExhausted,
)
from rawtap.examine.mutations import Case, cut, repaired
from rawtap.examine.rules import Level, Rule
from rawtap.examine.trial import Deaf, Examiner, Outcome, Passed, Verdict

TIMES = 10
_BATCHES, _CASES = 12, 8  # of a round; a health check is behind each batch
_SHRINK_SECONDS, _FIXED_SECONDS = 20.0, 10.0  # for one killer
# Times the patience: on the way to the smallest, behind a batch, for each of the ten times, and before all that.
_QUICK, _PATIENT, _TELLING, _SURE = 0.3, 1.0, 2.0, 4.0
_LINK = 12
_BLOCK = 8
_LEAST = 14
_DEAF = "it answers no health check any more"
_UNEXPLAINED = "it seemed to die, and did not each time when the same frames were sent again"
_PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)  # pcap-savefile(5), Ethernet
_RECORD = struct.Struct("<IIII")
_TEST = 'A guest died of these frames. Have it get its address first, as it had then: lab.call("qemu_send", ...).'
_MOST_KILLERS = 20
ENDS = (Deaf, GuestError, NetworkFailed, RequestInvalid)
"""What ends a search before its time: the guest is not put back, does not answer then, or takes no health check."""


@dataclass(frozen=True)
class Killer:
    """Frames that a guest dies of, and how. `times`: they were tried so often; 0 where they could not be again.
    `fixed` are the places in the last of them whose bytes cannot be others; none where there was no time to try."""

    frames: Case
    how: str
    times: int
    fixed: frozenset[int]

    def is_like(self, frame: bytes) -> bool:
        """Whether it would be the same death again."""
        last = self.frames[-1]
        if not self.fixed:
            return frame == last
        return len(frame) >= len(last) and all(frame[at] == last[at] for at in self.fixed)


@dataclass
class Hunt:
    """A search for frames that a guest dies of.

    Attributes:
        afresh: Puts the guest back.
        death: How the guest died since then, or what its console told of a fault; "" where nothing was told.
        sent: Frames, without those on the way to a killer's smallest.
        rounds: How often it was put back for them.
    """

    examiner: Examiner
    wire: Neighbor
    cases: Iterator[Case]
    afresh: Callable[[], Awaitable[None]]
    death: Callable[[], Awaitable[str]]
    report: Callable[[str], Awaitable[None]]
    killers: list[Killer] = field(default_factory=list)
    sent: int = 0
    tried: int = 0
    skipped: int = 0  # frames that were not sent, being like those of a death that is known
    rounds: int = 0
    unexplained: int = 0  # rounds whose frames did not kill again
    refused: int = 0
    ended: str = ""  # why the search ended before its time

    async def go(self, seconds: float) -> None:
        """Look for as long; the last round, and what it takes to shrink what kills, are ended all the same.

        Raises:
            ENDS: As they say.
            GuestExited: The guest was shut down.
        """
        deadline = current_time() + seconds
        while current_time() < deadline and len(self.killers) < _MOST_KILLERS:
            await self.round()
        if current_time() < deadline:
            self.ended = f"{len(self.killers)} deaths are enough"

    async def round(self) -> None:
        """Some batches from the snapshot, until one kills."""
        await self._begin()
        self.rounds += 1
        history: list[bytes] = []
        for _ in range(_BATCHES):
            await self.report(f"{self.sent} frames sent, {len(self.killers)} deaths")
            batch = list(islice(self.cases, _CASES))
            frames = [each for case in batch for each in case if not self._is_known(each)]
            self.sent += len(frames)
            self.tried += len(batch)
            self.skipped += sum(map(len, batch)) - len(frames)
            history += frames
            if how := await self._struck(frames, _PATIENT):
                await self._caught(history, how)
                return

    def _is_known(self, frame: bytes) -> bool:
        return any(killer.is_like(frame) for killer in self.killers)

    async def _struck(self, frames: list[bytes], patient: float) -> str:
        """How the guest died of them; "" where it lives."""
        for frame in frames:
            try:
                await self.wire.send(frame)
            except (RequestInvalid, NetworkFailed):
                self.refused += 1
        try:
            await self.examiner.alive(patient, tries=1)
        except Deaf:
            return await self.death() or _DEAF
        finally:
            self.wire.frames.clear()
        return await self.death()

    async def _begin(self) -> None:
        """Put the guest back, and have it answer: it may take a while until it runs."""
        await self.afresh()
        await self.examiner.alive()

    async def _dies(self, frames: list[bytes], patient: float = _QUICK) -> str:
        size = sum(map(len, frames))
        await self.report(f"{len(self.killers)} deaths; of one more, {len(frames)} frames of {size} bytes are tried")
        await self._begin()
        return await self._struck(frames, patient)

    async def _caught(self, history: list[bytes], how: str) -> None:
        try:
            await self._shrunk(history)
        except ENDS:
            if how != _DEAF:  # it is known by more than silence, and cannot be tried again
                self.killers.append(Killer(tuple(history), how, 0, frozenset()))
            raise

    async def _shrunk(self, history: list[bytes]) -> None:
        if not await self._dies(history, _SURE):
            self.unexplained += 1
            return
        until = current_time() + _SHRINK_SECONDS
        fewest = await self._fewer(history, until)
        smallest, fixed = await self._smaller(fewest, until)
        for frames, places in ((smallest, fixed), (fewest, frozenset[int]()), (history, frozenset[int]())):
            if told := await self._each_time(frames):
                self.killers.append(Killer(tuple(frames), told, TIMES, places))
                return
        self.unexplained += 1

    async def _each_time(self, frames: list[bytes]) -> str:
        """How the guest died of them, if it does each of ten times; "" where it survives once."""
        told = ""
        for _ in range(TIMES):
            told = await self._dies(frames, _TELLING)
            if not told:
                break
        return told

    async def _fewer(self, frames: list[bytes], until: float) -> list[bytes]:
        """As few as kill: parts are left out, halves first."""
        size = len(frames) // 2
        while size and current_time() < until:
            at = 0
            while at < len(frames) and current_time() < until:
                rest = frames[:at] + frames[at + size :]
                if rest and await self._dies(rest):
                    frames = rest
                else:
                    at += size
            size = min(size // 2, len(frames) // 2) if size > 1 else 0
        return frames

    async def _smaller(self, frames: list[bytes], until: float) -> tuple[list[bytes], frozenset[int]]:
        """As short as kill, and zeros where anything would; and the places in the last where nothing else would."""
        for number in range(len(frames)):
            for block in (_BLOCK, 1):
                frames = await self._shorter(frames, number, until)
                for place in _blocks(frames[number], block):
                    if current_time() < until:
                        zeros = _with(frames[number], place, bytes(place.stop - place.start))
                        frames = await self._other(frames, number, zeros) or frames
            frames = await self._shorter(frames, number, until)
        return frames, await self._fixed(frames, current_time() + _FIXED_SECONDS)

    async def _shorter(self, frames: list[bytes], number: int, until: float) -> list[bytes]:
        """With less of that one's end: half of it first."""
        size = len(frames[number]) - _LEAST
        while size and current_time() < until:
            frame = frames[number]
            found = await self._other(frames, number, cut(frame, max(_LEAST, len(frame) - size)))
            frames, size = (found, size) if found else (frames, size // 2)
        return frames

    async def _fixed(self, frames: list[bytes], until: float) -> frozenset[int]:
        """The places in the last whose bytes cannot be others; none if there is no time to try all."""
        number, last = len(frames) - 1, frames[-1]
        fixed = set[int]()
        for block in _blocks(last, _BLOCK):
            if current_time() > until:
                return frozenset()
            if await self._other(frames, number, _with(last, block, bytes(each ^ 0xA5 for each in last[block]))):
                continue
            for place in _blocks(last, 1, block.start, block.stop):
                if current_time() > until:
                    return frozenset()
                other = _with(last, place, bytes([last[place.start] ^ 0xA5]))
                is_free = repaired(other) == last  # a checksum's
                if not is_free and not await self._other(frames, number, other):
                    fixed.add(place.start)
        return frozenset(fixed)

    async def _other(self, frames: list[bytes], number: int, frame: bytes) -> list[bytes] | None:
        """With another frame in that one's place, with right checksums where that has them; None where that does not
        kill, or would be a death that is known."""
        was = frames[number]
        new = repaired(frame) if repaired(was) == was else frame
        changed = [*frames[:number], new, *frames[number + 1 :]]
        return changed if new != was and not self._is_known(new) and await self._dies(changed) else None

    def told(self, seed: int, lost: int) -> list[str]:
        """What was done, in words; `lost` frames found no room on their way."""
        notes = [
            f"seed {seed}: {self.sent} frames in {self.tried} cases, put back {self.rounds} times; {self.skipped} "
            "more, like those of a death that is known, were not sent"
        ]
        notes += [f"not all was tried: {self.ended}"] if self.ended else []
        if self.unexplained:
            notes.append(f"{self.unexplained} times {_UNEXPLAINED}")
        if lost or self.refused:
            notes.append(f"frames that found no room on their way, ours or the guest's: {lost + self.refused}")
        return notes


def _blocks(frame: bytes, size: int, begin: int = _LINK, end: int | None = None) -> list[slice]:
    """Places of so many bytes each, behind the link addresses."""
    last = len(frame) if end is None else end
    return [slice(at, min(at + size, last)) for at in range(begin, last, size)]


def _with(frame: bytes, place: slice, data: bytes) -> bytes:
    return frame[: place.start] + data + frame[place.stop :]


def rule(number: int) -> Rule:
    """What is asked; each death is told as a rule of its own."""
    says = "No frame does it harm, however it is made."
    return Rule(f"fuzz.{number}" if number else "fuzz", "RFC 1122, 1.2.2", Level.MUST, says, ())


async def outcomes(hunt: Hunt, examiner: Examiner, capture: Path) -> list[Outcome]:
    """Each killer, with its files beside the capture, or why these could not be made; or that nothing killed."""
    if not hunt.killers:
        if reason := hunt.ended or (hunt.unexplained and _UNEXPLAINED):
            return [Outcome(rule(0), Verdict.CANNOT_TELL, reason)]
        if hunt.refused >= hunt.sent:  # where nothing killed, no other frames were sent
            return [Outcome(rule(0), Verdict.CANNOT_TELL, "the TAP took none of the frames")]
        return [Outcome(rule(0), Verdict.KEPT)]
    found = []
    for number, killer in enumerate(hunt.killers, 1):
        try:
            pcap, test = await on_disk(capture.parent, _saved, killer, number, examiner, capture)
            kept = f"{pcap} has the frames, {test} sends them in a test"
        except (OutputUnwritable, NoSpace, ServerExhausted, DiskStalled) as error:
            kept = f"they are in the capture alone: {error.problem}"
        times = f"{killer.times} times of {TIMES}" if killer.times else "once: it could not be tried again"
        reason = f"{killer.how}, {times}; {kept}"
        frames = tuple(Passed(frame, from_guest=False) for frame in killer.frames)
        found.append(Outcome(rule(number), Verdict.DIED, reason, frames=frames))
    return found


def _saved(killer: Killer, number: int, examiner: Examiner, capture: Path) -> tuple[Path, Path]:
    """A pcap file and a pytest of a killer's frames."""
    records = [_RECORD.pack(0, 0, len(each), len(each)) + each for each in killer.frames]
    book = Book(_TEST, guest=True)
    for each in killer.frames:
        book.add(Call("qemu_packet_send", {"hex": each.hex()}, {"sent": 1}))
    asks = "icmp.echo" if examiner.kind == "echo" else "arp.reply"
    answer = {"rules": [{"rule": asks, "verdict": "kept"}]}
    book.add(Call("qemu_examine", {"what": asks, "address": examiner.names["guest"]}, answer))
    stem = f"{capture.stem}-fuzz-{number}"
    name = f"test_{re.sub('[^A-Za-z0-9]', '_', stem)}.py"
    made = []
    for file, content in (
        (f"{stem}.pcap", _PCAP + b"".join(records)),
        (name, book.test().encode()),
    ):
        path, fd = files.create(capture.parent, file, content)
        os.close(fd)
        made.append(path)
    return made[0], made[1]
