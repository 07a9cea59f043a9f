"""What is wrong with frames that a guest sends in answer, by the judges that captures have. Pure.

Only what a frame alone shows counts: a checksum, a length, a header that cannot be. That is its sender's, whatever it
was asked; what a packet quotes or sends back is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rawtap.packets import headers

KINDS = frozenset(
    {
        *(f"{each}.checksum_wrong" for each in ("ipv4", "icmp", "icmpv6", "igmp", "tcp", "udp")),
        *("arp.header", "arp.kind_swapped", "arp.lengths"),
        *("ethernet.header", "ethernet.length"),
        *("icmp.header", "igmp.header", "ndp.header", "ndp.option_type", "ndp.options"),
        *("ip.extension", "ip.header", "ip.header_length", "ip.options", "ip.version"),
        *("ip.payload_length", "ip.total_length", "ip.ttl_zero"),
        *("tcp.data_offset", "tcp.header", "tcp.options"),
        *("udp.checksum_zero", "udp.header", "udp.length", "udp.length_beyond", "udp.length_short"),
    }
)
"""Codes of findings that one frame of the guest's is enough for."""


@dataclass(frozen=True)
class Fault:
    """Such a finding, and the frame in which it was: `what` is its code, `rule` where it is written.

    `found` and `expected` are "" where no value decided it.
    """

    what: str
    says: str
    rule: str
    found: str
    expected: str
    frame: bytes


def first(frames: Sequence[bytes], kinds: frozenset[str] = KINDS) -> Fault | None:
    """The first fault of these kinds in frames of a guest's; None where there is none."""
    from rawtap.packets.explain import Examiner

    if not frames:
        return None
    examiner = Examiner(headers.ETHERNET)
    for number, frame in enumerate(frames):
        examiner.add(number, 0, len(frame), frame)
    found = [each for each in examiner.result(0).findings if each.what in kinds and each.packets]
    if not found:
        return None
    one = min(found, key=lambda each: each.packets[0])
    return Fault(one.what, one.says, one.rule, str(one.found), str(one.expected), frames[one.packets[0]])
