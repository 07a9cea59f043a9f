"""How a rule is tried: on a wire of the tests' own, with a guest behind it that does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from test_rules_of_stacks import NAMES

from rawtap.errors import NetworkFailed
from rawtap.examine import catalogue
from rawtap.examine.trial import Examiner, Outcome, Verdict
from rawtap.examine.values import Crowd

FRIENDS = tuple(f"10.0.2.{number}" for number in range(200, 216))
CROWD = Crowd(FRIENDS[::2], FRIENDS[1::2])

Guest = Callable[[bytes], Iterator[bytes]]


class Line:
    """A wire with a guest that answers at once, or not at all; see `rawtap.examine.trial.Wire`."""

    def __init__(self, guest: Guest) -> None:
        self.frames: list[bytes] = []
        self.guest = guest
        self.dropped = 0
        self.longest = 1514

    async def send(self, frame: bytes) -> None:
        if len(frame) > self.longest:
            raise NetworkFailed("tap0 did not take the frame", evidence="No buffer space available", cure="")
        self.frames += self.guest(frame)

    async def more(self, than: int, patience: float) -> bool:
        return patience > 0 and len(self.frames) > than

    def lost(self) -> int:
        return self.dropped


def answering(frame: bytes) -> Iterator[bytes]:
    """A guest that answers what asks it for an echo, whatever else is wrong with that."""
    from scapy.all import ICMP, IP, Ether, Raw

    packet = Ether(frame)
    if ICMP in packet and packet[ICMP].type == 8:
        asked = packet[ICMP]
        reply = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src)
        data = asked[Raw].load if Raw in asked else b""
        yield bytes(reply / ICMP(type=0, id=asked.id, seq=asked.seq) / Raw(data))


def strict(frame: bytes) -> Iterator[bytes]:
    """One that passes over what has a wrong checksum."""
    from scapy.all import ICMP, Ether

    if ICMP not in (packet := Ether(frame)) or packet[ICMP].chksum != 0x1234:
        yield from answering(frame)


def tried(name: str, line: Line, rest: Callable[[], None] = lambda: None) -> Outcome:
    (rule,) = catalogue.chosen(name)

    async def nothing() -> None:
        return None

    async def rested() -> None:
        rest()

    async def judge() -> Outcome:
        return await Examiner(line, dict(NAMES), CROWD, "echo", 0.1, rested).judge(rule, afresh=nothing)

    return anyio.run(judge)


def test_a_frame_that_was_lost_on_its_way_is_no_proof_of_silence() -> None:
    line = Line(strict)

    def loses(frame: bytes) -> Iterator[bytes]:
        passed = list(answering(frame))
        if b"\x12\x34" in frame[36:38]:  # the one with the wrong checksum
            line.dropped += 1
            return iter(())
        return iter(passed)

    assert tried("icmp.checksum", line).verdict is Verdict.KEPT
    line.guest = loses
    outcome = tried("icmp.checksum", line)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert outcome.reason == "frames were lost for want of room, ours or the guest's: 1"
    line.guest = answering
    assert tried("icmp.checksum", line).verdict is Verdict.VIOLATED


def test_a_frame_that_was_not_sent_is_no_proof_of_anything() -> None:
    line = Line(strict)
    line.longest = 1000
    outcome = tried("ipv4.full_size", line)
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert outcome.reason == "tap0 did not take the frame: No buffer space available"
    assert outcome.frames == ()  # nothing was sent


def test_what_came_only_at_the_second_try_is_told_as_such() -> None:
    asked: list[bytes] = []

    def slow(frame: bytes) -> Iterator[bytes]:
        if b"as it was sent" in frame:
            asked.append(frame)
            return answering(frame) if len(asked) > 1 else iter(())
        return answering(frame)

    outcome = tried("icmp.echo", Line(slow))
    assert outcome.verdict is Verdict.KEPT
    assert outcome.reason.startswith("at the second try; silent at the first: no frame with ICMP.id ")


@pytest.mark.parametrize("name", ["icmp.echo", "icmp.checksum"])
def test_a_guest_that_sends_without_end_is_alive_and_not_judged_by_what_it_did_not_send(name: str) -> None:
    def floods(frame: bytes) -> Iterator[bytes]:
        if b"as it was sent" in frame:
            yield from [bytes(60)] * 600
        yield from strict(frame)

    outcome = tried(name, Line(floods))
    assert outcome.verdict is Verdict.CANNOT_TELL
    assert "frames came meanwhile, too many to look at" in outcome.reason


def lax6(frame: bytes) -> Iterator[bytes]:
    """A guest of IPv6 that looks at nothing: it has every address, answers whatever asks, and tells all errors."""
    from scapy.all import (
        UDP,
        Ether,
        ICMPv6DestUnreach,
        ICMPv6EchoReply,
        ICMPv6EchoRequest,
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6NDOptDstLLAddr,
        IPv6,
    )

    packet = Ether(frame)
    if IPv6 not in packet:
        yield from answering(frame)
        return
    asked = packet[IPv6]
    to = "ff02::1" if asked.src == "::" else asked.src
    back = Ether(src=NAMES["guest_mac"], dst=packet.src) / IPv6(src=NAMES["guest6"], dst=to, hlim=255)
    if ICMPv6ND_NS in packet:
        said = ICMPv6ND_NA(tgt=packet[ICMPv6ND_NS].tgt, R=0, S=int(asked.src != "::"))
        yield bytes(back / said / ICMPv6NDOptDstLLAddr(lladdr=NAMES["guest_mac"]))
    elif ICMPv6EchoRequest in packet:
        echo = packet[ICMPv6EchoRequest]
        yield bytes(back / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data))
    elif UDP in packet:
        yield bytes(back / ICMPv6DestUnreach(code=4) / asked)


LAX6 = (
    "version",
    "length_beyond",
    "source_group",
    "hop_by_hop_place",
    "option_discard",
    "option_discard_group",
    "udp_no_checksum",
    "checksum",
    "error_for_group",
    "error_for_link_group",
    "error_for_nobody",
    "solicitation_other",
    "solicitation_hop_limit",
    "solicitation_checksum",
    "solicitation_code",
    "solicitation_option_empty",
    "solicitation_by_nobody_link",
    "solicitation_by_nobody_alone",
)
KEPT_BY_LAX6 = ("solicited", "advertised_link", "solicited_by_nobody", "echo", "echo_data", "port_unreachable")


@pytest.mark.parametrize("name", LAX6)
def test_a_stack_of_ipv6_that_looks_at_nothing_breaks_what_must_not_be_answered(name: str) -> None:
    outcome = tried(f"ipv6.{name}", Line(lax6))
    assert outcome.verdict is Verdict.VIOLATED, outcome
    assert outcome.field == "frames"
    assert any(each.from_guest for each in outcome.frames)


@pytest.mark.parametrize("name", KEPT_BY_LAX6)
def test_what_it_does_right_is_kept(name: str) -> None:
    outcome = tried(f"ipv6.{name}", Line(lax6))
    assert (outcome.verdict, outcome.reason) == (Verdict.KEPT, "")


def misquoting(frame: bytes) -> Iterator[bytes]:
    """A guest whose errors quote what is behind the IPv6 header alone, as lwIP's parameter problems do."""
    from scapy.all import UDP, Ether, ICMPv6DestUnreach, ICMPv6ParamProblem, IPv6, IPv6ExtHdrDestOpt, Raw

    packet = Ether(frame)
    if IPv6 not in packet or not (UDP in packet or IPv6ExtHdrDestOpt in packet):
        yield from lax6(frame)
        return
    asked = packet[IPv6]
    told = ICMPv6DestUnreach(code=4) if UDP in packet else ICMPv6ParamProblem(code=2, ptr=42)
    back = Ether(src=NAMES["guest_mac"], dst=packet.src) / IPv6(src=NAMES["guest6"], dst=asked.src, hlim=255)
    yield bytes(back / told / Raw(bytes(asked.payload)))


