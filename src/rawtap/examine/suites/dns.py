"""DNS: what a resolver asks a name server for, and what it believes of what comes. The neighbour is the server.

The guest has to ask by itself, again and again. What it took is seen by what it does next: it sends something to the
address that it was told, or asks for another name. So nothing is taken from what a program prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, Bits, Either, Fields, Frame, Level, Other, Quiet, Rule, Step, Tell
from rawtap.examine.suites._frames import ip, raw

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_SECONDS = 15  # a resolver may wait five seconds (RFC 1123, 6.1.3.3) and five more, and its program a while after that
_GIVES_UP_SECONDS = 45  # three queries (RFC 9520, 3.1), waits of 5, 10 and 20 (RFC 1123, 6.1.3.3 (5)), and some more
_TAKEN_SECONDS = 4
_TO_SERVER: Fields = {"Query.server": "$server", "Query.by": "UDP"}
QUERY: Fields = {**_TO_SERVER, "Query.broken": None, "Query.type": 1, "Query.class": 1}
_SAME: Fields = {**QUERY, "Query.name": "$dns_name"}
_OF_OTHER_NAME: Fields = {"Query.name": Other(("$dns_name",))}
KEPT = {
    "dns_name": "Query.name",
    "dns_id": "Query.id",
    "dns_number": "Query.number",
    "dns_other_number": "Query.other_number",
    "dns_port": "Query.port",
    "dns_question": "Query.question",
    "dns_whole": "Query.whole",
    "dns_other_case": "Query.other_case",
    "dns_first": "Query.first",
    "dns_rest": "Query.rest",
    "dns_behind": "Query.behind",
}
"""What answers repeat of a query; see `queries.fields`."""
RESOLVER, OTHER_NAMES = "dns_client", "dns_fresh"
"""What rules need: a guest that asks, and one that asks for another name each time."""

_ANSWER, _NO_ANSWER, _CUT = 0x8180, 0x0100, 0x8380  # flags: a response with RD and RA, none, one that was cut (TC)
_SERVER_FAILURE, _NO_SUCH_NAME = 0x8182, 0x8183
_NAME = bytes.fromhex("c00c")  # a pointer to the question's
_IN_A, _IN_TEXT = bytes.fromhex("00010001"), bytes.fromhex("00100001")  # types and classes of questions
_A, _CNAME, _UNKNOWN = 1, 5, 0xFF00  # the last is for private use (RFC 6895, 3.1)
_HOUR = 3600

Part = str | bytes
"""Bytes of a message, or a name that stands for them in hexadecimal digits."""


def _hex(part: Part) -> dict[str, Any]:
    return raw(part) if isinstance(part, bytes) else {"layer": "Raw", "load": {"hex": part}}


def _message(
    flags: int,
    parts: Sequence[Part] = (),
    counts: tuple[int, int] = (1, 1),
    *,
    question: Part = "$dns_question",
    number: Part = "$dns_number",
    source: str = "$server",
    **ports: Any,
) -> Frame:
    """A message of the server's; `counts` are of questions and answers, `ports` UDP's."""
    header = flags.to_bytes(2, "big") + b"".join(each.to_bytes(2, "big") for each in (*counts, 0, 0))
    return _datagram(number, header, question, *parts, source=source, **ports)


def _datagram(*parts: Part, source: str = "$server", **ports: Any) -> Frame:
    udp = {"layer": "UDP", "sport": 53, "dport": "$dns_port"} | ports
    return Frame((ip(src=source), udp, *(_hex(each) for each in parts if each)))


def _record(kind: int, data: bytes = b"", *, size: int | None = None, ttl: int = _HOUR) -> bytes:
    """A record behind its name; `size` is what it says of its data, those that are given here if None."""
    length = len(data) if size is None else size
    return kind.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big") + length.to_bytes(2, "big") + data


_ADDRESS = _record(_A, size=4)


def _answer(owner: Part = _NAME, address: str = "$told_hex", flags: int = _ANSWER, **more: Any) -> Frame:
    """An answer with one address."""
    return _message(flags, (owner, _ADDRESS, address), **more)


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


TRUTH = _answer()
IN_FULL = _answer("$dns_whole")
"""The same, without a pointer."""
_LIE = "$stranger_hex"
_TO_TOLD: Fields = {"IP.dst": "$told"}
_TAKES: Fields = {"IP.dst": Either(("$told", "$stranger"))}
_ASKED = Ask((), QUERY, keep=KEPT, within=_SECONDS, given=True)
_NO_SUCH = _message(_NO_SUCH_NAME, counts=(1, 0))
_ASKED_FIRST = (_ASKED, Tell((_NO_SUCH,)), replace(_ASKED, comes={**QUERY, **_OF_OTHER_NAME}))
"""The query may have been a repeated one; of that behind it, for another name, nobody has seen one before."""
_GOES_ON = replace(_ASKED, given=False)
"""Health checks are the kernel's to answer, and say nothing of a resolver that is a program."""


