"""A frame taken apart: its layers, their fields, and the bytes that each of them came from.

What scapy says is made plain data here, bounded and printable: the frame is untrusted. scapy itself does not keep where
a field came from. It is found again by letting each field take its bytes from the layer's, as scapy did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from rawtap.packets import decode
from rawtap.untrusted import visible

Value = int | float | str | list["Value"] | dict[str, "Value"] | None

_TEXT = 160  # characters of one value
_ITEMS = 16  # of one list
_DEPTH = 4  # of packets in fields
_LAYERS = 32
_FIELDS = 120  # of one frame
_CHARACTERS = 6000  # of all values of one frame
_BYTES = 1600  # of one frame, shown
_ROW = 32
_MARKS = {"pad", "end", "NOP", "EOL"}  # options that say nothing
_ZEROS = re.compile("0{16,}")
_IDS = {"id", "xid", "trid"}
_WITH_BYTES = ("ICMP", "TFTP", "Raw", "Padding")  # layers whose payload is bytes
DECODED = 16384  # bytes of one frame: some of scapy's layers take time that grows with the square of theirs


@dataclass(frozen=True)
class Field:
    """One field: `bits` bits from bit `bit` of the frame on, counted from its first bit.

    `value` is bytes as hexadecimal digits, `shown` what a number or bytes stand for, None where that says nothing more.
    """

    name: str
    value: Value
    shown: str | None
    bit: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """One layer's header of `size` bytes from byte `offset` of the frame on; for a payload all of it.

    `offset` is None where its bytes are not the frame's: they were put together of several frames, or decrypted.
    `kind` is what sending calls it as well: ``Ether`` for Ethernet.
    """

    name: str
    offset: int | None
    size: int
    fields: tuple[Field, ...]
    kind: str = ""


@dataclass(frozen=True)
class Frame:
    """A frame's layers from the outermost.

    Attributes:
        stopped: Where and at what they end early, None if they do not.
        undecoded: From which byte on there is a protocol that is not read here, None if there is none.
    """

    layers: tuple[Layer, ...]
    stopped: str | None
    undecoded: int | None = None


@dataclass(frozen=True)
class Run:
    """Bytes of the frame in a row. `fields` are whose they are, ``IP.version, IP.ihl``, where something is wrong with
    them; else it is empty.

    The rows end early for a frame of more than 1600 bytes.
    """

    offset: int
    hex: str
    fields: str


class Budget:
    """How many bytes of frames are decoded for one answer, since a few hostile ones could take minutes."""

    def __init__(self, size: int = 32 * DECODED) -> None:
        self._left = size

    def takes(self, size: int) -> bool:
        """Whether a frame of that size may be decoded yet."""
        is_enough = self._left > 0
        self._left -= size
        return is_enough


def take_apart(data: bytes, link_type: int, budget: Budget | None = None) -> Frame:
    """Decode a frame of `link_type`, its first 16384 bytes; what cannot be decoded is shown as bytes.

    With a `budget` that is used up nothing of it is.
    """
    beyond = len(data) - DECODED
    data = data[:DECODED]
    if budget is not None and not budget.takes(len(data)):
        return Frame((), "byte 0: not decoded: the packets before it took what one answer may; begin a page at it")
    packet, failure = decode.dissect(data, link_type)
    if packet is None:
        return Frame((), failure, 0)
    found: list[Layer] = []
    at = 0
    room = _Room()
    stopped = None
    for layer in _chain(packet):
        fields, size = _replay(layer, at * 8)
        found.append(Layer(layer.name, at, size, tuple(room.takes(fields)), type(layer).__name__))
        at += size
        stopped = stopped or room.full or _gave_up(layer, at)
    if at < len(data):
        stopped = stopped or f"byte {at}: no layer takes the rest, {len(data) - at} bytes"
    if beyond > 0 and not room.full:  # what did not fit into the part is no layer that cannot be decoded
        stopped = f"byte {DECODED}: the last {beyond} bytes are not decoded, which would take too long"
    return Frame(tuple(found), stopped, _undecoded(found))


def _undecoded(found: list[Layer]) -> int | None:
    """Where bytes begin that are left directly behind a carrier's header."""
    if len(found) < 2 or found[-1].name != "Raw" or found[-2].kind.startswith(_WITH_BYTES):  # noqa: PLR2004
        return None
    ip = next((layer for layer in found if layer.name == "IP"), None)
    later = ip is not None and any(field.name == "frag" and field.value for field in ip.fields)
    return None if later else found[-1].offset


