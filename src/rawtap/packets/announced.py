"""Ends that one conversation announces for another: FTP's data, and the media of calls. Pure."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_pton

from rawtap.packets.transport import Named

_MOST = 4096  # ends that are kept
_End = tuple[bytes, int]
_SIX = re.compile(rb"(?:227[^\r\n(]{0,80}\(|PORT )((?:[0-9]{1,3},){5}[0-9]{1,3})")
_EXTENDED = re.compile(rb"229[^\r\n(]{0,80}\(\|\|\|([0-9]{1,5})\||EPRT \|[12]\|([0-9a-fA-F.:]{2,45})\|([0-9]{1,5})\|")
_MEDIA = re.compile(rb"(?:^|\n)m=(?:audio|video) ([0-9]{1,5})(?:/[0-9]+)? RTP/S?AVPF? ")
_ADDRESS = re.compile(rb"(?:^|\n)c=IN IP([46]) ([0-9a-fA-F.:]{2,45})")


class Announced:
    """Remembers ends, by what was said of them."""

    def __init__(self) -> None:
        self._ends: dict[_End, str] = {}

    def hear(self, name: str, payload: bytes, source: bytes) -> None:
        """Learn of a message of protocol `name` that `source` sends."""
        if name == "FTP":
            self._add(_of_ftp(payload, source), "FTP-DATA")
        elif name in {"SIP", "RTSP"} and b"\nm=" in payload:
            for address, port in _of_media(payload):
                self._add((address, port), "RTP")

    def named(self, source: _End, destination: _End, payload: bytes) -> Named | None:
        """What goes to or from an end that was announced, and fits."""
        name = self._ends.get(destination) or self._ends.get(source)
        if name == "RTP" and len(payload) >= 12 and payload[0] >> 6 == 2:
            sequence = int.from_bytes(payload[2:4], "big")
            return Named(name, f"type {payload[1] & 0x7F} seq={sequence} source 0x{payload[8:12].hex()}")
        return Named(name, "") if name == "FTP-DATA" and payload else None

    def _add(self, end: _End | None, name: str) -> None:
        if end is not None and len(self._ends) < _MOST:
            self._ends[end] = name


def _of_ftp(payload: bytes, source: bytes) -> _End | None:
    """The end of a transfer (RFC 959, 4.1.2; RFC 2428, 2 and 3)."""
    if found := _SIX.search(payload[:512]):
        told = [int(each) for each in found[1].split(b",")]
        return (bytes(told[:4]), told[4] << 8 | told[5]) if max(told) < 256 else None
    if found := _EXTENDED.search(payload[:512]):
        address = source if found[1] else _packed(found[2])
        return (address, int(found[1] or found[3])) if address else None
    return None


def _of_media(payload: bytes) -> list[_End]:
    """The ends of media, each with the address of its own or the session's (RFC 8866, 5.7, 5.14)."""
    session, *parts = re.split(rb"(?=\nm=)", payload)
    common, found = _ADDRESS.search(session), list[_End]()
    for part in parts:
        media, own = _MEDIA.match(part), _ADDRESS.search(part) or common
        address = _packed(own[2]) if own else None
        if media and address and int(media[1]):
            found.append((address, int(media[1])))
    return found


def _packed(text: bytes) -> bytes | None:
    try:
        return inet_pton(AF_INET6 if b":" in text else AF_INET, text.decode())
    except OSError:
        return None
