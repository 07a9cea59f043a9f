"""IPv6: headers, fragments and ICMPv6 (RFC 8200, 4443), and what a host says to its link (`_discovery`,
`_addresses`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, AtMost, Either, Fields, Frame, Level, Quiet, Rule
from rawtap.examine.suites import _addresses, _discovery
from rawtap.examine.suites._frames import DATA
from rawtap.examine.suites._frames6 import (
    ALL_NODES,
    ECHO,
    ERROR,
    GIVEN_REPLY,
    REPLY,
    UNREACHABLE,
    echo,
    ip,
    udp,
)

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_UNKNOWN = 253  # a protocol for experiments, RFC 3692
_TEXT = "0123456789abcdef" * 12 + "the end."
_LONG: dict[str, Any] = {"layer": "Raw", "load": "0123456789abcdef" * 87}
_GIVEN_ERROR = Ask((udp(),), UNREACHABLE, given=True)
_PROBLEM: Fields = {"ICMPv6.type": 4, "IPerror6.src": "$us6"}
_PADDING = {"layer": "PadN", "optdata": {"hex": "00000000"}}
_FRAGMENT = {"layer": "IPv6ExtHdrFragment", "id": "$id"}
_WHOLE = Frame((ip(), _FRAGMENT, ECHO, {"layer": "Raw", "load": _TEXT}))
_OTHER = Frame((ip(), _FRAGMENT, ECHO | {"seq": 78}, {"layer": "Raw", "load": _TEXT}))
_BEFORE = Frame((ip(), _FRAGMENT | {"id": "$id+7"}, ECHO | {"seq": 76}, {"layer": "Raw", "load": _TEXT}))
_LARGEST = Frame((ip(), _FRAGMENT, ECHO, {"layer": "Raw", "load": {"hex": b"large".hex() * 290 + "2121"}}))


def _option(kind: int) -> dict[str, Any]:
    """A header of destination options with one that nobody knows."""
    options = [{"layer": "HBHOptUnknown", "otype": kind, "optdata": {"hex": "00000000"}}]
    return {"layer": "IPv6ExtHdrDestOpt", "options": options}


def _piece(at: int, size: int | None = None, whole: Frame = _WHOLE, **fields: object) -> Frame:
    """The fragment from that byte on; the last if no size is given. `fields` are its fragment header's."""
    header, fragment, *rest = whole.layers
    return replace(whole, layers=(header, {**fragment, **fields}, *rest), piece=(at, size, size is not None))


_GIVEN = Ask((_piece(0, 80, whole=_BEFORE), _piece(80, whole=_BEFORE)), REPLY, given=True)
"""In front: behind fragments that are left over, a stack with room for one packet would answer nothing."""


def _problem(name: str, source: str, level: Level, says: str, frame: Frame, code: int, pointer: int) -> Rule:
    wanted = {"ICMPv6.code": code, "ICMPv6ParamProblem.ptr": pointer, "IPv6.dst": "$us6"}
    return Rule(name, source, level, says, (Ask((frame,), _PROBLEM, wanted),))


