"""Where the guest is on its network, who its neighbour can be there, and by what it is seen that it lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import islice

from anyio import current_time, move_on_after, sleep
from anyio.lowlevel import checkpoint

from rawtap.ask.examine.neighbor import Neighbor
from rawtap.errors import GuestSilent, RequestInvalid
from rawtap.examine import health
from rawtap.examine.rules import Fields, Frame, Other
from rawtap.examine.suites import dns
from rawtap.examine.trial import Deaf, Examiner
from rawtap.examine.values import Crowd, Names, Seen, made, names6, stations6
from rawtap.lab.card import Card

_US_MAC, _OTHER_MAC = "02:72:61:77:74:01", "02:72:61:77:74:02"  # locally administered, IEEE 802, 8.4
_ROLES = ("pulse", "second_pulse", "mover", "nobody", "server", "host")
_STRANGERS = 2  # and as many friends: it takes these
_CROWD = 32  # and makes use of these
_SWEPT = 1024  # addresses; in a larger network the guest's has to be given
_ANSWERS_WITHIN = 2.0  # seconds without any frame of the guest's
_LEAST_PATIENCE, _MOST_PATIENCE, _TIMES = 0.5, 5.0, 20
_KINDS: tuple[health.Kind, ...] = ("echo", "arp")
_AT_ONCE, _MOMENT = 16, 0.02  # so many addresses are asked for at once: few drivers have room for many frames
_CHECKS = 4
_LOOKS = 5
_SHUT = 47  # a port that hardly anybody listens on: NI FTP
_PORTS = (7, 22, 23, 25, 53, 80, 443, 5000, 7777, 8000, 8080)
_TARGET = slice(38, 42)  # of an ARP request
_CLIENT_SECONDS = 8.0
_PATIENT_SECONDS = 16.0  # where all rules are about a client of DHCP: it may wait 10 s, as smoltcp'"'"'s does
NOWHERE = "0.0.0.0"  # noqa: S104 - no address
_CLIENT_PATIENCE = (
    1.0  # seconds, of a guest without an address: its client answers at once, as an emulated machine does
)
_LINK_LOCAL = 0xFE80 >> 6  # RFC 4291, 2.5.6
_MOST_SECONDS = 10.0  # for a guest that never stops to send other things


@dataclass(frozen=True)
class Place:
    """What the caller knows of the guest: its IPv4 address, and a TCP port that it listens on."""

    address: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class Found:
    """What names in rules stand for, and the addresses that tries come from."""

    names: Names
    crowd: Crowd


async def met(
    wire: Neighbor, card: Card, place: Place, wanted: set[str], trouble: Callable[[], str | None]
) -> tuple[Found, health.Kind, float, float]:
    """What `found` and `health_of` find.

    Raises:
        RequestInvalid: As `found`.
        GuestSilent: It does not answer; first of all for what is wrong with it, where `trouble` knows.
    """
    try:
        seen = await found(wire, card, place, wanted)
        return seen, *await health_of(wire, seen)
    except GuestSilent as error:
        if words := trouble():
            raise GuestSilent(error.problem, evidence=f"{words}; {error.evidence}", cure=error.cure) from error
        raise


async def found(wire: Neighbor, card: Card, place: Place, wanted: set[str]) -> Found:
    """Find the guest by ARP where its address is not given, and give its neighbour addresses that nobody has.

    `wanted` are names that rules use; "port", an open TCP port, "guest6" and clients are looked for only where they
    are there.

    Raises:
        RequestInvalid: The network has no room for both, or is too large to be asked through.
        GuestSilent: It does not answer.
    """
    network = card.address.network
    taken = card.taken() | ({IPv4Address(place.address)} if place.address else set())
    free = (each for each in _from_the_end(network) if each not in taken)
    ours = dict(zip(_ROLES, map(str, islice(free, len(_ROLES))), strict=False))
    more = tuple(map(str, islice(free, _CROWD)))
    crowd = Crowd(more[::2], more[1::2])
    if len(crowd.strangers) < _STRANGERS:
        raise RequestInvalid(
            f"{network} has no room for a neighbour of the guest's",
            evidence=f"it takes {len(_ROLES) + 2 * _STRANGERS} addresses that nobody has",
            cure="Give it a larger network: address in rawtap.toml",
        )
    names: Names = {
        **ours,
        "us": crowd.friends[0],
        "us_mac": _US_MAC,
        "other_mac": _OTHER_MAC,
        "guest_mac": card.mac.lower(),
        "guest_hex": card.mac.lower().replace(":", ""),
        "guest": place.address or "",
        "broadcast": str(network.broadcast_address),
        "shut": _SHUT,
    }
    for station in (*(ours[role] for role in _ROLES if role != "nobody"), *more):
        wire.lives_at(station, _US_MAC)
    if not place.address:
        names |= await _whereabouts(wire, card, names, wanted, {*ours.values(), *more})
    if "port" in wanted and (port := place.port or await _open_port(wire, names)):
        names["port"] = port
    if "dhcp_client" in wanted - names.keys() and await _discovers(wire, wanted):
        names["dhcp_client"] = 1
    if dns.RESOLVER in wanted:
        names |= await _resolver(wire, names)
    if "guest6" in wanted:
        for station in stations6():
            wire.lives_at(station, _US_MAC)
        if guest6 := await _link_local(wire, names | crowd.of(0)):
            names |= names6(guest6)
    return Found(names, crowd)


def _from_the_end(network: IPv4Network) -> list[IPv4Address]:
    last = int(network.broadcast_address)
    least = max(int(network.network_address) + 1, last - 64)
    return [IPv4Address(each) for each in range(last - 1, least - 1, -1)]


async def _whereabouts(wire: Neighbor, card: Card, names: Names, wanted: set[str], ours: set[str]) -> Names:
    """The guest's address; `NOWHERE` where only rules of DHCP are asked for, and its client asks."""
    try:
        return {"guest": await _address(wire, card, names, card.address.network, ours)}
    except GuestSilent:
        if "dhcp_client" not in wanted or "guest" in wanted or not await _discovers(wire, wanted):
            raise
    return {"guest": NOWHERE, "dhcp_client": 1}


