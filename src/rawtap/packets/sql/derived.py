"""Rows of dns and http, read out of the packets that hold such messages."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rawtap.packets import dns
from rawtap.packets.bounds import Stopped
from rawtap.packets.headers import innermost, parse
from rawtap.packets.transport import Tcp, Udp
from rawtap.untrusted import visible

Row = list[Any]
_WAITING = 10_000  # questions whose answers may still come
_HEAD = 16384  # bytes of an HTTP message that are looked at
_TEXT = 500
_REQUEST = re.compile(rb"([A-Z]{3,10}) (\S{1,8000}) HTTP/1\.[01]\r?\n")
_ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]{0,200}))?\r?\n")


class Message(NamedTuple):
    """A packet that holds a message, as the columns of the same names say."""

    file: str
    number: int
    time: float
    source: str
    destination: str
    protocol: str
    stream: int | None
    source_port: int
    destination_port: int
    length: int
    link_type: int
    frame: bytes


Reader = Callable[[Iterator[Message]], Iterator[Row]]


def read_dns(messages: Iterator[Message]) -> Iterator[Row]:
    """A row for each message: its first question, and for an answer that question's packet and how long it took."""
    waiting: OrderedDict[tuple[Any, ...], tuple[int, float]] = OrderedDict()
    for each in messages:
        message = _dns_of(each)
        if message is None:
            continue
        question = message.questions[0] if message.questions else None
        name = question.name if question else None
        key = (each.file, message.id, name and name.lower(), each.protocol)
        asked = None
        if message.response:
            asked = waiting.get((*key, each.destination, each.destination_port, each.source))
        else:
            waiting[(*key, each.source, each.source_port, each.destination)] = each.number, each.time
            if len(waiting) > _WAITING:
                waiting.popitem(last=False)
        yield [
            each.file, each.number, each.time, each.source, each.destination, each.protocol, message.id,
            message.response, name, dns.type_name(question.type) if question else None,
            dns.rcode_name(message.rcode) if message.response else None, list(message.answers), message.answer_count,
            asked[0] if asked else None, each.time - asked[1] if asked else None,
        ]  # fmt: skip


def _dns_of(each: Message) -> dns.Dns | None:
    frame = innermost(parse(each.frame, each.length, each.link_type))
    if isinstance(frame.application, dns.Dns):
        return frame.application
    header = frame.transport
    if not isinstance(header, (Tcp, Udp)):
        return None
    prefix = 2 if isinstance(header, Tcp) else 0  # its length, RFC 1035, 4.2.2
    try:
        return dns.parse(each.frame, header.payload + prefix, header.end)
    except Stopped:
        return None


def read_http(messages: Iterator[Message]) -> Iterator[Row]:
    """A row for each segment that begins a message of HTTP/1 (RFC 9112, 2 to 4), as far as its head is in it."""
    for each in messages:
        header = innermost(parse(each.frame, each.length, each.link_type)).transport
        if not isinstance(header, Tcp):
            continue
        data = each.frame[header.payload : min(header.end, header.payload + _HEAD)]
        request, answer = _REQUEST.match(data), _ANSWER.match(data)
        if not (request or answer):
            continue
        fields = _fields(data)
        size = fields.get("content-length", "")
        yield [
            each.file, each.number, each.time, each.stream, each.source, each.destination, answer is not None,
            request and _text(request[1]), request and _text(request[2]), fields.get("host"),
            answer and int(answer[1]), answer and _text(answer[2] or b""), fields.get("content-type"),
            int(size) if re.fullmatch("[0-9]{1,18}", size, re.ASCII) else None, fields.get("user-agent"),
        ]  # fmt: skip


def _fields(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in data.split(b"\n")[1:]:
        name, colon, value = line.rstrip(b"\r").partition(b":")
        if not colon:
            break
        found.setdefault(name.decode("latin-1").lower(), _text(value.strip()))
    return found


def _text(raw: bytes) -> str:
    return visible(raw.decode("utf-8", "replace"))[:_TEXT]


READERS: dict[str, tuple[str, Reader]] = {
    "dns": ("'DNS', 'mDNS', 'LLMNR'", read_dns),
    "http": ("'HTTP'", read_http),
}
