"""Pages of packets: of a capture over all its files, or of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from anyio.to_thread import run_sync as to_thread

from rawtap.ask import by_tshark, dissect
from rawtap.ask.dissect import Selected
from rawtap.blocking import on_disk, reading
from rawtap.capture import filters
from rawtap.errors import CaptureUnreadable, RequestInvalid
from rawtap.lab.captures import Capture
from rawtap.lab.lab import Lab
from rawtap.packets.pages import PacketFiles, Page, Question, read_page
from rawtap.packets.tail import Part
from rawtap.settings import Settings

Dissector = Literal["rawtap", "tshark"] | None


@dataclass(frozen=True)
class RingFile:
    """A file's place among its capture's files: the `number`th, from 1, of `files`. Any other file is 1 of 1."""

    number: int
    files: int


async def read(
    lab: Lab, capture_id: str | None, path: Path | None, question: Question, dissector: Dissector = None
) -> tuple[Page, Path, RingFile]:
    """A page of packets: of a capture, over all its files, or of one file. Returns the file's path and place as well.

    A running capture's page has everything that was on the wire when it was asked for. `dissector` "tshark" has the
    packets read by it; None only those whose layers are asked for and not known here.

    Raises:
        CaptureUnknown: There is no such capture.
        CaptureUnreadable: No capture file, or not in a folder that may be read.
        BadFilter: With libpcap's text, or tshark's.
        RequestInvalid: Both, a capture and a path, are given, or what is asked for is out of range.
        DissectorError: tshark was asked for, and there is no answer of it.
        CaptureFailed: The capture's thread does not answer.
        DiskStalled: The file's disk does not answer.
    """
    lab.require_open()
    await to_thread(filters.checked, question.expression)
    source, shown, place = await caught_up(lab, capture_id, path)
    await lab.interfaces.learn()
    if question.display_filter:
        selected = await dissect.select(shown, source, question.display_filter, question.after(source.name))
        question = replace(question, chosen=selected.numbers, chosen_up_to=selected.last)
    ours = replace(question, detail="summary", fields=()) if dissector == "tshark" else question
    page = await reading(shown, read_page, source, ours, lab.indexes)
    if question.display_filter:
        page = replace(page, notes=(*page.notes, *_told(selected, source.parts[0].packets_before, page.scanned)))
    if dissector == "tshark":
        page = await by_tshark.read(shown, source, question, page)
    elif dissector is None and question.detail == "layers":
        page = await by_tshark.finish(shown, source, question, page)
    return page, shown, place


def _told(selected: Selected, before: int, packets: int) -> Iterator[str]:
    """Which packets a display filter was asked of, if not all that are behind the `before` that were removed; and what
    it passes over."""
    end = before + packets
    if selected.first > selected.last:
        return
    if selected.first > before + 1 or selected.last < end:
        goes_on = "; next_cursor goes on" if selected.last < end else ""
        yield (
            f"the display filter was asked of packets {selected.first} to {selected.last} of {end}, which are what "
            f"matched counts{goes_on}"
        )
    if selected.first > 1:
        yield f"numbers in the display filter count from packet {selected.first}"
    if selected.unread is None:
        yield "tshark did not tell how many of these packets have a link type that it does not know"
    elif selected.unread:
        yield (
            f"tshark does not know the link type of {selected.unread} of the packets that the display filter was asked "
            "of: of these no field but the frame's own can match"
        )


async def caught_up(lab: Lab, capture_id: str | None, path: Path | None) -> tuple[PacketFiles, Path, RingFile]:
    """The files that the caller means, with all in them that is on the wire now; the newest one, and its place.

    Raises:
        CaptureUnknown, CaptureUnreadable, RequestInvalid, CaptureFailed, DiskStalled: As for `read`.
    """
    capture, path = await chosen(lab, capture_id, path)
    if capture:
        await capture.notifier.caught_up()
    return await on_disk(path or "the capture", _source_of, capture, path)


async def chosen(lab: Lab, capture_id: str | None, path: Path | None) -> tuple[Capture | None, Path | None]:
    """The capture that the caller means, or the file. A file may belong to a capture: then both.

    Raises:
        CaptureUnknown: There is no such capture.
        CaptureUnreadable: The path is not in a folder that may be read.
        RequestInvalid: Both are given.
        DiskStalled: The path's disk does not answer.
    """
    if path is None:
        return lab.captures.get(capture_id), None
    if capture_id is not None:
        raise RequestInvalid("capture and path are both given", cure="Give one of them")
    return await on_disk(path, _found, path, lab.settings, lab.captures.all())


def _found(path: Path, settings: Settings, captures: list[Capture]) -> tuple[Capture | None, Path]:
    path = _readable(path, settings)
    return next((each for each in captures if path in map(Path.resolve, each.session.files)), None), path


def _source_of(capture: Capture | None, path: Path | None) -> tuple[PacketFiles, Path, RingFile]:
    """Whose packets a page is of."""
    if capture is None:
        if path is None:
            raise RuntimeError("neither a capture nor a path")
        return PacketFiles(str(path), [Part(1, path, 0)]), path, RingFile(1, 1)
    running = capture.session.running  # asked first: one that ends meanwhile counts as growing
    parts = capture.parts()
    start_ns = capture.session.started_ns
    lost = lost_told(capture, path)
    if path is None:
        source = PacketFiles(capture.id, parts, running, start_ns, lost)
        return source, parts[-1].path, RingFile(len(parts), len(parts))
    here = next((number for number, part in enumerate(parts, 1) if part.path.resolve() == path), 1)
    growing = running and here == len(parts)
    part = Part(1, path, 0, capture.live, parts[here - 1].packets)
    return PacketFiles(str(path), [part], growing, start_ns, lost), path, RingFile(here, len(parts))


def lost_told(capture: Capture, path: Path | None) -> tuple[str, ...]:
    """What a capture's files, or that one of them, cannot show: what was dropped, and what its ring has overwritten."""
    now = capture.session.snapshot()
    counts = (
        ("were dropped by the kernel", now.dropped_kernel),
        ("were lost by the interface", now.dropped_interface),
        ("were overwritten by the ring", now.packets_overwritten if path is None else 0),
    )
    return tuple(f"{count} packets of the capture {how}" for how, count in counts if count)


def _readable(path: Path, settings: Settings) -> Path:
    folders = [folder.resolve() for folder in (settings.capture_dir, *settings.read_dirs)]
    try:
        resolved = Path(os.path.realpath(path))  # Path.resolve would tell of links in a circle, wherever they are
    except ValueError as error:  # a NUL
        raise CaptureUnreadable(
            f"{path} cannot be a file", evidence=str(error), cure="qemu_pcap_status lists the captures"
        ) from error
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise CaptureUnreadable(
            f"{path} is not in a folder whose captures may be read",
            evidence=f"folders: {', '.join(map(str, folders))}",
            cure="The operator can add one: start the server with --read-dir FOLDER",
        )
    return resolved
