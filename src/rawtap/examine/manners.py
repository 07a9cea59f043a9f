"""What a neighbour on the link does by itself, whatever is asked meanwhile: it says where it is (RFC 826). Pure."""

from __future__ import annotations

from collections.abc import Mapping

_ARP, _REQUEST, _REPLY = b"\x08\x06", b"\0\1", b"\0\2"
_KIND = bytes.fromhex("0001080006 04")
_MESSAGE = 42  # bytes of a frame with ARP


def arp_reply(frame: bytes, stations: Mapping[bytes, bytes]) -> bytes | None:
    """The reply to a request for the address of one of our `stations` (IP address to MAC address); None to all else."""
    if len(frame) < _MESSAGE or frame[12:14] != _ARP or frame[14:20] != _KIND or frame[20:22] != _REQUEST:
        return None
    asker, asked = frame[22:32], frame[38:42]
    if (mac := stations.get(asked)) is None:
        return None
    return asker[:6] + mac + _ARP + _KIND + _REPLY + mac + asked + asker
