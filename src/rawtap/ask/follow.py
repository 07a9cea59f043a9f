"""One conversation of a capture: found by a packet of it, and put together; its objects saved, if that is wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio import CancelScope

from rawtap.ask.decrypt import decrypted
from rawtap.ask.packets import caught_up
from rawtap.ask.saving import MOST_BYTES, MOST_OBJECTS, Folder, Saved
from rawtap.blocking import on_disk, reading
from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.packets import between, headers, reader
from rawtap.packets._columns import Packets, Source
from rawtap.packets._savefile import Savefile
from rawtap.packets.conversation import Conversation, End, Piece, Succession, ends_of
from rawtap.packets.decrypted import Copy, opens, undecrypted_told
from rawtap.packets.headers import Frame
from rawtap.packets.objects.http import HttpObjects
from rawtap.packets.objects.tftp import Datagram, TftpObjects
from rawtap.packets.pages import PacketFiles, lack, there
from rawtap.packets.reader import Raw
from rawtap.packets.sql.tables import missing_told
from rawtap.packets.tail import Part
from rawtap.packets.transport import UDP, Udp
from rawtap.packets.turns import Find, Search, TurnPage, Watcher, collect

SECONDS = 20.0  # of one call


@dataclass(frozen=True)
class Followed:
    """A page of a conversation between `client`, who began it, and `server`.

    `start_ns` is when time is counted from. `cut` tells that the time was over before the capture's end, and `lacking`
    what the files lack. `is_decrypted`: the page is of what was encrypted. `notes` are of TLS and of what was `saved`.
    """

    source: str
    protocol: str
    client: End
    server: End
    start_ns: int
    conversation: Conversation
    page: TurnPage
    search: Search | None
    cut: bool
    lacking: list[str]
    is_decrypted: bool = False
    saved: tuple[Saved, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def may_lack_lost(self) -> bool:
        """Whether packets that the capture lost may have been of it: TCP from its SYN to both FINs is whole, or has
        gaps that are told."""
        return self.conversation.oddities.middle or len(self.conversation.ended) < len(self.page.sizes)


@dataclass
class _Asked:
    """What is looked for, and until when: then it is `late`, or at once where nobody waits any more. What the files
    lack that were read to their ends. `copy` takes the packets for a decryption, and objects go to `folder`."""

    source: PacketFiles
    packet: int
    page: TurnPage
    search: Search | None
    until: float
    copy: Copy | None
    folder: Folder | None
    late: bool = False
    lacking: dict[Path, str] = field(default_factory=dict)

    @property
    def why_over(self) -> str:
        """Why nothing more is read, "" where it is the files' end."""
        return f"it was read for {SECONDS:g} s and no further" if self.late else ""


@dataclass(frozen=True)
class Wish:
    """Which conversation: by the number of a packet of it, or by its own, as `stream` in the columns of packets."""

    packet: int | None = None
    stream: int | None = None
    save: bool = False


async def follow(
    lab: Lab, capture: str | None, path: Path | None, wish: Wish, page: TurnPage, find: tuple[Find, int] | None
) -> Followed:
    """Fill `page` with the conversation that is wished for: with what is encrypted in it, where the operator gave the
    secrets. With `save`, objects that it carries become files in the capture folder.

    Raises:
        RequestInvalid: There is no such packet, stream or offset, the packet is of no conversation, or too far.
        OutputUnwritable, NoSpace: Objects cannot be saved; then none is left.
        CaptureUnknown, CaptureUnreadable, CaptureFailed, DiskStalled: As for a page of packets.
    """
    lab.require_open()
    source, shown, _ = await caught_up(lab, capture, path)
    search = Search(*find) if find else None
    packet = wish.packet
    if packet is None:
        packet = await reading(shown, _first_of, source, wish.stream or 0)
    keys, until = lab.settings.tls_keys, time.monotonic() + SECONDS
    folder = Folder(lab.settings.capture_dir) if wish.save else None
    asked = _Asked(source, packet, page, search, until, Copy() if keys else None, folder)
    try:
        done = await reading(shown, _follow, asked)
        if keys and asked.copy and asked.copy.seen:
            done = await _decrypted(shown, asked, keys, done)
        _require_offset(done.page, asked)
    except BaseException:
        asked.until = 0.0  # of a thread that is left behind where this was cancelled
        if folder:
            with CancelScope(shield=True):
                await on_disk(lab.settings.capture_dir, folder.abandon)
        raise
    if done.may_lack_lost:
        done = replace(done, notes=(*done.notes, *source.lost))
    if folder and folder.left:
        left = f"{folder.left} objects more are not saved: one call saves {MOST_OBJECTS}, or {MOST_BYTES >> 20} MiB"
        done = replace(done, notes=(*done.notes, left))
    return done


