"""What a host of IPv6 says to its link, and believes: neighbour discovery (RFC 4861, 7), groups (RFC 3810)."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, Either, Frame, Level, Quiet, Rule, Tell
from rawtap.examine.suites._frames6 import ALL_NODES, MY_LINK, REPLY, advertisement, echo, ip, to_all

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_ANSWER = {"ICMPv6.type": 136, "ICMPv6ND_NA.tgt": "$guest6"}
_TO_US = {**_ANSWER, "IPv6.dst": "$us6"}
_ASKS = {"ICMPv6.type": 135, "ICMPv6ND_NS.tgt": "$stranger6"}
_FROM_STRANGER = echo(src="$stranger6")
_PROBE_SECONDS = 8  # five until it asks whether a neighbour is there (RFC 4861, 10), and some more
_QUERY_SECONDS = 3  # one is what the query allows


def _solicitation(
    *options: dict[str, Any], link: dict[str, Any] | None = None, message: dict[str, Any] | None = None, **fields: Any
) -> Frame:
    """A question for the guest's address; `fields` are the IPv6 header's, `message` the question's."""
    header = ip(dst="$guest6_group", hlim=255) | fields
    asked = {"layer": "ICMPv6ND_NS", "tgt": "$guest6"} | (message or {})
    return Frame(({"layer": "Ether", "dst": "$guest6_group_mac"} | (link or {}), header, asked, *options))


_ANNOUNCED = Quiet((), within=2)
"""A guest whose card says that it has moved tells all where it is (VIRTIO 1.2, 5.1.6.5.4), for 0.8 s behind a snapshot.
That looks like an answer. It cannot be switched off: with no rounds of it QEMU 7.2 crashes at the second restore."""
_GIVEN_ANSWER = Ask((_solicitation(MY_LINK),), _TO_US, given=True)
_MOVER_IS_KNOWN = Ask(
    (_solicitation(MY_LINK, src="$mover6"), echo(src="$mover6", seq=76)),
    {**REPLY, "ICMPv6EchoReply.seq": 76, "Ether.dst": "$us_mac"},
    given=True,
)


def _unheard(name: str, source: str, says: str, frame: Frame, to: str = "$stranger6") -> Rule:
    """Such a solicitation is not answered, neither to who sent it, nor to all where it came from ::."""
    first = () if to == "$stranger6" else (_ANNOUNCED,)
    return Rule(name, source, _MUST, says, (*first, Quiet((frame,), ({**_ANSWER, "IPv6.dst": to},)), _GIVEN_ANSWER))


