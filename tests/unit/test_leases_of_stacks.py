"""What a client of DHCP does with a lease is judged: by one of the tests' own, which does what it is told when it hears
that it has an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_trial import Line, answering, tried

from rawtap.examine.trial import Verdict

GUEST, OFFERED = "52:54:00:00:00:01", "10.0.2.253"
NOWHERE = "0.0.0.0"  # noqa: S104 - no address

Said = Callable[[str], list[bytes]]


def said(kind: str, to: str = "255.255.255.255", *options: Any, address: str = NOWHERE, **header: Any) -> bytes:
    """A message of the client's."""
    from scapy.all import BOOTP, DHCP, IP, UDP, Ether

    link = Ether(src=GUEST, dst="ff:ff:ff:ff:ff:ff" if to == "255.255.255.255" else "02:72:61:77:74:01")
    head = BOOTP(op=1, chaddr=bytes.fromhex("525400000001"), **({"xid": 7, "ciaddr": address} | header))
    asks = DHCP(options=[("message-type", kind), *options, "end"])
    return bytes(link / IP(src=address, dst=to) / UDP(sport=68, dport=67) / head / asks)


class Client:
    """It asks behind each health check, takes an offer, and says then what `bound` makes of its server's address.

    With `has_it` it answers for its address until it has said all that.
    """

    def __init__(self, bound: Said, *, has_it: bool = True, keeps_it: bool = False) -> None:
        self.line = Line(self.take)
        self.bound, self.sets_it, self.keeps_it = bound, has_it, keeps_it
        self.begin()

    def begin(self) -> None:
        """It has no address."""
        self.has_it, self.is_bound, self.secs = self.sets_it, False, 0
        self.said: list[bytes] = []

    def take(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import ARP, BOOTP, DHCP, ICMP, IP, Ether

        packet = Ether(frame)
        if ICMP in packet:
            yield from answering(frame)
            if not self.is_bound:
                self.secs += 1
                yield said("discover", secs=self.secs)
        elif ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == OFFERED and self.has_it:
            us = packet[ARP]
            reply = ARP(op=2, hwsrc=GUEST, psrc=OFFERED, hwdst=us.hwsrc, pdst=us.psrc)
            yield bytes(Ether(src=GUEST, dst=packet.src) / reply)
            yield from self.said
            self.has_it = self.keeps_it
            self.is_bound = any(b"\x35\1\3" in each for each in self.said)  # else it begins anew
        elif DHCP in packet and packet[BOOTP].op == 2:
            kind = dict(each for each in packet[DHCP].options if isinstance(each, tuple))
            if kind["message-type"] == 2:
                options = (("server_id", packet[IP].src), ("requested_addr", OFFERED))
                yield said("request", "255.255.255.255", *options)
            elif kind["message-type"] == 5:
                self.is_bound, self.said = True, self.bound(packet[IP].src)


def renewing(server: str, *options: Any, to: str = "") -> bytes:
    return said("request", to or server, *options, address=OFFERED)


EVERYBODY = "255.255.255.255"
TO_ALL: Said = lambda server: [renewing(server, to=EVERYBODY)]  # noqa: E731
TO_IT: Said = lambda server: [renewing(server)]  # noqa: E731
ANEW: Said = lambda _: [said("discover")]  # noqa: E731
NAMING: Said = lambda server: [renewing(server, ("server_id", server))]  # noqa: E731
NAMING_TO_ALL: Said = lambda server: [renewing(server, ("requested_addr", OFFERED), to=EVERYBODY)]  # noqa: E731
NOTHING: Said = lambda _: []  # noqa: E731


@pytest.mark.parametrize(
    ("rule", "bound", "verdict", "field"),
    [
        ("renew", TO_IT, Verdict.KEPT, ""),
        ("renew", TO_ALL, Verdict.VIOLATED, "IP.dst"),
        ("renew", NAMING, Verdict.VIOLATED, "DHCP.option.server_id"),
        ("renew", NOTHING, Verdict.SILENT, ""),
        ("rebind", TO_ALL, Verdict.KEPT, ""),
        ("rebind", NAMING_TO_ALL, Verdict.VIOLATED, "DHCP.option.requested_addr"),
        ("rebind", TO_IT, Verdict.SILENT, ""),
        ("expired", ANEW, Verdict.KEPT, ""),
        ("expired", TO_ALL, Verdict.SILENT, ""),
        ("renewal_time", TO_IT, Verdict.KEPT, ""),
        ("renewal_time", NOTHING, Verdict.SILENT, ""),
        ("rebinding_time", TO_ALL, Verdict.KEPT, ""),
        ("rebinding_time", TO_IT, Verdict.SILENT, ""),
    ],
)
def test_what_a_client_does_with_its_lease_is_judged(rule: str, bound: Said, verdict: Verdict, field: str) -> None:
    client = Client(bound)
    outcome = tried(f"dhcp.{rule}", client.line, client.begin)  # what is not kept is asked again
    assert (outcome.verdict, outcome.field) == (verdict, field), outcome


def test_a_client_that_goes_on_to_answer_for_an_address_that_has_ended_is_told() -> None:
    outcome = tried("dhcp.expired", Client(ANEW, keeps_it=True).line)
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "frames")


def test_one_that_never_set_its_address_is_not_judged_by_it() -> None:
    client = Client(TO_ALL, has_it=False)
    outcome = tried("dhcp.renew", client.line, client.begin)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert "it needs a frame of the guest's with ARP.op 2" in outcome.reason


@pytest.mark.parametrize(
    ("rule", "header", "verdict"),
    [
        ("secs", {}, Verdict.KEPT),
        ("secs", {"secs": -1}, Verdict.VIOLATED),
        ("flags", {"flags": 0x8000}, Verdict.KEPT),
        ("flags", {"flags": 0x8001}, Verdict.VIOLATED),
        ("unicast_offer", {}, Verdict.KEPT),
        ("unicast_offer", {"flags": 0x8000}, Verdict.CANNOT_TELL),
    ],
)
def test_what_a_client_says_of_seconds_and_flags_is_judged(rule: str, header: dict[str, int], verdict: Verdict) -> None:
    told = iter(range(1, 1000)) if header.get("secs") is None else iter(range(1000, 1, -1))
    client = Client(NOTHING)
    take = client.take

    def other(frame: bytes) -> Iterator[bytes]:
        for each in take(frame):
            is_discover = each[36:38] == b"\0\x43" and b"\x35\1\1" in each
            yield said("discover", secs=next(told), flags=header.get("flags", 0)) if is_discover else each
            if is_discover:
                yield said("discover", secs=next(told), flags=header.get("flags", 0))

    client.line.guest = other
    assert tried(f"dhcp.{rule}", client.line).verdict is verdict
