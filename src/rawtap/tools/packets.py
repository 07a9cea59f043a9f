"""The tools that ask the wire, and the one that speaks on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from rawtap.lab.observation import Scene
from rawtap.packets.craft import MAX_FRAME, MAX_LAYERS
from rawtap.packets.layers import Layer
from rawtap.packets.reader import MAX_LIMIT, Line, tags_told
from rawtap.tools._text import UNTRUSTED, Answer, Untrusted, indented, one_line, shown
from rawtap.tools._tool import LabContext, Offer, is_none, lab_of, tool
from rawtap.tools.capture import CaptureId, Filter
from rawtap.untrusted import visible

if TYPE_CHECKING:
    from rawtap.ask.packets import RingFile
    from rawtap.packets.pages import Page, Question

_MAX_COUNT = 1000
_SHOWN = 1600  # bytes
_FOLDED = 2  # packets that repeat one, or more


Detail = Annotated[
    Literal["summary", "layers", "hex"],
    Field(description="A line a packet; all fields of all layers; its bytes."),
]
FieldValue = TypeAliasType("FieldValue", "int | float | str | list[FieldValue] | dict[str, FieldValue] | None")


class LayerRow(Answer):
    """One layer of a packet."""

    layer: str
    offset: int | None = Field(description="Of its first byte in the frame; null if it is not in it (reassembled).")
    size: int = Field(description="Of its header; of a payload, all of it.")
    fields: dict[str, FieldValue] = Field(description="Untrusted data from the wire; bytes as hexadecimal digits.")
    names: dict[str, str] = Field(description="What some of these values stand for; untrusted as well.")

    def lines(self) -> list[str]:
        """One line: the layer, its place, and each field with what its value stands for."""
        told = (f"{name}={shown(value)}{self._name(name)}" for name, value in self.fields.items())
        place = f"{self.offset}+{self.size}" if self.offset is not None else f"{self.size} bytes reassembled"
        return [one_line(f"{self.layer} {place}: {' '.join(told)}")]

    def _name(self, field: str) -> str:
        return f" ({self.names[field]})" if field in self.names else ""


class ByteRun(Answer):
    """Bytes of a packet that belong together."""

    offset: int
    hex: str
    fields: str = Field(description='Whose they are, like "IP.ttl", where `stopped` is about them.')

    def lines(self) -> list[str]:
        """One line: where, which, whose."""
        return [f"{self.offset} {self.hex} {one_line(self.fields)}".rstrip()]


class PacketLine(Answer):
    """One packet."""

    number: int = Field(description="In the capture, or in a file that was asked for by its path, from 1.")
    time: float = Field(description="Seconds since the capture was armed; of another file, since its first packet.")
    length: int = Field(description="Bytes on the wire.")
    captured: int = Field(description="Bytes of it in the file.")
    direction: str | None = Field(None, exclude_if=is_none, description='As the guests see it, like "from guest".')
    point: str | None = Field(None, exclude_if=is_none, description="The interface, where the file names it.")
    protocol: str
    source: str = Field(description="IP address and port; the MAC address where there is no IP.")
    destination: str
    summary: str = Field(description="What it says: untrusted data from the wire.")
    layers: list[LayerRow] | None = Field(None, exclude_if=is_none)
    runs: list[ByteRun] | None = Field(None, exclude_if=is_none)
    fields: dict[str, FieldValue] | None = Field(None, exclude_if=is_none)
    stopped: str | None = Field(None, exclude_if=is_none, description="Where decoding ended early, and at what.")

    def lines(self) -> list[str]:
        """What it says on one line; below it the layers, bytes or fields that were asked for."""
        way = " ".join(each for each in (self.point, self.direction) if each)
        size = f"{self.length} B" if self.captured == self.length else f"{self.captured} of {self.length} B"
        said = f"{self.protocol} {self.source} > {self.destination}: {self.summary}"
        rows = [line for row in [*(self.layers or []), *(self.runs or [])] for line in row.lines()]
        rows += [one_line(f"{name}={shown(value)}") for name, value in (self.fields or {}).items()]
        rows += [f"stopped: {one_line(self.stopped)}"] if self.stopped else []
        head = f"{self.number} {self.time:.6f} {way}{' ' if way else ''}{one_line(said)} [{size}]"
        return [head, *indented(rows)]


class _Repeated(Answer):
    """Packets that say what the one before them does."""

    first: PacketLine
    last: PacketLine
    packets: int

    def lines(self) -> list[str]:
        """How many, and up to which."""
        return [f"{self.first.number} to {self.last.number}: {self.packets} more like it, to {self.last.time:.6f}"]


def _folded(packets: Sequence[PacketLine]) -> list[PacketLine | _Repeated]:
    """Packets, with those that repeat the one before, twice at least, in one."""
    found: list[PacketLine | _Repeated] = []
    for _, group in groupby(packets, lambda line: line.model_copy(update={"number": 0, "time": 0.0})):
        one, *more = group
        found += (
            [one, *more] if len(more) < _FOLDED else [one, _Repeated(first=more[0], last=more[-1], packets=len(more))]
        )
    return found


class PacketPage(Answer):
    """A page of packets, and how many there are in all."""

    path: str = Field(description="The file, or the newest of a ring, all of whose files are read.")
    packets: Annotated[list[PacketLine], UNTRUSTED]
    matched: int = Field(description="Packets that pass the filter, from `first` on.")
    scanned: int = Field(description="Packets in all files.")
    next_cursor: str | None = Field(description="Give it back for the next page; null at the end.")
    warnings: list[str]

    def lines(self) -> list[str]:
        """As any answer's, but packets that say the same one after the other are told once."""
        return Answer.lines(self.model_copy(update={"packets": _folded(self.packets)}))


