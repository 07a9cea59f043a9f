"""Headers of IPv6, their options, and routing headers (RFC 8200): what is taken, passed over, and told as a problem."""

from __future__ import annotations

from rawtap.examine.rules import Ask, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames import DATA
from rawtap.examine.suites._frames6 import (
    ALL_NODES,
    ERROR,
    GIVEN_ERROR,
    GIVEN_REPLY,
    REPLY,
    echo,
    ip,
    option,
    problem,
    udp,
)

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_UNKNOWN = 253  # a protocol for experiments, RFC 3692
_PADDING = {"layer": "PadN", "optdata": {"hex": "00000000"}}

RULES = (
    Rule(
        "ipv6.version",
        "RFC 8200, 3; RFC 4443, 3.4",
        _MUST,
        "A header with another version than 6 is passed over.",
        (Quiet((echo(version=4),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.length_beyond",
        "RFC 8200, 3; RFC 4443, 3.4",
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
        "RFC 8200, 6 and 7; RFC 2474, 3",
        _MUST,
        "A packet of any traffic class and flow label is taken.",
        (Ask((echo(tc=0xB8, fl=0x12345),), REPLY),),
    ),
    Rule(
        "ipv6.source_group",
        "RFC 4291, 2.7",
        _SHOULD,
        "A group's address as the source, which none may have, is not answered.",
        (Quiet((echo(src="ff02::7261"), echo(src="ff02::1", seq=78)), ({"ICMPv6.type": 129},)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.loopback",
        "RFC 4291, 2.5.3",
        _MUST,
        "::1 is nobody's address on a wire, neither the source nor the destination.",
        (Quiet((echo(dst="::1"), echo(src="::1", seq=78)), ({"ICMPv6.type": 129},)), GIVEN_REPLY),
    ),
    problem(
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
        (Quiet((Frame((ip(nh=59), DATA)),), (ERROR,)), GIVEN_ERROR),
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
        _SHOULD,
        "Hop-by-hop options anywhere but behind the IPv6 header are no next header that is known: it is not answered.",
        (Quiet((echo(option(0x1E), {"layer": "IPv6ExtHdrHopByHop"}),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.option_skip",
        "RFC 8200, 4.2",
        _MUST,
        "An option that it does not know, whose type begins with bits 00, is passed over, not its packet.",
        (Ask((echo(option(0x1E)),), REPLY, {"ICMPv6EchoReply.data": "$data"}),),
    ),
    Rule(
        "ipv6.option_discard",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 01: the packet is passed over, and nothing is told.",
        (Quiet((echo(option(0x5E)),), (REPLY, ERROR)), GIVEN_REPLY),
    ),
    problem(
        "ipv6.option_problem",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 10: a parameter problem, code 2, pointing to the option's type, is told.",
        echo(option(0x9E)),
        2,
        42,
    ),
    problem(
        "ipv6.option_problem_group",
        "RFC 8200, 4.2; RFC 4443, 2.4 (e.3)",
        _MUST,
        "Bits 10: it is told even where the packet was sent to a group.",
        echo(option(0x9E), link=ALL_NODES, dst="ff02::1"),
        2,
        42,
    ),
    problem(
        "ipv6.option_problem_one",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 11: a parameter problem, code 2, is told where the packet was sent to it alone.",
        echo(option(0xDE)),
        2,
        42,
    ),
    Rule(
        "ipv6.option_discard_group",
        "RFC 8200, 4.2",
        _MUST,
        "Bits 11: nothing is told, nor answered, where the packet was sent to a group.",
        (Quiet((echo(option(0xDE), link=ALL_NODES, dst="ff02::1"),), (REPLY, ERROR)), GIVEN_REPLY),
    ),
    Rule(
        "ipv6.routing_done",
        "RFC 8200, 4.4",
        _MUST,
        "A routing header of an unknown type with no segments left is passed over, not its packet.",
        (Ask((echo({"layer": "IPv6ExtHdrRouting", "type": 200, "segleft": 0}),), REPLY),),
    ),
    problem(
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
        (Quiet((udp(header={"chksum": 0}),), (ERROR,)), GIVEN_ERROR),
    ),
)
"""These of the suite."""