def bounded(frame: Frame) -> Frame:
    """A frame whose fields are not too much for one answer; those of inner layers come first."""
    room = _Room()
    kept = [replace(layer, fields=tuple(room.takes(layer.fields))) for layer in reversed(frame.layers[-_LAYERS:])]
    return Frame(tuple(reversed(kept)), frame.stopped or room.full)


def picked(frame: Frame, names: Iterable[str]) -> dict[str, Value]:
    """The values of the fields of those names, like ``IP.src``; of several layers of a name the outermost's."""
    found = {}
    for layer in reversed(frame.layers):
        for field in layer.fields:
            found[_whole_name(layer, field)] = found[f"{layer.kind}.{field.name}"] = field.value
    return {name: found[name] for name in names if name in found}


def worth_telling(frame: Frame, data: bytes) -> Iterator[Layer]:
    """The layers, of a frame of these bytes, without what tells nothing: padding of zeros, options that only fill, and
    options that a later layer has in its fields."""
    for layer, following in zip_longest(frame.layers, frame.layers[1:]):
        is_elsewhere = following is not None and following.kind == "DHCP"
        kept = (_without_marks(field) for field in layer.fields if not (is_elsewhere and field.name == "options"))
        yield replace(layer, fields=tuple(field for field in kept if not _is_filling(field, data)))


def _without_marks(field: Field) -> Field:
    if field.name != "options" or not isinstance(field.value, list):
        return field
    return replace(field, value=[each for each in field.value if not _is_mark(each)])


def _is_mark(option: Value) -> bool:
    first = option[0] if isinstance(option, list) and option else option
    return isinstance(first, str) and first in _MARKS


