"""Who said what to whom, in order, as a sequence diagram: its parts, and its text for Mermaid. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_ENDS = 7  # life lines; all others share one
OTHERS = "others"
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:/_+=()\[\]?!>-]")
_INFO, _LINE = 90, 110  # characters


class Arrow(NamedTuple):
    """A packet: its number, seconds, from and to which end, by their places; its protocol and what it says."""

    number: int
    time: float
    source: int
    destination: int
    protocol: str
    info: str


class Said(NamedTuple):
    """A line of a guest's console."""

    time: float
    guest: str
    text: str


@dataclass(frozen=True)
class Diagram:
    """`ends` are the life lines' names; `steps` are in the order of time."""

    ends: tuple[str, ...]
    steps: tuple[Arrow | Said, ...]


def sequence(packets: Sequence[Sequence[object]], console: Iterable[Sequence[object]]) -> Diagram:
    """The diagram of packets (number, time, source, destination, protocol, info) and console lines (time, guest, text).

    Lines that were printed long before the first packet, or after the last one, are left out with those around.
    """
    rows = [(int(str(a)), float(str(b)), str(c), str(d), str(e or "?"), str(f or "")) for a, b, c, d, e, f in packets]
    named = Counter(end for row in rows for end in row[2:4])
    kept = {name for name, _ in named.most_common(MOST_ENDS)}
    ends: list[str] = []
    steps: list[Arrow | Said] = []
    for number, time, source, destination, protocol, info in rows:
        places = []
        for end in (source, destination):
            name = end if end in kept else OTHERS
            if name not in ends:
                ends.append(name)
            places.append(ends.index(name))
        steps.append(Arrow(number, time, places[0], places[1], protocol, shortened(info, _INFO)))
    lines = [Said(float(str(time)), str(guest), shortened(str(text), _LINE)) for time, guest, text in console]
    return Diagram(tuple(ends), tuple(sorted([*steps, *lines], key=lambda step: step.time)))


def shortened(text: str, most: int) -> str:
    """At most so many characters of it; that it was cut is seen."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def mermaid(found: Diagram) -> str:
    """Its text, as Mermaid's sequenceDiagram has it: whatever is not plain is written as a character's number, so that
    nothing from the wire is a word of Mermaid's."""
    told = ["sequenceDiagram"]
    told += [f"participant E{place} as {_plain(name)}" for place, name in enumerate(found.ends)]
    for step in found.steps:
        if isinstance(step, Arrow):
            says = f"{step.number} at {step.time:.6f} s: {_plain(step.protocol)} {_plain(step.info)}".rstrip()
            told.append(f"E{step.source}->>E{step.destination}: {says}")
        else:
            over = "E0" if len(found.ends) < 2 else f"E0,E{len(found.ends) - 1}"  # noqa: PLR2004 - one end, or two
            told.append(f"Note over {over}: console of {_plain(step.guest)} at {step.time:.6f} s: {_plain(step.text)}")
    return "\n".join(told)


def _plain(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", " ".join(text.split()))
