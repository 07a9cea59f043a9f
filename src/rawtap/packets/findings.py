# cython: annotation_typing=False, nonecheck=True
"""What is found wrong in a capture: values, and their bounded collection, ordered by cause.

Theory of operation. A finding says which host is at fault, what was found, what was expected and by which rule. What is
a consequence says which finding it follows from, in one of two ways: its judge names that finding (`follows`), or it
names the packets that would explain it if something were wrong with them (`suspects`), such as a request that was never
answered, or the acknowledgment that its receiver did not believe. What is proven by a packet comes first, then what
rests on something that was never seen, then the consequences.

The same thing between many parties is one finding: a scan of a thousand ports is no thousand findings.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rawtap.packets.headers import Frame
from rawtap.untrusted import visible

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
MAX_PENDING = 10_000  # requests of one kind that wait for an answer, or parties, or connections
SHOWN = 10  # packet numbers of one finding
_TEXT = 300
_VALUE = 120
_APART = 4  # findings of one code and one group that are told one by one
_GROUPS = 10  # groups of one code that are
_BLAMED = 100_000  # packets in which something is wrong
_SUSPECTS = 40  # of one finding


@dataclass
class Packet:
    """A packet of the capture: its number in it, nanoseconds since the epoch, and its headers."""

    number: int
    at: int
    frame: Frame


@dataclass(frozen=True)
class Finding:
    """What is wrong: a stable code, a sentence, the first packets and the count of all, the rule, the evidence.

    `host` is the address of who is at fault, `found` the value on the wire and `expected` the right one; `follows`
    names the finding that this is a consequence of, by its code and a packet. They are "" where there is none.
    """

    what: str
    says: str
    packets: tuple[int, ...]
    count: int
    rule: str
    evidence: str
    host: str = ""
    found: str = ""
    expected: str = ""
    follows: str = ""


_Key = tuple[str, Hashable]  # a finding's code and its parties


@dataclass(slots=True, eq=False)
class _Entry:
    finding: Finding
    absence: bool
    follows: _Key | None
    suspects: list[int]
    hides: bool = False
    numbers: list[int] = field(default_factory=list)
    count: int = 0

    @property
    def is_cause(self) -> bool:
        return not (self.follows or self.suspects)

    def extend(self, numbers: Iterable[int], count: int, suspects: Iterable[int]) -> None:
        self.count += count
        self.numbers += list(numbers)[: SHOWN - len(self.numbers)] if len(self.numbers) < SHOWN else []
        self.suspects += list(suspects)[: max(_SUSPECTS - len(self.suspects), 0)]

    def copy(self) -> _Entry:
        return _Entry(
            self.finding, self.absence, self.follows, list(self.suspects), self.hides, list(self.numbers), self.count
        )


@dataclass(slots=True)
class _Kind:
    """The findings of one code: by group those that are told apart, and how many parties and hosts there were more."""

    groups: dict[Hashable, dict[Hashable, _Entry]] = field(default_factory=dict)
    parties: dict[Hashable, set[Hashable]] = field(default_factory=dict)  # by group, those that are not told apart
    hosts: set[str] = field(default_factory=set)
    crowded: bool = False  # there were more groups than are told apart

    def entry(self, group: Hashable, parties: Hashable, host: str, make: Callable[[], _Entry]) -> _Entry:
        """The entry that counts for `parties`; one is made where they are told apart from others and there is none."""
        if len(self.hosts) < MAX_PENDING:
            self.hosts.add(host)
        if group not in self.groups and len(self.groups) >= _GROUPS:
            self.crowded = True
            group = next(iter(self.groups))
        entries = self.groups.setdefault(group, {})
        if parties in entries:
            return entries[parties]
        if len(entries) < _APART and not self.crowded:
            entries[parties] = make()
            return entries[parties]
        others = self.parties.setdefault(group, set())
        if len(others) < MAX_PENDING:
            others.add(parties)
        return next(iter(entries.values()))

    def copy(self) -> _Kind:
        groups = {group: {key: each.copy() for key, each in apart.items()} for group, apart in self.groups.items()}
        return _Kind(groups, {group: set(each) for group, each in self.parties.items()}, set(self.hosts), self.crowded)

    def told(self) -> Iterator[_Entry]:
        """What is to be told, together or apart."""
        if self.crowded:
            entries = [each for apart in self.groups.values() for each in apart.values()]
            yield _together(entries, sum(map(len, self.parties.values())), len(self.hosts))
            return
        for group, apart in self.groups.items():
            others = len(self.parties.get(group, ()))
            yield from [_together(list(apart.values()), others, 1)] if others else apart.values()


def _together(entries: Sequence[_Entry], others: int, hosts: int) -> _Entry:
    """Many findings of one code as one, which is told by the words of the first."""
    first = min(entries, key=lambda each: each.numbers)
    finding, more = first.finding, len(entries) + others - 1
    host = f"{finding.host} and {hosts - 1} more" if finding.host and hosts > 1 else finding.host
    finding = replace(finding, says=f"{finding.says} (and {more} more like this)", host=host)
    whole = _Entry(finding, first.absence, first.follows, [], first.hides)
    whole.numbers = sorted({number for each in entries for number in each.numbers})[:SHOWN]
    whole.suspects = [number for each in entries for number in each.suspects][:_SUSPECTS]
    whole.count = sum(each.count for each in entries)
    return whole


class Findings:
    """Findings by code and parties; later ones of the same only count."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._vouched = 0
        self._blamed: dict[int, str] = {}  # by packet, the code of what is wrong with it

    def add(
        self,
        what: str,
        parties: Hashable,
        number: int,
        says: str,
        rule: str,
        evidence: str = "",
        *,
        host: str = "",
        found: object = "",
        expected: object = "",
        group: Hashable = None,
        again: Sequence[int] = (),
        count: int = 1,
        follows: _Key | None = None,
        suspects: Sequence[int] = (),
        absence: bool = False,
        dropped: bool = True,
        hides: bool = False,
    ) -> None:
        """Add a finding, or count it again, on packet `number`.

        Args:
            what: The code.
            parties: What tells it apart from others of its code.
            says: A sentence; the first one of the same parties stays.
            rule: What is broken, like an RFC's section.
            evidence: What else proves it; without it `found` and `expected` are it.
            host: Who is at fault, an address as text.
            found: The value on the wire.
            expected: The right one.
            group: Findings of one code and group are told together where they are many; else those of one host.
            again: Further packets.
            count: Of all packets.
            follows: Code and parties of the finding that this is a consequence of.
            suspects: Packets that explain this where something is wrong with them.
            absence: It rests on something not seen, which may have been dropped by the capture.
            dropped: A receiver drops such a packet, or may, so that it explains what is missing.
            hides: What the packet carries was not recognized for it: it explains that its host answers nothing.
        """

        def make() -> _Entry:
            proof = evidence or f"found {found}" + (f", expected {expected}" if expected else "")
            values = [bounded(str(each), _VALUE) for each in (host, found, expected)]
            finding = Finding(what, bounded(says), (), 0, rule, bounded(proof), *values)
            return _Entry(finding, absence, follows, [], hides)

        kind = self._kinds.setdefault(what, _Kind())
        entry = kind.entry(host or parties if group is None else group, parties, host, make)
        entry.extend((number, *again), count, suspects)
        if dropped and entry.is_cause:
            self.blame(number, what)

    def again(self, what: str, parties: Hashable, host: str, number: int) -> bool:
        """Count a finding that is told of its parties already, as `add` would; whether there is one."""
        kind = self._kinds.get(what)
        entry = kind.groups.get(host, {}).get(parties) if kind else None
        if entry is None:
            return False
        entry.extend((number,), 1, ())
        if entry.is_cause:
            self.blame(number, what)
        return True

    def blame(self, number: int, what: str) -> None:
        """A packet that is right in itself goes wrong by a finding of this code, such as one to a false address."""
        if len(self._blamed) < _BLAMED:
            self._blamed.setdefault(number, what)

    def vouch(self, number: int) -> None:
        """The packet that is looked at goes to the link address that its receiver itself has named."""
        self._vouched = number

    def is_vouched(self, number: int) -> bool:
        return number == self._vouched

    def drops(self, number: int) -> bool:
        """Whether something was found wrong with a packet by which a receiver drops it."""
        return number in self._blamed

    def copy(self) -> Findings:
        other = Findings()
        other._kinds = {what: each.copy() for what, each in self._kinds.items()}
        other._blamed = self._blamed.copy()
        return other

    def all(self, lost: int, links: Callable[[str], str] = str) -> tuple[Finding, ...]:
        """All, ordered by cause; `lost` packets were dropped, or overwritten by a ring. `links` tells the link address
        of a host, as text, if it is known."""
        loss = f"; {lost} packets of the capture were lost, and what is missing may be among them" if lost else ""
        told = [entry for kind in self._kinds.values() for entry in kind.told()]
        causes = {id(entry): self._cause(entry, told) or _hidden(entry, told, links) for entry in told}
        told.sort(key=lambda entry: (2 if causes[id(entry)] else int(entry.absence), entry.numbers[:1]))
        found = []
        for entry in told:
            finding, cause = entry.finding, causes[id(entry)]
            if cause is not None:
                follows = f"{cause.finding.what} in packet {cause.numbers[0]}"
                finding = replace(finding, follows=follows, host=cause.finding.host or finding.host)
            evidence = finding.evidence + (loss if entry.absence else "")
            found.append(replace(finding, packets=tuple(entry.numbers), count=entry.count, evidence=evidence))
        return tuple(found)

    def _cause(self, entry: _Entry, told: Sequence[_Entry]) -> _Entry | None:
        """What an entry follows from, if that is told."""
        what = ""
        if entry.follows is not None:
            what, parties = entry.follows
            kind = self._kinds.get(what, _Kind())
            named = next((apart[parties] for apart in kind.groups.values() if parties in apart), None)
            if named in told:
                return named
        suspect = next((each for each in entry.suspects if each in self._blamed), None)
        if suspect is not None:
            what = self._blamed[suspect]
        of_kind = [each for each in told if each.finding.what == what and each is not entry]
        return next((each for each in of_kind if suspect in each.numbers), of_kind[0] if of_kind else None)


def _hidden(entry: _Entry, told: Sequence[_Entry], links: Callable[[str], str]) -> _Entry | None:
    """What hides the answers that are missing: later packets of the host that does not answer."""
    if not entry.absence or entry.hides or entry.follows:
        return None
    names = {entry.finding.host, links(entry.finding.host)} - {""}
    first = entry.numbers[0]
    return next((each for each in told if each.hides and each.finding.host in names and each.numbers[-1] > first), None)


def bounded(text: str, most: int = _TEXT) -> str:
    shown = visible(text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."
