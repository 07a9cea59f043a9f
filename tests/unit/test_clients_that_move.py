"""A client of DHCP on a stack that has one address at a time, or none: its moves are no death."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest
from test_leases_of_stacks import GUEST, OFFERED, renewing, said
from test_rules_of_stacks import NAMES
from test_trial import CROWD, Line, answering

from rawtap.examine import catalogue, health
from rawtap.examine.trial import Deaf, Examiner, Outcome, Verdict

HOME, NOWHERE = str(NAMES["guest"]), ""
SHORT = [rule.name for rule in catalogue.SUITES["dhcp"] if rule.name != "dhcp.decline" and not rule.long]


class Mover:
    """Its client has an address of its own at most until it gets another, or is refused one.

    What it does with a lease is `bound`'s to say: whom it asks, None where it begins anew. With `declines` it finds
    that others have what it is given.
    """

    def __init__(self, home: str = HOME, bound: Callable[[str], str | None] = str, *, declines: bool = False) -> None:
        self.home, self.bound, self.declines = home, bound, declines
        self.begin()

    def begin(self) -> None:
        """As it was found."""
        self.address, self.server, self.wanted = self.home, "", ""
        self.is_bound = self.has_spoken = False

    def take(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import ARP, BOOTP, DHCP, ICMP, IP, Ether

        packet = Ether(frame)
        if ICMP in packet and packet[IP].dst == self.address:
            yield from answering(frame)
        elif ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == self.address:
            asked = packet[ARP]
            reply = ARP(op=2, hwsrc=GUEST, psrc=self.address, hwdst=asked.hwsrc, pdst=asked.psrc)
            yield bytes(Ether(src=GUEST, dst=packet.src) / reply)
        elif DHCP in packet and packet[BOOTP].xid == 7:
            options = dict(each[:2] for each in packet[DHCP].options if isinstance(each, tuple))
            yield from self.hear(options, packet[IP].src, packet[BOOTP].yiaddr)

    def hear(self, options: dict[str, object], server: str, offered: str) -> Iterator[bytes]:
        kind = options.get("message-type")
        if kind == 2 and "server_id" in options and not self.wanted:
            self.server, self.wanted = server, offered
            yield from self.says()
        elif kind == 5 and self.wanted and offered != OFFERED and self.declines:
            self.address = self.wanted = NOWHERE
            yield said("decline", "255.255.255.255", ("server_id", server), ("requested_addr", offered))
        elif kind == 5 and self.wanted:
            self.address, self.is_bound = offered, True
        elif kind == 6 and self.wanted:
            self.address = self.wanted = NOWHERE
            yield from self.says()

    def says(self) -> Iterator[bytes]:
        """What its timers have it say next."""
        if self.is_bound and (to := self.bound(self.server)) is not None:
            yield renewing(to)
        elif self.wanted and not self.is_bound:
            yield said("request", "255.255.255.255", ("server_id", self.server), ("requested_addr", self.wanted))
        else:
            self.is_bound, self.wanted = False, ""
            self.address = self.address if self.address == self.home else NOWHERE
            yield said("discover")

    def waits(self) -> Iterator[bytes]:
        """Every second time that somebody waits for it, it says something."""
        self.has_spoken = not self.has_spoken
        if self.has_spoken:
            yield from self.says()


class Waiting(Line):
    """A wire on which time passes."""

    def __init__(self, guest: Mover) -> None:
        super().__init__(guest.take)
        self.mover = guest

    async def more(self, than: int, patience: float) -> bool:
        if patience > 0 and len(self.frames) <= than:
            self.frames += self.mover.waits()
        return await super().more(than, patience)


def tried(name: str, guest: Mover, kind: health.Kind = "echo") -> Outcome:
    (rule,) = catalogue.chosen(name)
    line = Waiting(guest)
    names = NAMES | {"guest": guest.home or "0.0.0.0"}  # noqa: S104 - no address

    async def afresh() -> None:
        guest.begin()
        line.frames.clear()

    async def nothing() -> None:
        return None

    async def judge() -> Outcome:
        return await Examiner(line, names, CROWD, kind, 0.1, nothing).judge(rule, afresh=afresh)

    return anyio.run(judge)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize(("home", "kind"), [(HOME, "echo"), (NOWHERE, "dhcp")], ids=["one address", "none"])
def test_what_a_client_does_right_is_kept_wherever_its_stack_is(name: str, home: str, kind: health.Kind) -> None:
    outcome = tried(name, Mover(home), kind)
    assert (outcome.verdict, outcome.reason) == (Verdict.KEPT, ""), outcome


@pytest.mark.parametrize(("home", "kind"), [(HOME, "echo"), (NOWHERE, "dhcp")], ids=["one address", "none"])
@pytest.mark.parametrize(
    ("rule", "bound", "verdict"),
    [
        ("renew", str, Verdict.KEPT),
        ("renew", lambda _: "255.255.255.255", Verdict.VIOLATED),
        ("renew", lambda _: None, Verdict.SILENT),
        ("rebind", lambda _: "255.255.255.255", Verdict.KEPT),
        ("expired", lambda _: None, Verdict.KEPT),
        ("expired", str, Verdict.SILENT),
    ],
)
def test_its_lease_is_judged_at_the_address_that_it_took(
    rule: str, bound: Callable[[str], str | None], verdict: Verdict, home: str, kind: health.Kind
) -> None:
    outcome = tried(f"dhcp.{rule}", Mover(home, bound), kind)
    assert outcome.verdict is verdict, outcome


@pytest.mark.parametrize(("source", "verdict"), [(HOME, Verdict.KEPT), ("0.0.0.0", Verdict.VIOLATED)])  # noqa: S104
def test_a_lease_may_be_renewed_from_another_address_of_the_guests(source: str, verdict: Verdict) -> None:
    """As ISC's client does, whose kernel chooses the address."""
    from scapy.all import IP, UDP, Ether

    class Chooses(Mover):
        def says(self) -> Iterator[bytes]:
            for frame in super().says():
                packet = Ether(frame)
                if packet[IP].src == OFFERED:
                    packet[IP].src = source
                    del packet[IP].chksum, packet[UDP].chksum
                yield bytes(packet)

    assert tried("dhcp.renew", Chooses()).verdict is verdict


