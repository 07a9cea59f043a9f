"""What the packets of a capture do not tell: how its guests are, what their cards count, what their network lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rawtap.lab.captures import Capture
from rawtap.lab.card import Card, Counters
from rawtap.lab.lab import Lab
from rawtap.packets.verdicts import Given


async def behind_the_wire(lab: Lab, capture: Capture | None, given: Given) -> tuple[str, ...]:
    """Which guests on a capture's interface are in trouble or take nothing at this moment, and why; and where all is
    well on the wire, what their cards count: a guest that reports a failure has it behind the wire. That is said of the
    whole only."""
    verdict = given.verdict
    is_whole = not (given.more or given.lacking) and (capture is None or _had_everything(capture))
    cards = lab.cards_on(capture.interface) if capture is not None else []
    counted = [(card.guest, await card.counters()) for card in cards]
    told = [*_troubles(lab, cards), *_lacks(cards, {each.what for each in verdict.findings})]
    told += [f"the guest {guest} has sent no frame since its boot" for guest, counters in counted if counters.sent == 0]
    told += [f"behind the wire of {guest}: {counters.trouble}" for guest, counters in counted if counters.trouble]
    requests = sum(each.requests for each in verdict.exchanges)
    if is_whole and requests and not verdict.findings and requests == sum(each.answered for each in verdict.exchanges):
        counts = [f"; {words}" for guest, counters in counted if (words := _counts(guest, counters))]
        told.append(
            f"All {requests} requests were answered on the wire{''.join(counts)}. "
            "Where a guest says otherwise, look behind the wire: at what its driver and its stack made of the answers"
        )
    return tuple(told)


def _had_everything(capture: Capture) -> bool:
    """Whether it is known that nothing was dropped; a counter that cannot be known is None."""
    snapshot = capture.session.snapshot()
    return (snapshot.dropped_kernel, snapshot.dropped_interface) == (0, 0)


def _troubles(lab: Lab, cards: Sequence[Card]) -> Iterator[str]:
    """How guests are that answer nobody: a wire with nothing wrong on it may be that of a dead one."""
    for name in dict.fromkeys(card.guest for card in cards):
        guest = lab.guests.get(name)
        if guest is None:  # it is being started
            continue
        if guest.machine.exit is not None:
            yield f"the guest {name} has ended: {guest.machine.exit.reason}"
        elif (trouble := guest.machine.trouble()) is not None:
            yield f"the guest {name}: {trouble}"


def _lacks(cards: Sequence[Card], found: set[str]) -> Iterator[str]:
    if "dhcp.no_offer" not in found:
        return
    for network, state in {card.network: card.state() for card in cards}.items():
        if state.services is None:
            yield f"rawtap serves no DHCP on {network}: qemu_boot(services=true) does"


def _counts(guest: str, counters: Counters) -> str:
    """What a guest's card has counted since its boot."""
    if counters.sent is None or counters.taken is None:
        return ""
    waiting = f", {counters.waiting} wait for it" if counters.waiting else ""
    dropped = f", {counters.dropped} were dropped on their way to it" if counters.dropped else ""
    return f"since its boot {guest} sent {counters.sent} frames and was given {counters.taken}{waiting}{dropped}"
