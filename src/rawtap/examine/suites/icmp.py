"""ICMP: echoes, and when an error is told and when not."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, Bits, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames import BROADCAST, DATA, ECHO, GIVEN_REPLY, REPLY, echo, ip, udp

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_ERROR = {"ICMP.type": 3, "IPerror.id": "$id"}
_PORT = {"layer": "UDP", "sport": "$sport", "dport": "$shut"}
_PROTOCOL = Frame((ip(proto=253), DATA))
_GIVEN_ERROR = Ask((udp(),), {**_ERROR, "ICMP.code": 3}, given=True)
_GIVEN_UNKNOWN = Ask((_PROTOCOL,), {**_ERROR, "ICMP.code": 2}, given=True)
_ODD = {"layer": "Raw", "load": "odd"}
_SERVICE = 0x1F  # without the precedence (RFC 1122, 3.2.1.6)


def _message(data: dict[str, Any] = DATA, **fields: Any) -> Frame:
    return Frame((ip(), {"layer": "ICMP"} | fields, data))


RULES = (
    Rule(
        "icmp.echo",
        "RFC 1122, 3.2.2.6",
        _MUST,
        "An echo request is answered by an echo reply, type 0.",
        (Ask((echo(),), {"ICMP.id": "$id"}, {"ICMP.type": 0}),),
    ),
    Rule(
        "icmp.echo_code",
        "RFC 792, Echo",
        _MUST,
        "An echo reply has code 0.",
        (Ask((echo(),), {"ICMP.type": 0}, {"ICMP.code": 0}),),
    ),
    Rule(
        "icmp.echo_identifier",
        "RFC 792, Echo",
        _MUST,
        "An echo reply has the identifier of its request.",
        (Ask((echo(),), {"ICMP.type": 0, "IP.dst": "$us"}, {"ICMP.id": "$id"}),),
    ),
    Rule(
        "icmp.echo_sequence",
        "RFC 792, Echo",
        _MUST,
        "An echo reply has the sequence number of its request.",
        (Ask((echo(),), {"ICMP.type": 0, "IP.dst": "$us"}, {"ICMP.seq": 77}),),
    ),
    Rule(
        "icmp.echo_data",
        "RFC 1122, 3.2.2.6",
        _MUST,
        "An echo reply has all data of its request.",
        (Ask((echo(),), REPLY, {"Raw.load": "$data"}),),
    ),
    Rule(
        "icmp.echo_empty",
        "RFC 792, Echo",
        _MUST,
        "An echo request without data is answered without data.",
        (Ask((Frame((ip(), ECHO)),), REPLY, {"IP.len": 28}),),
    ),
    Rule(
        "icmp.echo_odd",
        "RFC 792, Echo",
        _MUST,
        "An odd number of bytes is summed up right.",
        (Ask((echo(data=_ODD),), REPLY, {"Raw.load": "odd"}),),
    ),
    Rule(
        "icmp.echo_every",
        "RFC 1122, 3.2.2.6",
        _MUST,
        "Of several echo requests each is answered.",
        tuple(
            Ask((Frame((ip(), ECHO | {"seq": number}, DATA)),), {**REPLY, "ICMP.seq": number}) for number in range(1, 6)
        ),
    ),
    Rule(
        "icmp.checksum",
        "RFC 792, Echo; RFC 1071, 1",
        _MUST,
        "A message with a wrong checksum is passed over.",
        (Quiet((Frame((ip(), ECHO | {"chksum": 0x1234}, DATA)),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "icmp.unknown_type",
        "RFC 1122, 3.2.2",
        _MUST,
        "A message of a type that it does not know is passed over.",
        (Quiet((_message(type=200, code=0),), ({"IP.proto": 1, "IP.dst": "$us"},)), GIVEN_REPLY),
    ),
    Rule(
        "icmp.reply_unasked",
        "RFC 792, Echo",
        _MUST,
        "An echo reply is not answered.",
        (Quiet((Frame((ip(), ECHO | {"type": 0}, DATA)),), ({"IP.proto": 1, "IP.dst": "$us"},)), GIVEN_REPLY),
    ),
    Rule(
        "icmp.cut",
        "RFC 1122, 1.2.2",
        _MUST,
        "A message of less than its 8 bytes does it no harm.",
        (Quiet((Frame((ip(proto=1), {"layer": "Raw", "load": {"hex": "0800f7ff"}})),)),),
    ),
    Rule(
        "icmp.address_mask",
        "RFC 1122, 3.2.2.9",
        _MUST,
        "It is no authority for address masks, and tells none.",
        (
            Quiet(
                (Frame((ip(proto=1), {"layer": "Raw", "load": {"hex": "1100eeff0000000000000000"}})),),
                ({"ICMP.type": 18},),
            ),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "icmp.information",
        "RFC 1122, 3.2.2.7",
        _SHOULD,
        "Information requests are not answered.",
        (Quiet((_message(type=15, code=0),), ({"ICMP.type": 16},)), GIVEN_REPLY),
    ),
    Rule(
        "icmp.source_quench",
        "RFC 6633, 3; RFC 1122, 3.2.2",
        _MUST,
        "A source quench is passed over.",
        (
            Quiet(
                (Frame((ip(), {"layer": "ICMP", "type": 4}, ip(src="$guest", dst="$us"), _PORT)),),
                ({"IP.proto": 1, "IP.dst": "$us"},),
            ),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "icmp.protocol_unreachable",
        "RFC 1122, 3.2.2.1",
        _SHOULD,
        "A protocol that it does not have is told: unreachable, code 2.",
        (Ask((_PROTOCOL,), _ERROR, {"ICMP.code": 2, "IP.src": "$guest"}),),
    ),
    Rule(
        "icmp.error_quotes",
        "RFC 1122, 3.2.2",
        _MUST,
        "An error quotes the IP header and 8 bytes of what it is about.",
        (
            Ask(
                (udp(),),
                _ERROR,
                {
                    "IPerror.src": "$us",
                    "IPerror.dst": "$guest",
                    "IPerror.proto": 17,
                    "UDPerror.sport": "$sport",
                    "UDPerror.dport": "$shut",
                },
                given=True,
            ),
        ),
    ),
    Rule(
        "icmp.error_unchanged",
        "RFC 1122, 3.2.2",
        _MUST,
        "What an error quotes is as it was received.",
        (
            Ask(
                (udp(ttl=33, tos=4),),
                {"ICMP.type": 3, "ICMP.code": 3, "UDPerror.sport": "$sport"},
                {"IPerror.id": "$id", "IPerror.len": 58, "IPerror.ttl": 33, "IPerror.tos": 4},
                given=True,
            ),
        ),
    ),
    Rule(
        "icmp.error_destination",
        "RFC 1122, 3.2.2",
        _MUST,
        "An error is sent to the source of what it is about.",
        (Ask((udp(),), _ERROR, {"IP.dst": "$us"}, given=True),),
    ),
    Rule(
        "icmp.error_unused",
        "RFC 792, Message Formats",
        _MUST,
        "What an error does not use is 0.",
        (Ask((udp(),), _ERROR, {"ICMP.reserved": 0, "ICMP.nexthopmtu": 0}, given=True),),
    ),
    Rule(
        "icmp.error_service",
        "RFC 1122, 3.2.2",
        _SHOULD,
        "An error is sent with the type of service 0: the byte's last five bits, not the precedence.",
        (Ask((udp(),), _ERROR, {"IP.tos": Bits(0, _SERVICE)}, given=True),),
    ),
    Rule(
        "icmp.error_for_error",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told about an error.",
        (
            Quiet(
                (Frame((ip(), {"layer": "ICMP", "type": 3, "code": 77}, ip(src="$guest", dst="$us"), _PORT)),),
                ({"IP.proto": 1, "IP.dst": "$us"},),
            ),
            _GIVEN_ERROR,
        ),
    ),
    Rule(
        "icmp.error_for_broadcast",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told about what was sent to everybody.",
        (Quiet((udp(dst="$broadcast"), udp(dst="255.255.255.255")), ({"ICMP.type": 3},)), _GIVEN_ERROR),
    ),
    Rule(
        "icmp.error_for_group",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told about what was sent to a group.",
        (
            Quiet(
                (Frame(({"layer": "Ether", "dst": "01:00:5e:00:00:01"}, ip(dst="224.0.0.1"), _PORT, DATA)),),
                ({"ICMP.type": 3},),
            ),
            _GIVEN_ERROR,
        ),
    ),
    Rule(
        "icmp.error_for_link_broadcast",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told about what came in a frame to everybody.",
        (Quiet((Frame(({"layer": "Ether", "dst": BROADCAST}, ip(), _PORT, DATA)),), ({"ICMP.type": 3},)), _GIVEN_ERROR),
    ),
    Rule(
        "icmp.error_for_fragment",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told about a fragment but the first.",
        (Quiet((Frame((ip(proto=253, frag=8), DATA)),), ({"ICMP.type": 3},)), _GIVEN_UNKNOWN),
    ),
    Rule(
        "icmp.error_for_nobody",
        "RFC 1122, 3.2.2",
        _MUST,
        "No error is told to an address that is no single host's.",
        (
            Quiet((udp(src="224.0.0.9"), udp(src="255.255.255.255"), udp(src="127.0.0.1")), ({"ICMP.type": 3},)),
            _GIVEN_ERROR,
        ),
    ),
)
"""The suite."""
