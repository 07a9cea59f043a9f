"""What a bridge passed on of what a guest sent, from samples of both. Pure.

Both samples hold whole frames, in the order in which they came: one of the guest's TAP, one of the bridge. What is in
the first and not in the second did not come by, and why is read in the frame itself. Sources of the reasons:
br_handle_frame (net/bridge/br_input.c), br_validate_ipv4 and br_validate_ipv6 (net/bridge/br_netfilter_hooks.c,
br_netfilter_ipv6.c).
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HEADER = 14
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_RESERVED = bytes.fromhex("0180c20000")  # 01-80-C2-00-00-00 to -0F, IEEE 802.1D 7.12.6
_SHOWN = 3


@dataclass(frozen=True)
class Passage:
    """A guest's frames on their way over a bridge.

    Attributes:
        sent: Frames that left the guest, as the kernel counted them.
        compared: The first of them, which were looked for on the bridge.
        passed: How many of these came by, those included that were trimmed.
        trimmed: How many lost bytes at their end.
        reasons: Why the others did not, with how many there are of each; the commonest first.
    """

    guest: str
    tap: str
    sent: int
    compared: int
    passed: int
    trimmed: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def lost(self) -> int:
        """Frames that were looked for and did not come by."""
        return self.compared - self.passed

    def __str__(self) -> str:
        some = "" if self.compared == self.sent else f", and of the first {self.compared}"
        found = [f"{reason} ({count} frame{'' if count == 1 else 's'})" for reason, count in self.reasons[:_SHOWN]]
        if self.trimmed:
            found.append(f"{self.trimmed} without what follows the IP packet, which br_netfilter cuts off")
        return (
            f"the guest {self.guest!r} sent {self.sent} frames{some or ','} the bridge passed {self.passed}: "
            f"{', '.join(found)}. qemu_pcap_start(interface={json.dumps(self.tap)}) has them as they left the guest"
        )


def compare(
    guest: str, tap: str, count: int, sent: Sequence[bytes], passed: Sequence[bytes], *, whole: bool
) -> Passage:
    """Look for the first frames that a guest sent, of `count`, among what passed; `whole` tells that `passed` is all.

    Where it is not, only what was sent before the last frame that is found in it can be missed.
    """
    there = Counter(passed)
    fates = [_fate(frame, there) for frame in sent]
    if not whole:
        found = [at for at, fate in enumerate(fates) if not isinstance(fate, str)]
        fates = fates[: found[-1] + 1] if found else []
    reasons = Counter(fate for fate in fates if isinstance(fate, str))
    came_by = [fate for fate in fates if not isinstance(fate, str)]
    return Passage(guest, tap, count, len(fates), len(came_by), sum(came_by), tuple(reasons.most_common()))


def _fate(frame: bytes, there: Counter[bytes]) -> bool | str:
    """Whether a frame was trimmed on its way, or why it did not come by; what is found is taken out of `there`."""
    for candidate, trimmed in ((frame, False), (_packet(frame), True)):
        if there[candidate] > 0:
            there[candidate] -= 1
            return trimmed
    return why_dropped(frame) or "why is not known"


def why_dropped(frame: bytes) -> str:
    """What it is about a frame that a bridge does not let in, "" if nothing."""
    return next((reason for reason, holds in _REASONS if holds(frame)), "")


def _packet(frame: bytes) -> bytes:
    """A frame without what follows its IP packet, by the packet's own word."""
    return frame[: _HEADER + stated] if (stated := _stated(frame)) is not None else frame


def _stated(frame: bytes) -> int | None:
    """The length that an IP packet says to have, header included; None where there is none."""
    kind, packet = frame[12:_HEADER], frame[_HEADER:]
    if kind == _IPV4 and len(packet) >= 20:
        return int.from_bytes(packet[2:4])
    if kind == _IPV6 and len(packet) >= 40:
        return 40 + int.from_bytes(packet[4:6])
    return None


def _wrong_checksum(frame: bytes) -> bool:
    packet = frame[_HEADER:]
    header = packet[: 4 * (packet[0] & 0x0F)] if frame[12:_HEADER] == _IPV4 and len(packet) >= 20 else b""
    total = sum(int.from_bytes(header[at : at + 2]) for at in range(0, len(header), 2))
    return bool(header) and (total % 0xFFFF or 0xFFFF) != 0xFFFF  # RFC 1071: a sum of ones


def _wrong_version(frame: bytes) -> bool:
    wanted = {_IPV4: 4, _IPV6: 6}.get(frame[12:_HEADER])
    return wanted is not None and frame[_HEADER : _HEADER + 1] != b"" and frame[_HEADER] >> 4 != wanted


_REASONS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("shorter than an Ethernet header", lambda frame: len(frame) < _HEADER),
    ("group source address", lambda frame: bool(frame[6] & 1)),
    ("source address of zeros", lambda frame: not any(frame[6:12])),
    ("reserved group address as destination, which no bridge forwards", lambda frame: frame.startswith(_RESERVED)),
    ("IP length beyond the frame", lambda frame: (_stated(frame) or 0) > len(frame) - _HEADER),
    ("IP version that its EtherType does not have", _wrong_version),
    ("IPv4 header checksum wrong", _wrong_checksum),
)
