# cython: annotation_typing=False, nonecheck=True
"""Checksums of a capture's frames, and lengths, that are wrong or that hardware has still to fill in."""

from __future__ import annotations

from dataclasses import dataclass, field

from rawtap.packets import mistakes
from rawtap.packets.checks import Checksum, Verdict, checksums, total
from rawtap.packets.findings import MAX_PENDING, Findings, Packet
from rawtap.packets.headers import Frame, Ip
from rawtap.packets.lines import ip_text, parties
from rawtap.packets.transport import Tcp, Udp

_RULES = {
    "IPv4": "RFC 791, 3.1; RFC 1122, 3.2.1.2",
    "UDP": "RFC 768; RFC 1122, 4.1.3.4",
    "TCP": "RFC 9293, 3.1",
    "ICMP": "RFC 792 (Checksum)",
    "ICMPv6": "RFC 4443, 2.3",
    "IGMP": "RFC 2236, 2.3",
}
_LENGTHS = {  # whether it is of IPv4
    True: ("ip.total_length", "IPv4 total length", "RFC 791, 3.1"),
    False: ("ip.payload_length", "IPv6 payload length", "RFC 8200, 3"),
}
_HEADER = 40  # bytes of IPv6, which its length does not count
_TTL = 8  # byte of an IPv4 header
_PLACES = {"IPv4": 10, "TCP": 16, "UDP": 6, "ICMP": 2, "ICMPv6": 2, "IGMP": 2}  # of checksums in their headers
_FRAME = 1514  # bytes; what is longer has still to be cut
_NUMBERS = 10
_TRIED = 16  # wrong sums of the same parties that a mistake is looked for
_RIGHT = Verdict.RIGHT


def of_loopback(ip: Ip, address: bytes) -> bool:
    return address[0] == 127 if ip.version == 4 else address == bytes(15) + b"\1"  # noqa: PLR2004 - RFC 1122, 3.2.1.3


@dataclass(slots=True)
class _Zeros:
    """IPv4 headers of one sender to one party with a checksum of zero."""

    source: bytes
    expected: int
    numbers: list[int] = field(default_factory=list)
    count: int = 0


