"""Addresses that a host of IPv6 makes for itself (RFC 4862), and the routers that it believes (RFC 4861, 6 and 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, Either, Frame, Inside, Level, Quiet, Rule, Tell
from rawtap.examine.suites._frames6 import ALL_NODES, GIVEN_REPLY, MY_LINK, OTHER_LINK, REPLY, echo, ip, to_all
from rawtap.examine.values import PREFIX6

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_SECONDS = 4  # one before it speaks at most, one for each probe of an address (RFC 4862, 5.4.2), and some more


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


_KEPT = {"own6": "ICMPv6ND_NS.tgt", "own6_group": "IPv6.dst", "own6_group_mac": "Ether.dst"}
_TENTATIVE = Ask((_router(_prefix(1)),), _probe(1), keep=_KEPT, within=_SECONDS, given=True)
_OWN: dict[str, Any] = {"dst": "$own6", "src": "$far6"}
_BY_ROUTER = Ask(
    (echo(seq=76, **_OWN),),
    {**REPLY, "ICMPv6EchoReply.seq": 76, "Ether.dst": "$us_mac"},
    within=_SECONDS,
    given=True,
)
_DEFAULT_ROUTER = _router(_prefix(1), MY_LINK, message={"routerlifetime": 600})
_HAS_ROUTER = (replace(_TENTATIVE, send=(_DEFAULT_ROUTER,)), _BY_ROUTER)


def _redirect(name: str, source: str, level: Level, says: str, goes_to: str, **fields: Any) -> Rule:
    """The router says that another is nearer; where what is sent far away goes after that."""
    said = {"layer": "ICMPv6ND_Redirect", "tgt": "$mover6", "dst": "$far6"}
    frame = Frame((ip(src="$router6", dst="$own6", hlim=255) | fields, said, OTHER_LINK))
    reply = Ask((echo(**_OWN),), {**REPLY, "ICMPv6EchoReply.seq": 77}, {"Ether.dst": goes_to})
    return Rule(name, source, level, says, (*_HAS_ROUTER, Tell((frame,)), reply))


RULES = (
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
            Tell((to_all("$own6", O=1),)),
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
"""These of the suite."""