@pytest.mark.parametrize("name", ["port_unreachable", "error_unchanged", "option_problem"])
def test_an_error_that_quotes_something_else_is_wrong_and_no_silence(name: str) -> None:
    outcome = tried(f"ipv6.{name}", Line(misquoting))
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "IPerror6.src")


class Believer:
    """A guest that believes each advertisement, whether it was asked for or not, and asks for nobody."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6

        packet = Ether(frame)
        if ICMPv6ND_NA in packet:
            self.known[packet[ICMPv6ND_NA].tgt] = packet[ICMPv6NDOptDstLLAddr].lladdr
        elif ICMPv6EchoRequest in packet and packet[IPv6].src in self.known:
            (answer,) = map(Ether, lax6(frame))
            answer.dst = self.known[packet[IPv6].src]
            yield bytes(answer)
        else:
            yield from lax6(frame)


def test_a_stack_that_believes_what_it_did_not_ask_for_is_told_as_such() -> None:
    outcome = tried("ipv6.advertisement_unasked", Line(Believer()))
    assert (outcome.verdict, outcome.field) == (Verdict.VIOLATED, "Ether.dst")
    assert tried("ipv6.advertisement_unasked", Line(lax6)).verdict is Verdict.KEPT


def test_a_stack_of_ipv6_that_is_deaf_breaks_nothing() -> None:
    found = {rule.name: tried(rule.name, Line(answering)).verdict for rule in catalogue.SUITES["ipv6"]}
    assert set(found.values()) == {Verdict.SILENT, Verdict.CANNOT_TELL}


def test_what_may_take_seconds_is_asked_again_in_each_of_them() -> None:
    asked: list[bytes] = []

    def late(frame: bytes) -> Iterator[bytes]:
        from scapy.all import Ether, ICMPv6MLQuery2

        if ICMPv6MLQuery2 in Ether(frame):
            asked.append(frame)
        yield from lax6(frame)

    outcome = tried("ipv6.group_report", Line(late))
    assert outcome.verdict is Verdict.SILENT
    assert len(asked) == 2 * (1 + 3)  # two tries, of three seconds each


class Limited:
    """A guest that says so many things of a kind until it has rested: ARP replies, or that a port is closed.

    It is wrong in two ways: it answers ARP replies as well as requests, and tells everybody's errors.
    """

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def rest(self) -> None:
        self.left = self.most

    def __call__(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import ARP, ICMP, IP, UDP, Ether

        packet = Ether(frame)
        if ARP not in packet and UDP not in packet:
            yield from answering(frame)
        elif self.left:
            self.left -= 1
            head = Ether(src=NAMES["guest_mac"], dst=packet.src)
            if ARP in packet:
                asked = packet[ARP]
                addresses = {"hwsrc": NAMES["guest_mac"], "psrc": asked.pdst, "hwdst": asked.hwsrc, "pdst": asked.psrc}
                yield bytes(head / ARP(op=2, **addresses))
            else:
                yield bytes(head / IP(src=NAMES["guest"], dst=packet[IP].src) / ICMP(type=3, code=3) / packet[IP])


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("arp.reply_target", Verdict.KEPT),  # the greeting is a request as well
        ("arp.reply_not_answered", Verdict.VIOLATED),
        ("udp.odd", Verdict.KEPT),
        ("icmp.error_for_broadcast", Verdict.VIOLATED),
    ],
)
def test_a_guest_that_says_little_is_neither_blamed_nor_praised_for_that(name: str, verdict: Verdict) -> None:
    guest = Limited(1)
    assert tried(name, Line(guest), guest.rest).verdict is verdict


def test_what_was_seen_once_and_could_not_be_asked_again_is_told_as_such() -> None:
    outcome = tried("icmp.error_for_broadcast", Line(Limited(2)))  # it never rests
    assert outcome.verdict is Verdict.VIOLATED
    assert "none may come; cannot tell at the second try: it needs a frame " in outcome.reason


def test_what_a_guest_has_no_more_to_say_of_it_is_not_silent_about() -> None:
    deaf = Limited(0)
    assert tried("udp.odd", Line(deaf), deaf.rest).verdict is Verdict.CANNOT_TELL
    assert tried("icmp.error_for_broadcast", Line(deaf), deaf.rest).verdict is Verdict.CANNOT_TELL


def test_a_guest_that_answers_no_echo_twice_is_asked_each_once() -> None:
    asked: set[bytes] = set()

    def once(frame: bytes) -> Iterator[bytes]:
        numbers = frame[38:42]
        is_again = numbers in asked
        asked.add(numbers)
        return iter(()) if is_again else strict(frame)

    assert tried("icmp.checksum", Line(once)).verdict is Verdict.KEPT


def test_an_echo_of_what_was_cut_is_no_harm() -> None:
    from scapy.all import IP, Ether

    def echoes(frame: bytes) -> Iterator[bytes]:
        packet = Ether(frame)
        if IP not in packet or packet[IP].len != 24:
            return answering(frame)
        reply = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src, proto=1)
        return iter([bytes(reply / b"\0\0\xff\xff")])

    assert tried("icmp.cut", Line(echoes)).verdict is Verdict.KEPT


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ([("WScale", 0), ("MSS", 1460), ("SAckOK", b"")], Verdict.KEPT),
        ([], Verdict.CANNOT_TELL),  # perhaps it takes 536 bytes
        ([("MSS", 0)], Verdict.VIOLATED),
    ],
    ids=["among others", "none", "0"],
)
def test_a_syn_is_blamed_for_no_more_than_it_says(options: list[tuple[str, Any]], verdict: Verdict) -> None:
    from scapy.all import IP, TCP, Ether

    def listening(frame: bytes) -> Iterator[bytes]:
        packet = Ether(frame)
        if TCP not in packet:
            yield from answering(frame)
            return
        asked = packet[TCP]
        ports = {"sport": asked.dport, "dport": asked.sport}
        reply = Ether(src=packet.dst, dst=packet.src) / IP(src=packet[IP].dst, dst=packet[IP].src)
        yield bytes(reply / TCP(**ports, flags="SA", seq=1, ack=asked.seq + 1, options=options))

    assert tried("tcp.segment_size", Line(listening)).verdict is verdict


class Client:
    """A guest with a client of DHCP that asks whenever it gets a frame, and believes every server."""

    def __init__(self, *, looks_at_xid: bool = True, dies_of: bytes | None = None) -> None:
        self.looks_at_xid, self.dies_of = looks_at_xid, dies_of
        self.server = ""
        self.begin_anew()

    def begin_anew(self) -> None:
        self.offered = ""
        self.is_bound = self.is_dead = False

    def __call__(self, frame: bytes) -> Iterator[bytes]:
        from scapy.all import BOOTP, DHCP, Ether

        packet = Ether(frame)
        self.is_dead = self.is_dead or (self.dies_of is not None and self.dies_of in frame)
        if DHCP not in packet or self.is_dead:
            yield from answering(frame)
            if not self.is_bound and not self.is_dead:
                yield self.says(3, self.offered) if self.offered else self.says(1)
            return
        if self.looks_at_xid and packet[BOOTP].xid != 77:
            return
        kind = dict(each[:2] for each in packet[DHCP].options if isinstance(each, tuple)).get("message-type")
        if kind == 2 and any(each[0] == "server_id" for each in packet[DHCP].options):
            self.offered = packet[BOOTP].yiaddr
            yield self.says(3, self.offered)
        elif kind == 5:
            self.is_bound = True
        elif kind == 6:
            self.offered = ""
            yield self.says(1)

    def says(self, kind: int, wanted: str = "") -> bytes:
        from scapy.all import BOOTP, DHCP, IP, UDP, Ether

        options: list[Any] = [("message-type", kind)]
        options += [("requested_addr", wanted), ("server_id", self.server)] if wanted else []
        head = Ether(src=NAMES["guest_mac"], dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104
        return bytes(head / UDP(sport=68, dport=67) / BOOTP(xid=77) / DHCP(options=[*options, "end"]))


class ServedLine(Line):
    """A line whose guest learns who its server is."""

    async def send(self, frame: bytes) -> None:
        from scapy.all import DHCP, IP, Ether

        packet = Ether(frame)
        if DHCP in packet and isinstance(self.guest, Client):
            self.guest.server = packet[IP].src
        await super().send(frame)


@pytest.mark.parametrize(
    "name", [rule.name for rule in catalogue.SUITES["dhcp"] if rule.name != "dhcp.decline" and not rule.long]
)
def test_a_client_that_keeps_the_rules_of_dhcp_is_told_as_such(name: str) -> None:
    outcome = tried(name, ServedLine(Client()))
    assert outcome.verdict is Verdict.KEPT, outcome


@pytest.mark.parametrize(("name", "verdict"), [("offer_xid", Verdict.VIOLATED), ("acknowledgment_xid", Verdict.SILENT)])
def test_a_client_that_looks_at_no_number_is_told_as_such(name: str, verdict: Verdict) -> None:
    client = Client(looks_at_xid=False)
    assert tried(f"dhcp.{name}", ServedLine(client), client.begin_anew).verdict is verdict


def test_a_client_that_dies_of_broken_options_is_not_said_to_live_because_its_kernel_does() -> None:
    client = Client(dies_of=bytes.fromhex("3304000e"))
    assert tried("dhcp.offer_broken", ServedLine(client), client.begin_anew).verdict is Verdict.SILENT
