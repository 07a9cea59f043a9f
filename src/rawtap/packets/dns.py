"""DNS messages in UDP, as far as a line and a judgement need them (RFC 1035, 4.1)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from rawtap.packets import mistakes
from rawtap.packets.bounds import Stop, Stopped, need

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_QUESTIONS = 4  # that are kept
_RECORDS = 128  # that are walked through; a datagram of 64 KiB could name thousands
_SHOWN = 4
_NAME = 255  # RFC 1035, 2.3.4
_LABEL = 63
_POINTER = 0xC0

TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
    41: "OPT", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
OPCODES = {0: "query", 1: "inverse query", 2: "status", 4: "notify", 5: "update"}
MALFORMED = "dns.malformed"


class Question(NamedTuple):
    """A name in presentation form (RFC 1035, 5.1: printable, no blanks), the type and the class that are asked for."""

    name: str
    type: int
    of_class: int = 1


class Dns(NamedTuple):
    """A message: its flags and counts, the first questions, the first answers as text, and where reading ended.
    `recursion` is whether that is desired, `unasked` that a server would have asked others and was not told to: then it
    has nothing to say (RFC 1035, 4.1.1: RD, RA, AA)."""

    offset: int
    id: int
    response: bool
    opcode: int
    cut: bool
    recursion: bool
    unasked: bool
    rcode: int
    question_count: int
    answer_count: int
    questions: tuple[Question, ...]
    answers: tuple[str, ...]
    stop: Stop | None


def parse(data: bytes, at: int, end: int) -> Dns:
    """The message from byte `at` to `end` of a frame.

    Raises:
        Stopped: The header is not there.
    """
    need(data, at, 12, end, "DNS header", MALFORMED)
    number, flags, *counts = _HEADER.unpack_from(data, at)
    questions: list[Question] = []
    answers: list[str] = []
    stop = None
    try:
        place = _read_questions(data, at, end, counts[0], questions)
        _read_records(data, at, end, place, counts[1:], answers)
    except Stopped as error:
        stop = error.stop
        if stop.what == MALFORMED and 0 < (meant := mistakes.swapped(counts[0])) <= _QUESTIONS < counts[0]:
            says = f"{counts[0]} questions, where {meant} are meant: {mistakes.SWAPPED}"
            stop = Stop(MALFORMED, at + 4, says, str(counts[0]), str(meant))
        elif stop.what == MALFORMED and (mistake := _in_name(data, at + 12, end)) and not questions:
            stop = stop._replace(says=mistakes.told(stop.says, mistake))
    return Dns(
        at, number, bool(flags & 0x8000), flags >> 11 & 15, bool(flags & 0x200), bool(flags & 0x100),
        flags & 0x8580 == 0x8080 and not any(counts[1:3]), flags & 15, counts[0], counts[1], tuple(questions),
        tuple(answers), stop,
    )  # fmt: skip


def words(message: Dns) -> str:
    """A message in a few words: what is asked, and what is answered."""
    asked = ", ".join(f"{type_name(each.type)} {each.name}" for each in message.questions)
    if message.question_count > len(message.questions):
        asked += f" ({message.question_count} questions)"
    operation = OPCODES.get(message.opcode) or f"opcode {message.opcode}"
    if not message.response:
        return f"{operation} id=0x{message.id:04x} {asked}"
    # The question comes last: a name may be long.
    result = [rcode_name(message.rcode)] if message.rcode else []
    result += ["cut"] if message.cut else []
    count = f"({message.answer_count} answer{'' if message.answer_count == 1 else 's'})"
    answers = f": {', '.join(message.answers)}" if message.answers else ""
    return " ".join([f"answer id=0x{message.id:04x}", *result, asked, count]) + answers


def _in_name(data: bytes, at: int, end: int) -> str:
    """The mistake in a first question that can't be read."""
    text = data[at:end].split(b"\0")[0]
    if len(text) > 3 and text[0] > _LABEL and b"." in text and text.isascii() and text.decode().isprintable():
        return "the name is written with dots, not as labels with their lengths"
    place = at
    while place < end <= len(data) and 0 < data[place] <= _LABEL:
        place += 1 + data[place]
    # Its type's first byte, which is zero, was read for the name's end: of four bytes behind it one is missing.
    return "the name has no zero at its end" if end - place == 4 and data[place : place + 1] == b"\0" else ""


