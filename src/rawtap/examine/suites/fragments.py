"""Fragments: put together however they come, and never what does not belong together."""

from __future__ import annotations

from dataclasses import replace

from rawtap.examine.rules import Ask, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames import ECHO, REPLY, ip

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_SIZE = 200  # bytes of data; 208 with ICMP's header
_TEXT = "0123456789abcdef" * 12 + "the end."
_WHOLE = Frame((ip(), ECHO, {"layer": "Raw", "load": _TEXT}))
_OTHER = Frame((ip(id="$id+1"), ECHO | {"seq": 78}, {"layer": "Raw", "load": _TEXT}))
_LARGE = Frame((ip(), ECHO, {"layer": "Raw", "load": "0123456789abcdef" * 200}))
_HOLLOW = Frame((ip(), ECHO, {"layer": "Raw", "load": {"hex": (b"x" * 72 + bytes(64) + b"x" * 64).hex()}}))
_HAS_ALL = {"Raw.load": _TEXT}
_RFC = "RFC 791, 3.2"


def _piece(
    at: int, size: int | None = None, *, more: bool | None = None, whole: Frame = _WHOLE, **fields: object
) -> Frame:
    """The fragment from that byte on; the last if no size is given. `fields` are its IP header's."""
    header, *rest = whole.layers
    return replace(
        whole, layers=({**header, **fields}, *rest), piece=(at, size, size is not None if more is None else more)
    )


_FIRST, _MIDDLE, _LAST = _piece(0, 80), _piece(80, 64), _piece(144)
_BEFORE = Frame((ip(id="$id+7"), ECHO | {"seq": 76}, {"layer": "Raw", "load": _TEXT}))
_GIVEN = Ask((_piece(0, 80, whole=_BEFORE), _piece(80, whole=_BEFORE)), REPLY, given=True)
"""In front: behind fragments that are left over, a stack with room for one packet would answer nothing."""


def _joined(name: str, says: str, *pieces: Frame) -> Rule:
    return Rule(name, _RFC, _MUST, says, (Ask(pieces, REPLY, _HAS_ALL),))


def _apart(name: str, says: str, *pieces: Frame) -> Rule:
    return Rule(name, _RFC, _MUST, says, (_GIVEN, Quiet(pieces, (REPLY,))))


RULES = (
    Rule(
        "fragments.two",
        "RFC 1122, 3.3.2",
        _MUST,
        "A packet in two fragments is put together.",
        (Ask((_piece(0, 80), _piece(80)), REPLY, _HAS_ALL),),
    ),
    _joined("fragments.three", "A packet in three fragments is put together.", _FIRST, _MIDDLE, _LAST),
    _joined(
        "fragments.reversed",
        "Fragments are put together in whatever order they come: the last first.",
        _LAST,
        _MIDDLE,
        _FIRST,
    ),
    _joined(
        "fragments.middle_last",
        "Fragments are put together in whatever order they come: the middle last.",
        _FIRST,
        _LAST,
        _MIDDLE,
    ),
    _joined("fragments.twice", "A fragment that comes twice is there once.", _FIRST, _FIRST, _MIDDLE, _LAST),
    _joined(
        "fragments.smallest",
        "Fragments of 8 bytes are put together.",
        *(_piece(at, 8) for at in range(0, 200, 8)),
        _piece(200),
    ),
    Rule(
        "fragments.mixed",
        _RFC,
        _SHOULD,
        "Fragments of two packets that come mixed are put together apart: no RFC asks for room for two.",
        (Ask((_FIRST, _piece(0, 80, whole=_OTHER), _piece(80), _piece(80, whole=_OTHER)), REPLY, _HAS_ALL),),
    ),
    _apart(
        "fragments.hole",
        "A packet that has a hole is not answered, even if zeros belong there.",
        _piece(0, 80, whole=_HOLLOW),
        _piece(144, whole=_HOLLOW),
    ),
    _apart("fragments.no_last", "A packet whose last fragment did not come is not answered.", _FIRST, _MIDDLE),
    _apart("fragments.no_first", "A packet whose first fragment did not come is not answered.", _MIDDLE, _LAST),
    _apart(
        "fragments.identification",
        "Fragments of two identifications do not belong together.",
        _FIRST,
        _piece(80, id="$id+1"),
    ),
    _apart("fragments.protocol", "Fragments of two protocols do not belong together.", _FIRST, _piece(80, proto=253)),
    Rule(
        "fragments.source",
        _RFC,
        _MUST,
        "Fragments from two hosts do not belong together.",
        (_GIVEN, Quiet((_FIRST, _piece(80, src="$stranger")), (REPLY, {"ARP.op": 1, "ARP.pdst": "$stranger"}))),
    ),
    _apart(
        "fragments.length",
        "A fragment with more to follow has a multiple of 8 bytes: of others no packet is made.",
        _piece(0, 77),
        _piece(77, 3, more=True),
        _piece(80),
    ),
    Rule(
        "fragments.beyond",
        "RFC 791, 3.1",
        _MUST,
        "Fragments beyond the 65535 bytes of a packet do it no harm.",
        (Quiet((_FIRST, Frame((ip(proto=1, frag=8190), {"layer": "Raw", "load": _TEXT}))), (REPLY,)),),
    ),
    Rule(
        "fragments.overlap",
        "RFC 1122, 3.3.2 and 1.2.2",
        _MUST,
        "Fragments that overlap, or lie within others, do it no harm.",
        (Quiet((_FIRST, _piece(40, 80), _piece(8, 16), _piece(0, 160), _LAST)),),
    ),
    Rule(
        "fragments.empty",
        "RFC 1122, 1.2.2",
        _MUST,
        "Fragments without data do it no harm.",
        (Quiet((_piece(0, 0, more=True), _piece(80, 0, more=True), _piece(208, 0, more=False))),),
    ),
    Rule(
        "fragments.answer",
        "RFC 1122, 3.3.2 and 3.2.2.6",
        _SHOULD,
        "A packet of more than 1500 bytes is answered, in fragments or cut, unless its buffer is set to less.",
        (
            Ask(
                (_piece(0, 1480, whole=_LARGE), _piece(1480, 1480, whole=_LARGE), _piece(2960, whole=_LARGE)),
                {"IP.src": "$guest", "IP.proto": 1, "IP.frag": 0, "ICMP.id": "$id"},
            ),
        ),
    ),
)
"""The suite."""
