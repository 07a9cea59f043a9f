"""The blocks of a pcapng file that are no packets: its head, and the counters at its end. Pure.

Source: draft-ietf-opsawg-pcapng. Everything is little-endian, and times are nanoseconds since 1970.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_SECTION, _INTERFACE, _STATISTICS = 0x0A0D0D0A, 1, 5
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
_NANOSECONDS = bytes([9])  # if_tsresol: a power of ten
_TEXT_LIMIT = 4096  # bytes; an option may have 65535

_OF_ALL = b"of all interfaces together"

# Option codes, sections 3.5, 4.1, 4.2 and 4.6.
_COMMENT = 1
_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_FILTER, _IF_OS = 2, 3, 9, 11, 12
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_IFDROP = 2, 3, 4, 5
_ISB_FILTERACCEPT, _ISB_OSDROP, _ISB_USRDELIV = 6, 7, 8


def head(
    *,
    interfaces: Sequence[tuple[str, str]],
    link_type: int,
    snaplen: int,
    filter: str,  # noqa: A002 - the field's own word
    hardware: str,
    system: str,
    application: str,
    comment: str,
) -> bytes:
    """The Section Header Block and an Interface Description Block for each of `interfaces`: names and whose they are.

    Empty texts are left out.
    """
    section = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH) + _options(
        (_COMMENT, _text(comment)),
        (_SHB_HARDWARE, _text(hardware)),
        (_SHB_OS, _text(system)),
        (_SHB_USERAPPL, _text(application)),
    )
    described = [
        struct.pack("<HHI", link_type, 0, snaplen)
        + _options(
            (_IF_NAME, _text(name)),
            (_IF_DESCRIPTION, _text(about)),
            (_IF_TSRESOL, _NANOSECONDS),
            (_IF_FILTER, b"\0" + _text(filter) if filter else b""),  # 0: a string for libpcap
            (_IF_OS, _text(system)),
        )
        for name, about in interfaces
    ]
    return _block(_SECTION, section) + b"".join(_block(_INTERFACE, each) for each in described)


def statistics(
    *,
    start_ns: int,
    end_ns: int,
    seen: int | None,
    selected: int | None,
    dropped_interface: int | None,
    dropped_kernel: int | None,
    saved: int,
    of_all: bool = False,
) -> bytes:
    """The first interface's Statistics Block: what passed, what the filter let through, what was lost, what was saved.

    `of_all` tells that they are of all interfaces together. What is not known (None) is not in the block, as the format
    has it.
    """
    body = struct.pack("<III", 0, *_halves(end_ns)) + _options(
        (_COMMENT, _OF_ALL if of_all else b""),
        (_ISB_STARTTIME, struct.pack("<II", *_halves(start_ns))),
        (_ISB_ENDTIME, struct.pack("<II", *_halves(end_ns))),
        (_ISB_IFRECV, _count(seen)),
        (_ISB_IFDROP, _count(dropped_interface)),
        (_ISB_FILTERACCEPT, _count(selected)),
        (_ISB_OSDROP, _count(dropped_kernel)),
        (_ISB_USRDELIV, _count(saved)),
    )
    return _block(_STATISTICS, body)


def _count(frames: int | None) -> bytes:
    return b"" if frames is None else struct.pack("<Q", frames)


def _halves(nanoseconds: int) -> tuple[int, int]:
    """A time as the format has it: the upper 32 bits, then the lower ones."""
    return nanoseconds >> 32, nanoseconds & 0xFFFFFFFF


def _text(text: str) -> bytes:
    """UTF-8, cut to what an option may have, between two characters."""
    return text.encode("utf-8", "replace")[:_TEXT_LIMIT].decode("utf-8", "ignore").encode()


def _options(*options: tuple[int, bytes]) -> bytes:
    given = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options if value]
    return b"".join(given) + struct.pack("<HH", 0, 0)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


STATISTICS_BYTES = len(
    statistics(start_ns=0, end_ns=0, seen=0, selected=0, dropped_interface=0, dropped_kernel=0, saved=0)
)  # at the most, without the remark
REMARK_BYTES = len(_options((_COMMENT, _OF_ALL))) - len(_options())
