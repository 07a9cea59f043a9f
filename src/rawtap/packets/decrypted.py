"""A TLS conversation for tshark, and what tshark makes of it: the packets that it is given, and pieces of its answer.

Pure. The answer is that of ``-z follow,tls,yaml``: for each record its packet and its data in base64 (tshark(1)). Who
said it is known from the packet. A record that several packets bring is told of the one that ends it.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from rawtap.packets.conversation import Piece
from rawtap.packets.reader import Raw
from rawtap.packets.turns import TurnPage

MOST_BYTES = 32 << 20  # of a conversation that is decrypted
_MOST_PACKETS = 200_000
_FILE = struct.Struct("<IHHiIII")  # pcap-savefile(5), in nanoseconds
_RECORD = struct.Struct("<IIII")
_MAGIC = 0xA1B23C4D
_SNAPLEN = 262144
_BILLION = 1_000_000_000
_HANDSHAKE, _MAJOR, _NEWEST = 0x16, 3, 4  # RFC 8446, 5.1
_DATA = b"data: !!binary"
_PACKET = b"- packet:"


def opens(data: bytes) -> bool:
    """Whether that begins as a TLS handshake does."""
    return len(data) > 2 and data[0] == _HANDSHAKE and data[1] == _MAJOR and data[2] <= _NEWEST  # noqa: PLR2004


def undecrypted_told(wire: TurnPage, page: TurnPage) -> list[str]:
    """What may lack in a page of what was encrypted, by the page of the same packets as they are on the wire."""
    told = [f"of what was encrypted {wire.missing} bytes are not in the capture, nor is what they say"]
    silent = [
        f"nothing is decrypted of the {size} bytes that the {side} sent"
        for side, size, found in zip(("client", "server"), wire.sizes, page.sizes, strict=True)
        if size and not found
    ]
    return [*(told if wire.missing else []), *silent]


@dataclass
class Copy:
    """The packets of a conversation, kept for tshark while they are not too many.

    Attributes:
        seen: Whether a TLS handshake is among them.
        is_full: There were more than are kept.
    """

    seen: bool = False
    is_full: bool = False
    _packets: list[tuple[int, Raw]] = field(default_factory=list)
    _bytes: int = 0

    def add(self, side: int, raw: Raw) -> None:
        """The next packet, and who sent it."""
        self._bytes += len(raw.data) + _RECORD.size
        self.is_full = self.is_full or self._bytes > MOST_BYTES or len(self._packets) >= _MOST_PACKETS
        if not self.is_full:
            self._packets.append((side, raw))

    def file(self) -> bytes:
        """They as a pcap file: those of the link type that the first has."""
        link_type = self._packets[0][1].origin.link_type
        self._packets = [each for each in self._packets if each[1].origin.link_type == link_type]
        found = [_FILE.pack(_MAGIC, 2, 4, 0, 0, _SNAPLEN, link_type)]
        for _, raw in self._packets:
            seconds, rest = divmod(raw.time_ns, _BILLION)
            found += (_RECORD.pack(seconds & 0xFFFFFFFF, rest, len(raw.data), raw.length), raw.data)
        return b"".join(found)

    def pieces(self, answer: bytes) -> Iterator[Piece]:
        """What tshark decrypted of them; a part of its answer that is none of this form is passed over."""
        packet, held, reads = 0, bytearray(), False
        for line in [*answer.splitlines(), _PACKET]:
            word = line.strip()
            if reads and not word.startswith(_PACKET):
                held += word
                continue
            if held and 0 < packet <= len(self._packets):
                yield self._piece(packet, bytes(held))
            held.clear()
            reads = word.startswith(_DATA)
            if word.startswith(_PACKET):
                number = word.removeprefix(_PACKET).strip()
                packet = int(number) if number.isdigit() and len(number) < 10 else 0  # noqa: PLR2004

    def _piece(self, nth: int, text: bytes) -> Piece:
        side, raw = self._packets[nth - 1]
        try:
            return Piece(side, raw.number, raw.time_ns, binascii.a2b_base64(text))
        except binascii.Error:
            return Piece(side, raw.number, raw.time_ns, b"")
