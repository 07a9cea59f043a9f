"""The ten deaths planted in examined_guest.c: what it dies of, and the smallest frames that kill, by its source.

Frames begin with two link addresses, which no search changes. What is asked here of a smallest frame: so many bytes,
those that decide, with the lowest values that kill, and zeros.
"""

from __future__ import annotations

import re

from rawtap.packets import checks

(
    ARP_LENGTH, IP_OPTION, IP_LENGTH, FRAGMENT_EMPTY, ICMP_CUT, ECHO_CODE, UDP_LENGTH, TCP_OFFSET, TCP_OPTION, VLAN,
) = range(57, 67)  # fmt: skip
DEATHS = range(57, 67)

_OWN, _EVERYBODY = bytes([10, 0, 2, 15]), bytes([10, 0, 2, 255])
_SOURCE = "(?:01000000|00010000|00000100|00000001)"  # any one host's: one byte is enough
_TO_IT = "0a00020f"
_TO = f"(?:{_TO_IT}|0a0002ff|e0000000)"  # its own address, its network's broadcast, and the lowest of a group


def _ip(length: int, data: str, protocol: int = 0, *, words: int = 5, flags: str = "0000", to: str = _TO) -> str:
    """A header with a checksum, which is not judged."""
    return f"08004{words}00{length:04x}0000{flags}00{protocol:02x}....{_SOURCE}{to}{data}"


# What is behind the link addresses, as a regular expression of hexadecimal digits.
SMALLEST = {
    ARP_LENGTH: "0806 0000 0000 11 000000".replace(" ", ""),  # 22 bytes are asked for; lengths above 16 kill
    IP_OPTION: _ip(24, "02050000", words=6),  # any option whose end is behind the header's
    IP_LENGTH: "080045" + "00" * 19,  # before the checksum is looked at
    FRAGMENT_EMPTY: _ip(20, "", flags="2000"),
    ICMP_CUT: _ip(21, "00", 1),
    ECHO_CODE: _ip(28, "0871....00000000", 1),
    UDP_LENGTH: _ip(28, "00" * 8, 17),  # a checksum of 0 is none
    TCP_OFFSET: _ip(40, "00" * 12 + "60" + "00" * 7, 6, to=_TO_IT),
    TCP_OPTION: _ip(44, "00" * 12 + "60" + "00" * 7 + "02000000", 6, to=_TO_IT),
    VLAN: "8100" + "00" * 6,  # the kernel passes over less than 20 bytes (skb_vlan_untag, net/core/skbuff.c)
}


def is_smallest(death: int, frame: bytes) -> bool:
    """Whether nothing can be left out of it, or be lower."""
    return re.fullmatch(SMALLEST[death], frame[12:].hex()) is not None


class Stack:
    """What of examined_guest.c decides about one of its deaths; its link address is `mac`."""

    def __init__(self, death: int, mac: bytes) -> None:
        self._death, self._mac = death, mac
        self._waiting: dict[bytes, tuple[dict[int, int], list[int]]] = {}

    def dies_of(self, frame: bytes) -> bool:
        """Whether it does, of this one behind those before."""
        if frame[:6] != self._mac and not frame[0] & 1:
            return False
        kind = int.from_bytes(frame[12:14], "big")
        if kind == 0x8100:
            return self._death == VLAN and 20 <= len(frame) < 22
        if kind == 0x0806:
            return self._death == ARP_LENGTH and len(frame) >= 22 and frame[18] > 16
        if kind == 0x0800:
            return self._ip(frame[14:], is_for_all=bool(frame[0] & 1))
        is_snap = kind <= 1500 and len(frame) > 22 and frame[14:22].hex() == "aaaa030000000800"
        return is_snap and self._ip(frame[22:], is_for_all=bool(frame[0] & 1))

    def _ip(self, packet: bytes, *, is_for_all: bool) -> bool:
        if len(packet) < 20:
            return False
        header, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        if self._death == IP_LENGTH:
            return length < 20 and packet[0] == 0x45
        if packet[0] >> 4 != 4 or header < 20 or header > length or length > len(packet):
            return False
        source, to = packet[12:16], packet[16:20]
        is_own = to == _OWN
        is_everybodys = to in {bytes([255] * 4), _EVERYBODY} or to[0] >> 4 == 14
        is_host = source[0] != 127 and source[0] < 224 and source not in {_EVERYBODY, bytes(4)}
        is_right = checks.total(packet[:header]) == 0
        if not is_right or not (is_own or is_everybodys) or not is_host or (is_own and is_for_all):
            return False
        return self._taken(packet, header, length, is_own=is_own)

    def _taken(self, packet: bytes, header: int, length: int, *, is_own: bool) -> bool:
        if (dies := self._options(packet[20:header])) is not None:
            return dies
        packet = packet[:length]
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            return self._fragment(packet, header, is_own=is_own)
        return self._data(packet[9], packet[header:], is_own=is_own)

    def _options(self, options: bytes) -> bool | None:
        """Whether it dies of them; None where they fit."""
        at = 0
        while at < len(options) and options[at]:
            size = 1 if options[at] == 1 else options[at + 1] if at + 1 < len(options) else 0
            if at + size > len(options):
                return self._death == IP_OPTION
            if size < (options[at] != 1) + 1:
                return False
            at += size
        return None

    def _fragment(self, packet: bytes, header: int, *, is_own: bool) -> bool:
        data, field = packet[header:], int.from_bytes(packet[6:8], "big")
        if self._death == FRAGMENT_EMPTY and not data and field & 0x2000:
            return True
        at = (field & 0x1FFF) * 8
        if at + len(data) > 65515 or (field & 0x2000 and len(data) % 8):
            return False
        key = packet[12:16] + packet[4:6] + packet[9:10]
        there, end = self._waiting.setdefault(key, ({}, []))
        there.update(enumerate(data, at))
        if not field & 0x2000:
            end.append(at + len(data))
        if not end or any(each not in there for each in range(end[-1])):
            return False
        del self._waiting[key]
        return self._data(packet[9], bytes(there[each] for each in range(end[-1])), is_own=is_own)

    def _data(self, protocol: int, data: bytes, *, is_own: bool) -> bool:
        match protocol, self._death:
            case 1, death if death == ICMP_CUT:
                return 0 < len(data) < 8
            case 1, death if death == ECHO_CODE:
                return len(data) >= 8 and data[0] == 8 and data[1] > 0x70 and checks.total(data) == 0
            case 17, death if death == UDP_LENGTH:
                return len(data) >= 8 and int.from_bytes(data[4:6], "big") < 8
            case 6, death if len(data) >= 20 and is_own:
                offset = (data[12] >> 4) * 4
                has_option = 21 < offset <= len(data) and data[20] > 1 and data[21] < 2
                return (death == TCP_OFFSET and offset > len(data)) or (death == TCP_OPTION and has_option)
        return False
