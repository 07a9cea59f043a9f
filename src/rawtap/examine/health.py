"""Whether the guest's stack is alive: a question that nearly every stack answers, asked before and behind each rule's.

A stack takes frames in their order. So once it has answered a health check, whatever it would have answered at once to
the frames before has come, and how fast the guest or the machine is does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from rawtap.examine.rules import Frame
from rawtap.examine.values import made

_ETHERNET = 14
_OPERATION = slice(20, 22)
_ARP, _REQUEST = b"\x08\x06", b"\0\1"

Kind = Literal["echo", "arp"]


@dataclass(frozen=True)
class Check:
    """One health check: a frame to send, and what an answer to it has in it.

    Its sender has an address of its own, so no rule takes the answer for one of its own. It judges as little as can be:
    an echo comes back, whatever else is wrong with it.
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


def token_of(names: Mapping[str, str | int]) -> bytes:
    """What each frame of a health check has in it, and no other."""
    return IPv4Address(str(names["pulse"])).packed


def check(kind: Kind, names: Mapping[str, str | int], number: int) -> Check:
    """The health check of that number; `names` are those of a rule's frames."""
    pulse = str(names["pulse"])
    if kind == "arp":
        asked = {"layer": "ARP", "op": 1, "psrc": pulse, "pdst": "$guest"}
        frame = Frame(({"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"}, asked))
        return Check(kind, made(frame, names), token_of(names))
    token = f"rawtap health {number}."
    echo = {"layer": "ICMP", "type": 8, "id": 0x5259, "seq": number & 0xFFFF}
    frame = Frame(({"layer": "IP", "src": pulse, "dst": "$guest"}, echo, {"layer": "Raw", "load": token}))
    return Check(kind, made(frame, names), token.encode())
