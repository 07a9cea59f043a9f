"""A wire that loses, doubles, reorders, delays and spoils, small packets and small windows: we do it, not the wire.

Our end of a TCP connection sends and takes its frames so, the same each time. Where the service at $port sends back
what it gets, the guest's own timers, windows and sizes are seen, and its bytes; see `scenes`.
"""

from __future__ import annotations

from rawtap.examine.rules import Ask, Bits, Converse, Level, Rule, Spoil, Tell
from rawtap.examine.suites._frames import REPLY, echo, tcp

_MUST, _SHOULD = Level.MUST, Level.SHOULD
_FROM_OPEN = {"IP.src": "$guest", "TCP.sport": "$port", "TCP.dport": "$sport"}
_GIVEN_CONNECTION = (
    Ask((tcp("S", port="$port"),), {**_FROM_OPEN, "TCP.flags": 0x12}, keep={"theirs": "TCP.seq"}, given=True),
    Tell((tcp("A", port="$port", seq="$seq+1", ack="$theirs+1"),)),
)
_AHEAD = tcp("PA", port="$port", seq="$seq+6", ack="$theirs+1", data="world")
_TIMERS, _ORDER, _STREAM = "RFC 9293, 3.8.1 and 3.10.8", "RFC 9293, 3.10.7.4", "RFC 9293, 2.2"
_TRANSFER, _LONG = 8000, 30  # bytes, seconds

