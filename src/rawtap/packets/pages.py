"""Pages of packets: from one file, or over all files of a capture, from any place, at the same cost."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rawtap.errors import CaptureUnreadable, RequestInvalid
from rawtap.packets import ends, reader
from rawtap.packets._savefile import Savefile
from rawtap.packets.index import Indexes, Survey
from rawtap.packets.layers import Budget
from rawtap.packets.memory import MOST, Memory
from rawtap.packets.reader import MAX_LIMIT, Detail, Line, Raw
from rawtap.packets.tail import Part

Found = TypeVar("Found")
_AT_ONCE = 1000
_CURSOR = re.compile(r"([0-9]{1,15})(?:-([^-]*))?(?:-([0-9]{1,15}))?")


@dataclass(frozen=True)
class Question:
    """Which packets are asked for: up to `limit` that pass `expression`, from number `first` on, or behind `cursor`.

    `fields` (like ``IP.src``) are picked from each packet. With `chosen` only packets with these numbers are asked for,
    which are all that there are up to the number `chosen_up_to`.
    """

    expression: str = ""
    cursor: str | None = None
    first: int | None = None
    limit: int = 20
    detail: Detail = "summary"
    fields: tuple[str, ...] = ()
    display_filter: str = ""
    chosen: frozenset[int] | None = None
    chosen_up_to: int = 0

    def after(self, name: str) -> int:
        """The number of the packet behind which the page begins. `name` tells whose packets they are.

        Raises:
            RequestInvalid: A cursor that is none, or is of other packets; a number or a limit out of range.
        """
        if not 1 <= self.limit <= MAX_LIMIT:
            raise RequestInvalid(f"limit={self.limit} is out of range", cure=f"Use 1 to {MAX_LIMIT}")
        if self.cursor is None:
            return _checked_first(self.first)
        if self.first is not None:
            raise RequestInvalid("first and cursor are both given", cure="Give one of them")
        parts = _CURSOR.fullmatch(self.cursor)
        if parts is None:
            raise RequestInvalid(f"{self.cursor[:80]!r} is no cursor", cure="Use next_cursor as it was given")
        if parts[2] != self._key(name):
            raise RequestInvalid(
                "the cursor belongs to another file or filter",
                cure="Keep the filter while paging, or start again without a cursor",
            )
        return int(parts[1])

    @property
    def counted_from(self) -> int:
        """The number from which on packets count as matched: `first`, also of the page that a cursor is of."""
        if self.cursor is None:
            return self.first or 1
        parts = _CURSOR.fullmatch(self.cursor)
        return int(parts[3] or 1) if parts else 1

    def cursor_behind(self, number: int, name: str) -> str:
        """A cursor for the page that begins behind packet `number`."""
        begun = self.counted_from
        return f"{number}-{self._key(name)}" + (f"-{begun}" if begun > 1 else "")

    def _key(self, name: str) -> str:
        whose = f"{name}\0{self.expression}" + (f"\0{self.display_filter}" if self.display_filter else "")
        return f"{zlib.crc32(whose.encode()):08x}"


def _checked_first(first: int | None) -> int:
    if first is not None and first < 1:
        raise RequestInvalid(f"first={first} is no packet's number", cure="The first packet is number 1")
    return (first or 1) - 1


@dataclass(frozen=True)
class PacketFiles:
    """Whose packets are asked for.

    Attributes:
        name: What a cursor belongs to.
        parts: The files, oldest first.
        growing: The last of them is still written to: what is unfinished at its end is no damage.
        start_ns: From when on time is counted, nanoseconds since 1970; None for the oldest packet that is there.
        lost: What is in none of them, in words: packets that were dropped, or overwritten by a ring.
    """

    name: str
    parts: Sequence[Part]
    growing: bool = False
    start_ns: int | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page of packets, and how many there are in all.

    Attributes:
        matched: Of all packets that are there, from the one that was asked for first, those that pass the filter.
        scanned: All packets that are there.
        next_cursor: None where nothing follows and nothing more can come.
        tagged: Packets that do not pass, and would without their VLAN tag.
        overwritten: Packets that followed the cursor and were removed by a ring before this page.
        damage: libpcap's text where the last file ends in a broken record.
        lacking: What the files lack of what was saved in them, or of their last packet, in words.
        cut: There are fewer packets than were asked for, since more would have been too large an answer.
        notes: What else is to be known of it, in words.
    """

    packets: tuple[Line, ...]
    matched: int
    scanned: int
    tagged: int
    next_cursor: str | None
    overwritten: int
    damage: str
    lacking: tuple[str, ...]
    cut: bool
    notes: tuple[str, ...] = ()