def _require_offset(page: TurnPage, asked: _Asked) -> None:
    if page.offset > page.length and not asked.late:
        raise RequestInvalid(f"offset={page.offset}: there are {page.length} bytes", cure="Use next_offset")


async def _decrypted(shown: Path, asked: _Asked, keys: Path, done: Followed) -> Followed:
    """The same of what was encrypted in it, if the secrets are of it."""
    pieces, why = await decrypted(asked.copy or Copy(), keys)
    if not pieces:
        return replace(done, notes=(*done.notes, why))
    page = TurnPage(done.page.offset, done.page.asked)
    search = done.search.anew() if done.search else None
    whole = set() if done.page.missing else done.conversation.ended
    saved = await reading(shown, _collected, asked, pieces, page, search, whole)
    told = (*done.notes, *undecrypted_told(done.page, page))
    return replace(done, page=page, search=search, is_decrypted=True, saved=saved, notes=told)


def _collected(
    asked: _Asked, pieces: Iterable[Piece], page: TurnPage, search: Search | None, ended: Container[int]
) -> tuple[Saved, ...]:
    """Go through pieces; what of them was saved. `ended`: see `HttpObjects.end`."""
    watchers = _watchers(page, search)
    if asked.folder is None:
        collect(pieces, watchers)
        return ()
    with asked.folder:
        objects = HttpObjects(asked.folder)
        collect(pieces, [*watchers, objects])
        objects.end(ended, asked.why_over)
    return tuple(asked.folder.saved)


def _watchers(page: TurnPage, search: Search | None) -> list[Watcher]:
    return [page, search] if search else [page]


def _first_of(source: PacketFiles, stream: int) -> int:
    """The number of a stream's first packet."""
    with ExitStack() as stack:
        parts, sources, empty = [], [], []
        for part, fd in there(source.parts, lambda part: reader.descriptor(part.path)):
            if fd is None:
                empty.append(reader.no_interface_told(part.path.name))
                continue
            stack.callback(os.close, fd)
            parts.append(part)
            sources.append(Source(fd, part.path.name, before=part.packets_before, live=part.live))
        packets = Packets(sources, ("stream",))  # numbered as a query numbers them: by the innermost packet
        if number := packets.first_of(stream):
            return number
    lacking = [lack(source, parts[each], *end) for each, end in packets.lacking.items()]
    raise RequestInvalid(
        f"there is no stream {stream}",
        evidence=_joined([*empty, *lacking, *missing_told(0, packets.unnumbered)]),
        cure="qemu_pcap_query shows them: SELECT * FROM streams",
    )


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(filter(None, texts))


def _follow(asked: _Asked) -> Followed:
    first_ns, target = _target(asked)
    found = ends_of(target)
    if found is None:
        raise RequestInvalid(
            f"packet {asked.packet} is of no conversation",
            cure="Give the number of a TCP or UDP packet",
        )
    protocol, one, other = found
    known = {(protocol, one, other), (protocol, other, one)}
    expression = between.ends(target, protocol, one, other)
    from_number, client = _beginning(asked, known, expression)
    conversation = Conversation(client)
    pieces = _pieces(asked, conversation, known, expression, from_number)
    if asked.folder and protocol == UDP:
        collect(pieces, _watchers(asked.page, asked.search))
        saved = _transferred(asked, asked.folder, target, {one, other})
    else:
        saved = _collected(asked, pieces, asked.page, asked.search, conversation.ended)
    start_ns = asked.source.start_ns if asked.source.start_ns is not None else first_ns
    return Followed(
        source=asked.source.name,
        protocol=between.name(protocol),
        client=client,
        server=other if client == one else one,
        start_ns=start_ns,
        conversation=conversation,
        page=asked.page,
        search=asked.search,
        cut=asked.late,
        lacking=[each for each in asked.lacking.values() if each],
        saved=saved,
    )


