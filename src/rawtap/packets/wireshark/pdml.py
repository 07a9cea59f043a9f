"""Packets that tshark took apart, from its PDML to layers and fields. Pure, and bounded whatever the text holds.

A field of tshark's has the name that display filters know it by: ``dns.qry.name``. What only repeats another field for
filters (hidden ones), and flags that are not set, are left out.

Source: wireshark's doc/README.xml-output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from rawtap.packets.layers import Field, Frame, Layer, Value, bounded
from rawtap.untrusted import visible

_GENERAL = "geninfo"
_MALFORMED = "_ws.malformed"
_PASSED_OVER = {_GENERAL, "frame", "fake-field-wrapper", _MALFORMED}  # what a packet's line tells already
_UNSET = ("Not set", ": Absent", ": False", ": Not present")
_EXPERT = "_ws.expert"
_LINE_END = r"\r\n"  # as tshark shows it
_TEXT = 160  # characters of one value
_NAME = 80
_DIGITS = 20  # of a number of 64 bits
_FIELDS = 400  # of one protocol in one packet, that are read


def frames(output: bytes, data: Mapping[int, bytes]) -> tuple[dict[int, Frame], str]:
    """The packets that are whole in tshark's answer, by its numbers; and why what follows is missing, "" for nothing.

    `data` are their bytes, by which is seen whether a field is among them.
    """
    reading = _Reading(data)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reading.begins
    parser.EndElementHandler = reading.ends
    parser.EntityDeclHandler = _no_entity
    try:
        parser.Parse(output, True)
    except (expat.ExpatError, _EntityError) as error:
        return reading.found, f"tshark's answer ends early: {error}"
    return reading.found, ""


class _EntityError(Exception):
    pass


def _no_entity(*_: object) -> None:
    """tshark declares none; one could stand for any amount of text."""
    raise _EntityError("it declares an entity")


@dataclass
class _Protocol:
    """A protocol that is being read."""

    name: str
    offset: int
    size: int
    fields: list[Field] = field(default_factory=list)
    is_elsewhere: bool = False

    @property
    def layer(self) -> Layer:
        offset = None if self.is_elsewhere else self.offset
        return Layer(visible(self.name)[:_NAME], offset, self.size, tuple(self.fields))


class _Reading:
    """Takes the elements one after the other."""

    def __init__(self, data: Mapping[int, bytes]) -> None:
        self._data = data
        self.found: dict[int, Frame] = {}
        self._number = 0
        self._protocols: list[_Protocol] = []
        self._hidden = 0  # how deep in what is left out
        self._stopped: str | None = None

    def begins(self, kind: str, about: dict[str, str]) -> None:
        if kind == "proto":
            if self._protocols and self._protocols[-1].fields and about.get("name") not in _PASSED_OVER:
                _drop_payload(self._protocols[-1])
            self._protocols.append(_Protocol(about.get("name", ""), *_place(about)))
            if about.get("name") == _MALFORMED:
                self._stopped = f"tshark: {visible(about.get('showname', ''))[:_TEXT].strip('[]')}"
        elif kind == "field" and self._protocols:
            if about.get("name") == "num" and self._protocols[-1].name == _GENERAL:
                self._number = int(about.get("show", "0"))
            if self._hidden or about.get("hide") == "yes" or about.get("showname", "").endswith(_UNSET):
                self._hidden += 1
            else:
                self._add(about)

    def _add(self, about: dict[str, str]) -> None:
        protocol, name = self._protocols[-1], about.get("name", "")
        if not name or len(protocol.fields) >= _FIELDS:
            return
        offset, size = _place(about)
        protocol.is_elsewhere = protocol.is_elsewhere or not self._is_here(about, offset, size)
        value: Value
        shown = about.get("showname", "")
        if name == _EXPERT:
            self._hidden += 1  # its parts say the same once more
            value = shown.removeprefix("Expert Info ")
            shown = ""
        else:
            value = _value(about.get("show", ""))
        found = Field(visible(name)[:_NAME], _cut(value), _meaning(shown, value), offset * 8, size * 8)
        if _says_more(found, protocol.fields):
            protocol.fields.append(found)

    def _is_here(self, about: dict[str, str], offset: int, size: int) -> bool:
        """Whether the bytes of a field are the frame's at that place; yes where it does not say which they are."""
        told = about.get("unmaskedvalue", about.get("value", ""))
        data = self._data.get(self._number, b"")
        return len(told) != 2 * size or data[offset : offset + size].hex() == told

    def ends(self, kind: str) -> None:
        if kind == "field":
            self._hidden = max(0, self._hidden - 1)
        elif kind == "packet":
            told = [each for each in self._protocols if each.name not in _PASSED_OVER]
            layers = (each.layer for each in told)
            self.found[self._number] = bounded(Frame(tuple(layers), self._stopped))
            self._protocols, self._hidden, self._stopped = [], 0, None


def _says_more(found: Field, before: list[Field]) -> bool:
    """Whether a field is more than a name, and than the same bytes under another one (``eth.addr``)."""
    last = before[-1] if before else None
    is_same = last is not None and (last.bit, last.bits, last.value) == (found.bit, found.bits, found.value)
    is_whole = isinstance(found.value, str) and found.bits > 8  # noqa: PLR2004 - no bit among others
    return not (is_same and is_whole) and (found.value != "" or found.shown is not None)


def _drop_payload(protocol: _Protocol) -> None:
    """What the next protocol takes apart need not be told as bytes before."""
    if protocol.fields[-1].name.endswith(".payload"):
        protocol.fields.pop()


def _place(about: dict[str, str]) -> tuple[int, int]:
    return int(about.get("pos", "0")), int(about.get("size", "0"))


def _value(text: str) -> Value:
    return int(text) if text.isascii() and text.isdecimal() and str(int(text[:_DIGITS])) == text else text


def _meaning(shown: str, value: Value) -> str | None:
    """What stands for a value, of a text like ``.... ..01 = Type: A (Host Address) (1)``."""
    bits, _, behind = shown.partition(" = ")
    text = behind if behind and not bits.strip("01. ") else shown
    _, _, text = text.partition(": ")
    text = text.removesuffix(f" ({value})").removeprefix(str(value)).replace(_LINE_END, "").strip()
    return visible(text)[:_TEXT] or None


def _cut(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 3] + "..."
