"""Fragments of IPv6 (RFC 8200, 4.5): put together however they come, and never what does not belong together."""

from __future__ import annotations

from dataclasses import replace

from rawtap.examine.rules import Ask, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames6 import ECHO, REPLY, ip, option, problem

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_TEXT = "0123456789abcdef" * 12 + "the end."
_FRAGMENT = {"layer": "IPv6ExtHdrFragment", "id": "$id"}
_WHOLE = Frame((ip(), _FRAGMENT, ECHO, {"layer": "Raw", "load": _TEXT}))
_OTHER = Frame((ip(), _FRAGMENT, ECHO | {"seq": 78}, {"layer": "Raw", "load": _TEXT}))
_BEFORE = Frame((ip(), _FRAGMENT | {"id": "$id+7"}, ECHO | {"seq": 76}, {"layer": "Raw", "load": _TEXT}))
_LARGEST = Frame((ip(), _FRAGMENT, ECHO, {"layer": "Raw", "load": {"hex": b"large".hex() * 290 + "2121"}}))


def _piece(at: int, size: int | None = None, whole: Frame = _WHOLE, **fields: object) -> Frame:
    """The fragment from that byte on; the last if no size is given. `fields` are its fragment header's."""
    header, fragment, *rest = whole.layers
    return replace(whole, layers=(header, {**fragment, **fields}, *rest), piece=(at, size, size is not None))


_GIVEN = Ask((_piece(0, 80, whole=_BEFORE), _piece(80, whole=_BEFORE)), REPLY, given=True)
"""In front: behind fragments that are left over, a stack with room for one packet would answer nothing."""


RULES = (
    Rule(
        "ipv6.fragments",
        "RFC 8200, 4.5",
        _MUST,
        "A packet in two fragments is put together.",
        (Ask((_piece(0, 80), _piece(80)), REPLY, {"ICMPv6EchoReply.data": _TEXT}),),
    ),
    Rule(
        "ipv6.fragments_reversed",
        "RFC 8200, 4.5",
        _MUST,
        "Fragments are put together in whatever order they come: the last first.",
        (Ask((_piece(80), _piece(0, 80)), REPLY, {"ICMPv6EchoReply.data": _TEXT}),),
    ),
    Rule(
        "ipv6.fragments_size",
        "RFC 8200, 5",
        _MUST,
        "A packet of 1500 bytes is taken in fragments.",
        (
            Ask(
                (_piece(0, 728, whole=_LARGEST), _piece(728, whole=_LARGEST)),
                {**REPLY, "IPv6.src": "$guest6"},
            ),
        ),
    ),
    Rule(
        "ipv6.fragments_identification",
        "RFC 8200, 4.5",
        _MUST,
        "Fragments of two identifications do not belong together.",
        (_GIVEN, Quiet((_piece(0, 80), _piece(80, id="$id+1")), (REPLY,))),
    ),
    Rule(
        "ipv6.fragments_overlap",
        "RFC 5722, 4; RFC 8200, 4.5",
        _MUST,
        "A packet whose fragments overlap is passed over, all of it.",
        (_GIVEN, Quiet((_piece(0, 80), _piece(72, 80), _piece(152)), (REPLY,))),
    ),
    Rule(
        "ipv6.fragment_atomic",
        "RFC 6946, 4; RFC 8200, 4.5",
        _MUST,
        "A packet that is one fragment, first and last, is taken.",
        (Ask((_WHOLE,), REPLY, {"ICMPv6EchoReply.data": _TEXT}),),
    ),
    Rule(
        "ipv6.fragment_atomic_apart",
        "RFC 6946, 4; RFC 8200, 4.5",
        _MUST,
        "A packet that is one fragment is taken by itself, whatever fragments of its identification are there.",
        (Ask((_piece(0, 80), _OTHER), {**REPLY, "ICMPv6EchoReply.seq": 78}, {"ICMPv6EchoReply.data": _TEXT}),),
    ),
    problem(
        "ipv6.fragment_length",
        "RFC 8200, 4.5",
        _SHOULD,
        "A fragment with more to follow of no multiple of 8 bytes: parameter problem, code 0, pointing to the length.",
        _piece(0, 77),
        0,
        4,
    ),
    problem(
        "ipv6.fragment_beyond",
        "RFC 8200, 4.5",
        _SHOULD,
        "A fragment beyond the 65535 bytes of a packet: parameter problem, code 0, pointing to its offset.",
        Frame((ip(), _FRAGMENT | {"nh": 58, "offset": 8190, "m": 0}, {"layer": "Raw", "load": _TEXT})),
        0,
        42,
    ),
    problem(
        "ipv6.fragment_headers",
        "RFC 8200, 4.5; RFC 7112, 5",
        _SHOULD,
        "A first fragment that ends before the upper layer's header: parameter problem, code 3.",
        Frame(
            (ip(), _FRAGMENT, option(0x1E), ECHO, {"layer": "Raw", "load": _TEXT}),
            piece=(0, 8, True),
        ),
        3,
        0,
    ),
)
"""These of the suite."""
