"""ARP: who is asked answers, nobody else does, and what is learned is used."""

from __future__ import annotations

from rawtap.examine.rules import Ask, Level, Quiet, Rule, Tell
from rawtap.examine.suites._frames import BROADCAST, REPLY, arp, echo

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_REPLY = {"ARP.op": 2, "ARP.pdst": "$us"}
_TO_US = {"ARP.psrc": "$guest", "ARP.pdst": "$us"}
_RECEPTION = "RFC 826, Packet Reception"
_LENGTHS = "RFC 826, Packet Reception; RFC 1122, 1.2.2"
_SIZES = (0, 8, 255)
_ANSWERED = Ask((arp(),), {"Ether.type": 0x0806, "ARP.op": 2}, given=True)
_ASKS = {"Ether.type": 0x0806, "ARP.op": 1, "ARP.pdst": "$stranger"}
_QUESTION = Ask((echo(src="$stranger"),), _ASKS, given=True)

RULES = (
    Rule(
        "arp.reply",
        _RECEPTION,
        _MUST,
        "A request for its address is answered with operation 2.",
        (Ask((arp(),), {"Ether.type": 0x0806, "ARP.hwdst": "$us_mac"}, {"ARP.op": 2}),),
    ),
    Rule(
        "arp.reply_sender",
        _RECEPTION,
        _MUST,
        "A reply has its own two addresses as the sender's.",
        (Ask((arp(),), {"ARP.op": 2}, {"ARP.hwsrc": "$guest_mac", "ARP.psrc": "$guest"}),),
    ),
    Rule(
        "arp.reply_target",
        _RECEPTION,
        _MUST,
        "A reply has the asker's two addresses as the target's.",
        (Ask((arp(),), {"ARP.op": 2}, {"ARP.hwdst": "$us_mac", "ARP.pdst": "$us"}),),
    ),
    Rule(
        "arp.reply_kind",
        _RECEPTION,
        _MUST,
        "A reply says Ethernet (1, 6 bytes) and IPv4 (0x0800, 4 bytes).",
        (Ask((arp(),), {"ARP.op": 2}, {"ARP.hwtype": 1, "ARP.ptype": 0x0800, "ARP.hwlen": 6, "ARP.plen": 4}),),
    ),
    Rule(
        "arp.reply_to_asker",
        _RECEPTION,
        _MUST,
        "A reply is sent to the asker alone, from its own address.",
        (Ask((arp(),), {"ARP.op": 2}, {"Ether.dst": "$us_mac", "Ether.src": "$guest_mac"}),),
    ),
    Rule(
        "arp.unicast_request",
        "RFC 826, Packet Reception; RFC 1122, 2.3.2.1",
        _MUST,
        "A request that is sent to it alone is answered as well.",
        (Ask((arp(link={"dst": "$guest_mac"}),), {"ARP.op": 2}, _TO_US),),
    ),
    Rule(
        "arp.padded_request",
        "RFC 894, Frame Format",
        _MUST,
        "A request is answered that is padded to 60 bytes.",
        (Ask((arp(pad=60),), {"ARP.op": 2}, _TO_US),),
    ),
    Rule(
        "arp.probe",
        "RFC 826, Packet Reception; RFC 5227, 2.1.1",
        _MUST,
        "A probe (no sender's IP address) for its address is answered.",
        (Ask((arp(psrc="0.0.0.0"),), {"ARP.op": 2}, {"ARP.psrc": "$guest", "ARP.hwsrc": "$guest_mac"}),),  # noqa: S104
    ),
    Rule(
        "arp.other_address",
        _RECEPTION,
        _MUST,
        "A request for an address that is not its own is not answered.",
        (Quiet((arp(pdst="$nobody"),), ({"ARP.op": 2, "ARP.psrc": "$nobody"},)), _ANSWERED),
    ),
    Rule(
        "arp.reply_not_answered",
        _RECEPTION,
        _MUST,
        "A reply is not answered: only operation 1 asks.",
        (Quiet((arp(op=2),), (_REPLY,)), _ANSWERED),
    ),
    Rule(
        "arp.operation_unknown",
        _RECEPTION,
        _MUST,
        "An operation that it does not know is not answered.",
        (Quiet((arp(op=9),), (_REPLY,)), _ANSWERED),
    ),
    Rule(
        "arp.hardware_type",
        _RECEPTION,
        _MUST,
        "A request for another kind of hardware is not answered.",
        (Quiet((arp(hwtype=15),), (_REPLY,)), _ANSWERED),
    ),
    Rule(
        "arp.protocol_type",
        _RECEPTION,
        _MUST,
        "A request for an address of another protocol is not answered.",
        (Quiet((arp(ptype=0x0801),), (_REPLY,)), _ANSWERED),
    ),
    Rule(
        "arp.hardware_length",
        _LENGTHS,
        _MUST,
        "Hardware addresses of 0, 8 and 255 bytes, which it may look at or not, do it no harm.",
        (Quiet(tuple(arp(hwlen=size) for size in _SIZES)),),
    ),
    Rule(
        "arp.protocol_length",
        _LENGTHS,
        _MUST,
        "Protocol addresses of 0, 8 and 255 bytes, which it may look at or not, do it no harm.",
        (Quiet(tuple(arp(plen=size) for size in _SIZES)),),
    ),
    Rule(
        "arp.cut",
        _RECEPTION,
        _MUST,
        "A request that ends before its target's address is not answered.",
        (Quiet((arp(cut=36),), (_REPLY,)), _ANSWERED),
    ),
    Rule(
        "arp.question",
        "RFC 826, Packet Generation",
        _MUST,
        "What it asks has its own addresses as the sender's.",
        (Ask(_QUESTION.send, _ASKS, {"ARP.hwsrc": "$guest_mac", "ARP.psrc": "$guest"}, given=True),),
    ),
    Rule(
        "arp.question_broadcast",
        "RFC 826, Packet Generation",
        _MUST,
        "Whom it does not know it asks for by broadcast.",
        (Ask((echo(src="$stranger"),), {"ARP.op": 1, "ARP.pdst": "$stranger"}, {"Ether.dst": BROADCAST}, given=True),),
    ),
    Rule(
        "arp.question_rate",
        "RFC 1122, 2.3.2.1",
        _SHOULD,
        "It asks for an address once a second at most.",
        (
            _QUESTION,
            Quiet(
                tuple(echo(src="$nobody", seq=seq) for seq in range(6)),
                ({"ARP.op": 1, "ARP.pdst": "$nobody"},),
                beyond=2,
            ),
        ),
    ),
    Rule(
        "arp.packet_kept",
        "RFC 1122, 2.3.2.2",
        _SHOULD,
        "What waits for a link address is sent when that is known.",
        (Ask((echo(src="$stranger"),), {"ARP.op": 1, "ARP.pdst": "$stranger"}, given=True), Ask((), REPLY)),
    ),
    Rule(
        "arp.announcement",
        "RFC 826, Packet Reception",
        _MUST,
        "An announcement replaces the link address that it had for a host.",
        (
            Ask((arp(psrc="$mover"), echo(src="$mover", seq=76)), REPLY, given=True),
            Tell((arp(psrc="$mover", pdst="$mover", hwsrc="$other_mac", link={"src": "$other_mac"}),)),
            Ask(
                (echo(src="$mover", link={"src": "$other_mac"}),),
                {**REPLY, "ICMP.seq": 77},
                {"Ether.dst": "$other_mac"},
            ),
        ),
    ),
)
"""The suite."""