async def _address(wire: Neighbor, card: Card, names: Names, network: IPv4Network, ours: set[str]) -> str:
    """Whoever answers for its address is the guest: nobody else hears what is sent on its wire."""
    if network.num_addresses > _SWEPT:
        raise RequestInvalid(
            f"{network} is too large to look for the guest", cure="Give address=, the guest's IPv4 address"
        )
    asks = Frame(({"layer": "Ether", "dst": "ff:ff:ff:ff:ff:ff"}, {"layer": "ARP", "op": 1, "pdst": "$nobody"}))
    question = made(asks, names)
    others = [each for each in network.hosts() if str(each) not in ours and each != card.address.ip]
    at = 0
    for begin in range(0, len(others), _AT_ONCE):
        if trouble := await _lasting_trouble(card):
            raise _takes_nothing(card, f"{trouble}; {begin} of {len(others)} addresses had been asked for by ARP")
        for address in others[begin : begin + _AT_ONCE]:
            await wire.send(question[: _TARGET.start] + address.packed + question[_TARGET.stop :])
        is_last = begin + _AT_ONCE >= len(others)
        while await wire.more(at, _ANSWERS_WITHIN if is_last else _MOMENT):
            frame = wire.frames[at]
            at += 1
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                return str(IPv4Address(frame[28:32]))
    raise _silent(card, network, f"all {len(others)} were asked for on {card.name}; {at} frames came from the guest")


async def _lasting_trouble(card: Card) -> str | None:
    """Why nothing gets to the guest, if it stays so for a while: a full card may be read, of which no event tells."""
    trouble = None
    for _ in range(_LOOKS):
        if (trouble := (await card.counters()).trouble) is None:
            return None
        await sleep(_ANSWERS_WITHIN / _LOOKS)
    return trouble


