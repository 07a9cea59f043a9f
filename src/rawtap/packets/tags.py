"""How the kernel compares a frame in a VLAN with a capture's filter, for the same words to mean the same later.

Theory of operation. The kernel takes a frame's outer tag (802.1Q or 802.1ad) off before a packet socket's filter sees
the frame, and libpcap puts it back for the file. So live ``arp`` selects tagged ARP as well, and in the file it does
not: there the tag stands where the EtherType was. Live, the first ``vlan`` of a filter asks for the tag that was taken
off, and what follows it is read as if no tag had been there, which is so. Thus the program for a tagged frame is that
of the filter with something true in place of its first ``vlan 10``, or something false if the tag is another one; and
the frame is looked at without its tag.

Sources: skb_vlan_untag (net/core/skbuff.c), linux_handle_packet and gen_vlan_bpf_extensions (libpcap's pcap-linux.c,
gencode.c), pcap-filter(7). A frame that the host itself sends with a tag among its bytes is one that the kernel takes
nothing off: libpcap's file does not tell it from the others.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from rawtap import _bpf

ETHERNET = 1
TAGGED_FRAME = 18  # bytes, the shortest: addresses, tag, EtherType
_TPIDS = (b"\x81\x00", b"\x88\xa8")  # what the kernel takes for a tag, eth_type_vlan(linux/if_vlan.h)
_VLAN_IDS = 0x0FFF

_WORD = re.compile(r"(?<![\\\w.:-])vlan(?![\w.:-])")
_NUMBER = re.compile(r"(?P<before>[\s(]*)(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)(?![\w.:-])")
_ALWAYS, _NEVER = "greater 0", "less 0"  # by the length of the frame, which no optimizer knows


class AsLive(NamedTuple):
    """What a filter comes to for a tagged frame without its tag.

    Attributes:
        vlan: The id that its first `vlan` asks for; None where it asks for any, or there is no such word.
        there: For a frame with that tag.
        not_there: For a frame with another tag.
    """

    vlan: int | None
    there: str
    not_there: str


def has_vlan(expression: str) -> bool:
    """Whether a filter asks for tags."""
    return _WORD.search(expression) is not None


def as_live(expression: str) -> AsLive:
    """What a filter, which libpcap takes, comes to in the kernel."""
    word = _WORD.search(expression)
    if word is None:
        return AsLive(None, expression, expression)
    before, vlan, behind = expression[: word.start()], None, expression[word.end() :]
    if number := _NUMBER.match(behind):
        vlan = _value(number["number"])
        behind = behind[number.end() :]
        for _ in range(number["before"].count("(")):
            behind = behind.replace(")", "", 1)
    return AsLive(vlan, f"{before}{_ALWAYS}{behind}", f"{before}{_NEVER}{behind}")


def _value(number: str) -> int:
    """A number as libpcap's scanner reads it: in octal digits if it begins with 0."""
    return int(number, 8 if number.startswith("0") and number[1:].isdigit() else 0)


class FrameFilter:
    """A filter for frames in memory.

    `live` compares them as the kernel compares a capture's.

    Raises:
        FilterRefused: With libpcap's text, or the bound that compiling passed.
        OSError: libpcap's compiler cannot be run.
    """

    def __init__(self, expression: str, link_type: int, *, live: bool) -> None:
        self._tags = live and link_type == ETHERNET
        self._as_live = as_live(expression)
        # The optimizer refuses what is true for no frame of a file, like ``arp and vlan``.
        compiled = cache(lambda each: _bpf.instructions(each, link_type=link_type, optimize=not self._tags))
        self._program = compiled(expression)
        self._there, self._not_there = (
            (compiled(self._as_live.there), compiled(self._as_live.not_there)) if self._tags else (b"", b"")
        )

    def passes(self, frame: bytes) -> bool:
        """Whether it selects the frame."""
        if not (self._tags and is_tagged(frame)):
            return _bpf.passes(self._program, frame)
        vlan = int.from_bytes(frame[14:16]) & _VLAN_IDS
        program = self._there if self._as_live.vlan in {None, vlan} else self._not_there
        return _bpf.passes(program, frame[:12] + frame[16:])


def is_tagged(frame: bytes) -> bool:
    """Whether an Ethernet frame has a tag that the kernel would take off."""
    return len(frame) >= TAGGED_FRAME and frame[12:14] in _TPIDS
