"""Whether the guest's stack is alive: a question that nearly every stack answers, asked before and behind each rule's.

A stack takes frames in their order. So once it has answered a health check, whatever it would have answered at once to
the frames before has come, and how fast the guest or the machine is does not matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count, cycle
from typing import Literal

from rawtap.examine.rules import Frame
from rawtap.examine.values import made
from rawtap.packets import checks as sums

_ETHERNET = 14
_OPERATION = slice(20, 22)
_ARP, _REQUEST = b"\x08\x06", b"\0\1"
_ECHO, _IDENTIFIER = 8, 0x5259
_HEADER = struct.Struct("!BBHHH")
_TOKENS = 1_000_000
_TOKEN = b"rawtap asks %06d"
_SENDERS = ("pulse", "second_pulse")
_OFFERED = ("nobody", "stranger")
_IPV4, _UDP = b"\x08\0", 17
_TO_SERVER = b"\0\x43"  # UDP's port behind a header of IPv4's without options

Kind = Literal["echo", "arp", "dhcp"]
_SEEN = "the guest answered health checks before and after"
LIVED: dict[Kind, str] = {"echo": _SEEN, "arp": _SEEN, "dhcp": "its client had asked before"}
"""By what it was seen that a guest that is silent lives."""
_NO_ANSWER = "answered no health check"
NOTHING: dict[Kind, str] = {"echo": _NO_ANSWER, "arp": _NO_ANSWER, "dhcp": "asked its server for nothing"}
NO_ADDRESS = "it has no address: that it lives is seen by what its client of DHCP sends, and silence is by the clock"


@dataclass(frozen=True)
class Check:
    """One health check: a frame to send, and what an answer to it has in it.

    Its sender has an address that no rule uses, so no rule takes the answer for one of its own. It judges as little as
    can be: an echo comes back, whatever else is wrong with it.
    """

    kind: Kind
    frame: bytes
    token: bytes

    def is_answered_by(self, frame: bytes) -> bool:
        """Whether a frame of the guest's is an answer."""
        if self.token not in frame[_ETHERNET:]:
            return False
        is_arp = frame[12:_ETHERNET] == _ARP
        return self.kind == "echo" or (is_arp and frame[_OPERATION] != _REQUEST)


def tokens_of(names: Mapping[str, str | int]) -> tuple[bytes, ...]:
    """One of these each frame of a health check has in it, and no other frame."""
    return tuple(IPv4Address(str(names[name])).packed for name in _SENDERS)


def greeting(names: Mapping[str, str | int]) -> bytes:
    """An ARP request from us, by which the guest learns where we are (RFC 826, Packet Reception).

    Else what it sends us waits for that, and comes behind its answer to the health check.
    """
    broadcast = {"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"}
    return made(Frame((broadcast, {"layer": "ARP", "op": 1, "psrc": "$us", "pdst": "$guest"})), names)


def greeting6(names: Mapping[str, str | int]) -> bytes:
    """The same for IPv6, by a neighbour solicitation with our link address (RFC 4861, 7.2.3)."""
    header = {"layer": "IPv6", "src": "$us6", "dst": "$guest6_group", "hlim": 255}
    asks = ({"layer": "ICMPv6ND_NS", "tgt": "$guest6"}, {"layer": "ICMPv6NDOptSrcLLAddr", "lladdr": "$us_mac"})
    return made(Frame(({"layer": "Ether", "dst": "$guest6_group_mac"}, header, *asks)), names)


def checks(kind: Kind, names: Mapping[str, str | int]) -> Iterator[Check]:
    """Health checks without end, each to be told from the one before; `names` are those of a rule's frames.

    From older ones there is no answer to come: once one is answered, what was asked before it has been.
    """
    return _arp_checks(names) if kind == "arp" else _echo_checks(names)


def offered(names: Mapping[str, str | int]) -> tuple[Check, ...]:
    """Health checks at the addresses that rules of DHCP offer: a stack that has one at a time answers at no other once
    its client took it."""
    token, _ = tokens_of(names)
    broadcast = {"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"}
    asked = ({"layer": "ARP", "op": 1, "psrc": "$pulse", "pdst": f"${name}"} for name in _OFFERED)
    return tuple(Check("arp", made(Frame((broadcast, each)), names), token) for each in asked)


def asks_server(frame: bytes) -> bool:
    """Whether a frame of the guest's is for a server of DHCP.

    A stack without an address answers nobody (RFC 826, RFC 1122, 3.2.1.3): what its client says is all that shows that
    it lives.
    """
    return frame[12:_ETHERNET] == _IPV4 and frame[23:24] == bytes([_UDP]) and frame[36:38] == _TO_SERVER


def _arp_checks(names: Mapping[str, str | int]) -> Iterator[Check]:
    broadcast = {"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"}
    frames = [
        made(Frame((broadcast, {"layer": "ARP", "op": 1, "psrc": f"${name}", "pdst": "$guest"})), names)
        for name in _SENDERS
    ]
    return (Check("arp", frame, token) for frame, token in cycle(zip(frames, tokens_of(names), strict=True)))


def _echo_checks(names: Mapping[str, str | int]) -> Iterator[Check]:
    pulse = {"layer": "IP", "src": "$pulse", "dst": "$guest"}
    echo = {"layer": "ICMP", "type": _ECHO, "id": _IDENTIFIER}
    token = _TOKEN % 0
    frame = made(Frame((pulse, echo, {"layer": "Raw", "load": token.decode()})), names)
    head = frame[: -len(token) - _HEADER.size]
    for number in count(1):
        token = _TOKEN % (number % _TOKENS)
        yield Check("echo", head + _echo(number & 0xFFFF, token), token)


def _echo(sequence: int, data: bytes) -> bytes:
    """An echo request; the layers would take 5 ms for each."""
    bare = _HEADER.pack(_ECHO, 0, 0, _IDENTIFIER, sequence) + data
    total = 0xFFFF - sums.total(bare)
    return _HEADER.pack(_ECHO, 0, total, _IDENTIFIER, sequence) + data
