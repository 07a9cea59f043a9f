"""One conversation of a capture: found by a packet of it, and put together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from rawtap.ask.packets import caught_up
from rawtap.blocking import reading
from rawtap.errors import CaptureUnreadable, RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.packets import headers, reader
from rawtap.packets._columns import Packets, Source
from rawtap.packets._savefile import Savefile
from rawtap.packets.conversation import Conversation, End, Piece, begins, ends_of
from rawtap.packets.headers import Frame
from rawtap.packets.pages import PacketFiles
from rawtap.packets.reader import Raw
from rawtap.packets.tail import Part
from rawtap.packets.transport import TCP
from rawtap.packets.turns import Find, Search, TurnPage, collect

SECONDS = 20.0  # of one call
_NAMES = {TCP: "tcp"}


@dataclass(frozen=True)
class Followed:
    """A page of a conversation between `client`, who began it, and `server`.

    `start_ns` is when time is counted from. `cut` tells that the time was over before the capture's end.
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


@dataclass
class _Asked:
    """What is looked for, and until when."""

    source: PacketFiles
    packet: int
    page: TurnPage
    search: Search | None
    until: float


@dataclass(frozen=True)
class Wish:
    """Which conversation: by the number of a packet of it, or by its own, as `stream` in the columns of packets."""

    packet: int | None = None
    stream: int | None = None


async def follow(
    lab: Lab, capture: str | None, path: Path | None, wish: Wish, page: TurnPage, find: tuple[Find, int] | None
) -> Followed:
    """Fill `page` with the conversation that is wished for.

    Raises:
        RequestInvalid: There is no such packet or stream, or the packet is of no conversation.
        CaptureUnknown, CaptureUnreadable, CaptureFailed, DiskStalled: As for a page of packets.
    """
    lab.require_open()
    source, shown, _ = await caught_up(lab, capture, path)
    search = Search(*find) if find else None
    packet = wish.packet
    if packet is None:
        packet = await reading(shown, _first_of, source, wish.stream or 0)
    asked = _Asked(source, packet, page, search, time.monotonic() + SECONDS)
    return await reading(shown, _follow, asked)


def _first_of(source: PacketFiles, stream: int) -> int:
    """The number of a stream's first packet."""
    with ExitStack() as stack:
        sources = []
        for part in source.parts:
            try:
                fd = reader.open_regular(part.path)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and part is not source.parts[-1]:
                    continue  # a ring has removed it
                raise reader.unreadable(part.path, error.strerror or str(error)) from error
            stack.callback(os.close, fd)
            sources.append(Source(fd, part.path.name, before=part.packets_before, live=part.live))
        if number := Packets(sources, ()).first_of(stream):
            return number
    raise RequestInvalid(f"there is no stream {stream}", cure="qemu_pcap_query shows them: SELECT * FROM streams")


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
    expression = _expression(target, protocol, one, other)
    from_number, client = _beginning(asked, known, expression)
    conversation = Conversation(client)
    cut = _collect(asked, conversation, known, expression, from_number)
    start_ns = asked.source.start_ns if asked.source.start_ns is not None else first_ns
    server = other if client == one else one
    name = _NAMES.get(protocol, "udp")
    return Followed(asked.source.name, name, client, server, start_ns, conversation, asked.page, asked.search, cut)


def _target(asked: _Asked) -> tuple[int, Frame]:
    """When the first packet came, and the one that was named."""
    first_ns = None
    for part, file in _files(asked.source, ""):
        first = found = file.take(1)
        first_ns = first_ns or (first[0][1] if first else None)
        if asked.packet > part.packets_before + 1:
            file.skip(asked.packet - 1 - part.packets_before)
            found = file.take(1)
        if asked.packet > part.packets_before and found:
            raw = Raw(*found[0])
            return first_ns or 0, headers.parse(raw.data, raw.length, raw.origin.link_type)
    raise RequestInvalid(f"there is no packet {asked.packet}", cure="qemu_pcap_read shows which there are")


def _files(source: PacketFiles, expression: str) -> Iterator[tuple[Part, Savefile]]:
    """The files, opened; one that a ring has removed meanwhile is passed over."""
    for part in source.parts:
        try:
            file = reader.open_file(part.path, expression, live=part.live)
        except CaptureUnreadable as error:
            if part is source.parts[-1] or not isinstance(error.__cause__, FileNotFoundError):
                raise
            continue
        yield part, file


def _expression(target: Frame, protocol: int, one: End, other: End) -> str:
    """A filter that no packet of the conversation fails; behind VLAN tags everything is looked at instead."""
    if isinstance(target.link, headers.Ethernet) and target.link.tags:
        return ""
    hosts = " and ".join(f"host {ip_address(each.address)} and port {each.port}" for each in (one, other))
    return f"{_NAMES.get(protocol, 'udp')} and {hosts}"


def _packets(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> Iterator[tuple[Raw, Frame]]:
    """The packets between these two, numbered as in the capture."""
    for part, file in _files(asked.source, expression):
        while found := file.take(1):
            raw = Raw(*found[0])
            frame = headers.parse(raw.data, raw.length, raw.origin.link_type)
            if ends_of(frame) in known:
                yield raw._replace(number=raw.number + part.packets_before), frame


def _beginning(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> tuple[int, End]:
    """The first packet of the conversation that the one that was named is of, and who sent it."""
    number, client, began = 0, None, None
    for raw, frame in _packets(asked, known, expression):
        if raw.number > asked.packet or time.monotonic() > asked.until:
            break
        fresh = begins(frame, began)
        if (fresh is not None or client is None) and (found := ends_of(frame)):
            number, client, began = raw.number, found[1], fresh
    if client is None:
        raise RequestInvalid(
            f"packet {asked.packet} was not reached in {SECONDS:g} s", cure="Select fewer packets first"
        )
    return number, client


def _collect(
    asked: _Asked, conversation: Conversation, known: set[tuple[int, End, End]], expression: str, first: int
) -> bool:
    """Put it together; returns whether the time was over first."""
    cut = False

    def pieces() -> Iterator[Piece]:
        nonlocal cut
        began: int | None = None
        for raw, frame in _packets(asked, known, expression):
            if raw.number < first:
                continue
            fresh = begins(frame, began)
            if fresh is not None and raw.number > first:
                break
            began = fresh if raw.number == first else began
            yield from conversation.feed(raw, frame)
            if time.monotonic() > asked.until:
                cut = True
                break
        yield from conversation.rest()

    collect(pieces(), asked.page, asked.search)
    return cut