RULES = (
    Rule(
        "impairments.echo_reordered",
        "RFC 1122, 3.2.2.6",
        _MUST,
        "Echo requests whose numbers are out of order are each answered.",
        (
            Ask((echo(seq=3), echo(seq=1), echo(seq=2)), {**REPLY, "ICMP.seq": 3}),
            *(Ask((), {**REPLY, "ICMP.seq": number}) for number in (1, 2)),
        ),
    ),
    Rule(
        "impairments.echo_doubled",
        "RFC 1122, 3.2.2.6",
        _SHOULD,
        "An echo request that comes twice is answered twice: no RFC says that one may be left out.",
        (Ask((echo(seq=5), echo(seq=5)), {**REPLY, "ICMP.seq": 5}), Ask((), {**REPLY, "ICMP.seq": 5})),
    ),
    Rule(
        "impairments.syn_ack_lost",
        _TIMERS,
        _MUST,
        "A SYN and ACK that nothing acknowledges is sent again, with the same sequence number.",
        (Converse("syn_ack_lost"),),
    ),
    Rule(
        "impairments.lost",
        _TIMERS,
        _MUST,
        "Data that nothing acknowledges are sent again, the same bytes.",
        (Converse("lost"),),
    ),
    Rule(
        "impairments.timeout_least",
        "RFC 6298, 2.4",
        _SHOULD,
        "Data are not sent again before a second is over.",
        (Converse("timeout_least"),),
        linux="sends them again after 0.2 s (TCP_RTO_MIN, include/net/tcp.h)",
    ),
    Rule(
        "impairments.backoff",
        "RFC 6298, 5.5",
        _MUST,
        "Each wait until data are sent again is twice the one before.",
        (Converse("backoff", seconds=25),),
    ),
    Rule(
        "impairments.delay",
        "RFC 6298, 2.1 to 2.3",
        _MUST,
        "Where each answer is late by the same half second, nothing is sent again.",
        (Converse("delay", spoil=Spoil(delay=0.5)),),
    ),
    Rule(
        "impairments.fast_retransmit",
        "RFC 5681, 3.2",
        _SHOULD,
        "Three acknowledgments of what is in front of a lost segment have it sent again at once.",
        (Converse("fast_retransmit", size=4000, segment=200),),
    ),
    Rule(
        "impairments.ahead",
        "RFC 5681, 3.2 and 4.2",
        _SHOULD,
        "Data ahead of what is expected are answered at once by what is expected.",
        (*_GIVEN_CONNECTION, Ask((_AHEAD,), {**_FROM_OPEN, "TCP.flags": Bits(0x10, 0x06)}, {"TCP.ack": "$seq+1"})),
    ),
    Rule(
        "impairments.reordered",
        _ORDER,
        _MUST,
        "Data that come in another order are passed on in their own.",
        (
            Converse(
                "pieces",
                size=400,
                pieces=((300, 100, False), (100, 100, False), (200, 100, False), (0, 100, False)),
            ),
        ),
    ),
    Rule(
        "impairments.doubled",
        _ORDER,
        _MUST,
        "Data that come twice are passed on once.",
        (Converse("pieces", size=300, pieces=((0, 100, False), (0, 100, False), (100, 100, False), (0, 200, False))),),
    ),
    Rule(
        "impairments.overlapping",
        _ORDER,
        _MUST,
        "Of data that overlap what came, the rest is passed on.",
        (Converse("pieces", size=300, pieces=((0, 100, False), (50, 100, False), (140, 60, False))),),
    ),
    Rule(
        "impairments.corrupted",
        "RFC 9293, 3.1",
        _MUST,
        "Data that were spoiled on their way are not passed on, and those that come then are.",
        (Converse("pieces", size=300, pieces=((0, 100, True), (0, 100, False), (100, 100, True))),),
    ),
    Rule(
        "impairments.window_zero",
        "RFC 9293, 3.8.6.1",
        _MUST,
        "A window of 0 is asked about while data wait, and they come when it opens.",
        (Converse("window_zero"),),
    ),
    Rule(
        "impairments.probes_apart",
        "RFC 9293, 3.8.6.1",
        _SHOULD,
        "The waits until a window of 0 is asked about again grow exponentially.",
        (Converse("probes_apart", seconds=25),),
    ),
    Rule(
        "impairments.window_tiny",
        "RFC 9293, 3.8.6",
        _MUST,
        "Into a window of one byte goes one byte, and all come one after another.",
        (Converse("window_tiny", size=4, window=1, seconds=20),),
    ),
    Rule(
        "impairments.segment_size",
        "RFC 9293, 3.7.1",
        _MUST,
        "No segment has more data than the other end takes: 100 bytes.",
        (Converse("segment_size", size=1500, segment=100),),
    ),
    Rule(
        "impairments.segment_size_unsaid",
        "RFC 9293, 3.7.1",
        _MUST,
        "Where the other end says no size, no segment has more than 536 bytes of data.",
        (Converse("segment_size", size=6000, piece=1400, segment=None),),
    ),
    Rule(
        "impairments.too_large",
        "RFC 1191, 3",
        _MUST,
        "A router's error that a packet is larger than 1000 bytes has them sent in smaller ones, or without DF.",
        (Converse("too_large", size=6000, piece=1400, segment=1460),),
    ),
    Rule(
        "impairments.transfer_half",
        _STREAM,
        _MUST,
        "A transfer is completed, and right, where each segment is lost once.",
        (Converse("transfer", size=4000, spoil=Spoil(first_lost=True), seconds=_LONG),),
    ),
    Rule(
        "impairments.transfer_loss",
        _STREAM,
        _MUST,
        "A transfer is completed, and right, where a tenth of all segments is lost.",
        (Converse("transfer", size=_TRANSFER, spoil=Spoil(loss=0.1), seconds=_LONG),),
    ),
    Rule(
        "impairments.transfer_jitter",
        _STREAM,
        _MUST,
        "A transfer is completed, and right, where segments pass one another, up to 50 ms late.",
        (Converse("transfer", size=_TRANSFER, spoil=Spoil(delay=0.01, jitter=0.04), seconds=_LONG),),
    ),
    Rule(
        "impairments.transfer_noise",
        _STREAM,
        _MUST,
        "A transfer is completed, and right, where a fifth of all segments is spoiled, and a fifth comes twice.",
        (Converse("transfer", size=_TRANSFER, spoil=Spoil(corrupt=0.2, double=0.2), seconds=_LONG),),
    ),
)
"""The suite."""