def _not_believed(name: str, source: str, says: str, frame: Frame, level: Level = _MUST) -> Rule:
    """An advertisement of a host that is known; what is sent to it goes where it went."""
    reply = Ask((echo(src="$mover6"),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": "$us_mac"})
    return Rule(name, source, level, says, (_MOVER_IS_KNOWN, Tell((frame,)), reply))


_SOLICITED = (
    Rule(
        "ipv6.solicited",
        "RFC 4861, 7.2.4",
        _MUST,
        "A solicitation for its address is answered: to the asker, with the flag that it was asked.",
        (
            _ANNOUNCED,
            Ask(
                (_solicitation(MY_LINK),),
                _ANSWER,
                {"IPv6.dst": "$us6", "ICMPv6ND_NA.S": 1, "IPv6.src": "$guest6", "Ether.dst": "$us_mac"},
            ),
        ),
    ),
    Rule(
        "ipv6.advertised_link",
        "RFC 4861, 7.2.4",
        _MUST,
        "An answer to a solicitation that was sent to its group has its link address.",
        (Ask((_solicitation(MY_LINK),), _TO_US, {"ICMPv6NDOptDstLLAddr.lladdr": "$guest_mac"}, given=True),),
    ),
    Rule(
        "ipv6.advertised_hop_limit",
        "RFC 4861, 4.4",
        _MUST,
        "An answer has the hop limit 255 and code 0.",
        (Ask((_solicitation(MY_LINK),), _TO_US, {"IPv6.hlim": 255, "ICMPv6.code": 0}, given=True),),
    ),
    Rule(
        "ipv6.solicited_alone",
        "RFC 4861, 7.2.4",
        _MUST,
        "A solicitation that was sent to it alone, without a link address, is answered as well.",
        # It has to ask for our link address before.
        (
            Ask(
                (_solicitation(link={"dst": "$guest_mac"}, dst="$guest6"),),
                _TO_US,
                within=_QUERY_SECONDS,
            ),
        ),
    ),
    Rule(
        "ipv6.solicited_by_nobody",
        "RFC 4861, 7.2.4",
        _MUST,
        "Who asks without an address for its own is answered to all nodes, without the flag that it was asked.",
        (_ANNOUNCED, Ask((_solicitation(src="::"),), {**_ANSWER, "IPv6.dst": "ff02::1"}, {"ICMPv6ND_NA.S": 0})),
    ),
    Rule(
        "ipv6.solicitation_option",
        "RFC 4861, 7.1.1",
        _MUST,
        "An option that it does not know is passed over, not the solicitation.",
        (Ask((_solicitation(MY_LINK, {"layer": "Raw", "load": {"hex": "fd01000000000000"}}),), _TO_US),),
    ),
    Rule(
        "ipv6.solicitation_other",
        "RFC 4861, 7.2.3",
        _MUST,
        "A solicitation for an address that is not its own is not answered.",
        (
            Quiet(
                (_solicitation(MY_LINK, message={"tgt": "$nobody6"}),),
                ({"ICMPv6.type": 136, "ICMPv6ND_NA.tgt": "$nobody6"},),
            ),
            _GIVEN_ANSWER,
        ),
    ),
    _unheard(
        "ipv6.solicitation_hop_limit",
        "RFC 4861, 7.1.1",
        "A solicitation with a hop limit below 255 may be from another link: it is passed over.",
        _solicitation(MY_LINK, src="$stranger6", hlim=254),
    ),
    _unheard(
        "ipv6.solicitation_checksum",
        "RFC 4861, 7.1.1",
        "A solicitation with a wrong checksum is passed over.",
        _solicitation(MY_LINK, src="$stranger6", message={"cksum": 0x1234}),
    ),
    _unheard(
        "ipv6.solicitation_code",
        "RFC 4861, 7.1.1",
        "A solicitation with another code than 0 is passed over.",
        _solicitation(MY_LINK, src="$stranger6", message={"code": 1}),
    ),
    _unheard(
        "ipv6.solicitation_cut",
        "RFC 4861, 7.1.1",
        "A solicitation of less than 24 bytes is passed over.",
        Frame(
            (
                {"layer": "Ether", "dst": "$guest6_group_mac"},
                ip(src="$stranger6", dst="$guest6_group", hlim=255),
                {"layer": "ICMPv6Unknown", "type": 135, "msgbody": {"hex": "00000000fe80000000000000"}},
            )
        ),
    ),
    _unheard(
        "ipv6.solicitation_option_empty",
        "RFC 4861, 7.1.1",
        "A solicitation with an option of length 0 is passed over.",
        _solicitation({"layer": "Raw", "load": {"hex": "fd00000000000000"}}, src="$stranger6"),
    ),
    _unheard(
        "ipv6.solicitation_by_nobody_link",
        "RFC 4861, 7.1.1",
        "A solicitation from :: with a link address is passed over.",
        _solicitation(MY_LINK, src="::"),
        to="ff02::1",
    ),
    _unheard(
        "ipv6.solicitation_by_nobody_alone",
        "RFC 4861, 7.1.1",
        "A solicitation from :: that was not sent to the group of the address is passed over.",
        _solicitation(link={"dst": "$guest_mac"}, src="::", dst="$guest6"),
        to="ff02::1",
    ),
)

_ASKING = (
    Rule(
        "ipv6.question",
        "RFC 4861, 7.2.2",
        _MUST,
        "Whom it does not know it asks for in that address's group.",
        (
            Ask(
                (_FROM_STRANGER,),
                _ASKS,
                {"IPv6.dst": "$stranger6_group", "Ether.dst": "$stranger6_group_mac", "IPv6.src": "$guest6"},
                given=True,
            ),
        ),
    ),
    Rule(
        "ipv6.question_hop_limit",
        "RFC 4861, 4.3",
        _MUST,
        "What it asks has the hop limit 255 and code 0.",
        (Ask((_FROM_STRANGER,), _ASKS, {"IPv6.hlim": 255, "ICMPv6.code": 0}, given=True),),
    ),
    Rule(
        "ipv6.question_link",
        "RFC 4861, 4.3",
        _MUST,
        "What it asks in a group has its own link address.",
        (Ask((_FROM_STRANGER,), _ASKS, {"ICMPv6NDOptSrcLLAddr.lladdr": "$guest_mac"}, given=True),),
    ),
    Rule(
        "ipv6.question_rate",
        "RFC 4861, 7.2.2",
        _MUST,
        "It asks for an address once a second at most.",
        (
            Ask((_FROM_STRANGER,), _ASKS, given=True),
            Quiet(
                tuple(echo(src="$nobody6", seq=seq) for seq in range(6)),
                ({"ICMPv6.type": 135, "ICMPv6ND_NS.tgt": "$nobody6"},),
                beyond=2,
            ),
        ),
    ),
    Rule(
        "ipv6.packet_kept",
        "RFC 4861, 7.2.2",
        _MUST,
        "What waits for a link address is sent when that is known.",
        (Ask((_FROM_STRANGER,), _ASKS, given=True), Ask((), REPLY)),
    ),
    Rule(
        "ipv6.reachability",
        "RFC 4861, 7.3.3",
        _MUST,
        "A neighbour that it sends to, and does not know to be there, is asked after five seconds: it alone.",
        (
            Ask((echo(),), REPLY, given=True),
            Ask(
                (echo(seq=78),),
                {"ICMPv6.type": 135, "ICMPv6ND_NS.tgt": "$us6"},
                {"IPv6.dst": "$us6", "Ether.dst": "$us_mac"},
                within=_PROBE_SECONDS,
            ),
        ),
    ),
)

_TOLD = (
    Rule(
        "ipv6.advertisement",
        "RFC 4861, 7.2.5",
        _MUST,
        "An advertisement that says so replaces the link address that it had for a host.",
        (
            _MOVER_IS_KNOWN,
            Tell((advertisement({"O": 1}),)),
            Ask((echo(src="$mover6"),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": "$other_mac"}),
        ),
    ),
    _not_believed(
        "ipv6.advertisement_no_override",
        "RFC 4861, 7.2.5",
        "An advertisement without the flag to override does not replace a link address.",
        advertisement({}),
    ),
    _not_believed(
        "ipv6.advertisement_hop_limit",
        "RFC 4861, 7.1.2",
        "An advertisement with a hop limit below 255 is passed over.",
        advertisement({"O": 1}, hlim=254),
    ),
    _not_believed(
        "ipv6.advertisement_to_all_asked",
        "RFC 4861, 7.1.2",
        "An advertisement to a group that says it was asked for is passed over.",
        to_all("$mover6", S=1, O=1),
    ),
    Rule(
        "ipv6.advertisement_unasked",
        "RFC 4861, 7.2.5",
        _SHOULD,
        "An advertisement of a host that it does not know is passed over: what it sends there goes elsewhere.",
        (
            Ask(
                (advertisement({"O": 1}, of="$stranger6"), _FROM_STRANGER),
                REPLY,
                {"Ether.dst": "$us_mac"},
                given=True,
            ),
        ),
    ),
    Rule(
        "ipv6.group_report",
        "RFC 3810, 6.2; RFC 2710, 4",
        _MUST,
        "A query for all groups is answered by a report of its own: from its link-local address, with the hop limit 1.",
        (
            Ask(
                (
                    Frame(
                        (
                            {"layer": "Ether"} | ALL_NODES,
                            ip(dst="ff02::1", hlim=1),
                            {"layer": "IPv6ExtHdrHopByHop", "options": [{"layer": "RouterAlert", "value": 0}]},
                            {"layer": "ICMPv6MLQuery2", "mrd": 1000, "QRV": 2, "QQIC": 125},
                        )
                    ),
                ),
                {"ICMPv6.type": Either((131, 143)), "Ether.src": "$guest_mac"},
                {"IPv6.src": "$guest6", "IPv6.hlim": 1, "IPv6.nh": 0},
                within=_QUERY_SECONDS,
            ),
        ),
    ),
)

RULES = (*_SOLICITED, *_ASKING, *_TOLD)
"""These of the suite."""