def test_a_client_that_takes_an_address_from_a_broken_offer_is_not_told_to_be_dead() -> None:
    """dhcpcd's takes it for an answer of BOOTP's, which knows no offers."""

    class Believes(Mover):
        def hear(self, options: dict[str, object], server: str, offered: str) -> Iterator[bytes]:
            if "server_id" in options:
                yield from super().hear(options, server, offered)
            else:
                self.address, self.is_bound = offered, True

        def says(self) -> Iterator[bytes]:
            return iter(()) if self.is_bound else super().says()

    outcome = tried("dhcp.offer_broken", Believes())
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "frames")
    assert f"ARP.psrc {OFFERED}" in outcome.reason


@pytest.mark.parametrize("rule", ["offer_broken", "acknowledgment_xid"])
def test_a_client_that_waits_for_a_minute_goes_on_to_ask(rule: str) -> None:
    """RFC 2131, 4.1: up to 64 seconds, and one more."""

    class Waits(Mover):
        waited = 60

        def waits(self) -> Iterator[bytes]:
            self.waited += 1  # each is a second, or less
            if self.waited > 60:
                self.waited = 0
                yield from self.says()

    assert tried(f"dhcp.{rule}", Waits()).verdict is Verdict.KEPT


@pytest.mark.parametrize(("declines", "verdict"), [(True, Verdict.KEPT), (False, Verdict.SILENT)])
def test_who_declines_an_address_and_has_none_then_is_alive(declines: bool, verdict: Verdict) -> None:
    assert tried("dhcp.decline", Mover(declines=declines)).verdict is verdict


def test_a_client_without_an_address_that_asks_for_nothing_is_not_judged() -> None:
    guest = Mover(NOWHERE)
    guest.waits = lambda: iter(())  # type: ignore[method-assign]
    with pytest.raises(Deaf) as caught:
        tried("dhcp.offer", guest, "dhcp")
    assert caught.value.sent is None


def test_a_stack_that_answers_nowhere_is_deaf_in_a_rule_of_dhcp_too() -> None:
    guest = Mover()
    heard = guest.hear

    def dies(options: dict[str, object], server: str, offered: str) -> Iterator[bytes]:
        yield from heard(options, server, offered)
        if guest.wanted:
            guest.waits = lambda: iter(())  # type: ignore[method-assign]
            guest.address = NOWHERE

    guest.hear = dies  # type: ignore[method-assign]
    with pytest.raises(Deaf) as caught:
        tried("dhcp.offer", guest)
    assert caught.value.sent is not None
