"""One conversation of a capture: found by a packet of it, and put together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from rawtap.ask.packets import caught_up
from rawtap.blocking import reading
from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.packets import headers, reader
from rawtap.packets._columns import Packets, Source
from rawtap.packets._savefile import Savefile
from rawtap.packets.conversation import Conversation, End, Piece, Succession, ends_of
from rawtap.packets.headers import Frame
from rawtap.packets.pages import PacketFiles, lack, there
from rawtap.packets.reader import Raw
from rawtap.packets.sql.tables import missing_told
from rawtap.packets.tail import Part
from rawtap.packets.transport import TCP
from rawtap.packets.turns import Find, Search, TurnPage, collect

SECONDS = 20.0  # of one call
_NAMES = {TCP: "tcp"}
_IPV4_BYTES = 4


@dataclass(frozen=True)
class Followed:
    """A page of a conversation between `client`, who began it, and `server`.

    `start_ns` is when time is counted from. `cut` tells that the time was over before the capture's end, and `lacking`
    what the files lack.
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


@dataclass
class _Asked:
    """What is looked for, and until when: then it is `late`. What the files lack that were read to their ends."""

    source: PacketFiles
    packet: int
    page: TurnPage
    search: Search | None
    until: float
    late: bool = False
    lacking: dict[Path, str] = field(default_factory=dict)


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
        RequestInvalid: There is no such packet, stream or offset, the packet is of no conversation, or too far.
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
        parts, sources = [], []
        for part, fd in there(source.parts, lambda part: reader.descriptor(part.path)):
            stack.callback(os.close, fd)
            parts.append(part)
            sources.append(Source(fd, part.path.name, before=part.packets_before, live=part.live))
        packets = Packets(sources, ())
        if number := packets.first_of(stream):
            return number
    lacking = [lack(source, parts[each], *end) for each, end in packets.lacking.items()]
    raise RequestInvalid(
        f"there is no stream {stream}",
        evidence=_joined([*lacking, *missing_told(0, packets.unnumbered)]),
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
    expression = _expression(target, protocol, one, other)
    from_number, client = _beginning(asked, known, expression)
    conversation = Conversation(client)
    collect(_pieces(asked, conversation, known, expression, from_number), asked.page, asked.search)
    start_ns = asked.source.start_ns if asked.source.start_ns is not None else first_ns
    page = asked.page
    if page.offset > page.length and not asked.late:
        raise RequestInvalid(f"offset={page.offset}: there are {page.length} bytes", cure="Use next_offset")
    return Followed(
        source=asked.source.name,
        protocol=_NAMES.get(protocol, "udp"),
        client=client,
        server=other if client == one else one,
        start_ns=start_ns,
        conversation=conversation,
        page=page,
        search=asked.search,
        cut=asked.late,
        lacking=[each for each in asked.lacking.values() if each],
    )


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
            raw = Raw(*found[0])
            return first_ns or 0, headers.parse(raw.data, raw.length, raw.origin.link_type)
        asked.lacking[part.path] = lack(asked.source, part, file.scanned, file.damage)
    raise _missing(asked)


def _missing(asked: _Asked) -> RequestInvalid:
    return RequestInvalid(
        f"there is no packet {asked.packet}",
        evidence=_joined(asked.lacking.values()),
        cure="qemu_pcap_read shows which there are",
    )


def _files(source: PacketFiles, expression: str) -> Iterator[tuple[Part, Savefile]]:
    """The files, opened one after the other."""
    return there(source.parts, lambda part: reader.open_file(part.path, expression, live=part.live))


def _expression(target: Frame, protocol: int, one: End, other: End) -> str:
    """A filter that no packet of the conversation fails: "" where libpcap does not look behind what carries it."""
    link = target.link
    if target.carriers or (isinstance(link, headers.Ethernet) and link.tags):
        return ""
    hosts = " and ".join(f"host {ip_address(each.address)}" for each in (one, other))
    if len(one.address) > _IPV4_BYTES:  # any of them may have extension headers, behind which libpcap sees no port
        return hosts
    plain = f"{_NAMES.get(protocol, 'udp')} and {hosts} and port {one.port} and port {other.port}"
    return f"({plain}) or vlan" if isinstance(link, headers.Ethernet) else plain


def _packets(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> Iterator[tuple[Raw, Frame]]:
    """The packets between these two, numbered as in the capture, while there is time."""
    for part, file in _files(asked.source, expression):
        while found := file.take(1):
            if time.monotonic() > asked.until:
                asked.late = True
                return
            raw = Raw(*found[0])
            frame = headers.parse(raw.data, raw.length, raw.origin.link_type)
            if ends_of(frame) in known:
                yield raw._replace(number=raw.number + part.packets_before), frame
        asked.lacking[part.path] = lack(asked.source, part, file.scanned, file.damage)


def _beginning(asked: _Asked, known: set[tuple[int, End, End]], expression: str) -> tuple[int, End]:
    """The first packet of the conversation that the one that was named is of, and who sent it."""
    number, client, succession = 0, None, Succession()
    for raw, frame in _packets(asked, known, expression):
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
    for raw, frame in _packets(asked, known, expression):
        if raw.number < first:
            continue
        if succession.begins_next(frame):
            break
        yield from conversation.feed(raw, frame)
    yield from conversation.rest()
