"""What a guest asks a name server for, as far as rules ask of it and answers repeat it (RFC 1035, 4.1). Pure."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from rawtap.packets import dns
from rawtap.packets.bounds import Stopped

_IPV4, _LINK, _IP = b"\x08\0", 14, 34  # where a header of IPv4's begins, and where it ends at least
_TCP, _UDP = 6, 17
_PORT = b"\0\x35"
_SYN, _SYN_ACK = 0x02, 0x12
_HEADER = 12
_POINTER = 0xC000
_OTHER_NUMBER = 0x5A01  # to be changed in a query's number: in both of its bytes


def fields(frame: bytes) -> dict[str, Any]:
    """By names like "Query.id", from a datagram to port 53, or a SYN to it; {} from all other frames.

    Query.server: whom it asks, Query.by: "UDP" or "TCP", Query.port: its own. From a datagram also Query.id,
    Query.flags, Query.questions, Query.answers, Query.authorities, as the header has them; Query.broken: what is wrong
    with the rest, absent where nothing is; and else, of the first question, Query.name (as text), Query.type,
    Query.class. What answers are made of is in hexadecimal digits: Query.number (the ID), Query.other_number (another),
    Query.question (all of it), Query.whole (its name), Query.other_case (that with its letters in the other case),
    Query.first (its first label), Query.rest (a pointer to those behind that), Query.behind (a pointer to what follows
    the question).
    """
    if frame[12:_LINK] != _IPV4 or len(frame) < _IP:
        return {}
    at, protocol = _LINK + (frame[_LINK] & 15) * 4, frame[23]
    if frame[at + 2 : at + 4] != _PORT or len(frame) < at + 8:
        return {}
    found: dict[str, Any] = {
        "Query.server": str(IPv4Address(frame[30:_IP])),
        "Query.port": int.from_bytes(frame[at : at + 2], "big"),
    }
    if protocol == _TCP and frame[at + 13 : at + 14] and frame[at + 13] & _SYN_ACK == _SYN:
        return found | {"Query.by": "TCP"}
    if protocol != _UDP:
        return {}
    end = min(len(frame), at + int.from_bytes(frame[at + 4 : at + 6], "big"))
    return found | {"Query.by": "UDP"} | _message(frame[at + 8 : end])


def _message(data: bytes) -> dict[str, Any]:
    try:
        message = dns.parse(data, 0, len(data))
    except Stopped as error:
        return {"Query.broken": error.stop.says}
    number = data[:2]
    found: dict[str, Any] = {
        "Query.id": message.id,
        "Query.number": number.hex(),
        "Query.other_number": (message.id ^ _OTHER_NUMBER).to_bytes(2, "big").hex(),
        "Query.flags": int.from_bytes(data[2:4], "big"),
        "Query.questions": message.question_count,
        "Query.answers": message.answer_count,
        "Query.authorities": int.from_bytes(data[8:10], "big"),
    }
    if message.stop is not None:
        return found | {"Query.broken": message.stop.says}
    if not message.questions:
        return found
    first, *_ = message.questions
    found |= {"Query.name": first.name, "Query.type": first.type, "Query.class": first.of_class}
    return found | _parts(data)


def _parts(data: bytes) -> dict[str, str]:
    """What answers are made of, from a message whose first question was read: no pointer can be in that."""
    end = _HEADER
    while data[end]:
        end += 1 + data[end]
    name = data[_HEADER : end + 1]
    behind_first = 1 + name[0] if name[0] else 0
    return {
        "Query.question": data[_HEADER : end + 5].hex(),
        "Query.whole": name.hex(),
        "Query.other_case": _other_case(name).hex(),
        "Query.first": name[:behind_first].hex(),
        "Query.rest": f"{_POINTER | _HEADER + behind_first:04x}",
        "Query.behind": f"{_POINTER | end + 5:04x}",
    }


def _other_case(name: bytes) -> bytes:
    """The name with small letters for great ones, and the other way; labels' lengths, up to 63, are no letters."""
    return name.swapcase()
