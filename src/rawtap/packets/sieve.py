"""The packets of a capture that comes as a stream, those that pass a filter; all else of it stays.

Source: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Literal

from rawtap._bpf import FilterRefused
from rawtap.errors import BadFilter
from rawtap.packets._savefile import Savefile
from rawtap.packets.tags import FrameFilter

Order = Literal["little", "big"]

_PCAP_HEADER, _RECORD_HEADER = 24, 16
_LITTLE = {bytes.fromhex("d4c3b2a1"), bytes.fromhex("4d3cb2a1")}  # microseconds, nanoseconds
_LINK_TYPE = 0xFFFF  # above it is what the frames' check sequences are (draft-ietf-opsawg-pcap 4)
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = bytes.fromhex("4d3c2b1a")  # little-endian


def _as_libpcap_has_it(link_type: int) -> int:
    """A file's link type as the number that libpcap has for it here: some are others (pcap-linktype(7))."""
    fd = os.memfd_create("rawtap-empty")
    os.write(fd, struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link_type))
    os.lseek(fd, 0, os.SEEK_SET)
    return Savefile(fd, "").link_type


class Sieve:
    """For one stream of that format. A filter means what it means for the capture; what was cut off of a packet it
    does not know.

    Attributes:
        passed: Packets that passed.
    """

    def __init__(self, expression: str, form: str) -> None:
        self.passed = 0
        self._rest = b""
        self._order: Order = "little"
        self._links: list[int] = []
        self._next = self._header if form == "pcap" else self._block

        @cache
        def of_link(link_type: int) -> Callable[[bytes], bool]:
            try:
                return FrameFilter(expression, _as_libpcap_has_it(link_type), live=True).passes
            except FilterRefused as error:
                raise BadFilter.because(expression, f"libpcap: {error}") from error

        self._filter = of_link

    def feed(self, data: bytes) -> bytes:
        """What is to be kept of all that is complete by now.

        Raises:
            BadFilter: With libpcap's text.
        """
        self._rest += data
        view, at, kept = self._rest, 0, []
        while (found := self._next(view, at)) is not None:
            size, is_kept = found
            if is_kept:
                kept.append(view[at : at + size])
            at += size
        self._rest = view[at:]
        return b"".join(kept)

    def _number(self, view: bytes, at: int, size: int = 4) -> int:
        return int.from_bytes(view[at : at + size], self._order)

    def _header(self, view: bytes, at: int) -> tuple[int, bool] | None:
        if len(view) - at < _PCAP_HEADER:
            return None
        self._order = "little" if view[at : at + 4] in _LITTLE else "big"
        self._add_link(self._number(view, at + 20) & _LINK_TYPE)
        self._next = self._record
        return _PCAP_HEADER, True

    def _record(self, view: bytes, at: int) -> tuple[int, bool] | None:
        if len(view) - at < _RECORD_HEADER:
            return None
        start = at + _RECORD_HEADER
        end = start + self._number(view, at + 8)
        if len(view) < end:
            return None
        return end - at, self._passes(0, view[start:end])

    def _block(self, view: bytes, at: int) -> tuple[int, bool] | None:
        if len(view) - at < 12:  # noqa: PLR2004 - a type, a length, and a section's byte order
            return None
        if (kind := self._number(view, at)) == _SECTION:
            self._order = "little" if view[at + 8 : at + 12] == _BYTE_ORDER else "big"
            self._links = []
        size = self._number(view, at + 4)
        if len(view) - at < size:
            return None
        if kind == _INTERFACE:
            self._add_link(self._number(view, at + 8, 2))
        if kind != _PACKET:
            return size, True
        data = view[at + 28 : at + 28 + self._number(view, at + 20)]
        return size, self._passes(self._number(view, at + 8), data)

    def _add_link(self, link_type: int) -> None:
        self._links.append(link_type)
        self._filter(link_type)  # a filter that does not fit is told of before the first packet comes

    def _passes(self, point: int, frame: bytes) -> bool:
        """Whether a frame of the interface of that number does."""
        passes = self._filter(self._links[point])(frame)
        self.passed += passes
        return passes