class SumJudge:
    """An IPv4 checksum of zero is left to the hardware by a sender that leaves others to it, and wrong of any other:
    which of both a sender is, may be seen late."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._left = 0  # checksums that are left to the hardware
        self._lengths_left = 0
        self._leaving: set[bytes] = set()  # senders that leave checksums to it
        self._zeros: dict[str, _Zeros] = {}
        # By what parties are told apart by: how many wrong sums no mistake explained, and the parties.
        self._unnamed: dict[tuple[str, bytes, bytes, int], tuple[int, str]] = {}

    def see(self, packet: Packet) -> None:
        ip = packet.frame.ip
        if ip is None:
            return
        frame = packet.frame
        sums = checksums(frame)
        if ip.length_is_zero:
            self._length(packet, ip, sums)
            return
        is_own = of_loopback(ip, ip.source) and of_loopback(ip, ip.destination)
        for each in sums:
            if is_own:
                self._left += each.verdict is Verdict.WRONG  # by the host itself, which needs none
            elif each.verdict is not _RIGHT:
                self._checksum(packet, ip, each)

    def _checksum(self, packet: Packet, ip: Ip, found: Checksum) -> None:
        if found.verdict is Verdict.LEFT_TO_HARDWARE:
            self._left += 1
            if len(self._leaving) < MAX_PENDING:
                self._leaving.add(ip.source)
        elif found.verdict is Verdict.WRONG and found.name == "IPv4" and not found.found:
            self._zero(packet, ip, _who(packet, ip), found)
        elif found.verdict is Verdict.WRONG:
            self._wrong(packet, ip, found)
        elif found.verdict is Verdict.FORBIDDEN:
            who = _who(packet, ip)
            self._findings.add(
                "udp.checksum_zero", who, packet.number, f"{who}: UDP on IPv6 without a checksum", "RFC 8200, 8.1",
                host=ip_text(ip.source), found="0x0000", expected="a checksum",
            )  # fmt: skip

    def _wrong(self, packet: Packet, ip: Ip, found: Checksum) -> None:
        """Of parties whose checksums no mistake explains none is looked for any more: that takes its time."""
        header = packet.frame.transport
        ports = (header.source_port, header.destination_port) if isinstance(header, Udp | Tcp) else (0, 0)
        key = (found.name, ip.source, ip.destination, ports[0] if ports[0] < ports[1] else -ports[1])
        count, who = self._unnamed.get(key, (0, ""))
        code, host = f"{found.name.lower()}.checksum_wrong", ip_text(ip.source)
        if count >= _TRIED and self._findings.again(code, (who, ""), host, packet.number):
            return
        who, mistake = _who(packet, ip), _mistake(packet.frame, ip, found)
        if not mistake and (key in self._unnamed or len(self._unnamed) < MAX_PENDING):
            self._unnamed[key] = (count + 1, who)
        says = mistakes.told(f"{who}: the {found.name} checksum is wrong", mistake)
        self._findings.add(
            code, (who, mistake), packet.number, says, _RULES[found.name], host=host,
            found=f"0x{found.found:04x}", expected=f"0x{found.expected:04x}",
        )  # fmt: skip

    def _zero(self, packet: Packet, ip: Ip, who: str, found: Checksum) -> None:
        if who not in self._zeros and len(self._zeros) >= MAX_PENDING:
            return
        zeros = self._zeros.setdefault(who, _Zeros(ip.source, found.expected))
        zeros.count += 1
        if len(zeros.numbers) < _NUMBERS:
            zeros.numbers.append(packet.number)

    def _length(self, packet: Packet, ip: Ip, sums: list[Checksum]) -> None:
        """A length of zero is right where the hardware cuts the segment, and then makes the sums. Where that of an IPv4
        header, or behind one of IPv6, is right already, nobody fills in a length any more."""
        if packet.frame.length > _FRAME or not sums or sums[0].verdict is not Verdict.RIGHT:
            self._lengths_left += 1
            return
        is_old = ip.checksum is not None
        code, name, rule = _LENGTHS[is_old]
        who = " to ".join(parties(ip, packet.frame.transport))
        expected = ip.end - ip.offset - (0 if is_old else _HEADER)
        self._findings.add(
            code, (code, who, 0), packet.number, f"{who}: {name} of 0, with checksums that are made", rule,
            host=ip_text(ip.source), found=0, expected=expected,
        )  # fmt: skip

    def settle(self, findings: Findings) -> list[str]:
        """Add what the whole capture tells to `findings`, and return notes."""
        left = 0
        for who, zeros in self._zeros.items():
            if zeros.source in self._leaving:
                left += zeros.count
                continue
            says = f"{who}: the IPv4 checksum is wrong: it was not filled in"
            findings.add(
                "ipv4.checksum_wrong", (who, "zero"), zeros.numbers[0], says, _RULES["IPv4"],
                host=ip_text(zeros.source), found="0x0000", expected=f"0x{zeros.expected:04x}",
                again=zeros.numbers[1:], count=zeros.count,
            )  # fmt: skip
        notes = {
            f"{self._left + left} checksums were left to the hardware to finish, which is no defect": self._left + left,
            f"{self._lengths_left} packets have a length of 0, as segmentation offload leaves it to the hardware: they"
            " were read to the frame's end": self._lengths_left,
        }
        return [text for text, count in notes.items() if count]


def _who(packet: Packet, ip: Ip) -> str:
    return " to ".join(parties(ip, packet.frame.transport))


def _mistake(frame: Frame, ip: Ip, found: Checksum) -> str:
    """The one that makes a checksum of what is there."""
    header = frame.transport
    if found.name == "IPv4":
        covered = frame.data[ip.offset : ip.payload]
        lowered = covered[:_TTL] + bytes([covered[_TTL] + 1 & 0xFF]) + covered[_TTL + 1 :]
        if total(lowered) == 0:
            return "the time to live was lowered without it"
        return mistakes.checksum(covered, _PLACES["IPv4"], found.found)
    if header is None:
        return ""
    covered = frame.data[header.offset : header.end]
    at = _PLACES[found.name]
    if isinstance(header, Udp | Tcp) or found.name == "ICMPv6":
        named = mistakes.checksum(
            covered, at, found.found, addresses=b"".join(ip.ends or ()), protocol=ip.protocol,
            header=header.payload - header.offset if isinstance(header, Udp | Tcp) else 0,
            behind=frame.data[frame.end : frame.length],
        )  # fmt: skip
        if not named and ip.ends != (ip.source, ip.destination):
            by_header = total(ip.source + ip.destination) - total(b"".join(ip.ends or ()))
            if (found.found - found.expected + by_header) % 0xFFFF == 0:
                return "it was made with the addresses of the IP header, not with the route's end or the home address"
        return named
    return mistakes.checksum(covered, at, found.found, behind=frame.data[frame.end : frame.length])
