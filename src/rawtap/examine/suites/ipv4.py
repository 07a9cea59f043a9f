"""IPv4: which datagrams are taken and which passed over, and what the headers of answers say."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, AtLeast, Bits, Level, Quiet, Rule
from rawtap.examine.suites._frames import GIVEN_REPLY, REPLY, echo, raw

_MUST = Level.MUST
_FORMAT = "RFC 791, 3.1; RFC 1122, 3.1"
_UNKNOWN_OPTION = raw(bytes.fromhex("9a0600000000"))
_NOTHING = raw(bytes.fromhex("01010100"))
_LENGTHS = tuple(raw(bytes.fromhex(option)) for option in ("82000000", "07010400", "07280400"))  # 0, 1, beyond the end
_LARGE = {"layer": "Raw", "load": "0123456789abcdef" * 34 + "last"}
_FULL = {"layer": "Raw", "load": "0123456789abcdef" * 92}


def _passed_over(name: str, source: str, says: str, **fields: Any) -> Rule:
    """An echo request that is not answered for what its IP header has, though one without that is."""
    asks = {"ARP.op": 1, "ARP.pdst": fields.get("src", "0.0.0.0")}  # noqa: S104 - nobody asks for it
    return Rule(name, source, _MUST, says, (Quiet((echo(**fields),), (REPLY, asks)), GIVEN_REPLY))


def _taken(name: str, source: str, says: str, **fields: Any) -> Rule:
    """One that is answered with what its IP header has."""
    return Rule(name, source, _MUST, says, (Ask((echo(**fields),), REPLY),))


RULES = (
    Rule(
        "ipv4.reply_source",
        "RFC 1122, 3.2.2.6",
        _MUST,
        "An answer comes from the address that was asked.",
        (Ask((echo(),), REPLY, {"IP.src": "$guest"}),),
    ),
    Rule(
        "ipv4.reply_destination",
        "RFC 792, Echo",
        _MUST,
        "An answer goes to the address that asked.",
        (Ask((echo(),), REPLY, {"IP.dst": "$us"}),),
    ),
    Rule(
        "ipv4.reply_version",
        "RFC 791, 3.1",
        _MUST,
        "What it sends has version 4, and a header of 5 words at least.",
        (Ask((echo(),), {"ICMP.id": "$id"}, {"IP.version": 4, "IP.ihl": AtLeast(5)}),),
    ),
    Rule(
        "ipv4.reply_length",
        "RFC 791, 3.1",
        _MUST,
        "The total length is that of header and data.",
        (Ask((echo(),), REPLY, {"IP.len": 58}),),
    ),
    Rule(
        "ipv4.reply_ttl",
        "RFC 1122, 3.2.1.7",
        _MUST,
        "What it sends has a time to live of more than 0.",
        (Ask((echo(),), REPLY, {"IP.ttl": AtLeast(1)}),),
    ),
    Rule(
        "ipv4.reply_flags",
        "RFC 791, 3.1",
        _MUST,
        "The flags' first bit, which nobody uses, is 0; a whole packet has no MF.",
        (Ask((echo(),), REPLY, {"IP.flags": Bits(0, 5), "IP.frag": 0}),),
    ),
    Rule(
        "ipv4.reply_checksum",
        "RFC 791, 3.1",
        _MUST,
        "Header checksums are right in what it sends.",
        (Ask((echo(),), REPLY),),
    ),
    _passed_over("ipv4.checksum", "RFC 1122, 3.2.1.2", "A header with a wrong checksum is passed over.", chksum=0x1234),
    _passed_over("ipv4.version", "RFC 1122, 3.2.1.1", "Another version than 4 is passed over.", version=5),
    _passed_over("ipv4.header_short", _FORMAT, "A header length below 5 words is passed over.", ihl=4),
    _passed_over(
        "ipv4.header_long", _FORMAT, "A header that is longer than its packet is passed over.", ihl=15, len=58
    ),
    _passed_over("ipv4.length_beyond", _FORMAT, "A total length beyond the frame's end is passed over.", len=400),
    _passed_over("ipv4.length_short", _FORMAT, "A total length below the header's is passed over.", len=12),
    _passed_over(
        "ipv4.length_inside", "RFC 791, 3.1", "What is behind the total length is no part of the packet.", len=24
    ),
    _passed_over(
        "ipv4.destination_other", "RFC 1122, 3.2.1.3", "What is for another address is passed over.", dst="$nobody"
    ),
    _passed_over(
        "ipv4.destination_loopback", "RFC 1122, 3.2.1.3", "127.0.0.1 is nobody's address on a wire.", dst="127.0.0.1"
    ),
    _passed_over(
        "ipv4.source_broadcast",
        "RFC 1122, 3.2.1.3",
        "A broadcast address as the source is passed over.",
        src="255.255.255.255",
    ),
    Rule(
        "ipv4.source_subnet_broadcast",
        "RFC 1122, 3.2.1.3",
        _MUST,
        "The subnet's broadcast address as the source is passed over.",
        (Quiet((echo(src="$broadcast"),), (REPLY,)), GIVEN_REPLY),
        linux="looks a source up in its routes only with net.ipv4.conf.*.rp_filter (fib_validate_source, "
        "net/ipv4/fib_frontend.c)",
    ),
    _passed_over(
        "ipv4.source_multicast", "RFC 1122, 3.2.1.3", "A group's address as the source is passed over.", src="224.0.0.9"
    ),
    _passed_over(
        "ipv4.source_loopback", "RFC 1122, 3.2.1.3", "127.0.0.1 as the source is passed over.", src="127.0.0.1"
    ),
    _taken("ipv4.ttl_one", "RFC 1122, 3.2.1.7", "What has arrived is taken with a time to live of 1.", ttl=1),
    _taken("ipv4.ttl_zero", "RFC 1122, 3.2.1.7", "What has arrived is taken with a time to live of 0.", ttl=0),
    _taken("ipv4.no_fragments", "RFC 791, 3.1", "A packet that may not be fragmented (DF) is taken.", flags="DF"),
    _taken("ipv4.type_of_service", "RFC 2474, 3", "A packet of any type of service is taken.", tos=0xB8),
    _taken(
        "ipv4.identification_zero",
        "RFC 6864, 4.1",
        "A packet that may not be fragmented (DF) is taken with the identification 0.",
        id=0,
        flags="DF",
    ),
    _taken(
        "ipv4.options_ended",
        "RFC 1122, 3.2.1.8",
        "Options of no operation, and their end, are taken.",
        options=[_NOTHING],
    ),
    _taken(
        "ipv4.option_unknown",
        "RFC 1122, 3.2.1.8",
        "An option that it does not know is passed over, not its packet.",
        options=[_UNKNOWN_OPTION],
    ),
    Rule(
        "ipv4.option_length",
        "RFC 1122, 3.2.1.8",
        _MUST,
        "An option of a length that cannot be does it no harm.",
        (Quiet(tuple(echo(options=[each], seq=number) for number, each in enumerate(_LENGTHS))),),
    ),
    Rule(
        "ipv4.least_size",
        "RFC 1122, 3.3.2",
        _MUST,
        "A datagram of 576 bytes is taken.",
        (Ask((echo(data=_LARGE),), REPLY, {"IP.len": 576}),),
    ),
    Rule(
        "ipv4.full_size",
        "RFC 1122, 3.3.2",
        Level.SHOULD,
        "A datagram of the link's 1500 bytes is taken.",
        (Ask((echo(data=_FULL),), REPLY, {"IP.len": 1500}),),
    ),
)
"""The suite."""