def _is_filling(field: Field, data: bytes) -> bool:
    value = field.value
    if not isinstance(value, str) or not _ZEROS.fullmatch(value.removesuffix("...")):
        return value in ("", [])
    return not any(data[field.bit // 8 : (field.bit + field.bits) // 8])  # of which the value may show a part


def _whole_name(layer: Layer, field: Field) -> str:
    """tshark's names have the layer's in them."""
    return field.name if "." in field.name else f"{layer.name}.{field.name}"


class _Room:
    """What may still be said of a frame. `full` tells where there was no more of it."""

    def __init__(self) -> None:
        self._fields, self._characters = _FIELDS, _CHARACTERS
        self.full: str | None = None

    def takes(self, fields: Iterable[Field]) -> Iterator[Field]:
        """The fields that there is room for."""
        for field in fields:
            self._fields -= 1
            self._characters -= len(json.dumps(field.value)) + len(field.shown or "")
            if self._fields < 0 or self._characters < 0:
                self.full = self.full or f"byte {field.bit // 8}: the fields from here on are too much for one answer"
                return
            yield field


def runs(frame: Frame, data: bytes, wrong: int | None = None) -> tuple[Run, ...]:
    """The frame's first bytes in order, in rows; what the byte `wrong` belongs to has a row of its own, with names."""
    shown = data[:_BYTES]
    spans = (span for span in _spans(frame) if wrong is not None and span[0] <= wrong < span[1])
    begin, end, names = next(spans, (len(shown), len(shown), []))
    end = min(end, len(shown))
    named = [Run(begin, shown[begin:end].hex(), ", ".join(names))] if begin < end else []
    return (*_rows(shown, 0, min(begin, len(shown))), *named, *_rows(shown, end, len(shown)))


def _rows(data: bytes, begin: int, end: int) -> Iterator[Run]:
    for at in range(begin, end, _ROW):
        yield Run(at, data[at : min(at + _ROW, end)].hex(), "")


def _spans(frame: Frame) -> Iterator[tuple[int, int, list[str]]]:
    """Bytes and the fields in them; fields that share a byte come together."""
    begin = end = 0
    names: list[str] = []
    for layer in frame.layers:
        for field in layer.fields:
            if not field.bits or layer.offset is None:
                continue
            first, last = field.bit // 8, -(-(field.bit + field.bits) // 8)
            if names and first >= end:
                yield begin, end, names
                names = []
            if not names:
                begin = first
            names.append(_whole_name(layer, field))
            end = last
        if names:
            yield begin, end, names
            names = []


def _chain(packet: Any) -> Iterator[Any]:
    """The layers of a packet; an endless nest of them is cut off."""
    for _ in range(_LAYERS):
        if not packet:  # scapy's NoPayload is false
            return
        yield packet
        packet = packet.payload


def _gave_up(layer: Any, at: int) -> str | None:
    """What scapy could not decode, in words: the layer says what its payload is, and it has bytes only. Else None."""
    payload = layer.payload
    if type(payload).__name__ != "Raw":
        return None
    expected = layer.guess_payload_class(payload.load)
    if expected is None or expected is type(payload):
        return None
    return f"byte {at}: this is no {expected.__name__} that can be decoded, {len(payload.load)} bytes"


def _replay(layer: Any, base: int) -> tuple[list[Field], int]:
    """A layer's fields with their places, and its size in bytes, by taking the fields from its bytes again.

    `base` is its first bit. A field of what is a payload by a later decision of the layer's (BOOTP's options, which
    are DHCP) is cut where that payload begins.
    """
    data = layer.original
    # Padding is behind what a layer's own length covers.
    later = b"" if type(layer.payload).__name__ == "Padding" else layer.payload.original or b""
    end = 8 * (len(data) - len(later))
    rest: Any = data
    found = []
    for field in layer.fields_desc:
        before = _taken(rest, data)
        try:
            rest, value = field.getfield(layer, rest)
        except decode.FAILURES:  # what is set by now may ask for other fields than scapy met
            break
        bits = min(_taken(rest, data), max(end, before)) - before
        if bits:
            found.append(Field(field.name, _plain(value), _meaning(field, layer, value), base + before, bits))
        if not rest:
            break
    return found, min(_taken(rest, data), end) // 8


def _taken(rest: Any, data: bytes) -> int:
    """Bits taken so far: scapy's bit fields hand on the bytes with a number of bits that are gone of the first."""
    left, bits = rest if isinstance(rest, tuple) else (rest, 0)
    return (len(data) - len(left)) * 8 + int(bits)


def _plain(value: Any, depth: int = 0) -> Value:
    """A field's value as plain, bounded data."""
    if isinstance(value, bytes):
        return _cut(value.hex())
    if isinstance(value, (list, tuple)):
        items = [_plain(item, depth) for item in value[:_ITEMS]]
        return [*items, f"and {len(value) - _ITEMS} more"] if len(value) > _ITEMS else items
    if hasattr(value, "fields_desc"):
        return _nested(value, depth + 1)
    return _scalar(value)


def _scalar(value: Any) -> Value:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, str):
        return _cut(visible(value))
    try:
        return int(value)  # scapy's FlagValue as well
    except (TypeError, ValueError):
        return _cut(visible(str(value)))


def _nested(packet: Any, depth: int) -> Value:
    if depth > _DEPTH:
        return _cut(visible(packet.name))
    fields = {name: _plain(value, depth) for name, value in packet.fields.items()}
    return {"layer": packet.name, **fields}


def _meaning(field: Any, layer: Any, value: Any) -> str | None:
    """What stands for a number or bytes: a name, flags, text."""
    if isinstance(value, bytes):
        text = value.decode("ascii", errors="replace")
        return _cut(visible(text)) if text.isprintable() and text.isascii() and text else None
    if value is None or isinstance(value, (str, list, tuple)) or hasattr(value, "fields_desc"):
        return None
    if field.name in _IDS and isinstance(value, int):
        return f"0x{value:x}"
    shown = visible(str(field.i2repr(layer, value)))
    return None if shown in {str(_scalar(value)), ""} else _cut(shown)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 3] + "..."
