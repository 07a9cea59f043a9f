"""DHCP: what a client asks a server for, and what it believes of one. The neighbour is the server.

The client has to ask by itself, again and again. What the server says is broadcast, which every client has to take.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawtap.examine.rules import Ask, AtLeast, Bits, Either, Fields, Frame, Level, Other, Quiet, Rule, Tell
from rawtap.examine.suites._frames import BROADCAST, arp, raw

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_ANY = "0.0.0.0"  # noqa: S104 - no address
_TO_SERVER: Fields = {"Ether.src": "$guest_mac", "UDP.dport": 67, "BOOTP.op": 1}
_DISCOVERS: Fields = {**_TO_SERVER, "DHCP.option.message-type": 1}
_REQUESTS: Fields = {**_TO_SERVER, "DHCP.option.message-type": 3, "DHCP.option.server_id": "$us"}
_SECONDS = 20  # a client waits 4 s before it asks again, then 8, then 16 (RFC 2131, 4.1)
_LONGEST_WAIT = 66  # and 64 in the end: before that nobody can say that it does not go on to ask
_ANSWER_SECONDS = 10  # a client may collect offers for a time (RFC 2131, 4.4.1)
_EVERYBODY = (BROADCAST, "255.255.255.255")
_MASK = ["subnet_mask", "255.255.255.0"]
_LEASE = (["lease_time", 3600], _MASK)
# The shortest that busybox's udhcpc takes as it is (networking/udhcp/dhcpc.c). T1 is half of it, T2 seven eighths.
_SHORT = 30
_RENEWED_WITHIN, _REBOUND_WITHIN, _ENDED_WITHIN = 25, 36, 45  # with some seconds for a guest that is slow
_TIMES = (["renewal_time", 4], ["rebinding_time", 8])  # of a long lease: RFC 2132, 9.11 and 9.12
_TIMES_WITHIN = 12
_LEAST_OPTIONS = 60  # bytes: a client may pass over a message of less than 300 (RFC 1542, 2.1)


def _reply(
    kind: str,
    *options: Any,
    address: str = "$nobody",
    to: tuple[str, str] = _EVERYBODY,
    **fields: Any,
) -> Frame:
    """A message of the server's to everybody, or `to` a link and an IP address; `fields` are BOOTP's."""
    header = {"layer": "BOOTP", "op": 2, "xid": "$xid", "yiaddr": address, "chaddr": {"hex": "$guest_hex"}, **fields}
    said = {"layer": "DHCP", "options": [["message-type", kind], ["server_id", "$us"], *options, "end"]}
    ports = {"layer": "UDP", "sport": 67, "dport": 68}
    return Frame(
        (
            {"layer": "Ether", "dst": to[0]},
            {"layer": "IP", "src": "$us", "dst": to[1]},
            ports,
            header,
            said,
            raw(bytes(_LEAST_OPTIONS)),
        )
    )


def _raw_offer(options: bytes) -> Frame:
    """An offer with these bytes for its options, behind its kind."""
    *layers, _, _ = _reply("offer").layers
    return Frame((*layers, raw(bytes.fromhex("63825363350102") + options)))


_ASKED = Ask((), _DISCOVERS, keep={"xid": "BOOTP.xid"}, within=_SECONDS, given=True)
_OFFER = _reply("offer", *_LEASE)
_ACCEPTED = Ask((_OFFER,), _REQUESTS, keep={"xid": "BOOTP.xid"}, within=_ANSWER_SECONDS, given=True)
_BROKEN = ("36ff0a00", "33", "3304000e", "0cff" + "61" * 40, "3400", "340103", "ff" * 4)
"""Options behind that of the kind: longer than what is left, without a length, cut, without data, overloaded."""
_TAKES_IT = Quiet((arp(pdst="$nobody"),), ({"ARP.op": 2, "ARP.psrc": "$nobody"},))
_GOES_ON = Ask((), {**_TO_SERVER, "DHCP.option.message-type": Either((1, 3))}, within=_LONGEST_WAIT, control=_TAKES_IT)
"""Health checks are the kernel's to answer, and say nothing of a client that is a program."""


def _discover(name: str, source: str, says: str, **must: Any) -> Rule:
    fields = {key.replace("__", "."): value for key, value in must.items()}
    return Rule(f"dhcp.{name}", source, _MUST, says, (Ask((), _DISCOVERS, fields, within=_SECONDS, given=True),))


