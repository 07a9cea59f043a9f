"""What the protocols say that packets carry, in a few words: for lines alone, and only when one is asked for.

Each module has tables from a port or number to a name and a function, which is given the bytes that were captured and
returns its words, "" for none, or None where they are not of that protocol; or a name that is more exact, with its
words. It may raise IndexError, ValueError or struct.error for bytes that end too early: then there are no words. What
it returns is not made printable yet.
"""

from __future__ import annotations

from rawtap.packets.headers import Ethernet, Frame
from rawtap.packets.says import datagrams, frames, packets, streams
from rawtap.packets.says.words import ENDED, Known, unsure
from rawtap.packets.transport import Tcp, Udp

Said = tuple[str, str]


def said(frame: Frame) -> Said | None:
    """The protocol's name and its words, or None where what is carried is not known."""
    if frame.named is not None:
        return frame.named.name, frame.named.says
    ip, header = frame.ip, frame.transport
    if ip is None:
        return _of_frame(frame)
    if ip.fragment is not None and ip.fragment.at:
        return None
    if isinstance(header, (Tcp, Udp)):
        payload = frame.data[header.payload : header.end]
        known = streams.known if isinstance(header, Tcp) else datagrams.known
        candidates = known(payload, header.source_port, header.destination_port) if payload else []
        candidates.sort(key=_is_by_port_alone)
        carrier = "TCP" if isinstance(header, Tcp) else "UDP"
        return _first(candidates, payload, carrier) if candidates else None
    kind = packets.KNOWN.get(ip.protocol)
    return _first([kind], frame.data[ip.payload : ip.end]) if kind else None


def _is_by_port_alone(known: Known) -> bool:
    return known[1] is None


def _of_frame(frame: Frame) -> Said | None:
    link, data = frame.link, frame.data
    if frame.kind is not None:
        known = frames.KINDS.get(frame.kind)
        return _first([known], data[frame.payload : frame.end]) if known else None
    if isinstance(link, Ethernet) and link.stated is not None:
        return _first(frames.logical(data[link.payload : link.payload + 8]), data[link.payload : frame.end])
    return None


def _first(candidates: list[Known], payload: bytes, carrier: str = "") -> Said | None:
    """What the first of them says; what has no mark is told as what it may be behind `carrier`, if that is given."""
    for name, words in candidates:
        if words is None and carrier:
            return unsure(carrier, name)
        try:
            found = words(payload) if words else ""
        except ENDED:
            found = ""
        if found is not None:
            return found if isinstance(found, tuple) else (name, found)
    return None
