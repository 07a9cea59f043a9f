"""Pages of packets with tshark's word on them: on all of a page, or on what is not read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rawtap.ask import dissect
from rawtap.errors import DissectorError
from rawtap.packets import layers, reader
from rawtap.packets.layers import Frame, Layer
from rawtap.packets.pages import PacketFiles, Page, Question
from rawtap.packets.reader import Line
from rawtap.untrusted import visible

_BEFORE = 1000  # packets that tshark is given as well, where nobody asked for it
_WORDS = 200  # characters of a packet's


async def read(file: Path, source: PacketFiles, question: Question, page: Page) -> Page:
    """The page, as tshark has it: the words of lines, or layers, bytes or fields by its names.

    Raises:
        DissectorError: There is no answer of tshark's.
    """
    if not page.packets:
        return page
    in_columns = question.detail == "summary" and not question.fields
    packets = {line.number: line.data for line in page.packets}
    told = await dissect.tell(file, source, packets, in_columns=in_columns)
    notes = [*page.notes, *_lacking(packets, told)]
    if told.first > 1:
        notes.append(f"tshark was given the packets from {told.first} on: numbers in its words count from there")
    lines = (_line(line, question, told) for line in page.packets)
    return _fitted(source, question, replace(page, notes=tuple(notes)), lines)


def _lacking(packets: Mapping[int, bytes], told: dissect.Told) -> Iterator[str]:
    """Of how many of these packets tshark says nothing, and why."""
    if lacking := len(packets.keys() - told.columns.keys() - told.frames.keys()):
        yield f"tshark says nothing of {lacking} of these packets: {told.lacking or 'it left them out'}"


def _line(line: Line, question: Question, told: dissect.Told) -> Line:
    """A line with tshark's word, if there is one."""
    if words := told.columns.get(line.number):
        protocol, info = (visible(each)[:_WORDS] for each in words)
        return replace(line, summary=replace(line.summary, protocol=protocol, info=info))
    frame = told.frames.get(line.number)
    if frame is None:
        return line
    return replace(
        line,
        layers=frame.layers if question.detail == "layers" else None,
        runs=layers.runs(frame, line.data, reader.place_of(line.stopped)) if question.detail == "hex" else None,
        fields=layers.picked(frame, question.fields) if question.fields else None,
        stopped=frame.stopped or line.stopped,
    )


async def finish(file: Path, source: PacketFiles, question: Question, page: Page) -> Page:
    """The page, with tshark's layers behind those of a packet that carries a protocol which is not read here."""
    unread = {line.number: line.data for line in page.packets if line.undecoded is not None}
    if not unread:
        return page
    if not dissect.is_there():
        note = f"what {len(unread)} of these packets carry is not read here; tshark would (Debian's package tshark)"
        return replace(page, notes=(*page.notes, note))
    try:
        told = await dissect.tell(file, source, unread, in_columns=False, before=_BEFORE)
    except DissectorError as error:
        return replace(page, notes=(*page.notes, str(error)))
    lines = (_finished(line, told.frames.get(line.number)) for line in page.packets)
    return _fitted(source, question, replace(page, notes=(*page.notes, *_lacking(unread, told))), lines)


def _finished(line: Line, frame: Frame | None) -> Line:
    if frame is None or line.undecoded is None:
        return line
    known = [layer for layer in line.layers or () if layer.offset is not None and layer.offset < line.undecoded]
    more = _behind(frame.layers, line.undecoded)
    if not more or more[0].name == "data":  # it knows no more than that there are bytes
        return line
    return replace(line, layers=(*known, *more), stopped=frame.stopped)


def _behind(found: tuple[Layer, ...], place: int) -> tuple[Layer, ...]:
    """The layers behind the last one that is before that place."""
    before = [at for at, layer in enumerate(found) if layer.offset is not None and layer.offset < place]
    return found[before[-1] + 1 :] if before else found


def _fitted(source: PacketFiles, question: Question, page: Page, lines: Iterable[Line]) -> Page:
    """The page with as many of these lines as fit into an answer."""
    kept = reader.fitting(lines, question.limit)
    if len(kept) == len(page.packets):
        return replace(page, packets=tuple(kept))
    cursor = question.cursor_behind(kept[-1].number, source.name)
    return replace(page, packets=tuple(kept), next_cursor=cursor, cut=True)
