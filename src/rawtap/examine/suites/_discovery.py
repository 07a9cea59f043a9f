"""What a host of IPv6 says to its link, and believes: neighbour discovery (RFC 4861), addresses of its own (RFC 4862),
groups (RFC 3810)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, Either, Frame, Inside, Level, Quiet, Rule, Tell
from rawtap.examine.suites._frames6 import ALL_NODES, GIVEN_REPLY, REPLY, echo, ip
from rawtap.examine.values import PREFIX6

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_MY_LINK: dict[str, Any] = {"layer": "ICMPv6NDOptSrcLLAddr", "lladdr": "$us_mac"}
_TARGETED: dict[str, Any] = {"layer": "ICMPv6NDOptDstLLAddr", "lladdr": "$other_mac"}
_ANSWER = {"ICMPv6.type": 136, "ICMPv6ND_NA.tgt": "$guest6"}
_TO_US = {**_ANSWER, "IPv6.dst": "$us6"}
_ASKS = {"ICMPv6.type": 135, "ICMPv6ND_NS.tgt": "$stranger6"}
_FROM_STRANGER = echo(src="$stranger6")
_SECONDS = 4  # one before it speaks at most, one for each probe of an address (RFC 4862, 5.4.2), and some more
_PROBE_SECONDS = 8  # five until it asks whether a neighbour is there (RFC 4861, 10), and some more
_QUERY_SECONDS = 3  # one is what the query allows


def _solicitation(
    *options: dict[str, Any], link: dict[str, Any] | None = None, message: dict[str, Any] | None = None, **fields: Any
) -> Frame:
    """A question for the guest's address; `fields` are the IPv6 header's, `message` the question's."""
    header = ip(dst="$guest6_group", hlim=255) | fields
    asked = {"layer": "ICMPv6ND_NS", "tgt": "$guest6"} | (message or {})
    return Frame(({"layer": "Ether", "dst": "$guest6_group_mac"} | (link or {}), header, asked, *options))


def _advertisement(flags: dict[str, int], *, of: str = "$mover6", **fields: Any) -> Frame:
    """One to the guest that `of` has another link address now."""
    said = {"layer": "ICMPv6ND_NA", "tgt": of, "R": 0, "S": 0, "O": 0} | flags
    return Frame((ip(src=of, hlim=255) | fields, said, _TARGETED))


def _to_all(of: str, **flags: int) -> Frame:
    """One to all nodes."""
    said = _advertisement(flags, of=of, src="$mover6", dst="ff02::1")
    return replace(said, layers=({"layer": "Ether"} | ALL_NODES, *said.layers))


def _router(*options: dict[str, Any], message: dict[str, Any] | None = None, **fields: Any) -> Frame:
    """An advertisement of our router to all nodes."""
    header = ip(src="$router6", dst="ff02::1", hlim=255) | fields
    said = {"layer": "ICMPv6ND_RA", "chlim": 64, "routerlifetime": 0, "prf": 0} | (message or {})
    return Frame(({"layer": "Ether"} | ALL_NODES, header, said, *options))


def _prefix(number: int, **fields: Any) -> dict[str, Any]:
    lifetimes = {"validlifetime": 600, "preferredlifetime": 300}
    return {"layer": "ICMPv6NDOptPrefixInfo", "prefix": f"{PREFIX6}:{number}::", **lifetimes, **fields}


def _probe(number: int) -> dict[str, Any]:
    """A question by which it sees whether an address of that prefix is somebody's."""
    return {"ICMPv6.type": 135, "IPv6.src": "::", "ICMPv6ND_NS.tgt": Inside(f"{PREFIX6}:{number}::/64")}


_ANNOUNCED = Quiet((), within=2)
"""A guest whose card says that it has moved tells all where it is (VIRTIO 1.2, 5.1.6.5.4), for 0.8 s behind a snapshot.
That looks like an answer. It cannot be switched off: with no rounds of it QEMU 7.2 crashes at the second restore."""
_GIVEN_ANSWER = Ask((_solicitation(_MY_LINK),), _TO_US, given=True)
_MOVER_IS_KNOWN = Ask(
    (_solicitation(_MY_LINK, src="$mover6"), echo(src="$mover6", seq=76)),
    {**REPLY, "ICMPv6EchoReply.seq": 76, "Ether.dst": "$us_mac"},
    given=True,
)
_KEPT = {"own6": "ICMPv6ND_NS.tgt", "own6_group": "IPv6.dst", "own6_group_mac": "Ether.dst"}
_TENTATIVE = Ask((_router(_prefix(1)),), _probe(1), keep=_KEPT, within=_SECONDS, given=True)
_OWN: dict[str, Any] = {"dst": "$own6", "src": "$far6"}
_BY_ROUTER = Ask(
    (echo(seq=76, **_OWN),),
    {**REPLY, "ICMPv6EchoReply.seq": 76, "Ether.dst": "$us_mac"},
    within=_SECONDS,
    given=True,
)
_DEFAULT_ROUTER = _router(_prefix(1), _MY_LINK, message={"routerlifetime": 600})
_HAS_ROUTER = (replace(_TENTATIVE, send=(_DEFAULT_ROUTER,)), _BY_ROUTER)


