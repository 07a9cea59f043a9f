"""tshark's word on packets, where it is installed: a process of its own for each question, and its answer.

Theory of operation. tshark's dissectors are two million lines of C that read what anybody may have sent. The process
has no capability, no file but the system's (Landlock), and no descriptor but the packets, its answer and its
complaints, all of them memory or a pipe. Its environment is empty and its home does not exist: nothing personal is
loaded, no configuration, no plug-in, no script. Its memory and processor time are bounded by the kernel, its time and
answer here. Landlock forbids TCP; that no name is looked up is tshark's own option. What a caller wrote is always the
value of an option, never one itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rawtap.ask import aside
from rawtap.ask.aside import Bounds, Ended
from rawtap.blocking import reading
from rawtap.errors import BadFilter, DissectorFailed, DissectorLimit, DissectorUnavailable, RequestInvalid
from rawtap.host import programs
from rawtap.host.landlock import Access
from rawtap.packets.layers import Frame
from rawtap.packets.pages import PacketFiles
from rawtap.packets.wireshark import asked, pdml
from rawtap.packets.wireshark.given import MOST_PACKETS, Given, give

BOUNDS = Bounds(seconds=20.0, answer=16 << 20, memory_mib=1536)  # of one question


@dataclass(frozen=True)
class Selected:
    """The packets that pass a display filter, by their numbers, of those from `first` to `last`.

    Of these, `unread` have a link type that tshark does not know: it reads no field but the frame's own of them. None
    where that is not known.
    """

    numbers: frozenset[int]
    first: int
    last: int
    unread: int | None


@dataclass(frozen=True)
class Told:
    """What tshark says of packets, by their numbers: their protocol and words, or layers.

    Attributes:
        lacking: Why some are missing, "" if none.
        first: The first packet that it was given: numbers of packets in its answer count from there.
    """

    columns: dict[int, tuple[str, str]]
    frames: dict[int, Frame]
    lacking: str
    first: int


def is_there() -> bool:
    """Whether tshark is installed."""
    return programs.find("tshark") is not None


async def select(file: Path, source: PacketFiles, display_filter: str, after: int) -> Selected:
    """The packets that pass, of those behind number `after` and of some before.

    Raises:
        BadFilter: With tshark's words.
        DissectorUnavailable, DissectorLimit, DissectorFailed: There is no answer.
        CaptureUnreadable, DiskStalled: The packets cannot be read.
    """
    if len(display_filter) > asked.MAX_DISPLAY_FILTER or "\0" in display_filter or not _is_text(display_filter):
        raise RequestInvalid(
            f"the display filter is no text of at most {asked.MAX_DISPLAY_FILTER} characters",
            cure="Its syntax is wireshark-filter(4)",
        )
    given, ended = await _asked(partial(give, source, after=after), file, lambda _: asked.selecting(display_filter))
    if ended.code == asked.REFUSED:
        raise BadFilter.by_tshark(display_filter, asked.complaint(ended.complaint))
    _require_end(ended)
    numbers = (given.number(nth) for nth in asked.numbers_in(ended.output))
    return Selected(frozenset(numbers), given.first, given.last, asked.without_link_in(ended.output))


async def tell(
    file: Path, source: PacketFiles, packets: Mapping[int, bytes], *, in_columns: bool, before: int = MOST_PACKETS
) -> Told:
    """What tshark says of these packets, given by their numbers, in order: in a line each, or by layers.

    It is given up to `before` packets that precede them, since what a packet is may hang on these.

    Raises:
        DissectorUnavailable, DissectorLimit, DissectorFailed: There is no answer.
        CaptureUnreadable, DiskStalled: The packets cannot be read.
    """
    question = asked.columns if in_columns else asked.layers
    numbers = list(packets)
    given, ended = await _asked(
        partial(give, source, after=numbers[0] - 1, last=numbers[-1], before=before),
        file,
        lambda given: question(map(given.nth, numbers)),
    )
    if not _is_full(ended):
        _require_end(ended)
    lacking = "its answer is too long" if _is_full(ended) else ""
    if given.last < numbers[-1]:
        lacking = lacking or f"there was no room for those behind packet {given.last}"
    if in_columns:
        found = {given.number(nth): (protocol, words) for nth, protocol, words in asked.columns_in(ended.output)}
        return Told(found, {}, lacking, given.first)
    frames, fault = pdml.frames(ended.output, {given.nth(number): data for number, data in packets.items()})
    return Told({}, {given.number(nth): frame for nth, frame in frames.items()}, lacking or fault, given.first)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _is_full(ended: Ended) -> bool:
    """Whether the answer was too long, so that its end is missing."""
    return len(ended.output) >= BOUNDS.answer


def _require_end(ended: Ended) -> None:
    if ended.code == 0 and not _is_full(ended):
        return
    raise DissectorFailed(
        "tshark ended without a whole answer",
        evidence=f"{ended.how}: {asked.complaint(ended.complaint)[-300:]}",
        cure="Ask for fewer packets; other calls are not concerned",
    )


async def _asked(
    giving: Callable[[int], Given], file: Path, arguments: Callable[[Given], tuple[str, ...]]
) -> tuple[Given, Ended]:
    program = programs.require("tshark", "tshark", DissectorUnavailable, "Wireshark's dissectors cannot be asked")
    with ExitStack() as stack:
        stack.callback(os.close, packets := os.memfd_create("rawtap-tshark"))
        async with aside.turn("tshark"):
            given = await reading(file, giving, packets)
            ended = await _ended([program, *arguments(given)], packets)
        return given, ended


async def _ended(command: list[str], packets: int) -> Ended:
    access = Access(programs=(Path(command[0]),))
    ended = await aside.run(command, access, packets, BOUNDS, environment=aside.IMPERSONAL)
    if ended.is_late:
        raise DissectorLimit(
            f"tshark did not answer in {BOUNDS.seconds:g} s",
            cure="Ask for fewer packets: another first, a smaller limit",
        )
    return ended
