"""TCP: at a port that nobody listens on, and at one that the guest does listen on ($port)."""

from __future__ import annotations

from typing import Any

from rawtap.examine.rules import Ask, AtLeast, Bits, Either, Frame, Level, Other, Quiet, Rule, Tell
from rawtap.examine.suites._frames import ip, tcp

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_RST, _SYN_ACK, _RST_ACK = 0x04, 0x12, 0x14
_OTHER_PORT = "$sport+20000"  # no other try has that one
_FROM_SHUT = {"IP.src": "$guest", "TCP.sport": "$shut", "TCP.dport": "$sport"}
_FROM_OPEN = {"IP.src": "$guest", "TCP.sport": "$port", "TCP.dport": "$sport"}
_CLOSED, _LISTEN, _OTHER = "RFC 9293, 3.10.7.1", "RFC 9293, 3.10.7.2", "RFC 9293, 3.10.7.4"
_RESETS = "RFC 9293, 3.5.2 and 3.10.7.4"
_IMPOSSIBLE = "RFC 9293, 3.1; RFC 1122, 1.2.2"
_GIVEN_RESET = Ask((tcp("S"),), {**_FROM_SHUT, "TCP.flags": _RST_ACK}, given=True)
_ACKNOWLEDGES = {"TCP.flags": Bits(0x10, 0x06)}


def _open(flags: str, **fields: Any) -> Frame:
    return tcp(flags, port="$port", **fields)


_GIVEN_SYN_ACK = Ask((_open("S"),), {**_FROM_OPEN, "TCP.flags": _SYN_ACK}, keep={"theirs": "TCP.seq"}, given=True)
_GIVEN_CONNECTION = (_GIVEN_SYN_ACK, Tell((_open("A", seq="$seq+1", ack="$theirs+1"),)))


def _segment(flags: str = "PA", at: str = "$seq+1", **fields: Any) -> Frame:
    """One of an open connection."""
    return _open(flags, **({"seq": at, "ack": "$theirs+1"} | fields))


def _acknowledged(*frames: Frame, upto: str) -> Ask:
    return Ask(frames, {**_FROM_OPEN, **_ACKNOWLEDGES}, {"TCP.ack": upto})