class OtherPackets(Answer):
    """Packets of a protocol that did not match."""

    protocol: str
    packets: int
    last: PacketLine

    def lines(self) -> list[str]:
        """How many, and the last of them."""
        return [f"{self.packets} of {self.protocol}, the last: {self.last.lines()[0]}"]


class Waited(Answer):
    """How a wait ended."""

    capture: str
    satisfied: bool
    reason: str
    packets: Annotated[list[PacketLine], UNTRUSTED] = Field(
        description="Those that match, as far as they fit into an answer."
    )
    matched: int = Field(description="How many match, up to count.")
    looked_at: int = Field(description="Packets of the capture that were compared with the filter.")
    others: Annotated[list[OtherPackets], UNTRUSTED] = Field(
        description="What came instead, by protocol; of the last 2000 packets."
    )
    elapsed: float = Field(description="Seconds.")
    stopped_after: float | None = Field(
        None,
        exclude_if=is_none,
        description="Seconds from the last packet's time until the guest stood still; it may have done more by then.",
    )
    since: int = Field(description="Number of the last packet looked at or shown: give it as since to go on behind it.")


class SentPacket(Answer):
    """What was put on the wire."""

    interface: str
    sent: int = Field(description="How often.")
    bytes: int = Field(description="Length of the frame.")
    summary: Untrusted = Field(description="What it says.")
    hex: str = Field(description="Its bytes, the first 1600 of them.")


async def qemu_pcap_read(
    context: LabContext,
    capture: CaptureId = None,
    path: Annotated[str | None, Field(description="A file instead.")] = None,
    filter: Filter = "",  # noqa: A002 - the interface's name for it
    cursor: Annotated[str | None, Field(description="next_cursor of the page before.")] = None,
    first: Annotated[int | None, Field(ge=1, description="Or begin at this number.")] = None,
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Packets a page.")] = 20,
    detail: Detail = "summary",
    fields: Annotated[
        list[str] | None,
        Field(max_length=16, description='Pick these fields of each packet, like "IP.src"; "layers" shows the names.'),
    ] = None,
    display_filter: Annotated[str, Field(description="wireshark-filter(4), by tshark.")] = "",
    dissector: Annotated[
        Literal["rawtap", "tshark"] | None, Field(description="tshark also finishes layers unknown here.")
    ] = None,
) -> PacketPage:
    """Read packets of a running or finished capture, a page at a time; qemu_pcap_explain says first what is wrong."""
    from rawtap.ask.packets import read
    from rawtap.packets.pages import Question

    lab = lab_of(context)
    question = Question(filter, cursor, first, limit, detail, tuple(fields or ()), display_filter)
    page, shown, place = await read(lab, capture, Path(path) if path else None, question, dissector)
    return PacketPage(
        path=str(shown),
        packets=[_packet_line(line, lab.scene) for line in page.packets],
        matched=page.matched,
        scanned=page.scanned,
        next_cursor=page.next_cursor,
        warnings=_page_warnings(page, question, place if path else None),
    )


def _page_warnings(page: Page, question: Question, place: RingFile | None) -> list[str]:
    """Warnings about a page. `place` is None unless a file was asked for by its path."""
    found = [*page.lacking, *page.notes]
    if page.overwritten:
        found.append(f"{page.overwritten} packets before these were overwritten by the ring meanwhile")
    found += tags_told(page.tagged, question.expression)
    nowhere = [name for name in question.fields if not any(name in (line.fields or {}) for line in page.packets)]
    if page.packets and nowhere:
        found.append(f'no packet of this page has {", ".join(nowhere)[:200]}: detail="layers" shows the names')
    if page.cut:
        found.append(f"{len(page.packets)} of {question.limit} packets fill an answer: next_cursor has the next")
    if place and place.files > 1:
        found.append(f"this is file {place.number} of a ring's {place.files}: capture= reads them all")
    return found


