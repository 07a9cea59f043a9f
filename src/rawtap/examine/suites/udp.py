"""UDP at a port that nobody listens on: that the datagram was read shows in the error, or in that there is none."""

from __future__ import annotations

from rawtap.examine.rules import Ask, Level, Quiet, Rule
from rawtap.examine.suites._frames import raw, udp

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_ERROR = {"ICMP.type": 3, "ICMP.code": 3, "IPerror.id": "$id"}
_GIVEN = Ask((udp(),), _ERROR, given=True)
_LONG = {"layer": "Raw", "load": "0123456789abcdef" * 92}

RULES = (
    Rule(
        "udp.port_unreachable",
        "RFC 1122, 4.1.3.1",
        _SHOULD,
        "A port without a listener is told: unreachable, code 3.",
        (Ask((udp(),), {"ICMP.type": 3, "IPerror.id": "$id"}, {"ICMP.code": 3, "IP.src": "$guest"}),),
    ),
    Rule(
        "udp.error_ports",
        "RFC 1122, 3.2.2",
        _MUST,
        "The error has the ports as they came, not exchanged.",
        (Ask((udp(),), _ERROR, {"UDPerror.sport": "$sport", "UDPerror.dport": "$shut"}, given=True),),
    ),
    Rule(
        "udp.checksum",
        "RFC 1122, 4.1.3.4",
        _MUST,
        "A datagram with a wrong checksum is passed over.",
        (Quiet((udp(header={"chksum": 0x1234}),), (_ERROR,)), _GIVEN),
    ),
    Rule(
        "udp.no_checksum",
        "RFC 768",
        _MUST,
        "A checksum of 0 says that there is none: the datagram is taken.",
        (Ask((udp(header={"chksum": 0}),), _ERROR, control=_GIVEN),),
    ),
    Rule(
        "udp.odd",
        "RFC 768",
        _MUST,
        "A datagram with an odd number of bytes is summed up right, and taken.",
        (Ask((udp(data=raw(b"odd")),), _ERROR, control=_GIVEN),),
    ),
    Rule(
        "udp.empty",
        "RFC 768",
        _MUST,
        "A datagram without data is taken.",
        (Ask((udp(data=raw(b"")),), _ERROR, control=_GIVEN),),
    ),
    Rule(
        "udp.full",
        "RFC 1122, 3.3.2",
        _SHOULD,
        "A datagram as long as the link lets it be is taken.",
        (Ask((udp(data=_LONG),), _ERROR, control=_GIVEN),),
    ),
    Rule(
        "udp.no_source_port",
        "RFC 768",
        _MUST,
        "A source port of 0 says that there is none: the datagram is taken.",
        (Ask((udp(header={"sport": 0}),), _ERROR, control=_GIVEN),),
    ),
    Rule(
        "udp.length_short",
        "RFC 768; RFC 1122, 1.2.2",
        _SHOULD,
        "A length below the header's 8 bytes is passed over.",
        (Quiet((udp(header={"len": 7, "chksum": 0}), udp(header={"len": 0, "chksum": 0})), (_ERROR,)), _GIVEN),
    ),
    Rule(
        "udp.length_beyond",
        "RFC 768; RFC 1122, 1.2.2",
        _SHOULD,
        "A length beyond the packet's end is passed over.",
        (Quiet((udp(header={"len": 400, "chksum": 0}),), (_ERROR,)), _GIVEN),
    ),
    Rule(
        "udp.cut",
        "RFC 1122, 1.2.2",
        _MUST,
        "A packet with less than a header of UDP's does it no harm.",
        (Quiet((udp(len=24),)),),
    ),
)
"""The suite."""