def _request(name: str, source: str, says: str, must: Fields) -> Rule:
    return Rule(
        f"dhcp.{name}",
        source,
        _MUST,
        says,
        (_ASKED, Ask((_OFFER,), _REQUESTS, must, within=_ANSWER_SECONDS, given=True)),
    )


_RENEWS: Fields = {**_TO_SERVER, "DHCP.option.message-type": 3}
_BARE: Fields = {"BOOTP.ciaddr": "$nobody", "DHCP.option.server_id": None, "DHCP.option.requested_addr": None}
# It may look for others that have it first, which takes 9 s at most (RFC 5227, 2.1.1).
_HAS_IT = Ask((arp(pdst="$nobody"),), {"ARP.op": 2, "ARP.psrc": "$nobody"}, within=12, given=True)


def _bound(name: str, source: str, says: str, lease: tuple[Any, ...], ask: Ask, *more: Quiet | Ask) -> Rule:
    """What a client does that has taken an address, and hears no more of its server: it is told the lease once."""
    steps = (_ASKED, _ACCEPTED, Tell((_reply("ack", *lease),)), _HAS_IT, ask, *more)
    return Rule(f"dhcp.{name}", source, _MUST, says, steps, long=ask.within)


RULES = (
    _discover(
        "discover",
        "RFC 2131, 4.1 and 4.4.1; RFC 951, 3",
        "What it asks without an address comes from 0.0.0.0, port 68, and goes to everybody.",
        IP__src=_ANY,
        IP__dst="255.255.255.255",
        UDP__sport=68,
        Ether__dst=BROADCAST,
    ),
    _discover(
        "discover_header",
        "RFC 2131, 4.4.1, Table 5",
        "A discover says Ethernet (1, 6 bytes), no hops, and no address.",
        BOOTP__htype=1,
        BOOTP__hlen=6,
        BOOTP__hops=0,
        BOOTP__ciaddr=_ANY,
        BOOTP__yiaddr=_ANY,
        BOOTP__siaddr=_ANY,
        BOOTP__giaddr=_ANY,
    ),
    Rule(
        "dhcp.discover_server",
        "RFC 2131, 4.4.1, Table 5",
        _MUST,
        "A discover names no server.",
        (Ask((), _DISCOVERS, {"DHCP.option.server_id": None}, within=_SECONDS, given=True),),
    ),
    Rule(
        "dhcp.offer",
        "RFC 2131, 3.1",
        _MUST,
        "An offer that it asked for is taken: a request follows.",
        (_ASKED, Ask((_OFFER,), _REQUESTS, within=_ANSWER_SECONDS)),
    ),
    _request(
        "request_address",
        "RFC 2131, 4.3.2",
        "A request for an offer asks for the address of the offer, and has none in its header.",
        {"DHCP.option.requested_addr": "$nobody", "BOOTP.ciaddr": _ANY},
    ),
    _request("request_xid", "RFC 2131, 4.4.1", "A request has the offer's number (xid).", {"BOOTP.xid": "$xid"}),
    _request(
        "request_broadcast",
        "RFC 2131, 3.1 and 4.1",
        "A request for an offer goes to everybody, from 0.0.0.0: other servers are told by it.",
        {"IP.src": _ANY, "IP.dst": "255.255.255.255"},
    ),
    Rule(
        "dhcp.offer_xid",
        "RFC 2131, 4.4.1",
        _MUST,
        "An offer with another number than it asked with is passed over.",
        (_ASKED, Quiet((_reply("offer", *_LEASE, xid="$xid+1"),), (_REQUESTS,), within=2), _ASKED, _ACCEPTED),
    ),
    Rule(
        "dhcp.offer_broken",
        "RFC 1123, 1.2.2",
        _MUST,
        "Options that end within themselves do it no harm: it goes on to ask.",
        # Twice: what comes first may be its answer to one of these, which it died behind.
        (_ASKED, Quiet(tuple(_raw_offer(bytes.fromhex(each)) for each in _BROKEN)), _GOES_ON, _GOES_ON),
    ),
    Rule(
        "dhcp.acknowledgment_xid",
        "RFC 2131, 4.1 and 4.4.5",
        _MUST,
        "An acknowledgment with another number than it asked with is passed over: it asks again.",
        (
            _ASKED,
            _ACCEPTED,
            replace(_GOES_ON, send=(_reply("ack", *_LEASE, xid="$xid+1"),)),
        ),
    ),
    Rule(
        "dhcp.refused",
        "RFC 2131, 3.1 (5)",
        _MUST,
        "What is refused (DHCPNAK) begins anew: a discover follows.",
        (_ASKED, _ACCEPTED, Ask((_reply("nak", address=_ANY),), _DISCOVERS, within=_SECONDS)),
    ),
    Rule(
        "dhcp.decline",
        "RFC 2131, 3.1 (5) and 4.4.1",
        _SHOULD,
        "An address that another host answers for by ARP is declined.",
        (
            _ASKED,
            Ask(
                (_reply("offer", *_LEASE, address="$stranger"),),
                _REQUESTS,
                keep={"xid": "BOOTP.xid"},
                within=_ANSWER_SECONDS,
                given=True,
            ),
            Ask(
                (_reply("ack", *_LEASE, address="$stranger"),),
                {**_TO_SERVER, "DHCP.option.message-type": 4},
                within=_SECONDS,
            ),
        ),
    ),
    Rule(
        "dhcp.secs",
        "RFC 2131, 2, Table 1, and 4.4.1, Table 5",
        _MUST,
        "A discover that comes again, with the same number, says no fewer seconds (secs) than before.",
        (
            replace(_ASKED, keep={"xid": "BOOTP.xid", "secs": "BOOTP.secs"}),
            Ask(
                (),
                {**_DISCOVERS, "BOOTP.xid": "$xid"},
                {"BOOTP.secs": AtLeast("$secs")},
                within=_SECONDS,
                given=True,
            ),
        ),
    ),
    _discover(
        "flags",
        "RFC 2131, 2, Figure 2",
        "Of the flags only the first bit (BROADCAST) may be set.",
        BOOTP__flags=Bits(0, 0x7FFF),
    ),
    Rule(
        "dhcp.unicast_offer",
        "RFC 2131, 4.1",
        _SHOULD,
        "Who does not set BROADCAST takes an offer that is sent to it alone, before it has the address.",
        (
            Ask((), {**_DISCOVERS, "BOOTP.flags": 0}, keep={"xid": "BOOTP.xid"}, within=_SECONDS, given=True),
            Ask(
                (_reply("offer", *_LEASE, to=("$guest_mac", "$nobody")),),
                _REQUESTS,
                within=_ANSWER_SECONDS,
            ),
        ),
    ),
    _bound(
        "renew",
        "RFC 2131, 4.4.5 and 4.3.2",
        "At half of its lease (T1) it asks its server, and it alone, for more: with its address, and no server named.",
        (["lease_time", _SHORT], _MASK),
        # It may have another address as well, and send from that.
        Ask((), _RENEWS, {"IP.dst": "$us", "IP.src": Other((_ANY,)), **_BARE}, within=_RENEWED_WITHIN),
    ),
    _bound(
        "rebind",
        "RFC 2131, 4.4.5 and 4.3.2",
        "Where its server is silent, it asks all servers before the lease ends (T2): with its address, and none named.",
        (["lease_time", _SHORT], _MASK),
        Ask((), {**_RENEWS, "IP.dst": "255.255.255.255"}, _BARE, within=_REBOUND_WITHIN),
    ),
    _bound(
        "expired",
        "RFC 2131, 4.4.5",
        "When the lease ends it begins anew with a discover, and no longer answers for the address.",
        (["lease_time", _SHORT], _MASK),
        Ask((), _DISCOVERS, {"BOOTP.ciaddr": _ANY}, within=_ENDED_WITHIN),
        _TAKES_IT,
        replace(_ASKED, keep={}),  # no address is left to ask for an echo at, perhaps
    ),
    _bound(
        "renewal_time",
        "RFC 2131, 4.4.5; RFC 2132, 9.11",
        "A server's T1 (option 58) is kept to: it asks for more then, long before half of the lease.",
        (*_LEASE, *_TIMES),
        Ask((), _RENEWS, {"IP.dst": "$us"}, within=_TIMES_WITHIN),
    ),
    _bound(
        "rebinding_time",
        "RFC 2131, 4.4.5; RFC 2132, 9.12",
        "A server's T2 (option 59) is kept to: all servers are asked then, long before the lease ends.",
        (*_LEASE, *_TIMES),
        Ask((), {**_RENEWS, "IP.dst": "255.255.255.255"}, within=_TIMES_WITHIN),
    ),
)
"""The suite."""
