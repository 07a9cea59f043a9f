"""One conversation of a capture: found by a packet of it, and put together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from rawtap.ask.packets import caught_up
from rawtap.blocking import reading
from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.packets import headers, reader
from rawtap.packets.conversation import Conversation, End, Piece, begins, ends_of
from rawtap.packets.headers import Frame
from rawtap.packets.pages import PacketFiles
from rawtap.packets.reader import Raw
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


async def follow(
    lab: Lab, capture: str | None, path: Path | None, packet: int, page: TurnPage, find: tuple[Find, int] | None
) -> Followed:
    """Fill `page` with the conversation that packet number `packet` is of.

    Raises:
        RequestInvalid: There is no such packet, or it is of no conversation.
        CaptureUnknown, CaptureUnreadable, CaptureFailed, DiskStalled: As for a page of packets.
    """
    lab.require_open()
    source, shown, _ = await caught_up(lab, capture, path)
    search = Search(*find) if find else None
    asked = _Asked(source, packet, page, search, time.monotonic() + SECONDS)
    return await reading(shown, _follow, asked)


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
    for part in asked.source.parts:
        file = reader.open_file(part.path, "", live=part.live)
        if first_ns is None and (first := file.take(1)):
            first_ns = first[0][1]
            file = reader.open_file(part.path, "", live=part.live)
        file.skip(max(0, asked.packet - 1 - part.packets_before))
        if asked.packet > part.packets_before and (found := file.take(1)):
            raw = Raw(*found[0])
            return first_ns or 0, headers.parse(raw.data, raw.length, raw.origin.link_type)
    raise RequestInvalid(f"there is no packet {asked.packet}", cure="qemu_pcap_read shows which there are")


def _expression(target: Frame, protocol: int, one: End, other: End) -> str:
    """A filter that no packet of the conversation fails; behind VLAN tags everything is looked at instead."""
    if isinstance(target.link, headers.Ethernet) and target.link.tags:
        return ""
    hosts = " and ".join(f"host {ip_address(each.address)} and port {each.port}" for each in (one, other))
    return f"{_NAMES.get(protocol, 'udp')} and {hosts}"


def _packets(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> Iterator[tuple[Raw, Frame]]:
    """The packets between these two, numbered as in the capture."""
    for part in asked.source.parts:
        file = reader.open_file(part.path, expression, live=part.live)
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