def read_page(source: PacketFiles, question: Question, indexes: Indexes) -> Page:
    """Read a page.

    Raises:
        CaptureUnreadable: Missing, or no capture file; libpcap's text is inside.
        BadFilter: With libpcap's text.
        RequestInvalid: What `Question.after` raises.
    """
    after = question.after(source.name)
    surveys = [*there(source.parts, lambda part: indexes.survey(part.path, question.expression, live=part.live))]
    oldest, newest = surveys[0], surveys[-1]
    start_ns = source.start_ns if source.start_ns is not None else oldest[1].first_ns
    kind = _Reading if question.chosen is None else _Choosing
    reading = kind(surveys, question, start_ns, after)
    lines = reader.fitting(reading.lines(), question.limit)
    damage = "" if source.growing else newest[1].damage
    left = reading.matched > reading.passed
    goes_on = left or source.growing or not reading.is_of_all
    asked_for = question.cursor is not None or question.first is not None
    return Page(
        packets=tuple(lines),
        matched=reading.matched - reading.matching(question.counted_from - 1),
        scanned=sum(survey.end.scanned for _, survey in surveys),
        tagged=sum(survey.end.tagged for _, survey in surveys),
        next_cursor=question.cursor_behind(reading.reached, source.name) if goes_on else None,
        overwritten=max(0, oldest[0].packets_before - after) if asked_for else 0,
        damage=damage,
        lacking=tuple(filter(None, (lack(source, part, each.end.scanned, each.damage) for part, each in surveys))),
        cut=left and len(lines) < question.limit,
        notes=tuple(
            reader.no_interface_told(part.path.name)
            for part, survey in surveys
            if not survey.end.scanned and reader.has_no_interface(part.path)
        ),
    )


def lack(source: PacketFiles, part: Part, found: int, damage: str) -> str:
    """What one of the files lacks, in words, in which `found` packets are whole and `damage` is behind them."""
    is_last = part is source.parts[-1]
    # One that a ring has removed meanwhile is overwritten, not cut.
    saved = part.packets if part.packets is None or found >= part.packets or part.path.exists() else None
    told = damage if is_last and not source.growing else ""
    return ends.told(found, told, saved, "the file" if is_last else part.path.name)


def there(parts: Sequence[Part], look: Callable[[Part], Found]) -> Iterator[tuple[Part, Found]]:
    """Each file with what `look` finds in it; but the newest, those of a ring may have been removed just now.

    Raises:
        CaptureUnreadable: What `look` raises, of a file that is there.
    """
    for part in parts:
        try:
            found = look(part)
        except CaptureUnreadable as error:
            if part is parts[-1] or not isinstance(error.__cause__, FileNotFoundError):
                raise
            continue
        yield part, found