def _query(name: str, source: str, says: str, must: Fields) -> Rule:
    steps = (Ask((), _TO_SERVER, must, within=_SECONDS, given=True),)
    return Rule(f"dns.{name}", source, _MUST, says, steps, needs=(RESOLVER,))


def _next_query(name: str, says: str, must: Fields) -> Rule:
    """Of the query behind one that was answered."""
    steps = (_ASKED, Tell((_NO_SUCH,)), replace(_ASKED, must=must))
    return Rule(f"dns.{name}", "RFC 5452, 9.2", _MUST, says, steps, needs=(RESOLVER,))


def _repeated(name: str, source: str, level: Level, says: str, *steps: Step) -> Rule:
    """Of queries for one name, where each name is asked for once."""
    return Rule(f"dns.{name}", source, level, says, steps, needs=(RESOLVER, OTHER_NAMES))


def _passed_over(name: str, source: str, says: str, *lies: Frame, level: Level = _MUST) -> Rule:
    """The right answer is behind `lies`: what the guest sends first, or where to, shows what it took. No clock does."""
    steps = (_ASKED, Ask((*lies, TRUTH), _TAKES, _TO_TOLD, within=_TAKEN_SECONDS))
    return Rule(f"dns.{name}", source, level, says, steps, needs=(RESOLVER,))


def _taken(name: str, source: str, says: str, *answers: Frame) -> Rule:
    steps = tuple(step for each in answers for step in (_ASKED, Ask((each,), _TO_TOLD, within=_TAKEN_SECONDS)))
    return Rule(f"dns.{name}", source, _MUST, says, steps, needs=(RESOLVER,))


def _harmless(name: str, sources: str, says: str, *broken: Frame) -> Rule:
    """Each is the answer to a query of its own."""
    steps = tuple(step for each in broken for step in (Tell((each,)), _GOES_ON))
    return Rule(f"dns.{name}", f"RFC 1123, 1.2.2; {sources}", _MUST, says, (_ASKED, *steps), needs=(RESOLVER,))