_HEADERS = (
    Rule(
        "ipv6.version",
        "RFC 8200, 3",
        _MUST,
        "A header with another version than 6 is passed over.",
        (Quiet((echo(version=4),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.length_beyond",
        "RFC 8200, 3",
        _MUST,
        "A payload length beyond the frame's end is passed over.",
        (Quiet((echo(plen=60),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.length_inside",
        "RFC 8200, 3",
        _MUST,
        "What is behind the payload length is no part of the packet.",
        (Ask((echo(pad=120),), REPLY, {"ICMPv6EchoReply.data": "$data"}),),
    ),
    Rule(
        "ipv6.hop_limit_zero",
        "RFC 8200, 3",
        _SHOULD,
        "What has arrived is taken with a hop limit of 0.",
        (Ask((echo(hlim=0),), REPLY),),
    ),
    Rule(
        "ipv6.flow_label",
        "RFC 8200, 6 and 7",
        _MUST,
        "A packet of any traffic class and flow label is taken.",
        (Ask((echo(tc=0xB8, fl=0x12345),), REPLY),),
    ),
    Rule(
        "ipv6.source_group",
        "RFC 4291, 2.7",
        _MUST,
        "A group's address as the source is not answered.",
        (Quiet((echo(src="ff02::7261"), echo(src="ff02::1", seq=78)), ({"ICMPv6.type": 129},)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.loopback",
        "RFC 4291, 2.5.3",
        _MUST,
        "::1 is nobody's address on a wire, neither the source nor the destination.",
        (Quiet((echo(dst="::1"), echo(src="::1", seq=78)), ({"ICMPv6.type": 129},)), GIVEN_REPLY),
    ),
    _problem(
        "ipv6.next_header",
        "RFC 8200, 4",
        _SHOULD,
        "A next header that it does not know is told: parameter problem, code 1, pointing there.",
        Frame((ip(nh=_UNKNOWN), DATA)),
        1,
        6,
    ),
    Rule(
        "ipv6.no_next_header",
        "RFC 8200, 4.7",
        _MUST,
        "Next header 59 says that nothing follows: nothing is told about it.",
        (Quiet((Frame((ip(nh=59), DATA)),), (ERROR,)), _GIVEN_ERROR),
    ),
    Rule(
        "ipv6.hop_by_hop",
        "RFC 8200, 4.2 and 4.3",
        _MUST,
        "Hop-by-hop options that are padding are taken.",
        (
            Ask(
                (echo({"layer": "IPv6ExtHdrHopByHop", "options": [_PADDING]}),),
                REPLY,
            ),
        ),
    ),
    Rule(
        "ipv6.hop_by_hop_place",
        "RFC 8200, 4",
        _MUST,
        "Hop-by-hop options anywhere but behind the IPv6 header are no next header that is known: it is not answered.",
        (Quiet((echo(_option(0x1E), {"layer": "IPv6ExtHdrHopByHop"}),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.option_skip",
        "RFC 8200, 4.2",
        _MUST,
        "An option that it does not know, whose type begins with bits 00, is passed over, not its packet.",
        (Ask((echo(_option(0x1E)),), REPLY, {"ICMPv6EchoReply.data": "$data"}),),
    ),
    Rule(
        "ipv6.option_discard",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 01: the packet is passed over, and nothing is told.",
        (Quiet((echo(_option(0x5E)),), (REPLY, ERROR)), GIVEN_REPLY),
    ),
    _problem(
        "ipv6.option_problem",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 10: a parameter problem, code 2, pointing to the option's type, is told.",
        echo(_option(0x9E)),
        2,
        42,
    ),
    _problem(
        "ipv6.option_problem_group",
        "RFC 8200, 4.2; RFC 4443, 2.4 (e)",
        _MUST,
        "Bits 10: it is told even where the packet was sent to a group.",
        echo(_option(0x9E), link=ALL_NODES, dst="ff02::1"),
        2,
        42,
    ),
    _problem(
        "ipv6.option_problem_one",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 11: a parameter problem, code 2, is told where the packet was sent to it alone.",
        echo(_option(0xDE)),
        2,
        42,
    ),
    Rule(
        "ipv6.option_discard_group",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 11: nothing is told, nor answered, where the packet was sent to a group.",
        (Quiet((echo(_option(0xDE), link=ALL_NODES, dst="ff02::1"),), (REPLY, ERROR)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.routing_done",
        "RFC 8200, 4.4",
        _MUST,
        "A routing header of an unknown type with no segments left is passed over, not its packet.",
        (Ask((echo({"layer": "IPv6ExtHdrRouting", "type": 200, "segleft": 0}),), REPLY),),
    ),
    _problem(
        "ipv6.routing_zero",
        "RFC 5095, 3; RFC 8200, 4.4",
        _MUST,
        "A routing header of type 0 with a segment left is told as unknown: parameter problem, code 0, pointing to it.",
        echo({"layer": "IPv6ExtHdrRouting", "type": 0, "segleft": 1, "addresses": ["$nobody6"]}),
        0,
        42,
    ),
    Rule(
        "ipv6.routing_zero_followed",
        "RFC 5095, 3",
        _MUST,
        "A routing header of type 0 is not followed.",
        (
            Quiet(
                (echo({"layer": "IPv6ExtHdrRouting", "type": 0, "segleft": 1, "addresses": ["$nobody6"]}),),
                ({"IPv6.dst": "$nobody6"}, {"ICMPv6ND_NS.tgt": "$nobody6"}),
            ),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "ipv6.udp_no_checksum",
        "RFC 8200, 8.1",
        _MUST,
        "UDP without a checksum is passed over.",
        (Quiet((udp(header={"chksum": 0}),), (ERROR,)), _GIVEN_ERROR),
    ),
)

_FRAGMENTS = (
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
    _problem(
        "ipv6.fragment_length",
        "RFC 8200, 4.5",
        _SHOULD,
        "A fragment with more to follow of no multiple of 8 bytes: parameter problem, code 0, pointing to the length.",
        _piece(0, 77),
        0,
        4,
    ),
    _problem(
        "ipv6.fragment_beyond",
        "RFC 8200, 4.5",
        _SHOULD,
        "A fragment beyond the 65535 bytes of a packet: parameter problem, code 0, pointing to its offset.",
        Frame((ip(), _FRAGMENT | {"nh": 58, "offset": 8190, "m": 0}, {"layer": "Raw", "load": _TEXT})),
        0,
        42,
    ),
    _problem(
        "ipv6.fragment_headers",
        "RFC 8200, 4.5; RFC 7112, 5",
        _SHOULD,
        "A first fragment that ends before the upper layer's header: parameter problem, code 3.",
        Frame(
            (ip(), _FRAGMENT, _option(0x1E), ECHO, {"layer": "Raw", "load": _TEXT}),
            piece=(0, 8, True),
        ),
        3,
        0,
    ),
)

_MESSAGES = (
    Rule(
        "ipv6.echo",
        "RFC 4443, 4.2",
        _MUST,
        "An echo request is answered by an echo reply, with code 0, its identifier and sequence number.",
        (
            Ask(
                (echo(),),
                {"ICMPv6.type": 129, "IPv6.dst": "$us6"},
                {"ICMPv6.code": 0, "ICMPv6EchoReply.id": "$id", "ICMPv6EchoReply.seq": 77},
            ),
        ),
    ),
    Rule(
        "ipv6.echo_data",
        "RFC 4443, 4.2",
        _MUST,
        "An echo reply has all data of its request.",
        (Ask((echo(),), REPLY, {"ICMPv6EchoReply.data": "$data"}),),
    ),
    Rule(
        "ipv6.echo_source",
        "RFC 4443, 4.2",
        _MUST,
        "An echo reply comes from the address that was asked.",
        (Ask((echo(),), REPLY, {"IPv6.src": "$guest6"}),),
    ),
    Rule(
        "ipv6.echo_group",
        "RFC 4443, 4.2",
        _SHOULD,
        "An echo request to all nodes is answered.",
        (Ask((echo(link=ALL_NODES, dst="ff02::1"),), REPLY),),
    ),
    Rule(
        "ipv6.checksum",
        "RFC 4443, 2.3",
        _MUST,
        "A message with a wrong checksum is passed over.",
        (Quiet((Frame((ip(), ECHO | {"cksum": 0x1234}, DATA)),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.unknown_type",
        "RFC 4443, 2.4 (b)",
        _MUST,
        "An informational message of a type that it does not know is passed over.",
        (
            Quiet(
                (Frame((ip(), {"layer": "ICMPv6Unknown", "type": 200, "msgbody": "$data"})),),
                (ERROR, {"ICMPv6.type": Either((129, 200, 201)), "IPv6.dst": "$us6"}),
            ),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "ipv6.port_unreachable",
        "RFC 4443, 3.1",
        _SHOULD,
        "A port of UDP without a listener is told: unreachable, code 4.",
        (
            Ask(
                (udp(),),
                {"ICMPv6.type": 1, "IPerror6.src": "$us6"},
                {"ICMPv6.code": 4, "IPv6.dst": "$us6", "UDPerror.sport": "$sport", "UDPerror.dport": "$shut"},
            ),
        ),
    ),
    Rule(
        "ipv6.error_size",
        "RFC 4443, 2.4 (c)",
        _MUST,
        "An error quotes as much of its packet as fits into 1280 bytes.",
        (Ask((udp(data=_LONG),), UNREACHABLE, {"IPv6.plen": 1240}, given=True),),
    ),
    Rule(
        "ipv6.error_unchanged",
        "RFC 4443, 2.4 (c)",
        _MUST,
        "What an error quotes is as it was received.",
        (
            Ask(
                (udp(hlim=33, tc=4, fl=0x12345),),
                UNREACHABLE,
                {"IPerror6.dst": "$guest6", "IPerror6.hlim": 33, "IPerror6.tc": 4, "IPerror6.fl": 0x12345},
                given=True,
            ),
        ),
    ),
    Rule(
        "ipv6.error_for_error",
        "RFC 4443, 2.4 (e.1)",
        _MUST,
        "No error is told about an error.",
        (
            Quiet(
                (
                    Frame(
                        (
                            ip(),
                            {"layer": "ICMPv6DestUnreach", "code": 77},
                            ip(src="$guest6", dst="$us6"),
                            {"layer": "UDP", "sport": "$shut", "dport": "$sport"},
                        )
                    ),
                    Frame((ip(), {"layer": "ICMPv6Unknown", "type": 100, "msgbody": "$data"})),
                ),
                (ERROR,),
            ),
            _GIVEN_ERROR,
        ),
    ),
    Rule(
        "ipv6.error_for_group",
        "RFC 4443, 2.4 (e.3)",
        _MUST,
        "No error is told about what was sent to a group.",
        (Quiet((udp(link=ALL_NODES, dst="ff02::1"),), (ERROR,)), _GIVEN_ERROR),
    ),
    Rule(
        "ipv6.error_for_link_group",
        "RFC 4443, 2.4 (e.4)",
        _MUST,
        "No error is told about what came in a frame to a group.",
        (Quiet((udp(link=ALL_NODES),), (ERROR,)), _GIVEN_ERROR),
    ),
    Rule(
        "ipv6.error_for_nobody",
        "RFC 4443, 2.4 (e.6)",
        _MUST,
        "No error is told to an address that is no single host's.",
        (Quiet((udp(src="::"), udp(src="ff02::7261")), ({"ICMPv6.type": 1},)), _GIVEN_ERROR),
    ),
    Rule(
        "ipv6.too_big",
        "RFC 8201, 4",
        _MUST,
        "After a message that 1400 bytes are too many, and 1280 are not, it sends no larger packet there.",
        (
            Ask((echo(data=_LONG, seq=76),), REPLY, given=True),
            Quiet(
                (
                    Frame(
                        (
                            ip(),
                            {"layer": "ICMPv6PacketTooBig", "mtu": 1280},
                            ip(src="$guest6", dst="$us6", plen=1400),
                            ECHO | {"layer": "ICMPv6EchoReply", "seq": 76},
                            {"layer": "Raw", "load": "0123456789abcdef" * 60},
                        )
                    ),
                ),
            ),
            Ask(
                (echo(data=_LONG),),
                {**REPLY, "ICMPv6EchoReply.seq": 77},
                {"IPv6.plen": AtMost(1240), "IPv6ExtHdrFragment.offset": 0},
            ),
        ),
    ),
    Rule(
        "ipv6.too_big_small",
        "RFC 8201, 4",
        _MUST,
        "A message that only less than 1280 bytes may be sent is passed over: no packet below that is cut for it.",
        (
            Ask((echo(seq=76),), REPLY, given=True),
            Quiet(
                (
                    Frame(
                        (
                            ip(),
                            {"layer": "ICMPv6PacketTooBig", "mtu": 600},
                            ip(src="$guest6", dst="$us6"),
                            ECHO | {"layer": "ICMPv6EchoReply", "seq": 76},
                            DATA,
                        )
                    ),
                ),
            ),
            Ask(
                (echo(data={"layer": "Raw", "load": "0123456789abcdef" * 60}),),
                {**REPLY, "ICMPv6EchoReply.seq": 77},
                {"IPv6ExtHdrFragment.offset": None},
            ),
        ),
    ),
)

RULES = (*_HEADERS, *_FRAGMENTS, *_MESSAGES, *_discovery.RULES, *_addresses.RULES)
"""The suite."""