def _takes_nothing(card: Card, evidence: str) -> GuestSilent:
    return GuestSilent(
        f"the guest {card.guest} takes no frames from its card",
        evidence=evidence,
        cure="Have it read its card meanwhile. A guest that does so only while a command runs needs one that runs: "
        "U-Boot takes frames again when a ping begins, of an address that nobody has",
    )


def _silent(card: Card, network: IPv4Network, evidence: str) -> GuestSilent:
    return GuestSilent(
        f"the guest {card.guest} answers ARP for no address of {network}",
        evidence=evidence,
        cure="Give its card an address there (qemu_send), or give address=. A guest that reads its card only while a "
        "command runs needs one that runs, like U-Boot's ping of an address that nobody has. "
        'A client of DHCP that asks by itself needs no address for what="dhcp"',
    )


async def _open_port(wire: Neighbor, names: Names) -> int | None:
    """The first of some usual ports that a SYN is answered at by SYN and ACK."""
    begin = len(wire.frames)
    for port in _PORTS:
        syn = {"layer": "TCP", "sport": 19999, "dport": port, "flags": "S", "seq": 1}
        await wire.send(made(Frame(({"layer": "IP", "dst": "$guest"}, syn)), names))
    opened = set()
    at = begin
    answered = 0
    while answered < len(_PORTS) and await wire.more(at, _LEAST_PATIENCE):
        frame = wire.frames[at]
        at += 1
        if frame[12:14] == b"\x08\0" and frame[23:24] == b"\x06" and len(frame) >= 54:  # noqa: PLR2004
            answered += 1
            if frame[47] & 0x3F == 0x12:  # noqa: PLR2004 - SYN and ACK
                port = int.from_bytes(frame[34:36], "big")
                opened.add(port)
                reset = {"layer": "TCP", "sport": 19999, "dport": port, "flags": "R", "seq": 2}
                await wire.send(made(Frame(({"layer": "IP", "dst": "$guest"}, reset)), names))
    return min(opened, default=None)


async def _link_local(wire: Neighbor, names: Names) -> str | None:
    """The guest's link-local address of IPv6, from what it sends when all nodes are asked; None if that is nothing.

    It is asked for an echo, for its groups (RFC 9777), and for the address that its MAC makes (RFC 4291, Appendix A).
    """
    mac = bytes.fromhex(str(names["guest_mac"]).replace(":", ""))
    identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    usual = names | names6(str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier)))
    link, header = {"layer": "Ether", "dst": "33:33:00:00:00:01"}, {"layer": "IPv6", "src": "$us6", "dst": "ff02::1"}
    alert = {"layer": "IPv6ExtHdrHopByHop", "options": [{"layer": "RouterAlert", "value": 0}]}
    query = {"layer": "ICMPv6MLQuery2", "mrd": 100, "QRV": 2, "QQIC": 125}
    echo = {"layer": "ICMPv6EchoRequest", "id": 1, "seq": 1}
    at = len(wire.frames)
    await wire.send(health.greeting6(usual))
    for layers in ((link, header, echo), (link, {**header, "hlim": 1}, alert, query)):
        await wire.send(made(Frame(layers), usual))
    with move_on_after(_MOST_SECONDS):
        while await wire.more(at, _ANSWERS_WITHIN):
            frame = wire.frames[at]
            at += 1
            if frame[6:14] == mac + b"\x86\xdd" and int.from_bytes(frame[22:24], "big") >> 6 == _LINK_LOCAL:
                return str(IPv6Address(frame[22:38]))
    return None


async def _discovers(wire: Neighbor, wanted: set[str]) -> bool:
    """Whether a client of DHCP asks by itself, within some seconds."""
    seconds = _CLIENT_SECONDS if "guest" in wanted else _PATIENT_SECONDS
    at = 0
    with move_on_after(seconds):
        while await wire.more(at, seconds):
            frame = wire.frames[at]
            at += 1
            if health.asks_server(frame) and Seen(frame).has({"DHCP.option.message-type": 1}, {}):
                return True
    return False


