"""Ethernet below IP: what is for whom, where a packet ends in its frame, and which frames are IP's."""

from __future__ import annotations

from rawtap.examine.rules import Ask, Frame, Level, Quiet, Rule
from rawtap.examine.suites._frames import BROADCAST, DATA, DATA_SIZE, ECHO, GIVEN_REPLY, REPLY, echo, ip, raw

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_SHORT = raw(b"\x5a")
_SNAP = raw(bytes.fromhex("aaaa03000000") + b"\x08\x00")

RULES = (
    Rule(
        "link.source",
        "IEEE 802.3, 3.2.5",
        _MUST,
        "Its frames come from the address of its own card.",
        (Ask((echo(),), REPLY, {"Ether.src": "$guest_mac"}),),
    ),
    Rule(
        "link.destination",
        "RFC 1122, 3.3.1.1",
        _MUST,
        "An answer to one host on the link is sent to that host alone.",
        (Ask((echo(),), REPLY, {"Ether.dst": "$us_mac"}),),
    ),
    Rule(
        "link.type",
        "RFC 1122, 2.3.3",
        _MUST,
        "IPv4 is sent as RFC 894 has it: type 0x0800, no length.",
        (Ask((echo(),), REPLY, {"Ether.type": 0x0800}),),
    ),
    Rule(
        "link.other_station",
        "IEEE 802.3, 3.2.4",
        _MUST,
        "A frame that is sent to another station is not answered.",
        (Quiet((echo(link={"dst": "$other_mac"}),), (REPLY,)), GIVEN_REPLY),
    ),
    Rule(
        "link.padding",
        "RFC 894, Frame Format",
        _MUST,
        "Padding is no part of the packet: it is not sent back.",
        (Ask((echo(data=_SHORT, pad=60),), REPLY, {"IP.len": 29, "Raw.load": b"\x5a"}),),
    ),
    Rule(
        "link.unknown_type",
        "RFC 894, Frame Format",
        _MUST,
        "A frame of a type that it does not know is passed over.",
        (Quiet((Frame(({"layer": "Ether", "type": 0x88B5}, ip(), ECHO, DATA)),), ({"ICMP.id": "$id"},)), GIVEN_REPLY),
    ),
    Rule(
        "link.header_alone",
        "IEEE 802.3, 3.2.7",
        _MUST,
        "A frame without any data does it no harm.",
        (Quiet((Frame(({"layer": "Ether", "type": 0x0800},)), Frame(({"layer": "Ether", "type": 0x0806},)))),),
    ),
    Rule(
        "link.vlan",
        "IEEE 802.1Q, 8.6.2",
        _MUST,
        "A frame of a VLAN that it is no member of is not answered.",
        (
            Quiet((Frame(({"layer": "Ether"}, {"layer": "Dot1Q", "vlan": 100}, ip(), ECHO, DATA)),), (REPLY,)),
            GIVEN_REPLY,
        ),
    ),
    Rule(
        "link.priority_tag",
        "IEEE 802.1Q, 6.9",
        _SHOULD,
        "A tag of VLAN 0 says a priority only: its frame is answered.",
        (Ask((Frame(({"layer": "Ether"}, {"layer": "Dot1Q", "vlan": 0, "prio": 3}, ip(), ECHO, DATA)),), REPLY),),
        linux="lets its card drop tagged frames until the module 8021q adds VLAN 0 (vlan_device_event, "
        "net/8021q/vlan.c)",
    ),
    Rule(
        "link.broadcast_unicast",
        "RFC 1122, 3.3.6",
        _SHOULD,
        "A packet to its address in a frame to everybody is passed over.",
        (Quiet((echo(link={"dst": BROADCAST}),), (REPLY,)), GIVEN_REPLY),
        linux="answers unless net.ipv4.conf.*.drop_unicast_in_l2_multicast is set "
        "(Documentation/networking/ip-sysctl.rst)",
    ),
    Rule(
        "link.snap",
        "RFC 1122, 2.3.3",
        _SHOULD,
        "IPv4 in a frame with a length and a SNAP header is taken (RFC 1042).",
        (
            Ask(
                (Frame(({"layer": "Ether", "type": 8 + 20 + 8 + DATA_SIZE}, _SNAP, ip(), ECHO, DATA)),),
                REPLY,
                control=GIVEN_REPLY,
            ),
        ),
        linux="has no IPv4 above SNAP: net/ipv4/af_inet.c takes ETH_P_IP only",
    ),
)
"""The suite."""