class _Reading:
    """Goes over the packets behind number `after`.

    Attributes:
        reached: The number of the last packet that was looked at.
        passed: Packets that match up to there.
        matched: Packets that match.
    """

    def __init__(self, surveys: Sequence[tuple[Part, Survey]], question: Question, start_ns: int, after: int) -> None:
        self._surveys, self._question, self._start_ns = surveys, question, start_ns
        self.reached, self.passed = after, 0
        self._memory = Memory()
        self._budget = Budget()
        self.matched = sum(survey.end.matched for _, survey in surveys)

    @property
    def is_of_all(self) -> bool:
        """Whether `matched` is of all packets that are there."""
        return True

    @property
    def _end(self) -> int:
        """The number of the last packet that is there."""
        part, survey = self._surveys[-1]
        return part.packets_before + survey.end.scanned

    def matching(self, number: int) -> int:
        """How many packets match up to that number."""
        found = 0
        for part, survey in self._surveys:
            if part.packets_before >= number:
                break
            if part.packets_before + survey.end.scanned <= number:
                found += survey.end.matched
            elif savefile := self._placed(part, survey, number):
                found += savefile.matched
        return found

    def lines(self) -> Iterator[Line]:
        """Each packet that matches, read when it is asked for; those before the first of them are remembered."""
        remembered = self.reached - (MOST if self._end > self.reached else 0)
        for part, survey in self._surveys:
            passed, end = self.passed, part.packets_before + survey.end.scanned
            if end > remembered:
                yield from self._lines_of(part, survey, passed)
                self.reached = max(self.reached, end)
            self.passed = passed + survey.end.matched

    def _lines_of(self, part: Part, survey: Survey, passed: int) -> Iterator[Line]:
        behind = self.reached
        savefile = self._placed(part, survey, behind - MOST)
        if savefile is None:
            return
        while found := savefile.take(1):
            raw = Raw(*found[0])
            if raw.number > survey.end.scanned:  # it came since: the next page has it
                return
            number = part.packets_before + raw.number
            if number <= behind:
                self._memory.add(number, raw.data, raw.length, raw.origin.link_type, raw.origin.interface)
                continue
            self.reached, self.passed = number, passed + savefile.matched
            yield self._line(raw)

    def _line(self, raw: Raw) -> Line:
        question, raw = self._question, raw._replace(number=self.reached)
        return reader.line_of(raw, self._start_ns, question.detail, question.fields, self._memory, self._budget)

    def _placed(self, part: Part, survey: Survey, number: int) -> Savefile | None:
        """A file, opened behind packet `number`; None if the ring has removed it since it was surveyed."""
        try:
            savefile = reader.open_file(part.path, self._question.expression, live=part.live)
        except CaptureUnreadable as error:
            if isinstance(error.__cause__, FileNotFoundError) and len(self._surveys) > 1:
                return None
            raise
        target = max(0, number - part.packets_before)
        if place := survey.before(target):
            savefile.seek(place.offset, survey.first_ns, place.scanned, place.matched, place.tagged)
        savefile.skip(target)
        return savefile


class _Choosing(_Reading):
    """The same of those packets alone whose numbers were chosen."""

    def __init__(self, surveys: Sequence[tuple[Part, Survey]], question: Question, start_ns: int, after: int) -> None:
        super().__init__(surveys, question, start_ns, after)
        self._numbers = sorted(self._among(question.chosen or frozenset()))
        self.passed, self.matched = self.matching(after), len(self._numbers)

    @property
    def is_of_all(self) -> bool:
        return self._question.chosen_up_to >= self._end

    def matching(self, number: int) -> int:
        return bisect_right(self._numbers, number)

    def lines(self) -> Iterator[Line]:
        for part, survey in self._surveys:
            savefile = None
            for number in self._numbers[self.passed : self.matching(part.packets_before + survey.end.scanned)]:
                savefile = savefile or self._placed(part, survey, number - 1)
                if savefile is None:
                    break
                savefile.skip(number - part.packets_before - 1)
                self.reached, self.passed = number, self.passed + 1
                yield from (self._line(Raw(*each)) for each in savefile.take(1))
            self.passed = self.matching(part.packets_before + survey.end.scanned)
        self.reached = max(self.reached, self._question.chosen_up_to)

    def _among(self, chosen: frozenset[int]) -> Iterator[int]:
        """Those that pass the filter as well."""
        if not self._question.expression:
            yield from chosen
            return
        for part, survey in self._surveys:
            savefile = self._placed(part, survey, 0)
            while savefile and (found := savefile.take(_AT_ONCE)):
                yield from (number for each in found if (number := part.packets_before + each[0]) in chosen)
                if part.packets_before + savefile.scanned > self._question.chosen_up_to:
                    break
