"""Where a packet of a capture file was seen: an interface, and in which direction. Pure.

Sources: draft-ietf-opsawg-pcapng, sections 4.2 and 4.3.1; pcap-linktype(7); libpcap's pcap-common.c.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re
import struct
from typing import Literal, NamedTuple

Direction = Literal["", "inbound", "outbound"]

DIRECTIONS: tuple[Direction, ...] = ("", "inbound", "outbound", "")  # by the lowest two bits of a packet's flags
_LONGEST = 262144  # libpcap's MAXIMUM_SNAPLEN
_TEXT = 200  # bytes of a name or a description
# What files call otherwise than libpcap does on Linux: LINKTYPE_ATM_RFC1483, RAW, SLIP_BSDOS, PPP_BSDOS, ATM_CLIP.
_LINK_TYPES = {100: 11, 101: 12, 102: 15, 103: 16, 106: 19}
_IN_FILES = {ours: theirs for theirs, ours in _LINK_TYPES.items()}
_OF_CARD = re.compile(r"(?P<guest>\S+) \((?P<mac>[0-9a-f]{2}(:[0-9a-f]{2}){5}) on (?P<name>\S+)\)")


def number_in_files(link_type: int) -> int:
    """libpcap's number of a link type as files have it."""
    return _IN_FILES.get(link_type, link_type)


class Origin(NamedTuple):
    """Where a packet was seen.

    Attributes:
        link_type: libpcap's number (DLT).
        interface: Its number in the file, from 0.
        name: The interface's, "" where the file does not say.
        about: Its description, likewise.
        direction: As the interface sees it, "" where the file does not say.
    """

    link_type: int
    interface: int = 0
    name: str = ""
    about: str = ""
    direction: Direction = ""

    @property
    def guest(self) -> str:
        """Whose card the interface is, by the words of rawtap's own files (see `lab.card`); "" for no guest's."""
        found = _OF_CARD.fullmatch(self.about)
        return found["guest"] if found and found["name"] == self.name else ""

    @property
    def mac(self) -> bytes:
        """Of that card, b"" for no guest's."""
        found = _OF_CARD.fullmatch(self.about) if self.guest else None
        return bytes.fromhex(found["mac"].replace(":", "")) if found else b""


class Interface(NamedTuple):
    """An interface of a pcapng file, as it is described there.

    Attributes:
        link_type: libpcap's number (DLT).
        longest: Bytes that a packet has at most.
        ticks: Units of its clock in a second.
        offset: Seconds that are added to its times.
        name: "" where it is not given, like `about`.
        about: Its description.
    """

    link_type: int
    longest: int
    ticks: int
    offset: int
    name: str
    about: str

    @classmethod
    def of(cls, block: bytes, order: str) -> Interface | None:
        """From an Interface Description Block, whole; `order` is struct's sign for its byte order.

        None for a clock that no packet's time can be read by.
        """
        link_type, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
        options = _options(block[16:-4], order)
        resolution, offset = options.get(9, b"\6"), options.get(14, bytes(8))
        shift = resolution[0] & 0x7F if resolution else 6
        binary = bool(resolution and resolution[0] & 0x80)
        ticks = 1 << shift if binary and shift < 64 else 0 if binary or shift > 19 else 10**shift
        if not ticks:
            return None
        return cls(
            _LINK_TYPES.get(link_type, link_type),
            min(snaplen or _LONGEST, _LONGEST),
            ticks,
            struct.unpack(order + "q", offset)[0] if len(offset) == 8 else 0,
            options.get(2, b"")[:_TEXT].decode("utf-8", "replace"),
            options.get(3, b"")[:_TEXT].decode("utf-8", "replace"),
        )


def _options(data: bytes, order: str) -> dict[int, bytes]:
    """A block's options by their codes, as far as they are whole."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == 0 or at + 4 + size > len(data):
            break
        found.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return found