RULES = (
    Rule(
        "tcp.closed",
        _CLOSED,
        _MUST,
        "A SYN to a port that is closed is reset: sequence number 0, its own acknowledged.",
        (Ask((tcp("S"),), _FROM_SHUT, {"TCP.flags": _RST_ACK, "TCP.seq": 0, "TCP.ack": "$seq+1"}),),
    ),
    Rule(
        "tcp.closed_data",
        _CLOSED,
        _MUST,
        "A reset acknowledges all of the segment: its data, SYN and FIN.",
        (Ask((tcp("F", data="hello"),), _FROM_SHUT, {"TCP.flags": _RST_ACK, "TCP.seq": 0, "TCP.ack": "$seq+6"}),),
    ),
    Rule(
        "tcp.closed_acknowledged",
        _CLOSED,
        _MUST,
        "A segment with an acknowledgment is reset with that as the sequence number, and no ACK.",
        (Ask((tcp("A", ack="$seq+999"),), _FROM_SHUT, {"TCP.flags": _RST, "TCP.seq": "$seq+999"}),),
    ),
    Rule(
        "tcp.closed_reset",
        _CLOSED,
        _MUST,
        "A reset is not answered.",
        (Quiet((tcp("R"), tcp("RA", ack="$seq+9")), (_FROM_SHUT,)), _GIVEN_RESET),
    ),
    Rule(
        "tcp.checksum",
        "RFC 9293, 3.1",
        _MUST,
        "A segment with a wrong checksum is passed over.",
        (Quiet((tcp("S", chksum=0x1234),), (_FROM_SHUT,)), _GIVEN_RESET),
    ),
    Rule(
        "tcp.offset_short",
        _IMPOSSIBLE,
        _SHOULD,
        "A data offset below 5 words is passed over.",
        (Quiet((tcp("S", dataofs=4),), (_FROM_SHUT,)), _GIVEN_RESET),
    ),
    Rule(
        "tcp.offset_beyond",
        _IMPOSSIBLE,
        _SHOULD,
        "A data offset beyond the segment's end is passed over.",
        (Quiet((tcp("S", dataofs=12),), (_FROM_SHUT,)), _GIVEN_RESET),
    ),
    Rule(
        "tcp.to_broadcast",
        "RFC 9293, 3.9.2.3",
        _MUST,
        "A SYN that was sent to everybody is passed over.",
        (
            Quiet(
                (tcp("S", address={"dst": "$broadcast"}), tcp("S", address={"dst": "255.255.255.255"})),
                ({"TCP.dport": "$sport"},),
            ),
            _GIVEN_RESET,
        ),
    ),
    Rule(
        "tcp.from_group",
        "RFC 9293, 3.9.2.3",
        _MUST,
        "A SYN from an address that is no single host's is passed over.",
        (
            Quiet(
                (tcp("S", address={"src": "224.0.0.9"}), tcp("S", address={"src": "255.255.255.255"})),
                ({"TCP.dport": "$sport"},),
            ),
            _GIVEN_RESET,
        ),
    ),
    Rule(
        "tcp.cut",
        "RFC 1122, 1.2.2",
        _MUST,
        "A segment of less than a header does it no harm.",
        (Quiet((Frame((ip(proto=6), {"layer": "Raw", "load": "4 bytes."})),), ({"IP.proto": 6, "IP.dst": "$us"},)),),
    ),
    Rule(
        "tcp.option_length",
        "RFC 9293, 3.1",
        _MUST,
        "Options of lengths that cannot be do it no harm.",
        (
            Quiet(
                tuple(
                    Frame((*tcp("S", dataofs=6).layers, {"layer": "Raw", "load": {"hex": option}}))
                    for option in ("02000000", "02010000", "02ff0000", "03000000")
                )
            ),
        ),
    ),
    Rule(
        "tcp.syn_ack",
        _LISTEN,
        _MUST,
        "A SYN to an open port is answered by SYN and ACK, that acknowledge it.",
        (Ask((_open("S"),), _FROM_OPEN, {"TCP.flags": _SYN_ACK, "TCP.ack": "$seq+1"}),),
    ),
    Rule(
        "tcp.initial_number",
        "RFC 9293, 3.4.1",
        _MUST,
        "Two connections do not begin with the same sequence number: it comes from a clock.",
        (
            _GIVEN_SYN_ACK,
            Ask(
                (_open("S", sport=_OTHER_PORT),),
                {"IP.src": "$guest", "TCP.sport": "$port", "TCP.dport": _OTHER_PORT, "TCP.flags": _SYN_ACK},
                {"TCP.seq": Other(("$theirs",))},
                given=True,
            ),
        ),
    ),
    Rule(
        "tcp.segment_size",
        "RFC 9293, 3.7.1",
        _SHOULD,
        "A SYN says the largest segment that is taken, where that is not 536 bytes.",
        (
            Ask(
                (_open("S"),),
                {**_FROM_OPEN, "TCP.flags": _SYN_ACK, "TCP.option.MSS": AtLeast(0)},
                {"TCP.option.MSS": AtLeast(1)},
                given=True,
            ),
        ),
    ),
    Rule(
        "tcp.option_unknown",
        "RFC 9293, 3.1",
        _MUST,
        "An option that it does not know is passed over, not its segment.",
        (Ask((_open("S", options=[[253, {"hex": "1234"}]]),), {**_FROM_OPEN, "TCP.flags": _SYN_ACK}),),
    ),
    Rule(
        "tcp.options_unasked",
        "RFC 7323, 2.2 and 3.2",
        _MUST,
        "It scales no windows, and sends no times, unless asked.",
        (
            Ask(
                (_open("S"),),
                {**_FROM_OPEN, "TCP.flags": _SYN_ACK},
                {"TCP.option.WScale": None, "TCP.option.Timestamp": None},
                given=True,
            ),
        ),
    ),
    Rule(
        "tcp.syn_again",
        _OTHER,
        _SHOULD,
        "A SYN that comes again is acknowledged again, by the same sequence number or, without a SYN, the next.",
        (
            _GIVEN_SYN_ACK,
            Ask(
                (_open("S"),),
                {**_FROM_OPEN, "TCP.flags": Bits(0x10, _RST)},
                {"TCP.ack": "$seq+1", "TCP.seq": Either(("$theirs", "$theirs+1"))},
            ),
        ),
    ),
    Rule(
        "tcp.listen_acknowledged",
        "RFC 9293, 3.5.2 and 3.10.7.2",
        _MUST,
        "An acknowledgment to a listener is reset with its number.",
        (Ask((_open("A", ack="$seq+999"),), _FROM_OPEN, {"TCP.flags": _RST, "TCP.seq": "$seq+999"}),),
    ),
    Rule(
        "tcp.listen_reset",
        "RFC 9293, 3.5.3 and 3.10.7.2",
        _MUST,
        "A reset to a listener is passed over.",
        (Quiet((_open("R"),), (_FROM_OPEN,)), _GIVEN_SYN_ACK),
    ),
    Rule(
        "tcp.handshake_wrong",
        _RESETS,
        _MUST,
        "An acknowledgment of what was not sent ends a handshake by a reset.",
        (
            _GIVEN_SYN_ACK,
            Ask(
                (_open("A", seq="$seq+1", ack="$theirs+1000"),),
                {**_FROM_OPEN, "TCP.flags": Bits(_RST)},
                {"TCP.seq": "$theirs+1000"},
            ),
        ),
    ),
    Rule(
        "tcp.data",
        _OTHER,
        _MUST,
        "Data that came are acknowledged, all of them.",
        (*_GIVEN_CONNECTION, _acknowledged(_segment(data="hello"), upto="$seq+6")),
    ),
    Rule(
        "tcp.data_again",
        _RESETS,
        _MUST,
        "Data that come again are acknowledged again.",
        (
            *_GIVEN_CONNECTION,
            Ask((_segment(data="hello"),), {**_FROM_OPEN, "TCP.ack": "$seq+6"}, given=True),
            _acknowledged(_segment(data="hello"), upto="$seq+6"),
        ),
    ),
    Rule(
        "tcp.data_order",
        "RFC 9293, 3.10.7.4",
        _SHOULD,
        "Data that come before those in front of them are kept.",
        (
            *_GIVEN_CONNECTION,
            Ask((_segment(data="world", at="$seq+6"), _segment(data="hello")), {**_FROM_OPEN, "TCP.ack": "$seq+11"}),
        ),
    ),
    Rule(
        "tcp.data_checksum",
        "RFC 9293, 3.1",
        _MUST,
        "Data with a wrong checksum are not acknowledged.",
        (
            *_GIVEN_CONNECTION,
            Quiet((_segment(data="hello", chksum=0x1234),), ({**_FROM_OPEN, "TCP.ack": "$seq+6"},)),
            Ask((_segment(data="hello"),), {**_FROM_OPEN, "TCP.ack": "$seq+6"}, given=True),
        ),
    ),
    Rule(
        "tcp.data_outside",
        _RESETS,
        _MUST,
        "Data outside of the window are answered by what is expected.",
        (*_GIVEN_CONNECTION, _acknowledged(_segment(data="far", at="$seq+9000000"), upto="$seq+1")),
    ),
    Rule(
        "tcp.unsent_acknowledged",
        _RESETS,
        _MUST,
        "An acknowledgment of what was not sent is answered by one.",
        (*_GIVEN_CONNECTION, _acknowledged(_segment("A", ack="$theirs+9000"), upto="$seq+1")),
        linux="passes such a segment over (tcp_ack, net/ipv4/tcp_input.c)",
    ),
    Rule(
        "tcp.syn_inside",
        "RFC 5961, 4.2",
        _SHOULD,
        "A SYN in a connection is answered by an acknowledgment, no reset: RFC 9293, 3.10.7.4 lets a stack reset.",
        (*_GIVEN_CONNECTION, Ask((_open("S", seq="$seq+50"),), _FROM_OPEN, {**_ACKNOWLEDGES, "TCP.ack": "$seq+1"})),
    ),
    Rule(
        "tcp.reset_outside",
        "RFC 9293, 3.5.3",
        _MUST,
        "A reset outside of the window is passed over.",
        (
            *_GIVEN_CONNECTION,
            Tell((_segment("R", at="$seq+9000000"),)),
            _acknowledged(_segment(data="hello"), upto="$seq+6"),
        ),
    ),
    Rule(
        "tcp.reset_inside",
        "RFC 5961, 3.2",
        _SHOULD,
        "A reset in the window, but not at its edge, is asked about: RFC 9293, 3.10.7.4 lets a stack take it.",
        (*_GIVEN_CONNECTION, Ask((_segment("R", at="$seq+50"),), _FROM_OPEN, {**_ACKNOWLEDGES, "TCP.ack": "$seq+1"})),
    ),
    Rule(
        "tcp.reset",
        "RFC 9293, 3.5.3",
        _MUST,
        "A reset at the window's edge ends the connection.",
        (
            *_GIVEN_CONNECTION,
            Tell((_segment("R"),)),
            Ask((_segment(data="hello"),), _FROM_OPEN, {"TCP.flags": Bits(_RST), "TCP.seq": "$theirs+1"}),
        ),
    ),
    Rule(
        "tcp.fin",
        "RFC 9293, 3.10.7.4",
        _MUST,
        "A FIN is acknowledged, as one number more.",
        (*_GIVEN_CONNECTION, Ask((_segment("FA"),), {**_FROM_OPEN, "TCP.ack": "$seq+2"})),
    ),
)
"""The suite."""