def _transferred(asked: _Asked, folder: Folder, target: Frame, ends: set[End]) -> tuple[Saved, ...]:
    """Save the files that TFTP brought between these two hosts, to a client that is one of these ends."""
    objects, addresses = TftpObjects(folder, ends), {each.address for each in ends}
    with folder:
        for raw, frame in _packets(asked, lambda frame: _is_between(frame, addresses), between.hosts(target, ends)):
            found, udp = ends_of(frame), frame.transport
            if found and isinstance(udp, Udp):
                data = frame.data[udp.payload : udp.end]
                # Of a datagram in fragments the first has its header, and the length of all.
                size = max(udp.end, udp.offset + udp.length) - udp.payload
                objects.add(Datagram(raw.number, found[1], found[2], data, size))
        objects.end(asked.why_over)
    return tuple(folder.saved)


def _is_between(frame: Frame, addresses: set[bytes]) -> bool:
    return frame.ip is not None and {frame.ip.source, frame.ip.destination} == addresses


def _target(asked: _Asked) -> tuple[int, Frame]:
    """When the first packet came, and the one that was named."""
    first_ns = None
    for part, file in _files(asked.source, ""):
        first = found = file.take(1)
        first_ns = first_ns or (first[0][1] if first else None)
        if asked.packet > part.packets_before + 1:
            file.skip(asked.packet - 1 - part.packets_before)
            found = file.take(1)
        if asked.packet <= part.packets_before:
            continue  # a ring has removed it
        if found:
            return first_ns or 0, _frame(Raw(*found[0]))
        asked.lacking[part.path] = lack(asked.source, part, file.scanned, file.damage)
    raise _missing(asked)


def _missing(asked: _Asked) -> RequestInvalid:
    paths = [part.path for part in asked.source.parts]
    empty = [reader.no_interface_told(path.name) for path in paths if reader.has_no_interface(path)]
    return RequestInvalid(
        f"there is no packet {asked.packet}",
        evidence=_joined([*empty, *asked.lacking.values()]),
        cure="qemu_pcap_read shows which there are",
    )


def _files(source: PacketFiles, expression: str) -> Iterator[tuple[Part, Savefile]]:
    """The files, opened one after the other."""
    return there(source.parts, lambda part: reader.open_file(part.path, expression, live=part.live))


def _frame(raw: Raw) -> Frame:
    """What a packet is of, as the columns have it: where it carries another one, that one."""
    return headers.innermost(headers.parse(raw.data, raw.length, raw.origin.link_type))


def _packets(asked: _Asked, is_wanted: Callable[[Frame], bool], expression: str) -> Iterator[tuple[Raw, Frame]]:
    """Packets of the files, numbered as in the capture, while there is time; what the files lack is noted."""
    for part, file in _files(asked.source, expression):
        while found := file.take(1):
            if time.monotonic() > asked.until:
                asked.late = True
                return
            raw = Raw(*found[0])
            frame = _frame(raw)
            if is_wanted(frame):
                yield raw._replace(number=raw.number + part.packets_before), frame
        asked.lacking[part.path] = lack(asked.source, part, file.scanned, file.damage)


def _beginning(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> tuple[int, End]:
    """The first packet of the conversation that the one that was named is of, and who sent it."""
    number, client, succession = 0, None, Succession()
    for raw, frame in _packets(asked, lambda frame: ends_of(frame) in known, expression):
        if (succession.begins_next(frame) or client is None) and (found := ends_of(frame)):
            number, client = raw.number, found[1]
        if raw.number == asked.packet and client is not None:
            return number, client
    if asked.late:
        cure = "Copy fewer packets to a file first: rawtap read FILE FILTER --write OUT"
        raise RequestInvalid(f"packet {asked.packet} was not reached in {SECONDS:g} s", cure=cure)
    raise _missing(asked)  # a ring has removed it just now


def _pieces(
    asked: _Asked, conversation: Conversation, known: set[tuple[int, End, End]], expression: str, first: int
) -> Iterator[Piece]:
    """It, put together, from its first packet on."""
    succession = Succession()
    for raw, frame in _packets(asked, lambda frame: ends_of(frame) in known, expression):
        if raw.number < first:
            continue
        if succession.begins_next(frame):
            break
        found = ends_of(frame)
        if asked.copy and found:
            asked.copy.add(0 if found[1] == conversation.client else 1, raw)
        for piece in conversation.feed(raw, frame):
            if asked.copy and opens(piece.data):
                asked.copy.seen = True
            yield piece
    yield from conversation.rest()