def _read_questions(data: bytes, start: int, end: int, count: int, found: list[Question]) -> int:
    place = start + 12
    for index in range(min(count, _RECORDS)):
        name, place = _name(data, start, place, end)
        need(data, place, 4, end, "DNS question", MALFORMED)
        if index < _QUESTIONS:
            found.append(Question(name, data[place] << 8 | data[place + 1], data[place + 2] << 8 | data[place + 3]))
        place += 4
    return place


def _read_records(data: bytes, start: int, end: int, place: int, counts: list[int], answers: list[str]) -> None:
    for index in range(min(sum(counts), _RECORDS)):
        place = _after_name(data, place, end)
        need(data, place, 10, end, "DNS record", MALFORMED)
        kind, _, _, size = _RECORD.unpack_from(data, place)
        place += 10
        need(data, place, size, end, "DNS record's data", MALFORMED)
        if index < min(counts[0], _SHOWN):
            answers.append(_answer(data, start, place, size, kind))
        place += size


def _answer(data: bytes, start: int, at: int, size: int, kind: int) -> str:
    if kind == 1 and size == 4:
        return f"A {inet_ntop(AF_INET, data[at : at + 4])}"
    if kind == 28 and size == 16:
        return f"AAAA {inet_ntop(AF_INET6, data[at : at + 16])}"
    if kind in {2, 5, 12} and size:  # an update's prerequisites have none (RFC 2136, 2.4)
        return f"{TYPES[kind]} {_name(data, start, at, at + size)[0]}"
    return type_name(kind)


def type_name(kind: int) -> str:
    return TYPES.get(kind) or f"TYPE{kind}"  # RFC 3597, 5


def rcode_name(rcode: int) -> str:
    return RCODES[rcode] if rcode < len(RCODES) else f"RCODE{rcode}"


def _after_name(data: bytes, at: int, end: int) -> int:
    """Where the name at `at` ends; what a pointer in it points to is not looked at."""
    for _ in range(_NAME):
        need(data, at, 1, end, "DNS name", MALFORMED)
        size = data[at]
        if size >= _POINTER:
            need(data, at, 2, end, "DNS name", MALFORMED)
            return at + 2
        if size > _LABEL:
            raise Stopped(MALFORMED, at, f"label type {size >> 6} is none of DNS")
        at += 1 + size
        if not size:
            return at
    raise Stopped(MALFORMED, at, "a DNS name of more than 255 bytes")


def _name(data: bytes, start: int, at: int, end: int) -> tuple[str, int]:
    """The name at `at` and where it ends. A pointer leads only to what is before it (4.1.4), so that no loop can be."""
    after = 0
    labels: list[str] = []
    room = _NAME
    while True:
        need(data, at, 1, end, "DNS name", MALFORMED)
        size = data[at]
        if size >= _POINTER:
            need(data, at, 2, end, "DNS name", MALFORMED)
            target = start + ((size & 0x3F) << 8 | data[at + 1])
            after = after or at + 2
            if target >= at or target < start + 12:
                raise Stopped(MALFORMED, at, f"a name's pointer to byte {target - start} of the message leads nowhere")
            # Two pointers could pass each other for ever only by labels between, and those use up the room.
            at = target
            room -= 1
        elif size > _LABEL:
            raise Stopped(MALFORMED, at, f"label type {size >> 6} is none of DNS")
        elif not size:
            return ".".join(labels) or ".", after or at + 1
        else:
            need(data, at, 1 + size, end, "DNS name", MALFORMED)
            labels.append(_label(data[at + 1 : at + 1 + size]))
            at += 1 + size
            room -= 1 + size
        if room <= 0:
            raise Stopped(MALFORMED, at, "a DNS name of more than 255 bytes")


def _label(raw: bytes) -> str:
    text = raw.decode("latin-1")
    if raw.isascii() and text.replace("-", "").replace("_", "").isalnum():
        return text
    return "".join(chr(each) if 0x21 <= each <= 0x7E and each not in b".\\\"'" else f"\\{each:03}" for each in raw)