async def _resolver(wire: Neighbor, names: Names) -> Names:
    """Whether a resolver asks the server by itself; whether its program sends something to the address that it is told,
    which is "told" then, and whether it asks for another name after that. Each may take some seconds.
    """
    first, at = await _next(wire, names, len(wire.frames), {"Query.server": "$server", "Query.by": "UDP"})
    if first is None:
        return {}
    found: Names = {dns.RESOLVER: 1, "told_hex": IPv4Address(str(names["host"])).packed.hex()}
    if not first.has(dns.QUERY, names):
        return found
    for answer in (dns.TRUTH, dns.IN_FULL):
        await wire.send(made(answer, {**names, **found, **_repeated(first), "id": 1}))
    used, at = await _next(wire, names, at, {"IP.dst": "$host"})
    if used is not None:
        found["told"] = names["host"]
    other, _ = await _next(wire, names, at, {**dns.QUERY, "Query.name": Other((first.fields["Query.name"],))})
    if other is not None:
        found[dns.OTHER_NAMES] = 1
        # It is kept in a snapshot now, and each rule would begin with waiting until it asks again.
        await wire.send(made(dns.TRUTH, {**names, **found, **_repeated(other), "id": 1}))
    return found


def _repeated(query: Seen) -> Names:
    """What answers repeat of it."""
    return {name: query.fields[field] for name, field in dns.KEPT.items()}


async def _next(wire: Neighbor, names: Names, at: int, wanted: Fields) -> tuple[Seen | None, int]:
    """The first such frame from that one on, and which one is behind it; None if none comes within some seconds."""
    with move_on_after(_CLIENT_SECONDS):
        while await wire.more(at, _CLIENT_SECONDS):
            seen = Seen(wire.frames[at])
            at += 1
            if seen.has(wanted, names):
                return seen, at
    return None, at


async def health_of(wire: Neighbor, found: Found) -> tuple[health.Kind, float, float]:
    """Which health check the guest answers each time, how long that took at most, and what patience that makes.

    Raises:
        GuestSilent: None.
    """
    if found.names["guest"] == NOWHERE:
        return "dhcp", 0.0, _CLIENT_PATIENCE
    guest, each = found.names["guest"], f"with {_ANSWERS_WITHIN / 2:g} s without any frame for each"
    before = await _slowest(wire, found, "arp", 1)
    for kind in _KINDS:
        if (slowest := await _slowest(wire, found, kind, _CHECKS)) is not None:
            return kind, slowest, min(_MOST_PATIENCE, max(_LEAST_PATIENCE, _TIMES * slowest))
        # One that answers ARP now and then does so here, after a second of silence.
        if kind == "echo" and before is not None and await _slowest(wire, found, "arp", 1) is None:
            raise GuestSilent(
                f"{guest} answered ARP until an echo request came, and has answered nothing since",
                evidence=f"asked by both, {each}",
                cure="This call's capture has that request, of which it may have died, if it answers more than once in "
                'its life: qemu_read shows its console, and qemu_debug(action="attach"), then "interrupt" where it is',
            )
    raise GuestSilent(
        f"{guest} answers neither echo requests nor ARP each time",
        evidence=f"asked {_CHECKS} times, {each}",
        cure="The capture of this call shows what was asked and what came; a guest that reads its card only while a "
        "command runs needs one that runs",
    )


async def _slowest(wire: Neighbor, found: Found, kind: health.Kind, checks: int) -> float | None:
    """Seconds that the slowest answer to so many health checks took; None where one was not answered."""
    slowest = 0.0
    examiner = Examiner(wire, found.names, found.crowd, kind, _ANSWERS_WITHIN / 2, checkpoint)
    try:
        for _ in range(checks):
            began = current_time()
            await examiner.alive(1, tries=1)
            slowest = max(slowest, current_time() - began)
    except Deaf:
        return None
    return slowest