_QUERIES = (
    _query(
        "query_header",
        "RFC 1035, 4.1.1; RFC 9619, 4",
        "A query is no response, has opcode 0, one question and no answers, and 0 for TC, Z and RCODE.",
        {
            "Query.flags": Bits(0, 0xFA4F),  # QR, opcode, TC, Z, RCODE
            "Query.questions": 1,
            "Query.answers": 0,
            "Query.authorities": 0,
        },
    ),
    _query(
        "recursion",
        "RFC 1034, 4.3.1 and 5.3.1",
        "It asks the server to ask others (RD): a resolver that is told one server leaves that to it.",
        {"Query.flags": Bits(0x0100)},
    ),
    _query(
        "question",
        "RFC 1035, 4.1.2 and 2.3.4",
        "The name is labels of 63 bytes at most with their lengths, up to one of length 0; the class is 1.",
        {"Query.broken": None, "Query.class": 1},
    ),
    _next_query(
        "id",
        "A query's number is not to be guessed: it is neither that of the query before nor one more.",
        {"Query.id": Other(("$dns_id", "$dns_id+1"))},
    ),
    _next_query(
        "port",
        "A query's own port is not to be guessed: it is neither that of the query before nor one more.",
        {"Query.port": Other(("$dns_port", "$dns_port+1"))},
    ),
)
_REPEATED = (
    _repeated(
        "retry",
        "RFC 1035, 4.2.1",
        _MUST,
        "What is not answered is asked again.",
        *_ASKED_FIRST,
        Ask((), _SAME, within=_SECONDS),
    ),
    _repeated(
        "retry_wait",
        "RFC 1035, 4.2.1; RFC 1123, 6.1.3.3 (5)",
        _SHOULD,
        "It waits before it asks again: a second at least, which is half of what is asked for.",
        *_ASKED_FIRST,
        Quiet((), (_SAME,), within=1),
        Ask((), _SAME, within=_SECONDS, given=True),
    ),
    _repeated(
        "gives_up",
        "RFC 1123, 6.1.3.3 (2)",
        _MUST,
        "What nobody answers is given up, and its program told: it asks for another name.",
        *_ASKED_FIRST,
        Ask((), {**QUERY, **_OF_OTHER_NAME}, within=_GIVES_UP_SECONDS),
    ),
    _repeated(
        "no_such_name",
        "RFC 1034, 5.3.3; RFC 1035, 4.1.1",
        _MUST,
        "A name that does not exist (RCODE 3) is not asked for again: its program is told.",
        _ASKED,
        Tell((_NO_SUCH,)),
        Ask((), QUERY, _OF_OTHER_NAME, within=_SECONDS, given=True),
    ),
    _repeated(
        "server_failure",
        "RFC 1123, 6.1.3.3 (1); RFC 9520, 3.1",
        _MUST,
        "Where the server fails (RCODE 2) each time, it gives up: RFC 9520 has three queries, and six are let pass.",
        _ASKED,
        *(
            replace(
                _ASKED,
                send=(_message(_SERVER_FAILURE, counts=(1, 0)),),
                keep={name: field for name, field in KEPT.items() if name != "dns_name"},
                must=_OF_OTHER_NAME if is_last else {},
            )
            for is_last in (False, False, False, False, False, True)
        ),
    ),
)
_MATCHED = (
    _passed_over(
        "other_id",
        "RFC 5452, 9.1",
        "An answer with another number than the query's is passed over.",
        _answer(address=_LIE, number="$dns_other_number"),
    ),
    _passed_over(
        "other_address",
        "RFC 5452, 9.1",
        "An answer from another address than was asked is passed over.",
        _answer(address=_LIE, source="$us"),
    ),
    _passed_over(
        "other_port",
        "RFC 5452, 9.1",
        "An answer to another port than the query came from is passed over.",
        _answer(address=_LIE, dport="$dns_port+1"),
    ),
    _passed_over(
        "other_question",
        "RFC 5452, 9.1",
        "An answer to another question, for another name or of another type, is passed over.",
        _answer(address=_LIE, question=_labels("other.rawtap.test") + _IN_A),
        _message(_ANSWER, (_IN_TEXT, _NAME, _ADDRESS, _LIE), question="$dns_whole"),
    ),
    _passed_over(
        "no_response",
        "RFC 1035, 7.3",
        "What is no response (QR 0) is passed over, though all else fits.",
        _answer(address=_LIE, flags=_NO_ANSWER),
        level=_SHOULD,
    ),
)
_ALIAS, _NEXT_ALIAS = _labels("one.rawtap.test"), _labels("two.rawtap.test")
_READ = (
    _taken(
        "compression",
        "RFC 1035, 4.1.4",
        "A name is understood that is a pointer, labels and a pointer, or all in labels.",
        TRUTH,
        _message(_ANSWER, ("$dns_first", "$dns_rest", _ADDRESS, "$told_hex")),
        IN_FULL,
    ),
    _taken(
        "letter_case",
        "RFC 1035, 3.1; RFC 4343, 3",
        "A name is the same in great and in small letters.",
        _answer("$dns_other_case"),
    ),
    _taken(
        "alias",
        "RFC 1034, 4.3.1 and 5.3.3",
        "An alias is followed, and an alias of that, to the address.",
        _message(
            _ANSWER,
            (
                _NAME + _record(_CNAME, _ALIAS) + _ALIAS + _record(_CNAME, _NEXT_ALIAS) + _NEXT_ALIAS + _ADDRESS,
                "$told_hex",
            ),
            (1, 3),
        ),
    ),
    _taken(
        "other_record",
        "RFC 3597, 3",
        "A record of a type that it does not know is passed over, not what is behind it.",
        _message(_ANSWER, (_NAME + _record(_UNKNOWN, b"abc") + _NAME + _ADDRESS, "$told_hex"), (1, 2)),
    ),
    _taken(
        "ttl_zero",
        "RFC 1035, 3.2.1",
        "An address that may not be kept (TTL 0) may be used.",
        _message(_ANSWER, (_NAME + _record(_A, size=4, ttl=0), "$told_hex")),
    ),
    Rule(
        "dns.truncated",
        "RFC 1123, 6.1.3.2; RFC 2181, 9; RFC 7766, 5",
        _SHOULD,
        "What was cut (TC) is asked for again by TCP, which each resolver MUST have.",
        (
            _ASKED,
            Tell((_message(_CUT, counts=(1, 0)),)),
            Ask((), {"Query.server": "$server", "Query.by": "TCP"}, within=_TAKEN_SECONDS),
        ),
        needs=(RESOLVER,),
    ),
    Rule(
        "dns.truncated_taken",
        "RFC 2181, 9",
        _SHOULD,
        "What was cut is not taken, though there is an address in it: it asks again, or for another name.",
        (
            _ASKED,
            Tell((_answer(address=_LIE, flags=_CUT),)),
            Ask(
                (),
                {"IP.dst": Either(("$server", "$stranger"))},
                {"IP.dst": "$server"},
                within=_SECONDS,
                given=True,
            ),
        ),
        needs=(RESOLVER, "told"),
    ),
)
_LONG = b"".join(bytes([63]) + b"a" * 63 for _ in range(5)) + b"\0"
_BROKEN = (
    _harmless(
        "pointers",
        "RFC 9267, 2",
        "Names that point to themselves, around in a circle or beyond the end do it no harm.",
        _answer("$dns_behind"),
        _message(_ANSWER, (b"\1a", "$dns_behind", _ADDRESS, "$told_hex")),
        _answer(b"\xff\xff"),
        _message(_ANSWER, (_NAME + _ADDRESS, "$told_hex"), question=_NAME + _IN_A),
    ),
    _harmless(
        "labels",
        "RFC 9267, 3 and 4",
        "Labels beyond the end or of no known kind, names of no end or of more than 255 bytes do it no harm.",
        _message(_ANSWER, (b"\x3faaaa",)),
        _message(_ANSWER, (b"\1a",)),
        _answer(_LONG),
        _answer(b"\x80a\0"),
    ),
    _harmless(
        "lengths",
        "RFC 9267, 5",
        "Data that end beyond the message, or are too short for their type, do it no harm.",
        _message(_ANSWER, (_NAME + _record(_A, size=0xFFFF), "$told_hex")),
        _message(_ANSWER, (_NAME + _record(_A),)),
        _message(_ANSWER, (_NAME + _record(_A, b"\x0a\0\2"),)),
        _message(_ANSWER, (_NAME + _record(_CNAME, b"\x3f"),)),
    ),
    _harmless(
        "counts",
        "RFC 9267, 6",
        "More records, or questions, than there are do it no harm.",
        _message(_ANSWER, counts=(1, 0xFFFF)),
        _message(_ANSWER, counts=(0xFFFF, 0xFFFF)),
        _message(_ANSWER, (_NAME,), (1, 1)),
    ),
    _harmless(
        "alias_loop",
        "RFC 1034, 3.6.2",
        "Aliases around in a circle, of two names and of one, do it no harm.",
        _message(_ANSWER, (_NAME + _record(_CNAME, _ALIAS) + _ALIAS + _record(_CNAME, _NAME),), (1, 2)),
        _message(_ANSWER, (_NAME + _record(_CNAME, _NAME),)),
    ),
    _harmless(
        "cut",
        "RFC 1035, 7.3",
        "Messages of 0 bytes, of less than a header, and of a header alone do it no harm.",
        _datagram(),
        _datagram("$dns_number", bytes(9)),
        _message(_ANSWER, question=b"", counts=(0, 0)),
        _message(_ANSWER, question=b""),
    ),
)
RULES = (*_QUERIES, *_REPEATED, *_MATCHED, *_READ, *_BROKEN)
"""The suite."""