def _unheard(name: str, source: str, says: str, frame: Frame, to: str = "$stranger6") -> Rule:
    """Such a solicitation is not answered, neither to who sent it, nor to all where it came from ::."""
    first = () if to == "$stranger6" else (_ANNOUNCED,)
    return Rule(name, source, _MUST, says, (*first, Quiet((frame,), ({**_ANSWER, "IPv6.dst": to},)), _GIVEN_ANSWER))


def _not_believed(name: str, source: str, says: str, frame: Frame, level: Level = _MUST) -> Rule:
    """An advertisement of a host that is known; what is sent to it goes where it went."""
    reply = Ask((echo(src="$mover6"),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": "$us_mac"})
    return Rule(name, source, level, says, (_MOVER_IS_KNOWN, Tell((frame,)), reply))


def _redirect(name: str, source: str, level: Level, says: str, goes_to: str, **fields: Any) -> Rule:
    """The router says that another is nearer; where what is sent far away goes after that."""
    said = {"layer": "ICMPv6ND_Redirect", "tgt": "$mover6", "dst": "$far6"}
    frame = Frame((ip(src="$router6", dst="$own6", hlim=255) | fields, said, _TARGETED))
    reply = Ask((echo(**_OWN),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": goes_to})
    return Rule(name, source, level, says, (*_HAS_ROUTER, Tell((frame,)), reply))


_SOLICITED = (
    Rule(
        "ipv6.solicited",
        "RFC 4861, 7.2.4",
        _MUST,
        "A solicitation for its address is answered: to the asker, with the flag that it was asked.",
        (
            _ANNOUNCED,
            Ask(
                (_solicitation(_MY_LINK),),
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
        (Ask((_solicitation(_MY_LINK),), _TO_US, {"ICMPv6NDOptDstLLAddr.lladdr": "$guest_mac"}, given=True),),
    ),
    Rule(
        "ipv6.advertised_hop_limit",
        "RFC 4861, 4.4",
        _MUST,
        "An answer has the hop limit 255 and code 0.",
        (Ask((_solicitation(_MY_LINK),), _TO_US, {"IPv6.hlim": 255, "ICMPv6.code": 0}, given=True),),
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
        (Ask((_solicitation(_MY_LINK, {"layer": "Raw", "load": {"hex": "fd01000000000000"}}),), _TO_US),),
    ),
    Rule(
        "ipv6.solicitation_other",
        "RFC 4861, 7.2.3",
        _MUST,
        "A solicitation for an address that is not its own is not answered.",
        (
            Quiet(
                (_solicitation(_MY_LINK, message={"tgt": "$nobody6"}),),
                ({"ICMPv6.type": 136, "ICMPv6ND_NA.tgt": "$nobody6"},),
            ),
            _GIVEN_ANSWER,
        ),
    ),
    _unheard(
        "ipv6.solicitation_hop_limit",
        "RFC 4861, 7.1.1",
        "A solicitation with a hop limit below 255 may be from another link: it is passed over.",
        _solicitation(_MY_LINK, src="$stranger6", hlim=254),
    ),
    _unheard(
        "ipv6.solicitation_checksum",
        "RFC 4861, 7.1.1",
        "A solicitation with a wrong checksum is passed over.",
        _solicitation(_MY_LINK, src="$stranger6", message={"cksum": 0x1234}),
    ),
    _unheard(
        "ipv6.solicitation_code",
        "RFC 4861, 7.1.1",
        "A solicitation with another code than 0 is passed over.",
        _solicitation(_MY_LINK, src="$stranger6", message={"code": 1}),
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
        _solicitation(_MY_LINK, src="::"),
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
            Tell((_advertisement({"O": 1}),)),
            Ask((echo(src="$mover6"),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": "$other_mac"}),
        ),
    ),
    _not_believed(
        "ipv6.advertisement_no_override",
        "RFC 4861, 7.2.5",
        "An advertisement without the flag to override does not replace a link address.",
        _advertisement({}),
    ),
    _not_believed(
        "ipv6.advertisement_hop_limit",
        "RFC 4861, 7.1.2",
        "An advertisement with a hop limit below 255 is passed over.",
        _advertisement({"O": 1}, hlim=254),
    ),
    _not_believed(
        "ipv6.advertisement_to_all_asked",
        "RFC 4861, 7.1.2",
        "An advertisement to a group that says it was asked for is passed over.",
        _to_all("$mover6", S=1, O=1),
    ),
    Rule(
        "ipv6.advertisement_unasked",
        "RFC 4861, 7.2.5",
        _SHOULD,
        "An advertisement of a host that it does not know is passed over: what it sends there goes elsewhere.",
        (
            Ask(
                (_advertisement({"O": 1}, of="$stranger6"), _FROM_STRANGER),
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

_OWN_ADDRESSES = (
    Rule(
        "ipv6.autoconfigured",
        "RFC 4862, 5.5.3 and 5.4",
        _MUST,
        "A router's prefix makes an address, which it asks for: from ::, in its group, with the hop limit 255.",
        (
            Ask(
                (_router(_prefix(1)),),
                {"ICMPv6.type": 135, "ICMPv6ND_NS.tgt": Inside(f"{PREFIX6}:1::/64")},
                {"IPv6.src": "::", "IPv6.hlim": 255, "ICMPv6NDOptSrcLLAddr.lladdr": None, "IPv6.nh": Either((0, 58))},
                within=_SECONDS,
            ),
        ),
    ),
    Rule(
        "ipv6.autoconfigured_answers",
        "RFC 4862, 5.4",
        _MUST,
        "An address that nobody else has is its own: it answers there.",
        (
            _TENTATIVE,
            Ask((echo(dst="$own6"),), REPLY, {"IPv6.src": "$own6"}, within=_SECONDS),
        ),
    ),
    Rule(
        "ipv6.duplicate",
        "RFC 4862, 5.4.5",
        _MUST,
        "An address that somebody else says to have is not its own: it does not answer there.",
        (
            _TENTATIVE,
            Tell((_to_all("$own6", O=1),)),
            Quiet((echo(dst="$own6"),), ({**REPLY, "IPv6.src": "$own6"},), within=_SECONDS - 1),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "ipv6.duplicate_asked",
        "RFC 4862, 5.4.3",
        _SHOULD,
        "An address that somebody else asks for at the same time is not its own either.",
        (
            _TENTATIVE,
            Tell(
                (
                    Frame(
                        (
                            {"layer": "Ether", "dst": "$own6_group_mac"},
                            ip(src="::", dst="$own6_group", hlim=255),
                            {"layer": "ICMPv6ND_NS", "tgt": "$own6"},
                        )
                    ),
                )
            ),
            Quiet((echo(dst="$own6"),), ({**REPLY, "IPv6.src": "$own6"},), within=_SECONDS - 1),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "ipv6.router_invalid",
        "RFC 4861, 6.1.2",
        _MUST,
        "A router's advertisement with a hop limit below 255, or not from a link-local address, is passed over.",
        (
            Quiet(
                (_router(_prefix(2), hlim=254), _router(_prefix(3), src="$far6")),
                (_probe(2), _probe(3)),
                within=2,
            ),
            _TENTATIVE,
        ),
    ),
    Rule(
        "ipv6.prefix_unusable",
        "RFC 4862, 5.5.3",
        _MUST,
        "A prefix of another length than 64, not for this, or preferred for longer than it is valid, makes no address.",
        (
            Quiet(
                (_router(_prefix(4, prefixlen=48, L=0), _prefix(5, A=0), _prefix(6, preferredlifetime=900)),),
                (_probe(4), _probe(5), _probe(6)),
                within=2,
            ),
            _TENTATIVE,
        ),
    ),
    _redirect(
        "ipv6.redirect",
        "RFC 4861, 8.3",
        _SHOULD,
        "A redirect of its router is followed.",
        "$other_mac",
    ),
    _redirect(
        "ipv6.redirect_by_another",
        "RFC 4861, 8.1",
        _MUST,
        "A redirect of another than its router is passed over.",
        "$us_mac",
        src="$mover6",
    ),
    _redirect(
        "ipv6.redirect_hop_limit",
        "RFC 4861, 8.1",
        _MUST,
        "A redirect with a hop limit below 255 is passed over.",
        "$us_mac",
        hlim=254,
    ),
)

RULES = (*_SOLICITED, *_ASKING, *_TOLD, *_OWN_ADDRESSES)
"""These of the suite."""
