"""A guest's cable: pulled, plugged in, and made worse. Each call says the whole of it."""

from __future__ import annotations

from dataclasses import dataclass

from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.network.impair import Impairment


@dataclass(frozen=True)
class Cable:
    """How a guest's cable is: what was set, and the TAP's carrier and queue as the kernel showed them afterwards.

    On QEMU's own network there is no TAP, and the carrier is what QEMU gave its card.
    """

    guest: str
    tap: str | None
    up: bool
    carrier: bool
    queue: str | None
    impairment: Impairment


async def set_cable(lab: Lab, name: str, up: bool, impairment: Impairment, interface: str | None = None) -> Cable:
    """Plug a guest's cable in or pull it; impair it as said, and in no other way. `interface` is a card's name.

    If this fails, nothing has changed; but a QEMU that did not answer may still do it when it wakes up.

    Raises:
        RequestInvalid: The guest has no network.
        GuestExited: It has ended.
        GuestFailed: QEMU does not answer.
        ImpairmentUnavailable: This kernel has no such impairment, or the guest has no TAP.
    """
    cards = lab.guest(name).cards
    if not cards:
        raise RequestInvalid(f"the guest {name} has no network, so no cable", cure="Boot it with network=true")
    card = next((each for each in cards if interface in {None, each.name}), None)
    if card is None:
        there = ", ".join(each.name for each in cards)
        raise RequestInvalid(f"{interface} is no card of the guest {name}", cure=f"Its cards are {there}")
    plug = card.plug
    async with plug.lock:
        before = (plug.up, plug.impairment)
        found = await card.set_link(up=up, impairment=impairment)
        if before != (up, impairment):
            lab.chronicle.cable_set(name, up=up, impaired=impairment.words)
    return Cable(name, card.tap, up, found.carrier, found.queue, impairment)
