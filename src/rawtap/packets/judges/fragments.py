"""Fragments of IP packets: whether they fit together and all come."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from rawtap.packets import mistakes
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.headers import Fragment, Ip
from rawtap.packets.lines import ip_text

_GRACE = SECOND
_GIVEN_UP = 60 * SECOND  # nobody waits longer for the rest (RFC 1122, 3.3.2; RFC 8200, 4.5): the number is another's
_COPIED = 2 * MILLISECOND  # the same fragment within this is a copy that the capture took at another place
_COMPLETE = 256  # packets that are kept for what may come of them again
_PIECES = 200  # of one packet that are kept: of 64 KiB in the smallest MTU of IPv6 there are 54
_MOST = 65535
_SAMPLE = 128
_TOLD = 5  # ranges
_FLAGS = {0x0040 << 3: "DF", 0x0020 << 3: "MF"}  # by the place of a fragment that a flag becomes
_Key = tuple[bytes, bytes, int, int]


@dataclass(slots=True)
class _Whole:
    """The pieces of one packet: where they begin and end, and where the last ends, once that is known."""

    sample: bytes
    length: int
    first: int
    numbers: list[int] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    sums: set[tuple[int, int]] = field(default_factory=set)  # where a piece begins, and the CRC of what it carries
    last: int = 0
    size: int | None = None

    @property
    def held(self) -> list[tuple[int, int]]:
        """The ranges of bytes that came, those that touch joined."""
        ranges: list[tuple[int, int]] = []
        for begin, end in sorted(self.pieces):
            if ranges and begin <= ranges[-1][1]:
                begin, end = ranges[-1][0], max(end, ranges.pop()[1])  # noqa: PLW2901 - they are one
            ranges.append((begin, end))
        return ranges

    def missing(self) -> tuple[str, str, str]:
        """The mistake that explains why it is not complete, what came, and what should have."""
        held = self.held
        came = ", ".join(f"{begin} to {end}" for begin, end in held[:_TOLD])
        first = held[0]
        flag = _FLAGS.get(first[0]) if len(held) == 1 and self.size == first[1] else None
        if flag is not None:
            return f"the flag {flag} has its bytes swapped", f"0x{first[0] >> 3:04x}", f"0x{first[0] << 5:04x}"
        if first[0]:
            return "", f"bytes {came}", f"bytes 0 to {first[0]}"
        if len(held) == 1:
            name = "all of them say that more follow" if len(self.pieces) > 1 else ""
            return name, f"bytes {came}", "a last fragment"
        name = mistakes.offset(held[1][0] // 8, first[1] // 8)
        name = f"the place of a later one is wrong, {name}" if name else ""
        return name, f"bytes {came}", f"bytes {first[1]} to {held[1][0]}"

    @property
    def complete(self) -> bool:
        at = 0
        for begin, end in sorted(self.pieces):
            if begin > at:
                return False
            at = max(at, end)
        return self.size is not None and at >= self.size


class FragmentJudge:
    """`passed` tells that there were more packets in fragments at a time than are kept."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._open: dict[_Key, _Whole] = {}
        self._given_up: list[tuple[_Key, _Whole]] = []
        self._complete: OrderedDict[_Key, _Whole] = OrderedDict()
        self.passed = False

    def see(self, packet: Packet) -> None:
        ip = packet.frame.ip
        if ip is None or ip.fragment is None or ip.stated_end != ip.end:
            return
        fragment, size = ip.fragment, ip.end - ip.payload
        rule = "RFC 791, 3.2" if ip.version == 4 else "RFC 8200, 4.5"  # noqa: PLR2004
        if fragment.more and size % 8:
            self._say(
                packet, ip, "ip.fragment_size", "a fragment whose size is no multiple of 8", rule, f"{size} bytes"
            )
        if fragment.at + size > _MOST:
            evidence = f"bytes {fragment.at} to {fragment.at + size}"
            self._say(packet, ip, "ip.fragment_beyond", "a fragment beyond the largest packet", rule, evidence)
        self._collect(packet, ip, fragment, size)

    def _say(
        self, packet: Packet, ip: Ip, what: str, text: str, rule: str, evidence: str, first: int | None = None
    ) -> None:
        """`first` is the first fragment of a packet that is dropped as a whole."""
        says = f"{ip_text(ip.source)} sends {ip_text(ip.destination)} {text}"
        number, again = (packet.number, []) if first is None else (first, [packet.number])
        self._findings.add(
            what, (ip.source, ip.destination), number, says, rule, evidence, host=ip_text(ip.source), again=again,
            count=1 + len(again),
        )  # fmt: skip

    def _collect(self, packet: Packet, ip: Ip, fragment: Fragment, size: int) -> None:
        key = (ip.source, ip.destination, ip.protocol if ip.version == 4 else 0, fragment.identification)  # noqa: PLR2004
        part = (fragment.at, zlib.crc32(packet.frame.data[ip.payload : ip.end]))
        if self._is_copy(packet, key, part):
            return
        whole = self._whole(packet, key)
        if whole is None:
            return
        piece = (fragment.at, fragment.at + size)
        if piece not in whole.pieces and any(begin < piece[1] and piece[0] < end for begin, end in whole.pieces):
            rule = "RFC 791, 3.2; RFC 1858, 4" if ip.version == 4 else "RFC 8200, 4.5; RFC 5722, 4"  # noqa: PLR2004
            evidence = f"bytes {piece[0]} to {piece[1]} of packet 0x{fragment.identification:x} were there in part"
            self._say(packet, ip, "ip.fragment_overlap", "fragments that overlap", rule, evidence, whole.numbers[0])
        if len(whole.pieces) < _PIECES:
            whole.pieces.append(piece)
            whole.numbers.append(packet.number)
            whole.sums.add(part)
        whole.last = packet.at
        if not fragment.more:
            whole.size = piece[1]
        if whole.complete:
            self._complete[key] = self._open.pop(key)
            self._complete.move_to_end(key)
            if len(self._complete) > _COMPLETE:
                self._complete.popitem(last=False)

    def _is_copy(self, packet: Packet, key: _Key, part: tuple[int, int]) -> bool:
        """Whether it is of a packet that has just become complete with it."""
        whole = self._complete.get(key)
        return whole is not None and packet.at - whole.last <= _COPIED and part in whole.sums

    def _whole(self, packet: Packet, key: _Key) -> _Whole | None:
        """The packet that a fragment belongs to; None where there is no room for one more."""
        whole = self._open.get(key)
        if whole is not None and packet.at - whole.first > _GIVEN_UP:
            self._given_up.append((key, self._open.pop(key)))
            whole = None
        if whole is None:
            if len(self._open) + len(self._given_up) >= MAX_PENDING:
                self.passed = True
                return None
            whole = self._open[key] = _Whole(packet.frame.data[:_SAMPLE], packet.frame.length, packet.at)
        return whole

    def settle(self, until: int, findings: Findings, answer_passes: Callable[[bytes, int], bool]) -> list[str]:
        """Report the packets whose rest never came; `answer_passes` tells whether the capture has other fragments."""
        hidden = 0
        for (source, destination, _, number), whole in (*self._given_up, *self._open.items()):
            if until - whole.first < _GRACE:
                continue
            if not answer_passes(whole.sample, whole.length):
                hidden += 1
                continue
            name, found, expected = whole.missing()
            says = f"{ip_text(source)} sends {ip_text(destination)} fragments of a packet, and the rest never comes"
            says += f": {name}" if name else ""
            evidence = f"packet 0x{number:x}: {len(whole.pieces)} fragments in {(until - whole.first) / SECOND:.1f} s"
            rule = "RFC 1122, 3.3.2" if len(source) == 4 else "RFC 8200, 4.5"  # noqa: PLR2004
            findings.add(
                "ip.fragments_incomplete", (source, destination), whole.numbers[0], says, rule, evidence,
                host=ip_text(source), found=found, expected=expected, again=whole.numbers[1:],
                count=len(whole.numbers), absence=True, hides=True,
            )  # fmt: skip
        text = f"The filter hides fragments of {hidden} packets: whether they are complete is not judged"
        return [text] if hidden else []
