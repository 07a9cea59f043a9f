"""ICMPv6 (RFC 4443): echoes, when an error is told and when not, and errors of packets that are too big (RFC 8201)."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, AtMost, Either, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames import DATA
from rawtap.examine.suites._frames6 import (
    ALL_NODES,
    ECHO,
    ERROR,
    GIVEN_ERROR,
    GIVEN_REPLY,
    REPLY,
    UNREACHABLE,
    echo,
    ip,
    udp,
)

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_LONG: dict[str, Any] = {"layer": "Raw", "load": "0123456789abcdef" * 87}

RULES = (
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
        "RFC 4443, 2.1 and 2.3",
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
                {"ICMPv6.type": 1, "Ether.dst": "$us_mac"},
                {
                    "ICMPv6.code": 4,
                    "IPv6.dst": "$us6",
                    "IPerror6.src": "$us6",
                    "UDPerror.sport": "$sport",
                    "UDPerror.dport": "$shut",
                },
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
                {
                    "IPerror6.src": "$us6",
                    "IPerror6.dst": "$guest6",
                    "IPerror6.hlim": 33,
                    "IPerror6.tc": 4,
                    "IPerror6.fl": 0x12345,
                },
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
            GIVEN_ERROR,
        ),
    ),
    Rule(
        "ipv6.error_for_group",
        "RFC 4443, 2.4 (e.3)",
        _MUST,
        "No error is told about what was sent to a group.",
        (Quiet((udp(link=ALL_NODES, dst="ff02::1"),), (ERROR,)), GIVEN_ERROR),
    ),
    Rule(
        "ipv6.error_for_link_group",
        "RFC 4443, 2.4 (e.4)",
        _MUST,
        "No error is told about what came in a frame to a group.",
        (Quiet((udp(link=ALL_NODES),), (ERROR,)), GIVEN_ERROR),
    ),
    Rule(
        "ipv6.error_for_nobody",
        "RFC 4443, 2.4 (e.6)",
        _MUST,
        "No error is told to an address that is no single host's.",
        (Quiet((udp(src="::"), udp(src="ff02::7261")), ({"ICMPv6.type": 1},)), GIVEN_ERROR),
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
"""These of the suite."""