def _packet_line(line: Line, scene: Scene) -> PacketLine:
    return PacketLine(
        number=line.number,
        time=line.time,
        length=line.length,
        captured=line.captured,
        direction=scene.direction(line.summary.source_mac, line.summary.destination_mac, line.origin),
        point=visible(line.origin.name) or None,
        protocol=line.summary.protocol,
        source=line.summary.source,
        destination=line.summary.destination,
        summary=line.summary.info,
        layers=None if line.layers is None else [_layer_row(layer) for layer in line.layers],
        runs=None if line.runs is None else [ByteRun(**dataclasses.asdict(run)) for run in line.runs],
        fields=line.fields,
        stopped=line.stopped,
    )


def _layer_row(layer: Layer) -> LayerRow:
    return LayerRow(
        layer=layer.name,
        offset=layer.offset,
        size=layer.size,
        fields={field.name: field.value for field in layer.fields},
        names={field.name: field.shown for field in layer.fields if field.shown is not None},
    )


async def qemu_pcap_wait(
    context: LabContext,
    filter: Filter = "",  # noqa: A002 - the interface's name for it
    count: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many packets.")] = 1,
    timeout: Annotated[float, Field(ge=0, le=3600, description="Seconds.")] = 10,
    absent: Annotated[bool, Field(description="See for the whole time that none matches.")] = False,
    since: Annotated[
        Literal["now", "start"] | Annotated[int, Field(ge=0)],
        Field(description="Count packets from this call on, from the capture's first, or behind that number."),
    ] = "now",
    capture: CaptureId = None,
    detail: Detail = "summary",
    stop: Annotated[bool, Field(description="Stop the guest then.")] = False,
) -> Waited:
    """Wait for packets of a running capture; return the moment they are there. A time-out says what came instead."""
    from rawtap.ask.wait import Wish, wait

    async def tell(elapsed: float, message: str) -> None:
        await context.report_progress(elapsed, timeout, message)

    wish = Wish(filter, count, timeout, absent, since, stop)
    lab = lab_of(context)
    done = await wait(lab, capture, wish, detail, tell)
    await lab.interfaces.learn()
    return Waited(
        capture=done.capture.id,
        satisfied=done.satisfied,
        reason=done.reason,
        packets=[_packet_line(line, lab.scene) for line in done.packets],
        matched=done.matched,
        looked_at=done.looked_at,
        others=[
            OtherPackets(protocol=each.protocol, packets=each.packets, last=_packet_line(each.last, lab.scene))
            for each in done.others
        ],
        elapsed=round(done.elapsed, 3),
        stopped_after=done.stopped_after,
        since=done.reached,
    )


async def qemu_packet_send(
    context: LabContext,
    interface: Annotated[
        str | None, Field(description="A guest's bridge or TAP, or user:GUEST; its network if absent.")
    ] = None,
    hex: Annotated[  # noqa: A002 - the interface's name for it
        str | None, Field(max_length=4 * MAX_FRAME, description="A whole Ethernet frame in hexadecimal digits.")
    ] = None,
    layers: Annotated[
        list[dict[str, Any]] | None,
        Field(
            max_length=MAX_LAYERS,
            description='Its layers instead, like [{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}]; what '
            'is absent is filled in. Bytes are text or {"hex": "00ff"}.',
        ),
    ] = None,
    count: Annotated[int, Field(ge=1, le=_MAX_COUNT, description="How often; 1000 a second at most.")] = 1,
    name: Annotated[str, Field(description="Whose network.")] = "guest",
) -> SentPacket:
    """Send a packet to a guest, from hexadecimal digits or from layers. A capture that runs there sees it."""
    from rawtap.ask.send import send

    lab = lab_of(context)
    chosen = interface or lab.card_of(name).network
    done = await send(lab, chosen, hex, layers, count)
    return SentPacket(
        interface=chosen,
        sent=done.count,
        bytes=len(done.frame),
        summary=str(done.summary),
        hex=done.frame[:_SHOWN].hex(),
    )


TOOLS: tuple[Offer, ...] = (
    tool(qemu_pcap_read, "Read packets", read_only=True, idempotent=True),
    tool(qemu_pcap_wait, "Wait for packets", read_only=True, idempotent=True),
    tool(qemu_packet_send, "Send a packet"),
)
